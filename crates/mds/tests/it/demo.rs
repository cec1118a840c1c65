//! `mds demo`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use mds_coordinator::dead_letter::Reason;
use mds_core::{Bar, News};
use rusqlite::Connection;

use crate::data::{article, bar, count, fill};
use crate::dlq::{append, letter};
use crate::process::Running;
use crate::run::{Outcome, Place};

const QUICK: [&str; 5] = ["demo", "--seconds", "2", "--metrics", "127.0.0.1:0"];

/// A line of the books: kind, submitted, written, superseded, dead-lettered, dropped, rows in the
/// store, expected, verdict.
type Line = (String, [u64; 7], String);

fn books(outcome: &Outcome) -> Vec<Line> {
    let lines = outcome.stdout.lines();
    let table = lines
        .skip_while(|line| !line.starts_with("kind "))
        .skip(1)
        .take_while(|line| !line.is_empty());
    table
        .map(|line| {
            let words: Vec<String> = line
                .split_whitespace()
                .map(|w| w.replace(',', ""))
                .collect();
            let numbers: Vec<u64> = words[1..8].iter().map(|w| w.parse().unwrap()).collect();
            (
                words[0].clone(),
                numbers.try_into().unwrap(),
                words[8].clone(),
            )
        })
        .collect()
}

fn rows_in(database: &Path, view: &str) -> u64 {
    let conn = Connection::open(database).unwrap();
    let count = format!("SELECT count(*) FROM {view}");
    let rows: i64 = conn.query_row(&count, [], |row| row.get(0)).unwrap();
    rows.try_into().unwrap()
}

/// Expects books that balance and agree with the database.
#[track_caller]
fn check(place: &Place, outcome: &Outcome) {
    let books = books(outcome);
    let kinds: Vec<&str> = books.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, ["bars", "options", "fundamentals", "news"]);
    let stats = place
        .run(&["stats", "--json", "--store", "sqlite:demo.db"])
        .code(0);
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).unwrap();
    for (kind, numbers, verdict) in books {
        let [
            submitted,
            written,
            superseded,
            dead_lettered,
            dropped,
            stored,
            expected,
        ] = numbers;
        assert_eq!(verdict, "balanced", "{kind}");
        assert_eq!(
            submitted,
            written + superseded + dead_lettered + dropped,
            "{kind}"
        );
        assert!(submitted > 500 && superseded > 0, "{kind}: {numbers:?}");
        assert_eq!((dropped, stored), (0, expected), "{kind}");
        let view = if kind == "options" {
            "options_snap"
        } else {
            kind.as_str()
        };
        assert_eq!(rows_in(&place.path("demo.db"), view), stored, "{kind}");
        let told = stats["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .find(|k| k["kind"] == *kind);
        assert_eq!(told.unwrap()["rows"], stored, "{kind}");
        let letters = format!(".dlq/demo-{kind}.ndjson");
        let listed = [
            "dlq", "list", "--json", "--limit", "100000", "--dlq", &letters,
        ];
        if dead_lettered == 0 {
            let outcome = place.run(&listed).code(1);
            outcome.says(&format!("{letters}: there is no such file"));
            continue;
        }
        let letters = place.run(&listed).code(0).stdout.lines().count() as u64;
        assert_eq!(letters, dead_lettered, "{kind}");
    }
}

#[test]
fn every_row_is_accounted_for_and_a_second_run_begins_anew() {
    let place = Place::new();
    let outcome = place.run(&QUICK).code(0);
    check(&place, &outcome);
    assert!(
        outcome
            .stdout
            .contains("compared with the one that must be there: all equal.\n")
    );
    for fault in [
        "writes refused by an absent store",
        "deadlocks",
        "answers lost after the commit",
        "panics of the sink",
        "writes that never answered",
    ] {
        let line = outcome
            .stdout
            .lines()
            .find(|line| line.ends_with(fault))
            .unwrap();
        assert_ne!(line.split_whitespace().next(), Some("0"), "{line}");
    }
    // The commands that it names work.
    for line in outcome
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  mds "))
    {
        if !line.contains("YOUR-FILE") {
            place
                .run(&line.split_whitespace().collect::<Vec<_>>())
                .code(0);
        }
    }

    let conn = Connection::open(place.path("demo.db")).unwrap();
    conn.execute_batch("CREATE TABLE left_over (x)").unwrap();
    drop(conn);
    let again = place.run(&QUICK).code(0);
    check(&place, &again);
    let conn = Connection::open(place.path("demo.db")).unwrap();
    conn.prepare("SELECT * FROM left_over").unwrap_err();
}

#[test]
fn metrics_answer_while_it_runs() {
    let place = Place::new();
    let mut running = place.start(&QUICK);
    let line = running.wait_for("metrics: http://");
    let address = line.strip_prefix("metrics: http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    // Once records flow, every coordinator has its metrics.
    running.wait_for("the store goes away");
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for metric in [
        "mds_coord_items_submitted_total{coord_id=\"bars\"} ",
        "mds_coord_queue_depth{coord_id=\"options\"} ",
        "mds_coord_circuit_state{coord_id=\"fundamentals\"} ",
        "mds_coord_workers_alive{coord_id=\"news\"} ",
    ] {
        assert!(answer.contains(metric), "{metric} is not in {answer}");
    }
    running.outcome().code(0);
}

#[test]
fn a_busy_port_is_no_reason_to_fail() {
    let place = Place::new();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let outcome = place
        .run(&["demo", "--seconds", "2", "--metrics", &address])
        .code(0)
        .says(&format!(
            "warning: cannot serve metrics on {address}; choose another port: Address already in use"
        ));
    check(&place, &outcome);
}

#[test]
fn what_is_no_store_is_not_removed() {
    let place = Place::new();
    place.write(
        "demo.db",
        "a file of somebody else, longer than a page header would be",
    );
    place
        .run(&QUICK)
        .code(2)
        .says("error: demo.db is in the way and cannot be read as a store of the demo; ")
        .says("name another file with --database: demo.db: cannot open the store (SQLITE_NOTADB)");
    let text = std::fs::read_to_string(place.path("demo.db")).unwrap();
    assert!(text.starts_with("a file of somebody else"));
    place
        .run(&["demo", "--database", "no/folder/demo.db"])
        .code(1)
        .says("error: cannot make no/folder/demo.db: ");
    place.run(&["demo", "--seconds", "0"]).code(2);
}

#[test]
fn a_store_with_records_of_others_is_not_removed() {
    let place = Place::new();
    let made_by_demo = Bar {
        vendor: "demo".into(),
        ..bar("A", 0, 1.0)
    };
    fill(&place, vec![made_by_demo, bar("A", 0, 2.0)]);
    fill(&place, vec![article("a1", "kept")]);
    append(
        &place,
        ".dlq/demo-bars.ndjson",
        vec![letter(&bar("A", 0, 1.0), Reason::Overflow)],
    );
    place
        .run(&[&QUICK[..], &["--database", "market.db"]].concat())
        .code(2)
        .errors(&[
            "market.db holds records that the demo did not make (vendor binance, wire); name \
             another file with --database",
        ]);
    assert_eq!(count::<Bar>(&place), 2);
    assert_eq!(count::<News>(&place), 1);
    assert!(place.path(".dlq/demo-bars.ndjson").exists());
}

#[test]
fn a_signal_ends_it_at_once() {
    let place = Place::new();
    let mut running = place.start(&["demo", "--seconds", "20", "--metrics", "127.0.0.1:0"]);
    running.wait_for("records of four kinds flow");
    running.signal("INT");
    running.outcome().code(130);
}

/// As a script starts what it puts into the background.
#[test]
fn a_signal_ends_it_where_the_shell_ignores_signals() {
    let place = Place::new();
    let script = format!(
        "trap '' INT; exec {} demo --seconds 20 --metrics 127.0.0.1:0",
        env!("CARGO_BIN_EXE_mds")
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).current_dir(place.path(""));
    let mut running = Running::new(&mut command);
    running.wait_for("records of four kinds flow");
    running.signal("INT");
    running.outcome().code(130);
}

#[test]
fn a_terminal_shows_progress() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_mds");
    let command = format!("{program} demo --seconds 2 --metrics 127.0.0.1:0");
    let output = std::process::Command::new("script")
        .args(["-q", "-e", "-c", &command, "typescript"])
        .current_dir(place.path(""))
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("TERM", "xterm")])
        .stdin(std::process::Stdio::null())
        .output();
    let Ok(output) = output else {
        crate::run::skip("there is no `script` to make a terminal with");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8_lossy(&output.stdout);
    // The bar, beside the events and the report.
    for part in ["% ", "rows in", "queued", "the store goes away", "balanced"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}
