//! Reads of a store that is away, and readers that are slow or gone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use tokio::runtime::Runtime;

use super::daemon::{Daemon, ask};
use super::stores::{BAR, HANG, fill, ingest, on_every_store, until_answered};
use crate::postgres::Server;
use crate::postgres::proxy::{Mode, Proxy};
use crate::run::Place;

/// A daemon whose store is a file that is moved away and back.
#[test]
fn a_store_that_is_away_is_told_and_comes_back() {
    let place = Place::new();
    fill(&place);
    let daemon = Daemon::start(&place, &[]);
    let paths = [
        "/v1/bars",
        "/v1/bars?limit=0&format=csv",
        "/v1/latest",
        "/v1/stats",
    ];
    std::fs::rename(place.path("market.db"), place.path("away.db")).unwrap();
    for path in paths {
        let reply = daemon.get(path);
        assert_eq!(
            reply.code(),
            (503, "store_unavailable".to_owned()),
            "{path}"
        );
        assert_eq!(reply.headers["retry-after"], "5");
    }
    std::fs::rename(place.path("away.db"), place.path("market.db")).unwrap();
    for path in paths {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
}

/// A server behind a proxy, and a place that knows it so.
fn behind_proxy(runtime: &Runtime) -> Option<(Server, Proxy, Place)> {
    let server = runtime.block_on(Server::find())?;
    let proxy = runtime.block_on(Proxy::start(server.address));
    let place = Place::new();
    let url = server.url(proxy.address, "");
    place.write("mds.toml", &format!("store = \"{url}\"\n"));
    Some((server, proxy, place))
}

#[test]
fn a_server_that_is_away_is_told_and_comes_back() {
    let runtime = Runtime::new().unwrap();
    let Some((_server, proxy, place)) = behind_proxy(&runtime) else {
        return;
    };
    fill(&place);
    let daemon = Daemon::start(&place, &[]);
    let all = "/v1/bars?limit=0&format=csv";
    let rows = daemon.get(all).body;
    for mode in [Mode::Refuse, Mode::Cut] {
        proxy.set(mode);
        for path in ["/v1/bars", all, "/v1/latest", "/v1/stats"] {
            let reply = daemon.get(path);
            let code = (503, "store_unavailable".to_owned());
            assert_eq!(reply.code(), code, "{path}: {reply:?}");
        }
        proxy.set(Mode::Pass);
        until_answered(&daemon, all, |reply| {
            reply.status == 200 && reply.body == rows
        });
    }
}

/// A part is never taken for the whole.
#[test]
fn what_fails_after_the_beginning_does_not_end_well() {
    let runtime = Runtime::new().unwrap();
    let Some((_server, proxy, place)) = behind_proxy(&runtime) else {
        return;
    };
    ingest(&place, "bars", &crate::ingest::bars(20_000));
    let daemon = Daemon::start(&place, &[]);
    proxy.set(Mode::CutAfterReceived(1_000_000));
    let mut reader = begin(&daemon, "/v1/bars?limit=0&format=ndjson");
    let mut text = String::new();
    // However the connection ends.
    drop(reader.read_to_string(&mut text));
    let rows = text.matches("\"close_price\"").count();
    assert!((1_000..20_000).contains(&rows), "{rows}");
    assert!(!text.ends_with("\r\n0\r\n\r\n"));
}

/// Asks, and reads nothing but the beginning of the answer; until there is a place, since an answer that
/// was read to its end leaves its own only after that.
#[track_caller]
fn begin(daemon: &Daemon, path: &str) -> TcpStream {
    let started = Instant::now();
    loop {
        let mut stream = TcpStream::connect(daemon.address).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut beginning = [0; 12];
        stream.read_exact(&mut beginning).unwrap();
        if &beginning == b"HTTP/1.1 200" {
            return stream;
        }
        assert_eq!(&beginning, b"HTTP/1.1 429");
        assert!(started.elapsed() < HANG, "there is never a place");
    }
}

/// Readers that read nothing take all the places that there are; those who go leave theirs. Rows are
/// taken all the while, and an end does not wait for those who stay.
#[test]
fn reads_are_bounded_and_readers_that_go_hold_nothing() {
    on_every_store(|place| {
        // More than fits into the buffers of a connection.
        ingest(place, "bars", &crate::ingest::bars(60_000));
        let daemon = Daemon::start(place, &[]);
        let all = "/v1/bars?limit=0&format=ndjson";
        let mut readers: Vec<TcpStream> = (0..8).map(|_| begin(&daemon, all)).collect();
        for path in ["/v1/bars?limit=1", all, "/v1/latest", "/v1/stats"] {
            let reply = daemon.get(path);
            assert_eq!(reply.code(), (429, "busy".to_owned()), "{path}");
            assert_eq!(reply.headers["retry-after"], "1");
        }
        assert_eq!(daemon.post("/v1/bars", BAR).status, 200);
        readers.pop();
        let one = until_answered(&daemon, "/v1/bars?limit=1", |reply| reply.status == 200);
        assert_eq!(one.json()["rows"].as_array().unwrap().len(), 1);
        // Again and again: nobody who was here is still counted.
        for _ in 0..20 {
            drop(begin(&daemon, all));
            until_answered(&daemon, "/v1/latest", |reply| reply.status == 200);
            // Without the body that its header speaks of.
            drop(ask(daemon.address, "HEAD", all, &[], b""));
        }
        until_answered(&daemon, "/v1/latest", |reply| reply.status == 200);
        daemon.terminate().code(143);
        drop(readers);
    });
}
