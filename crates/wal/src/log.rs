//! The queue without its threads: segments, what is durable in them, what is settled.
//!
//! # Life of a record
//!
//! ```text
//! append ─► group ─► written and synced ─► read ─► settled ─► checkpoint ─► its segment is removed
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
//! - A segment is removed when all its records are settled, and a checkpoint that says so is durable.
//! - Whatever opening finds, it opens: what is damaged is set aside, told, and settled as damaged.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::SeqNo;
use crate::acks::{Acks, Settled};
use crate::checkpoint::Checkpoints;
use crate::damage::{Damage, DamageKind, Damages};
use crate::error::{CommitError, StorageError};
use crate::reader::Record;
use crate::record::Group;
use crate::segment::{self, DATA, SegmentHead};
use crate::storage::{Storage, StorageFile};

/// What a log is told once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// Bytes of a segment, head included.
    pub(crate) segment_bytes: u64,
    /// Bytes of the largest record.
    pub(crate) max_record: usize,
}

/// A segment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) first: SeqNo,
    /// The number after the last record that was durable when it was begun: those from there to its
    /// first were given to writes that failed.
    pub(crate) previous_end: SeqNo,
    /// The number after its last durable record.
    pub(crate) end: SeqNo,
    /// Where its durable bytes end.
    pub(crate) data_end: u64,
    /// Bytes that it takes.
    pub(crate) len: u64,
    /// Nothing is written into it any more.
    pub(crate) is_sealed: bool,
    /// Some of it cannot be read: it is set aside, and not removed.
    pub(crate) is_unreadable: bool,
}

/// What everybody looks at.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) acks: Acks,
    pub(crate) segments: VecDeque<Segment>,
    /// The number after the last durable record.
    pub(crate) durable: SeqNo,
    /// Something was settled since the last checkpoint.
    pub(crate) is_dirty: bool,
    pub(crate) damages: Damages,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    number: u64,
    file: Arc<dyn StorageFile>,
    offset: u64,
    len: u64,
}

/// A file that is ready to become a segment.
#[derive(Debug)]
struct Spare {
    number: u64,
    file: Arc<dyn StorageFile>,
    len: u64,
}

#[derive(Debug)]
struct Spares {
    next_number: u64,
    ready: Option<Spare>,
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
    state: Mutex<State>,
    active: Mutex<Option<Active>>,
    spares: Mutex<Spares>,
    checkpoints: Mutex<Checkpoints>,
    pub(crate) counters: Counters,
    pub(crate) on_sync: Option<Arc<OnSync>>,
    /// Keeps other processes out, until it is closed.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
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
    pub(crate) next_number: u64,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) lock: Box<dyn Send + Sync>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
            state: Mutex::new(opened.state),
            active: Mutex::new(None),
            spares: Mutex::new(Spares {
                next_number: opened.next_number,
                ready: None,
            }),
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
        let written = write_into(segment, group, is_new.then_some((previous_end, self.salt)));
        let synced = written.and_then(|()| self.sync(segment));
        if let Err(error) = synced {
            if let Some(failed) = active.take() {
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
            is_unreadable: false,
        });
        Ok(Active {
            number: spare.number,
            file: spare.file,
            offset: 0,
            len: spare.len,
        })
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
            // What is left at the end of a full segment is less than a group, and cutting it off
            // would cost the one that waits for the next segment more than it is worth.
            let is_worth_it = (last.len - last.data_end) * 8 > last.len;
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

    /// The file that is ready, or a new one where it is not there or too small.
    fn take_spare(&self, needed: u64) -> Result<Spare, StorageError> {
        let mut spares = lock(&self.spares);
        if let Some(ready) = spares.ready.take() {
            if ready.len >= needed {
                return Ok(ready);
            }
            // It has the lower number, so it cannot come after the one that is made now.
            drop(self.storage.remove(&segment::name(ready.number)));
        }
        self.make(&mut spares, needed)
    }

    fn make(&self, spares: &mut Spares, needed: u64) -> Result<Spare, StorageError> {
        let number = spares.next_number;
        let name = segment::name(number);
        let len = self.options.segment_bytes.max(needed);
        // The number is gone, whatever becomes of the file.
        spares.next_number += 1;
        let made = self.storage.create(&name, len);
        let file = made.map_err(|source| StorageError::new("make", &name, source))?;
        if let Err(source) = self.storage.sync_dir() {
            drop(file);
            drop(self.storage.remove(&name));
            return Err(StorageError::new("sync", "", source));
        }
        Ok(Spare { number, file, len })
    }

    /// Makes a file for the next segment, so that no group has to wait for it.
    pub(crate) fn prepare(&self) -> Result<(), StorageError> {
        let mut spares = lock(&self.spares);
        if spares.ready.is_none() {
            spares.ready = Some(self.make(&mut spares, 0)?);
        }
        Ok(())
    }

    /// Whether a file for the next segment is wanted by now, and not there.
    pub(crate) fn wants_spare(&self) -> bool {
        let state = self.state();
        let is_half = state
            .segments
            .back()
            .is_some_and(|last| !last.is_sealed && last.data_end > last.len / 2);
        drop(state);
        is_half && lock(&self.spares).ready.is_none()
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

    /// Keeps what is settled by now, durably, and removes the segments that nobody needs any more.
    /// Answers whether room was made.
    pub(crate) fn checkpoint(&self) -> Result<bool, StorageError> {
        let mut checkpoints = lock(&self.checkpoints);
        if lock(&self.lock).is_none() {
            let closed = io::Error::other("the durable queue is closed");
            return Err(StorageError::new("write", "a checkpoint", closed));
        }
        let mut state = self.state();
        let (acks, end) = (state.acks.clone(), state.durable);
        let done: Vec<Segment> = state.done_segments().collect();
        state.is_dirty = false;
        drop(state);
        // Segments go when both files say that they may: one of the two can be lost.
        let mut written = checkpoints.write(self.salt, end, acks.clone());
        if written.is_ok() && !done.is_empty() {
            written = checkpoints.write(self.salt, end, acks);
        }
        if let Err(error) = written {
            self.state().is_dirty = true;
            return Err(error);
        }
        let mut failed = None;
        let mut gone = Vec::new();
        for segment in done {
            match self.discard(&segment) {
                Ok(()) => gone.push(segment.number),
                Err(error) => failed = Some(error),
            }
        }
        self.state()
            .segments
            .retain(|segment| !gone.contains(&segment.number));
        if !gone.is_empty() {
            self.storage
                .sync_dir()
                .map_err(|source| StorageError::new("sync", "", source))?;
        }
        failed.map_or(Ok(!gone.is_empty()), Err)
    }

    fn discard(&self, segment: &Segment) -> Result<(), StorageError> {
        let name = segment::name(segment.number);
        if segment.is_unreadable {
            let aside = format!("{name}.damaged");
            let moved = self.storage.rename(&name, &aside);
            return moved.map_err(|source| StorageError::new("set aside", &name, source));
        }
        match self.storage.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::new("remove", &name, error))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of the disk that segments take: those that are written by now, and the whole of those
    /// that are full.
    pub(crate) fn used_bytes(&self) -> u64 {
        let state = self.state();
        let of = |segment: &Segment| segment.data_end;
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
        records
    }
}

impl Log {
    /// See [`crate::WriteAheadQueue::set_aside`].
    pub(crate) fn set_aside(&self, record: &Record) -> Result<(), StorageError> {
        let name = format!("record-{}{}", record.seq, crate::damage::ENDING);
        let failed = |operation| {
            let name = name.clone();
            move |source| StorageError::new(operation, &name, source)
        };
        let len = record.payload.len() as u64;
        match self.storage.create(&name, len) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make")(error)),
            Ok(file) => {
                file.write_all_at(&record.payload, 0)
                    .map_err(failed("write"))?;
                file.sync().map_err(failed("sync"))?;
            }
        }
        let mut state = self.state();
        let range = record.seq..record.seq + 1;
        let records = state.acks.settle(range, Settled::Damaged);
        state.is_dirty |= records > 0;
        let mut damage = Damage::new("a record", 0..len, DamageKind::Damaged);
        (damage.first, damage.records, damage.copy) = (record.seq, records, Some(name));
        state.damages.add(damage);
        Ok(())
    }
}

fn write_into(
    segment: &Active,
    group: &mut Group,
    head: Option<(SeqNo, u64)>,
) -> Result<(), StorageError> {
    let name = segment::name(segment.number);
    let first = group.first();
    let written = match head {
        Some((previous_end, salt)) => {
            let head = SegmentHead {
                number: segment.number,
                first,
                previous_end,
                salt,
            };
            let bytes = group.on_disk_behind(&head.encode());
            segment.file.write_all_at(bytes, 0)
        }
        None => segment.file.write_all_at(group.on_disk(), segment.offset),
    };
    written.map_err(|source| StorageError::new("write", &name, source))
}

impl State {
    fn done_segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let is_done =
            |segment: &&Segment| segment.is_sealed && self.acks.covers(segment.first..segment.end);
        self.segments.iter().filter(is_done).copied()
    }

    pub(crate) fn has_done_segments(&self) -> bool {
        self.done_segments().next().is_some()
    }

    /// Records that are durable and not settled.
    pub(crate) fn backlog(&self) -> u64 {
        self.acks.open_in(0..self.durable)
    }
}
