//! Migrations of a database of our own.

use mds_store::{OpenOptions, Store, StoreError};

use super::Server;
use super::original::{database, migrate, plan};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_nothing() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[]).await;
    let planned = plan(&url).await;
    assert_eq!((planned.from, planned.to, planned.applied), (0, 1, false));
    assert_eq!(planned.steps[0].name, "tables and views");
    let objects = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let count: i64 = admin.query_one(objects, &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
    let done = migrate(&url).await.unwrap();
    assert_eq!((done.from, done.to, done.applied), (0, 1, true));
    assert_eq!(done.steps, planned.steps);
    let again = migrate(&url).await.unwrap();
    assert_eq!((again.from, again.to, again.steps.len()), (1, 1, 0));
}

#[tokio::test]
async fn the_first_migration_is_the_one_that_was_released() {
    // A change of a released migration locks everybody out of their stores.
    let Some(server) = Server::find() else { return };
    let (url, _admin) = database(&server, &[]).await;
    let released = include_str!("migration-1.sha256").trim();
    assert_eq!(plan(&url).await.steps[0].checksum, released);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_a_new_store_at_once() {
    let Some(server) = Server::find() else { return };
    for _ in 0..5 {
        let url = server.database().await;
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let url = url.clone();
            tasks.push(tokio::spawn(async move {
                Store::open(&url, OpenOptions::default()).await
            }));
        }
        let mut ids = Vec::new();
        for task in tasks {
            ids.push(task.await.unwrap().unwrap().id().to_owned());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }
}

#[tokio::test]
async fn newer_and_diverged_schemas_are_refused() {
    let Some(server) = Server::find() else { return };
    let (url, admin) = database(&server, &[]).await;
    migrate(&url).await.unwrap();
    admin
        .batch_execute("INSERT INTO mds_migrations VALUES (99, 'future', 'x')")
        .await
        .unwrap();
    let error = Store::open(&url, OpenOptions::default()).await.unwrap_err();
    let StoreError::Newer { found, known, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((found, known), (99, 1));
    admin
        .batch_execute(
            "DELETE FROM mds_migrations WHERE version = 99;
             UPDATE mds_migrations SET checksum = 'other'",
        )
        .await
        .unwrap();
    for error in [
        Store::open(&url, OpenOptions::default()).await.unwrap_err(),
        migrate(&url).await.unwrap_err(),
    ] {
        assert!(
            matches!(error, StoreError::Diverged { version: 1, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_empty_database_is_outdated_where_migrating_was_not_asked_for() {
    let Some(server) = Server::find() else { return };
    let url = server.database().await;
    let error = Store::open(&url, OpenOptions::read_only())
        .await
        .unwrap_err();
    let StoreError::Outdated { found, wanted, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((found, wanted), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_keeps_its_id() {
    let Some(server) = Server::find() else { return };
    let url = server.database().await;
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let id = store.id().to_owned();
    assert_eq!(id.len(), 36);
    store.close().await;
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    assert_eq!(store.id(), id);
}
