//! `GET /v1/KIND`, `/v1/latest`, `/v1/stats`; on a file, and on a server where there is one.

use serde_json::{Value, json};

use super::daemon::{Daemon, Reply};
use super::stores::{BAR, fill, ingest, on_every_store, until_answered};
use crate::run::Place;

const KINDS: [&str; 4] = ["bars", "options", "fundamentals", "news"];

/// What `mds query` prints.
fn queried(place: &Place, kind: &str, args: &[&str]) -> String {
    let args = [&["query", kind], args].concat();
    place.run(&args).code(0).stdout
}

/// The address of the next page.
fn next(reply: &Reply) -> Option<String> {
    let link = reply.headers.get("link")?;
    let address = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(address.to_owned())
}

/// All pages of a query, one behind the other, and how many there were.
fn pages(daemon: &Daemon, first: &str) -> (String, usize) {
    let (mut text, mut count, mut address) = (String::new(), 0, Some(first.to_owned()));
    while let Some(path) = address {
        let reply = daemon.get(&path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let is_csv = reply.headers["content-type"] == "text/csv";
        let header = usize::from(is_csv && count > 0);
        text.extend(reply.body.split_inclusive('\n').skip(header));
        count += 1;
        address = next(&reply);
    }
    (text, count)
}

#[test]
fn pages_put_together_are_one_query() {
    on_every_store(|place| {
        fill(place);
        let daemon = Daemon::start(place, &[]);
        for kind in KINDS {
            for (order, newest_first) in [("asc", None), ("desc", Some("--newest-first"))] {
                for form in ["ndjson", "csv"] {
                    let mut args = vec!["--output", form];
                    args.extend(newest_first);
                    let all = queried(place, kind, &args);
                    let rows = queried(place, kind, &["--output", "ndjson"]);
                    let rows = rows.lines().count();
                    for limit in [1, 2, 7] {
                        let path = format!("/v1/{kind}?order={order}&format={form}&limit={limit}");
                        let (text, count) = pages(&daemon, &path);
                        assert!(text == all, "{path}\n{text}\n{all}");
                        // The last page knows that it is the last.
                        assert_eq!(count, rows.div_ceil(limit), "{path}");
                    }
                }
            }
        }
        daemon.terminate().code(143);
    });
}

#[test]
fn pages_of_json_hold_their_cursor() {
    let place = Place::new();
    fill(&place);
    let daemon = Daemon::start(&place, &[]);
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = daemon.get(&format!("/v1/news?limit=6{cursor}"));
        assert_eq!(reply.headers["content-type"], "application/json");
        let mut page = reply.json();
        rows.append(page["rows"].as_array_mut().unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break assert_eq!(page["next_cursor"], Value::Null),
        }
    }
    let all = queried(&place, "news", &["--output", "ndjson"]);
    let all: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((rows.len(), rows), (21, all));
    let nothing = daemon.get("/v1/news?symbol=NONE");
    assert_eq!(nothing.body, "{\"rows\":[],\"next_cursor\":null}");
}

/// A page is held in memory, so that its bytes are bounded as its rows are.
#[test]
fn a_page_of_long_rows_ends_before_its_limit() {
    let place = Place::new();
    let title = "long ".repeat(120_000);
    let row = |id: u32| format!("n,2024-11-01T09:30:00Z,{id:02},A,{title}\n");
    let rows: String = (0..40).map(row).collect();
    ingest(
        &place,
        "news",
        &format!("vendor,published_at,id,symbols,title\n{rows}"),
    );
    let daemon = Daemon::start(&place, &[]);
    let (text, count) = pages(&daemon, "/v1/news?limit=100&format=ndjson");
    assert_eq!(count, 2);
    assert!(text == queried(&place, "news", &["--output", "ndjson"]));
}

#[test]
fn a_page_is_what_mds_query_prints() {
    on_every_store(|place| {
        fill(place);
        let daemon = Daemon::start(place, &[]);
        let cases: [(&str, &str, &[&str]); 9] = [
            ("bars", "", &[]),
            ("bars", "symbol=A&symbol=B", &["-s", "A", "-s", "B"]),
            (
                "bars",
                "symbol=a,B.C&limit=5",
                &["-s", "A", "-s", "B.C", "-n", "5"],
            ),
            (
                "bars",
                "vendor=Y&timeframe=60m&with_revision=true",
                &["--vendor", "y", "--timeframe", "1h", "--with-revision"],
            ),
            (
                "bars",
                "start=2024-11-01T01:01:00%2B01:00&end=2024-11-01T00:03:00Z&order=desc&limit=3",
                &[
                    "--start",
                    "2024-11-01T00:01:00Z",
                    "--end",
                    "2024-11-01T00:03:00Z",
                    "--newest-first",
                    "-n",
                    "3",
                ],
            ),
            ("options", "start=2024-11-02", &["--start", "2024-11-02"]),
            ("news", "symbol=S3,B", &["-s", "S3", "-s", "B"]),
            ("fundamentals", "with_revision=true", &["--with-revision"]),
            ("bars", "start=2030-01-01", &["--start", "2030-01-01"]),
        ];
        for (kind, parameters, args) in cases {
            for form in ["ndjson", "csv"] {
                let printed = queried(place, kind, &[args, &["--output", form]].concat());
                let reply = daemon.get(&format!("/v1/{kind}?{parameters}&format={form}"));
                assert!(reply.body == printed, "{parameters}: {reply:?}\n{printed}");
                let length = reply.headers["content-length"].parse();
                assert_eq!(length, Ok(printed.len()));
                if !parameters.contains("limit") {
                    // All at once, as it comes.
                    let path = format!("/v1/{kind}?{parameters}&format={form}&limit=0");
                    let reply = daemon.get(&path);
                    assert!(reply.body == printed, "{path}: {reply:?}\n{printed}");
                    assert_eq!(reply.headers["transfer-encoding"], "chunked");
                }
            }
        }
        let accept = [("accept", "text/html, text/csv;q=0.5, */*")];
        let reply = daemon.ask("GET", "/v1/news", &accept, b"");
        assert_eq!(reply.body, queried(place, "news", &["--output", "csv"]));
        daemon.terminate().code(143);
    });
}

/// The cursor is the key of a row: it need not be there any more, and what comes or goes before it does
/// not shift what is behind it.
#[test]
fn rows_that_come_and_go_between_pages_neither_repeat_nor_hide_others() {
    let bar = |symbol: &str, minute: u32| format!("x,{symbol},1m,2024-11-01T00:0{minute}:00Z,1\n");
    let header = "vendor,symbol,timeframe,ts,close_price\n";
    let delete = |place: &Place, symbol: &str| {
        let args = ["delete", "bars", "-s", symbol, "--yes"];
        place.run(&args).code(0);
    };
    let symbols = |page: &str| {
        let symbol = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            let minute = &row["ts"].as_str().unwrap()[15..16];
            format!("{}{minute}", row["symbol"].as_str().unwrap())
        };
        page.lines().map(symbol).collect::<Vec<_>>().join(" ")
    };
    on_every_store(|place| {
        let rows: String = ["B", "D", "F", "H"].iter().map(|s| bar(s, 1)).collect();
        ingest(
            place,
            "bars",
            &format!("{header}{}{rows}{}", bar("B", 0), bar("B", 2)),
        );
        let daemon = Daemon::start(place, &[]);
        let first = daemon.get("/v1/bars?limit=3&format=ndjson");
        assert_eq!(symbols(&first.body), "B0 B1 D1");
        // The row of the cursor goes, others come before it, at its moment and behind it.
        delete(place, "D");
        let rows: String = ["A", "C", "E", "G", "I"]
            .iter()
            .map(|s| bar(s, 1))
            .collect();
        ingest(
            place,
            "bars",
            &format!("{header}{}{rows}{}", bar("Z", 0), bar("A", 2)),
        );
        let second = daemon.get(&next(&first).unwrap());
        assert_eq!(symbols(&second.body), "E1 F1 G1");
        delete(place, "H");
        let third = daemon.get(&next(&second).unwrap());
        assert_eq!(symbols(&third.body), "I1 A2 B2");
        assert_eq!(next(&third), None);

        let first = daemon.get("/v1/bars?limit=3&format=ndjson&order=desc");
        assert_eq!(symbols(&first.body), "B2 A2 I1");
        delete(place, "I");
        ingest(
            place,
            "bars",
            &format!("{header}{}{}", bar("J", 1), bar("D", 1)),
        );
        let second = daemon.get(&next(&first).unwrap());
        assert_eq!(symbols(&second.body), "G1 F1 E1");
        let (rest, _) = pages(&daemon, &next(&second).unwrap());
        assert_eq!(symbols(&rest), "D1 C1 B1 A1 Z0 B0");
        daemon.terminate().code(143);
    });
}

#[test]
fn what_is_asked_wrongly_is_named() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    for (path, parameter) in [
        ("/v1/bars?symbols=A", "symbols"),
        (
            "/v1/bars?tenant=00000000-0000-0000-0000-000000000002",
            "tenant",
        ),
        ("/v1/bars?symbol=", "symbol"),
        ("/v1/bars?symbol=A,,B", "symbol"),
        ("/v1/bars?vendor=%20", "vendor"),
        ("/v1/bars?timeframe=soon", "timeframe"),
        ("/v1/news?timeframe=1m", "timeframe"),
        ("/v1/bars?start=yesterday", "start"),
        ("/v1/bars?end=2024-11-01T00:00:00", "end"),
        ("/v1/bars?start=2024-11-02&end=2024-11-02", "end"),
        ("/v1/bars?order=up", "order"),
        ("/v1/bars?limit=-1", "limit"),
        ("/v1/bars?limit=100001", "limit"),
        ("/v1/bars?limit=0", "limit"),
        ("/v1/bars?limit=1&limit=2", "limit"),
        ("/v1/bars?with_revision=maybe", "with_revision"),
        ("/v1/bars?format=parquet", "format"),
        ("/v1/latest?start=2024-11-01", "start"),
        ("/v1/stats?symbol=A", "symbol"),
    ] {
        let reply = daemon.get(path);
        assert_eq!(reply.code(), (400, "bad_parameter".to_owned()), "{path}");
        assert_eq!(reply.json()["parameter"], parameter, "{path}");
    }
    let reply = daemon.ask("GET", "/v1/bars?x=1", &[("x-request-id", "me-1")], b"");
    assert_eq!(reply.headers["x-request-id"], "me-1");
    assert_eq!(reply.json()["request_id"], "me-1");
}

#[test]
fn a_cursor_is_good_for_its_query_only() {
    let place = Place::new();
    fill(&place);
    let daemon = Daemon::start(&place, &[]);
    let page = daemon.get("/v1/bars?limit=1&symbol=A,B");
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    for good in [
        "/v1/bars?symbol=b&symbol=a",
        "/v1/bars?symbol=A,B&limit=7&format=csv&with_revision=true",
        "/v1/bars?symbol=A,B&limit=0&format=ndjson",
    ] {
        assert_eq!(daemon.get(&format!("{good}&cursor={cursor}")).status, 200);
    }
    let (start, end) = cursor.split_at(cursor.len() - 1);
    let other = if end == "0" { "1" } else { "0" };
    for bad in [
        format!("/v1/bars?symbol=A&cursor={cursor}"),
        format!("/v1/bars?symbol=A,B&order=desc&cursor={cursor}"),
        format!("/v1/bars?symbol=A,B&start=2024-11-01&cursor={cursor}"),
        format!("/v1/options?symbol=A,B&cursor={cursor}"),
        format!("/v1/bars?symbol=A,B&cursor={start}"),
        format!("/v1/bars?symbol=A,B&cursor={start}{other}"),
        "/v1/bars?cursor=".to_owned(),
        "/v1/bars?cursor=%C3%A9".to_owned(),
    ] {
        let reply = daemon.get(&bad);
        assert_eq!(reply.code(), (400, "bad_cursor".to_owned()), "{bad}");
    }
}

#[test]
fn the_last_prices_are_those_of_mds_latest() {
    on_every_store(|place| {
        fill(place);
        let daemon = Daemon::start(place, &[]);
        for (parameters, args) in [
            ("", &[][..]),
            ("symbol=b,a", &["A", "B"]),
            (
                "symbol=A&vendor=x&timeframe=1d",
                &["A", "--vendor", "x", "--timeframe", "1d"],
            ),
            ("symbol=NONE", &["NONE"]),
        ] {
            for form in ["ndjson", "csv"] {
                let args = [&["latest", "--output", form], args].concat();
                let printed = place.run(&args).code(0).stdout;
                let reply = daemon.get(&format!("/v1/latest?{parameters}&format={form}"));
                assert!(reply.body == printed, "{parameters}: {reply:?}\n{printed}");
            }
        }
        let reply = daemon.get("/v1/latest?symbol=A&vendor=x");
        let expected = json!([{
            "tenant_id": "00000000-0000-0000-0000-000000000001", "vendor": "x", "symbol": "A",
            "price": 0.3, "price_timestamp": "2024-11-01T00:03:00Z",
        }]);
        assert_eq!(reply.json(), expected);
        daemon.terminate().code(143);
    });
}

#[test]
fn the_figures_are_those_of_the_store_and_the_books() {
    on_every_store(|place| {
        fill(place);
        let daemon = Daemon::start(place, &[]);
        assert_eq!(daemon.post("/v1/bars", BAR).status, 200);
        let written = |reply: &Reply| reply.json()["coordinators"]["bars"]["written"] == 1;
        let mut found = until_answered(&daemon, "/v1/stats", written).json();
        let books = found["coordinators"]["bars"].take();
        assert_eq!(books["accepted"], 1);
        assert_eq!(books["balanced"], true);
        let printed = place.run(&["stats", "--json"]).code(0).stdout;
        let printed: Value = serde_json::from_str(&printed).unwrap();
        let rows = |stats: &Value, kind: usize| stats["kinds"][kind]["rows"].clone();
        for (kind, count) in [(1, 16), (2, 9), (3, 21)] {
            assert_eq!(
                (rows(&found, kind), rows(&printed, kind)),
                (count.into(), count.into())
            );
        }
        let is_whole = |reply: &Reply| rows(&reply.json(), 0) == 97;
        let found = until_answered(&daemon, "/v1/stats", is_whole).json();
        assert_eq!(found["freshness"], printed["freshness"]);
        daemon.terminate().code(143);
    });
}
