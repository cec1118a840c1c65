//! Every way in which a network fails, while four workers write.

use mds_coordinator::CircuitState;
use mds_core::{Bar, Batch, ErrorKind, Sink as _};
use mds_store::{Query, Store};

use super::proxy::{AtCommit, Mode, Proxy};
use super::{END_ALL, GUARD, Server, Writing, bar, quick, until};

const ROWS: u64 = 4_000;

/// Writes; breaks what lies between in the middle of it; mends it when the coordinator has noticed
/// and half as much again waits.
///
/// The coordinator itself never gives a write up: whatever hangs is ended by the store.
async fn through(mode: Mode, workers: usize) {
    let Some(server) = Server::find().await else {
        return;
    };
    let proxy = Proxy::start(server.address).await;
    let url = server.url(proxy.address, "&connect_timeout=1");
    let writing = Writing::start(&url, quick(), |c| {
        c.workers(workers).write_timeout(10 * GUARD)
    })
    .await;
    writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
    let coordinator = &writing.coordinator;
    until(|| coordinator.stats().written > ROWS / 4).await;
    proxy.set(mode);
    writing.submit((ROWS..2 * ROWS).map(|n| bar(n, 1))).await;
    until(|| coordinator.health().circuit_state == CircuitState::Open).await;
    proxy.set(Mode::Pass);
    // New ones are written as well.
    writing
        .submit((2 * ROWS..3 * ROWS).map(|n| bar(n, 1)))
        .await;
    let (stats, letters) = writing.stop().await;
    assert_eq!((stats.written, stats.superseded), (3 * ROWS, 0));
    assert_eq!((letters, stats.dropped.total()), (0, 0));
    assert_eq!(server.rows_and_keys().await, (3 * ROWS, 3 * ROWS));
}

macro_rules! faults {
    ($($(#[$doc:meta])* $test:ident: $mode:expr,)*) => {
        $(
            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                for workers in [4, 1] {
                    through($mode, workers).await;
                }
            }
        )*
    };
}

faults! {
    connections_that_are_cut_and_cut_again: Mode::Cut,
    a_server_that_nobody_listens_at: Mode::Refuse,
    a_server_that_accepts_and_never_answers: Mode::Stall,
    answers_that_do_not_arrive: Mode::StallAnswers,
    requests_that_do_not_arrive: Mode::StallRequests,
    a_server_that_is_gone_without_a_word: Mode::HalfOpen,
    connections_cut_after_some_bytes_to_the_server: Mode::CutAfterSent(3_000),
    connections_cut_in_the_middle_of_shaking_hands: Mode::CutAfterSent(20),
    connections_cut_after_some_bytes_to_the_client: Mode::CutAfterReceived(600),
    connections_cut_in_the_middle_of_the_welcome: Mode::CutAfterReceived(20),
    /// Less than a write can do with.
    a_line_that_is_too_slow: Mode::Slow(500),
}

/// A reader hears of it: it never takes a part for the whole. Some bytes are those of the welcome,
/// some those of rows.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_is_an_error_and_no_shorter_answer() {
    let Some(server) = Server::find().await else {
        return;
    };
    let proxy = Proxy::start(server.address).await;
    let url = server.url(proxy.address, "&connect_timeout=1");
    let store = Store::open(&url, quick()).await.unwrap();
    let rows: Vec<Bar> = (0..ROWS).map(|n| bar(n, 1)).collect();
    let report = store.sink::<Bar>().write(Batch::from(rows.clone())).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    let all = || store.query::<Bar>(Query::default()).collect();
    for received in [10, 300, 600, 2_000, 20_000, 100_000, 200_000] {
        server.does(END_ALL).await;
        proxy.set(Mode::CutAfterReceived(received));
        let error = all().await.expect_err("all of it needs more");
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    }
    proxy.set(Mode::Pass);
    assert_eq!(all().await.unwrap(), rows);
}

/// To open a store takes a few short answers: they are not waited for for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_while_a_store_is_opened() {
    let Some(server) = Server::find().await else {
        return;
    };
    let proxy = Proxy::start(server.address).await;
    let url = server.url(proxy.address, "&connect_timeout=1");
    for received in [0, 10, 300, 450, 500, 550, 600] {
        proxy.set(Mode::StallAfterReceived(received));
        let opening = Store::open(&url, quick());
        let opened = tokio::time::timeout(GUARD, opening)
            .await
            .expect("it hangs");
        let error = opened.expect_err("the server is silent");
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
        proxy.set(Mode::Pass);
        let store = Store::open(&url, quick()).await.unwrap();
        assert_eq!(store.last_revision().await.unwrap(), 0);
        store.close().await;
    }
}

/// Slow is no outage: nothing fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_makes_writes_slow() {
    let Some(server) = Server::find().await else {
        return;
    };
    let proxy = Proxy::start(server.address).await;
    proxy.set(Mode::Slow(200_000));
    let url = server.url(proxy.address, "");
    let writing = Writing::start(&url, quick(), |c| c).await;
    writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
    writing.flush().await;
    assert_eq!(writing.coordinator.last_error(), None);
    let (stats, letters) = writing.stop().await;
    assert_eq!((stats.written, letters), (ROWS, 0));
    assert_eq!(server.rows_and_keys().await, (ROWS, ROWS));
}

/// Its sessions stay, with what they have locked, until the server gives them up.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_without_a_word() {
    let Some(server) = Server::find().await else {
        return;
    };
    let proxy = Proxy::start(server.address).await;
    proxy.set(Mode::Orphan);
    let mut left = 6;
    proxy.at_commit(move || {
        left -= i32::from(left > 0);
        if left > 0 {
            AtCommit::CutBefore
        } else {
            AtCommit::Pass
        }
    });
    let url = server.url(proxy.address, "");
    let writing = Writing::start(&url, quick(), |c| c).await;
    writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
    let (stats, letters) = writing.stop().await;
    assert_eq!(proxy.cuts(), (5, 0));
    assert_eq!((stats.written, stats.superseded, letters), (ROWS, 0, 0));
    assert_eq!(server.rows_and_keys().await, (ROWS, ROWS));
}
