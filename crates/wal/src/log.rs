//! The queue without its threads: segments, what is durable in them, what is settled.
//!
//! # Life of a record
//!
//! ```text
//! append ─► group ─► written and synced ─► read ─► settled ─► checkpoint ─► its segment is done
//!                     │ "durable" is told           (acknowledged)
//!                     └─ fails: "outcome unknown", the segment is written no more
//! ```
//!
//! # Invariants
//!
//! - A record is told to be durable only after a sync of its segment answered "done", and after the
//!   name of the segment was made durable.
//! - After a write or a sync has failed, its file is never written again: the system may have
//!   forgotten what it could not write, and would call the next sync a success. What was synced
//!   before stays readable: no block that was synced is written a second time, so a failed write
//!   cannot have hit it.
//! - Numbers of a segment rise without gaps. After a gap (numbers given to records that failed)
//!   comes a new segment, whose head says where the one before has ended.
//! - A segment is done when all its records are settled, and both checkpoints say so durably. Then its
//!   file waits to become a segment again, or is removed (see [`crate::retire`]).
//! - Whatever opening finds, it opens: what is damaged is set aside, told, and settled as damaged.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::SeqNo;
use crate::acks::Settled;
use crate::checkpoint::Checkpoints;
use crate::damage::Damage;
use crate::error::{CommitError, StorageError};
use crate::keeper::Bell;
use crate::record::Group;
use crate::segment::{self, DATA, SegmentHead};
use crate::spares::Spares;
pub(crate) use crate::state::{Segment, State, WhenDone};
use crate::storage::{Storage, StorageFile};

/// What a log is told once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// Bytes of a segment, head included.
    pub(crate) segment_bytes: u64,
    /// Bytes of the largest record.
    pub(crate) max_record: usize,
    /// Files of segments that may wait to become one again.
    pub(crate) spares: usize,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    number: u64,
    file: Arc<dyn StorageFile>,
    offset: u64,
    len: u64,
    is_reused: bool,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) sync_nanos: AtomicU64,
    pub(crate) failures: AtomicU64,
}

/// Called with the time that each sync of a group took.
pub type OnSync = dyn Fn(Duration) + Send + Sync;

pub(crate) struct Log {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: LogOptions,
    pub(crate) salt: u64,
    /// The checksum of what the queue is for.
    identity: u32,
    state: Mutex<State>,
    active: Mutex<Option<Active>>,
    pub(crate) spares: Mutex<Spares>,
    /// Whether a file is ready: nobody has to wait for the one that is being made to know that.
    pub(crate) has_spare: AtomicBool,
    /// Wakes the thread that keeps what is settled.
    pub(crate) bell: Bell,
    /// Records were refused for want of room.
    wants_room: AtomicBool,
    pub(crate) checkpoints: Mutex<Checkpoints>,
    pub(crate) counters: Counters,
    pub(crate) on_sync: Option<Arc<OnSync>>,
    /// Keeps other processes out, until it is closed.
    pub(crate) lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

/// What opening has made of a folder.
pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) salt: u64,
    pub(crate) identity: u32,
    pub(crate) next_number: u64,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) lock: Box<dyn Send + Sync>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is numbers, each of them right by itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        options: LogOptions,
        opened: Opened,
        on_sync: Option<Arc<OnSync>>,
    ) -> Self {
        Self {
            storage,
            options,
            salt: opened.salt,
            identity: opened.identity,
            state: Mutex::new(opened.state),
            active: Mutex::new(None),
            spares: Mutex::new(Spares::new(opened.next_number)),
            has_spare: AtomicBool::new(false),
            bell: Bell::default(),
            wants_room: AtomicBool::new(false),
            checkpoints: Mutex::new(opened.checkpoints),
            counters: Counters::default(),
            on_sync,
            lock: Mutex::new(Some(opened.lock)),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets others open the folder: nothing is written any more.
    pub(crate) fn release(&self) {
        // Not while a checkpoint is written: it would be over what the next one writes.
        let checkpoints = lock(&self.checkpoints);
        lock(&self.lock).take();
        drop(checkpoints);
    }

    /// Writes and syncs a group. Its numbers are those after the last group's, whatever became of
    /// that one.
    pub(crate) fn commit(&self, group: &mut Group) -> Result<(), CommitError> {
        let mut active = lock(&self.active);
        let result = self.write(&mut active, group);
        if result.is_err() {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            let mut state = self.state();
            state.acks.settle(group.first()..group.end(), Settled::Void);
            state.is_dirty = true;
        }
        result
    }

    fn write(&self, active: &mut Option<Active>, group: &mut Group) -> Result<(), CommitError> {
        let size = group.len_on_disk();
        let previous_end = self.state().durable;
        let follows = previous_end == group.first();
        if active
            .as_ref()
            .is_some_and(|a| !follows || a.offset + size > a.len)
            && let Some(full) = active.take()
        {
            self.seal(&full);
        }
        let is_new = active.is_none();
        if is_new {
            *active = Some(self.begin(group, previous_end, size)?);
        }
        let Some(segment) = active.as_mut() else {
            return Ok(());
        };
        let head = is_new.then(|| self.head(segment, group, previous_end));
        let written = write_into(segment, group, head);
        let synced = written.and_then(|()| self.sync(segment));
        if let Err(error) = synced {
            if let Some(failed) = active.take() {
                if let Some(last) = self.state().segments.back_mut() {
                    last.when_done = WhenDone::Remove;
                }
                self.seal(&failed);
            }
            return Err(CommitError::OutcomeUnknown {
                first: group.first(),
                last: group.end() - 1,
                reason: error.to_string(),
            });
        }
        segment.offset += if is_new { DATA + size } else { size };
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(size, Ordering::Relaxed);
        self.note_durable(segment, group);
        Ok(())
    }

    fn note_durable(&self, segment: &Active, group: &Group) {
        let mut state = self.state();
        state.durable = group.end();
        state.is_dirty = true;
        if let Some(last) = state.segments.back_mut() {
            last.end = group.end();
            last.data_end = segment.offset;
        }
    }

    /// A new segment for a group; it becomes durable with the group.
    fn begin(&self, group: &Group, previous_end: SeqNo, size: u64) -> Result<Active, CommitError> {
        let spare = self
            .take_spare(DATA + size)
            .map_err(|error| CommitError::Refused {
                reason: error.to_string(),
                is_full: error.is_full(),
            })?;
        let mut state = self.state();
        if previous_end < group.first() {
            state
                .acks
                .settle(previous_end..group.first(), Settled::Void);
        }
        state.segments.push_back(Segment {
            number: spare.number,
            first: group.first(),
            previous_end,
            end: group.first(),
            data_end: DATA,
            len: spare.len,
            is_sealed: false,
            is_reused: spare.is_reused,
            when_done: WhenDone::Reuse,
        });
        Ok(Active {
            number: spare.number,
            file: spare.file,
            offset: 0,
            len: spare.len,
            is_reused: spare.is_reused,
        })
    }

    fn head(&self, segment: &Active, group: &Group, previous_end: SeqNo) -> SegmentHead {
        SegmentHead {
            number: segment.number,
            first: group.first(),
            previous_end,
            salt: self.salt,
            is_reused: segment.is_reused,
            identity: Some(self.identity),
        }
    }

    fn sync(&self, segment: &Active) -> Result<(), StorageError> {
        let begun = Instant::now();
        let name = segment::name(segment.number);
        let synced = segment.file.sync();
        let took = begun.elapsed();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counters.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        if let Some(on_sync) = &self.on_sync {
            on_sync(took);
        }
        synced.map_err(|source| StorageError::new("sync", &name, source))
    }

    /// Ends a segment where its durable bytes end.
    fn seal(&self, segment: &Active) {
        let mut state = self.state();
        let sealed = state.segments.back_mut().map(|last| {
            last.is_sealed = true;
            // What is left at the end of a full segment is less than a group. Cutting it off would
            // cost the one that waits for the next segment, and the file could not be used again.
            let is_worth_it = (last.len - last.data_end) * 4 > last.len;
            is_worth_it.then(|| {
                last.len = last.data_end;
                last.data_end
            })
        });
        drop(state);
        // Where the room cannot be given back it is only kept for longer.
        if let Some(Some(end)) = sealed {
            drop(segment.file.truncate(end));
        }
    }

    /// Settles records; those that are settled already, or not durable, are passed over. Answers how
    /// many were not, and whether they are the first since the last checkpoint.
    pub(crate) fn ack(&self, range: Range<SeqNo>, class: u8) -> (u64, bool) {
        let mut state = self.state();
        let range = range.start..range.end.min(state.durable);
        let settled = state.acks.settle(range, Settled::Class(class));
        let is_first = settled > 0 && !state.is_dirty;
        state.is_dirty |= settled > 0;
        (settled, is_first)
    }

    /// Whether a segment could be removed after a checkpoint.
    pub(crate) fn has_done_segments(&self) -> bool {
        self.state().has_done_segments()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.state().is_dirty
    }

    /// Whether there is nothing to keep, and no segment to put away.
    pub(crate) fn is_kept(&self) -> bool {
        let state = self.state();
        let wants_room = self.wants_room.load(Ordering::Relaxed);
        let is_done = state.is_dirty || state.has_done_segments();
        !(is_done || wants_room && state.is_last_settled())
    }

    /// Records were refused for want of room: a segment that is not full goes as well, once all of it
    /// is settled.
    pub(crate) fn want_room(&self) {
        self.wants_room.store(true, Ordering::Relaxed);
        self.bell.ring(false);
    }

    /// Ends the segment that is written if all of it is settled and its room is wanted.
    pub(crate) fn make_room(&self) {
        if !self.wants_room.load(Ordering::Relaxed) {
            return;
        }
        let mut active = lock(&self.active);
        if self.state().is_last_settled()
            && let Some(segment) = active.take()
        {
            self.seal(&segment);
            self.wants_room.store(false, Ordering::Relaxed);
        }
    }

    /// Bytes of the disk that segments take: those that are written by now, and the whole of those
    /// that are full.
    pub(crate) fn used_bytes(&self) -> u64 {
        let state = self.state();
        let of = |segment: &Segment| {
            if segment.is_sealed {
                segment.len
            } else {
                segment.data_end
            }
        };
        state.segments.iter().map(of).sum()
    }

    /// Sets damaged bytes aside, and settles the records that were in them.
    pub(crate) fn note_damage(&self, damage: Damage, lost: Range<SeqNo>) -> u64 {
        let copy = damage.set_aside(self.storage.as_ref());
        let mut state = self.state();
        let records = state.acks.settle(lost.clone(), Settled::Damaged);
        state.is_dirty |= records > 0;
        state.damages.add(Damage {
            copy,
            records,
            first: lost.start,
            ..damage
        });
        drop(state);
        self.bell.ring(false);
        records
    }
}

fn write_into(
    segment: &Active,
    group: &mut Group,
    head: Option<SegmentHead>,
) -> Result<(), StorageError> {
    let written = match head {
        Some(head) => {
            let bytes = group.on_disk_behind(&head.encode());
            segment.file.write_all_at(bytes, 0)
        }
        None => segment.file.write_all_at(group.on_disk(), segment.offset),
    };
    let name = || segment::name(segment.number);
    written.map_err(|source| StorageError::new("write", &name(), source))
}
