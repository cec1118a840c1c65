//! Revisions: which of two records of one key is the newer.
//!
//! A revision is a count of microseconds since the epoch, but an ordinal more than a time: within
//! a process each one is greater than the last, also while the clock stands or steps back.

use crate::time::{MICROS_PER_SECOND, Timestamp};

/// How far ahead of the clock a revision from outside may be.
pub const MAX_AHEAD_MICROS: i64 = 300 * MICROS_PER_SECOND;

/// Gives revisions: `max(last + 1, now)`.
///
/// ```
/// use mds_core::{RevisionClock, Timestamp};
///
/// let mut clock = RevisionClock::new(100);
/// assert_eq!(clock.next(Timestamp::from_micros(50)), 101);
/// assert_eq!(clock.next(Timestamp::from_micros(500)), 500);
/// assert_eq!(clock.next(Timestamp::from_micros(500)), 501);
/// assert_eq!(clock.ahead_of(Timestamp::from_micros(400)), 101);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RevisionClock {
    last: i64,
}

impl RevisionClock {
    /// A clock that continues after `last`, the greatest revision ever given or stored.
    pub const fn new(last: i64) -> Self {
        Self { last }
    }

    /// The next revision.
    pub fn next(&mut self, now: Timestamp) -> i64 {
        self.last = self.last.saturating_add(1).max(now.micros());
        self.last
    }

    /// Takes note of a revision that was given elsewhere.
    pub fn observe(&mut self, revision: i64) {
        self.last = self.last.max(revision);
    }

    /// The last revision.
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// Microseconds by which the last revision is ahead of `now`; 0 where it is not.
    pub fn ahead_of(&self, now: Timestamp) -> i64 {
        self.last.saturating_sub(now.micros()).max(0)
    }
}
