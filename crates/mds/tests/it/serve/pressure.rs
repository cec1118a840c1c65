//! How producers learn of pressure, and what a full queue answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::daemon::Daemon;
use crate::run::Place;

/// A queue in memory for 100 rows, and one worker that takes them one by one.
pub(super) const SMALL: [(&str, &str); 4] = [
    ("MDS_COORDINATOR_CAPACITY", "100"),
    ("MDS_COORDINATOR_WORKERS", "1"),
    ("MDS_COORDINATOR_BATCH_SIZE", "1"),
    // The circuit stays closed: this is about the queue.
    ("MDS_CB_FAILURE_THRESHOLD", "1000"),
];

pub(super) fn bars(count: u32) -> String {
    let bar = |i: u32| {
        format!(
            "{{\"vendor\":\"x\",\"symbol\":\"S{i}\",\"timeframe\":\"1m\",\
             \"ts\":\"2024-11-01T00:00:00Z\",\"close_price\":{i}}}\n"
        )
    };
    (0..count).map(bar).collect()
}

/// Makes a store, and locks it; dropping the connection lets it go.
pub(super) fn lock(place: &Place) -> Connection {
    Daemon::start(place, &["--queue", "memory"])
        .terminate()
        .code(143);
    let lock = Connection::open(place.path("market.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

/// A daemon whose store is locked by somebody else.
fn locked(place: &Place) -> (Daemon, Connection) {
    let lock = lock(place);
    (
        Daemon::start_with(place, &["--queue", "memory"], &SMALL),
        lock,
    )
}

#[test]
fn a_full_queue_says_when_to_come_again_and_from_which_row_on() {
    let place = Place::new();
    let (daemon, lock) = locked(&place);
    let reply = daemon.post("/v1/bars", bars(90));
    assert_eq!((reply.status, &reply.json()["accepted"]), (202, &json!(90)));
    let reply = daemon.get("/v1/backpressure?coordinator=bars");
    let told = reply.json();
    let bars_of_it = &told["coordinators"][0];
    assert_eq!(
        (told["level"].as_str(), bars_of_it["capacity"].as_u64()),
        (Some("hard"), Some(100))
    );
    assert_eq!(bars_of_it["coordinator_id"], "bars");
    assert_eq!(bars_of_it["advised_rows_per_second"], json!(0.0));
    assert_eq!(reply.headers["cache-control"], "no-store");
    // A bad row before those that find no room is named as well: who goes on behind them does not
    // send it again.
    let body = "nonsense\n".to_owned() + &bars(50);
    let reply = daemon.post_as("/v1/bars", "application/x-ndjson", body);
    assert_eq!(reply.code(), (429, "queue_full".to_owned()));
    let told = reply.json();
    assert_eq!(
        (&told["refused"], &told["errors"][0]["index"]),
        (&json!(1), &json!(0))
    );
    // One row may be in the hands of the worker.
    let accepted = told["accepted"].as_u64().unwrap();
    assert!((10..=11).contains(&accepted), "{told}");
    assert_eq!(told["next_index"], accepted + 1);
    let seconds: u64 = reply.headers["retry-after"].parse().unwrap();
    assert!((1..=72).contains(&seconds), "{seconds}");
    drop(lock);
    let outcome = daemon.terminate().code(143);
    let all = format!(
        "bars: {} accepted, {} written",
        90 + accepted,
        90 + accepted
    );
    assert!(outcome.stderr.contains(&all), "{outcome:#?}");
}

#[test]
fn crossings_come_as_events_after_a_first_reading() {
    let place = Place::new();
    let (daemon, lock) = locked(&place);
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    stream
        .write_all(b"GET /v1/backpressure/stream?coordinator=bars HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut next = |wanted: &str| -> Value {
        let data = lines.find_map(|line| {
            let data = line.strip_prefix("data: ")?;
            data.contains(wanted).then(|| data.to_owned())
        });
        serde_json::from_str(&data.unwrap_or_else(|| panic!("{wanted} never came"))).unwrap()
    };
    let first = next("\"reason\":\"snapshot\"");
    assert_eq!(
        (&first["level"], &first["queue_size"]),
        (&json!("ok"), &json!(0))
    );
    daemon.post("/v1/bars", bars(90));
    let hard = next("\"level\":\"hard\"");
    assert_eq!(
        (&hard["coordinator_id"], &hard["source"]),
        (&json!("bars"), &json!("store"))
    );
    assert!(hard["ts"].as_f64().unwrap() > 1.7e9);
    drop(lock);
    let ok = next("\"level\":\"ok\"");
    assert_eq!(ok["advised_rows_per_second"], Value::Null);
    let ended = std::thread::spawn(move || daemon.terminate());
    assert_eq!(next("{}"), json!({}));
    ended.join().unwrap().code(143);
}

#[test]
fn what_is_no_coordinator_is_no_question() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let told = daemon.get("/v1/backpressure").json();
    let ids = told["coordinators"].as_array().unwrap().iter();
    let ids: Vec<_> = ids.map(|c| c["coordinator_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["bars", "options", "fundamentals", "news"]);
    assert_eq!(told["level"], "ok");
    for path in [
        "/v1/backpressure?coordinator=ticks",
        "/v1/backpressure/stream?kind=bars",
    ] {
        assert_eq!(daemon.get(path).code(), (400, "bad_parameter".to_owned()));
    }
}
