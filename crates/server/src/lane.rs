//! What the faces know of one kind of record: its way into the store.

use std::sync::{Mutex, PoisonError};

use mds_coordinator::{ClockError, DurableClock, WriteCoordinator};
use mds_core::{Bar, Fundamentals, News, OptionSnap, RevisionClock, Sourced, Timestamp};
use mds_formats::Readable;
use mds_store::StoredRecord;

/// A record of any kind that can be read from a body and written to a store.
pub trait MarketRecord: Readable + StoredRecord {}

impl<R: Readable + StoredRecord> MarketRecord for R {}

/// Gives the rows that come without a revision the one that counts.
#[derive(Debug)]
pub enum Revisions {
    /// Forgets at the end of the process; for queues in memory.
    InMemory(Mutex<RevisionClock>),
    /// Goes on where an earlier process has ended; beside a durable queue.
    Durable(DurableClock),
}

impl Revisions {
    /// The first of `count` revisions that follow each other; all are above any that was given or
    /// seen before. Blocks for two small syncs about once a second where they are durable.
    ///
    /// # Errors
    ///
    /// The disk does not keep them: none was given.
    pub fn take(&self, now: Timestamp, count: u32) -> Result<i64, ClockError> {
        match self {
            Self::InMemory(clock) => {
                let mut clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
                let first = clock.next(now);
                clock.observe(first.saturating_add(i64::from(count.max(1)) - 1));
                Ok(first)
            }
            Self::Durable(clock) => Ok(clock.take(now, count.max(1))?.start),
        }
    }

    /// Takes note of a revision that a row has brought: the next one that is given is above it.
    ///
    /// # Errors
    ///
    /// The disk does not keep it.
    pub fn observe(&self, revision: i64) -> Result<(), ClockError> {
        match self {
            Self::InMemory(clock) => {
                let mut clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
                clock.observe(revision);
                Ok(())
            }
            Self::Durable(clock) => clock.observe(revision),
        }
    }
}

/// One kind's way into the store.
#[derive(Debug)]
pub struct Lane<R: MarketRecord> {
    /// Takes the rows.
    pub coordinator: WriteCoordinator<Sourced<R>>,
    /// Gives them their revisions.
    pub revisions: Revisions,
}

/// A lane for each kind.
#[derive(Debug)]
pub struct Lanes {
    /// Bars.
    pub bars: Lane<Bar>,
    /// Option snapshots.
    pub options: Lane<OptionSnap>,
    /// Fundamentals.
    pub fundamentals: Lane<Fundamentals>,
    /// News.
    pub news: Lane<News>,
}

/// The lane of a kind that is known when the program runs, as one whose type is known.
macro_rules! with_lane {
    ($lanes:expr, $kind:expr, $lane:ident => $work:expr) => {
        match $kind {
            mds_core::Kind::Bars => {
                let $lane = &$lanes.bars;
                $work
            }
            mds_core::Kind::Options => {
                let $lane = &$lanes.options;
                $work
            }
            mds_core::Kind::Fundamentals => {
                let $lane = &$lanes.fundamentals;
                $work
            }
            mds_core::Kind::News => {
                let $lane = &$lanes.news;
                $work
            }
        }
    };
}
pub(crate) use with_lane;
