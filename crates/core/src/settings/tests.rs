//! What loading settings promises, over all sources together.

use super::*;
use crate::ids::TenantId;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

fn load_env(pairs: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    Settings::load(&SettingSources {
        env: &env(pairs),
        ..SettingSources::default()
    })
}

fn load_toml(text: &str) -> Result<Loaded, SettingsError> {
    let toml = Some(SettingFile {
        name: "mds.toml",
        text,
    });
    Settings::load(&SettingSources {
        toml,
        ..SettingSources::default()
    })
}

fn load_dotenv(text: &str) -> Result<Loaded, SettingsError> {
    let dotenv = Some(SettingFile { name: ".env", text });
    Settings::load(&SettingSources {
        dotenv,
        ..SettingSources::default()
    })
}

fn messages(result: Result<Loaded, SettingsError>) -> Vec<String> {
    result
        .unwrap_err()
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn shown(settings: &Settings, name: &str) -> String {
    let found = settings.get(name).unwrap();
    format!("{} ({})", found.value, found.origin)
}

#[test]
fn the_table_is_consistent() {
    let mut names: Vec<&str> = TABLE
        .iter()
        .flat_map(|s| [Some(s.name), Some(s.env), s.env_alias, s.flag])
        .flatten()
        .collect();
    let mut keys: Vec<&str> = TABLE.iter().map(|s| s.key).collect();
    let (name_count, key_count) = (names.len(), keys.len());
    names.sort_unstable();
    names.dedup();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(
        (names.len(), keys.len()),
        (name_count, key_count),
        "a name is used twice"
    );
    for setting in TABLE {
        assert_eq!(setting.env, format!("MDS_{}", setting.name.to_uppercase()));
        assert_eq!(setting.key.replace('.', "_"), setting.name);
        assert!(
            !setting.doc.is_empty() && !setting.effect.is_empty(),
            "{}",
            setting.name
        );
        if let SettingDefault::Value(text) = setting.default {
            let value = parse::parse(&setting.ty, text);
            assert!(value.is_ok(), "{} = {text}: {value:?}", setting.name);
        }
    }
}

#[test]
fn the_twelve_names_of_the_original_have_its_defaults() {
    let loaded = Settings::load(&SettingSources::default()).unwrap();
    assert_eq!(loaded.warnings, []);
    for (name, value) in [
        ("coordinator_capacity", "10000"),
        ("coordinator_workers", "4"),
        ("coordinator_batch_size", "500"),
        ("coordinator_flush_interval", "0.25"),
        ("retry_max_attempts", "5"),
        ("retry_initial_backoff_ms", "50"),
        ("retry_max_backoff_ms", "2000"),
        ("retry_backoff_multiplier", "2.0"),
        ("retry_jitter", "true"),
        ("cb_failure_threshold", "5"),
        ("cb_half_open_after_sec", "60.0"),
        ("metrics_queue_poll_sec", "0.25"),
    ] {
        assert_eq!(
            shown(&loaded.settings, name),
            format!("{value} (default)"),
            "{name}"
        );
    }
}

#[test]
fn typed_settings_have_the_defaults_too() {
    let coordinator = CoordinatorRuntimeSettings::default();
    assert_eq!(coordinator.coordinator_max_bytes, 64 * 1024 * 1024);
    assert_eq!(coordinator.coordinator_workers_max, 4);
    assert_eq!(coordinator.coordinator_low_watermark, 5_000);
    assert_eq!(coordinator.coordinator_overflow_strategy, "block");
    assert_eq!(coordinator.write_timeout().as_secs(), 30);
    assert_eq!(coordinator.half_open_after().as_secs(), 60);
    assert_eq!(coordinator.metrics_poll().as_millis(), 250);
    let feedback = FeedbackSettings::default();
    assert_eq!(
        (feedback.enable_feedback, feedback.enable_http_broadcast),
        (true, false)
    );
    assert_eq!(
        (feedback.http_endpoint, feedback.http_max_retries),
        (None, 3)
    );
    assert_eq!(feedback.http_coordinator, None);
    let worst = load_env(&[("MDS_FB_HTTP_COORDINATOR", "Worst")]).unwrap();
    assert_eq!(worst.settings.feedback().http_coordinator, Some("worst"));
    assert_eq!(
        (
            feedback.http_timeout.to_bits(),
            feedback.http_backoff.to_bits()
        ),
        { (2.5_f64.to_bits(), 0.5_f64.to_bits()) }
    );
    let settings = Settings::load(&SettingSources::default()).unwrap().settings;
    assert_eq!(settings.store().to_string(), "sqlite:market.db");
    assert_eq!(settings.tenant_id(), TenantId::DEFAULT);
    assert_eq!(settings.queue(), QueueChoice::Memory);
    assert_eq!((settings.dlq_path(), settings.listen()), (None, None));
}

#[test]
fn the_first_source_that_has_a_value_wins() {
    let flags = [SettingFlag {
        flag: "--store",
        value: "sqlite:flag.db",
    }];
    let env = env(&[
        ("MDS_STORE", "sqlite:env.db"),
        ("MDS_COORDINATOR_WORKERS", "2"),
    ]);
    let dotenv = "MDS_COORDINATOR_WORKERS=3\nMDS_COORDINATOR_CAPACITY=30\n";
    let toml = "store = 'sqlite:t.db'\n[coordinator]\ncapacity = 40\nbatch_size = 50\n";
    let sources = SettingSources {
        flags: &flags,
        env: &env,
        dotenv: Some(SettingFile {
            name: ".env",
            text: dotenv,
        }),
        toml: Some(SettingFile {
            name: "mds.toml",
            text: toml,
        }),
    };
    let settings = Settings::load(&sources).unwrap().settings;
    assert_eq!(shown(&settings, "store"), "sqlite:flag.db (flag --store)");
    assert_eq!(
        shown(&settings, "coordinator_workers"),
        "2 (environment MDS_COORDINATOR_WORKERS)"
    );
    assert_eq!(shown(&settings, "coordinator_capacity"), "30 (.env:2)");
    assert_eq!(
        shown(&settings, "coordinator_batch_size"),
        "50 (mds.toml:4)"
    );
    assert_eq!(shown(&settings, "retry_jitter"), "true (default)");
}

#[test]
fn all_bad_values_are_told_at_once() {
    let env = env(&[
        ("MDS_COORDINATOR_WORKERS", "many"),
        ("MDS_RETRY_JITTER", " true "),
    ]);
    let sources = SettingSources {
        env: &env,
        dotenv: Some(SettingFile {
            name: ".env",
            text: "MDS_COORDINATOR_CAPACITY=0\n",
        }),
        toml: Some(SettingFile {
            name: "mds.toml",
            text: "[coordinator]\nbatch_size = -1\n",
        }),
        ..SettingSources::default()
    };
    let error = Settings::load(&sources).unwrap_err();
    assert_eq!(
        error.to_string(),
        "4 settings are wrong:\n  \
         coordinator_capacity = \"0\" (.env:1) is out of range; use a whole number from 1 to 100000000\n  \
         coordinator_workers = \"many\" (environment MDS_COORDINATOR_WORKERS) is not a whole number; \
         use a whole number from 1 to 1024\n  \
         coordinator_batch_size = \"-1\" (mds.toml:2) is out of range; \
         use a whole number from 1 to 1000000\n  \
         retry_jitter = \" true \" (environment MDS_RETRY_JITTER) is not true or false; \
         use true or false (or 1/0, yes/no, on/off, t/f, y/n)"
    );
}

#[test]
fn a_value_that_another_source_overrides_is_not_judged() {
    let env = env(&[("MDS_COORDINATOR_WORKERS", "2")]);
    let toml = Some(SettingFile {
        name: "mds.toml",
        text: "[coordinator]\nworkers = 'x'\n",
    });
    let sources = SettingSources {
        env: &env,
        toml,
        ..SettingSources::default()
    };
    assert_eq!(
        Settings::load(&sources)
            .unwrap()
            .settings
            .coordinator()
            .coordinator_workers,
        2
    );
}

#[test]
fn an_empty_value_is_an_error_and_not_the_default() {
    assert_eq!(
        messages(load_env(&[("MDS_STORE", "")])),
        [
            "store = \"\" (environment MDS_STORE) is empty; use sqlite:PATH or postgres://HOST/... \
          or postgresql://HOST/..."
        ]
    );
}

#[test]
fn environment_names_are_read_in_any_case_and_capitals_win() {
    let loaded = load_env(&[("mds_coordinator_workers", "7")]).unwrap();
    assert_eq!(
        shown(&loaded.settings, "coordinator_workers"),
        "7 (environment mds_coordinator_workers)"
    );
    for order in [
        [
            ("MDS_RETRY_MAX_ATTEMPTS", "3"),
            ("mds_retry_max_attempts", "9"),
        ],
        [
            ("mds_retry_max_attempts", "9"),
            ("MDS_RETRY_MAX_ATTEMPTS", "3"),
        ],
    ] {
        let loaded = load_env(&order).unwrap();
        assert_eq!(loaded.settings.coordinator().retry_max_attempts, 3);
    }
}

#[test]
fn an_unknown_name_is_a_warning_with_the_nearest_known_one() {
    let sources = SettingSources {
        env: &env(&[
            ("MDS_COORDINATOR_WORKER", "2"),
            ("MDS_SEED", "1"),
            ("PATH", "/bin"),
        ]),
        dotenv: Some(SettingFile {
            name: ".env",
            text: "OTHER=1\nMDS_XYZZY_PLUGH=1\n",
        }),
        toml: Some(SettingFile {
            name: "mds.toml",
            text: "coordinator_capacity = 5\n[retry]\nmax_atempts = 3\n",
        }),
        ..SettingSources::default()
    };
    let loaded = Settings::load(&sources).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "MDS_COORDINATOR_WORKER (environment MDS_COORDINATOR_WORKER) is not a setting and has \
             no effect; did you mean MDS_COORDINATOR_WORKERS?",
            "MDS_XYZZY_PLUGH (.env:2) is not a setting and has no effect",
            "coordinator_capacity (mds.toml:1) is not a setting and has no effect; did you mean \
             coordinator.capacity?",
            "retry.max_atempts (mds.toml:3) is not a setting and has no effect; did you mean \
             retry.max_attempts?",
        ]
    );
}

#[test]
fn a_name_set_twice_in_one_file_is_told() {
    let loaded = load_dotenv("MDS_STORE=sqlite:a.db\nMDS_STORE=sqlite:b.db\n").unwrap();
    assert_eq!(loaded.settings.store().to_string(), "sqlite:b.db");
    assert_eq!(
        loaded.warnings[0].to_string(),
        "MDS_STORE (.env:1) has no effect: line 2 sets it again"
    );
}

#[test]
fn the_second_name_of_the_store_means_the_same() {
    let loaded = load_env(&[("MDS_DSN", "sqlite:d.db")]).unwrap();
    assert_eq!(
        shown(&loaded.settings, "store"),
        "sqlite:d.db (environment MDS_DSN)"
    );
    assert!(load_env(&[("MDS_DSN", "sqlite:d.db"), ("MDS_STORE", "sqlite:d.db")]).is_ok());
    assert_eq!(
        messages(load_env(&[
            ("MDS_DSN", "sqlite:d.db"),
            ("MDS_STORE", "sqlite:s.db")
        ])),
        [
            "MDS_DSN and MDS_STORE in the environment are the same setting with different values; \
          keep one"
        ]
    );
}

#[test]
fn values_that_do_not_fit_together_name_both() {
    assert_eq!(
        messages(load_env(&[
            ("MDS_COORDINATOR_HIGH_WATERMARK", "20"),
            ("MDS_COORDINATOR_LOW_WATERMARK", "20"),
            ("MDS_COORDINATOR_CAPACITY", "10"),
            ("MDS_COORDINATOR_WORKERS_MAX", "2"),
            ("MDS_RETRY_MAX_BACKOFF_MS", "10"),
            ("MDS_FB_ENABLE_HTTP_BROADCAST", "yes"),
        ])),
        [
            "coordinator_low_watermark = 20 (environment MDS_COORDINATOR_LOW_WATERMARK) must be \
             below coordinator_high_watermark = 20 (environment MDS_COORDINATOR_HIGH_WATERMARK)",
            "coordinator_high_watermark = 20 (environment MDS_COORDINATOR_HIGH_WATERMARK) must be \
             at most coordinator_capacity = 10 (environment MDS_COORDINATOR_CAPACITY)",
            "coordinator_workers = 4 (default) must be at most coordinator_workers_max = 2 \
             (environment MDS_COORDINATOR_WORKERS_MAX)",
            "retry_initial_backoff_ms = 50 (default) must be at most retry_max_backoff_ms = 10 \
             (environment MDS_RETRY_MAX_BACKOFF_MS)",
            "fb_enable_http_broadcast = true (environment MDS_FB_ENABLE_HTTP_BROADCAST) needs \
             fb_http_endpoint; set MDS_FB_HTTP_ENDPOINT too",
        ]
    );
}

#[test]
fn a_derived_value_never_breaks_a_rule() {
    for (capacity, high, low) in [("1", 1, 0), ("2", 1, 0), ("3", 2, 1), ("100", 80, 50)] {
        let loaded = load_env(&[("MDS_COORDINATOR_CAPACITY", capacity)]).unwrap();
        let coordinator = loaded.settings.coordinator();
        assert_eq!(coordinator.coordinator_high_watermark, high, "{capacity}");
        assert_eq!(coordinator.coordinator_low_watermark, low, "{capacity}");
    }
    let loaded = load_env(&[("MDS_COORDINATOR_HIGH_WATERMARK", "100")]).unwrap();
    assert_eq!(loaded.settings.coordinator().coordinator_low_watermark, 99);
    let loaded = load_env(&[("MDS_COORDINATOR_WORKERS", "16")]).unwrap();
    assert_eq!(loaded.settings.coordinator().coordinator_workers_max, 16);
}

#[test]
fn the_flag_for_workers_takes_a_range() {
    let load = |value| {
        let flags = [SettingFlag {
            flag: "--workers",
            value,
        }];
        let env = [("MDS_COORDINATOR_WORKERS_MAX".to_owned(), "6".to_owned())];
        Settings::load(&SettingSources {
            flags: &flags,
            env: &env,
            ..SettingSources::default()
        })
    };
    for (value, workers, most) in [("1..8", 1, 8), ("2 .. 2", 2, 2), ("5", 5, 6)] {
        let coordinator = load(value).unwrap().settings.coordinator();
        let range = (
            coordinator.coordinator_workers,
            coordinator.coordinator_workers_max,
        );
        assert_eq!(range, (workers, most), "{value}");
    }
    assert_eq!(
        messages(load("8..2")),
        [
            "coordinator_workers = 8 (flag --workers) must be at most coordinator_workers_max = 2 \
             (flag --workers)"
        ]
    );
    assert_eq!(
        messages(load("0..x")),
        [
            "coordinator_workers = \"0\" (flag --workers) is out of range; use a whole number from 1 \
             to 1024",
            "coordinator_workers_max = \"x\" (flag --workers) is not a whole number; use a whole number \
             from 1 to 1024"
        ]
    );
}

#[test]
fn what_is_no_queue_is_refused_clearly() {
    assert_eq!(
        messages(load_env(&[("MDS_QUEUE", "disc:/var/lib/mds")])),
        [
            "queue = \"disc:/var/lib/mds\" (environment MDS_QUEUE) is not a kind of queue; use memory \
             or disk:DIR"
        ]
    );
}

#[test]
fn files_that_cannot_be_read_name_the_line() {
    assert_eq!(
        messages(load_dotenv("MDS_STORE='a\nb'\n")),
        [".env:1: a value over several lines is not supported"]
    );
    let syntax = messages(load_toml("store = 'a.db'\n[coordinator\n"));
    assert!(syntax[0].starts_with("mds.toml:2: "), "{syntax:?}");
    assert_eq!(
        messages(load_toml("[retry]\nmax_attempts = [1]\n")),
        ["mds.toml:2: retry.max_attempts is a list or a date; use a whole number from 1 to 1000"]
    );
}

#[test]
fn no_password_is_shown() {
    let url = "postgres://me:hunter2@db/market";
    let loaded = load_env(&[("MDS_STORE", url)]).unwrap();
    assert_eq!(loaded.settings.store().expose(), url);
    let everything = format!("{loaded:?} {}", shown(&loaded.settings, "store"));
    assert!(!everything.contains("hunter2"), "{everything}");
    assert!(everything.contains("postgres://me:***@db/market"));

    for pair in [
        ("MDS_STORE", "postgers://me:hunter2@db/market"),
        ("MDS_QUEUE", "nats://me:hunter2@db"),
        ("MDS_COORDINATOR_WORKERS", "postgres://me:hunter2@db/market"),
        ("MDS_FB_HTTP_ENDPOINT", "ftp://me:hunter2@h/"),
    ] {
        let error = load_env(&[pair]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    let toml = load_toml("store = 'postgres://me:hunter2@db/market\n").unwrap_err();
    assert!(!format!("{toml} {toml:?}").contains("hunter2"), "{toml}");
}

#[test]
fn what_is_wanted_of_timescaledb_is_left_as_it_is_where_nothing_is_set() {
    let unset = load_env(&[]).unwrap().settings.timescale();
    assert_eq!(unset, TimescaleSettings::default());
    assert_eq!(
        unset,
        TimescaleSettings {
            mode: "auto",
            chunk_days: None,
            compress_after_days: None,
            retention_days: None,
        }
    );
    let toml =
        "[timescale]\nmode = \"on\"\nchunk_days = 1\ncompress_after_days = 30\nretention_days = 0";
    assert_eq!(
        load_toml(toml).unwrap().settings.timescale(),
        TimescaleSettings {
            mode: "on",
            chunk_days: Some(1),
            compress_after_days: Some(30),
            retention_days: Some(0),
        }
    );
    assert_eq!(
        messages(load_env(&[("MDS_TIMESCALE_CHUNK_DAYS", "0")])),
        [
            "timescale_chunk_days = \"0\" (environment MDS_TIMESCALE_CHUNK_DAYS) is out of range; use a whole number from 1 to 36500"
        ]
    );
}
