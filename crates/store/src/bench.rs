//! The yardstick: what a bare loop over prepared upserts does with the same rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::postgres;
use crate::sqlite::{self, StoredRecord};
use crate::{StoreError, StoreUrl};

/// How a bare loop ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BareLoop {
    /// How long the loop took.
    pub took: Duration,
    /// The settings of its connection that say what a commit is worth, read back after the loop:
    /// SQLite's own words, such as `wal` and `full`.
    pub journal_mode: String,
    /// See `journal_mode`.
    pub synchronous: String,
}

/// Writes `rows` in a loop, one prepared `INSERT .. ON CONFLICT DO UPDATE` a row, in the order in
/// which they come, a COMMIT every `rows_per_transaction` rows with `synchronous=FULL`; answers how
/// long the loop took. The yardstick of `mds bench`.
///
/// It writes into the tables of an existing SQLite store at `path`, with the same keys. It does less than a sink:
/// no answer per row, no order of rank beyond the revision, no isolation of refused rows, no list
/// of extents (so the rows are not visible to queries), no waiting for callers. The numbers of
/// series are given before the clock starts.
///
/// Blocks; nothing else should write to the store meanwhile.
pub fn bare_loop<R: StoredRecord>(
    path: &Path,
    rows: &[R],
    rows_per_transaction: usize,
) -> Result<BareLoop, StoreError> {
    let mut bare = sqlite::Bare::<R>::open(path)?;
    let mut series = HashMap::new();
    for row in rows {
        if let Entry::Vacant(new) = series.entry(row.series()) {
            new.insert(bare.series(row)?);
        }
    }
    let started = Instant::now();
    for part in rows.chunks(rows_per_transaction.max(1)) {
        bare.write(part, &series)?;
    }
    let took = started.elapsed();
    let (journal_mode, synchronous) = bare.durability()?;
    Ok(BareLoop {
        took,
        journal_mode,
        synchronous,
    })
}

/// Copies `rows` with bare binary COPYs into the table of an existing PostgreSQL store, over
/// `writers` connections, one transaction every `rows_per_transaction` rows; answers how long it
/// took, connecting not counted. The rows must be new. The yardstick of `mds bench postgres`.
pub async fn bare_copy<R: StoredRecord>(
    url: &StoreUrl,
    rows: &[R],
    rows_per_transaction: usize,
    writers: usize,
) -> Result<Duration, StoreError> {
    match url {
        StoreUrl::Postgres(dsn) => {
            postgres::bare_copy(dsn, rows, rows_per_transaction, writers).await
        }
        StoreUrl::Sqlite(path) => Err(StoreError::Missing { path: path.clone() }),
    }
}

/// Empties the bars of a PostgreSQL store, for the next round of a benchmark.
pub async fn truncate_bars(url: &StoreUrl) -> Result<(), StoreError> {
    match url {
        StoreUrl::Postgres(dsn) => postgres::truncate_bars(dsn).await,
        StoreUrl::Sqlite(path) => Err(StoreError::Missing { path: path.clone() }),
    }
}
