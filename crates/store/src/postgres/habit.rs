//! What the rows of one kind have been like lately, and so which way to write the next.

use std::sync::atomic::{AtomicU32, Ordering};

/// Rows below which a COPY has no advantage over a merge.
const FEWEST_COPIED: usize = 64;
/// Batches that are merged after a COPY met a stored row, at most.
const LONGEST_REST: u32 = 64;

/// Learns from each batch: a COPY that met a stored row is followed by merges, twice as many each
/// time; a merge that met none shortens the rest.
#[derive(Debug, Default)]
pub(crate) struct Habit {
    /// Batches to merge before the next COPY.
    rest: AtomicU32,
    /// How long the next rest is.
    next: AtomicU32,
    /// COPY is not ours to use: row security binds the role.
    never: std::sync::atomic::AtomicBool,
}

impl Habit {
    /// Whether to try a COPY of `rows` rows.
    pub(crate) fn copies(&self, rows: usize) -> bool {
        rows >= FEWEST_COPIED
            && !self.never.load(Ordering::Relaxed)
            && self.rest.load(Ordering::Relaxed) == 0
    }

    /// A COPY went through.
    pub(crate) fn copied(&self) {
        self.next.store(1, Ordering::Relaxed);
    }

    /// A COPY met a stored row.
    pub(crate) fn met_stored(&self) {
        let next = self.next.load(Ordering::Relaxed).max(1);
        self.rest.store(next, Ordering::Relaxed);
        self.next
            .store((next * 2).min(LONGEST_REST), Ordering::Relaxed);
    }

    /// A merge of `rows` rows met `met` stored ones.
    pub(crate) fn merged(&self, met: usize, rows: usize) {
        let rest = self.rest.load(Ordering::Relaxed);
        let left = match met {
            // Nothing was there: what follows is probably new as well.
            0 if rows >= FEWEST_COPIED => 0,
            0 => rest,
            _ => rest.saturating_sub(1),
        };
        self.rest.store(left, Ordering::Relaxed);
    }

    /// Never COPY.
    pub(crate) fn forbid_copy(&self) {
        self.never.store(true, Ordering::Relaxed);
    }
}
