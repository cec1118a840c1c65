//! Migrations, and databases that are not ours.

use mds_core::Bar;
use mds_store::{OpenOptions, Store, StoreError};

use crate::support::{Place, all, bar, options, write_new};

#[tokio::test]
async fn a_plan_changes_nothing() {
    let place = Place::new();
    let plan = Store::migrate(&place.url, options(), true).await.unwrap();
    assert_eq!((plan.from, plan.to, plan.applied), (0, 1, false));
    assert_eq!(plan.steps[0].name, "tables and views");
    assert!(!place.path.exists());
    let done = Store::migrate(&place.url, options(), false).await.unwrap();
    assert_eq!((done.from, done.to, done.applied), (0, 1, true));
    assert_eq!(done.steps, plan.steps);
    let again = Store::migrate(&place.url, options(), false).await.unwrap();
    assert_eq!((again.from, again.to, again.steps.len()), (1, 1, 0));
}

#[tokio::test]
async fn the_first_migration_is_the_one_that_was_released() {
    // A change of a released migration locks everybody out of their stores.
    let place = Place::new();
    let plan = Store::migrate(&place.url, options(), true).await.unwrap();
    let released = include_str!("migration-1.sha256").trim();
    assert_eq!(plan.steps[0].checksum, released);
}

#[tokio::test]
async fn many_open_a_new_store_at_once() {
    let place = Place::new();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let url = place.url.clone();
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

#[tokio::test]
async fn a_foreign_database_with_our_names_is_refused_untouched() {
    let place = Place::new();
    place
        .shell()
        .execute_batch("CREATE TABLE Bars (a); INSERT INTO bars VALUES (1)")
        .unwrap();
    let before = std::fs::read(&place.path).unwrap();
    let error = Store::open(&place.url, options()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Foreign { object, .. } if object == "bars"),
        "{error}"
    );
    assert!(before == std::fs::read(&place.path).unwrap());
}

#[tokio::test]
async fn tables_of_others_live_beside_ours() {
    let place = Place::new();
    place
        .shell()
        .execute_batch("CREATE TABLE notes (a); INSERT INTO notes VALUES (1)")
        .unwrap();
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    assert_eq!(all::<Bar>(&store).await.len(), 1);
}

#[tokio::test]
async fn newer_and_diverged_schemas_are_refused() {
    let place = Place::new();
    place.open().await.close().await;
    place
        .shell()
        .execute_batch("INSERT INTO mds_migrations VALUES (99, 'future', 'x', 'then')")
        .unwrap();
    let error = Store::open(&place.url, options()).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Newer {
                found: 99,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    place
        .shell()
        .execute_batch(
            "DELETE FROM mds_migrations WHERE version = 99;
             UPDATE mds_migrations SET checksum = 'other'",
        )
        .unwrap();
    let error = Store::open(&place.url, options()).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Diverged { version: 1, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_empty_database_is_outdated_where_migrating_was_not_asked_for() {
    let place = Place::new();
    place
        .shell()
        .execute_batch("CREATE TABLE notes (a)")
        .unwrap();
    let options = OpenOptions {
        migrate: false,
        ..options()
    };
    let error = Store::open(&place.url, options).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Outdated {
                found: 0,
                wanted: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_store_keeps_its_id() {
    let place = Place::new();
    let store = place.open().await;
    let id = store.id().to_owned();
    assert_eq!(id.len(), 36);
    store.close().await;
    assert_eq!(place.open().await.id(), id);
}
