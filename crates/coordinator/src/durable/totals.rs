//! Fates as the queue on the disk counts them.

use mds_wal::Totals;

use crate::dead_letter::Reason;
use crate::queue::Fate;

const WRITTEN: u8 = 0;
const SUPERSEDED: u8 = 1;
/// The first of the reasons of dead letters; those of drops follow.
const REASONS: u8 = 2;

fn number_of(reason: Reason) -> u8 {
    let place = Reason::ALL.iter().position(|r| *r == reason);
    u8::try_from(place.unwrap_or(0)).unwrap_or(0)
}

/// The number under which a fate is counted: part of the format of the folder, never changed.
pub(crate) fn class_of(fate: Fate) -> u8 {
    let reasons = u8::try_from(Reason::ALL.len()).unwrap_or(0);
    match fate {
        Fate::Written => WRITTEN,
        Fate::Superseded => SUPERSEDED,
        Fate::DeadLettered(reason) => REASONS + number_of(reason),
        Fate::Dropped(reason) => REASONS + reasons + number_of(reason),
    }
}

/// The fate that is counted under a number in [`Totals::settled`]; `None` where it has no meaning.
pub fn fate_of(class: u8) -> Option<Fate> {
    let reason = |first: u8| {
        let place = usize::from(class.checked_sub(first)?);
        Reason::ALL.get(place).copied()
    };
    let reasons = u8::try_from(Reason::ALL.len()).unwrap_or(0);
    match class {
        WRITTEN => Some(Fate::Written),
        SUPERSEDED => Some(Fate::Superseded),
        _ => match reason(REASONS) {
            Some(reason) => Some(Fate::DeadLettered(reason)),
            None => reason(REASONS + reasons).map(Fate::Dropped),
        },
    }
}

/// What became of all records that a durable queue has ever taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurableTotals {
    /// Records that were accepted.
    pub accepted: u64,
    /// Of these: committed by the store.
    pub written: u64,
    /// The store had one of equal or higher rank.
    pub superseded: u64,
    /// In the dead letters.
    pub dead_lettered: u64,
    /// Gone, for a reason that was counted.
    pub dropped: u64,
    /// Damaged on the disk.
    pub damaged: u64,
    /// Waiting.
    pub queued: u64,
}

impl DurableTotals {
    /// Reads them from the totals of a queue, with the number of its next record.
    pub fn new(totals: &Totals, next: u64, queued: u64) -> Self {
        let reasons = Reason::ALL.len();
        let first = usize::from(REASONS);
        let sum = |from: usize| {
            let these = totals.settled.iter().skip(from).take(reasons);
            these.sum::<u64>()
        };
        Self {
            accepted: next.saturating_sub(1 + totals.void),
            written: totals.settled[usize::from(WRITTEN)],
            superseded: totals.settled[usize::from(SUPERSEDED)],
            dead_lettered: sum(first),
            dropped: sum(first + reasons),
            damaged: totals.damaged,
            queued,
        }
    }

    /// Records that were accepted and of which nobody knows a fate: damaged on the disk, now or
    /// earlier, or settled in checkpoints that are gone. `None` where there are more fates than
    /// records.
    pub fn lost(&self) -> Option<u64> {
        let settled = self.written + self.superseded + self.dead_lettered + self.dropped;
        self.accepted.checked_sub(settled + self.queued)
    }

    /// Of the lost ones, those that were not damaged: the checkpoints that said what became of them are
    /// gone. `None` where there are more fates than records.
    pub fn unknown(&self) -> Option<u64> {
        Some(self.lost()?.saturating_sub(self.damaged))
    }

    /// Whether each record that was accepted is in one of the other figures.
    pub fn is_balanced(&self) -> bool {
        self.accepted
            == self.written
                + self.superseded
                + self.dead_lettered
                + self.dropped
                + self.damaged
                + self.queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_records_are_told_from_those_whose_fate_is_unknown() {
        let totals = |accepted, damaged| DurableTotals {
            accepted,
            written: 90,
            damaged,
            queued: 5,
            ..DurableTotals::default()
        };
        let of = |totals: DurableTotals| (totals.lost(), totals.unknown());
        assert_eq!(of(totals(95, 0)), (Some(0), Some(0)));
        assert_eq!(of(totals(98, 3)), (Some(3), Some(0)));
        assert_eq!(of(totals(100, 3)), (Some(5), Some(2)));
        assert_eq!(of(totals(94, 0)), (None, None));
    }

    #[test]
    fn numbers_of_fates_are_part_of_the_format() {
        let all = Reason::ALL.into_iter();
        let dead: Vec<u8> = all
            .clone()
            .map(|r| class_of(Fate::DeadLettered(r)))
            .collect();
        let dropped: Vec<u8> = all.map(|r| class_of(Fate::Dropped(r))).collect();
        assert_eq!(
            (class_of(Fate::Written), class_of(Fate::Superseded)),
            (0, 1)
        );
        assert_eq!(dead, [2, 3, 4, 5, 6, 7]);
        assert_eq!(dropped, [8, 9, 10, 11, 12, 13]);
        for class in 0..14 {
            assert_eq!(fate_of(class).map(class_of), Some(class));
        }
        assert_eq!((fate_of(14), fate_of(255)), (None, None));
    }
}
