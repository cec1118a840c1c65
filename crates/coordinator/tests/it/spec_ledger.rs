//! The ledger of the specification "Phase 4.2B": every name, default, type, label, state and field
//! of it that this crate answers for, asserted one by one. `docs/spec-ledger.md` says where each
//! lives, and which other part answers for the rest.

use mds_coordinator::{
    BackpressureLevel, CircuitBreaker, CircuitOpenError, CircuitState, CoordinatorHealth,
    DlqRecord, Exposition, Metrics, OverflowStrategy, QueueFullError, QueueOptions, Refusal,
    RetryPolicy,
};
use mds_core::settings::{CoordinatorRuntimeSettings, SettingSources, SettingType, Settings, find};
use serde_json::Map;

use crate::metrics::{docs, scripted_run};
use crate::support::{FakeSink, builder, millis, secs, settled, submit_all};

/// Name, type, default and environment name of each setting, as the specification's table has it.
const SETTINGS: [(&str, &str, &str, &str); 12] = [
    (
        "coordinator_capacity",
        "int",
        "10000",
        "MDS_COORDINATOR_CAPACITY",
    ),
    ("coordinator_workers", "int", "4", "MDS_COORDINATOR_WORKERS"),
    (
        "coordinator_batch_size",
        "int",
        "500",
        "MDS_COORDINATOR_BATCH_SIZE",
    ),
    (
        "coordinator_flush_interval",
        "float",
        "0.25",
        "MDS_COORDINATOR_FLUSH_INTERVAL",
    ),
    ("retry_max_attempts", "int", "5", "MDS_RETRY_MAX_ATTEMPTS"),
    (
        "retry_initial_backoff_ms",
        "int",
        "50",
        "MDS_RETRY_INITIAL_BACKOFF_MS",
    ),
    (
        "retry_max_backoff_ms",
        "int",
        "2000",
        "MDS_RETRY_MAX_BACKOFF_MS",
    ),
    (
        "retry_backoff_multiplier",
        "float",
        "2.0",
        "MDS_RETRY_BACKOFF_MULTIPLIER",
    ),
    ("retry_jitter", "bool", "true", "MDS_RETRY_JITTER"),
    (
        "cb_failure_threshold",
        "int",
        "5",
        "MDS_CB_FAILURE_THRESHOLD",
    ),
    (
        "cb_half_open_after_sec",
        "float",
        "60.0",
        "MDS_CB_HALF_OPEN_AFTER_SEC",
    ),
    (
        "metrics_queue_poll_sec",
        "float",
        "0.25",
        "MDS_METRICS_QUEUE_POLL_SEC",
    ),
];

fn load(name: &str, value: &str) -> Result<Settings, String> {
    let env = [(name.to_owned(), value.to_owned())];
    let sources = SettingSources {
        env: &env,
        ..SettingSources::default()
    };
    Settings::load(&sources)
        .map(|l| l.settings)
        .map_err(|error| error.to_string())
}

#[test]
fn settings_have_the_names_types_and_defaults_of_the_specification() {
    let defaults = Settings::load(&SettingSources::default()).unwrap().settings;
    for (name, kind, default, env) in SETTINGS {
        let setting = find(name).unwrap_or_else(|| panic!("no setting {name}"));
        assert_eq!(setting.env, env);
        let ty = match setting.ty {
            SettingType::Int { .. } => "int",
            SettingType::Float { .. } => "float",
            SettingType::Bool => "bool",
            _ => "other",
        };
        assert_eq!(ty, kind, "{name}");
        assert_eq!(
            defaults.get(name).unwrap().value.to_string(),
            default,
            "{name}"
        );
    }
}

#[test]
fn settings_as_a_struct_have_the_defaults_of_the_specification() {
    let cfg = CoordinatorRuntimeSettings::default();
    assert_eq!(
        (cfg.coordinator_capacity, cfg.coordinator_workers),
        (10_000, 4)
    );
    assert_eq!(cfg.coordinator_batch_size, 500);
    assert_eq!(cfg.flush_interval(), millis(250));
    assert_eq!(
        (cfg.retry_max_attempts, cfg.retry_initial_backoff_ms),
        (5, 50)
    );
    assert_eq!((cfg.retry_max_backoff_ms, cfg.retry_jitter), (2_000, true));
    assert!((cfg.retry_backoff_multiplier - 2.0).abs() < f64::EPSILON);
    assert_eq!(
        (cfg.cb_failure_threshold, cfg.half_open_after()),
        (5, secs(60))
    );
    assert_eq!(cfg.metrics_poll(), millis(250));
}

#[test]
fn settings_are_read_from_the_environment() {
    let given = |name: &str, text: &str| match name {
        "retry_jitter" => ("false", "false".to_owned()),
        _ if text.contains('.') => ("3.5", "3.5".to_owned()),
        // Below the first backoff it would be refused.
        "retry_max_backoff_ms" => ("70", "70".to_owned()),
        _ => ("7", "7".to_owned()),
    };
    for (name, _, default, env) in SETTINGS {
        let (text, expected) = given(name, default);
        let settings = load(env, text).unwrap();
        assert_eq!(
            settings.get(name).unwrap().value.to_string(),
            expected,
            "{env}"
        );
    }
}

#[test]
fn a_bad_value_is_an_error_that_names_the_setting() {
    for (name, kind, _, env) in SETTINGS {
        let bad = if kind == "bool" { "perhaps" } else { "-1" };
        let error = load(env, bad).unwrap_err();
        for part in [name, env, bad] {
            assert!(error.contains(part), "{part:?} is missing in {error:?}");
        }
        let error = load(env, "many").unwrap_err();
        assert!(error.contains(name) && error.contains("many"), "{error}");
    }
}

#[test]
fn coordinator_parameters_have_the_defaults_of_the_settings() {
    let options = QueueOptions::default();
    assert_eq!((options.capacity, options.batch_size), (10_000, 500));
    assert_eq!(options.flush_interval, millis(250));
    assert_eq!(
        (options.high_watermark, options.low_watermark),
        (None, None)
    );
    assert_eq!(
        (options.overflow_strategy, options.coord_id.as_str()),
        (OverflowStrategy::Block, "default")
    );
    assert_eq!(
        ["block", "drop_oldest", "error"]
            .map(|s| s.parse::<OverflowStrategy>().unwrap().to_string()),
        ["block", "drop_oldest", "error"]
    );
}

#[test]
fn a_retry_policy_has_the_fields_and_defaults_of_the_specification() {
    let policy = RetryPolicy::default();
    let expected = RetryPolicy {
        max_attempts: 5,
        initial_backoff_ms: 50,
        max_backoff_ms: 2_000,
        backoff_multiplier: 2.0,
        jitter: true,
    };
    assert_eq!(policy, expected);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_takes_every_parameter_of_the_specification() {
    let cfg = CoordinatorRuntimeSettings::default();
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .capacity(cfg.coordinator_capacity)
        .workers(cfg.coordinator_workers)
        .batch_size(cfg.coordinator_batch_size)
        .flush_interval(cfg.flush_interval())
        .retry_policy(RetryPolicy {
            max_attempts: cfg.retry_max_attempts,
            initial_backoff_ms: cfg.retry_initial_backoff_ms,
            max_backoff_ms: cfg.retry_max_backoff_ms,
            backoff_multiplier: cfg.retry_backoff_multiplier,
            jitter: cfg.retry_jitter,
        })
        .circuit_breaker(CircuitBreaker::new(
            cfg.cb_failure_threshold,
            cfg.half_open_after(),
        ))
        .coord_id("production")
        .metrics_poll_sec(cfg.metrics_queue_poll_sec)
        .drop_callback(|_, _| ())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10_000).await;
    settled(&coordinator, secs(10)).await;
    assert_eq!(peek.rows(), 10_000);
}

/// Name, type and label names of each metric of the specification.
const METRICS: [(&str, &str, &[&str]); 10] = [
    ("mds_coord_items_submitted_total", "counter", &["coord_id"]),
    (
        "mds_coord_items_dropped_total",
        "counter",
        &["coord_id", "reason"],
    ),
    ("mds_coord_queue_depth", "gauge", &["coord_id"]),
    ("mds_coord_workers_alive", "gauge", &["coord_id"]),
    (
        "mds_worker_batches_written_total",
        "counter",
        &["coord_id", "worker_id"],
    ),
    (
        "mds_worker_write_errors_total",
        "counter",
        &["coord_id", "worker_id", "error_type"],
    ),
    (
        "mds_worker_write_latency_seconds",
        "histogram",
        &["coord_id", "worker_id"],
    ),
    ("mds_coord_circuit_state", "gauge", &["coord_id"]),
    ("sink_writes_total", "counter", &["sink", "status"]),
    ("sink_write_latency_seconds", "histogram", &["sink"]),
];

#[tokio::test(start_paused = true)]
async fn metrics_have_the_names_types_and_labels_of_the_specification() {
    let metrics = Metrics::new();
    let _running = scripted_run(&metrics).await;
    for exposition in [Exposition::Text, Exposition::OpenMetrics] {
        let text = metrics.encode(exposition);
        for (name, kind, labels) in METRICS {
            // OpenMetrics names a counter's family without the suffix of its series.
            let is_open = exposition == Exposition::OpenMetrics && kind == "counter";
            let family = if is_open {
                name.trim_end_matches("_total")
            } else {
                name
            };
            let declared = text
                .lines()
                .any(|line| line == format!("# TYPE {family} {kind}"));
            assert!(declared, "no line # TYPE {family} {kind}");
            let suffix = if kind == "histogram" { "_count" } else { "" };
            let series = text
                .lines()
                .find(|line| line.starts_with(&format!("{name}{suffix}{{")));
            let series = series.unwrap_or_else(|| panic!("no series of {name}"));
            let found = series.split_once('{').unwrap().1.split_once('}').unwrap().0;
            let found: Vec<_> = found
                .split(',')
                .map(|l| l.split_once('=').unwrap().0)
                .collect();
            assert_eq!(found, labels, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_four_queries_of_the_specification_find_series() {
    let metrics = Metrics::new();
    let _running = scripted_run(&metrics).await;
    let text = metrics.encode(Exposition::Text);
    for selector in [
        "mds_coord_items_submitted_total{coord_id=\"production\"}",
        "mds_worker_write_errors_total{coord_id=\"production\",worker_id=\"0\",error_type=\"transient\"}",
        "mds_coord_queue_depth{coord_id=\"production\"}",
        "mds_coord_circuit_state{coord_id=\"production\"}",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(selector)),
            "{selector} in:\n{text}"
        );
    }
}

/// A rate needs two points: the series is there, at zero, before the first error.
#[tokio::test(start_paused = true)]
async fn the_queries_find_series_before_anything_happened() {
    let metrics = Metrics::new();
    let (sink, _) = FakeSink::writing();
    let _coordinator = builder(sink).metrics(metrics.clone()).start().unwrap();
    let text = metrics.encode(Exposition::Text);
    for (name, kind, _) in METRICS {
        let suffix = if kind == "histogram" { "_count" } else { "" };
        let found = text
            .lines()
            .any(|line| line.starts_with(&format!("{name}{suffix}{{")));
        assert!(found, "no series of {name} at the start");
    }
}

#[test]
fn circuit_states_have_the_names_and_numbers_of_the_specification() {
    let states = [
        CircuitState::Closed,
        CircuitState::Open,
        CircuitState::HalfOpen,
    ];
    assert_eq!(
        states.map(CircuitState::as_str),
        ["closed", "open", "half_open"]
    );
    assert_eq!(states.map(CircuitState::as_gauge), [0, 1, 2]);
}

#[test]
fn backpressure_levels_and_refusals_have_their_names() {
    let levels = [
        BackpressureLevel::Ok,
        BackpressureLevel::Soft,
        BackpressureLevel::Hard,
    ];
    assert_eq!(
        levels.map(BackpressureLevel::as_str),
        ["ok", "soft", "hard"]
    );
    let refused = QueueFullError {
        item: 1,
        refusal: Refusal::QueueFull,
    };
    assert_eq!(
        refused.to_string(),
        "record refused: the queue is full; wait and submit again"
    );
    let open = CircuitOpenError {
        state: CircuitState::Open,
        retry_in: millis(1_500),
    };
    assert_eq!(
        open.to_string(),
        "circuit is open; the next probe is due in 1500 ms"
    );
}

#[test]
fn health_and_letters_have_the_fields_of_the_specification() {
    let CoordinatorHealth {
        workers_alive,
        queue_size,
        capacity,
        circuit_state,
    } = CoordinatorHealth {
        workers_alive: 4,
        queue_size: 342,
        capacity: 10_000,
        circuit_state: CircuitState::Closed,
    };
    assert_eq!((workers_alive, queue_size, capacity), (4, 342, 10_000));
    assert_eq!(circuit_state.to_string(), "closed");
    let DlqRecord {
        ts,
        error,
        metadata,
        items,
    } = DlqRecord {
        ts: 1.5,
        error: "e".to_owned(),
        metadata: Map::new(),
        items: vec![1],
    };
    assert_eq!(
        (ts.to_string(), error, metadata.len(), items),
        ("1.5".into(), "e".into(), 0, vec![1])
    );
}

/// Every test that the ledger names exists.
#[test]
fn the_ledger_names_tests_that_exist() {
    let text = std::fs::read_to_string(docs("spec-ledger.md")).unwrap();
    let root = docs("..");
    let mut named = 0;
    for word in text.split('`').filter(|word| word.contains(".rs::")) {
        let (path, name) = word.split_once("::").unwrap();
        let source = std::fs::read_to_string(root.join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let name = name.rsplit("::").next().unwrap();
        assert!(
            source.contains(&format!("fn {name}(")),
            "{path} has no {name}"
        );
        named += 1;
    }
    assert!(named >= 30, "the ledger names {named} tests only");
}
