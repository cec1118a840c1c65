//! Queries: bounded memory, one snapshot, in the order of the natural key with the time first.
//!
//! Series with the same width of bucket form a lane. A lane goes through its buckets in order of
//! time and holds the records of one bucket; the lanes are merged by key. So memory is bounded by
//! the records that the selected series have in one bucket, plus one chunk.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use mds_core::{Kind, Record, Symbol, TenantId, Timeframe, Timestamp, Vendor};
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;

use super::kinds::parsed;
use super::layout::{BUCKETS_PER_EXTENT, Layout, SeriesKey, Sql, bucket_of, extent_of};
use crate::{Order, Query};

/// A lane looks at a whole bucket at once where it wants at least one in so many series.
const SCAN_SHARE: usize = 8;

/// A series as readers know it.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) id: i64,
    pub(crate) key: SeriesKey,
    pub(crate) bucket_micros: i64,
}

/// The series of `kind` that a query is about.
pub(crate) fn select_series(
    conn: &Connection,
    kind: Kind,
    by_symbol: bool,
    query: &Query,
) -> rusqlite::Result<Vec<Series>> {
    let mut conditions = vec!["kind = ?"];
    let mut values = vec![SqlValue::from(kind.as_str().to_owned())];
    let mut restrict = |condition, value: Option<String>| {
        if let Some(value) = value {
            values.push(SqlValue::from(value));
            conditions.push(condition);
        }
    };
    restrict("tenant_id = ?", query.tenant.map(|t| t.to_string()));
    restrict("vendor = ?", query.vendor.as_ref().map(Vendor::to_string));
    if kind == Kind::Bars {
        restrict("timeframe = ?", query.timeframe.map(|t| t.to_string()));
    }
    let all_symbols = !by_symbol || query.symbols.is_empty();
    if !all_symbols {
        conditions.push("symbol = ?");
    }
    let mut statement = conn.prepare_cached(&format!(
        "SELECT id, tenant_id, vendor, symbol, timeframe, bucket_micros \
         FROM mds_series WHERE {}",
        conditions.join(" AND ")
    ))?;
    if all_symbols {
        return statement
            .query_map(rusqlite::params_from_iter(&values), read_series)?
            .collect();
    }
    let mut found = Vec::new();
    for symbol in query.symbols.iter().collect::<BTreeSet<_>>() {
        values.push(SqlValue::from(symbol.to_string()));
        for series in statement.query_map(rusqlite::params_from_iter(&values), read_series)? {
            found.push(series?);
        }
        values.pop();
    }
    Ok(found)
}

fn read_series(row: &rusqlite::Row<'_>) -> rusqlite::Result<Series> {
    let timeframe = match row.get_ref(4)?.as_str()? {
        "" => None,
        _ => Some(parsed::<Timeframe>(row, 4)?),
    };
    Ok(Series {
        id: row.get(0)?,
        key: SeriesKey {
            tenant: parsed::<TenantId>(row, 1)?,
            vendor: Vendor::new(row.get_ref(2)?.as_str()?),
            symbol: Symbol::new(row.get_ref(3)?.as_str()?),
            timeframe,
        },
        bucket_micros: row.get(5)?,
    })
}

/// The times that a query is about: `start..end` in microseconds.
pub(crate) fn time_range(query: &Query) -> (i64, i64) {
    (
        query.start.map_or(i64::MIN, Timestamp::micros),
        query.end.map_or(i64::MAX, Timestamp::micros),
    )
}

/// The extents of one series that may hold records of `start..end`, ascending.
pub(crate) fn extents(
    conn: &Connection,
    series: &Series,
    (start, end): (i64, i64),
) -> rusqlite::Result<Vec<i64>> {
    let first = extent_of(bucket_of(start, series.bucket_micros));
    let last = extent_of(bucket_of(end.saturating_sub(1), series.bucket_micros));
    conn.prepare_cached(
        "SELECT extent FROM mds_extents \
         WHERE series_id = ?1 AND extent BETWEEN ?2 AND ?3 ORDER BY extent",
    )?
    .query_map((series.id, first, last), |row| row.get(0))?
    .collect()
}

/// Records of several series with buckets of one width.
#[derive(Debug)]
struct Lane<R> {
    series: Vec<Series>,
    places: HashMap<i64, usize>,
    bucket_micros: i64,
    extents: VecDeque<i64>,
    /// Buckets of the extent at hand.
    buckets: VecDeque<i64>,
    /// Series that have the extent at hand.
    present: Vec<usize>,
    /// Records of the bucket at hand, in order.
    ready: VecDeque<R>,
    /// Whether buckets are looked at as a whole.
    whole: bool,
}

/// The records of a query, one after the other.
#[derive(Debug)]
pub(crate) struct Cursor<'c, R> {
    conn: &'c Connection,
    sql: Sql,
    lanes: Vec<Lane<R>>,
    range: (i64, i64),
    order: Order,
    left: u64,
    /// News: symbols that a record must be about.
    symbols: Vec<Symbol>,
}

impl<'c, R: Layout> Cursor<'c, R> {
    /// Prepares a query; `conn` should be in a transaction, which is the snapshot.
    pub(crate) fn new(conn: &'c Connection, query: &Query) -> rusqlite::Result<Self> {
        let range = time_range(query);
        let mut by_width: BTreeMap<i64, Vec<Series>> = BTreeMap::new();
        if range.0 < range.1 {
            for series in select_series(conn, R::KIND, R::SERIES_HAS_SYMBOL, query)? {
                by_width
                    .entry(series.bucket_micros)
                    .or_default()
                    .push(series);
            }
        }
        let mut lanes = Vec::new();
        for (bucket_micros, series) in by_width {
            lanes.push(Lane::new(conn, bucket_micros, series, range, query.order)?);
        }
        Ok(Self {
            conn,
            sql: Sql::of::<R>(),
            lanes,
            range,
            order: query.order,
            left: query.limit.unwrap_or(u64::MAX),
            symbols: if R::SERIES_HAS_SYMBOL {
                Vec::new()
            } else {
                query.symbols.clone()
            },
        })
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> rusqlite::Result<Option<R>> {
        while self.left > 0 {
            let Some(record) = self.next_of_lanes()? else {
                return Ok(None);
            };
            if self.symbols.is_empty() || record.is_about(&self.symbols) {
                self.left -= 1;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn next_of_lanes(&mut self) -> rusqlite::Result<Option<R>> {
        for lane in &mut self.lanes {
            lane.fill(self.conn, &self.sql, self.range, self.order)?;
        }
        let order = self.order;
        let first = self
            .lanes
            .iter_mut()
            .filter(|lane| !lane.ready.is_empty())
            .min_by(|a, b| match (a.ready.front(), b.ready.front()) {
                (Some(a), Some(b)) => key_order(order, a, b),
                _ => Ordering::Equal,
            });
        Ok(first.and_then(|lane| lane.ready.pop_front()))
    }
}

fn key_order<R: Record>(order: Order, a: &R, b: &R) -> Ordering {
    match order {
        Order::OldestFirst => a.key_cmp(b),
        Order::NewestFirst => b.key_cmp(a),
    }
}

impl<R: Layout> Lane<R> {
    fn new(
        conn: &Connection,
        bucket_micros: i64,
        series: Vec<Series>,
        range: (i64, i64),
        order: Order,
    ) -> rusqlite::Result<Self> {
        let mut extents_of_all = BTreeSet::new();
        for one in &series {
            extents_of_all.extend(extents(conn, one, range)?);
        }
        let in_lane: i64 = conn
            .prepare_cached(
                "SELECT count(*) FROM mds_series WHERE kind = ?1 AND bucket_micros = ?2",
            )?
            .query_row((R::KIND.as_str(), bucket_micros), |row| row.get(0))?;
        let in_lane = usize::try_from(in_lane).unwrap_or(usize::MAX);
        let mut extents: VecDeque<_> = extents_of_all.into_iter().collect();
        if order == Order::NewestFirst {
            extents.make_contiguous().reverse();
        }
        Ok(Self {
            places: series.iter().enumerate().map(|(i, s)| (s.id, i)).collect(),
            whole: series.len() > 1 && series.len().saturating_mul(SCAN_SHARE) >= in_lane,
            series,
            bucket_micros,
            extents,
            buckets: VecDeque::new(),
            present: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// Makes `ready` hold the next records, unless there are none left.
    fn fill(
        &mut self,
        conn: &Connection,
        sql: &Sql,
        range: (i64, i64),
        order: Order,
    ) -> rusqlite::Result<()> {
        while self.ready.is_empty() {
            let Some(bucket) = self.buckets.pop_front() else {
                if !self.next_extent(conn, range, order)? {
                    return Ok(());
                }
                continue;
            };
            if self.whole {
                self.read_whole(conn, sql, bucket, range)?;
            } else {
                self.read_each(conn, sql, bucket, range)?;
            }
            // Records of one series come in order of the key.
            if self.series.len() > 1 {
                let ready = self.ready.make_contiguous();
                ready.sort_unstable_by(|a, b| key_order(order, a, b));
            } else if order == Order::NewestFirst {
                self.ready.make_contiguous().reverse();
            }
        }
        Ok(())
    }

    fn next_extent(
        &mut self,
        conn: &Connection,
        (start, end): (i64, i64),
        order: Order,
    ) -> rusqlite::Result<bool> {
        let Some(extent) = self.extents.pop_front() else {
            return Ok(false);
        };
        let first = bucket_of(start, self.bucket_micros).max(extent * BUCKETS_PER_EXTENT);
        let last = bucket_of(end.saturating_sub(1), self.bucket_micros)
            .min(extent * BUCKETS_PER_EXTENT + BUCKETS_PER_EXTENT - 1);
        self.buckets = match order {
            Order::OldestFirst => (first..=last).collect(),
            Order::NewestFirst => (first..=last).rev().collect(),
        };
        self.present.clear();
        if self.whole {
            return Ok(true);
        }
        let mut has =
            conn.prepare_cached("SELECT 1 FROM mds_extents WHERE series_id = ?1 AND extent = ?2")?;
        for (place, series) in self.series.iter().enumerate() {
            if has.exists((series.id, extent))? {
                self.present.push(place);
            }
        }
        Ok(true)
    }

    fn read_each(
        &mut self,
        conn: &Connection,
        sql: &Sql,
        bucket: i64,
        (start, end): (i64, i64),
    ) -> rusqlite::Result<()> {
        let mut statement = conn.prepare_cached(&sql.scan_series)?;
        for place in &self.present {
            let series = &self.series[*place];
            let mut rows = statement.query((bucket, series.id, start, end))?;
            while let Some(row) = rows.next()? {
                self.ready.push_back(R::read(&series.key, row, 0)?);
            }
        }
        Ok(())
    }

    fn read_whole(
        &mut self,
        conn: &Connection,
        sql: &Sql,
        bucket: i64,
        (start, end): (i64, i64),
    ) -> rusqlite::Result<()> {
        let mut statement = conn.prepare_cached(&sql.scan_bucket)?;
        let mut rows = statement.query((bucket, start, end))?;
        while let Some(row) = rows.next()? {
            if let Some(place) = self.places.get(&row.get(0)?) {
                let series = &self.series[*place];
                self.ready.push_back(R::read(&series.key, row, 1)?);
            }
        }
        Ok(())
    }
}
