//! The yardsticks: what a bare loop over prepared upserts, or a bare COPY, does with the same rows;
//! and the database in which a server is measured.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mds_core::Batch;

use crate::postgres::{self, Session};
use crate::sqlite::{self, StoredRecord};
use crate::{Dsn, OpenOptions, StoreError, StoreUrl, StoreUrlError};

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

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: String,
    /// `on` or `off`: whether what it wrote reaches the disk before it says so.
    pub fsync: String,
    /// Whether COMMIT waits for that.
    pub synchronous_commit: String,
    /// The number of the process that serves this session.
    pub backend: u32,
    /// Whether it is reached by a unix socket or the loopback address.
    pub is_local: bool,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Rows.
    pub rows: u64,
    /// A sum over the hashes of all rows, whatever their order.
    pub checksum: String,
}

/// A database of a benchmark's own on somebody's server: made anew, and gone after
/// [`Scratch::remove`]. Nothing outside of it is written to.
pub struct Scratch {
    name: String,
    url: String,
    dsn: Dsn,
    options: OpenOptions,
    home: Session,
    session: Session,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch")
            .field("dsn", &self.dsn)
            .finish_non_exhaustive()
    }
}

/// Why there is no database to measure in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScratchError {
    /// The address is not that of a server.
    #[error(
        "{0} is not the address of a PostgreSQL server; use postgres://USER@HOST:PORT/DATABASE"
    )]
    NotAServer(StoreUrl),
    /// The address cannot be read.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// The server refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scratch {
    /// Makes the database, with the tables of a store in it, on the server of `url`. The role needs
    /// the right to make databases.
    pub async fn create(url: &str, options: OpenOptions) -> Result<Self, ScratchError> {
        let home = server(url)?;
        let name = format!("mds_bench_{:08x}", fastrand::u32(..));
        let url = with_database(url, &name);
        let dsn = server(&url)?;
        let home = Session::new(&home, &options)?;
        let session = Session::new(&dsn, &options)?;
        let sql = format!("CREATE DATABASE {name}");
        home.execute("create a database", sql).await?;
        let scratch = Self {
            name,
            url,
            dsn,
            options,
            home,
            session,
        };
        let address = StoreUrl::Postgres(scratch.dsn.clone());
        let migrated = crate::Store::migrate(&address, scratch.options.clone(), false).await;
        if let Err(error) = migrated {
            // The first error is the one to tell.
            drop(scratch.remove().await);
            return Err(error.into());
        }
        Ok(scratch)
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of the database, with the password if the one it was made from had it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the server says about itself.
    pub async fn facts(&self) -> Result<ServerFacts, StoreError> {
        self.session.facts().await
    }

    /// Empties the bars and what is remembered of files, and checkpoints, so that every measurement
    /// begins with nothing to write back.
    pub async fn reset(&self) -> Result<(), StoreError> {
        let sql = "TRUNCATE bars, ingested_files".to_owned();
        self.session.execute("empty the tables", sql).await?;
        // Not in one transaction with it: what the checkpoint is to write must be final.
        self.checkpoint().await
    }

    /// Checkpoints: nothing is left to write back, and the next change of a page logs it whole.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        self.session
            .execute("checkpoint", "CHECKPOINT".to_owned())
            .await
    }

    /// Bytes that the server has ever put into its log.
    pub async fn wal_bytes(&self) -> Result<u64, StoreError> {
        self.session.wal_bytes().await
    }

    /// What the bars are.
    pub async fn bars(&self) -> Result<Contents, StoreError> {
        self.session.bars().await
    }

    /// Copies `batches` with bare binary COPYs into the table, over `writers` connections, one
    /// transaction a batch; answers how long it took, connecting not counted. The rows must be new.
    ///
    /// It does less than a sink: no order, no answer per row, no look at what is stored.
    pub async fn bare_copy<R: StoredRecord>(
        &self,
        batches: &Arc<Vec<Batch<R>>>,
        writers: usize,
    ) -> Result<Duration, StoreError> {
        postgres::bare_copy(&self.dsn, &self.options, batches, writers).await
    }

    /// Drops the database, whoever is still connected to it.
    pub async fn remove(self) -> Result<(), StoreError> {
        self.session.close();
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.home.execute("drop the database", sql).await?;
        self.home.close();
        Ok(())
    }
}

fn server(url: &str) -> Result<Dsn, ScratchError> {
    match StoreUrl::parse(url)? {
        StoreUrl::Postgres(dsn) => Ok(dsn),
        other @ StoreUrl::Sqlite(_) => Err(ScratchError::NotAServer(other)),
    }
}

/// The same address with another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = match url.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (url, None),
    };
    let server = match address.find("://") {
        None => address,
        Some(at) => {
            let authority = address.get(at + 3..).unwrap_or_default();
            let end = authority.find('/').unwrap_or(authority.len());
            address.get(..at + 3 + end).unwrap_or(address)
        }
    };
    let rest: Vec<&str> = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|parameter| !parameter.starts_with("dbname="))
        .collect();
    match rest.as_slice() {
        [] => format!("{server}/{name}"),
        rest => format!("{server}/{name}?{}", rest.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_an_address_is_replaced() {
        for (url, expected) in [
            ("postgres://u:p@h:5433/market", "postgres://u:p@h:5433/b"),
            ("postgres://u@h", "postgres://u@h/b"),
            (
                "postgres://h1:1,h2:2/m?sslmode=require",
                "postgres://h1:1,h2:2/b?sslmode=require",
            ),
            (
                "postgres:///m?host=/run/pg&dbname=m",
                "postgres:///b?host=/run/pg",
            ),
            ("postgresql://?dbname=m", "postgresql:///b"),
        ] {
            assert_eq!(with_database(url, "b"), expected);
        }
    }
}
