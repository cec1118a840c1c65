//! What a coordinator says about itself.

use crate::breaker::CircuitState;
use crate::queue::Stats;

/// The state of a coordinator at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoordinatorHealth {
    /// Workers that run.
    pub workers_alive: usize,
    /// Records that wait.
    pub queue_size: usize,
    /// Records that may wait.
    pub capacity: usize,
    /// The circuit.
    pub circuit_state: CircuitState,
}

/// Why a coordinator is not at its best; empty means that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degraded {
    /// Writes wait for the store.
    CircuitOpen {
        /// The latest error.
        error: Option<String>,
    },
    /// The latest error was one that no retry helps.
    Fatal {
        /// What it said.
        error: Option<String>,
    },
    /// Writes fail, and there is no circuit breaker that would open.
    WritesFailing {
        /// The latest error.
        error: Option<String>,
    },
    /// Dead letters cannot be written; their records wait.
    DeadLettersFailing,
    /// Records are not made durable, or cannot be read back from the disk; those that were accepted
    /// wait.
    DurableQueueFailing {
        /// What the disk said.
        error: String,
    },
    /// Fewer workers run than should.
    WorkersMissing {
        /// Workers that run.
        alive: usize,
        /// Workers that should.
        wanted: usize,
    },
}

/// Records of a durable queue that can be neither decoded nor set aside, since the disk is full or
/// read-only. They stay in the queue and are tried again; [`Degraded::DurableQueueFailing`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// How many they are.
    pub records: u64,
    /// The number of the first.
    pub first: u64,
}

/// The answer of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushReport {
    /// Records submitted before the flush that have their fate by now.
    pub resolved: usize,
    /// Records submitted before the flush that have none.
    pub outstanding: usize,
    /// The circuit at the end of the flush.
    pub circuit: CircuitState,
    /// Records for which a flush waits in vain, for now.
    pub unreadable: Option<Unreadable>,
}

/// The answer of a stop: every record's fate, and the records that have no other place to go.
#[derive(Debug)]
pub struct StopReport<T> {
    /// The books at the end: nothing is in flight, and `queued` is what a durable queue keeps for the
    /// next start.
    pub stats: Stats,
    /// Records that were dropped (`shutdown`) because no dead letters took them, for the caller to
    /// keep.
    pub handed_back: Vec<T>,
    /// The same, of records that a write which never ended still holds on to.
    pub handed_back_shared: Vec<mds_core::Batch<T>>,
    /// Whether the deadline passed before every record was written.
    pub timed_out: bool,
    /// Records among those still `queued` that were kept from being written by nothing but
    /// themselves.
    pub unreadable: Option<Unreadable>,
}
