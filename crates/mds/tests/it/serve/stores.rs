//! Stores, with rows in them, that are read.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::daemon::{Daemon, Reply};
use crate::postgres::Server;
use crate::run::Place;

/// When what must happen is taken never to.
pub(super) const HANG: Duration = Duration::from_secs(120);

/// A row that is in none of them.
pub(super) const BAR: &str = "{\"vendor\":\"x\",\"symbol\":\"A\",\"timeframe\":\"1m\",\
                   \"ts\":\"2024-12-01T00:00:00Z\",\"close_price\":1}\n";

/// Does the same on each kind of store.
pub(super) fn on_every_store(test: impl Fn(&Place)) {
    test(&Place::new());
    let runtime = Runtime::new().unwrap();
    let Some(server) = runtime.block_on(Server::find()) else {
        return;
    };
    let place = Place::new();
    let url = server.url(server.address, "");
    place.write("mds.toml", &format!("store = \"{url}\"\n"));
    test(&place);
}

/// Rows of all kinds, many of them of the same moment and alike in most of their keys.
pub(super) fn fill(place: &Place) {
    let mut csv = "vendor,symbol,timeframe,ts,close_price\n".to_owned();
    for minute in 0..4 {
        for (vendor, symbol) in [("x", "A"), ("x", "B"), ("y", "A"), ("y", "B,C")] {
            // Neither the order of their lengths nor that of their texts.
            for timeframe in ["90m", "1h", "1d", "45d", "1mo", "7m"] {
                let symbol = symbol.replace(',', ".");
                let ts = format!("2024-11-01T00:0{minute}:00Z");
                csv.extend([format!("{vendor},{symbol},{timeframe},{ts},0.{minute}\n")]);
            }
        }
    }
    ingest(place, "bars", &csv);
    let mut csv = "vendor,symbol,expiry,option_type,strike,ts,iv\n".to_owned();
    for day in 1..3 {
        for expiry in ["2025-01-17", "2024-12-20"] {
            for (side, strike) in [("C", 9.5), ("P", 9.5), ("C", 100.0), ("P", 20.25)] {
                csv.extend([format!(
                    "cboe,SPX,{expiry},{side},{strike},2024-11-0{day},0.2\n"
                )]);
            }
        }
    }
    ingest(place, "options", &csv);
    let mut csv = "vendor,symbol,asof,period,eps\n".to_owned();
    for symbol in ["B", "A", "C"] {
        for period in ["Q3", "FY", "Q1"] {
            csv.extend([format!("sec,{symbol},2024-09-30T00:00:00Z,{period},1.25\n")]);
        }
    }
    ingest(place, "fundamentals", &csv);
    let mut csv = "vendor,published_at,id,symbols,title\n".to_owned();
    for id in 0..20 {
        csv.extend([format!(
            "n,2024-11-01T09:3{}:00Z,id-{id},\"A,S{id}\",Up\n",
            id / 7
        )]);
    }
    csv.push_str("n,2024-11-01T09:30:00Z,ümlaut \"x\",B,\"Two\nlines, \"\"quoted\"\"\"\n");
    ingest(place, "news", &csv);
}

pub(super) fn ingest(place: &Place, kind: &str, csv: &str) {
    place.write("rows.csv", csv);
    let args = ["ingest", kind, "rows.csv", "--dlq", "by-hand.ndjson"];
    place.run(&args).code(0);
}

/// Asks until the answer is such.
#[track_caller]
pub(super) fn until_answered(daemon: &Daemon, path: &str, is_so: impl Fn(&Reply) -> bool) -> Reply {
    let started = Instant::now();
    loop {
        let reply = daemon.get(path);
        if is_so(&reply) {
            return reply;
        }
        assert!(started.elapsed() < HANG, "{path}: {reply:?}");
    }
}
