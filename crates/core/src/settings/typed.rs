//! Settings as structs, for the code that uses them.

use std::time::Duration;

use super::load::Settings;
use super::table;
use super::value::SecretUrl;

/// How a write coordinator runs.
///
/// The first twelve fields have the names and defaults that programs know from the environment;
/// times are in the unit of their name, as a person wrote them, and as [`Duration`]s from the
/// methods.
///
/// ```
/// use mds_core::settings::CoordinatorRuntimeSettings;
///
/// let defaults = CoordinatorRuntimeSettings::default();
/// assert_eq!(defaults.coordinator_capacity, 10_000);
/// assert_eq!(defaults.coordinator_high_watermark, 8_000);
/// assert_eq!(defaults.flush_interval().as_millis(), 250);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CoordinatorRuntimeSettings {
    /// Records that wait in memory at most. Default: 10 000.
    pub coordinator_capacity: usize,
    /// Workers. Default: 4.
    pub coordinator_workers: usize,
    /// Records a batch. Default: 500.
    pub coordinator_batch_size: usize,
    /// Seconds that an unfilled batch waits. Default: 0.25.
    pub coordinator_flush_interval: f64,
    /// Attempts a batch. Default: 5.
    pub retry_max_attempts: u32,
    /// Milliseconds after the first failed attempt. Default: 50.
    pub retry_initial_backoff_ms: u64,
    /// The longest wait between attempts, milliseconds. Default: 2000.
    pub retry_max_backoff_ms: u64,
    /// Growth of the wait. Default: 2.
    pub retry_backoff_multiplier: f64,
    /// Whether waits are shortened at random. Default: true.
    pub retry_jitter: bool,
    /// Failures in a row that open the circuit. Default: 5.
    pub cb_failure_threshold: u32,
    /// Seconds that the circuit stays open at most. Default: 60.
    pub cb_half_open_after_sec: f64,
    /// Seconds that a gauge may be stale. Default: 0.25.
    pub metrics_queue_poll_sec: f64,
    /// Bytes that wait in memory at most. Default: 64 MiB.
    pub coordinator_max_bytes: usize,
    /// Workers that the pool may grow to. Default: `coordinator_workers`.
    pub coordinator_workers_max: usize,
    /// Queued records at which the level is hard. Default: 0.8 of the capacity.
    pub coordinator_high_watermark: usize,
    /// Queued records at which the level is ok again. Default: 0.5 of the capacity.
    pub coordinator_low_watermark: usize,
    /// `block`, `drop_oldest` or `error`. Default: `block`.
    pub coordinator_overflow_strategy: &'static str,
    /// Seconds that one attempt to write may take. Default: 30.
    pub write_timeout_sec: f64,
    /// Retries for a hundred first attempts, beside ten a second. Default: 20.
    pub retry_budget_percent: f64,
}

impl CoordinatorRuntimeSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        let size = |row| usize::try_from(settings.int(row)).unwrap_or(usize::MAX);
        let small = |row| u32::try_from(settings.int(row)).unwrap_or(u32::MAX);
        Self {
            coordinator_capacity: size(&table::COORDINATOR_CAPACITY),
            coordinator_workers: size(&table::COORDINATOR_WORKERS),
            coordinator_batch_size: size(&table::COORDINATOR_BATCH_SIZE),
            coordinator_flush_interval: settings.float(&table::COORDINATOR_FLUSH_INTERVAL),
            retry_max_attempts: small(&table::RETRY_MAX_ATTEMPTS),
            retry_initial_backoff_ms: settings.int(&table::RETRY_INITIAL_BACKOFF_MS),
            retry_max_backoff_ms: settings.int(&table::RETRY_MAX_BACKOFF_MS),
            retry_backoff_multiplier: settings.float(&table::RETRY_BACKOFF_MULTIPLIER),
            retry_jitter: settings.bool(&table::RETRY_JITTER),
            cb_failure_threshold: small(&table::CB_FAILURE_THRESHOLD),
            cb_half_open_after_sec: settings.float(&table::CB_HALF_OPEN_AFTER_SEC),
            metrics_queue_poll_sec: settings.float(&table::METRICS_QUEUE_POLL_SEC),
            coordinator_max_bytes: size(&table::COORDINATOR_MAX_BYTES),
            coordinator_workers_max: size(&table::COORDINATOR_WORKERS_MAX),
            coordinator_high_watermark: size(&table::COORDINATOR_HIGH_WATERMARK),
            coordinator_low_watermark: size(&table::COORDINATOR_LOW_WATERMARK),
            coordinator_overflow_strategy: settings.choice(&table::COORDINATOR_OVERFLOW_STRATEGY),
            write_timeout_sec: settings.float(&table::WRITE_TIMEOUT_SEC),
            retry_budget_percent: settings.float(&table::RETRY_BUDGET_PERCENT),
        }
    }

    /// How long an unfilled batch waits.
    pub fn flush_interval(&self) -> Duration {
        seconds(self.coordinator_flush_interval)
    }

    /// How long the circuit stays open at most.
    pub fn half_open_after(&self) -> Duration {
        seconds(self.cb_half_open_after_sec)
    }

    /// How stale a gauge may be.
    pub fn metrics_poll(&self) -> Duration {
        seconds(self.metrics_queue_poll_sec)
    }

    /// How long one attempt to write may take.
    pub fn write_timeout(&self) -> Duration {
        seconds(self.write_timeout_sec)
    }
}

impl Default for CoordinatorRuntimeSettings {
    fn default() -> Self {
        defaults().coordinator()
    }
}

/// How producers are told about pressure.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackSettings {
    /// Whether crossings of the watermarks are published. Default: true.
    pub enable_feedback: bool,
    /// Whether events are also sent over HTTP. Default: false.
    pub enable_http_broadcast: bool,
    /// Where to. Default: nowhere.
    pub http_endpoint: Option<SecretUrl>,
    /// Whose pressure: the name of a coordinator, or `worst`. Default: each by itself.
    pub http_coordinator: Option<&'static str>,
    /// Seconds that one POST may take. Default: 2.5.
    pub http_timeout: f64,
    /// Repetitions of a failed POST. Default: 3.
    pub http_max_retries: u32,
    /// Seconds before the first repetition. Default: 0.5.
    pub http_backoff: f64,
}

impl FeedbackSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            enable_feedback: settings.bool(&table::FB_ENABLE_FEEDBACK),
            enable_http_broadcast: settings.bool(&table::FB_ENABLE_HTTP_BROADCAST),
            http_endpoint: settings.url(&table::FB_HTTP_ENDPOINT),
            http_coordinator: settings.word(&table::FB_HTTP_COORDINATOR),
            http_timeout: settings.float(&table::FB_HTTP_TIMEOUT),
            http_max_retries: u32::try_from(settings.int(&table::FB_HTTP_MAX_RETRIES))
                .unwrap_or(u32::MAX),
            http_backoff: settings.float(&table::FB_HTTP_BACKOFF),
        }
    }
}

impl Default for FeedbackSettings {
    fn default() -> Self {
        defaults().feedback()
    }
}

/// What is wanted of TimescaleDB; what is absent is left as it is in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimescaleSettings {
    /// `auto`, `on` or `off`. Default: `auto`.
    pub mode: &'static str,
    /// Days of a chunk.
    pub chunk_days: Option<u32>,
    /// Days after which a chunk is compressed; 0: never.
    pub compress_after_days: Option<u32>,
    /// Days after which a chunk is deleted; 0: never.
    pub retention_days: Option<u32>,
}

impl TimescaleSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        let days = |row| {
            let days = settings.int_if_set(row)?;
            Some(u32::try_from(days).unwrap_or(u32::MAX))
        };
        Self {
            mode: settings.choice(&table::TIMESCALE_MODE),
            chunk_days: days(&table::TIMESCALE_CHUNK_DAYS),
            compress_after_days: days(&table::TIMESCALE_COMPRESS_AFTER_DAYS),
            retention_days: days(&table::TIMESCALE_RETENTION_DAYS),
        }
    }
}

impl Default for TimescaleSettings {
    fn default() -> Self {
        defaults().timescale()
    }
}

fn defaults() -> Settings {
    match Settings::load(&super::SettingSources::default()) {
        Ok(loaded) => loaded.settings,
        Err(error) => unreachable!("the table's own defaults are wrong: {error}"),
    }
}

/// Seconds that the table's ranges let through: finite, not negative, at most a day.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}
