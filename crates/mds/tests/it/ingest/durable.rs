//! `mds ingest --queue disk:DIR`: what was taken survives a kill, and is not handed in again.

use std::fs;
use std::time::Duration;

use mds_core::Bar;
use rusqlite::Connection;

use super::outages::locked;
use super::{HEADER, bars, letters, rows};
use crate::data::{STORE, count};
use crate::run::Place;

const INGEST: [&str; 6] = ["ingest", "bars", "bars.csv", "--queue", "disk:q", "--json"];

#[test]
fn a_run_through_the_disk_ends_as_one_through_memory_does() {
    let place = Place::new();
    place.write("bars.csv", &bars(5_000));
    let outcome = place.run(&INGEST).code(0);
    assert_eq!(outcome.books(), "read 5000, written 5000");
    assert_eq!(count::<Bar>(&place), 5_000);
    // To its end, it is read again like any other.
    let again = place.run(&INGEST).code(0);
    assert_eq!(again.books(), "read 5000, superseded 5000");
    let inspected = place.run(&["wal", "inspect", "q"]).code(0);
    assert!(inspected.stdout.contains("bars"), "{inspected:?}");
}

/// SIGTERM while the store is away: what was taken is on the disk, is not in letters, and the next run
/// writes it and goes on behind it.
#[test]
fn a_stop_during_an_outage_leaves_all_to_the_next_run() {
    let place = Place::new();
    place.write("bars.csv", &bars(60_000));
    // The revision of the file is asked for before the store is locked.
    place.run(&["migrate"]).code(0);
    let lock = Connection::open(place.path(STORE)).unwrap();
    let mut running = place.start(&INGEST);
    running.wait_for("format csv");
    // It may be writing at the moment.
    lock.busy_timeout(Duration::from_secs(60)).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    running.wait_for("waiting for the store");
    // All of it fits on the disk, and is taken while the store is away.
    while !fs::read_to_string(place.path("q/bars/inputs.json")).is_ok_and(|t| t.contains("60000")) {
        std::thread::yield_now();
    }
    running.signal("TERM");
    let stopped = running.outcome().code(143);
    assert!(
        stopped
            .stderr
            .contains("accepted rows are in the queue q/bars"),
        "{stopped:?}"
    );
    assert!(letters(&place, ".dlq/bars.ndjson").is_empty());
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    let before = count::<Bar>(&place);
    let resumed = place.run(&INGEST).code(0);
    assert!(
        resumed
            .stderr
            .contains("records of an earlier run are in the queue"),
        "{resumed:?}"
    );
    assert!(
        resumed
            .stderr
            .contains("60,000 rows were taken by an earlier run"),
        "{resumed:?}"
    );
    assert!(before < 60_000);
    assert_eq!(count::<Bar>(&place), 60_000);
}

/// SIGKILL at many moments; the books of the queue hold all lives together.
#[test]
fn kills_lose_nothing_and_double_nothing() {
    let place = Place::new();
    place.write("bars.csv", &bars(40_000));
    let kills = 8;
    for round in 0..kills {
        let running = place.start(&INGEST);
        // A moment that differs from round to round, by what has happened rather than by a clock.
        let wanted = round * 4_000;
        while count_of(&place) < wanted {
            std::thread::yield_now();
        }
        running.signal("KILL");
        drop(running);
    }
    place.run(&INGEST).code(0);
    assert_eq!(count::<Bar>(&place), 40_000);
    assert!(letters(&place, ".dlq/bars.ndjson").is_empty());
}

fn count_of(place: &Place) -> usize {
    let conn = Connection::open(place.path(STORE)).unwrap();
    let sql = "SELECT count(*) FROM bars_data";
    conn.query_row(sql, [], |row| row.get::<_, i64>(0))
        .map_or(0, |count| usize::try_from(count).unwrap())
}

/// A file that was changed is another one: nothing of it is passed over.
#[test]
fn a_changed_file_is_read_from_its_beginning() {
    let place = Place::new();
    place.write("bars.csv", &bars(3_000));
    let lock = locked(&place);
    let mut running = place.start(&[&INGEST[..], &["--revision", "2024-11-02T00:00:00Z"]].concat());
    running.wait_for("waiting for the store");
    running.signal("KILL");
    drop(running);
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    place.write("bars.csv", &bars(3_500));
    let outcome = place.run(&INGEST).code(0);
    assert!(
        !outcome.stderr.contains("taken by an earlier run"),
        "{outcome:?}"
    );
    assert_eq!(count::<Bar>(&place), 3_500);
}

#[test]
fn rows_that_are_refused_have_letters_with_their_line_after_a_restart_too() {
    let place = Place::new();
    place.write("bars.csv", &bars(2_000));
    place.run(&["migrate"]).code(0);
    let conn = Connection::open(place.path(STORE)).unwrap();
    conn.execute_batch(
        "CREATE TRIGGER no_thirteen BEFORE INSERT ON bars_data WHEN NEW.close_price = 13 \
         BEGIN SELECT RAISE(ABORT, 'thirteen brings bad luck'); END; BEGIN EXCLUSIVE",
    )
    .unwrap();
    let mut running = place.start(&[&INGEST[..], &["--revision", "2024-11-02T00:00:00Z"]].concat());
    running.wait_for("waiting for the store");
    running.signal("KILL");
    drop(running);
    conn.execute_batch("ROLLBACK").unwrap();
    drop(conn);
    let drain = ["ingest", "bars", "--queue", "disk:q", "--json"];
    let outcome = place.run(&drain).code(3);
    let thirteen = letters(&place, ".dlq/bars.ndjson");
    assert!(
        outcome
            .stderr
            .contains("records of an earlier run are in the queue"),
        "{outcome:?}"
    );
    for letter in &thirteen {
        assert_eq!(letter["metadata"]["path"], "bars.csv");
        assert!(letter["metadata"]["line"].as_u64().unwrap() > 1);
    }
    assert_eq!(thirteen.len(), 1, "bar 13");
}

#[test]
fn a_queue_of_another_store_and_one_that_is_in_use_are_refused() {
    let place = Place::new();
    place.write("bars.csv", &bars(100));
    place.run(&INGEST).code(0);
    let other = place
        .run(&[&INGEST[..], &["--store", "sqlite:other.db"]].concat())
        .code(1);
    assert!(
        other.stderr.contains(
            "cannot use the queue in q/bars: the durable queue was made for something else"
        ),
        "{other:?}"
    );
    let lock = locked(&place);
    let mut running = place.start(&["ingest", "bars", "-", "--queue", "disk:q"]);
    running.write(&bars(1_500));
    running.wait_for("waiting for the store");
    drop(lock);
    let second = place.run(&INGEST).code(1);
    assert!(
        second.stderr.contains("is open in another process"),
        "{second:?}"
    );
    running.close_stdin();
    running.outcome().code(0);
}

/// A store that was put back to an earlier state knows nothing of a file: no mark passes its rows.
#[test]
fn a_store_from_a_backup_gets_the_rows_again() {
    let place = Place::new();
    place.write("bars.csv", &bars(3_000));
    place.run(&["migrate"]).code(0);
    fs::copy(place.path(STORE), place.path("backup.db")).unwrap();
    let lock = Connection::open(place.path(STORE)).unwrap();
    let mut running = place.start(&INGEST);
    running.wait_for("format csv");
    // It may be writing at the moment.
    lock.busy_timeout(Duration::from_secs(60)).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    while !fs::read_to_string(place.path("q/bars/inputs.json")).is_ok_and(|t| t.contains("3000")) {
        std::thread::yield_now();
    }
    running.signal("KILL");
    drop(running);
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    place.run(&["ingest", "bars", "--queue", "disk:q"]).code(0);
    for end in ["", "-wal", "-shm"] {
        drop(fs::remove_file(place.path(&format!("{STORE}{end}"))));
    }
    fs::copy(place.path("backup.db"), place.path(STORE)).unwrap();
    let again = place.run(&INGEST).code(0);
    assert_eq!(again.books(), "read 3000, written 3000");
}

#[test]
fn the_folder_of_the_queue_is_no_input_and_equal_files_are_both_read() {
    let place = Place::new();
    fs::create_dir(place.path("in")).unwrap();
    place.write("in/a.csv", &bars(5));
    place.write("in/b.csv", &bars(5));
    let args = ["ingest", "bars", "in", "--queue", "disk:in/q", "--json"];
    let first = place.run(&args).code(0);
    assert_eq!(first.books(), "read 10, written 5, superseded 5");
    let second = place.run(&args).code(0);
    assert_eq!(second.books(), "read 10, superseded 10");
}

/// Again and again is not a way around the limit of bad rows.
#[test]
fn a_run_with_too_many_bad_rows_stops_at_the_same_row_again() {
    let place = Place::new();
    let bad: String = (0..6_000_u64)
        .map(|n| {
            if n % 100 == 0 {
                "acme,ABC,1m,never,1\n".to_owned()
            } else {
                rows(n..n + 1)
            }
        })
        .collect();
    place.write("bars.csv", &format!("{HEADER}{bad}"));
    let args = [&INGEST[..], &["--max-bad", "20"]].concat();
    let first = place.run(&args).code(1);
    let second = place.run(&args).code(1);
    let read = |outcome: &crate::run::Outcome| {
        let books = outcome.books();
        books.split(',').next().unwrap().to_owned()
    };
    assert_eq!(read(&first), read(&second));
    assert!(
        !second.stderr.contains("taken by an earlier run"),
        "{second:?}"
    );
}
