//! Stores: databases that hold market data, with their sinks, reads and migrations.
//!
//! This crate is *not* the write path: it neither queues nor retries. A sink takes a batch, commits
//! it with an `fsync`, and answers for every row; what to do about an error is the caller's affair.
//!
//! ```
//! use mds_core::{Bar, Batch, RowOutcome, Sink, Timestamp};
//! use mds_store::{OpenOptions, Query, Store, StoreUrl};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! # let dir = tempfile::tempdir().unwrap();
//! let url: StoreUrl = format!("sqlite:{}", dir.path().join("market.db").display()).parse()?;
//! let store = Store::open(&url, OpenOptions::default()).await?;
//! let bar = Bar {
//!     vendor: "binance".into(),
//!     symbol: "BTCUSDT".into(),
//!     ts: Timestamp::parse("2024-11-01T00:00:00Z").unwrap(),
//!     close_price: Some(70_000.5),
//!     revision: 1,
//!     ..Bar::default()
//! };
//! let report = store.sink::<Bar>().write(Batch::from(vec![bar.clone()])).await;
//! assert_eq!(report.outcomes, [RowOutcome::Written]);
//!
//! let mut chunks = store.query::<Bar>(Query::default());
//! assert_eq!(chunks.next().await.unwrap()?, [bar]);
//! store.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`Store`] | an open store of any back end: sinks, reads, administration |
//! | [`StoreSink`] | the [`mds_core::Sink`] of one kind |
//! | [`mod@bench`] | the bare loop that a sink's speed is measured against |
//!
//! Guarantees: a row answered `Written` is committed and synced; of all rows ever written under one
//! natural key the store holds the one of highest rank, whatever the order in which they came; a
//! row that the store refuses costs no other row.

#![forbid(unsafe_code)]

pub mod bench;
mod error;
mod ingested;
mod migration;
mod postgres;
mod query;
mod sqlite;
mod store;
mod timescale;
mod url;

pub use error::StoreError;
pub use ingested::{FileRevision, IngestedFile, Remembered};
pub use migration::{MigrationReport, MigrationStep};
pub use postgres::{Dsn, DsnError};
pub use query::{Chunks, Freshness, KindStats, LatestPrice, Order, Query, StoreStats};
pub use sqlite::StoredRecord;
#[doc(hidden)]
pub use store::LockOrder;
pub use store::{MissingRights, OpenOptions, Store, StoreSink};
pub use timescale::{TimescaleMode, TimescaleOptions};
pub use url::{StoreUrl, StoreUrlError};

/// Bytes in hexadecimal, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|digit| DIGITS[usize::from(digit)])
        .collect()
}
