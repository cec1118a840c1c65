//! How a daemon starts and ends, and what it keeps.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rusqlite::Connection;
use serde_json::json;

use super::daemon::Daemon;
use crate::run::Place;

fn bars(from: u32, count: u32) -> String {
    let bar = |i: u32| {
        let (hour, minute) = (i / 60, i % 60);
        format!(
            "{{\"vendor\":\"x\",\"symbol\":\"A\",\"timeframe\":\"1m\",\
             \"ts\":\"2024-11-01T{hour:02}:{minute:02}:00Z\",\"close_price\":{i}}}\n"
        )
    };
    (from..from + count).map(bar).collect()
}

fn count(place: &Place) -> usize {
    let outcome = place.run(&["query", "bars", "--output", "csv"]).code(0);
    outcome.stdout.lines().count() - 1
}

#[test]
fn it_says_whether_it_lives_and_whether_it_takes_rows() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let reply = daemon.get("/livez");
    assert_eq!((reply.status, reply.json()), (200, json!({"alive": true})));
    let reply = daemon.get("/readyz");
    let ready = json!({"ready": true, "reasons": []});
    assert_eq!((reply.status, reply.json()), (200, ready));
    let reply = daemon.get("/metrics");
    assert!(
        reply
            .body
            .contains("mds_coord_queue_depth{coord_id=\"news\"} 0")
    );
    daemon.terminate().code(143);
}

/// Rows that were acknowledged while the store was away are written by the next start.
#[test]
fn an_outage_of_the_store_keeps_nobody_out_and_loses_nothing() {
    let place = Place::new();
    Daemon::start(&place, &[]).terminate().code(143);
    let locked = Connection::open(place.path("market.db")).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    let daemon = Daemon::start_with(&place, &[], &[("MDS_CB_FAILURE_THRESHOLD", "1")]);
    for part in 0..10 {
        let reply = daemon.post("/v1/bars", bars(part * 100, 100));
        assert_eq!(
            (reply.status, &reply.json()["ack"]),
            (200, &json!("durable"))
        );
    }
    assert_eq!(daemon.get("/readyz").status, 200);
    let outcome = daemon.kill();
    assert_eq!(outcome.code, 137);
    drop(locked);
    let outcome = Daemon::start(&place, &[]).terminate().code(143);
    let recovered =
        "1,000 records of an earlier run are in the queue of bars; they are written first";
    assert!(outcome.stderr.contains(recovered), "{outcome:#?}");
    assert_eq!(count(&place), 1_000);
}

/// A clock of revisions that outlives the process: what comes after a restart wins over what waits.
#[test]
fn a_restart_gives_no_lower_revisions() {
    let place = Place::new();
    let revision = |place: &Place| {
        let rows = place.run(&["query", "bars", "--with-revision", "--output", "ndjson"]);
        let row: serde_json::Value = serde_json::from_str(&rows.code(0).stdout).unwrap();
        row["revision"].as_i64().unwrap()
    };
    let mut last = 0;
    for _ in 0..3 {
        let daemon = Daemon::start(&place, &[]);
        daemon.post("/v1/bars", bars(0, 1));
        daemon.terminate().code(143);
        let now = revision(&place);
        assert!(now > last);
        last = now;
    }
}

#[test]
fn two_daemons_do_not_share_a_queue() {
    let place = Place::new();
    let _first = Daemon::start(&place, &[]);
    let outcome = place.run(&["serve", "--listen", "127.0.0.1:0"]).code(1);
    assert!(
        outcome
            .stderr
            .contains("the durable queue is open in another process"),
        "{outcome:#?}"
    );
}

#[test]
fn it_does_not_open_itself_to_everybody_or_to_nobody() {
    let place = Place::new();
    let outcome = place.run(&["serve", "--listen", "0.0.0.0:0"]).code(2);
    let what = "listening on 0.0.0.0:0 would let everybody who reaches it write; --allow-open means \
                that";
    outcome.errors(&[what]);
    let daemon = Daemon::start(&place, &[]);
    let taken = daemon.address.to_string();
    let outcome = place
        .run(&["serve", "--listen", &taken, "--queue", "disk:other"])
        .code(1);
    let what = format!("cannot listen on {taken}; choose another port by --listen");
    assert!(outcome.stderr.contains(&what), "{outcome:#?}");
}

/// Requests that are under way when it is asked to end get their answers, and new ones do not.
#[test]
fn an_end_answers_what_was_asked() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let body = bars(0, 500);
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    let head = format!(
        "POST /v1/bars HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut going_on = [0; 25];
    stream.read_exact(&mut going_on).unwrap();
    assert_eq!(&going_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (address, stopping) = (
        daemon.address,
        std::thread::spawn(move || daemon.terminate()),
    );
    // Nobody is accepted any more once it is stopping.
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"accepted\":500"), "{answer}");
    stopping.join().unwrap().code(143);
    assert_eq!(count(&place), 500);
}
