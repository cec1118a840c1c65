//! A walk through the records of a segment to its end, and what is made of the holes in it.
//!
//! # How damage is told from a torn write
//!
//! The last group of a segment may have been under way when power was lost: nobody was told that it
//! is durable, and any part of it may be there. A record proves that all groups before its own were
//! synced before it was written, and a checkpoint or the head of the next segment says up to where
//! records were durable. What is missing below that is damage, what is missing above is torn. Torn
//! numbers are settled when the queue is opened: in the last group of a segment, a hole whose numbers
//! are all settled is taken for what a torn write has left.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use crate::SeqNo;
use crate::acks::{Acks, Settled};
use crate::damage::{Damage, DamageKind};
use crate::error::StorageError;
use crate::log::Segment;
use crate::scan::{Item, extent};
use crate::segment::{self, DATA};
use crate::storage::Storage;
use crate::survey::TRIES;

/// Bytes that are no records, with the numbers that are missing after them.
#[derive(Debug)]
struct Hole {
    at: Range<u64>,
    is_unreadable: bool,
    /// There are other bytes than zeros in it.
    has_junk: bool,
    missing: Range<SeqNo>,
}

/// What a walk has found.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The number after the last record.
    pub(crate) end: SeqNo,
    /// Records that are whole, as ranges of their numbers.
    pub(crate) whole: Vec<Range<SeqNo>>,
    /// All below it were durable when something was written after them.
    proven: SeqNo,
    /// Where the last record ends.
    data_end: u64,
    holes: Vec<Hole>,
    /// The bytes behind the last record that are no filling.
    open_hole: Option<(Range<u64>, bool)>,
}

/// What is made of it.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Numbers of a write that was under way: nobody was told that they are durable.
    torn: Vec<Range<SeqNo>>,
    /// Damage, with the numbers that were in it. Some of them may be settled.
    lost: Vec<(Damage, Range<SeqNo>)>,
}

/// Walks through a segment whose records are below `below`, or any that fit where that is not known;
/// those below `durable` were durable.
pub(crate) fn walk(
    storage: &dyn Storage,
    segment: &Segment,
    durable: SeqNo,
    below: Option<SeqNo>,
    salt: u64,
    max_record: usize,
) -> Result<Walk, StorageError> {
    let name = segment::name(segment.number);
    let mut walk = Walk::new(segment.first);
    let file = match storage.open(&name) {
        // It went since it was listed: all of it is settled, or somebody took it away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(walk),
        other => other.map_err(|source| StorageError::new("open", &name, source))?,
    };
    let below = below.unwrap_or(segment.most());
    let mut scanner = segment.scanner(durable, below, salt, max_record);
    let mut tries = 0;
    loop {
        match scanner.next(file.as_ref()) {
            Ok(Item::Record { at, head, .. }) => {
                walk.record(at..at + head.size() as u64, head.seq, head.group_first);
            }
            Ok(Item::Junk { at, is_unreadable }) => walk.junk(at, is_unreadable),
            Ok(Item::End) => return Ok(walk),
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
}

impl Walk {
    fn new(first: SeqNo) -> Self {
        Self {
            end: first,
            whole: Vec::new(),
            proven: first,
            data_end: DATA,
            holes: Vec::new(),
            open_hole: None,
        }
    }

    fn record(&mut self, at: Range<u64>, seq: SeqNo, group_first: SeqNo) {
        let missing = self.end..seq;
        let junk = self.open_hole.take();
        let has_junk = junk.is_some();
        // Records that are zeros now look like filling.
        let zeros = (!missing.is_empty()).then_some((self.data_end..at.start, false));
        if let Some((junk, is_unreadable)) = junk.or(zeros) {
            let at = if is_unreadable || missing.is_empty() {
                junk
            } else {
                extent(self.data_end, &junk, Some(at.start))
            };
            self.holes.push(Hole {
                at,
                is_unreadable,
                has_junk,
                missing,
            });
        }
        match self.whole.last_mut() {
            Some(last) if last.end == seq => last.end = seq + 1,
            _ => self.whole.push(seq..seq + 1),
        }
        self.end = seq + 1;
        self.data_end = at.end;
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

    pub(crate) fn is_unreadable(&self) -> bool {
        self.holes.iter().any(|hole| hole.is_unreadable)
            || self.open_hole.as_ref().is_some_and(|(_, is)| *is)
    }

    /// Where the last record ends.
    pub(crate) fn data_end(&self) -> u64 {
        self.data_end
    }

    /// Whether there is anything beside records and filling.
    pub(crate) fn has_holes(&self) -> bool {
        !self.holes.is_empty() || self.open_hole.is_some()
    }

    /// Forgets the holes that an earlier walk has not seen: they are in what is being written.
    pub(crate) fn keep_holes_of(&mut self, earlier: &Self) {
        let was_there = |hole: &Hole| earlier.holes.iter().any(|e| e.at.start == hole.at.start);
        self.holes.retain(was_there);
        let start = |hole: &Option<(Range<u64>, bool)>| hole.as_ref().map(|(at, _)| at.start);
        if start(&self.open_hole) != start(&earlier.open_hole) {
            self.open_hole = None;
        }
    }

    /// Tells what was under way from what is damaged, where all below `known_durable` was durable.
    pub(crate) fn judge(self, segment: &Segment, known_durable: SeqNo, acks: &Acks) -> Findings {
        let name = segment::name(segment.number);
        let mut findings = Findings::default();
        let proven = self.proven.max(known_durable);
        let kind = |is_unreadable: bool, is_torn: bool| match (is_unreadable, is_torn) {
            (true, _) => DamageKind::Unreadable,
            (false, true) => DamageKind::Torn,
            (false, false) => DamageKind::Damaged,
        };
        for hole in self.holes {
            let split = proven.clamp(hole.missing.start, hole.missing.end);
            let (lost, torn) = (hole.missing.start..split, split..hole.missing.end);
            // Those of an earlier power loss are settled by now.
            let is_torn = hole.missing.start >= self.proven
                && !hole.missing.is_empty()
                && acks.covers(lost.clone());
            if hole.has_junk || !acks.covers(hole.missing) {
                let damage = Damage::new(&name, hole.at, kind(hole.is_unreadable, is_torn));
                findings.lost.push((damage, lost));
            }
            if !torn.is_empty() {
                findings.torn.push(torn);
            }
        }
        let lost = self.end..known_durable.max(self.end);
        if let Some((at, is_unreadable)) = self.open_hole {
            let is_torn = acks.covers(lost.clone());
            let at = if is_unreadable || lost.is_empty() {
                at
            } else {
                extent(self.data_end, &at, None)
            };
            let damage = Damage::new(&name, at, kind(is_unreadable, is_torn));
            findings.lost.push((damage, lost));
        } else if !acks.covers(lost.clone()) {
            let damage = Damage::new(&name, self.data_end..self.data_end, DamageKind::Missing);
            findings.lost.push((damage, lost));
        }
        findings
    }
}

/// What all findings come to.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// With what is torn or lost.
    pub(crate) acks: Acks,
    /// The number after the last durable record.
    pub(crate) durable: SeqNo,
    /// The damage, each with the records that are lost by it.
    pub(crate) damages: Vec<Damage>,
}

/// Judges over a folder. `acks` is what is settled, and all below `checkpointed` was durable.
pub(crate) fn judge(
    segments: &VecDeque<Segment>,
    findings: Findings,
    mut acks: Acks,
    checkpointed: SeqNo,
) -> Verdict {
    let last_end = segments.back().map_or(1, |last| last.end);
    let durable = last_end.max(checkpointed).max(acks.end());
    let mut lost = findings.lost;
    lost.extend(missing(segments, &acks, checkpointed));
    for torn in findings.torn {
        acks.settle(torn, Settled::Void);
    }
    let mut damages = Vec::new();
    for (mut damage, range) in lost {
        damage.first = range.start;
        damage.records = acks.settle(range, Settled::Damaged);
        damages.push(damage);
    }
    // Numbers between two segments were given to writes that failed, and so were those that the first
    // one passes over.
    if let Some(first) = segments.front() {
        acks.settle(first.previous_end..first.first, Settled::Void);
    }
    let next = segments.iter().skip(1);
    for (one, next) in segments.iter().zip(next) {
        acks.settle(one.end..next.first, Settled::Void);
    }
    Verdict {
        acks,
        durable,
        damages,
    }
}

/// Records that should be there: durable, not settled, and in no segment.
fn missing(
    segments: &VecDeque<Segment>,
    acks: &Acks,
    checkpointed: SeqNo,
) -> Vec<(Damage, Range<SeqNo>)> {
    let first = segments.front().map_or(checkpointed, |s| s.previous_end);
    let mut lost = Vec::new();
    acks.each_open(acks.floor()..first, |gap| {
        let damage = Damage::new("a segment", 0..0, DamageKind::Missing);
        lost.push((damage, gap));
    });
    lost
}

impl Findings {
    pub(crate) fn add(&mut self, other: Self) {
        self.torn.extend(other.torn);
        self.lost.extend(other.lost);
    }
}
