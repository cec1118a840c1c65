//! The loop behind [`crate::bench::bare_loop`].

use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::connect::Target;
use super::intern::{Intern, SeriesRef};
use super::layout::{Binder, Layout, SeriesKey, Sql, bucket_of};
use super::migrate;
use crate::StoreError;

/// A connection with the settings of the writer, and nothing of its care.
#[derive(Debug)]
pub(crate) struct Bare<R> {
    target: Target,
    conn: Connection,
    sql: Sql,
    intern: Intern,
    record: PhantomData<fn() -> R>,
}

impl<R: Layout> Bare<R> {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let target = Target {
            path: path.to_owned(),
            busy_timeout: Duration::from_secs(5),
            max_bytes: AtomicU64::new(0),
        };
        let conn = target.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrate::check(&target, &conn)?;
        target.make_writer(&conn)?;
        Ok(Self {
            target,
            conn,
            sql: Sql::of::<R>(),
            intern: Intern::default(),
            record: PhantomData,
        })
    }

    pub(crate) fn series(&mut self, row: &R) -> Result<SeriesRef, StoreError> {
        self.intern
            .series(&self.conn, row)
            .map_err(|e| self.target.failed("number a series", e))
    }

    /// `journal_mode` and `synchronous` of the connection.
    pub(crate) fn durability(&self) -> Result<(String, String), StoreError> {
        let read = || -> rusqlite::Result<(String, i64)> {
            let conn = &self.conn;
            let mode = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let synchronous = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            Ok((mode, synchronous))
        };
        let (mode, synchronous) = read().map_err(|e| self.target.failed("read settings", e))?;
        let synchronous = match synchronous {
            0 => "off",
            1 => "normal",
            2 => "full",
            _ => "extra",
        };
        Ok((mode, synchronous.to_owned()))
    }

    pub(crate) fn write(
        &mut self,
        rows: &[R],
        series: &HashMap<SeriesKey, SeriesRef>,
    ) -> Result<(), StoreError> {
        let write = || -> rusqlite::Result<()> {
            self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut upsert = self.conn.prepare_cached(&self.sql.bare_upsert)?;
            for row in rows {
                let Some(series) = series.get(&row.series()) else {
                    continue;
                };
                let mut to = Binder::new(&mut upsert);
                to.put(bucket_of(row.time().micros(), series.bucket_micros))?;
                to.put(series.id)?;
                row.bind_key(&mut to)?;
                row.bind_values(&mut to)?;
                to.put(row.revision())?;
                upsert.raw_execute()?;
            }
            self.conn.prepare_cached("COMMIT")?.execute([]).map(drop)
        };
        write().map_err(|e| self.target.failed("write in a bare loop", e))
    }
}
