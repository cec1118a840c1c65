//! A lease: the rows that a worker holds until each has its fate.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use mds_core::Batch;
use tokio::time::Instant;

use super::state::{RetryState, RowMeta, Rows, Taken};
use super::{BoundedQueue, Fate};

/// Rows taken from a [`BoundedQueue`]. Dropped, it gives the rows that have no fate yet back to
/// the front of the queue.
///
/// ```
/// use mds_coordinator::{BoundedQueue, Fate, QueueOptions};
///
/// let queue = BoundedQueue::new(QueueOptions::default());
/// queue.try_put("a").unwrap();
/// drop(queue.try_take().unwrap());
/// assert_eq!(queue.size(), 1);
///
/// let lease = queue.try_take().unwrap();
/// assert_eq!(lease.batch().get(0), Some(&"a"));
/// lease.settle(Fate::Written);
/// assert_eq!((queue.size(), queue.stats().written), (0, 1));
/// ```
pub struct Lease<T> {
    queue: BoundedQueue<T>,
    taken: Taken<T>,
    /// An attempt is under way.
    outcome_unknown: AtomicBool,
}

impl<T> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("rows", &self.taken.positions.len())
            .finish_non_exhaustive()
    }
}

impl<T> Lease<T> {
    pub(super) const fn new(queue: BoundedQueue<T>, taken: Taken<T>) -> Self {
        Self {
            queue,
            taken,
            outcome_unknown: AtomicBool::new(false),
        }
    }

    /// The rows.
    pub fn batch(&self) -> Batch<T> {
        self.batch_of(&self.taken.positions)
    }

    /// Gives every row that has none its fate.
    pub fn settle(self, fate: Fate) {
        self.queue
            .settle(self.taken.id, &self.taken.positions, fate);
    }

    pub(crate) fn batch_of(&self, positions: &[u32]) -> Batch<T> {
        let all = Batch::new(std::sync::Arc::clone(&self.taken.rows.items));
        if positions.len() == all.len() {
            all
        } else {
            all.select(positions.to_vec())
        }
    }

    /// Whether rows that go back when the lease is dropped may have been written.
    pub(crate) fn set_outcome_unknown(&self, unknown: bool) {
        self.outcome_unknown.store(unknown, Ordering::Relaxed);
    }

    pub(crate) fn id(&self) -> u64 {
        self.taken.id
    }

    pub(crate) fn rows(&self) -> &Rows<T> {
        &self.taken.rows
    }

    pub(crate) fn positions(&self) -> &[u32] {
        &self.taken.positions
    }

    pub(crate) fn retry(&self) -> RetryState {
        self.taken.retry
    }

    pub(crate) fn meta(&self, position: u32) -> Option<&RowMeta> {
        self.taken.rows.meta.get(position as usize)
    }

    pub(crate) fn settle_rows(&self, positions: &[u32], fate: Fate) -> u64 {
        self.queue.settle(self.taken.id, positions, fate)
    }

    /// Puts rows back at the end, to be leased as a group of their own.
    pub(crate) fn give_back(
        &self,
        positions: &[u32],
        retry: RetryState,
        not_before: Option<Instant>,
    ) {
        self.queue
            .give_back(self.taken.id, positions, retry, not_before, false);
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        let open = self.queue.open_positions(self.taken.id);
        if !open.is_empty() {
            let mut retry = self.taken.retry;
            retry.outcome_unknown |= self.outcome_unknown.load(Ordering::Relaxed);
            self.queue
                .give_back(self.taken.id, &open, retry, None, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::QueueOptions;
    use super::*;

    #[test]
    fn a_lease_lost_during_an_attempt_remembers_that_its_outcome_is_not_known() {
        let queue = BoundedQueue::new(QueueOptions::default());
        queue.try_put(1).unwrap();
        let lease = queue.try_take().unwrap();
        lease.set_outcome_unknown(true);
        drop(lease);
        assert!(queue.try_take().unwrap().retry().outcome_unknown);
    }
}
