//! Which records are settled: all below a floor, and some above it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::SeqNo;

/// Kinds of settlement that are counted apart; what they mean is the caller's business.
pub const CLASSES: usize = 16;

/// How many records were settled, by kind, since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By the kinds of the caller.
    pub settled: [u64; CLASSES],
    /// Records that were damaged on the disk.
    pub damaged: u64,
    /// Numbers that were given to records whose write failed.
    pub void: u64,
}

impl Totals {
    /// Numbers that are settled.
    pub fn sum(&self) -> u64 {
        self.settled.iter().sum::<u64>() + self.damaged + self.void
    }
}

/// Why a number is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Class(u8),
    Damaged,
    Void,
}

/// The set of settled numbers. Memory goes with the numbers that are not settled below one that is:
/// those that somebody is at work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acks {
    floor: SeqNo,
    /// Ranges above the floor that do not touch, by their beginning.
    above: BTreeMap<SeqNo, SeqNo>,
    totals: Totals,
}

impl Acks {
    /// Nothing from `floor` on is settled.
    pub(crate) fn new(floor: SeqNo) -> Self {
        Self {
            floor,
            above: BTreeMap::new(),
            totals: Totals::default(),
        }
    }

    /// Everything below it is settled.
    pub(crate) fn floor(&self) -> SeqNo {
        self.floor
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn contains(&self, seq: SeqNo) -> bool {
        seq < self.floor || self.range_at(seq).is_some_and(|range| range.contains(&seq))
    }

    /// Whether all of `range` is settled.
    pub(crate) fn covers(&self, range: Range<SeqNo>) -> bool {
        let from = range.start.max(self.floor);
        from >= range.end
            || self
                .range_at(from)
                .is_some_and(|settled| settled.contains(&from) && settled.end >= range.end)
    }

    /// How many numbers of `range` are not settled.
    pub(crate) fn open_in(&self, range: Range<SeqNo>) -> u64 {
        let mut open = 0;
        self.each_open(range, |gap| open += gap.end - gap.start);
        open
    }

    /// Tells each part of `range` that is not settled.
    pub(crate) fn each_open(&self, range: Range<SeqNo>, mut tell: impl FnMut(Range<SeqNo>)) {
        let mut from = range.start.max(self.floor);
        if let Some(settled) = self.range_at(from) {
            from = from.max(settled.end);
        }
        while from < range.end {
            let next = self.above.range(from..range.end).next();
            let (start, end) = next.map_or((range.end, range.end), |(s, e)| (*s, *e));
            if from < start {
                tell(from..start);
            }
            from = end;
        }
    }

    /// Settles what of `range` is not settled; answers with how much that was.
    pub(crate) fn settle(&mut self, range: Range<SeqNo>, how: Settled) -> u64 {
        let new = self.open_in(range.clone());
        match how {
            Settled::Class(class) => {
                if let Some(total) = self.totals.settled.get_mut(usize::from(class)) {
                    *total += new;
                }
            }
            Settled::Damaged => self.totals.damaged += new,
            Settled::Void => self.totals.void += new,
        }
        if new > 0 {
            self.insert(range);
        }
        new
    }

    fn insert(&mut self, range: Range<SeqNo>) {
        let (mut start, mut end) = (range.start.max(self.floor), range.end);
        if let Some((before, before_end)) = self.above.range(..=start).next_back()
            && *before_end >= start
        {
            start = *before;
            end = end.max(*before_end);
            self.above.remove(&start);
        }
        while let Some((after, after_end)) = self.above.range(start..=end).next() {
            let after = *after;
            end = end.max(*after_end);
            self.above.remove(&after);
        }
        if start <= self.floor {
            self.floor = end;
        } else {
            self.above.insert(start, end);
        }
    }

    /// The settled range above the floor that begins at or before `seq` last.
    fn range_at(&self, seq: SeqNo) -> Option<Range<SeqNo>> {
        let (start, end) = self.above.range(..=seq).next_back()?;
        Some(*start..*end)
    }

    /// The ranges above the floor, the lowest first, at most `limit`.
    pub(crate) fn ranges(&self, limit: usize) -> impl Iterator<Item = (SeqNo, SeqNo)> + '_ {
        self.above.iter().take(limit).map(|(s, e)| (*s, *e))
    }

    /// All settled ranges below it are among the first `limit` ones.
    pub(crate) fn kept_below(&self, limit: usize) -> SeqNo {
        if self.above.len() <= limit {
            return SeqNo::MAX;
        }
        let left_out = self.above.keys().nth(limit);
        left_out.copied().unwrap_or(SeqNo::MAX)
    }

    /// The number after the last settled one.
    pub(crate) fn end(&self) -> SeqNo {
        let last = self.above.values().next_back();
        last.copied().unwrap_or(self.floor)
    }

    /// As it was stored. Totals go with the ranges; `None` where they contradict each other.
    pub(crate) fn restore(
        floor: SeqNo,
        ranges: impl Iterator<Item = (SeqNo, SeqNo)>,
        totals: Totals,
    ) -> Option<Self> {
        let mut acks = Self::new(floor);
        acks.totals = totals;
        let mut last = floor;
        for (start, end) in ranges {
            if start <= last || end <= start {
                return None;
            }
            last = end;
            acks.above.insert(start, end);
        }
        Some(acks)
    }

    /// Takes back what is settled above the ranges that are kept, so that totals stay right.
    pub(crate) fn count_above(&self, limit: usize) -> u64 {
        self.above.iter().skip(limit).map(|(s, e)| e - s).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_the_set_that_a_plain_one_is() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut acks = Acks::new(1);
            let mut plain = BTreeSet::new();
            for step in 0..200 {
                let start = random.u64(1..100);
                let range = start..start + random.u64(0..8);
                let before = plain.len();
                plain.extend(range.clone());
                let new = acks.settle(range.clone(), Settled::Class(3));
                assert_eq!(
                    new,
                    (plain.len() - before) as u64,
                    "seed {seed} step {step}"
                );
                let asked = random.u64(1..110);
                assert_eq!(acks.contains(asked), plain.contains(&asked));
                let other = asked..asked + random.u64(0..10);
                let open: Vec<u64> = other.clone().filter(|s| !plain.contains(s)).collect();
                assert_eq!(acks.open_in(other.clone()), open.len() as u64);
                assert_eq!(acks.covers(other.clone()), open.is_empty());
                let mut told = Vec::new();
                acks.each_open(other, |gap| told.extend(gap));
                assert_eq!(told, open);
                let floor = (1..200).find(|s| !plain.contains(s)).unwrap();
                assert_eq!(acks.floor(), floor);
            }
            assert_eq!(acks.totals().settled[3], plain.len() as u64);
            let copy = Acks::restore(acks.floor(), acks.ranges(usize::MAX), acks.totals());
            assert_eq!(copy, Some(acks));
        }
    }
}
