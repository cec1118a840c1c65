//! How records lie in the file: series, buckets, and the statements of each kind.
//!
//! ```text
//! mds_series   (id, kind, tenant_id, vendor, symbol, timeframe, bucket_micros)
//! mds_extents  (series_id, extent)                    which extents of a series have records
//! KIND_data    (bucket, series_id, time, ...)         WITHOUT ROWID, in this key order
//!
//! bucket = floor(time / bucket_micros)      extent = floor(bucket / 64)
//! ```
//!
//! A bucket holds a few records of every series that is alive at the time: records that come in
//! time order land in few pages, and so do those of one series. Readers of one series visit its
//! extents, and in each the 64 buckets. `docs/adr/0001-sqlite-layout.md` has the measurements.
//!
//! Invariants:
//! - every record lies in the bucket of its time, with the `bucket_micros` of its series;
//! - every bucket that holds a record of a series lies in an extent listed for that series. An
//!   extent is listed before its first record is written and never taken off the list.

use mds_core::{Record, Symbol, TenantId, Timeframe, Vendor};
use rusqlite::{Row, Statement, ToSql};

/// Buckets in one extent.
pub(crate) const BUCKETS_PER_EXTENT: i64 = 64;

/// Bars of one series in one bucket (measured: docs/adr/0001-sqlite-layout.md).
pub(crate) const BARS_PER_BUCKET: i64 = 16;

/// What records of one series share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    /// Whose records.
    pub tenant: TenantId,
    /// From whom.
    pub vendor: Vendor,
    /// Of which instrument; empty for news.
    pub symbol: Symbol,
    /// The span of bars.
    pub timeframe: Option<Timeframe>,
}

/// A kind of record that a store can hold: [`mds_core::Bar`], [`mds_core::OptionSnap`],
/// [`mds_core::Fundamentals`] and [`mds_core::News`]. It cannot be implemented elsewhere.
pub trait StoredRecord: Layout {}

/// How one kind lies in its table.
pub trait Layout: Record {
    /// The table.
    const TABLE: &'static str;
    /// The key columns after `bucket, series_id`, the time first.
    const KEY: &'static [&'static str];
    /// The columns after the key, without `revision`.
    const VALUES: &'static [&'static str];

    /// The series that the record belongs to.
    fn series(&self) -> SeriesKey;

    /// Whether the record belongs to the series: `series() == *key`, without building one.
    fn is_of(&self, key: &SeriesKey) -> bool;

    /// Microseconds in one bucket of a new series.
    fn bucket_micros(timeframe: Option<Timeframe>) -> i64;

    /// Binds `KEY`.
    fn bind_key(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()>;

    /// Binds `VALUES`.
    fn bind_values(&self, to: &mut Binder<'_, '_>) -> rusqlite::Result<()>;

    /// Reads a record of `series` from the columns `KEY, VALUES, revision`, the first being `from`.
    fn read(series: &SeriesKey, row: &Row<'_>, from: usize) -> rusqlite::Result<Self>;

    /// Whether the record is about any of `symbols`; asked only where the series does not say.
    fn is_about(&self, _symbols: &[Symbol]) -> bool {
        true
    }

    /// Whether the symbol is part of the series.
    const SERIES_HAS_SYMBOL: bool = true;
}

/// The bucket of a time.
pub(crate) const fn bucket_of(time_micros: i64, bucket_micros: i64) -> i64 {
    time_micros.div_euclid(bucket_micros)
}

/// The extent of a bucket.
pub(crate) const fn extent_of(bucket: i64) -> i64 {
    bucket.div_euclid(BUCKETS_PER_EXTENT)
}

/// Binds the parameters of a statement one after the other.
#[derive(Debug)]
pub struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    next: usize,
}

impl<'s, 'c> Binder<'s, 'c> {
    /// Starts with the first parameter.
    pub(crate) fn new(statement: &'s mut Statement<'c>) -> Self {
        Self { statement, next: 1 }
    }

    /// Binds the next parameter.
    pub fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(())
    }

    /// Binds a number. SQLite would store NaN as NULL, so it is refused instead.
    pub fn put_float(&mut self, value: Option<f64>) -> rusqlite::Result<()> {
        if value.is_some_and(f64::is_nan) {
            return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(
                NotANumber,
            )));
        }
        self.put(value)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a value is not a number (NaN), which cannot be stored")]
struct NotANumber;

/// The statements of one kind.
#[derive(Debug)]
pub(crate) struct Sql {
    /// Inserts a record unless its key is taken: bucket, series, key, values, revision.
    pub(crate) insert: String,
    /// What somebody who promises nothing would write: replaces where the revision is greater.
    pub(crate) bare_upsert: String,
    /// Selects key, values and revision of one key: bucket, series, key.
    pub(crate) select: String,
    /// Replaces the values of one key: values, revision, bucket, series, key.
    pub(crate) update: String,
    /// Selects the records of a series in a bucket: bucket, series, start, end.
    pub(crate) scan_series: String,
    /// Selects the records in a bucket, series first: bucket, start, end.
    pub(crate) scan_bucket: String,
    /// Deletes the records of a series in a bucket: bucket, series, start, end.
    pub(crate) delete: String,
    /// Deletes the record of one key: bucket, series, key.
    pub(crate) delete_one: String,
}

impl Sql {
    /// The statements for `R`.
    pub(crate) fn of<R: Layout>() -> Self {
        let table = R::TABLE;
        let time = R::KEY[0];
        let columns = [R::KEY, R::VALUES, &["revision"]].concat();
        let list = columns.join(", ");
        let marks = vec!["?"; columns.len() + 2].join(", ");
        let key_is = R::KEY.join(" = ? AND ") + " = ?";
        let set: Vec<_> = columns[R::KEY.len()..]
            .iter()
            .map(|c| format!("{c} = ?"))
            .collect();
        let range = format!("series_id = ?2 AND {time} >= ?3 AND {time} < ?4");
        Self {
            insert: format!(
                "INSERT INTO {table} (bucket, series_id, {list}) VALUES ({marks}) \
                 ON CONFLICT DO NOTHING"
            ),
            bare_upsert: format!(
                "INSERT INTO {table} (bucket, series_id, {list}) VALUES ({marks}) \
                 ON CONFLICT DO UPDATE SET {} WHERE excluded.revision > revision",
                columns[R::KEY.len()..]
                    .iter()
                    .map(|c| format!("{c} = excluded.{c}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            select: format!(
                "SELECT {list} FROM {table} WHERE bucket = ? AND series_id = ? AND {key_is}"
            ),
            update: format!(
                "UPDATE {table} SET {} WHERE bucket = ? AND series_id = ? AND {key_is}",
                set.join(", ")
            ),
            scan_series: format!("SELECT {list} FROM {table} WHERE bucket = ?1 AND {range}"),
            scan_bucket: format!(
                "SELECT series_id, {list} FROM {table} \
                 WHERE bucket = ?1 AND {time} >= ?2 AND {time} < ?3"
            ),
            delete: format!("DELETE FROM {table} WHERE bucket = ?1 AND {range}"),
            delete_one: format!(
                "DELETE FROM {table} WHERE bucket = ? AND series_id = ? AND {key_is}"
            ),
        }
    }
}
