//! `POST /v1/KIND`.

use std::io::Write as _;

use serde_json::json;

use super::daemon::{Daemon, ask};
use crate::run::Place;

/// Names and values.
type Headers<'a> = &'a [(&'a str, &'a str)];
/// A path, headers, a body, and the status and the code that they end in.
type Case<'a> = (&'a str, Headers<'a>, &'a [u8], u16, &'a str);

fn bar(minute: u32, close: f64) -> String {
    format!(
        "{{\"vendor\":\"x\",\"symbol\":\"A\",\"timeframe\":\"1m\",\
         \"ts\":\"2024-11-01T00:{minute:02}:00Z\",\"close_price\":{close}}}\n"
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// All bars of the store, with their revisions left out.
fn stored(place: &Place) -> String {
    let outcome = place.run(&["query", "bars", "--output", "csv"]).code(0);
    let lines = outcome.stdout.lines().skip(1);
    let lines = lines.map(|line| line.split_once(',').unwrap().1.to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_row_is_told_what_became_of_it_and_is_stored() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let mut body = bar(0, 1.5);
    body.push_str("{\"vendor\":\"x\",\"symbol\":\"A\",\"ts\":\"yesterday\",\"close_price\":1}\n");
    body.push_str(&bar(1, 1.6));
    let reply = daemon.ask(
        "POST",
        "/v1/bars",
        &[("x-request-id", "feed-7")],
        body.as_bytes(),
    );
    let expected = json!({
        "request_id": "feed-7", "kind": "bars", "ack": "durable",
        "received": 3, "accepted": 2, "refused": 1, "skipped": 0,
        "errors": [{
            "index": 1, "line": 2, "field": "ts", "code": "malformed", "value": "yesterday",
            "reason": "this is not a time; times look like 2024-11-01T09:30:00-05:00",
        }],
        "errors_truncated": false,
    });
    let mut found = reply.json();
    // The words are the reader's own.
    let reason = found["errors"][0]["reason"].take();
    assert!(reason.as_str().is_some_and(|reason| reason.len() > 10));
    found["errors"][0]["reason"] = expected["errors"][0]["reason"].clone();
    assert_eq!((reply.status, found), (207, expected));
    assert_eq!(reply.headers["x-request-id"], "feed-7");
    let outcome = daemon.terminate().code(143);
    assert!(
        outcome.stderr.ends_with("bars: 2 accepted, 2 written\n"),
        "{outcome:#?}"
    );
    assert_eq!(
        stored(&place),
        "x,A,1m,2024-11-01T00:00:00Z,,,,1.5,,false\nx,A,1m,2024-11-01T00:01:00Z,,,,1.6,,false"
    );
}

#[test]
fn all_formats_and_all_kinds_end_in_the_same_rows() {
    let ndjson = bar(0, 1.5) + &bar(1, 0.1);
    let array = format!("[{}]", ndjson.trim_end().replace('\n', ","));
    let csv = "vendor,symbol,timeframe,ts,close_price\n\
               x,A,1m,2024-11-01T00:00:00Z,1.5\nx,A,1m,2024-11-01T00:01:00Z,0.1\n";
    let packed = gzip(ndjson.as_bytes());
    let bodies: [(Headers<'_>, &[u8]); 6] = [
        (
            &[("content-type", "application/x-ndjson")],
            ndjson.as_bytes(),
        ),
        (&[("content-type", "application/json")], array.as_bytes()),
        (
            &[("content-type", "text/csv; charset=utf-8")],
            csv.as_bytes(),
        ),
        // Told by the body.
        (&[], array.as_bytes()),
        (
            &[("content-type", "application/x-www-form-urlencoded")],
            csv.as_bytes(),
        ),
        (
            &[
                ("content-type", "application/x-ndjson"),
                ("content-encoding", "gzip"),
            ],
            &packed,
        ),
    ];
    let mut all = Vec::new();
    for (headers, body) in bodies {
        let place = Place::new();
        let daemon = Daemon::start(&place, &[]);
        let reply = daemon.ask("POST", "/v1/bars", headers, body);
        assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(2)));
        daemon.terminate().code(143);
        all.push(stored(&place));
    }
    assert!(
        all.iter().all(|rows| *rows == all[0] && !rows.is_empty()),
        "{all:#?}"
    );

    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let others = [
        (
            "options",
            json!({"vendor": "x", "symbol": "NDXP", "ts": "2024-11-01T00:00:00Z",
            "expiry": "2024-12-20", "option_type": "call", "strike": 100.0, "iv": 0.2}),
        ),
        (
            "fundamentals",
            json!({"vendor": "x", "symbol": "A", "asof": "2024-11-01T00:00:00Z",
            "period": "Q3", "eps": 1.5}),
        ),
        (
            "news",
            json!({"vendor": "x", "published_at": "2024-11-01T00:00:00Z", "id": "1",
            "title": "Up"}),
        ),
    ];
    for (kind, row) in others {
        let reply = daemon.post(&format!("/v1/{kind}"), row.to_string() + "\n");
        assert_eq!(
            (reply.status, &reply.json()["accepted"]),
            (200, &json!(1)),
            "{reply:?}"
        );
    }
    let outcome = daemon.terminate().code(143);
    for kind in ["options", "fundamentals", "news"] {
        let outcome = outcome
            .stderr
            .contains(&format!("{kind}: 1 accepted, 1 written\n"));
        assert!(outcome, "{kind}");
    }
}

#[test]
fn what_cannot_be_taken_is_refused_whole_and_says_why() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let long = vec![b' '; (16 << 20) + 1];
    let bomb = gzip(&long);
    assert!(bomb.len() < 1_000_000);
    let cut = &gzip(bar(0, 1.0).repeat(100).as_bytes())[..40];
    let ndjson = ("content-type", "application/x-ndjson");
    let gzip = ("content-encoding", "gzip");
    let half = format!("[{},", bar(0, 1.0).trim_end());
    let good = bar(0, 1.0);
    let cases: [Case<'_>; 13] = [
        ("/v1/bars", &[], b"", 400, "empty_body"),
        ("/v1/bars", &[ndjson], &long, 413, "body_too_large"),
        (
            "/v1/bars",
            &[ndjson, gzip],
            &bomb,
            413,
            "unpacked_too_large",
        ),
        ("/v1/bars", &[ndjson, gzip], cut, 400, "bad_gzip"),
        (
            "/v1/bars",
            &[ndjson, gzip],
            good.as_bytes(),
            400,
            "bad_gzip",
        ),
        ("/v1/bars", &[], half.as_bytes(), 400, "malformed"),
        (
            "/v1/bars",
            &[("content-type", "text/xml")],
            b"<a/>",
            415,
            "unsupported_media_type",
        ),
        (
            "/v1/bars",
            &[("content-encoding", "br")],
            b"x",
            415,
            "unsupported_encoding",
        ),
        (
            "/v1/bars",
            &[],
            b"PK\x03\x04rest",
            415,
            "unsupported_media_type",
        ),
        (
            "/v1/bars?akc=durable",
            &[],
            good.as_bytes(),
            400,
            "bad_parameter",
        ),
        (
            "/v1/bars?ack=maybe",
            &[],
            good.as_bytes(),
            400,
            "bad_parameter",
        ),
        (
            "/v1/bars?timeframe=soon",
            &[],
            good.as_bytes(),
            400,
            "bad_parameter",
        ),
        ("/v1/ticks", &[], good.as_bytes(), 404, "not_found"),
    ];
    for (path, headers, body, status, code) in cases {
        let reply = daemon.ask("POST", path, headers, body);
        assert_eq!(reply.code(), (status, code.to_owned()), "{path}: {reply:?}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
    let said = daemon.terminate().code(143).stderr;
    assert!(!said.contains("accepted,"), "{said}");
}

#[test]
fn other_methods_and_bad_rows_only_are_refused() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let reply = daemon.ask("PUT", "/v1/bars", &[], b"");
    assert_eq!(reply.code(), (405, "method_not_allowed".to_owned()));
    assert_eq!(reply.headers["allow"], "POST,GET,HEAD");
    // All rows bad: nothing to take.
    let ndjson = "application/x-ndjson";
    let reply = daemon.post_as("/v1/bars", ndjson, "{\"vendor\":1}\nnonsense\n");
    assert_eq!((reply.status, &reply.json()["refused"]), (422, &json!(2)));
    let outcome = daemon.terminate().code(143);
    assert!(!outcome.stderr.contains("accepted,"), "{outcome:#?}");
}

#[test]
fn a_queue_in_memory_does_not_call_rows_durable() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--queue", "memory"]);
    let reply = daemon.post("/v1/bars?ack=durable", bar(0, 1.0));
    assert_eq!(reply.code(), (409, "ack_unavailable".to_owned()));
    let reply = daemon.post("/v1/bars", bar(0, 1.0));
    assert_eq!(
        (reply.status, &reply.json()["ack"]),
        (202, &json!("accepted"))
    );
    daemon.terminate().code(143);
    assert_eq!(stored(&place).lines().count(), 1);
}

#[test]
fn a_later_row_of_the_same_key_wins_and_a_revision_from_the_future_is_refused() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    daemon.post("/v1/bars", bar(0, 1.0) + &bar(0, 2.0));
    daemon.post("/v1/bars", bar(0, 3.0) + &bar(0, 4.0));
    let future = bar(1, 9.0).replace('}', ",\"revision\":9000000000000000}");
    let reply = daemon.post("/v1/bars", future);
    assert_eq!(reply.status, 422);
    assert_eq!(reply.json()["errors"][0]["code"], "revision_ahead");
    daemon.terminate().code(143);
    assert_eq!(stored(&place), "x,A,1m,2024-11-01T00:00:00Z,,,,4,,false");
}

/// The same rows by HTTP and from a file are the same rows in the end.
#[test]
fn rows_by_http_are_those_of_a_file() {
    let by_file = Place::new();
    let row = |i: u32| {
        let (symbol, minute) = (i % 7, i / 7);
        let price = f64::from(i) / 3.0;
        format!(
            "x,S{symbol},1m,{},{price},{}\n",
            1_700_000_000 + minute * 60,
            i * 10
        )
    };
    let rows: String = (0..3_000).map(row).collect();
    let csv = format!("vendor,symbol,timeframe,ts,close_price,volume\n{rows}");
    by_file.write("bars.csv", &csv);
    by_file
        .run(&["ingest", "bars", "bars.csv", "--time-format", "epoch_s"])
        .code(0);
    let rows = by_file
        .run(&["query", "bars", "--output", "ndjson"])
        .code(0);
    let by_http = Place::new();
    let daemon = Daemon::start(&by_http, &[]);
    let lines: Vec<&str> = rows.stdout.lines().collect();
    for chunk in lines.chunks(700) {
        let reply = daemon.post_as("/v1/bars", "application/x-ndjson", chunk.join("\n"));
        assert_eq!(reply.json()["accepted"], chunk.len(), "{reply:?}");
    }
    daemon.terminate().code(143);
    let export = |place: &Place| {
        place
            .run(&["query", "bars", "--output", "csv"])
            .code(0)
            .stdout
    };
    assert_eq!(export(&by_http), export(&by_file));
}

/// Each request is told what became of its own rows, many at a time.
#[test]
fn who_waits_for_it_is_told_what_became_of_each_row() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let reply = daemon.post(
        "/v1/bars?ack=written",
        bar(0, 1.0) + &bar(0, 2.0) + &bar(1, 1.0),
    );
    let told = reply.json();
    let fates = [
        "accepted",
        "written",
        "superseded",
        "dead_lettered",
        "outstanding",
    ];
    let counts: Vec<_> = fates
        .iter()
        .map(|fate| told[fate].as_u64().unwrap())
        .collect();
    assert_eq!((reply.status, counts), (200, vec![3, 2, 1, 0, 0]));
    assert_eq!(told["ack"], "written");
    std::thread::scope(|scope| {
        for client in 0..20_u32 {
            let address = daemon.address;
            scope.spawn(move || {
                for minute in 0..5 {
                    let row = bar(minute + 2, 1.0).replace("\"A\"", &format!("\"C{client}\""));
                    let told = ask(address, "POST", "/v1/bars?ack=written", &[], row.as_bytes());
                    let told = told.unwrap().json();
                    assert_eq!(
                        (&told["written"], &told["outstanding"]),
                        (&json!(1), &json!(0))
                    );
                }
            });
        }
    });
    daemon.terminate().code(143);
    assert_eq!(stored(&place).lines().count(), 102);
}

/// A row that the queue has never room for is refused alone.
#[test]
fn a_row_that_is_too_large_for_the_queue_costs_itself() {
    let place = Place::new();
    let small = [("MDS_QUEUE_MAX_BYTES", "1048576")];
    let daemon = Daemon::start_with(&place, &[], &small);
    let news = |id: u32, title: &str| {
        let row = json!({"vendor": "x", "published_at": "2024-11-01T00:00:00Z",
            "id": id.to_string(), "title": title});
        row.to_string() + "\n"
    };
    let body = news(1, "a") + &news(2, &"b".repeat(500_000)) + &news(3, "c");
    let reply = daemon.post_as("/v1/news", "application/x-ndjson", body);
    let told = reply.json();
    let counts = ["received", "accepted", "refused"].map(|count| told[count].as_u64().unwrap());
    assert_eq!((reply.status, counts), (207, [3, 2, 1]));
    let error = &told["errors"][0];
    assert_eq!(
        (&error["index"], &error["code"]),
        (&json!(1), &json!("too_large"))
    );
    let outcome = daemon.terminate().code(143);
    assert!(
        outcome.stderr.contains("news: 2 accepted, 2 written"),
        "{outcome:#?}"
    );
}
