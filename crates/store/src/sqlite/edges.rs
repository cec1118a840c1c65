//! The first and the last record of a series, in a few seeks.
//!
//! The extents of a series lead to the 64 buckets that may hold the record. How far the table is
//! filled within an extent, by whatever series, is asked once: for series that are alive this is
//! the very bucket, which saves the seeks into buckets that do not exist yet.

use std::collections::HashMap;
use std::marker::PhantomData;

use rusqlite::{Connection, OptionalExtension as _};

use super::layout::{BUCKETS_PER_EXTENT, Layout};
use super::read::Series;
use crate::Order;

/// Looks for the records at one end of series.
#[derive(Debug)]
pub(crate) struct Edges<'c, R> {
    conn: &'c Connection,
    extents: String,
    filled: String,
    record: String,
    /// The outermost slot of an extent that any series fills; `None` where none is.
    filled_to: HashMap<i64, Option<i64>>,
    kind: PhantomData<fn() -> R>,
}

impl<'c, R: Layout> Edges<'c, R> {
    /// Looks at the last records (`NewestFirst`) or the first ones, of those for which the SQL
    /// `condition` on the table `d` holds.
    pub(crate) fn new(conn: &'c Connection, end: Order, condition: &str) -> Self {
        let (table, time) = (R::TABLE, R::KEY[0]);
        let list: Vec<_> = [R::KEY, R::VALUES, &["revision"]]
            .concat()
            .iter()
            .map(|column| format!("d.{column}"))
            .collect();
        let list = list.join(", ");
        let (direction, outermost, within) = match end {
            Order::NewestFirst => ("DESC", "max", "<="),
            Order::OldestFirst => ("ASC", "min", ">="),
        };
        Self {
            conn,
            extents: format!(
                "SELECT extent FROM mds_extents WHERE series_id = ?1 ORDER BY extent {direction}"
            ),
            filled: format!(
                "SELECT {outermost}(bucket) FROM {table} WHERE bucket BETWEEN ?1 AND ?2"
            ),
            record: format!(
                "SELECT {list} FROM mds_slots AS o CROSS JOIN {table} AS d \
                 ON d.bucket = ?1 + o.slot AND d.series_id = ?2 \
                 WHERE o.slot {within} ?3 AND {condition} \
                 ORDER BY o.slot {direction}, d.{time} {direction} LIMIT 1"
            ),
            filled_to: HashMap::new(),
            kind: PhantomData,
        }
    }

    /// The record at the end of `series`.
    pub(crate) fn of(&mut self, series: &Series) -> rusqlite::Result<Option<R>> {
        let mut extents = self.conn.prepare_cached(&self.extents)?;
        let mut record = self.conn.prepare_cached(&self.record)?;
        let mut rows = extents.query([series.id])?;
        while let Some(row) = rows.next()? {
            let extent: i64 = row.get(0)?;
            // One that somebody else has written may lie beyond the numbers of buckets.
            let Some(first) = extent.checked_mul(BUCKETS_PER_EXTENT) else {
                continue;
            };
            let Some(slot) = self.filled_to(extent, first)? else {
                continue;
            };
            let found = record
                .query_row((first, series.id, slot), |row| R::read(&series.key, row, 0))
                .optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn filled_to(&mut self, extent: i64, first: i64) -> rusqlite::Result<Option<i64>> {
        if let Some(known) = self.filled_to.get(&extent) {
            return Ok(*known);
        }
        let bucket: Option<i64> = self
            .conn
            .prepare_cached(&self.filled)?
            .query_row((first, first + BUCKETS_PER_EXTENT - 1), |row| row.get(0))?;
        let slot = bucket.map(|b| b - first);
        self.filled_to.insert(extent, slot);
        Ok(slot)
    }
}
