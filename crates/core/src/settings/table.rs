//! The table itself: one row a setting.
//!
//! Invariants, checked by tests: names, environment names and keys are unique; the environment
//! name is `MDS_` and the name in capitals; every default is a value that its own type accepts.

use std::fmt;

/// One setting, as the table describes it.
#[derive(Debug)]
pub struct Setting {
    /// The name in messages and in `config show`, such as `coordinator_capacity`.
    pub name: &'static str,
    /// The key in `mds.toml`, such as `coordinator.capacity`.
    pub key: &'static str,
    /// The environment name, read in any case.
    pub env: &'static str,
    /// A second environment name with the same meaning.
    pub env_alias: Option<&'static str>,
    /// The command-line flag that overrides everything else.
    pub flag: Option<&'static str>,
    /// What it holds and which values are allowed.
    pub ty: SettingType,
    /// What holds where nothing is set.
    pub default: SettingDefault,
    /// The unit of a number; empty where there is none.
    pub unit: &'static str,
    /// What it is, in one paragraph.
    pub doc: &'static str,
    /// What a greater or smaller value does.
    pub effect: &'static str,
    /// Where it belongs in the reference.
    pub group: SettingGroup,
}

/// What a setting holds and which values are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SettingType {
    /// A whole number, bounds included.
    Int {
        /// The smallest value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// A finite number, bounds included.
    Float {
        /// The smallest value.
        min: f64,
        /// The greatest value.
        max: f64,
    },
    /// True or false.
    Bool,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A UUID.
    Tenant,
    /// `HOST:PORT` to listen on.
    Address,
    /// A URL of one of these schemes.
    Url(&'static [&'static str]),
    /// Where records wait: `memory` or `disk:DIR`.
    Queue,
    /// The path of a file.
    Path,
}

impl SettingType {
    /// The name of the type in the reference.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Int { .. } => "int",
            Self::Float { .. } => "float",
            Self::Bool => "bool",
            Self::Choice(_) => "choice",
            Self::Tenant => "uuid",
            Self::Address => "address",
            Self::Url(_) => "url",
            Self::Queue => "queue",
            Self::Path => "path",
        }
    }
}

impl fmt::Display for SettingType {
    /// What is allowed, as it stands in an error after "use".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Float { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Bool => f.write_str("true or false (or 1/0, yes/no, on/off, t/f, y/n)"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Tenant => f.write_str("a UUID, such as 6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            Self::Address => f.write_str("ADDRESS:PORT, such as 127.0.0.1:8000"),
            Self::Url(schemes) => {
                for (i, scheme) in schemes.iter().enumerate() {
                    let separator = if i == 0 { "" } else { " or " };
                    let rest = if *scheme == "sqlite" {
                        ":PATH"
                    } else {
                        "://HOST/..."
                    };
                    write!(f, "{separator}{scheme}{rest}")?;
                }
                Ok(())
            }
            Self::Queue => f.write_str("memory or disk:DIR"),
            Self::Path => f.write_str("the path of a file"),
        }
    }
}

/// What holds where nothing is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingDefault {
    /// This value, written as a person would.
    Value(&'static str),
    /// A value that follows from other settings; the text says how.
    Derived(&'static str),
    /// No value; the text says what happens then.
    Absent(&'static str),
}

/// Where a setting belongs in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingGroup {
    /// Where data is kept and whose it is.
    Store,
    /// How large tables lie on a server that has TimescaleDB.
    Timescale,
    /// Queue, workers and batches.
    Coordinator,
    /// How a failed write is repeated.
    Retry,
    /// When writing pauses.
    CircuitBreaker,
    /// Letters that were given up.
    DeadLetters,
    /// What can be observed.
    Metrics,
    /// Telling producers about pressure.
    Feedback,
}

impl SettingGroup {
    /// All groups, in the order of the reference.
    pub const ALL: [Self; 8] = [
        Self::Store,
        Self::Timescale,
        Self::Coordinator,
        Self::Retry,
        Self::CircuitBreaker,
        Self::DeadLetters,
        Self::Metrics,
        Self::Feedback,
    ];

    /// The heading of the group.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Store => "Store",
            Self::Timescale => "TimescaleDB",
            Self::Coordinator => "Write coordinator",
            Self::Retry => "Retry",
            Self::CircuitBreaker => "Circuit breaker",
            Self::DeadLetters => "Dead letters",
            Self::Metrics => "Metrics and listening",
            Self::Feedback => "Backpressure feedback",
        }
    }
}

/// The setting called `name`.
pub fn find(name: &str) -> Option<&'static Setting> {
    TABLE.iter().copied().find(|s| s.name == name)
}

/// A row without the fields that most rows leave empty.
const fn row(
    group: SettingGroup,
    names: [&'static str; 3],
    ty: SettingType,
    default: SettingDefault,
    unit: &'static str,
    [doc, effect]: [&'static str; 2],
) -> Setting {
    let [name, key, env] = names;
    Setting {
        name,
        key,
        env,
        env_alias: None,
        flag: None,
        ty,
        default,
        unit,
        doc,
        effect,
        group,
    }
}

const fn with_flag(mut setting: Setting, flag: &'static str) -> Setting {
    setting.flag = Some(flag);
    setting
}

const fn with_alias(mut setting: Setting, alias: &'static str) -> Setting {
    setting.env_alias = Some(alias);
    setting
}

macro_rules! table {
    ($($id:ident = $row:expr;)+) => {
        $(pub(super) static $id: Setting = $row;)+

        /// Every setting, in the order of the reference.
        pub static TABLE: &[&Setting] = &[$(&$id),+];
    };
}

use SettingDefault::{Absent, Derived, Value};
use SettingGroup as G;
use SettingType as T;

/// The longest span that a setting in seconds takes: one day.
const DAY_SECONDS: f64 = 86_400.0;
/// One hour in milliseconds, the longest backoff.
const HOUR_MS: u64 = 3_600_000;
/// A hundred years.
const MAX_DAYS: u64 = 36_500;
/// One TiB, far above the memory of any machine that a queue is held in.
const MAX_QUEUE_BYTES: u64 = 1 << 40;

table! {
    STORE = with_alias(with_flag(row(
        G::Store,
        ["store", "store", "MDS_STORE"],
        T::Url(&["sqlite", "postgres", "postgresql"]),
        Value("sqlite:market.db"),
        "",
        ["Where market data is kept: a SQLite database in a file, or a PostgreSQL server.",
         "A relative path is taken from the working directory; a password may stand in PGPASSWORD or ~/.pgpass."],
    ), "--store"), "MDS_DSN");
    TENANT_ID = with_flag(row(
        G::Store,
        ["tenant_id", "tenant_id", "MDS_TENANT_ID"],
        T::Tenant,
        Value("00000000-0000-0000-0000-000000000001"),
        "",
        ["Whose records are written and read where a record or a command names no tenant.",
         "Records of different tenants never replace one another."],
    ), "--tenant");

    TIMESCALE_MODE = row(
        G::Timescale,
        ["timescale_mode", "timescale.mode", "MDS_TIMESCALE_MODE"],
        T::Choice(&["auto", "on", "off"]),
        Value("auto"),
        "",
        ["Whether bars and options are hypertables of TimescaleDB: auto where the database has the extension, on makes the extension, off never.",
         "Applied by `mds migrate`, and when tables are made; a table that is a hypertable stays one."],
    );
    TIMESCALE_CHUNK_DAYS = row(
        G::Timescale,
        ["timescale_chunk_days", "timescale.chunk_days", "MDS_TIMESCALE_CHUNK_DAYS"],
        T::Int { min: 1, max: MAX_DAYS },
        Absent("7 for a hypertable that is made, else as it is"),
        "days",
        ["How many days of rows a chunk of a hypertable holds; chunks that are there stay as they are.",
         "The newest chunks, with their indexes, should fit into memory."],
    );
    TIMESCALE_COMPRESS_AFTER_DAYS = row(
        G::Timescale,
        ["timescale_compress_after_days", "timescale.compress_after_days", "MDS_TIMESCALE_COMPRESS_AFTER_DAYS"],
        T::Int { min: 0, max: MAX_DAYS },
        Absent("as it is in the database, at first never"),
        "days",
        ["How old a chunk is when TimescaleDB compresses it; 0 stops that.",
         "Takes row security off the table, which TimescaleDB cannot compress with, and so needs that nobody but the owner has rights on it."],
    );
    TIMESCALE_RETENTION_DAYS = row(
        G::Timescale,
        ["timescale_retention_days", "timescale.retention_days", "MDS_TIMESCALE_RETENTION_DAYS"],
        T::Int { min: 0, max: MAX_DAYS },
        Absent("as it is in the database, at first never"),
        "days",
        ["How old a chunk is when TimescaleDB deletes it, with all its rows; 0 stops that.",
         "Deletes data: rows that are older than that and are written again are deleted again."],
    );

    COORDINATOR_CAPACITY = row(
        G::Coordinator,
        ["coordinator_capacity", "coordinator.capacity", "MDS_COORDINATOR_CAPACITY"],
        T::Int { min: 1, max: 100_000_000 },
        Value("10000"),
        "records",
        ["How many records wait in memory before the overflow strategy applies.",
         "More rides out longer pauses of the store and takes more memory; coordinator_max_bytes bounds that memory."],
    );
    COORDINATOR_MAX_BYTES = row(
        G::Coordinator,
        ["coordinator_max_bytes", "coordinator.max_bytes", "MDS_COORDINATOR_MAX_BYTES"],
        T::Int { min: 1_024, max: MAX_QUEUE_BYTES },
        Value("67108864"),
        "bytes",
        ["How many bytes of records wait in memory; whichever of this and coordinator_capacity is reached first counts.",
         "A single record that is larger is refused."],
    );
    COORDINATOR_WORKERS = with_flag(row(
        G::Coordinator,
        ["coordinator_workers", "coordinator.workers", "MDS_COORDINATOR_WORKERS"],
        T::Int { min: 1, max: 1_024 },
        Value("4"),
        "workers",
        ["How many workers take batches out of the queue and write them; the flag also takes a range, such as 1..8, which gives coordinator_workers_max its value too.",
         "An embedded store has one writer, so that more workers only overlap the preparation of batches."],
    ), "--workers");
    COORDINATOR_WORKERS_MAX = row(
        G::Coordinator,
        ["coordinator_workers_max", "coordinator.workers_max", "MDS_COORDINATOR_WORKERS_MAX"],
        T::Int { min: 1, max: 1_024 },
        Derived("coordinator_workers"),
        "workers",
        ["How far the pool of workers may grow while batches wait and added workers still raise throughput; it shrinks when they do not, when they are idle, and when the store slows down or fails.",
         "The default, the same as coordinator_workers, keeps the pool as it is. mds_coord_worker_limit_reason says why it moved last."],
    );
    COORDINATOR_BATCH_SIZE = row(
        G::Coordinator,
        ["coordinator_batch_size", "coordinator.batch_size", "MDS_COORDINATOR_BATCH_SIZE"],
        T::Int { min: 1, max: 1_000_000 },
        Value("500"),
        "records",
        ["How many records a worker writes at once; it writes when it has this many or when coordinator_flush_interval is over.",
         "Larger batches cost fewer commits; a batch that fails is repeated as a whole."],
    );
    COORDINATOR_FLUSH_INTERVAL = row(
        G::Coordinator,
        ["coordinator_flush_interval", "coordinator.flush_interval", "MDS_COORDINATOR_FLUSH_INTERVAL"],
        T::Float { min: 0.0, max: 3_600.0 },
        Value("0.25"),
        "seconds",
        ["How long the oldest record of an unfilled batch waits for company.",
         "0 writes whatever is there as soon as a worker is free: lowest delay, smallest batches."],
    );
    COORDINATOR_HIGH_WATERMARK = row(
        G::Coordinator,
        ["coordinator_high_watermark", "coordinator.high_watermark", "MDS_COORDINATOR_HIGH_WATERMARK"],
        T::Int { min: 1, max: 100_000_000 },
        Derived("0.8 x coordinator_capacity"),
        "records",
        ["At this many queued records the backpressure level becomes hard.",
         "Lower tells producers earlier to slow down."],
    );
    COORDINATOR_LOW_WATERMARK = row(
        G::Coordinator,
        ["coordinator_low_watermark", "coordinator.low_watermark", "MDS_COORDINATOR_LOW_WATERMARK"],
        T::Int { min: 0, max: 100_000_000 },
        Derived("0.5 x coordinator_capacity, and below coordinator_high_watermark"),
        "records",
        ["At or below this many queued records the level goes back to ok.",
         "The further below coordinator_high_watermark, the less often the level changes."],
    );
    COORDINATOR_OVERFLOW_STRATEGY = row(
        G::Coordinator,
        ["coordinator_overflow_strategy", "coordinator.overflow_strategy", "MDS_COORDINATOR_OVERFLOW_STRATEGY"],
        T::Choice(&["block", "drop_oldest", "error"]),
        Value("block"),
        "",
        ["What a full queue does with one more record: block makes the producer wait, drop_oldest gives up the oldest queued record, error refuses the new one.",
         "Only block loses nothing without help from the producer; what drop_oldest gives up becomes a dead letter."],
    );
    WRITE_TIMEOUT_SEC = row(
        G::Coordinator,
        ["write_timeout_sec", "write_timeout_sec", "MDS_WRITE_TIMEOUT_SEC"],
        T::Float { min: 0.1, max: DAY_SECONDS },
        Value("30"),
        "seconds",
        ["How long one attempt to write a batch may take before it counts as failed with an unknown outcome.",
         "Too short for a slow store repeats work that was about to succeed; repeating is harmless, but costs time."],
    );
    QUEUE = with_flag(row(
        G::Coordinator,
        ["queue", "queue", "MDS_QUEUE"],
        T::Queue,
        Value("memory"),
        "",
        ["Where records wait before they are written.",
         "memory: what is queued is lost when the process is killed; disk:DIR: a record is taken when it is synced, and written after the next start at the latest."],
    ), "--queue");
    QUEUE_MAX_BYTES = row(
        G::Coordinator,
        ["queue_max_bytes", "queue_max_bytes", "MDS_QUEUE_MAX_BYTES"],
        T::Int { min: 1 << 20, max: MAX_QUEUE_BYTES },
        Value("4294967296"),
        "bytes",
        ["How much of the disk the durable queue of one kind may use.",
         "The backpressure level follows it: hard from 80 percent on; where it is full, the overflow strategy decides."],
    );
    QUEUE_FSYNC = row(
        G::Coordinator,
        ["queue_fsync", "queue_fsync", "MDS_QUEUE_FSYNC"],
        T::Choice(&["group", "always"]),
        Value("group"),
        "",
        ["When the durable queue syncs: group once for all that has gathered, always once for each submit.",
         "Both answer after the sync; always is for measuring what grouping gains."],
    );

    RETRY_MAX_ATTEMPTS = row(
        G::Retry,
        ["retry_max_attempts", "retry.max_attempts", "MDS_RETRY_MAX_ATTEMPTS"],
        T::Int { min: 1, max: 1_000 },
        Value("5"),
        "attempts",
        ["How often a batch is tried before it is taken apart to find the records that fail alone.",
         "An unreachable store uses up no attempts: records wait for it."],
    );
    RETRY_INITIAL_BACKOFF_MS = row(
        G::Retry,
        ["retry_initial_backoff_ms", "retry.initial_backoff_ms", "MDS_RETRY_INITIAL_BACKOFF_MS"],
        T::Int { min: 0, max: HOUR_MS },
        Value("50"),
        "milliseconds",
        ["How long to wait after the first failed attempt.",
         "0 retries at once, which helps against a deadlock and hurts an overloaded store."],
    );
    RETRY_MAX_BACKOFF_MS = row(
        G::Retry,
        ["retry_max_backoff_ms", "retry.max_backoff_ms", "MDS_RETRY_MAX_BACKOFF_MS"],
        T::Int { min: 0, max: HOUR_MS },
        Value("2000"),
        "milliseconds",
        ["The longest wait between two attempts.",
         "Longer is gentler on a store in trouble and slower to notice that it is well again."],
    );
    RETRY_BACKOFF_MULTIPLIER = row(
        G::Retry,
        ["retry_backoff_multiplier", "retry.backoff_multiplier", "MDS_RETRY_BACKOFF_MULTIPLIER"],
        T::Float { min: 1.0, max: 100.0 },
        Value("2.0"),
        "",
        ["By how much the wait grows from one attempt to the next.",
         "1 keeps the wait at retry_initial_backoff_ms."],
    );
    RETRY_JITTER = row(
        G::Retry,
        ["retry_jitter", "retry.jitter", "MDS_RETRY_JITTER"],
        T::Bool,
        Value("true"),
        "",
        ["Whether a wait is shortened at random to between 50 and 100 % of its length.",
         "Keeps workers that failed together from coming back together."],
    );
    RETRY_BUDGET_PERCENT = row(
        G::Retry,
        ["retry_budget_percent", "retry.budget_percent", "MDS_RETRY_BUDGET_PERCENT"],
        T::Float { min: 0.0, max: 10_000.0 },
        Value("20.0"),
        "percent",
        ["How many retries all workers together may make for a hundred first attempts, beside ten a second that are always free.",
         "A retry beyond that waits, and no record is given up for it. Lower spares a store in trouble; 10000 is as good as no bound."],
    );

    CB_FAILURE_THRESHOLD = row(
        G::CircuitBreaker,
        ["cb_failure_threshold", "cb.failure_threshold", "MDS_CB_FAILURE_THRESHOLD"],
        T::Int { min: 1, max: 1_000_000 },
        Value("5"),
        "failures",
        ["How many failures in a row open the circuit, after which nothing is written but a probe.",
         "Lower spares a store in trouble earlier; records wait meanwhile and none is lost."],
    );
    CB_HALF_OPEN_AFTER_SEC = row(
        G::CircuitBreaker,
        ["cb_half_open_after_sec", "cb.half_open_after_sec", "MDS_CB_HALF_OPEN_AFTER_SEC"],
        T::Float { min: 0.001, max: DAY_SECONDS },
        Value("60.0"),
        "seconds",
        ["How long an open circuit stays open at most before one batch is tried.",
         "A store that offers a cheap check is asked sooner and more often than that."],
    );

    DLQ_PATH = with_flag(row(
        G::DeadLetters,
        ["dlq_path", "dlq_path", "MDS_DLQ_PATH"],
        T::Path,
        Absent(".dlq/KIND.ndjson in the working directory"),
        "",
        ["The file that records go to which the store refuses, together with the reason.",
         "One object a line, readable by people and by `mds dlq`."],
    ), "--dlq");

    METRICS_QUEUE_POLL_SEC = row(
        G::Metrics,
        ["metrics_queue_poll_sec", "metrics.queue_poll_sec", "MDS_METRICS_QUEUE_POLL_SEC"],
        T::Float { min: 0.001, max: 3_600.0 },
        Value("0.25"),
        "seconds",
        ["How stale a gauge of the queue may be when it is read.",
         "Counters are always exact."],
    );
    LISTEN = with_flag(row(
        G::Metrics,
        ["listen", "listen", "MDS_LISTEN"],
        T::Address,
        Absent("nothing is served"),
        "",
        ["The address that metrics are served on, as text for Prometheus, under /metrics.",
         "127.0.0.1:8000 is reachable from this machine only, :8000 on every interface."],
    ), "--metrics");

    FB_ENABLE_FEEDBACK = row(
        G::Feedback,
        ["fb_enable_feedback", "fb.enable_feedback", "MDS_FB_ENABLE_FEEDBACK"],
        T::Bool,
        Value("true"),
        "",
        ["Whether crossings of the watermarks are published to subscribers: to streams and the webhook.",
         "Switched off, a stream of `mds serve` gives readings alone, and nothing is sent."],
    );
    FB_ENABLE_HTTP_BROADCAST = row(
        G::Feedback,
        ["fb_enable_http_broadcast", "fb.enable_http_broadcast", "MDS_FB_ENABLE_HTTP_BROADCAST"],
        T::Bool,
        Value("false"),
        "",
        ["Whether `mds serve` sends the pressure to fb_http_endpoint too, which it needs.",
         "Other commands send nothing."],
    );
    FB_HTTP_ENDPOINT = row(
        G::Feedback,
        ["fb_http_endpoint", "fb.http_endpoint", "MDS_FB_HTTP_ENDPOINT"],
        T::Url(&["http", "https"]),
        Absent("nothing is sent"),
        "",
        ["Where the pressure is sent, one POST with a JSON body for each crossing of a watermark.",
         "A slow endpoint delays no write: only the newest state of a coordinator waits for it."],
    );
    FB_HTTP_COORDINATOR = row(
        G::Feedback,
        ["fb_http_coordinator", "fb.http_coordinator", "MDS_FB_HTTP_COORDINATOR"],
        T::Choice(&["bars", "options", "fundamentals", "news", "worst"]),
        Absent("each of them by itself"),
        "",
        ["Whose pressure is sent. worst: that of all as one, at the highest level of any of them.",
         "A receiver that does not look at coordinator_id needs one of these words: else options at \
          ok let go on what bars at hard have stopped."],
    );
    FB_HTTP_TIMEOUT = row(
        G::Feedback,
        ["fb_http_timeout", "fb.http_timeout", "MDS_FB_HTTP_TIMEOUT"],
        T::Float { min: 0.001, max: 3_600.0 },
        Value("2.5"),
        "seconds",
        ["How long one POST may take, from looking up the host to the answer.",
         "After that it counts as failed."],
    );
    FB_HTTP_MAX_RETRIES = row(
        G::Feedback,
        ["fb_http_max_retries", "fb.http_max_retries", "MDS_FB_HTTP_MAX_RETRIES"],
        T::Int { min: 0, max: 100 },
        Value("3"),
        "retries",
        ["How often a failed POST is repeated.",
         "After that the state of then is sent every 30 s, and at the next crossing."],
    );
    FB_HTTP_BACKOFF = row(
        G::Feedback,
        ["fb_http_backoff", "fb.http_backoff", "MDS_FB_HTTP_BACKOFF"],
        T::Float { min: 0.0, max: 3_600.0 },
        Value("0.5"),
        "seconds",
        ["The wait before the first repetition of a POST; it doubles each time, up to 30 s, and up to \
          half of it is left away by chance.",
         "0 repeats at once."],
    );
}
