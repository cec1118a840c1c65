//! What the parts of one coordinator share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mds_core::{BackpressureLevel, ErrorKind, SinkError};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::breaker::{CircuitBreaker, CircuitState};
use crate::budget::RetryBudget;
use crate::durable::Durable;
use crate::letters::{Job, Letters};
use crate::log::log;
use crate::metrics::{CoordinatorMetrics, Families, ReasonLabels, Source};
use crate::overflow::Refusal;
use crate::queue::{BoundedQueue, RowMeta, Stats};
use crate::retry::RetryPolicy;
use crate::scaler::ScaleReason;

/// What a coordinator is told once, at its start.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) coord_id: String,
    pub(crate) retry_policy: RetryPolicy,
    pub(crate) write_timeout: Duration,
    pub(crate) max_age: Option<Duration>,
    pub(crate) workers: usize,
    pub(crate) workers_max: usize,
}

/// How far a coordinator is with stopping; only ever goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// Intake is closed; what is here is written.
    Draining,
    /// No write may be started any more; those under way may end.
    Ending,
    /// The workers are gone.
    Halted,
}

pub(crate) struct Context<T> {
    pub(crate) options: Options,
    pub(crate) queue: BoundedQueue<T>,
    /// What is below the queue, where its records are on the disk.
    pub(crate) durable: Option<Arc<Durable<T>>>,
    pub(crate) breaker: Option<CircuitBreaker>,
    pub(crate) metrics: CoordinatorMetrics,
    pub(crate) letters: Arc<Letters<T>>,
    pub(crate) jobs: mpsc::Sender<Vec<Job<T>>>,
    pub(crate) phase: Mutex<Phase>,
    pub(crate) phase_raised: Notify,
    /// Attempts begun: the number of the latest one.
    pub(crate) attempts: AtomicU64,
    /// The number of the latest attempt that gave at least one row its place in the store; see the
    /// proof in `worker`.
    pub(crate) last_success: AtomicU64,
    /// What single attempts did.
    pub(crate) tried: Attempts,
    pub(crate) budget: RetryBudget,
    pub(crate) worker_limit: AtomicUsize,
    /// The moves of the worker limit.
    pub(crate) scaling: Mutex<Scaling>,
    pub(crate) workers_alive: AtomicUsize,
    pub(crate) worker_restarts: AtomicU64,
    /// The latest write error, for health.
    pub(crate) last_error: Mutex<Option<String>>,
    /// Since when attempts have failed with none in between that the store answered.
    pub(crate) failing_since: Mutex<Option<Instant>>,
    /// The latest error was fatal, and no write has succeeded since.
    pub(crate) fatal: AtomicBool,
    /// What the last scrape has copied into the counters.
    pub(crate) published: Mutex<Published>,
}

/// Why the worker limit moved the last time, and how often for each reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scaling {
    pub(crate) reason: ScaleReason,
    pub(crate) moves: [u64; ScaleReason::ALL.len()],
}

#[derive(Debug, Default)]
pub(crate) struct Published {
    stats: Stats,
    retries: u64,
    retries_delayed: u64,
    worker_moves: [u64; ScaleReason::ALL.len()],
    circuit_opened: u64,
    worker_restarts: u64,
    callback_panics: u64,
}

impl<T> fmt::Debug for Context<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<T> Context<T> {
    pub(crate) fn worker_limit(&self) -> usize {
        self.worker_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn scaling(&self) -> Scaling {
        *self.scaling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why the limit is what it is, and that it moved if it did.
    pub(crate) fn note_scaling(&self, reason: ScaleReason, is_move: bool) {
        let mut scaling = self.scaling.lock().unwrap_or_else(PoisonError::into_inner);
        scaling.reason = reason;
        if is_move && let Some(moves) = scaling.moves.get_mut(reason as usize) {
            *moves += 1;
        }
    }

    /// Numbers an attempt that begins.
    pub(crate) fn begin_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of the latest attempt that has begun.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// The number of the latest attempt, by its beginning, that is known to have succeeded.
    pub(crate) fn last_success(&self) -> u64 {
        self.last_success.load(Ordering::Relaxed)
    }

    pub(crate) fn note_success(&self, attempt: u64) {
        self.last_success.fetch_max(attempt, Ordering::Relaxed);
        self.fatal.store(false, Ordering::Relaxed);
    }

    /// Notes whether the store answered an attempt, be it with a refusal.
    pub(crate) fn note_answer(&self, answered: bool) {
        let mut since = self.lock_failing_since();
        if answered {
            *since = None;
        } else {
            since.get_or_insert_with(Instant::now);
        }
    }

    pub(crate) fn failing_for(&self) -> Option<Duration> {
        self.lock_failing_since().map(|since| since.elapsed())
    }

    fn lock_failing_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a write may still be started.
    pub(crate) fn may_write(&self) -> bool {
        self.phase() < Phase::Ending
    }

    /// Raises the phase; never lowers it.
    pub(crate) fn raise(&self, phase: Phase) {
        let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        *now = phase.max(*now);
        drop(now);
        self.phase_raised.notify_waiters();
    }

    /// Waits for a phase. Cancel safe.
    pub(crate) async fn wait_for(&self, phase: Phase) {
        loop {
            // A plain `Notify` wakes in order; a watch channel would not, and a run of the
            // simulation could not be repeated.
            let raised = self.phase_raised.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if self.phase() >= phase {
                return;
            }
            raised.await;
        }
    }

    pub(crate) fn circuit(&self) -> CircuitState {
        self.breaker
            .as_ref()
            .map_or(CircuitState::Closed, CircuitBreaker::state)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.circuit() != CircuitState::Closed
    }

    pub(crate) fn note_error(&self, error: &SinkError) {
        let text = error.to_string();
        if error.kind() == ErrorKind::Fatal {
            self.fatal.store(true, Ordering::Relaxed);
        }
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Told once per change: an outage repeats the same error for as long as it lasts.
        let is_new = last.as_deref() != Some(text.as_str());
        if is_new {
            *last = Some(text.clone());
        }
        drop(last);
        if is_new {
            let coord_id = &self.options.coord_id;
            log(|| tracing::warn!(%coord_id, error = %text, "write attempt failed"));
        }
    }

    /// The latest error, where no write has succeeded since.
    pub(crate) fn standing_error(&self) -> Option<String> {
        let is_failing =
            self.is_open() || self.failing_for().is_some() || self.fatal.load(Ordering::Relaxed);
        let last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.clone().filter(|_| is_failing)
    }

    pub(crate) fn observe_latency<'a>(&self, rows: impl Iterator<Item = &'a RowMeta>) {
        let now = self.queue.now();
        // Rows of one submit share their moment: one observation per row, one computation per run.
        let mut last = (u64::MAX, 0.0);
        for row in rows {
            if row.enqueued != last.0 {
                let age = Duration::from_nanos(now.saturating_sub(row.enqueued));
                last = (row.enqueued, age.as_secs_f64());
            }
            self.metrics.written_latency.observe(last.1);
        }
    }
}

impl<T: Send + Sync + 'static> Context<T> {
    /// Hands records to the writer of dead letters, or drops them where there is none.
    pub(crate) async fn give_up(&self, job: Job<T>) {
        if self.letters.sink.is_none() {
            self.letters.drop_rows(&job);
        } else if let Err(unsent) = self.jobs.send(vec![job]).await {
            // The writer ends only with the coordinator; then `stop` has taken the rows.
            drop(unsent);
        }
    }
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl<T: Send + Sync + 'static> Source for Context<T> {
    fn publish(&self, families: &Families) {
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: an older cut published after a newer one would be counted twice.
        let stats = self.queue.stats();
        self.publish_counters(families, &stats, &mut published);
        drop(published);
        self.publish_gauges(families, &stats);
    }
}

impl<T: Send + Sync + 'static> Context<T> {
    fn labels(&self) -> crate::metrics::CoordLabels {
        crate::metrics::CoordLabels {
            coord_id: self.options.coord_id.clone(),
        }
    }

    fn publish_counters(&self, families: &Families, stats: &Stats, last: &mut Published) {
        let labels = self.labels();
        let before = std::mem::replace(&mut last.stats, *stats);
        let add = |family: &crate::metrics::CounterFamily, now: u64, was: u64| {
            family
                .get_or_create(&labels)
                .inc_by(now.saturating_sub(was));
        };
        add(&families.submitted, stats.submitted, before.submitted);
        add(&families.recovered, stats.recovered, before.recovered);
        add(&families.written, stats.written, before.written);
        add(&families.superseded, stats.superseded, before.superseded);
        add(&families.damaged, stats.damaged, before.damaged);
        add(&families.conflicts, stats.conflicts, before.conflicts);
        let reason = |reason: &'static str| ReasonLabels {
            coord_id: self.options.coord_id.clone(),
            reason,
        };
        for (why, rows) in stats.dropped.iter() {
            let counter = families.dropped.get_or_create(&reason(why.as_str()));
            counter.inc_by(rows - before.dropped.get(why));
        }
        for (why, rows) in stats.dead_lettered.iter() {
            let counter = families.dead_lettered.get_or_create(&reason(why.as_str()));
            counter.inc_by(rows - before.dead_lettered.get(why));
        }
        for (i, why) in Refusal::ALL.into_iter().enumerate() {
            let counter = families.refused.get_or_create(&reason(why.as_str()));
            counter.inc_by(stats.refused[i] - before.refused[i]);
        }
        let opened = self
            .breaker
            .as_ref()
            .map_or(0, CircuitBreaker::opened_total);
        add(
            &families.circuit_opened,
            opened,
            std::mem::replace(&mut last.circuit_opened, opened),
        );
        let restarts = self.worker_restarts.load(Ordering::Relaxed);
        let was = std::mem::replace(&mut last.worker_restarts, restarts);
        add(&families.worker_restarts, restarts, was);
        let retries = self.tried.retries();
        let was = std::mem::replace(&mut last.retries, retries);
        add(&families.retries, retries, was);
        let delayed = self.budget.delayed();
        let was = std::mem::replace(&mut last.retries_delayed, delayed);
        add(&families.retries_delayed, delayed, was);
        let moves = self.scaling().moves;
        let was = std::mem::replace(&mut last.worker_moves, moves);
        let moves = ScaleReason::ALL.into_iter().zip(moves.into_iter().zip(was));
        // The first is the reason of no move.
        for (why, (now, was)) in moves.skip(1) {
            let counter = families.worker_moves.get_or_create(&reason(why.as_str()));
            counter.inc_by(now.saturating_sub(was));
        }
        let panics = self.letters.callback_panics.load(Ordering::Relaxed);
        let panics = panics + self.queue.fate_panics();
        let was = std::mem::replace(&mut last.callback_panics, panics);
        add(&families.callback_panics, panics, was);
    }

    fn publish_gauges(&self, families: &Families, stats: &Stats) {
        let labels = self.labels();
        let set = |family: &crate::metrics::GaugeFamily, value: i64| {
            family.get_or_create(&labels).set(value);
        };
        set(&families.queue_depth, count(stats.queued));
        set(&families.in_flight, count(stats.in_flight));
        set(&families.queue_bytes, count(stats.queued_bytes));
        set(&families.capacity, count(self.queue.capacity() as u64));
        set(
            &families.workers_alive,
            count(self.workers_alive.load(Ordering::Relaxed) as u64),
        );
        set(&families.worker_limit, count(self.worker_limit() as u64));
        let why = self.scaling().reason;
        for reason in ScaleReason::ALL {
            let labels = ReasonLabels {
                coord_id: self.options.coord_id.clone(),
                reason: reason.as_str(),
            };
            let gauge = families.worker_limit_reason.get_or_create(&labels);
            gauge.set(i64::from(reason == why));
        }
        set(&families.circuit_state, self.circuit().as_gauge());
        let level = match stats.level {
            BackpressureLevel::Ok => 0,
            BackpressureLevel::Soft => 1,
            BackpressureLevel::Hard => 2,
        };
        set(&families.backpressure_level, level);
        let bytes = self.letters.sink.as_ref().map_or(0, |sink| sink.bytes());
        set(&families.dead_letter_bytes, count(bytes));
        let failing = self.letters.failing.load(Ordering::Relaxed);
        set(&families.dead_letters_failing, i64::from(failing));
        let durable = self.durable.as_ref();
        let (used, limit) = durable.map_or((0, 0), |d| d.queue.wal.bytes_in_use());
        set(&families.durable_bytes, count(used));
        set(&families.durable_max_bytes, count(limit));
        let failing = durable.is_some_and(|durable| durable.errors().next().is_some());
        set(&families.durable_failing, i64::from(failing));
        // There from the beginning, with nothing in it, as all others are.
        drop(families.fsync_latency.get_or_create(&labels));
        let age = stats.oldest_age.map_or(0.0, |age| age.as_secs_f64());
        families.oldest_age.get_or_create(&labels).set(age);
    }
}
