//! `mds ingest` into a server that goes away or stalls in the middle.

use super::Server;
use super::proxy::{Mode, Proxy};
use crate::ingest::{bars, letters};
use crate::run::{Outcome, Place};

const ROWS: u64 = 60_000;

/// A place whose settings name the server behind the proxy, with short limits of time.
fn place(server: &Server, proxy: &Proxy) -> Place {
    let place = Place::new();
    let url = server.url(proxy.address, "&connect_timeout=1");
    let settings = format!("store = \"{url}\"\nwrite_timeout_sec = 1.0\n");
    place.write("mds.toml", &settings);
    place.write("bars.csv", &bars(ROWS));
    place
}

/// Runs the program, without holding up the proxy; the server breaks at the twentieth batch and is
/// mended when the program has said that it waits, if it is to be.
fn run(place: &Place, proxy: &Proxy, mode: Mode, max_outage: &str, is_mended: bool) -> Outcome {
    tokio::task::block_in_place(|| {
        proxy.set_at_commit(20, mode);
        let args = [
            "ingest",
            "bars",
            "bars.csv",
            "--json",
            "--max-outage",
            max_outage,
        ];
        let mut running = place.start(&args);
        if is_mended {
            running.wait_for("waiting for the store");
            proxy.set(Mode::Pass);
        }
        running.outcome()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_away_or_silent_is_waited_for() {
    for mode in [Mode::Refuse, Mode::Cut, Mode::Stall, Mode::StallAnswers] {
        let Some(server) = Server::find().await else {
            return;
        };
        let proxy = Proxy::start(server.address).await;
        let place = place(&server, &proxy);
        let outcome = run(&place, &proxy, mode, "60s", true);
        let outcome = outcome.code(0).says("the store is back after ");
        assert_eq!(outcome.books(), "read 60000, written 60000", "{mode:?}");
        assert!(letters(&place, ".dlq/bars.ndjson").is_empty());
        assert_eq!(server.rows_and_keys().await, (ROWS, ROWS));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_stays_away_stops_the_run_and_the_next_completes_it() {
    let Some(server) = Server::find().await else {
        return;
    };
    let proxy = Proxy::start(server.address).await;
    let place = place(&server, &proxy);
    let stopped = run(&place, &proxy, Mode::Stall, "1s", false).code(1);
    stopped.says("the store was away for longer than --max-outage (1s)");
    let (rows, keys) = server.rows_and_keys().await;
    assert!(rows == keys && rows < ROWS, "{rows} {keys}");
    proxy.set(Mode::Pass);
    run(&place, &proxy, Mode::Pass, "60s", false).code(0);
    assert_eq!(server.rows_and_keys().await, (ROWS, ROWS));
}
