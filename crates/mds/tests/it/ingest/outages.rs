//! The store, or the disk, is away in the middle: records wait, and nothing accepted is lost.

use std::fs;
use std::path::Path;
use std::process::Command;

use mds_core::Bar;
use rusqlite::Connection;

use super::{HEADER, bars, letters, rows};
use crate::data::{STORE, all, count};
use crate::process::Running;
use crate::run::{Outcome, Place, skip};

/// A new store that another process writes to, for as long as the connection is not dropped.
pub(crate) fn locked(place: &Place) -> Connection {
    place.run(&["migrate"]).code(0);
    let conn = Connection::open(place.path(STORE)).unwrap();
    conn.execute_batch("BEGIN EXCLUSIVE").unwrap();
    conn
}

/// Makes the store refuse bars that close at 13.
fn refuse_thirteen(place: &Place) {
    place.run(&["migrate"]).code(0);
    let conn = Connection::open(place.path(STORE)).unwrap();
    conn.execute_batch(
        "CREATE TRIGGER no_thirteen BEFORE INSERT ON bars_data WHEN NEW.close_price = 13 \
         BEGIN SELECT RAISE(ABORT, 'thirteen brings bad luck'); END",
    )
    .unwrap();
}

/// Starts a run while the store is locked, and lets go once it has said that it waits.
fn released(place: &Place, args: &[&str], input: &str) -> Outcome {
    let lock = locked(place);
    let mut running = place.start(args);
    running.write(input);
    running.close_stdin();
    let line = running.wait_for("waiting for the store (at most 12s): ");
    assert!(line.contains("database is locked"), "{line}");
    drop(lock);
    running.outcome().code(0).says("the store is back after ")
}

#[test]
fn a_locked_store_is_waited_for() {
    let place = Place::new();
    place.write("bars.csv", &bars(5_000));
    let args = |input| ["ingest", "bars", input, "--json", "--max-outage", "12s"];
    // A file waits for its revision, standard input for its first batch.
    let file = released(&place, &args("bars.csv"), "");
    assert_eq!(file.books(), "read 5000, written 5000");
    let stdin = released(&place, &args("-"), &bars(6_000));
    assert_eq!(stdin.books(), "read 6000, written 6000", "newer revisions");
    assert_eq!(count::<Bar>(&place), 6_000);
    assert!(letters(&place, ".dlq/bars.ndjson").is_empty());
}

#[test]
fn an_outage_beyond_the_limit_stops_the_run_and_loses_nothing() {
    let place = Place::new();
    let lock = locked(&place);
    let run = |place: &Place, max_outage: &str| {
        let revision = ["--revision", "2024-11-02T00:00:00Z"];
        let args = ["ingest", "bars", "-", "--json", "--max-outage", max_outage];
        let mut running = place.start(&[&args[..], &revision].concat());
        running.write(&bars(40_000));
        running.close_stdin();
        running.outcome()
    };
    let stopped = run(&place, "1s").code(1);
    // What was accepted is in the letters, and the line after it is named.
    let kept = letters(&place, ".dlq/bars.ndjson");
    assert!((1_000..39_000).contains(&kept.len()), "{}", kept.len());
    for letter in &kept {
        assert_eq!(letter["metadata"]["reason"], "shutdown");
        assert_eq!(
            letter["error"],
            "not written before the deadline of the stop; the store: market.db: cannot write: \
             database is locked (environment, SQLITE_BUSY)"
        );
    }
    let taken = kept.len();
    assert_eq!(
        stopped.books(),
        format!("read {taken}, dead_lettered {taken}")
    );
    stopped
        .says(&format!("the first line not taken is -:{}\n", taken + 2))
        .says(
            "to resume, give it the same input again, with the same --revision: rows that are in \
             already write nothing\n",
        )
        .says(
            "what was accepted and not written is in the dead letters; `mds dlq replay --dlq \
             .dlq/bars.ndjson` writes it and settles the letters, after resuming too\n",
        )
        .errors(&[
            "the store was away for longer than --max-outage (1s): market.db: cannot write: \
             database is locked (environment, SQLITE_BUSY)",
        ]);
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(count::<Bar>(&place), 0);

    let resumed = run(&place, "0").code(0);
    assert_eq!(resumed.books(), "read 40000, written 40000");
    // The letters hold the same records: they write nothing any more.
    let replayed = place.run(&["dlq", "replay"]).code(0);
    let row: Vec<&str> = replayed
        .stdout
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    let taken = mds_digits(taken);
    assert_eq!(row, ["bars", &taken, "0", &taken, "0", "0"]);
    assert_eq!(count::<Bar>(&place), 40_000);
}

/// A number as tables show it.
fn mds_digits(number: usize) -> String {
    match (number / 1_000, number % 1_000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{thousands},{rest:03}"),
    }
}

#[test]
fn an_outage_before_the_first_row_stops_the_run_at_line_one() {
    let place = Place::new();
    let lock = locked(&place);
    place.write("bars.csv", &bars(3));
    place.write("more.csv", &format!("{HEADER}{}", rows(3..7)));
    let args = [
        "ingest",
        "bars",
        "bars.csv",
        "more.csv",
        "--json",
        "--max-outage",
        "1s",
    ];
    let stopped = place
        .run(&args)
        .code(1)
        .says("the first line not taken is bars.csv:1\n");
    assert_eq!(stopped.books(), "");
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(place.run(&args).code(0).books(), "read 7, written 7");
    assert_eq!(count::<Bar>(&place), 7);
}

#[test]
fn a_row_that_the_store_refuses_costs_itself_only() {
    let place = Place::new();
    refuse_thirteen(&place);
    place.write("bars.csv", &bars(2_000));
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(3);
    assert_eq!(outcome.books(), "read 2000, written 1999, dead_lettered 1");
    let letters = letters(&place, ".dlq/bars.ndjson");
    assert_eq!(letters.len(), 1);
    let metadata = &letters[0]["metadata"];
    assert_eq!(metadata["reason"], "rejected_row");
    assert_eq!(metadata["code"], "SQLITE_CONSTRAINT_TRIGGER");
    assert_eq!(
        (&metadata["path"], &metadata["line"]),
        (&"bars.csv".into(), &15.into())
    );
    assert_eq!(letters[0]["items"][0]["close_price"], 13.0);
    assert!(
        letters[0]["error"]
            .as_str()
            .unwrap()
            .contains("thirteen brings bad luck")
    );
}

#[test]
fn a_refused_row_whose_letter_cannot_be_written_ends_the_run() {
    if !Path::new("/dev/full").exists() {
        skip("there is no /dev/full");
        return;
    }
    let place = Place::new();
    refuse_thirteen(&place);
    place.write("bars.csv", &bars(20));
    std::os::unix::fs::symlink("/dev/full", place.path("full.ndjson")).unwrap();
    let args = [
        "ingest",
        "bars",
        "bars.csv",
        "--json",
        "--max-outage",
        "1s",
        "--dlq",
    ];
    let outcome = place.run(&[&args[..], &["full.ndjson"]].concat()).code(1);
    // The other rows are in; the books say that this one is nowhere.
    assert_eq!(outcome.books(), "read 20, written 19, dropped 1");
    outcome
        .says("1 rows are in neither the store nor the dead letters\n")
        .errors(&["the dead letters could not be written for longer than --max-outage (1s)"]);
    let again = place.run(&[&args[..], &["room.ndjson"]].concat()).code(3);
    assert_eq!(again.books(), "read 20, superseded 19, dead_lettered 1");
}

#[test]
fn a_store_that_is_damaged_stops_the_run_at_once() {
    let place = Place::new();
    place.run(&["migrate"]).code(0);
    let conn = Connection::open(place.path(STORE)).unwrap();
    conn.execute_batch("DROP TABLE bars_data").unwrap();
    place.write("bars.csv", &bars(3));
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(1);
    assert_eq!(outcome.books(), "read 3, dead_lettered 3");
    let told = "error: the store cannot be written to: market.db: cannot write: no such table: ";
    let outcome = outcome.says(told);
    assert_eq!(outcome.stderr.matches("error: ").count(), 1, "{outcome:#?}");
}

/// The program with every file that it writes bounded, as a disk quota would. The signal of the
/// bound is ignored, so that writes fail as on a full disk.
fn bounded(place: &Place, kib: u32, args: &[&str]) -> Command {
    let blocks = kib * 2;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_mds")])
        .args(args)
        .current_dir(place.path(""))
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn a_full_disk_under_the_store_stops_the_run_and_the_rest_follows() {
    let place = Place::new();
    place.write("bars.csv", &bars(20_000));
    let args = ["ingest", "bars", "bars.csv", "--json", "--max-outage", "1s"];
    let mut running = Running::new(&mut bounded(&place, 512, &args));
    running.close_stdin();
    let stopped = running.outcome().code(1);
    let stored = count::<Bar>(&place);
    let books = stopped.books();
    assert!(stored > 0 && stored < 20_000, "{stored}: {stopped:#?}");
    assert!(
        books.contains(&format!(", written {stored}, ")),
        "{stored}: {books}"
    );
    let stopped = stopped.says("error: the store was away for longer than --max-outage (1s): ");
    assert_eq!(stopped.stderr.matches("error: ").count(), 1, "{stopped:#?}");

    let resumed = place.run(&args).code(0);
    let rest = 20_000 - stored;
    assert_eq!(
        resumed.books(),
        format!("read 20000, written {rest}, superseded {stored}")
    );
}

/// A small file system of its own; it goes with the test.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(path);
        let output = mount.output().ok()?;
        output.status.success().then_some(Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0).status());
    }
}

#[test]
fn a_full_disk_that_gets_room_again_is_waited_for() {
    let place = Place::new();
    let folder = place.path("disk");
    let Some(_disk) = SmallDisk::mount(&folder) else {
        skip("no file system can be mounted here");
        return;
    };
    let store = "sqlite:disk/market.db";
    place.run(&["migrate", "--store", store]).code(0);
    // Everything but a little.
    let mut ballast = vec![0; 2 << 20];
    while fs::write(folder.join("ballast"), &ballast).is_err() {
        ballast.truncate(ballast.len() - (64 << 10));
    }
    place.write("bars.csv", &bars(5_000));
    let args = ["ingest", "bars", "bars.csv", "--json", "--store", store];
    let mut running = place.start(&args);
    let line = running.wait_for("waiting for the store (at most 5m): ");
    assert!(line.contains("full"), "{line}");
    fs::remove_file(folder.join("ballast")).unwrap();
    let outcome = running.outcome().code(0);
    assert_eq!(outcome.books(), "read 5000, written 5000");
}

#[test]
fn several_runs_into_one_store_at_once() {
    let place = Place::new();
    let files = [0, 1, 2].map(|n| {
        let name = format!("{n}.csv");
        place.write(
            &name,
            &format!("{HEADER}{}", rows(n * 3_000..(n + 1) * 3_000)),
        );
        name
    });
    let running = files.map(|name| place.start(&["ingest", "bars", &name, "--json"]));
    for running in running {
        assert_eq!(running.outcome().code(0).books(), "read 3000, written 3000");
    }
    let mut closes: Vec<f64> = all::<Bar>(&place)
        .iter()
        .filter_map(|b| b.close_price)
        .collect();
    closes.sort_by(f64::total_cmp);
    assert_eq!(closes, (0_u32..9_000).map(f64::from).collect::<Vec<_>>());
}
