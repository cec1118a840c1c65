//! A store that is locked, read-only, full, moved, replaced or broken.

use std::fs;

use mds_core::{Bar, Batch, ErrorKind, RowOutcome, Sink as _, SinkError};
use mds_store::{OpenOptions, Query, Store, StoreError, StoreUrl};

use crate::support::{Place, all, bar, options, write, write_new};

fn error_is(error: Option<&SinkError>, kind: ErrorKind, code: &str) {
    let error = error.expect("the write fails");
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
}

#[tokio::test]
async fn a_locked_store_makes_rows_wait_and_heals() {
    let place = Place::new();
    let store = place.open().await;
    let shell = place.shell();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let report = write(&store, vec![bar(0, 1.0, 1)]).await;
    error_is(report.error.as_ref(), ErrorKind::Environment, "SQLITE_BUSY");
    assert_eq!(report.outcomes, [RowOutcome::NotTried]);
    assert!(!report.error.unwrap().outcome_unknown());
    error_is(
        store.check().await.err().as_ref(),
        ErrorKind::Environment,
        "SQLITE_BUSY",
    );
    shell.execute_batch("ROLLBACK").unwrap();
    store.check().await.unwrap();
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
}

#[tokio::test]
async fn readers_are_served_while_the_store_is_locked() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    let shell = place.shell();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(all::<Bar>(&store).await, [bar(0, 1.0, 1)]);
}

#[tokio::test]
async fn a_full_store_makes_rows_wait_and_heals() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    let pages: u32 = place
        .shell()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    store
        .set_max_bytes(Some(u64::from(pages) * 4_096))
        .await
        .unwrap();
    let rows: Vec<_> = (1..2_000).map(|i| bar(i, 1.0, 1)).collect();
    let report = write(&store, rows.clone()).await;
    error_is(report.error.as_ref(), ErrorKind::Environment, "SQLITE_FULL");
    assert_eq!(report.outcomes, vec![RowOutcome::NotTried; rows.len()]);
    error_is(
        store.check().await.err().as_ref(),
        ErrorKind::Environment,
        "SQLITE_FULL",
    );
    assert_eq!(all::<Bar>(&store).await, [bar(0, 1.0, 1)]);

    store.set_max_bytes(None).await.unwrap();
    store.check().await.unwrap();
    write_new(&store, rows).await;
}

#[tokio::test]
async fn a_probe_leaves_nothing_and_does_not_make_the_file_grow() {
    let place = Place::new();
    let store = place.open().await;
    let pages = || -> i64 {
        place
            .shell()
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap()
    };
    let before = pages();
    for _ in 0..10 {
        store.check().await.unwrap();
    }
    assert_eq!(pages(), before);
    assert_eq!(store.stats().await.unwrap().kinds[0].rows, 0);
}

#[tokio::test]
async fn a_store_opened_for_reading_refuses_writes() {
    let place = Place::new();
    let writer = place.open().await;
    write_new(&writer, vec![bar(0, 1.0, 1)]).await;
    let reader = Store::open(&place.url, OpenOptions::read_only())
        .await
        .unwrap();
    assert_eq!(all::<Bar>(&reader).await, [bar(0, 1.0, 1)]);
    let report = write(&reader, vec![bar(1, 1.0, 1)]).await;
    error_is(report.error.as_ref(), ErrorKind::Environment, "READ_ONLY");
    let error = reader.delete::<Bar>(Query::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_without_permission_to_write_is_an_environment_error() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    place.open().await.close().await;
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o444)).unwrap();
    if fs::OpenOptions::new()
        .append(true)
        .open(&place.path)
        .is_ok()
    {
        eprintln!("this user may write to everything; permissions cannot be tested");
        return;
    }
    let error = Store::open(&place.url, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
}

#[tokio::test]
async fn a_store_that_was_moved_away_makes_rows_wait_and_heals() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    let away = place.path.with_extension("away");
    fs::rename(&place.path, &away).unwrap();
    let report = write(&store, vec![bar(1, 1.0, 1)]).await;
    error_is(report.error.as_ref(), ErrorKind::Environment, "MISSING");
    assert!(store.check().await.is_err());
    fs::rename(&away, &place.path).unwrap();
    write_new(&store, vec![bar(1, 1.0, 1)]).await;
    assert_eq!(all::<Bar>(&store).await.len(), 2);
}

#[tokio::test]
async fn another_store_in_the_place_of_the_opened_one_gets_no_rows() {
    let (place, other) = (Place::new(), Place::new());
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    other.open().await.close().await;
    for suffix in ["-wal", "-shm"] {
        let file = format!("{}{suffix}", place.path.display());
        fs::remove_file(file).unwrap();
    }
    fs::rename(&other.path, &place.path).unwrap();
    let report = write(&store, vec![bar(1, 1.0, 1)]).await;
    error_is(report.error.as_ref(), ErrorKind::Fatal, "REPLACED");
}

#[tokio::test]
async fn a_restored_backup_is_written_to_with_its_own_numbers() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    let backup = place.path.with_extension("backup");
    place
        .shell()
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    let named = |symbol: &str, minute| Bar {
        symbol: symbol.into(),
        ..bar(minute, 1.0, 1)
    };
    write_new(&store, vec![named("LATER", 0)]).await;
    // Restored in place: the file stays, the series LATER is gone from it.
    let from = rusqlite::Connection::open(&backup).unwrap();
    let quoted = place.path.to_str().unwrap();
    from.execute_batch(&format!(
        "ATTACH '{quoted}' AS live;
         DELETE FROM live.bars_data WHERE series_id > 1;
         DELETE FROM live.mds_extents WHERE series_id > 1;
         DELETE FROM live.mds_series WHERE id > 1;"
    ))
    .unwrap();
    write_new(&store, vec![named("OTHER", 5), named("LATER", 7)]).await;
    let rows: Vec<_> = all::<Bar>(&store)
        .await
        .iter()
        .map(|row| row.symbol.to_string())
        .collect();
    assert_eq!(rows, ["S", "OTHER", "LATER"]);
}

#[tokio::test]
async fn a_broken_file_is_fatal_and_says_so() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, (0..5_000).map(|i| bar(i, 1.0, 1)).collect()).await;
    store.close().await;
    let mut bytes = fs::read(&place.path).unwrap();
    // The pages after those of the schema.
    let from = bytes.len() / 2;
    bytes[from..].fill(0x5a);
    fs::write(&place.path, bytes).unwrap();
    let store = place.open().await;
    let report = write(&store, (0..5_000).map(|i| bar(i, 2.0, 2)).collect()).await;
    error_is(report.error.as_ref(), ErrorKind::Fatal, "SQLITE_CORRUPT");
    let message = report.error.unwrap().to_string();
    assert!(message.contains("malformed"), "{message}");
    assert!(message.contains("market.db"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_untouched() {
    let place = Place::new();
    let text = "time,close\n2024-11-01,4\n".repeat(100);
    fs::write(&place.path, &text).unwrap();
    let error = Store::open(&place.url, options()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Fatal, "SQLITE_NOTADB")
    );
    assert_eq!(fs::read_to_string(&place.path).unwrap(), text);
}

#[tokio::test]
async fn a_store_that_should_exist_is_not_created() {
    let place = Place::new();
    for options in [
        OpenOptions::read_only(),
        OpenOptions {
            create: false,
            ..OpenOptions::default()
        },
    ] {
        let error = Store::open(&place.url, options).await.unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert!(!place.path.exists());
    }
    let url = StoreUrl::Sqlite(place.path.join("no/such/folder.db"));
    let error = Store::open(&url, OpenOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), "SQLITE_CANTOPEN");
}

#[tokio::test]
async fn a_dropped_table_is_fatal_and_loses_no_row() {
    let place = Place::new();
    let store = place.open().await;
    place.shell().execute_batch("DROP TABLE bars_data").unwrap();
    let report = write(&store, vec![bar(0, 1.0, 1)]).await;
    error_is(report.error.as_ref(), ErrorKind::Fatal, "SQLITE_ERROR");
    assert_eq!(report.outcomes, [RowOutcome::NotTried]);
}

#[tokio::test]
async fn a_closed_store_answers_with_an_error() {
    let place = Place::new();
    let store = place.open().await;
    let sink_of_clone = store.clone();
    store.close().await;
    let report = write(&sink_of_clone, vec![bar(0, 1.0, 1)]).await;
    error_is(report.error.as_ref(), ErrorKind::Environment, "CLOSED");
}

#[tokio::test]
async fn a_panic_costs_its_batch_an_answer_and_nothing_else() {
    let place = Place::new();
    let store = place.open().await;
    // A batch of a row that it does not have: a bug of the caller.
    let batch = Batch::from(vec![bar(0, 1.0, 1)]).select(vec![7]);
    let report = store.sink::<Bar>().write(batch).await;
    error_is(report.error.as_ref(), ErrorKind::Unknown, "WRITER_PANICKED");
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
}
