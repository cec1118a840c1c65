//! Classes 08, 25006, 53, 55P03, 57, 58: the rows wait until the server is back.

use std::time::Duration;

use mds_core::{Bar, ErrorKind};
use mds_store::{OpenOptions, Store};

use super::{end_sessions, error_is, kept, waits};
use crate::postgres::Server;
use crate::postgres::cluster::{Cluster, Stop, kill};
use crate::support::{all, bar, write, write_new};

const WAITS: ErrorKind = ErrorKind::Environment;

fn rows(count: i64) -> Vec<Bar> {
    (0..count).map(|minute| bar(minute, 1.0, 1)).collect()
}

#[tokio::test]
async fn read_only_25006() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    let read_only = |is| {
        format!(
            "ALTER DATABASE {} SET default_transaction_read_only = {is}",
            database.name
        )
    };
    database.run(&read_only("on")).await;
    end_sessions(&database).await;
    // As many as are copied, and as few as are merged.
    for count in [100, 3] {
        let report = write(&store, rows(count)).await;
        kept(&report, WAITS, "25006", &["read-only transaction"]);
    }
    let error = store.check().await.unwrap_err();
    error_is(&error, WAITS, "25006", &["read-only transaction"]);
    database
        .run("SET default_transaction_read_only = off")
        .await;
    database.run(&read_only("off")).await;
    // The sessions that were told so are not used again.
    store.check().await.unwrap();
    write_new(&store, rows(100)).await;
    assert_eq!(all::<Bar>(&store).await, rows(100));
}

#[tokio::test]
async fn too_many_connections_53300() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    drop(database.open().await);
    let role = format!("{}_writer", database.name);
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 BYPASSRLS; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await;
    let url = database.text.replace("postgres@", &format!("{role}@"));
    let store = Store::open(&url.parse().unwrap(), OpenOptions::default())
        .await
        .unwrap();
    end_sessions(&database).await;
    let other = crate::postgres::connect(&url).await;
    let report = write(&store, rows(3)).await;
    let says = &["too many connections for role", "fewer workers"];
    kept(&report, WAITS, "53300", says);
    let error = store.check().await.unwrap_err();
    error_is(&error, WAITS, "53300", says);
    drop(other);
    end_sessions(&database).await;
    write_new(&store, rows(3)).await;
}

#[tokio::test]
async fn a_lock_that_is_not_given_55p03() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    // A lock is waited for shorter than a statement runs.
    let impatient = OpenOptions {
        statement_timeout: Duration::from_secs(1),
        ..OpenOptions::default()
    };
    let store = Store::open(&database.url, impatient).await.unwrap();
    for (count, lock) in [
        (100, "LOCK TABLE bars IN SHARE MODE"),
        (3, "LOCK TABLE bars IN ACCESS EXCLUSIVE MODE"),
    ] {
        database.run("BEGIN").await;
        database.run(lock).await;
        let report = write(&store, rows(count)).await;
        kept(&report, WAITS, "55P03", &["lock timeout", "pg_locks"]);
        database.run("ROLLBACK").await;
    }
    // A row that somebody else is changing.
    write_new(&store, rows(3)).await;
    database.run("BEGIN; UPDATE bars SET volume = 7").await;
    let report = write(&store, vec![bar(1, 2.0, 2)]).await;
    kept(&report, WAITS, "55P03", &["lock timeout", "pg_locks"]);
    database.run("ROLLBACK").await;
    write_new(&store, vec![bar(1, 2.0, 2)]).await;
}

/// The client library sends one message too many after a copy that could not begin, and the session
/// is then one answer behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_could_not_begin_leaves_no_session_out_of_step() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let impatient = OpenOptions {
        statement_timeout: Duration::from_secs(1),
        ..OpenOptions::default()
    };
    let store = Store::open(&database.url, impatient).await.unwrap();
    for round in 0..6 {
        database.run("BEGIN; LOCK TABLE bars IN SHARE MODE").await;
        let batch = |half: i64| -> Vec<Bar> {
            let first = round * 200 + half * 100;
            (first..first + 100).map(|m| bar(m, 1.0, 1)).collect()
        };
        let report = write(&store, batch(0)).await;
        kept(&report, WAITS, "55P03", &["lock timeout"]);
        database.run("ROLLBACK").await;
        write_new(&store, batch(0)).await;
        write_new(&store, batch(1)).await;
    }
    assert_eq!(all::<Bar>(&store).await, rows(1_200));
}

#[tokio::test]
async fn a_session_ended_by_an_administrator_57p01() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    for round in 0..10 {
        let batch = |rows: i64| (0..rows).map(|m| bar(round * 200 + m, 1.0, 1)).collect();
        database
            .run("BEGIN; LOCK TABLE bars IN ACCESS EXCLUSIVE MODE")
            .await;
        let task = tokio::spawn({
            let (store, batch) = (store.clone(), batch(if round % 2 == 0 { 100 } else { 3 }));
            async move { write::<Bar>(&store, batch).await }
        });
        let pid = waits(&database.shell).await;
        let sql = format!("SELECT pg_terminate_backend({pid})");
        database.run(&sql).await;
        let report = task.await.unwrap();
        kept(&report, WAITS, "57P01", &["administrator command"]);
        database.run("ROLLBACK").await;
        // The session that ended is used no more.
        write_new::<Bar>(&store, batch(200)).await;
    }
    assert_eq!(all::<Bar>(&store).await, rows(2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_and_a_shutdown_57p03() {
    let Some(mut cluster) = Cluster::start(&[]) else {
        return;
    };
    let store = Store::open(&cluster.url("postgres"), OpenOptions::default())
        .await
        .unwrap();
    let shell = cluster.shell("postgres").await;
    let blocked = |count| {
        let store = store.clone();
        tokio::spawn(async move { write(&store, rows(count)).await })
    };
    shell
        .batch_execute("BEGIN; LOCK TABLE bars IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let write_that_waits = blocked(3);
    waits(&shell).await;
    // Another process of the server dies: all sessions are told, and the server starts again.
    let victim = shell
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    let victim: i32 = victim.get(0);
    kill(victim);
    // The session is told so as a warning, and then cut.
    let error = write_that_waits.await.unwrap().error.unwrap();
    error_is(&error, WAITS, "CONNECTION", &[]);
    // The server starts, or has started: a write is refused with words, or goes in.
    loop {
        let report = write(&store, rows(3)).await;
        match report.error {
            None => break,
            Some(error) => assert_eq!(error.kind(), WAITS, "{error}"),
        }
    }
    assert_eq!(all::<Bar>(&store).await, rows(3));
    // A server that stops lets nobody in while it waits for a session to end.
    let shell = cluster.shell("postgres").await;
    store.close().await;
    cluster.program(
        "pg_ctl",
        &["stop", "-D", "data", "-m", "smart", "--no-wait"],
    );
    loop {
        let opened = Store::open(&cluster.url("postgres"), OpenOptions::default()).await;
        let Err(error) = opened else { continue };
        assert_eq!((error.kind(), error.code()), (WAITS, "57P03"), "{error}");
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("shutting down"), "{text}");
        break;
    }
    // As long as this session is there, so is the server.
    cluster.stop(Stop::Immediate);
    drop(shell);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_at_the_address() {
    let Some(mut cluster) = Cluster::start(&[]) else {
        return;
    };
    let store = Store::open(&cluster.url("postgres"), OpenOptions::default())
        .await
        .unwrap();
    cluster.stop(Stop::Fast);
    let report = write(&store, rows(3)).await;
    // The session that was open may have been told why it ended.
    assert_eq!(report.error.unwrap().kind(), WAITS);
    let report = write(&store, rows(3)).await;
    let says = &["Connection refused", "is the server running"];
    kept(&report, WAITS, "CONNECTION", says);
    let error = store.check().await.unwrap_err();
    error_is(&error, WAITS, "CONNECTION", says);
    cluster.run();
    write_new(&store, rows(3)).await;
}
