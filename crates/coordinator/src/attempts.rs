//! What single attempts did, added up for whoever looks at the store and not at the books.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mds_core::{ErrorKind, RowOutcome, WriteReport};

/// Sums since the start of a coordinator.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    answered: AtomicU64,
    failed: AtomicU64,
    rows: AtomicU64,
    busy_nanos: AtomicU64,
    retries: AtomicU64,
}

/// The sums at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttemptSums {
    /// Attempts that the store answered, be it with a refusal.
    pub(crate) answered: u64,
    /// Attempts that failed for the store's sake.
    pub(crate) failed: u64,
    /// Rows with an answer.
    pub(crate) rows: u64,
    /// How long the answered ones took.
    pub(crate) busy: Duration,
}

impl Attempts {
    /// Adds one attempt.
    pub(crate) fn add(&self, took: Duration, report: &WriteReport) {
        // Counted apart, read without a lock: a tick that catches one of them half-way is wrong by
        // one attempt, and the next one makes up for it.
        let add = |sum: &AtomicU64, value| {
            sum.fetch_add(value, Ordering::Relaxed);
        };
        // Other errors are about the rows, or nobody knows about what: they say nothing about the
        // store.
        let is_of_store = report.error.as_ref().is_some_and(|error| {
            let kind = error.kind();
            matches!(kind, ErrorKind::Environment | ErrorKind::Transient) || error.outcome_unknown()
        });
        if is_of_store {
            return add(&self.failed, 1);
        }
        let is_answer = |outcome: &&RowOutcome| **outcome != RowOutcome::NotTried;
        let rows = report.outcomes.iter().filter(is_answer).count() as u64;
        if report.error.is_none() || rows > 0 {
            add(&self.answered, 1);
            add(&self.rows, rows);
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            add(&self.busy_nanos, nanos);
        }
    }

    /// Counts an attempt at rows that failed before.
    pub(crate) fn add_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn sums(&self) -> AttemptSums {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        AttemptSums {
            answered: read(&self.answered),
            failed: read(&self.failed),
            rows: read(&self.rows),
            busy: Duration::from_nanos(read(&self.busy_nanos)),
        }
    }
}

impl AttemptSums {
    /// What was added since `before`.
    #[must_use]
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            answered: self.answered.saturating_sub(before.answered),
            failed: self.failed.saturating_sub(before.failed),
            rows: self.rows.saturating_sub(before.rows),
            busy: self.busy.saturating_sub(before.busy),
        }
    }
}
