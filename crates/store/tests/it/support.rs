//! Stores in temporary folders, and records to put into them.

use std::path::PathBuf;
use std::time::Duration;

use mds_core::{Bar, Batch, RowOutcome, Sink as _, Timestamp, WriteReport};
use mds_store::{OpenOptions, Query, Store, StoreUrl, StoredRecord};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const MINUTE: i64 = 60_000_000;
/// 2024-11-01T00:00:00Z.
pub(crate) const START: i64 = 1_730_419_200_000_000;

/// A folder with one store in it.
#[derive(Debug)]
pub(crate) struct Place {
    // Removed when the value is dropped.
    _dir: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) url: StoreUrl,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("market.db");
        Self {
            _dir: dir,
            url: StoreUrl::Sqlite(path.clone()),
            path,
        }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url, options()).await.unwrap()
    }

    /// A connection as the `sqlite3` shell would have it.
    pub(crate) fn shell(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }
}

/// Locks are waited for only shortly, so that a test of one is quick.
pub(crate) fn options() -> OpenOptions {
    OpenOptions {
        busy_timeout: Duration::from_millis(50),
        ..OpenOptions::default()
    }
}

/// A minute bar of symbol `S`.
pub(crate) fn bar(minute: i64, close: f64, revision: i64) -> Bar {
    Bar {
        vendor: "v".into(),
        symbol: "S".into(),
        ts: Timestamp::from_micros(START + minute * MINUTE),
        close_price: Some(close),
        revision,
        ..Bar::default()
    }
}

pub(crate) async fn write<R: StoredRecord>(store: &Store, rows: Vec<R>) -> WriteReport {
    store.sink::<R>().write(Batch::from(rows)).await
}

/// Writes rows of which every one is new.
pub(crate) async fn write_new<R: StoredRecord>(store: &Store, rows: Vec<R>) {
    let count = rows.len();
    let report = write(store, rows).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    let other = report.outcomes.iter().find(|o| **o != RowOutcome::Written);
    assert_eq!((report.outcomes.len(), other), (count, None));
}

pub(crate) async fn all<R: StoredRecord>(store: &Store) -> Vec<R> {
    store.query::<R>(Query::default()).collect().await.unwrap()
}

/// A seed that is printed, and taken from `MDS_SEED` where that is set.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("MDS_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("MDS_SEED={seed}");
    seed
}

/// Whether there is time for the long batteries.
pub(crate) fn is_long() -> bool {
    std::env::var("MDS_LONG").is_ok_and(|value| value == "1")
}

/// Makes of each test (a function that takes a store) one on SQLite, one on PostgreSQL and one on
/// hypertables of TimescaleDB: all keep one contract.
macro_rules! on_every_store {
    ($($test:ident,)*) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    let place = crate::support::Place::new();
                    super::$test(place.open().await).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test]
                async fn $test() {
                    if let Some(server) = crate::postgres::Server::find() {
                        super::$test(server.open().await).await;
                    }
                }
            )*
        }

        mod on_timescale {
            $(
                #[tokio::test]
                async fn $test() {
                    if let Some(store) = crate::postgres::timescale::store().await {
                        super::$test(store).await;
                    }
                }
            )*
        }
    };
}
