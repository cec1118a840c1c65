//! Latest prices, figures about the store, counting and deleting.

use std::collections::BTreeMap;

use mds_core::{Bar, Fundamentals, Kind, News, OptionSnap, Symbol, TenantId, Timestamp, Vendor};
use rusqlite::Connection;

use super::edges::Edges;
use super::layout::{BUCKETS_PER_EXTENT, Layout, Sql};
use super::read::{self, Cursor, Series};
use crate::{Freshness, KindStats, LatestPrice, Order, Query};

/// The last price of each (tenant, vendor, symbol) that `query` selects.
pub(crate) fn latest(conn: &Connection, query: &Query) -> rusqlite::Result<Vec<LatestPrice>> {
    let mut best: BTreeMap<(Symbol, TenantId, Vendor), (Timestamp, i64, f64)> = BTreeMap::new();
    let mut last = Edges::<Bar>::new(conn, Order::NewestFirst, "d.close_price IS NOT NULL");
    for series in read::select_series(conn, Kind::Bars, true, query)? {
        let Some(bar) = last.of(&series)? else {
            continue;
        };
        let Some(price) = bar.close_price else {
            continue;
        };
        let candidate = (bar.ts, series.bucket_micros, price);
        best.entry((series.key.symbol, series.key.tenant, series.key.vendor))
            .and_modify(|known| {
                // Later starts win, then the shorter span.
                if (known.0, -known.1) < (candidate.0, -candidate.1) {
                    *known = candidate;
                }
            })
            .or_insert(candidate);
    }
    let prices = best.into_iter().map(|(key, (ts, _, price))| LatestPrice {
        tenant_id: key.1,
        vendor: key.2,
        symbol: key.0,
        price,
        price_timestamp: ts,
    });
    Ok(prices.collect())
}

/// How many records a query selects.
pub(crate) fn count<R: Layout>(conn: &Connection, query: &Query) -> rusqlite::Result<u64> {
    let unrestricted = Query {
        limit: query.limit,
        order: query.order,
        ..Query::default()
    };
    if *query == unrestricted {
        let all: i64 =
            conn.query_row(&format!("SELECT count(*) FROM {}", R::TABLE), [], |row| {
                row.get(0)
            })?;
        let all = u64::try_from(all).unwrap_or_default();
        return Ok(query.limit.map_or(all, |limit| all.min(limit)));
    }
    let mut cursor = Cursor::<R>::new(conn, query)?;
    let mut found = 0;
    while cursor.next()?.is_some() {
        found += 1;
    }
    Ok(found)
}

/// Figures of every kind, and how recent each vendor's data is.
pub(crate) fn stats(conn: &Connection) -> rusqlite::Result<(Vec<KindStats>, Vec<Freshness>)> {
    let mut freshness = Vec::new();
    let kinds = vec![
        stats_of::<Bar>(conn, &mut freshness)?,
        stats_of::<OptionSnap>(conn, &mut freshness)?,
        stats_of::<Fundamentals>(conn, &mut freshness)?,
        stats_of::<News>(conn, &mut freshness)?,
    ];
    Ok((kinds, freshness))
}

fn stats_of<R: Layout>(
    conn: &Connection,
    freshness: &mut Vec<Freshness>,
) -> rusqlite::Result<KindStats> {
    let all = read::select_series(conn, R::KIND, false, &Query::default())?;
    let mut stats = KindStats {
        kind: R::KIND,
        rows: count::<R>(conn, &Query::default())?,
        series: all.len() as u64,
        earliest: None,
        latest: None,
    };
    let mut by_vendor: BTreeMap<_, (u64, Timestamp)> = BTreeMap::new();
    let mut firsts = Edges::<R>::new(conn, Order::OldestFirst, "true");
    let mut lasts = Edges::<R>::new(conn, Order::NewestFirst, "true");
    for series in all {
        let first = firsts.of(&series)?.map(|r| r.time());
        let Some(last) = lasts.of(&series)?.map(|r| r.time()) else {
            continue;
        };
        stats.earliest = stats.earliest.into_iter().chain(first).min();
        stats.latest = stats.latest.max(Some(last));
        let key = (series.key.tenant, series.key.vendor, series.key.timeframe);
        let entry = by_vendor.entry(key).or_insert((0, last));
        *entry = (entry.0 + 1, entry.1.max(last));
    }
    freshness.extend(by_vendor.into_iter().map(|(key, (series, latest))| {
        let (tenant_id, vendor, timeframe) = key;
        Freshness {
            kind: R::KIND,
            tenant_id,
            vendor,
            timeframe,
            series,
            latest,
        }
    }));
    Ok(stats)
}

/// A deletion that is done a part at a time, so that batches are written in between.
#[derive(Debug)]
pub(crate) struct Deletion {
    query: Query,
    series: Option<Vec<Series>>,
    /// Extents of the last of `series` that are still to be done.
    extents: Vec<i64>,
}

/// Records deleted in one transaction before it is committed.
const DELETED_PER_TRANSACTION: u64 = 20_000;

impl Deletion {
    pub(crate) fn new(query: Query) -> Self {
        Self {
            query,
            series: None,
            extents: Vec::new(),
        }
    }

    /// Deletes the next part; answers how many records, and whether that was all.
    pub(crate) fn step<R: Layout>(&mut self, conn: &Connection) -> rusqlite::Result<(u64, bool)> {
        let range = read::time_range(&self.query);
        let mut series = match self.series.take() {
            Some(series) => series,
            None if range.0 < range.1 => {
                let found = read::select_series(conn, R::KIND, R::SERIES_HAS_SYMBOL, &self.query)?;
                if let Some(last) = found.last() {
                    self.extents = read::extents(conn, last, range)?;
                }
                found
            }
            None => Vec::new(),
        };
        let sql = Sql::of::<R>();
        let mut deleted = 0;
        while let Some(at) = series.last() {
            while let Some(extent) = self.extents.pop() {
                deleted += self.delete_extent::<R>(conn, &sql, at, extent, range)?;
                if deleted >= DELETED_PER_TRANSACTION {
                    self.series = Some(series);
                    return Ok((deleted, false));
                }
            }
            series.pop();
            if let Some(next) = series.last() {
                self.extents = read::extents(conn, next, range)?;
            }
        }
        self.series = Some(series);
        Ok((deleted, true))
    }

    fn delete_extent<R: Layout>(
        &self,
        conn: &Connection,
        sql: &Sql,
        series: &Series,
        extent: i64,
        (start, end): (i64, i64),
    ) -> rusqlite::Result<u64> {
        let mut deleted = 0;
        for slot in 0..BUCKETS_PER_EXTENT {
            let bucket = extent * BUCKETS_PER_EXTENT + slot;
            deleted += if R::SERIES_HAS_SYMBOL || self.query.symbols.is_empty() {
                conn.prepare_cached(&sql.delete)?
                    .execute((bucket, series.id, start, end))? as u64
            } else {
                self.delete_about::<R>(conn, sql, series, bucket, (start, end))?
            };
        }
        Ok(deleted)
    }

    /// Deletes the records of a bucket that are about the symbols of the query.
    fn delete_about<R: Layout>(
        &self,
        conn: &Connection,
        sql: &Sql,
        series: &Series,
        bucket: i64,
        (start, end): (i64, i64),
    ) -> rusqlite::Result<u64> {
        let mut statement = conn.prepare_cached(&sql.scan_series)?;
        let mut rows = statement.query((bucket, series.id, start, end))?;
        let mut about = Vec::new();
        while let Some(row) = rows.next()? {
            let record = R::read(&series.key, row, 0)?;
            if record.is_about(&self.query.symbols) {
                about.push(record);
            }
        }
        drop(rows);
        let mut delete = conn.prepare_cached(&sql.delete_one)?;
        let mut deleted = 0;
        for record in about {
            let mut to = super::layout::Binder::new(&mut delete);
            to.put(bucket)?;
            to.put(series.id)?;
            record.bind_key(&mut to)?;
            deleted += delete.raw_execute()? as u64;
        }
        Ok(deleted)
    }
}
