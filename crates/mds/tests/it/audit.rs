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
