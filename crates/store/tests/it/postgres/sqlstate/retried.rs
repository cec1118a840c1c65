//! Classes 40, 57014: this attempt failed, the next may not.

use std::time::Duration;

use mds_core::{Bar, ErrorKind, RowOutcome, WriteReport};
use mds_store::{OpenOptions, Store};
use tokio::task::JoinHandle;

use super::{end_sessions, kept, waits};
use crate::postgres::{Database, Server};
use crate::support::{all, bar, write, write_new};

/// Writes while the test goes on.
fn in_the_background(store: &Store, rows: Vec<Bar>) -> JoinHandle<WriteReport> {
    let store = store.clone();
    tokio::spawn(async move { write(&store, rows).await })
}

async fn set(database: &Database, setting: &str) {
    let sql = format!("ALTER DATABASE {} SET {setting}", database.name);
    database.run(&sql).await;
    end_sessions(database).await;
}

#[tokio::test]
async fn serialization_failure_40001() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    set(
        &database,
        "default_transaction_isolation = 'repeatable read'",
    )
    .await;
    database
        .run("BEGIN ISOLATION LEVEL READ COMMITTED; UPDATE bars SET volume = 7")
        .await;
    // Whatever the default of the database is: a write sees what was committed while it waited.
    let task = in_the_background(&store, vec![bar(0, 2.0, 2)]);
    waits(&database.shell).await;
    database.run("COMMIT").await;
    let report = task.await.unwrap();
    assert!(report.error.is_none(), "{:?}", report.error);
    assert_eq!(report.outcomes, [RowOutcome::Written]);
    // A trigger of the user's may still fail so.
    database
        .run(
            "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END$$; \
             CREATE TRIGGER fails BEFORE INSERT ON bars FOR EACH ROW EXECUTE FUNCTION fails()",
        )
        .await;
    let report = write(&store, vec![bar(1, 1.0, 1)]).await;
    kept(
        &report,
        ErrorKind::Transient,
        "40001",
        &["could not serialize access"],
    );
    database.run("DROP TRIGGER fails ON bars").await;
    write_new(&store, vec![bar(1, 1.0, 1)]).await;
    assert_eq!(all::<Bar>(&store).await, [bar(0, 2.0, 2), bar(1, 1.0, 1)]);
}

#[tokio::test]
async fn deadlock_with_another_program_40p01() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    write_new(&store, vec![bar(0, 1.0, 1), bar(1, 1.0, 1)]).await;
    // The other program never looks for a deadlock: it is the store that is told.
    set(&database, "deadlock_timeout = '2s'").await;
    database.run("SET deadlock_timeout = '1h'").await;
    let row = |minute: i64| {
        let ts = bar(minute, 0.0, 0).ts;
        format!("UPDATE bars SET volume = 7 WHERE ts = '{ts}'")
    };
    database.run(&format!("BEGIN; {}", row(1))).await;
    let task = in_the_background(&store, vec![bar(0, 2.0, 2), bar(1, 2.0, 2)]);
    waits(&database.shell).await;
    database.run(&row(0)).await;
    let report = task.await.unwrap();
    kept(
        &report,
        ErrorKind::Transient,
        "40P01",
        &["deadlock detected"],
    );
    database.run("ROLLBACK").await;
    write_new(&store, vec![bar(0, 2.0, 2), bar(1, 2.0, 2)]).await;
}

#[tokio::test]
async fn a_statement_that_somebody_cancels_57014() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    for count in [100, 3] {
        database
            .run("BEGIN; LOCK TABLE bars IN ACCESS EXCLUSIVE MODE")
            .await;
        let rows: Vec<_> = (0..count).map(|minute| bar(minute, 1.0, 1)).collect();
        let task = in_the_background(&store, rows);
        let pid = waits(&database.shell).await;
        let sql = format!("SELECT pg_cancel_backend({pid})");
        database.run(&sql).await;
        let report = task.await.unwrap();
        kept(
            &report,
            ErrorKind::Transient,
            "57014",
            &["due to user request"],
        );
        database.run("ROLLBACK").await;
    }
    write_new(&store, (0..100).map(|i| bar(i, 1.0, 1)).collect()).await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_57014() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let impatient = OpenOptions {
        statement_timeout: Duration::from_secs(2),
        ..OpenOptions::default()
    };
    let store = Store::open(&database.url, impatient).await.unwrap();
    database
        .run(
            "CREATE FUNCTION think() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(60); RETURN new; END $$; \
             CREATE TRIGGER think BEFORE INSERT ON bars FOR EACH ROW EXECUTE FUNCTION think()",
        )
        .await;
    for count in [100, 3] {
        let rows: Vec<_> = (0..count).map(|minute| bar(minute, 1.0, 1)).collect();
        let report = write(&store, rows).await;
        let says = &["due to statement timeout"];
        kept(&report, ErrorKind::Transient, "57014", says);
    }
    database.run("DROP TRIGGER think ON bars").await;
    write_new(&store, (0..100).map(|i| bar(i, 1.0, 1)).collect()).await;
}
