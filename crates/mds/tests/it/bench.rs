//! `mds bench`: every benchmark measures something, checks its own counts and prints its figures.
//! What the figures are is not tested: they belong to the machine.

use serde_json::Value;

use crate::run::{Outcome, Place};

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
