//! Which revisions the rows of a file take.

use std::path::Path;

use mds_core::Kind;
use mds_store::{FileRevision, IngestedFile, Remembered, Store};

use crate::support::{Place, bar, write_new};

/// Hours as microseconds; every time in here is one.
const HOUR: i64 = 3_600_000_000;

/// A file that was last changed in hour 1, and is ingested in hour 10.
const FILE: IngestedFile<'_> = IngestedFile {
    content_hash: [1; 32],
    kind: Kind::Bars,
    keys: [2; 32],
    reading: [3; 32],
    path: None,
    modified: HOUR,
    now: 10 * HOUR,
    max_rows: 1_000,
};

async fn ask(store: &Store, file: IngestedFile<'_>) -> FileRevision {
    store.file_revision(&file).await.unwrap()
}

#[track_caller]
fn expect(answer: FileRevision, base: i64, remembered: Remembered) {
    assert_eq!((answer.base, answer.remembered), (base, remembered));
}

#[tokio::test]
async fn the_same_content_takes_the_same_revisions() {
    let place = Place::new();
    let store = place.open().await;
    let first = ask(&store, FILE).await;
    let expected = FileRevision {
        base: HOUR,
        modified: HOUR,
        first_seen: 10 * HOUR,
        remembered: Remembered::Nothing,
    };
    assert_eq!(first, expected);
    store.close().await;

    let store = place.open().await;
    let touched = IngestedFile {
        modified: 5 * HOUR,
        now: 11 * HOUR,
        path: Some(Path::new("copy.csv")),
        ..FILE
    };
    let same = FileRevision {
        remembered: Remembered::SameReading,
        ..expected
    };
    assert_eq!(ask(&store, touched).await, same);
}

async fn files_are_told_apart_by_content_kind_and_keys(store: Store) {
    ask(&store, FILE).await;
    let others = [
        IngestedFile {
            content_hash: [9; 32],
            ..FILE
        },
        IngestedFile {
            kind: Kind::News,
            ..FILE
        },
        IngestedFile {
            keys: [9; 32],
            ..FILE
        },
    ];
    for other in others {
        let other = IngestedFile {
            modified: 2 * HOUR,
            ..other
        };
        expect(ask(&store, other).await, 2 * HOUR, Remembered::Nothing);
        expect(ask(&store, FILE).await, HOUR, Remembered::SameReading);
    }
}

async fn another_reading_begins_anew_and_only_the_last_is_remembered(store: Store) {
    let read = async |reading: u8, now: i64| {
        let file = IngestedFile {
            reading: [reading; 32],
            modified: now - HOUR,
            now,
            ..FILE
        };
        ask(&store, file).await
    };
    expect(read(1, 10 * HOUR).await, 9 * HOUR, Remembered::Nothing);
    let other = FileRevision {
        base: 11 * HOUR,
        // Of the content, and not of this reading.
        modified: 9 * HOUR,
        first_seen: 10 * HOUR,
        remembered: Remembered::OtherReading,
    };
    assert_eq!(read(2, 11 * HOUR).await, other);
    expect(read(2, 12 * HOUR).await, 11 * HOUR, Remembered::SameReading);
    expect(
        read(1, 13 * HOUR).await,
        13 * HOUR,
        Remembered::OtherReading,
    );
    expect(read(1, 14 * HOUR).await, 13 * HOUR, Remembered::SameReading);
}

async fn another_reading_counts_for_other_keys_too(store: Store) {
    ask(&store, FILE).await;
    let file = IngestedFile {
        keys: [9; 32],
        reading: [9; 32],
        ..FILE
    };
    expect(ask(&store, file).await, 10 * HOUR, Remembered::OtherReading);
}

#[tokio::test]
async fn another_reading_begins_above_the_rows_of_the_one_before() {
    let place = Place::new();
    let store = place.open().await;
    // The clock says hour 0 by now.
    let again = |reading: u8, max_rows| IngestedFile {
        reading: [reading; 32],
        now: 0,
        max_rows,
        ..FILE
    };
    ask(&store, FILE).await;
    write_new(&store, vec![bar(0, 1.0, HOUR), bar(1, 2.0, HOUR + 1)]).await;
    let other = ask(&store, again(4, 1_000)).await;
    expect(other, HOUR + 2, Remembered::OtherReading);
    // A revision of something else does not push it far away.
    write_new(&store, vec![bar(2, 1.0, 100 * HOUR)]).await;
    let other = ask(&store, again(5, 1_000)).await;
    expect(other, HOUR + 2 + 1_000, Remembered::OtherReading);
    let other = ask(&store, again(6, i64::MAX)).await;
    expect(other, 100 * HOUR + 1, Remembered::OtherReading);
}

/// A server keeps a revision that runs ahead of the rows.
async fn another_reading_begins_above_all_rows_of_the_one_before(store: Store) {
    ask(&store, FILE).await;
    write_new(&store, vec![bar(0, 1.0, HOUR), bar(1, 2.0, HOUR + 1)]).await;
    let again = IngestedFile {
        reading: [4; 32],
        now: 0,
        ..FILE
    };
    let other = ask(&store, again).await;
    assert!(other.base > HOUR + 1, "{other:?}");
    assert!(other.base <= HOUR + FILE.max_rows, "{other:?}");
}

/// Who only looks changes nothing of what is remembered later.
async fn a_file_that_is_looked_up_is_not_remembered(store: Store) {
    let look = async |file: IngestedFile<'static>| store.look_up_file(&file).await.unwrap();
    let later = IngestedFile {
        modified: 2 * HOUR,
        now: 20 * HOUR,
        ..FILE
    };
    expect(look(FILE).await, HOUR, Remembered::Nothing);
    expect(look(later).await, 2 * HOUR, Remembered::Nothing);
    let first = ask(&store, later).await;
    expect(first, 2 * HOUR, Remembered::Nothing);
    assert_eq!(first.first_seen, 20 * HOUR);
    expect(look(FILE).await, 2 * HOUR, Remembered::SameReading);
    let other = IngestedFile {
        reading: [9; 32],
        now: 30 * HOUR,
        ..FILE
    };
    expect(look(other).await, 30 * HOUR, Remembered::OtherReading);
    expect(ask(&store, FILE).await, 2 * HOUR, Remembered::SameReading);
}

#[tokio::test]
async fn the_table_can_be_read() {
    let place = Place::new();
    let store = place.open().await;
    let file = IngestedFile {
        path: Some(Path::new("a.csv")),
        ..FILE
    };
    ask(&store, file).await;
    let row: (String, String, i64, String) = place
        .shell()
        .query_row(
            "SELECT content_hash, kind, base_revision, path FROM ingested_files",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    let expected = ("01".repeat(32), "bars".to_owned(), HOUR, "a.csv".to_owned());
    assert_eq!(row, expected);
}

on_every_store!(
    files_are_told_apart_by_content_kind_and_keys,
    a_file_that_is_looked_up_is_not_remembered,
    another_reading_begins_anew_and_only_the_last_is_remembered,
    another_reading_counts_for_other_keys_too,
    another_reading_begins_above_all_rows_of_the_one_before,
);
