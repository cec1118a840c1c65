//! What a living server does to its sessions: ends them, has no room for them, makes them read
//! only, makes them wait for a lock, or changes what they write to.

use std::collections::VecDeque;
use std::time::Duration;

use mds_coordinator::{CircuitBreaker, CircuitState};
use mds_core::{Bar, Batch, ErrorKind, RowOutcome, Sink as _};
use mds_store::Store;

use super::proxy::{Mode, Proxy};
use super::{END_ALL, GUARD, Server, Writing, bar, quick, until};

const ROWS: u64 = 5_000;

/// Everything is in, once, and counted so.
async fn all_is_in(server: &Server, writing: Writing, rows: u64) {
    let (stats, letters) = writing.stop().await;
    assert_eq!((stats.written, stats.superseded, letters), (rows, 0, 0));
    assert_eq!(server.rows_and_keys().await, (rows, rows));
}

/// Breaks something, waits until the coordinator waits for a better time, for the reason that is
/// `told`, and mends it.
async fn waits_while(broken: &str, told: &str, mended: &str) {
    let Some(server) = Server::find().await else {
        return;
    };
    // So many failures that the reason shows, and not only that sessions have ended.
    let breaker = CircuitBreaker::new(20, Duration::from_secs(60));
    let writing = Writing::start(&server.url(server.address, ""), quick(), |c| {
        c.circuit_breaker(breaker)
    })
    .await;
    let coordinator = &writing.coordinator;
    writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
    until(|| coordinator.stats().written > ROWS / 4).await;
    server.does(broken).await;
    writing.submit((ROWS..2 * ROWS).map(|n| bar(n, 1))).await;
    until(|| coordinator.health().circuit_state == CircuitState::Open).await;
    let error = coordinator.last_error().unwrap();
    assert!(error.contains(told), "{error}");
    server.does(mended).await;
    all_is_in(&server, writing, 2 * ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_ended_again_and_again() {
    let Some(server) = Server::find().await else {
        return;
    };
    let writing = Writing::start(&server.url(server.address, ""), quick(), |c| c).await;
    let mut rows: VecDeque<Bar> = (0..4 * ROWS).map(|n| bar(n, 1)).collect();
    let submit = writing.coordinator.submit_many(&mut rows);
    let end = async {
        let mut ended = 0;
        while writing.coordinator.stats().written < 3 * ROWS {
            ended += server.admin.query(END_ALL, &[]).await.unwrap().len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ended
    };
    let both = async { tokio::join!(submit, end) };
    let (submitted, ended) = tokio::time::timeout(GUARD, both).await.expect("it hangs");
    assert_eq!(submitted.unwrap(), 20_000);
    assert!(ended > 20, "{ended}");
    all_is_in(&server, writing, 4 * ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_read_only_from_now_on() {
    waits_while(
        &format!("ALTER DATABASE DB SET default_transaction_read_only = on; {END_ALL}"),
        "25006",
        "ALTER DATABASE DB RESET default_transaction_read_only",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_for_a_while() {
    waits_while(
        "ALTER TABLE bars RENAME TO elsewhere",
        "42P01",
        "ALTER TABLE elsewhere RENAME TO bars",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_anew() {
    waits_while(
        "ALTER TABLE bars RENAME TO elsewhere; CREATE TABLE bars (close_price text)",
        "(fatal, 42",
        "DROP TABLE bars; CREATE TABLE bars (LIKE elsewhere INCLUDING ALL); \
         INSERT INTO bars SELECT * FROM elsewhere; DROP TABLE elsewhere CASCADE",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_has_locked() {
    waits_while("BEGIN; LOCK TABLE bars", "55P03", "COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_room_for_one_session_only() {
    let Some(server) = Server::find_as(Some("")).await else {
        return;
    };
    let url = server.url(server.address, "");
    let writing = Writing::start(&url, quick(), |c| c.workers(4)).await;
    // It has one, and gets no other.
    server.does("ALTER ROLE OWNER CONNECTION LIMIT 1").await;
    writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
    writing.flush().await;
    // Four workers have shared what there was.
    assert_eq!(writing.coordinator.last_error(), None);
    // Now others take all there is.
    server.does("ALTER ROLE OWNER CONNECTION LIMIT 0").await;
    server.does(END_ALL).await;
    writing.submit((ROWS..2 * ROWS).map(|n| bar(n, 1))).await;
    let coordinator = &writing.coordinator;
    until(|| coordinator.health().circuit_state == CircuitState::Open).await;
    let error = coordinator.last_error().unwrap();
    assert!(error.contains("53300"), "{error}");
    server.does("ALTER ROLE OWNER CONNECTION LIMIT 2").await;
    all_is_in(&server, writing, 2 * ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_one_that_answers_is_enough() {
    let Some(server) = Server::find().await else {
        return;
    };
    let (first, second) = (
        Proxy::start(server.address).await,
        Proxy::start(server.address).await,
    );
    let hosts = format!("{}/", server.url(first.address, "")).replace(
        &first.address.to_string(),
        &format!("{},{}", first.address, second.address),
    );
    let hosts = format!("{}&connect_timeout=1", hosts.trim_end_matches('/'));
    for dead in [Mode::Refuse, Mode::Stall, Mode::Cut] {
        server.does("TRUNCATE bars").await;
        first.set(dead);
        let writing = Writing::start(&hosts.parse().unwrap(), quick(), |c| c).await;
        writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
        writing.flush().await;
        assert_eq!(writing.coordinator.last_error(), None, "{dead:?}");
        // The one that answers changes.
        second.set(Mode::Cut);
        first.set(Mode::Pass);
        writing.submit((ROWS..2 * ROWS).map(|n| bar(n, 1))).await;
        all_is_in(&server, writing, 2 * ROWS).await;
        second.set(Mode::Pass);
    }
}

/// `localhost` is two addresses on most machines, and the proxy listens at one of them.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_of_a_name_one_that_answers_is_enough() {
    let Some(server) = Server::find().await else {
        return;
    };
    let proxy = Proxy::start(server.address).await;
    let url = server.url(proxy.address, "").to_string();
    let url = url.replace("@127.0.0.1:", "@localhost:").parse().unwrap();
    let writing = Writing::start(&url, quick(), |c| c).await;
    writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
    writing.flush().await;
    assert_eq!(writing.coordinator.last_error(), None);
    all_is_in(&server, writing, ROWS).await;
    let gone = "postgres://nobody@no.such.host.invalid/nothing"
        .parse()
        .unwrap();
    let error = Store::open(&gone, quick()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
}

/// An outage costs few attempts, whoever wants to write.
#[tokio::test(flavor = "multi_thread")]
async fn workers_do_not_run_over_a_server_that_is_down() {
    let Some(server) = Server::find().await else {
        return;
    };
    for workers in [1, 16] {
        server.does("TRUNCATE bars").await;
        let proxy = Proxy::start(server.address).await;
        let url = server.url(proxy.address, "");
        let writing = Writing::start(&url, quick(), |c| c.workers(workers)).await;
        let coordinator = &writing.coordinator;
        writing.submit((0..ROWS).map(|n| bar(n, 1))).await;
        until(|| coordinator.stats().written > ROWS / 4).await;
        let before = proxy.accepted();
        proxy.set(Mode::Cut);
        writing.submit((ROWS..2 * ROWS).map(|n| bar(n, 1))).await;
        // Until somebody has looked three times whether it is back.
        until(|| coordinator.health().circuit_state == CircuitState::Open).await;
        let open = proxy.accepted();
        until(|| proxy.accepted() >= open + 3).await;
        proxy.set(Mode::Pass);
        all_is_in(&server, writing, 2 * ROWS).await;
        let attempts = proxy.accepted() - before;
        assert!(attempts <= 2 * workers + 10, "{attempts} by {workers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_store_waits_for_the_writes_that_were_handed_in() {
    let Some(server) = Server::find().await else {
        return;
    };
    let url = server.url(server.address, "");
    let store = Store::open(&url, quick()).await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let sink = store.sink::<Bar>();
            tokio::spawn(async move { sink.write(Batch::from(vec![bar(number, 1)])).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await;
    let (rows, keys) = server.rows_and_keys().await;
    assert_eq!(rows, keys);
    let mut written = 0;
    for task in tasks {
        let report = task.await.unwrap();
        match report.error {
            None => {
                assert_eq!(report.outcomes, [RowOutcome::Written]);
                written += 1;
            }
            Some(error) => {
                assert_eq!((error.code(), error.outcome_unknown()), ("CLOSED", false));
                assert_eq!(report.outcomes, [RowOutcome::NotTried]);
            }
        }
    }
    assert_eq!(rows, written);
}
