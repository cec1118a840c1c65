//! Looks into the store with plain SQL, past everything that has written it, while no process has it
//! open; and keeps it locked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::rows;

/// The store of a folder.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
}

/// A row of the store: its number, and whether it is what was handed in. Without a number it is no
/// row of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) number: Option<u64>,
    pub(super) is_right: bool,
}

impl Witness {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All rows from a number on.
    pub(super) fn rows(&self, from: u64) -> anyhow::Result<Vec<Seen>> {
        let read = || -> rusqlite::Result<Vec<Seen>> {
            let conn = open(&self.path)?;
            let mut rows = conn.prepare(
                "SELECT s.symbol, s.vendor, d.ts, d.close_price FROM bars_data d \
                 JOIN mds_series s ON s.id = d.series_id WHERE d.ts >= ?1",
            )?;
            let rows = rows.query_map([rows::ts_of(from)], |row| {
                let (symbol, vendor): (String, String) = (row.get(0)?, row.get(1)?);
                Ok(seen(&symbol, &vendor, row.get(2)?, row.get(3)?))
            })?;
            rows.collect()
        };
        read().with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// Has SQLite check the file.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let check = || -> rusqlite::Result<String> {
            open(&self.path)?.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        };
        let said = check().with_context(|| format!("cannot read {}", self.path.display()))?;
        ensure!(said == "ok", "SQLite finds the store damaged: {said}");
        Ok(())
    }

    /// Keeps every writer out until the lock is dropped.
    pub(super) fn lock(&self) -> anyhow::Result<Connection> {
        let lock = || -> rusqlite::Result<Connection> {
            let conn = open(&self.path)?;
            conn.execute_batch("BEGIN EXCLUSIVE")?;
            Ok(conn)
        };
        lock().with_context(|| format!("cannot lock {}", self.path.display()))
    }
}

/// Opens the store without doing what the next process has to do after a kill.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

fn seen(symbol: &str, vendor: &str, ts: i64, close: Option<f64>) -> Seen {
    let number = rows::number_at(ts);
    let is_right = number.is_some_and(|number| {
        symbol == rows::symbol_of(number)
            && vendor == "selftest"
            && close.map(f64::to_bits) == Some(rows::close_of(number).to_bits())
    });
    Seen { number, is_right }
}
