//! What the rows of one source have been like lately, and so which way to write the next.

use std::sync::atomic::{AtomicU32, Ordering};

/// Batches without a stored row before rows are taken for new again, at most.
const MOST_WAITED: u32 = 64;
/// Batches that are merged after a look at the stored rows found too many others, at most.
const LONGEST_REST: u32 = 256;

/// Learns from each batch. Only speed depends on it.
#[derive(Debug, Default)]
pub(crate) struct Habit {
    /// Batches without a stored row that are to be seen before rows are taken for new.
    wait: AtomicU32,
    /// How many after the next mistake.
    next_wait: AtomicU32,
    /// Batches to merge before the stored rows are looked at again.
    rest: AtomicU32,
    /// How many after the next mistake.
    next_rest: AtomicU32,
}

impl Habit {
    /// Whether the next rows are probably not stored yet.
    pub(crate) fn is_new(&self) -> bool {
        self.wait.load(Ordering::Relaxed) == 0
    }

    /// Whether few other rows are probably stored at the same times. Call it once a batch.
    pub(crate) fn is_dense(&self) -> bool {
        let rest = self.rest.load(Ordering::Relaxed);
        self.rest.store(rest.saturating_sub(1), Ordering::Relaxed);
        rest == 0
    }

    /// Rows that were taken for new were new.
    pub(crate) fn copied(&self) {
        let next = self.next_wait.load(Ordering::Relaxed);
        self.next_wait.store(next / 2, Ordering::Relaxed);
    }

    /// One of the rows that were taken for new was stored.
    pub(crate) fn met_stored(&self) {
        let next = self.next_wait.load(Ordering::Relaxed).max(1);
        self.wait.store(next, Ordering::Relaxed);
        self.next_wait
            .store((next * 2).min(MOST_WAITED), Ordering::Relaxed);
    }

    /// `met` rows of a batch were stored.
    pub(crate) fn looked(&self, met: usize) {
        let wait = self.wait.load(Ordering::Relaxed);
        let wait = match met {
            0 => wait.saturating_sub(1),
            _ => wait.max(1),
        };
        self.wait.store(wait, Ordering::Relaxed);
    }

    /// A look gave up: too many others.
    pub(crate) fn met_others(&self) {
        let next = self.next_rest.load(Ordering::Relaxed).max(1);
        self.rest.store(next, Ordering::Relaxed);
        self.next_rest
            .store((next * 2).min(LONGEST_REST), Ordering::Relaxed);
    }
}
