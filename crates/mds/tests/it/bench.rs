//! `mds bench`: every benchmark measures something, checks its own counts and prints its figures.
//! What the figures are is not tested: they belong to the machine.

use serde_json::Value;

use crate::run::{Outcome, Place, skip};

const FILE: &str = "\
1388534520000,730.24,730.24,730.24,730.24,0.0105339\r
1388534700000,730.51,730.89,730.89,730.24,1e-7\r
1388534760000,730.52,730.51,730.52,730.51,0.3906739\r
";

/// Runs `mds bench` with `args`; the reports that it prints, one JSON object a line.
fn bench(place: &Place, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["bench", "--json", "--rounds", "2", "--quiet"];
    all.extend(args);
    let Outcome { stdout, .. } = place.run(&all).code(0);
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The names of the figures in a unit; each has a value a round.
fn figures(report: &Value, unit: &str) -> Vec<String> {
    let figures = report["figures"].as_array().unwrap();
    let mut names = Vec::new();
    for figure in figures.iter().filter(|f| f["unit"] == unit) {
        assert_eq!(figure["rounds"].as_array().unwrap().len(), 2, "{figure}");
        assert!(figure["median"].is_number(), "{figure}");
        names.push(figure["name"].as_str().unwrap().to_owned());
    }
    names
}

#[test]
fn the_write_path_alone_is_measured_for_every_combination() {
    let place = Place::new();
    let reports = bench(&place, &["null", "--rows", "2000", "--producers", "1,3"]);
    assert_eq!(reports.len(), 1);
    let names = figures(&reports[0], "rows/s");
    assert_eq!(names.len(), 12, "{names:?}");
    assert!(names.contains(&"submit, 3 producers, 4 workers".to_owned()));
    assert!(names.contains(&"submit_many, 1 producer, 1 worker".to_owned()));
    assert_eq!(reports[0]["settings"]["capacity"], 10_000);
}

#[test]
fn sqlite_is_measured_against_the_loop_and_then_read() {
    let place = Place::new();
    let size = ["--symbols", "5", "--minutes", "20", "--days", "3"];
    let mut args = vec!["sqlite", "--keep", "kept.db", "--dir", "."];
    args.extend(size);
    let reports = bench(&place, &args);
    let names: Vec<_> = reports.iter().map(|r| r["bench"].clone()).collect();
    assert_eq!(names, ["sqlite", "reads"]);
    assert_eq!(
        figures(&reports[0], "x"),
        ["ratio, 500", "ratio, 500 to 2000"]
    );
    assert_eq!(reports[0]["settings"]["rows"], 115);
    assert_eq!(reports[0]["settings"]["synchronous"], "full");
    assert_eq!(reports[0]["settings"]["journal_mode"], "wal");
    assert_eq!(figures(&reports[1], "ms").len(), 6);

    let mut args = vec!["reads", "--store", "sqlite:kept.db", "--reads", "3"];
    args.extend(size);
    bench(&place, &args);
    let left: Vec<_> = std::fs::read_dir(place.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !name.to_string_lossy().starts_with("kept.db"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_store_with_other_rows_than_expected_is_an_error() {
    let place = Place::new();
    let size = ["--symbols", "2", "--minutes", "3"];
    let mut args = vec!["sqlite", "--keep", "kept.db", "--days", "1"];
    args.extend(size);
    bench(&place, &args);
    let mut args = vec!["bench", "reads", "--store", "sqlite:kept.db", "--days", "2"];
    args.extend(size);
    let outcome = place.run(&args).code(1);
    assert!(
        outcome
            .stderr
            .contains("all days of a symbol: 1 rows instead of 2"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_file_is_ingested_by_the_real_command() {
    let place = Place::new();
    place.write("bitfinex-btcusd-1m.csv", FILE);
    let reports = bench(
        &place,
        &["sqlite", "--dir", ".", "--file", "bitfinex-btcusd-1m.csv"],
    );
    assert_eq!(reports.len(), 1);
    assert_eq!(figures(&reports[0], "x"), ["ratio, 500", "ratio, 5000"]);
    assert_eq!(reports[0]["settings"]["rows"], 3);
}

/// The names of all figures, with their units.
fn units(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let figures = report["figures"].as_array().unwrap();
    let pair = |f: &Value| (text(&f["name"]), text(&f["unit"]));
    figures.iter().map(pair).collect()
}

#[test]
fn postgres_is_measured_in_a_database_of_its_own_against_a_bare_copy() {
    let Ok(server) = std::env::var("MDS_TEST_POSTGRES") else {
        skip("MDS_TEST_POSTGRES names no server");
        return;
    };
    let place = Place::new();
    let mut args = vec!["bench", "--json", "--rounds", "2", "postgres"];
    args.extend(["--store", &server, "--rows", "2300", "--batch", "500"]);
    let outcome = place.run(&args).code(0);
    let report: Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
    let settings = &report["settings"];
    assert_eq!(settings["rows"], 2_300);
    assert!(
        settings["server"]
            .as_str()
            .unwrap()
            .starts_with("PostgreSQL 1"),
        "{settings}"
    );
    assert!(settings["fsync"].is_string() && settings["synchronous_commit"].is_string());
    let arms = [
        "sink, fresh",
        "sink, replay",
        "sink, newer",
        "coordinator, fresh",
        "ingest, fresh",
    ];
    assert_eq!(figures(&report, "x"), arms);
    for unit in ["rows/s", "WAL B/row"] {
        assert_eq!(figures(&report, unit).first().unwrap(), "bare COPY");
        assert_eq!(figures(&report, unit)[1..], arms);
    }
    let replayed = ("sink, replay".to_owned(), "CPU s/M rows".to_owned());
    assert!(units(&report).contains(&replayed), "{report}");

    let (_, rest) = outcome.stderr.split_once("database of its own, ").unwrap();
    let (database, _) = rest.split_once(',').unwrap();
    let (address, _) = server.rsplit_once('/').unwrap();
    let gone = format!("{address}/{database}");
    place
        .run(&["stats", "--store", &gone])
        .code(1)
        .says(&format!("database \"{database}\" does not exist"));
}

#[test]
fn a_private_server_is_started_where_none_is_named() {
    let place = Place::new();
    let args = [
        "bench", "--json", "--rounds", "1", "postgres", "--rows", "300",
    ];
    let outcome = place.run(&[&args[..], &["--fsync", "off"]].concat());
    if outcome.stderr.contains("this needs a PostgreSQL server") {
        skip("the programs of PostgreSQL are not on this machine");
        outcome.says("name one with --store postgres://").code(1);
        return;
    }
    let outcome = outcome
        .code(0)
        .says("started a private PostgreSQL server in");
    let report: Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
    assert_eq!(report["settings"]["fsync"], "off");
    let (_, rest) = outcome.stderr.split_once("server in ").unwrap();
    let (folder, _) = rest.split_once(',').unwrap();
    let left = std::fs::read_dir(folder).unwrap().flatten().find(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("mds-bench-server-") && !entry.path().join("data").exists()
    });
    assert!(left.is_none(), "{left:?}");
}

#[test]
fn latency_is_measured_record_by_record() {
    let place = Place::new();
    for sink in ["sqlite", "null"] {
        let args = ["latency", "--sink", sink, "--rate", "200", "--seconds", "1"];
        let reports = bench(&place, &args);
        let names = figures(&reports[0], "ms");
        assert!(
            names.contains(&"submit to commit, p99".to_owned()),
            "{names:?}"
        );
        assert_eq!(reports[0]["settings"]["flush_interval"], 0.0);
    }
}

#[test]
fn latency_into_postgres_and_a_pool_of_workers_are_measured() {
    let Ok(server) = std::env::var("MDS_TEST_POSTGRES") else {
        skip("MDS_TEST_POSTGRES names no server");
        return;
    };
    let place = Place::new();
    let args = [
        "latency",
        "--rate",
        "200",
        "--seconds",
        "1",
        "--store",
        &server,
    ];
    let reports = bench(&place, &args);
    assert_eq!(reports[0]["settings"]["sink"], "postgres");
    assert!(reports[0]["settings"]["fsync"].is_string());
    assert!(figures(&reports[0], "ms").contains(&"submit to commit, p99".to_owned()));
    assert_eq!(figures(&reports[0], "WAL B/row"), ["whole server"]);

    let args = [
        "workers",
        "--rate",
        "200",
        "--seconds",
        "1",
        "--store",
        &server,
    ];
    let reports = bench(&place, &args);
    assert_eq!(reports[0]["settings"]["workers"], "1..8");
    let steps = ["1x", "10x", "1x again"];
    for unit in ["rows/s", "workers at the end", "turns"] {
        assert_eq!(figures(&reports[0], unit), steps);
    }
    assert_eq!(reports[0]["notes"].as_array().unwrap().len(), 2);
}

#[test]
fn the_durable_queue_is_measured_against_bare_syncs() {
    let place = Place::new();
    let short = ["wal", "--seconds", "0.02", "--dir", "."];
    let reports = bench(
        &place,
        &[&short[..], &["--records-per-append", "50,1", "--read"]].concat(),
    );
    assert_eq!(reports.len(), 1);
    let cases = [
        "group, 50 an append",
        "group, 1 an append",
        "always, 50 an append",
        "always, 1 an append",
    ];
    let ratios = cases.map(|case| {
        [
            format!("payload / bare, {case}"),
            format!("p99 / (2 x bare + 1 ms), {case}"),
        ]
    });
    assert_eq!(figures(&reports[0], "x"), ratios.concat());
    assert_eq!(
        figures(&reports[0], "MB/s"),
        cases.map(|case| format!("bare, as {case}"))
    );
    assert_eq!(figures(&reports[0], "ms").len(), 16);
    let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// `bench/postgres` names the server in the environment, so that no password is on a command line.
#[test]
fn the_durable_queue_is_measured_end_to_end_against_memory() {
    let place = Place::new();
    let size = ["--symbols", "5", "--minutes", "20", "--days", "3"];
    let small = [&["queue", "--dir", "."], &size[..]].concat();
    let is_measured = |report: &Value, name: &str| {
        assert_eq!(report["bench"], name);
        assert_eq!(
            figures(report, "rows/s"),
            ["queue in memory", "queue on the disk"]
        );
        assert_eq!(figures(report, "x"), ["ratio"]);
    };
    is_measured(&bench(&place, &small)[0], "queue");
    let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let Ok(server) = std::env::var("MDS_TEST_POSTGRES") else {
        skip("MDS_TEST_POSTGRES names no server");
        return;
    };
    let args = ["bench", "--json", "--rounds", "2", "--quiet"];
    let args = [&args[..], &small, &["--sink", "postgres"]].concat();
    let outcome = place.run_with_env(&args, &[("MDS_STORE", &server)]).code(0);
    let report = serde_json::from_str(outcome.stdout.trim()).unwrap();
    is_measured(&report, "queue-postgres");
}

#[test]
fn an_idle_coordinator_is_measured_and_still_writes() {
    let reports = bench(&Place::new(), &["idle", "--seconds", "0.01"]);
    assert_eq!(reports[0]["settings"]["workers"], 4);
    if cfg!(target_os = "linux") {
        assert_eq!(figures(&reports[0], "% of a core"), ["idle"]);
    }
}

#[test]
fn a_table_is_printed_for_people() {
    let args = ["bench", "idle", "--seconds", "0.01", "--rounds", "1"];
    let outcome = Place::new().run(&args).code(0);
    assert!(outcome.stdout.starts_with("idle: "), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("median"), "{}", outcome.stdout);
}
