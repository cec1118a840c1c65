//! The numbers that stand for series, and the extents known to be listed.
//!
//! What a transaction adds is remembered apart until its COMMIT: after a rollback the numbers that
//! it gave are forgotten, so that no later record is filed under a number that the database does
//! not have.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use mds_core::{Kind, Timeframe};
use rusqlite::{Connection, OptionalExtension as _};

use super::connect::now;
use super::layout::{Layout, SeriesKey, extent_of};

/// A series as the writer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesRef {
    pub(crate) id: i64,
    pub(crate) bucket_micros: i64,
}

/// Extents kept in memory; beyond that they are asked for again (16 bytes each).
const MAX_EXTENTS: usize = 1 << 20;
/// Series kept in memory; beyond that they are asked for again (about 150 bytes each).
const MAX_SERIES: usize = 1 << 18;

/// Multiplies and folds each word: a pair of small integers needs no more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }

    fn write_u64(&mut self, value: u64) {
        // The multiplier is 2^64 divided by the golden ratio (Fibonacci hashing).
        let mixed = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

type PairSet = HashSet<(i64, i64), BuildHasherDefault<PairHasher>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Intern {
    series: HashMap<(Kind, SeriesKey), SeriesRef>,
    extents: PairSet,
    new_series: Vec<(Kind, SeriesKey)>,
    new_extents: Vec<(i64, i64)>,
}

impl Intern {
    /// Forgets everything: the database may have changed under us.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What the transaction added is in the database.
    pub(crate) fn commit(&mut self) {
        self.new_series.clear();
        self.new_extents.clear();
        if self.series.len() > MAX_SERIES {
            self.series.clear();
        }
        if self.extents.len() > MAX_EXTENTS {
            self.extents.clear();
        }
    }

    /// What the transaction added is gone.
    pub(crate) fn rollback(&mut self) {
        for key in self.new_series.drain(..) {
            self.series.remove(&key);
        }
        for pair in self.new_extents.drain(..) {
            self.extents.remove(&pair);
        }
    }

    /// The number of the series of `record`, which is given one if it has none.
    pub(crate) fn series<R: Layout>(
        &mut self,
        conn: &Connection,
        record: &R,
    ) -> rusqlite::Result<SeriesRef> {
        let key = (R::KIND, record.series());
        if let Some(known) = self.series.get(&key) {
            return Ok(*known);
        }
        let found = match find_series(conn, R::KIND, &key.1)? {
            Some(found) => found,
            None => insert_series::<R>(conn, &key.1)?,
        };
        self.new_series.push(key.clone());
        self.series.insert(key, found);
        Ok(found)
    }

    /// Lists the extent of `bucket` for the series, if it is not listed.
    pub(crate) fn extent(
        &mut self,
        conn: &Connection,
        series_id: i64,
        bucket: i64,
    ) -> rusqlite::Result<()> {
        let pair = (series_id, extent_of(bucket));
        if self.extents.contains(&pair) {
            return Ok(());
        }
        conn.prepare_cached(
            "INSERT INTO mds_extents (series_id, extent) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute(pair)?;
        self.extents.insert(pair);
        self.new_extents.push(pair);
        Ok(())
    }
}

/// The text that stands for a time frame in the database.
pub(crate) fn timeframe_text(timeframe: Option<Timeframe>) -> String {
    timeframe.map_or_else(String::new, |t| t.to_string())
}

fn find_series(
    conn: &Connection,
    kind: Kind,
    key: &SeriesKey,
) -> rusqlite::Result<Option<SeriesRef>> {
    conn.prepare_cached(
        "SELECT id, bucket_micros FROM mds_series \
         WHERE symbol = ?1 AND kind = ?2 AND tenant_id = ?3 AND vendor = ?4 AND timeframe = ?5",
    )?
    .query_row(
        (
            key.symbol.as_str(),
            kind.as_str(),
            key.tenant.to_string(),
            key.vendor.as_str(),
            timeframe_text(key.timeframe),
        ),
        |row| {
            Ok(SeriesRef {
                id: row.get(0)?,
                bucket_micros: row.get(1)?,
            })
        },
    )
    .optional()
}

fn insert_series<R: Layout>(conn: &Connection, key: &SeriesKey) -> rusqlite::Result<SeriesRef> {
    let tenant = key.tenant.to_string();
    conn.prepare_cached(
        "INSERT INTO tenants (tenant_id, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?
    .execute((&tenant, now().to_string()))?;
    let bucket_micros = R::bucket_micros(key.timeframe);
    let id = conn
        .prepare_cached(
            "INSERT INTO mds_series (symbol, kind, tenant_id, vendor, timeframe, bucket_micros) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .insert((
            key.symbol.as_str(),
            R::KIND.as_str(),
            &tenant,
            key.vendor.as_str(),
            timeframe_text(key.timeframe),
            bucket_micros,
        ))?;
    Ok(SeriesRef { id, bucket_micros })
}
