//! The write path: takes records from many producers and brings each of them to exactly one fate.
//!
//! It is *not* tied to market data or to a database: `T` is any type, a sink is anything that
//! implements [`mds_core::Sink`].
//!
//! ```
//! use std::time::Duration;
//! use mds_coordinator::{Batch, RowOutcome, Sink, WriteCoordinator, WriteReport};
//!
//! /// Writes numbers to standard output, except for the negative ones.
//! struct Printer;
//!
//! impl Sink<i64> for Printer {
//!     fn name(&self) -> &str {
//!         "printer"
//!     }
//!
//!     async fn write(&self, batch: Batch<i64>) -> WriteReport {
//!         let outcome = |n: &i64| match n {
//!             0.. => { println!("{n}"); RowOutcome::Written }
//!             _ => RowOutcome::Rejected { code: "negative".into(), reason: format!("{n} < 0") },
//!         };
//!         WriteReport { outcomes: batch.iter().map(outcome).collect(), conflicts: 0, error: None }
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let coordinator = WriteCoordinator::builder(Printer).batch_size(100).start().unwrap();
//! for n in [3, 1, -4, 1, 5] {
//!     coordinator.submit(n).await.unwrap();
//! }
//! let report = coordinator.stop(true, Duration::from_secs(10)).await;
//! assert_eq!((report.stats.written, report.stats.dropped.total()), (4, 1));
//! assert!(report.stats.is_balanced());
//! # });
//! ```
//!
//! # What it guarantees
//!
//! - Every record that was accepted ends as *written*, *superseded*, *dead-lettered* or *dropped*
//!   (with a reason), once; at every instant the books of [`Stats`] balance.
//! - One bad row costs one row; an outage of the store costs none.
//! - Memory, retries, each write and the shutdown are bounded.
//!
//! # Map
//!
//! | module | holds |
//! |---|---|
//! | `coordinator`, `builder` | [`WriteCoordinator`] and how it is set up |
//! | `queue` | [`BoundedQueue`]: records, leases, books, watermarks |
//! | `durable` | [`DurableQueue`]: records on the disk before they are in memory |
//! | `worker` | batches, attempts, isolation of bad rows |
//! | `retry`, `breaker`, `scaler` | [`RetryPolicy`], [`CircuitBreaker`], [`WorkerScaler`] |
//! | `attempts`, `budget` | what single attempts did, and how many of them may be retries |
//! | `supervisor` | keeps workers alive, probes an open circuit |
//! | `letters`, [`dead_letter`] | records that were given up |
//! | `feedback` | [`FeedbackBus`]: pressure, told to producers |
//! | `metrics` | [`Metrics`]: what Prometheus sees |

mod attempts;
mod breaker;
mod budget;
mod builder;
mod context;
mod coordinator;
pub mod dead_letter;
mod durable;
mod feedback;
mod health;
mod letters;
mod log;
mod metrics;
mod overflow;
mod queue;
mod retry;
mod scaler;
mod supervisor;
mod worker;

pub use breaker::{CircuitBreaker, CircuitOpenError, CircuitState, Permit};
pub use builder::{ConfigError, CoordinatorBuilder};
pub use coordinator::{SubmitManyError, WriteCoordinator};
pub use dead_letter::{DeadLetterQueue, DlqRecord, Reason};
pub use durable::{
    ClockError, ClockStart, Codec, DurableClock, DurableOptions, DurableQueue, DurableTotals,
    fate_of, waiting_records,
};
pub use feedback::{CallbackGuard, FeedbackBus, FeedbackSubscriber, feedback_bus};
pub use health::{CoordinatorHealth, Degraded, FlushReport, StopReport, Unreadable};
pub use letters::{Cause, DeadLetters, DescribeFn, DropCallback};
pub use metrics::{Exposition, Metrics};
pub use overflow::{OverflowStrategy, OverflowStrategyError, QueueFullError, Refusal, SubmitError};
pub use queue::{BoundedQueue, ByReason, Fate, FateCallback, Lease, QueueOptions, Stats};
pub use retry::{RetryPolicy, default_retry_classifier};
pub use scaler::{Sample, ScaleReason, TICK, WorkerScaler};

pub use mds_wal::{FsyncPolicy, OpenError, Recovery, WalStats};

pub use mds_core::{
    BackpressureLevel, Batch, ErrorKind, FeedbackEvent, RowOutcome, Sink, SinkError, WriteReport,
};
