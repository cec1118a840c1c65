//! `mds audit`: the books of durable queues, and files row by row.

use rusqlite::Connection;
use serde_json::Value;

use crate::data::STORE;
use crate::ingest::{HEADER, bars, locked, rows};
use crate::run::{Outcome, Place};

const AUDIT: [&str; 6] = ["audit", "bars.csv", "--kind", "bars", "--queue", "disk:q"];

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn each_row_is_in_the_store_the_queue_or_a_letter_or_named() {
    let place = Place::new();
    let text = format!("{}acme,ABC,1m,never,5\n", bars(3_000));
    place.write("bars.csv", &text);
    place
        .run(&["ingest", "bars", "bars.csv", "--queue", "disk:q"])
        .code(3);
    let whole = place.run(&AUDIT).code(0);
    assert_eq!(
        whole.stdout,
        "rows   in the store  in the queue  in letters  missing\n\
         3,001  3,000         0             1           0\n"
    );
    // Somebody takes rows away, or puts older values in their place.
    let conn = Connection::open(place.path(STORE)).unwrap();
    conn.execute_batch(
        "DELETE FROM bars_data WHERE close_price = 7; \
         UPDATE bars_data SET close_price = 1e6, revision = 1 WHERE close_price = 11",
    )
    .unwrap();
    drop(conn);
    let torn = place.run(&[&AUDIT[..], &["--json"]].concat()).code(1);
    let found = json(&torn);
    assert_eq!(
        (&found["missing"], &found["in_store"]),
        (&2.into(), &2_998.into())
    );
    assert_eq!(
        found["first_missing"],
        serde_json::json!(["bars.csv:9", "bars.csv:13"])
    );
    // A newer revision of a row is as good as the row.
    place.write(
        "newer.csv",
        &format!("{HEADER}{}", rows(7..8).replace(",7\n", ",70\n")),
    );
    place.run(&["ingest", "bars", "newer.csv"]).code(0);
    let found = json(&place.run(&[&AUDIT[..], &["--json"]].concat()).code(1));
    assert_eq!(found["missing"], 1);
}

#[test]
fn rows_that_wait_in_the_queue_are_found_there() {
    let place = Place::new();
    place.write("bars.csv", &bars(2_000));
    let lock = locked(&place);
    let stdin = [
        "ingest",
        "bars",
        "-",
        "--queue",
        "disk:q",
        "--revision",
        "2024-11-02T00:00:00Z",
    ];
    let mut running = place.start(&stdin);
    running.write(&bars(2_000));
    running.wait_for("waiting for the store");
    running.signal("KILL");
    drop(running);
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    let found = json(&place.run(&[&AUDIT[..], &["--json"]].concat()));
    let in_queue = found["in_queue"].as_u64().unwrap();
    assert!(in_queue >= 1_000 && found["in_store"] == 0, "{found}");
    // The books of the queue say the same.
    let books = place.run(&["audit", "--queue", "disk:q", "--json"]).code(0);
    let book = &json(&books)[0];
    assert_eq!(
        (&book["kind"], &book["written"], &book["balanced"]),
        (&"bars".into(), &0.into(), &true.into())
    );
    assert_eq!(book["queued"], book["accepted"]);
    let drained = place.run(&["ingest", "bars", "--queue", "disk:q", "--json"]);
    assert_eq!(drained.code(0).books(), "written 2000, recovered 2000");
    let books = place.run(&["audit", "--queue", "disk:q"]).code(0);
    assert!(
        books.stdout.contains("yes") && books.stdout.contains("bars"),
        "{books:?}"
    );
}

#[test]
fn what_cannot_be_audited_is_wrong_usage_or_an_error() {
    let place = Place::new();
    place.write("bars.csv", &bars(10));
    place.run(&["audit"]).code(2).says("name the durable queue");
    place.run(&["audit", "bars.csv"]).code(2).says("--kind");
    place
        .run(&["audit", "--queue", "disk:nowhere"])
        .code(2)
        .says("there is no durable queue in nowhere");
    place.run(&AUDIT).code(1).says("there is no store here");
}

/// A run that ends with its rows in the queue, since the store was away for too long.
fn run_with_rows_left_in_the_queue(place: &Place) {
    let lock = locked(place);
    let how = ["--revision", "2024-11-02T00:00:00Z", "--max-outage", "1s"];
    let args = ["ingest", "bars", "bars.csv", "--queue", "disk:q"];
    place.run(&[&args[..], &how].concat()).code(1);
    lock.execute_batch("ROLLBACK").unwrap();
}

/// Flips a bit of a record that holds these bytes, not far from the last one.
fn damage(place: &Place, record: &[u8]) {
    let mut segments: Vec<_> = std::fs::read_dir(place.path("q/bars"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    segments.sort();
    for path in segments.into_iter().rev() {
        let mut bytes = std::fs::read(&path).unwrap();
        let places = bytes.windows(record.len()).enumerate().rev();
        let mut found = places.filter(|(_, window)| *window == record);
        if let Some(at) = found.nth(100).map(|(at, _)| at) {
            bytes[at] ^= 1;
            return std::fs::write(path, bytes).unwrap();
        }
    }
    panic!("no segment holds such a record");
}

const DRAIN: [&str; 5] = ["ingest", "bars", "--queue", "disk:q", "--json"];

#[test]
fn damage_is_accepted_by_a_person_once_and_new_damage_is_told_again() {
    let place = Place::new();
    place.write("bars.csv", &bars(1_500));
    run_with_rows_left_in_the_queue(&place);
    damage(&place, b"ABC");
    let drained = place.run(&DRAIN).code(3);
    assert_eq!(drained.books(), "written 1499, recovered 1500, damaged 1");

    // The row is gone, until its file is ingested again.
    place.run(&AUDIT).code(1).says("missing: bars.csv:");
    place
        .run(&["audit", "--queue", "disk:q"])
        .code(1)
        .says("`mds wal accept-damage q/bars`");
    place
        .run(&["ingest", "bars", "bars.csv", "--queue", "disk:q"])
        .code(0);
    let whole = place.run(&AUDIT).code(0).says(
        "the queue q/bars has lost 1 record to damage since it was made; every row of these \
         files is there",
    );
    assert_eq!(
        whole.stdout,
        "rows   in the store  in the queue  in letters  missing\n\
         1,500  1,500         0             0           0\n"
    );

    // Nobody has said yet that this settles it.
    let book = |code| {
        let books = place.run(&["audit", "--queue", "disk:q", "--json"]);
        json(&books.code(code))[0].clone()
    };
    let torn = book(1);
    assert_eq!(
        (&torn["lost"], &torn["lost_accepted"], &torn["balanced"]),
        (&1.into(), &0.into(), &true.into())
    );
    let accept = ["wal", "accept-damage", "q"];
    place
        .run(&accept)
        .code(2)
        .says("this accepts that 1 of 3,000 records of q/bars is lost; add --yes to do so");
    let reason = "bars.csv was ingested again";
    place
        .run(&[&accept[..], &["--yes", "--reason", reason]].concat())
        .code(0)
        .says("q/bars: 1 record is accepted as lost");
    let settled = book(0);
    assert_eq!(
        (&settled["damaged"], &settled["lost_accepted"]),
        (&1.into(), &1.into())
    );
    place
        .run(&["audit", "--queue", "disk:q"])
        .code(0)
        .says("1 record of q/bars was damaged and is accepted as lost since ")
        .says(reason);
    place
        .run(&[&accept[..], &["--yes"]].concat())
        .code(0)
        .says("q/bars: nothing is lost that is not accepted");

    // What was accepted hides nothing that comes later.
    run_with_rows_left_in_the_queue(&place);
    damage(&place, b"ABC");
    place.run(&DRAIN).code(3);
    let torn = book(1);
    assert_eq!(
        (&torn["lost"], &torn["lost_accepted"]),
        (&2.into(), &1.into())
    );
    place
        .run(&[&accept[..], &["--yes"]].concat())
        .code(0)
        .says("q/bars: 2 records are accepted as lost");
    assert_eq!(book(0)["lost_accepted"], 2);
}

/// A bad row is found by its line, whatever the file is called, and only as it was.
#[test]
fn a_bad_row_is_found_in_its_letter_whatever_its_file_is_called() {
    let place = Place::new();
    std::fs::create_dir(place.path("in")).unwrap();
    let bad = "acme,ABC,1m,never,5\n";
    place.write("in/bars.csv", &format!("{}{bad}", bars(3)));
    // A line that is no text, and one that is longer than what a letter keeps.
    let long = "x".repeat(70_000);
    let mut bytes = format!("{HEADER}acme,ABC,1m,{long},1\n").into_bytes();
    bytes.extend_from_slice(b"acme,\xff\xfe,1m,never,2\n");
    std::fs::write(place.path("in/odd.csv"), bytes).unwrap();
    place.run(&["ingest", "bars", "in"]).code(3);
    std::os::unix::fs::symlink(place.path("in"), place.path("link")).unwrap();
    let absolute = place.path("in").display().to_string();
    for folder in ["in", "./in", &absolute, "link"] {
        let args = ["audit", folder, "--kind", "bars", "--json"];
        let found = json(&place.run(&args).code(0));
        assert_eq!(
            (&found["in_store"], &found["in_letters"]),
            (&3.into(), &3.into()),
            "{folder}"
        );
    }
    // Moved, and asked for from elsewhere.
    std::fs::rename(place.path("in/bars.csv"), place.path("done.csv")).unwrap();
    let args = ["audit", "done.csv", "--kind", "bars", "--json"];
    assert_eq!(json(&place.run(&args).code(0))["in_letters"], 1);
    // Another bad row in the same line of the same file has no letter.
    place.write(
        "in/bars.csv",
        &format!("{}{}", bars(3), bad.replace('5', "6")),
    );
    place
        .run(&["audit", "in/bars.csv", "--kind", "bars"])
        .code(1)
        .says("missing: in/bars.csv:5\n");
    // Of a line that is longer than what a letter keeps, the beginning alone proves nothing elsewhere.
    std::fs::rename(place.path("in/odd.csv"), place.path("odd.csv")).unwrap();
    place
        .run(&["audit", "odd.csv", "--kind", "bars"])
        .code(1)
        .says("missing: odd.csv:2\n");
}

#[test]
fn a_store_that_is_not_that_of_the_queue_is_refused() {
    let place = Place::new();
    place.write("bars.csv", &bars(10));
    place
        .run(&["ingest", "bars", "bars.csv", "--queue", "disk:q"])
        .code(0);
    place
        .run(&["ingest", "bars", "bars.csv", "--store", "sqlite:other.db"])
        .code(0);
    let other = ["--store", "sqlite:other.db"];
    for args in [&AUDIT[..], &["audit", "--queue", "disk:q"]] {
        let refused = place.run(&[args, &other].concat()).code(2);
        let refused =
            refused.says("error: the queue q/bars was made for another store (kind bars,");
        assert_eq!(refused.stdout, "");
        place.run(args).code(0);
    }
}

/// Without the header, the segments still say it; without these, nothing does.
#[test]
fn a_queue_without_its_header_is_not_taken_for_that_of_any_store() {
    let place = Place::new();
    place.write("bars.csv", &bars(10));
    place
        .run(&["ingest", "bars", "bars.csv", "--queue", "disk:q"])
        .code(0);
    place
        .run(&["ingest", "bars", "bars.csv", "--store", "sqlite:other.db"])
        .code(0);
    let books = ["audit", "--queue", "disk:q"];
    let other = ["--store", "sqlite:other.db"];
    std::fs::remove_file(place.path("q/bars/header")).unwrap();
    for args in [&AUDIT[..], &books] {
        let refused = place.run(&[args, &other].concat()).code(2);
        refused
            .says("error: the queue q/bars was made for something else than this one (kind bars,")
            .says("its header is gone, its segments say so");
        let right = place.run(args).code(0);
        assert!(!right.stderr.contains("warning"), "{right:?}");
    }
    for segment in std::fs::read_dir(place.path("q/bars")).unwrap() {
        let path = segment.unwrap().path();
        if path.extension().is_some_and(|end| end == "seg") {
            std::fs::remove_file(path).unwrap();
        }
    }
    place.run(&[&AUDIT[..], &other].concat()).says(
        "warning: nothing in q/bars says any more which store the queue is for: whether it is \
         this one cannot be told\n",
    );
}

#[test]
fn the_queue_of_another_kind_is_named_so() {
    let place = Place::new();
    place.write("bars.csv", &bars(10));
    place
        .run(&["ingest", "bars", "bars.csv", "--queue", "disk:q"])
        .code(0);
    std::fs::rename(place.path("q/bars"), place.path("q/options")).unwrap();
    place
        .run(&["audit", "--queue", "disk:q"])
        .code(2)
        .says("error: the queue q/options was made for another kind (kind bars,");
}

#[test]
fn the_folder_of_one_queue_is_not_taken_for_that_of_all() {
    let place = Place::new();
    place.write("bars.csv", &bars(10));
    place
        .run(&["ingest", "bars", "bars.csv", "--queue", "disk:q"])
        .code(0);
    let says = "disk:q/bars is the folder of one queue; name the folder that holds the queues of \
                all kinds: disk:q";
    for args in [
        &["ingest", "bars", "bars.csv"][..],
        &["ingest", "bars"],
        &["serve", "--listen", "127.0.0.1:0"],
        &["audit"],
        &["audit", "bars.csv", "--kind", "bars"],
    ] {
        let queue = ["--queue", "disk:q/bars"];
        place.run(&[args, &queue].concat()).code(2).errors(&[says]);
    }
    assert!(!place.path("q/bars/bars").exists());
    std::fs::rename(place.path("q/bars"), place.path("mine")).unwrap();
    let says = "disk:mine is the folder of one queue; name the folder that holds the queues of all \
                kinds";
    place
        .run(&["audit", "--queue", "disk:mine"])
        .code(2)
        .errors(&[says]);
}

/// Looking leaves no trace: what an ingest does later does not depend on it, and a store that nobody
/// may write to can be audited.
#[test]
fn an_audit_only_reads() {
    let place = Place::new();
    place.run(&["migrate"]).code(0);
    place.write("bars.csv", &bars(10));
    let audit = ["audit", "bars.csv", "--kind", "bars"];
    place.run(&audit).code(1).says("missing: bars.csv:2\n");
    let remembered = || -> i64 {
        let conn = Connection::open(place.path(STORE)).unwrap();
        let sql = "SELECT count(*) FROM ingested_files";
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(remembered(), 0);
    place.run(&["ingest", "bars", "bars.csv"]).code(0);
    assert_eq!(remembered(), 1);
    let conn = Connection::open(place.path(STORE)).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    place.run(&audit).code(0);
}

#[test]
fn where_letters_were_looked_for_is_said_where_rows_are_missing() {
    let place = Place::new();
    place.write("bars.csv", &format!("{}acme,ABC,1m,never,5\n", bars(3)));
    place.run(&["ingest", "bars", "bars.csv"]).code(3);
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let args = [
        "audit",
        "../bars.csv",
        "--kind",
        "bars",
        "--store",
        "sqlite:../market.db",
    ];
    let audit = |args: &[&str]| {
        let mut command = place.command(args);
        let running = command.current_dir(place.path("elsewhere"));
        crate::process::Running::new(running).outcome()
    };
    audit(&args)
        .code(1)
        .says("there are no dead letters in .dlq/bars.ndjson; give --dlq if they are elsewhere\n");
    audit(&[&args[..], &["--dlq", "../.dlq/bars.ndjson"]].concat()).code(0);
    let conn = Connection::open(place.path(STORE)).unwrap();
    conn.execute_batch("DELETE FROM bars_data WHERE close_price = 2")
        .unwrap();
    place
        .run(&["audit", "bars.csv", "--kind", "bars"])
        .code(1)
        .says("the dead letters were looked for in .dlq/bars.ndjson\n");
}

#[test]
fn health_tells_of_the_queues_that_are_there() {
    let place = Place::new();
    place.write("bars.csv", &bars(1_500));
    run_with_rows_left_in_the_queue(&place);
    let health = |code| {
        let args = ["health", "--json"];
        let outcome = place.run_with_env(&args, &[("MDS_QUEUE", "disk:q")]);
        json(&outcome.code(code))
    };
    let found = health(0);
    let bars = &found["queue_bars"];
    assert_eq!(
        (&bars["status"], &bars["waiting"]),
        (&"ok".into(), &1_500.into())
    );
    assert!(bars["bytes"].as_u64().unwrap() > 0, "{found}");
    assert_eq!(found.get("queue_news"), None);
    damage(&place, b"ABC");
    place.run(&DRAIN).code(3);
    let found = health(0);
    let bars = &found["queue_bars"];
    assert_eq!(
        (&bars["status"], &bars["damaged"], &bars["waiting"]),
        (&"degraded".into(), &1.into(), &0.into())
    );
    assert_eq!(found["status"], "degraded");
}
