//! The figures of a queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::SeqNo;
use crate::acks::Totals;
use crate::log::lock;
use crate::queue::Inner;

/// Figures of a queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalStats {
    /// Durable records that are not settled.
    pub backlog: u64,
    /// The number of the next record.
    pub next: SeqNo,
    /// The number after the last record that is durable.
    pub durable: SeqNo,
    /// Everything below it is settled.
    pub floor: SeqNo,
    /// What was settled since the queue was made.
    pub totals: Totals,
    /// Bytes on the disk that records take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes that are handed in and not durable yet.
    pub pending_bytes: u64,
    /// Groups that were synced since it was opened.
    pub groups: u64,
    /// Bytes that were written since it was opened.
    pub written_bytes: u64,
    /// How long the syncs of groups took, all of them.
    pub sync_time: Duration,
    /// Groups that could not be written or synced.
    pub failures: u64,
    /// Damaged parts of files that were found since it was opened.
    pub damages: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
}

impl Inner {
    pub(crate) fn stats(&self) -> WalStats {
        let pending = lock(&self.pending);
        let (next, pending_bytes) = (pending.next, pending.bytes);
        drop(pending);
        let bytes = self.log.used_bytes();
        let counters = &self.log.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = self.log.state();
        WalStats {
            backlog: state.backlog(),
            next,
            durable: state.durable,
            floor: state.acks.floor(),
            totals: state.acks.totals(),
            bytes,
            max_bytes: self.max_bytes,
            segments: state.segments.len(),
            pending_bytes,
            groups: read(&counters.groups),
            written_bytes: read(&counters.bytes),
            sync_time: Duration::from_nanos(read(&counters.sync_nanos)),
            failures: read(&counters.failures),
            damages: state.damages.count(),
            damaged_bytes: state.damages.bytes(),
        }
    }
}
