//! Opening a folder: what is there, what of it is whole, and from where to go on.
//!
//! - A segment that was there before is never written again: the first group goes into a new one. So
//!   what an unfinished write has left behind cannot be mixed up with what comes.
//! - Of all segments but the last only the first block is read; their records are checked when they
//!   are delivered. The last one is walked through to its end.
//! - Content is never a reason to fail. Only what a person has to decide is: another version, a
//!   folder that belongs to something else, another process, a storage that does not answer.

use std::collections::VecDeque;
use std::ops::Range;

use crate::SeqNo;
use crate::acks::{Acks, Settled};
use crate::checkpoint::{self, Checkpoint, Checkpoints};
use crate::damage::{Damage, DamageKind, Damages};
use crate::error::{OpenError, StorageError};
use crate::identity::{self, Identity};
use crate::log::{LogOptions, Opened, Segment, State};
use crate::pair::{self, Found};
use crate::record::Expect;
use crate::scan::{Item, Scanner};
use crate::segment::{self, DATA, SegmentHead, VERSION};
use crate::storage::{Storage, read_full};

/// Tries to read a block before it is taken for unreadable.
const TRIES: u32 = 3;

/// What opening has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Records of before that wait, with those of them that turned out to be damaged.
    pub records: u64,
    /// Of these, the ones that are known to be damaged by now.
    pub damaged: u64,
    /// The first number that waits.
    pub first: SeqNo,
    /// The number of the next record.
    pub next: SeqNo,
    /// Everything that was found damaged.
    pub damages: Vec<Damage>,
}

struct Opening<'a> {
    storage: &'a dyn Storage,
    options: LogOptions,
    names: Vec<String>,
    damages: Damages,
}

/// Opens a folder, and makes the queue in it if there is none.
pub(crate) fn open(
    storage: &dyn Storage,
    options: LogOptions,
    wanted: &Identity,
) -> Result<(Opened, Recovery), OpenError> {
    let failed = |operation, source| StorageError::new(operation, "", source);
    let lock = storage.lock().map_err(|e| failed("lock", e))?;
    let lock = lock.ok_or(OpenError::InUse)?;
    let listed = storage.list().map_err(|e| failed("list", e))?;
    let mut opening = Opening {
        storage,
        options,
        names: listed.iter().map(|(name, _)| name.clone()).collect(),
        damages: Damages::default(),
    };
    let heads = opening.heads(&listed)?;
    let salt_of_segments = heads.iter().find_map(|(head, _)| Some(head.as_ref()?.salt));
    let salt = identity::settle(
        storage,
        &opening.names,
        wanted,
        salt_of_segments,
        &mut opening.damages,
    )?;
    let newest = opening.checkpoint(salt)?;
    let next_number = heads.last().map_or(1, |(_, at)| at.number + 1);
    let segments = opening.segments(heads, salt, newest.as_ref());
    let generation = newest.as_ref().map_or(0, |c| c.generation);
    let mut checkpoints = Checkpoints::open(storage, &opening.names, generation)?;
    let state = opening.state(segments, salt, newest.as_ref())?;
    // That torn records count as settled must not be found out anew, with more behind them.
    checkpoints.write(salt, state.durable, state.acks.clone())?;
    storage.sync_dir().map_err(|e| failed("sync", e))?;
    let recovery = recovery_of(&state);
    let opened = Opened {
        state,
        salt,
        next_number,
        checkpoints,
        lock,
    };
    Ok((opened, recovery))
}

fn recovery_of(state: &State) -> Recovery {
    let damages: Vec<Damage> = state.damages.kept().cloned().collect();
    let lost = damages.iter().map(|damage| damage.records).sum();
    let mut first = None;
    state.acks.each_open(0..state.durable, |gap| {
        first.get_or_insert(gap.start);
    });
    Recovery {
        records: state.backlog() + lost,
        damaged: lost,
        first: first.unwrap_or(state.durable),
        next: state.durable,
        damages,
    }
}

/// A file that is named as a segment.
#[derive(Clone, Copy, Debug)]
struct At {
    number: u64,
    len: u64,
}

impl Opening<'_> {
    /// The heads of all segments, in order; `None` for one that cannot be read. Files without any
    /// content, made ahead, are removed.
    fn heads(
        &mut self,
        listed: &[(String, u64)],
    ) -> Result<Vec<(Option<SegmentHead>, At)>, OpenError> {
        let mut files: Vec<At> = listed
            .iter()
            .filter_map(|(name, len)| {
                let number = segment::number(name)?;
                Some(At { number, len: *len })
            })
            .collect();
        files.sort_by_key(|at| at.number);
        let mut heads = Vec::new();
        for at in files {
            let name = segment::name(at.number);
            match self.head(&name)? {
                Found::Empty if self.is_all_zeros(&name, at.len)? => self.remove(&name),
                Found::Empty | Found::Damaged => {
                    self.damage(&name, 0..DATA.min(at.len), DamageKind::Copy);
                    heads.push((None, at));
                }
                Found::Content(content, is_damaged) => {
                    if is_damaged {
                        self.damage(&name, 0..DATA, DamageKind::Copy);
                    }
                    match SegmentHead::decode(&content) {
                        Ok(head) => heads.push((Some(head), at)),
                        Err(Some(found)) => {
                            return Err(OpenError::Newer {
                                found,
                                known: VERSION,
                            });
                        }
                        Err(None) => heads.push((None, at)),
                    }
                }
            }
        }
        Ok(heads)
    }

    fn head(&self, name: &str) -> Result<Found, StorageError> {
        let mut bytes = vec![0; pair::PAIR];
        let mut tries = 0;
        loop {
            let read = self
                .storage
                .open(name)
                .and_then(|file| read_full(file.as_ref(), &mut bytes, 0));
            match read {
                Ok(length) => return Ok(pair::decode(&bytes[..length])),
                Err(source) => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(StorageError::new("read", name, source));
                    }
                }
            }
        }
    }

    fn is_all_zeros(&self, name: &str, len: u64) -> Result<bool, StorageError> {
        let failed = |source| StorageError::new("read", name, source);
        let file = self.storage.open(name).map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < len {
            let read = read_full(file.as_ref(), &mut buffer, at).map_err(failed)?;
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read == 0 {
                break;
            }
            at += read as u64;
        }
        Ok(true)
    }

    fn remove(&self, name: &str) {
        // One that stays is found empty again.
        if let Err(error) = self.storage.remove(name) {
            tracing::warn!(file = name, %error, "an empty segment cannot be removed");
        }
    }

    fn damage(&mut self, file: &str, bytes: Range<u64>, kind: DamageKind) {
        self.damages.add(Damage::new(file, bytes, kind));
    }

    fn checkpoint(&mut self, salt: u64) -> Result<Option<Checkpoint>, StorageError> {
        let found = checkpoint::read(self.storage, &self.names)?;
        for name in found.damaged {
            self.damage(name, 0..0, DamageKind::Copy);
        }
        Ok(found.newest.filter(|newest| newest.salt == salt))
    }

    /// The segments with what is known of each without reading its records. Where a head is gone,
    /// the records tell.
    fn segments(
        &mut self,
        heads: Vec<(Option<SegmentHead>, At)>,
        salt: u64,
        newest: Option<&Checkpoint>,
    ) -> VecDeque<Segment> {
        let mut segments: VecDeque<Segment> = VecDeque::new();
        for (head, at) in heads {
            let name = segment::name(at.number);
            if head.is_some_and(|head| head.salt != salt || head.number != at.number) {
                self.set_aside(&name, at.len);
                continue;
            }
            let lowest = newest.map_or(1, |c| c.acks.floor());
            let least = segments.back().map_or(lowest, |before| before.first);
            let Some((first, previous_end)) = head
                .map(|head| (head.first, head.previous_end))
                .or_else(|| self.salvage(&name, at.len, least, salt))
            else {
                self.set_aside(&name, at.len);
                continue;
            };
            if let Some(before) = segments.back_mut() {
                before.end = previous_end.max(before.first);
            }
            segments.push_back(Segment {
                number: at.number,
                first,
                end: first,
                data_end: at.len,
                len: at.len,
                is_sealed: true,
                is_unreadable: false,
            });
        }
        segments
    }

    /// Where a segment whose head is gone begins: with its first record that is whole.
    fn salvage(&self, name: &str, len: u64, least: SeqNo, salt: u64) -> Option<(SeqNo, SeqNo)> {
        let file = self.storage.open(name).ok()?;
        let expect = Expect {
            next: least,
            below: SeqNo::MAX,
            salt,
            max_len: self.options.max_record,
        };
        let mut scanner = Scanner::new(DATA..len, expect);
        scanner.skip_unreadable();
        loop {
            match scanner.next(file.as_ref()).ok()? {
                Item::Record { head, .. } => {
                    let first = head.group_first.max(least);
                    return Some((first, first));
                }
                Item::Junk { .. } => {}
                Item::End => return None,
            }
        }
    }

    /// A file that bears the name of a segment and is none of this queue.
    fn set_aside(&mut self, name: &str, len: u64) {
        self.damage(name, 0..len, DamageKind::Copy);
        let aside = format!("{name}{}", crate::damage::ENDING);
        if let Err(error) = self.storage.rename(name, &aside) {
            tracing::error!(file = name, %error, "a file of another queue cannot be set aside");
        }
    }

    fn state(
        mut self,
        mut segments: VecDeque<Segment>,
        salt: u64,
        newest: Option<&Checkpoint>,
    ) -> Result<State, OpenError> {
        let lowest = segments.front().map_or(1, |first| first.first);
        let mut acks = newest.map_or_else(|| Acks::new(lowest), |c| c.acks.clone());
        let tail = match segments.back_mut() {
            Some(last) => self.walk(last, salt, newest, &acks)?,
            None => Tail::default(),
        };
        let checkpointed = newest.map_or(0, |c| c.end);
        let last_end = segments.back().map_or(1, |last| last.end);
        let durable = last_end.max(checkpointed).max(acks.end());
        let mut lost = tail.lost;
        if let Some(newest) = newest {
            lost.extend(missing(&segments, &acks, newest));
        }
        for torn in tail.torn {
            acks.settle(torn, Settled::Void);
        }
        let mut state = State {
            acks,
            segments,
            durable,
            is_dirty: false,
            damages: self.damages,
        };
        for (mut damage, range) in lost {
            damage.copy = damage.set_aside(self.storage);
            damage.first = range.start;
            damage.records = state.acks.settle(range, Settled::Damaged);
            state.damages.add(damage);
        }
        // Numbers between two segments were given to writes that failed.
        let gaps: Vec<Range<SeqNo>> = voids(&state.segments).collect();
        for gap in gaps {
            state.acks.settle(gap, Settled::Void);
        }
        if let (Some(newest), Some(last)) = (newest, state.segments.back())
            && last.end < newest.end
        {
            let (gone, file) = (last.end..newest.end, segment::name(last.number));
            let records = state.acks.settle(gone.clone(), Settled::Damaged);
            if records > 0 {
                let mut damage = Damage::new(&file, last.data_end..last.len, DamageKind::Missing);
                (damage.records, damage.first) = (records, gone.start);
                state.damages.add(damage);
            }
        }
        Ok(state)
    }

    /// Walks through the last segment, to know where it ends.
    fn walk(
        &mut self,
        last: &mut Segment,
        salt: u64,
        newest: Option<&Checkpoint>,
        acks: &Acks,
    ) -> Result<Tail, StorageError> {
        let name = segment::name(last.number);
        let opened = self.storage.open(&name);
        let file = opened.map_err(|source| StorageError::new("open", &name, source))?;
        // A process that was killed has left writes that are readable and not durable yet.
        file.sync()
            .map_err(|source| StorageError::new("sync", &name, source))?;
        let expect = Expect {
            next: last.first,
            below: last.first + last.len / crate::record::HEAD as u64 + 1,
            salt,
            max_len: self.options.max_record,
        };
        let mut scanner = Scanner::new(DATA..last.len, expect);
        let mut tail = Walk::new(last.first);
        let mut tries = 0;
        loop {
            match scanner.next(file.as_ref()) {
                Ok(Item::Record { head, .. }) => tail.record(head.seq, head.group_first),
                Ok(Item::Junk { at, is_unreadable }) => tail.junk(at, is_unreadable),
                Ok(Item::End) => break,
                Err(source) => {
                    tries += 1;
                    if tries == 2 * TRIES {
                        return Err(StorageError::new("read", &name, source));
                    }
                    if tries == TRIES {
                        scanner.skip_unreadable();
                    }
                }
            }
        }
        last.end = tail.end;
        last.is_unreadable = tail.is_unreadable();
        let known_durable = newest.map_or(0, |c| c.end);
        Ok(tail.finish(&name, known_durable, acks))
    }
}

/// Records that should be there: durable, not settled, and in no segment.
fn missing(
    segments: &VecDeque<Segment>,
    acks: &Acks,
    newest: &Checkpoint,
) -> Vec<(Damage, Range<SeqNo>)> {
    let first = segments.front().map_or(newest.end, |s| s.first);
    let mut lost = Vec::new();
    acks.each_open(acks.floor()..first, |gap| {
        let damage = Damage::new("a segment", 0..0, DamageKind::Missing);
        lost.push((damage, gap));
    });
    lost
}

/// Numbers between the end of a segment and the beginning of the next one.
fn voids(segments: &VecDeque<Segment>) -> impl Iterator<Item = Range<SeqNo>> + '_ {
    let next = segments.iter().skip(1);
    let pairs = segments.iter().zip(next);
    pairs.map(|(one, next)| one.end..next.first)
}

/// What a walk through the last segment makes of it.
#[derive(Debug, Default)]
struct Tail {
    /// Numbers of a write that was under way: nobody was told that they are durable.
    torn: Vec<Range<SeqNo>>,
    lost: Vec<(Damage, Range<SeqNo>)>,
}

/// Bytes that are no records, with the numbers that are missing after them.
#[derive(Debug)]
struct Hole {
    at: Range<u64>,
    is_unreadable: bool,
    missing: Range<SeqNo>,
}

#[derive(Debug)]
struct Walk {
    /// The number after the last record.
    end: SeqNo,
    /// All below it were durable when something was written after them.
    proven: SeqNo,
    holes: Vec<Hole>,
    open_hole: Option<(Range<u64>, bool)>,
}

impl Walk {
    fn new(first: SeqNo) -> Self {
        Self {
            end: first,
            proven: first,
            holes: Vec::new(),
            open_hole: None,
        }
    }

    fn record(&mut self, seq: SeqNo, group_first: SeqNo) {
        let missing = self.end..seq;
        if let Some((at, is_unreadable)) = self.open_hole.take() {
            self.holes.push(Hole {
                at,
                is_unreadable,
                missing,
            });
        } else if !missing.is_empty() {
            self.holes.push(Hole {
                at: 0..0,
                is_unreadable: false,
                missing,
            });
        }
        self.end = seq + 1;
        self.proven = self.proven.max(group_first);
    }

    fn junk(&mut self, at: Range<u64>, is_unreadable: bool) {
        match &mut self.open_hole {
            Some((hole, was)) => {
                hole.end = at.end;
                *was |= is_unreadable;
            }
            None => self.open_hole = Some((at, is_unreadable)),
        }
    }

    fn is_unreadable(&self) -> bool {
        self.holes.iter().any(|hole| hole.is_unreadable)
            || self.open_hole.as_ref().is_some_and(|(_, is)| *is)
    }

    /// Tells what was under way from what is damaged.
    fn finish(self, name: &str, known_durable: SeqNo, acks: &Acks) -> Tail {
        let mut tail = Tail::default();
        let proven = self.proven.max(known_durable);
        let kind = |is_unreadable: bool, is_torn: bool| match (is_unreadable, is_torn) {
            (true, _) => DamageKind::Unreadable,
            (false, true) => DamageKind::Torn,
            (false, false) => DamageKind::Damaged,
        };
        for hole in self.holes {
            let split = proven.clamp(hole.missing.start, hole.missing.end);
            let (lost, torn) = (hole.missing.start..split, split..hole.missing.end);
            let is_settled = acks.covers(lost.clone());
            if !hole.at.is_empty() || !is_settled {
                let is_torn = lost.is_empty() && !torn.is_empty();
                let damage = Damage::new(name, hole.at, kind(hole.is_unreadable, is_torn));
                tail.lost.push((damage, lost));
            }
            if !torn.is_empty() {
                tail.torn.push(torn);
            }
        }
        if let Some((at, is_unreadable)) = self.open_hole {
            let lost = self.end..known_durable.max(self.end);
            let damage = Damage::new(name, at, kind(is_unreadable, lost.is_empty()));
            tail.lost.push((damage, lost));
        }
        tail
    }
}
