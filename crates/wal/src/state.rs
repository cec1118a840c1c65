//! What everybody looks at: the segments that are there, and what is settled.

use std::collections::VecDeque;

use crate::SeqNo;
use crate::acks::Acks;
use crate::checkpoint::RANGES;
use crate::damage::Damages;
use crate::record::{Expect, HEAD};
use crate::scan::Scanner;
use crate::segment::DATA;

/// What becomes of the file of a segment that nobody needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenDone {
    /// It becomes another segment: this process has made it, and no write to it has failed.
    Reuse,
    Remove,
    /// Some of it cannot be read: a person may want to see it.
    SetAside,
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
    /// Its file was a segment before: behind its last record are remains of that.
    pub(crate) is_reused: bool,
    pub(crate) when_done: WhenDone,
}

impl Segment {
    /// A number that all its records are below, whatever they are.
    pub(crate) fn most(&self) -> SeqNo {
        self.first + self.len / HEAD as u64 + 1
    }

    /// A walk through its records, which are below `below`; those below `durable` were durable.
    pub(crate) fn scanner(
        &self,
        durable: SeqNo,
        below: SeqNo,
        salt: u64,
        max_len: usize,
    ) -> Scanner {
        let expect = Expect {
            next: self.first,
            below,
            salt,
            max_len,
        };
        let remains = self.is_reused.then_some(durable);
        Scanner::new(DATA..self.data_end, expect, remains)
    }
}

/// What everybody looks at.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) acks: Acks,
    pub(crate) segments: VecDeque<Segment>,
    /// The number after the last durable record.
    pub(crate) durable: SeqNo,
    /// Something was settled, or became durable, since the last checkpoint.
    pub(crate) is_dirty: bool,
    pub(crate) damages: Damages,
}

impl State {
    pub(crate) fn done_segments(&self) -> impl Iterator<Item = Segment> + '_ {
        // What a checkpoint has no room for is not settled for the next start.
        let end = self.acks.kept_below(RANGES);
        let is_done = move |segment: &&Segment| {
            segment.is_sealed && segment.end <= end && self.acks.covers(segment.first..segment.end)
        };
        self.segments.iter().filter(is_done).copied()
    }

    pub(crate) fn has_done_segments(&self) -> bool {
        self.done_segments().next().is_some()
    }

    /// Whether the segment that is written has records, and all of them are settled.
    pub(crate) fn is_last_settled(&self) -> bool {
        self.segments.back().is_some_and(|last| {
            !last.is_sealed && last.first < last.end && self.acks.covers(last.first..last.end)
        })
    }

    /// Records that are durable and not settled.
    pub(crate) fn backlog(&self) -> u64 {
        self.acks.open_in(0..self.durable)
    }
}
