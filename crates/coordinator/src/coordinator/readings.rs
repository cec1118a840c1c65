//! What can be asked of a coordinator without changing anything in it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mds_core::FeedbackEvent;
use mds_wal::WalStats;

use super::WriteCoordinator;
use crate::breaker::CircuitState;
use crate::context::Phase;
use crate::health::{CoordinatorHealth, Degraded};
use crate::queue::Stats;
use crate::scaler::ScaleReason;

impl<T: Send + Sync + 'static> WriteCoordinator<T> {
    /// The state at a glance.
    pub fn health(&self) -> CoordinatorHealth {
        CoordinatorHealth {
            workers_alive: self.context.workers_alive.load(Ordering::Relaxed),
            queue_size: usize::try_from(self.context.queue.queued()).unwrap_or(usize::MAX),
            capacity: self.context.queue.capacity(),
            circuit_state: self.context.circuit(),
        }
    }

    /// Why it is not at its best; empty if it is.
    pub fn degraded(&self) -> Vec<Degraded> {
        let context = &self.context;
        let error = || self.last_error();
        let mut reasons = Vec::new();
        if context.circuit() != CircuitState::Closed {
            reasons.push(Degraded::CircuitOpen { error: error() });
        }
        if context.breaker.is_none() && context.failing_for().is_some() {
            reasons.push(Degraded::WritesFailing { error: error() });
        }
        if context.fatal.load(Ordering::Relaxed) {
            reasons.push(Degraded::Fatal { error: error() });
        }
        if context.letters.failing.load(Ordering::Relaxed) {
            reasons.push(Degraded::DeadLettersFailing);
        }
        if let Some(durable) = &context.durable {
            let errors = durable.errors();
            reasons.extend(errors.map(|error| Degraded::DurableQueueFailing { error }));
        }
        let alive = context.workers_alive.load(Ordering::Relaxed);
        let wanted = context.worker_limit();
        if alive < wanted && context.phase() == Phase::Running {
            reasons.push(Degraded::WorkersMissing { alive, wanted });
        }
        reasons
    }

    /// What the latest failed attempt said, whatever came after it.
    pub fn last_error(&self) -> Option<String> {
        self.context
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How long attempts have failed with none in between that the store answered; `None` while it
    /// answers. Unlike the circuit's state it does not depend on how many failures open the
    /// circuit, and a check that says yes while writes fail does not end it.
    pub fn failing_for(&self) -> Option<Duration> {
        self.context.failing_for()
    }

    /// How long the circuit keeps writes from the store yet, at most: a check of the sink that succeeds
    /// ends it earlier. Zero while a write may pass to see whether the store is back; `None` while the
    /// circuit is closed, or where there is none. It is the time after which it is worth trying again.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use mds_coordinator::{
    ///     Batch, CircuitBreaker, ErrorKind, Sink, SinkError, WriteCoordinator, WriteReport,
    /// };
    ///
    /// struct Away;
    /// impl Sink<u32> for Away {
    ///     fn name(&self) -> &str {
    ///         "away"
    ///     }
    ///     async fn write(&self, batch: Batch<u32>) -> WriteReport {
    ///         let error = SinkError::new(ErrorKind::Environment, "away", "no store");
    ///         WriteReport::failed(batch.len(), error)
    ///     }
    /// }
    ///
    /// let coordinator = WriteCoordinator::builder(Away)
    ///     .flush_interval(Duration::ZERO)
    ///     .circuit_breaker(CircuitBreaker::new(1, Duration::from_secs(60)))
    ///     .start()
    ///     .unwrap();
    /// assert_eq!(coordinator.circuit_retry_in(), None);
    /// coordinator.submit(7).await.unwrap();
    /// tokio::time::sleep(Duration::from_secs(10)).await;
    /// assert_eq!(coordinator.circuit_retry_in().unwrap().as_secs(), 50);
    /// # });
    /// ```
    pub fn circuit_retry_in(&self) -> Option<Duration> {
        self.context.breaker.as_ref()?.retry_in()
    }

    /// One cut through the books.
    pub fn stats(&self) -> Stats {
        self.context.queue.stats()
    }

    /// The pressure now, in the form of an event: what a subscriber of the feedback bus that comes
    /// late has to know. It is of one cut, its level is that of the latest crossing, and its reason is
    /// `snapshot`. Subscribe first and ask then, and no crossing is missed.
    ///
    /// On a durable queue, `queue_size` counts the records on the disk too, and `capacity` says how
    /// many there may be before its bytes are used up, by what records took so far; it moves with
    /// their size. It is never below `queue_size`, nor below 1.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use mds_coordinator::{BackpressureLevel, Batch, Sink, WriteCoordinator, WriteReport};
    ///
    /// /// Takes its time.
    /// struct Slow;
    /// impl Sink<u32> for Slow {
    ///     fn name(&self) -> &str {
    ///         "slow"
    ///     }
    ///     async fn write(&self, _: Batch<u32>) -> WriteReport {
    ///         std::future::pending().await
    ///     }
    /// }
    ///
    /// let coordinator = WriteCoordinator::builder(Slow).capacity(10).coord_id("bars").start().unwrap();
    /// for n in 0..8 {
    ///     coordinator.submit(n).await.unwrap();
    /// }
    /// let pressure = coordinator.pressure();
    /// assert_eq!((pressure.queue_size, pressure.capacity), (8, 10));
    /// assert_eq!(pressure.level, BackpressureLevel::Hard);
    /// assert_eq!(pressure.reason.as_deref(), Some("snapshot"));
    /// # });
    /// ```
    pub fn pressure(&self) -> FeedbackEvent {
        self.context.queue.pressure()
    }

    /// Workers that may run now.
    pub fn worker_limit(&self) -> usize {
        self.context.worker_limit()
    }

    /// Why [`Self::worker_limit`] moved the last time.
    pub fn worker_limit_reason(&self) -> ScaleReason {
        self.context.scaling().reason
    }

    /// Figures of the durable queue, where there is one.
    pub fn durable_stats(&self) -> Option<WalStats> {
        let durable = self.context.durable.as_ref()?;
        Some(durable.queue.stats())
    }
}
