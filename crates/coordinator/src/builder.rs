//! Setting up a coordinator.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use mds_core::{BackpressureLevel, FeedbackEvent, Sink};
use tokio::sync::{Notify, mpsc};

use crate::attempts::Attempts;
use crate::breaker::CircuitBreaker;
use crate::budget::RetryBudget;
use crate::context::{Context, Options, Phase};
use crate::coordinator::{Tasks, WriteCoordinator};
use crate::dead_letter::{LetterDraft, Reason};
use crate::durable::{self, Durable, DurableQueue};
use crate::feedback::{CallbackGuard, FeedbackBus, feedback_bus};
use crate::letters::{DeadLetters, DescribeFn, DropCallback, JOBS, Letters};
use crate::metrics::{CoordLabels, Metrics, Source};
use crate::overflow::OverflowStrategy;
use crate::queue::{BoundedQueue, Disk, Fate, OnFate, QueueOptions};
use crate::retry::RetryPolicy;
use crate::supervisor;

/// A coordinator cannot be started like this.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A parameter must be above zero.
    #[error("{name} must be at least 1")]
    Zero {
        /// The parameter.
        name: &'static str,
    },
    /// A time must be longer than nothing.
    #[error("{name} must be longer than zero")]
    NoTime {
        /// The parameter.
        name: &'static str,
    },
    /// Two parameters contradict each other.
    #[error("{low} = {low_value} must not be above {high} = {high_value}")]
    Order {
        /// The parameter that must be the smaller one.
        low: &'static str,
        /// Its value.
        low_value: usize,
        /// The parameter that must be the greater one.
        high: &'static str,
        /// Its value.
        high_value: usize,
    },
    /// A multiplier below 1 would shorten the backoff with each attempt.
    #[error("backoff_multiplier = {0} must be at least 1")]
    Multiplier(f64),
    /// A budget must be a number of retries.
    #[error("retry_budget_percent = {0} must be a number from 0 up")]
    Budget(f64),
}

type BackpressureFn = Box<dyn FnMut(&FeedbackEvent) + Send>;

/// Sets up and starts a [`WriteCoordinator`]; the methods are named like its parameters.
#[must_use = "a builder does nothing until `start`"]
pub struct CoordinatorBuilder<T, S> {
    sink: S,
    queue: QueueOptions,
    size_of: fn(&T) -> usize,
    workers: usize,
    workers_max: usize,
    retry_policy: RetryPolicy,
    retry_budget_percent: f64,
    circuit_breaker: Option<CircuitBreaker>,
    dead_letters: Option<Arc<dyn DeadLetters<T>>>,
    describe: Option<Arc<DescribeFn<T>>>,
    drop_callback: Option<Arc<DropCallback<T>>>,
    on_fate: Option<OnFate<T>>,
    on_high: Option<BackpressureFn>,
    on_low: Option<BackpressureFn>,
    write_timeout: Duration,
    max_age: Option<Duration>,
    durable: Option<DurableQueue<T>>,
    bus: FeedbackBus,
    metrics: Metrics,
}

impl<T, S> fmt::Debug for CoordinatorBuilder<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorBuilder")
            .field("queue", &self.queue)
            .field("workers", &self.workers)
            .field("retry_policy", &self.retry_policy)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static, S: Sink<T>> CoordinatorBuilder<T, S> {
    pub(crate) fn new(sink: S) -> Self {
        Self {
            sink,
            queue: QueueOptions::default(),
            size_of: |_| size_of::<T>(),
            workers: 4,
            workers_max: 0,
            retry_policy: RetryPolicy::default(),
            retry_budget_percent: 20.0,
            circuit_breaker: Some(CircuitBreaker::default()),
            dead_letters: None,
            describe: None,
            drop_callback: None,
            on_fate: None,
            on_high: None,
            on_low: None,
            write_timeout: Duration::from_secs(30),
            max_age: None,
            durable: None,
            bus: feedback_bus().clone(),
            metrics: Metrics::global().clone(),
        }
    }

    /// Records that may wait; at least 1. Default: 10,000.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.queue.capacity = capacity;
        self
    }

    /// Bytes that waiting records may take; at least 1. Default: 64 MiB.
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.queue.max_bytes = max_bytes;
        self
    }

    /// Tells the bytes that a record takes. Default: the size of its type.
    pub fn size_of(mut self, size_of: fn(&T) -> usize) -> Self {
        self.size_of = size_of;
        self
    }

    /// Workers, at least 1. Default: 4.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The upper end of the range of workers; 0 means `workers`. Default: 0.
    pub fn workers_max(mut self, workers_max: usize) -> Self {
        self.workers_max = workers_max;
        self
    }

    /// Records in a batch; at least 1. Default: 500.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.queue.batch_size = batch_size;
        self
    }

    /// How long a record may wait for its batch to fill; zero: not at all. Default: 0.25 s.
    pub fn flush_interval(mut self, flush_interval: Duration) -> Self {
        self.queue.flush_interval = flush_interval;
        self
    }

    /// Pressure is hard from this many waiting records on. Default: 0.8 of the capacity.
    pub fn high_watermark(mut self, records: usize) -> Self {
        self.queue.high_watermark = Some(records);
        self
    }

    /// Pressure is over at this many waiting records. Default: 0.5 of the capacity.
    pub fn low_watermark(mut self, records: usize) -> Self {
        self.queue.low_watermark = Some(records);
        self
    }

    /// What a full queue does. Default: block.
    pub fn overflow_strategy(mut self, strategy: OverflowStrategy) -> Self {
        self.queue.overflow_strategy = strategy;
        self
    }

    /// Called when pressure becomes hard, once until it is over again; in a task of its own.
    pub fn on_backpressure_high(mut self, f: impl FnMut(&FeedbackEvent) + Send + 'static) -> Self {
        self.on_high = Some(Box::new(f));
        self
    }

    /// Called when pressure is over after it was hard; in a task of its own.
    pub fn on_backpressure_low(mut self, f: impl FnMut(&FeedbackEvent) + Send + 'static) -> Self {
        self.on_low = Some(Box::new(f));
        self
    }

    /// Called for each record that overflowed or is dropped. It must not wait.
    pub fn drop_callback(mut self, f: impl Fn(&T, Reason) + Send + Sync + 'static) -> Self {
        self.drop_callback = Some(Arc::new(f));
        self
    }

    /// Called for each accepted record when it gets its fate, once: after the store's commit, after its
    /// letter is durable, after it is dropped. It runs where the record was settled, with no lock held,
    /// and must not wait. A panic in it is caught and counted. Every call has been made when
    /// [`WriteCoordinator::stop`] returns; a flush may return a moment before the last ones.
    ///
    /// Records of a durable queue that come from an earlier process are told as well. Those that a
    /// stop leaves in it have no fate yet: theirs is told after the next start. Damaged ones are not
    /// told, since nobody can read them.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    /// use mds_coordinator::{Batch, Fate, RowOutcome, Sink, WriteCoordinator, WriteReport};
    ///
    /// struct Store;
    /// impl Sink<u32> for Store {
    ///     fn name(&self) -> &str {
    ///         "store"
    ///     }
    ///     async fn write(&self, batch: Batch<u32>) -> WriteReport {
    ///         let outcomes = batch.iter().map(|_| RowOutcome::Written).collect();
    ///         WriteReport { outcomes, conflicts: 0, error: None }
    ///     }
    /// }
    ///
    /// let told = Arc::new(Mutex::new(Vec::new()));
    /// let tell = Arc::clone(&told);
    /// let coordinator = WriteCoordinator::builder(Store)
    ///     .on_fate(move |row: &u32, fate| tell.lock().unwrap().push((*row, fate)))
    ///     .start()
    ///     .unwrap();
    /// coordinator.submit(7).await.unwrap();
    /// coordinator.stop(true, Duration::from_secs(10)).await;
    /// assert_eq!(*told.lock().unwrap(), [(7, Fate::Written)]);
    /// # });
    /// ```
    pub fn on_fate(mut self, f: impl Fn(&T, Fate) + Send + Sync + 'static) -> Self {
        self.on_fate = Some(OnFate::new(Box::new(f)));
        self
    }

    /// The limits of repetition.
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.retry_policy = policy;
        self
    }

    /// How many retries all workers together may make for a hundred first attempts, beside ten a
    /// second; a retry beyond waits. Default: 20.
    pub fn retry_budget_percent(mut self, percent: f64) -> Self {
        self.retry_budget_percent = percent;
        self
    }

    /// The circuit breaker, or `None` for none. Default: 5 failures, 60 s.
    pub fn circuit_breaker(mut self, breaker: impl Into<Option<CircuitBreaker>>) -> Self {
        self.circuit_breaker = breaker.into();
        self
    }

    /// Where records go that are given up. Default: nowhere; they are dropped and counted.
    pub fn dead_letters(mut self, letters: Arc<dyn DeadLetters<T>>) -> Self {
        self.dead_letters = Some(letters);
        self
    }

    /// Completes the letter of a record that is given up: its kind, its file and line.
    pub fn describe_letter(
        mut self,
        f: impl Fn(&T, &mut LetterDraft) + Send + Sync + 'static,
    ) -> Self {
        self.describe = Some(Arc::new(f));
        self
    }

    /// The name in metrics, letters and feedback events. Default: `default`.
    pub fn coord_id(mut self, coord_id: impl Into<String>) -> Self {
        self.queue.coord_id = coord_id.into();
        self
    }

    /// How stale a gauge may be, seconds. Gauges are computed at each scrape, so none ever is;
    /// accepted since existing programs set it.
    pub fn metrics_poll_sec(self, _seconds: f64) -> Self {
        self
    }

    /// The longest wait for one write; after it the write counts as failed, outcome unknown.
    /// Default: 30 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Records that waited longer are given up (`expired`). Default: never.
    pub fn max_age(mut self, max_age: impl Into<Option<Duration>>) -> Self {
        self.max_age = max_age.into();
        self
    }

    /// Keeps records on the disk until they have their fate: a submit then answers after a sync.
    /// `capacity` and `max_bytes` bound the window in memory, and the watermarks go by the bytes on
    /// the disk. Default: records are in memory only.
    pub fn durable_queue(mut self, queue: DurableQueue<T>) -> Self {
        self.durable = Some(queue);
        self
    }

    /// The bus on which watermark crossings are published. Default: that of the process.
    pub fn feedback_bus(mut self, bus: FeedbackBus) -> Self {
        self.bus = bus;
        self
    }

    /// The metrics to add to. Default: those of the process.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Starts the coordinator; must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: a parameter is zero, or two contradict each other.
    pub fn start(mut self) -> Result<WriteCoordinator<T>, ConfigError> {
        self.check()?;
        let own_bus = FeedbackBus::new();
        self.queue.buses = vec![own_bus.clone(), self.bus.clone()];
        let coord_id = self.queue.coord_id.clone();
        let options = Options {
            coord_id: coord_id.clone(),
            retry_policy: self.retry_policy,
            write_timeout: self.write_timeout,
            max_age: self.max_age,
            workers: self.workers,
            workers_max: self.workers_max.max(self.workers),
        };
        let durable = self
            .durable
            .map(|queue| Arc::new(Durable::new(queue, coord_id.clone())));
        let queue = window(self.queue, self.size_of, self.on_fate, durable.as_ref());
        let letters = Arc::new(Letters {
            queue: queue.clone(),
            coord_id: coord_id.clone(),
            sink: self.dead_letters,
            describe: self.describe,
            drop_callback: self.drop_callback,
            failing: AtomicBool::new(false),
            callback_panics: AtomicU64::new(0),
        });
        let (jobs, job_receiver) = mpsc::channel(JOBS);
        let context = Arc::new(Context {
            metrics: self.metrics.coordinator(&coord_id, self.sink.name()),
            tried: Attempts::default(),
            budget: RetryBudget::new(self.retry_budget_percent),
            worker_limit: AtomicUsize::new(options.workers),
            scaling: Mutex::default(),
            options,
            queue,
            durable,
            breaker: self.circuit_breaker,
            letters: Arc::clone(&letters),
            jobs,
            phase: Mutex::new(Phase::Running),
            phase_raised: Notify::new(),
            attempts: AtomicU64::new(0),
            last_success: AtomicU64::new(0),
            workers_alive: AtomicUsize::new(0),
            worker_restarts: AtomicU64::new(0),
            last_error: Mutex::default(),
            failing_since: Mutex::default(),
            fatal: AtomicBool::new(false),
            published: Mutex::default(),
        });
        let source: Arc<dyn Source> = Arc::<Context<T>>::clone(&context);
        self.metrics.add_source(Arc::downgrade(&source));
        let callbacks = watch_pressure(&own_bus, self.on_high, self.on_low);
        let refill = context.durable.as_ref().map(|durable| {
            begin(durable, &context);
            let (durable, queue) = (Arc::clone(durable), context.queue.clone());
            tokio::spawn(durable::refill(durable, queue))
        });
        let sink = Arc::new(self.sink);
        let tasks = Tasks {
            supervisor: tokio::spawn(supervisor::supervise(
                Arc::clone(&context),
                Arc::clone(&sink),
            )),
            prober: tokio::spawn(supervisor::probe(Arc::clone(&context), sink)),
            letters: tokio::spawn(letters.run(job_receiver)),
            refill,
            callbacks,
        };
        Ok(WriteCoordinator::new(context, tasks))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("workers", self.workers),
            ("capacity", self.queue.capacity),
            ("batch_size", self.queue.batch_size),
            ("max_bytes", self.queue.max_bytes),
            ("max_attempts", self.retry_policy.max_attempts as usize),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero { name });
        }
        let high = self.queue.high_watermark.unwrap_or(self.queue.capacity);
        let low = self.queue.low_watermark.unwrap_or(0);
        let workers_max = if self.workers_max == 0 {
            self.workers
        } else {
            self.workers_max
        };
        let ordered = [
            ("low_watermark", low, "high_watermark", high),
            ("high_watermark", high, "capacity", self.queue.capacity),
            ("workers", self.workers, "workers_max", workers_max),
        ];
        for (low, low_value, high, high_value) in ordered {
            if low_value > high_value {
                return Err(ConfigError::Order {
                    low,
                    low_value,
                    high,
                    high_value,
                });
            }
        }
        if self.write_timeout.is_zero() {
            return Err(ConfigError::NoTime {
                name: "write_timeout",
            });
        }
        // Not below 1, and a number.
        if self.retry_policy.backoff_multiplier.is_nan()
            || self.retry_policy.backoff_multiplier < 1.0
        {
            return Err(ConfigError::Multiplier(
                self.retry_policy.backoff_multiplier,
            ));
        }
        let percent = self.retry_budget_percent;
        if !(percent.is_finite() && percent >= 0.0) {
            return Err(ConfigError::Budget(percent));
        }
        Ok(())
    }
}

/// The queue in memory: all there is, or the window of what is on the disk.
fn window<T: Send + Sync + 'static>(
    options: QueueOptions,
    size_of: fn(&T) -> usize,
    on_fate: Option<OnFate<T>>,
    durable: Option<&Arc<Durable<T>>>,
) -> BoundedQueue<T> {
    let Some(durable) = durable else {
        return BoundedQueue::in_memory(options, size_of, on_fate);
    };
    // Weak: the threads of the disk hold the window.
    let (of_use, of_mean, of_ack, of_refill) = (
        Arc::downgrade(durable),
        Arc::downgrade(durable),
        Arc::downgrade(durable),
        Arc::downgrade(durable),
    );
    let disk = Disk {
        in_use: Box::new(move || {
            let stats = of_use.upgrade().map(|d| d.queue.wal.bytes_in_use());
            stats.unwrap_or((0, 1))
        }),
        record_bytes: Box::new(move || of_mean.upgrade()?.record_bytes()),
        settle: Box::new(move |ranges, fate| {
            if let Some(durable) = of_ack.upgrade() {
                for range in ranges {
                    durable.queue.wal.ack(range, durable::class_of(fate));
                }
            }
        }),
        refill: Box::new(move || {
            if let Some(durable) = of_refill.upgrade() {
                durable.refill.notify_one();
            }
        }),
    };
    let now = tokio::time::Instant::now();
    let born = now.checked_sub(durable.queue.oldest_age).unwrap_or(now);
    BoundedQueue::on_disk(options, size_of, on_fate, disk, born)
}

/// Takes over what an earlier process has left, and what comes in from now on.
fn begin<T: Send + Sync + 'static>(durable: &Arc<Durable<T>>, context: &Context<T>) {
    let recovery = durable.queue.recovery();
    context.queue.recover(recovery.records, recovery.damaged);
    let labels = CoordLabels {
        coord_id: context.options.coord_id.clone(),
    };
    let families = context.metrics.families();
    let latency = families.fsync_latency.get_or_create_owned(&labels);
    durable.attach(&context.queue, move |took| {
        latency.observe(took.as_secs_f64());
    });
}

/// Calls the two callbacks by turns: high once, then low once.
fn watch_pressure(
    bus: &FeedbackBus,
    on_high: Option<BackpressureFn>,
    on_low: Option<BackpressureFn>,
) -> Option<CallbackGuard> {
    if on_high.is_none() && on_low.is_none() {
        return None;
    }
    let (mut on_high, mut on_low) = (on_high, on_low);
    let mut pressed = false;
    Some(bus.subscribe_fn(move |event| {
        let callback = match event.level {
            BackpressureLevel::Hard if !pressed => {
                pressed = true;
                &mut on_high
            }
            BackpressureLevel::Ok if pressed => {
                pressed = false;
                &mut on_low
            }
            _ => return,
        };
        if let Some(callback) = callback {
            callback(event);
        }
    }))
}
