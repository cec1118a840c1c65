//! How the tables lie: as one table each or in parts, and which rows go into parts that are
//! compressed, or may be at any moment.
//!
//! A table may become a hypertable of TimescaleDB, and its policy may change, while a store is
//! open. So this is read again now and then, before a write.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mds_core::{Kind, Timestamp};
use tokio::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

/// How long what was read is relied on. Chunks are compressed when they are days old: in a minute
/// the rows of a minute become late, and are then in the wrong part of a batch once.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// How the tables lie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    /// By kind: the table is one table, so that a place in it says which row is there.
    pub(crate) has_places: [bool; 4],
    /// By kind: rows before it are late, and go into compressed chunks.
    late_before: [Option<Timestamp>; 4],
}

impl Layout {
    /// Whether a row of this time is late.
    pub(crate) fn is_late(&self, kind: Kind, time: Timestamp) -> bool {
        self.late_before[kind as usize].is_some_and(|before| time < before)
    }
}

/// What was read last, and when.
#[derive(Debug)]
pub(crate) struct Known(Mutex<(Layout, Instant)>);

impl Known {
    pub(crate) fn new(layout: Layout) -> Self {
        Self(Mutex::new((layout, Instant::now())))
    }

    /// How the tables lie, by what was read a moment ago or is read now.
    pub(crate) async fn current(&self, client: &Client) -> Result<Layout, Error> {
        let (layout, read_at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if read_at.elapsed() < GOOD_FOR {
            return Ok(layout);
        }
        let layout = read(client).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (layout, Instant::now());
        Ok(layout)
    }
}

/// Reads how the tables lie.
pub(crate) async fn read(client: &Client) -> Result<Layout, Error> {
    let sql = "SELECT c.relkind = 'r' AND NOT EXISTS \
         (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid), \
         to_regclass('timescaledb_information.hypertables') IS NOT NULL \
         FROM unnest($1::text[]) WITH ORDINALITY AS u (name, ord) \
         JOIN pg_class AS c ON c.oid = u.name::regclass ORDER BY u.ord";
    let tables = Kind::ALL.map(Kind::table);
    let rows = client
        .query_typed(sql, &[(&&tables[..], Type::TEXT_ARRAY)])
        .await?;
    let mut layout = Layout::default();
    let mut has_timescale = false;
    for (has_places, row) in layout.has_places.iter_mut().zip(rows) {
        *has_places = row.try_get(0)?;
        has_timescale |= row.try_get::<_, bool>(1)?;
    }
    if has_timescale {
        hypertables(client, &mut layout).await?;
    }
    Ok(layout)
}

/// What TimescaleDB says: a hypertable without rows looks like one table, and is none.
async fn hypertables(client: &Client, layout: &mut Layout) -> Result<(), Error> {
    let sql = "SELECT h.hypertable_name IS NULL, (extract(epoch FROM greatest(\
         (SELECT max(c.range_end) FROM timescaledb_information.chunks AS c WHERE c.is_compressed \
            AND c.hypertable_schema = h.hypertable_schema AND c.hypertable_name = h.hypertable_name), \
         now() - (SELECT max((j.config ->> 'compress_after')::interval) \
            FROM timescaledb_information.jobs AS j \
            WHERE j.hypertable_schema = h.hypertable_schema \
            AND j.hypertable_name = h.hypertable_name))) * 1000000)::int8 \
         FROM unnest($1::text[]) WITH ORDINALITY AS u (name, ord) \
         LEFT JOIN timescaledb_information.hypertables AS h \
         ON format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass = u.name::regclass \
         ORDER BY u.ord";
    let tables = Kind::ALL.map(Kind::table);
    let rows = client
        .query_typed(sql, &[(&&tables[..], Type::TEXT_ARRAY)])
        .await?;
    for (kind, row) in rows.iter().enumerate().take(4) {
        layout.has_places[kind] &= row.try_get::<_, bool>(0)?;
        let before: Option<i64> = row.try_get(1)?;
        layout.late_before[kind] = before.map(Timestamp::from_micros);
    }
    Ok(())
}

/// Bytes of the tables that hold records, with their indexes and all their parts.
pub(crate) async fn bytes(client: &Client) -> Result<u64, Error> {
    let has_timescale = "SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL";
    let row = client.query_typed_one(has_timescale, &[]).await?;
    let of_chunks = if row.try_get(0)? {
        "hypertable_size(u.name::regclass)"
    } else {
        "NULL"
    };
    let size = format!(
        "coalesce({of_chunks}, (SELECT sum(pg_total_relation_size(p.relid))::int8 \
         FROM pg_partition_tree(u.name::regclass) AS p), pg_total_relation_size(u.name::regclass))"
    );
    let sql = format!("SELECT sum({size})::int8 FROM unnest($1::text[]) AS u (name)");
    let tables = Kind::ALL.map(Kind::table);
    let row = client
        .query_typed_one(&sql, &[(&&tables[..], Type::TEXT_ARRAY)])
        .await?;
    let bytes: i64 = row.try_get(0)?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}
