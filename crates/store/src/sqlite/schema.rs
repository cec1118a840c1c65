//! The tables and views, as numbered migrations.
//!
//! A migration that was released is never edited: its checksum is in every store.

use mds_core::time::MICROS_PER_SECOND;
use sha2::{Digest, Sha256};

use crate::MigrationStep;

/// One migration.
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: String,
}

impl Migration {
    /// What is told about it, with the checksum of its statements.
    pub(crate) fn step(&self) -> MigrationStep {
        MigrationStep {
            version: self.version,
            name: self.name,
            checksum: crate::hex(&Sha256::digest(self.sql.as_bytes())),
        }
    }
}

/// Every name that the migrations create: none of them may be taken in a database that is not ours.
pub(crate) const NAMES: &[&str] = &[
    "mds_migrations",
    "mds_meta",
    "mds_series",
    "mds_extents",
    "mds_slots",
    "mds_probe",
    "ingested_files",
    "tenants",
    "bars_data",
    "options_snap_data",
    "fundamentals_data",
    "news_data",
    "bars",
    "options_snap",
    "fundamentals",
    "news",
    "latest_prices",
    "data_freshness",
];

/// All migrations, in order.
pub(crate) fn migrations() -> Vec<Migration> {
    vec![Migration {
        version: 1,
        name: "tables and views",
        sql: first(),
    }]
}

/// SQL that shows microseconds as `mds_core::Timestamp` does: RFC 3339, `Z`, as many digits of
/// the second as needed. SQLite's `/` and `%` round towards zero, hence the double remainder.
fn iso(column: &str) -> String {
    let m = MICROS_PER_SECOND;
    let fraction = format!("(({column} % {m} + {m}) % {m})");
    format!(
        "strftime('%Y-%m-%dT%H:%M:%S', ({column} - {fraction}) / {m}, 'unixepoch') || \
         CASE {fraction} WHEN 0 THEN 'Z' \
         ELSE rtrim(printf('.%06d', {fraction}), '0') || 'Z' END"
    )
}

/// The joins from series to the records of one kind, in the order in which they are cheap.
fn joins(kind: &str, table: &str) -> String {
    format!(
        "FROM mds_series AS s \
         CROSS JOIN mds_extents AS e ON e.series_id = s.id \
         CROSS JOIN mds_slots AS o \
         CROSS JOIN {table} AS d ON d.bucket = e.extent * 64 + o.slot AND d.series_id = s.id \
         WHERE s.kind = '{kind}'"
    )
}

fn first() -> String {
    let ts = iso("d.ts");
    let asof = iso("d.asof");
    let published_at = iso("d.published_at");
    let bars = joins("bars", "bars_data");
    let options = joins("options", "options_snap_data");
    let fundamentals = joins("fundamentals", "fundamentals_data");
    let news = joins("news", "news_data");
    let tables = include_str!("schema.sql");
    let slots: Vec<_> = (0..super::layout::BUCKETS_PER_EXTENT)
        .map(|slot| format!("({slot})"))
        .collect();
    let slots = slots.join(",");
    format!(
        "{tables}
INSERT INTO mds_slots (slot) VALUES {slots};
CREATE VIEW bars AS SELECT s.tenant_id, s.vendor, s.symbol, s.timeframe, {ts} AS ts,
    d.open_price, d.high_price, d.low_price, d.close_price, d.volume, d.provisional, d.revision
    {bars};
CREATE VIEW options_snap AS SELECT s.tenant_id, s.vendor, s.symbol,
    date(d.expiry * 86400, 'unixepoch') AS expiry, d.option_type, d.strike, {ts} AS ts,
    d.iv, d.delta, d.gamma, d.oi, d.volume, d.spot, d.revision
    {options};
CREATE VIEW fundamentals AS SELECT s.tenant_id, s.vendor, s.symbol, {asof} AS asof, d.period,
    d.total_assets, d.total_liabilities, d.net_income, d.eps, d.revision
    {fundamentals};
CREATE VIEW news AS SELECT s.tenant_id, s.vendor, {published_at} AS published_at, d.id,
    d.symbol, d.symbols, d.title, d.url, d.sentiment_score, d.revision
    {news};
{}{}",
        latest_prices(),
        data_freshness()
    )
}

/// The last close of each (tenant, vendor, symbol): the latest start wins, then the shorter span.
fn latest_prices() -> String {
    let last = "FROM mds_extents AS e CROSS JOIN mds_slots AS o \
        CROSS JOIN bars_data AS d ON d.bucket = e.extent * 64 + o.slot AND d.series_id = s.id \
        WHERE e.series_id = s.id AND d.close_price IS NOT NULL \
        ORDER BY e.extent DESC, o.slot DESC, d.ts DESC LIMIT 1";
    let shown = iso("ts");
    format!(
        "CREATE VIEW latest_prices AS SELECT tenant_id, vendor, symbol, price, {shown} AS price_timestamp
    FROM (SELECT tenant_id, vendor, symbol, price, ts, row_number() OVER (
            PARTITION BY tenant_id, vendor, symbol ORDER BY ts DESC, bucket_micros) AS place
        FROM (SELECT s.tenant_id, s.vendor, s.symbol, s.bucket_micros,
                (SELECT d.ts {last}) AS ts, (SELECT d.close_price {last}) AS price
            FROM mds_series AS s WHERE s.kind = 'bars')
        WHERE ts IS NOT NULL)
    WHERE place = 1;
"
    )
}

/// The last time of each series of each kind.
fn data_freshness() -> String {
    let branches: Vec<_> = [
        ("bars", "bars_data", "ts"),
        ("options", "options_snap_data", "ts"),
        ("fundamentals", "fundamentals_data", "asof"),
        ("news", "news_data", "published_at"),
    ]
    .into_iter()
    .map(|(kind, table, time)| {
        format!(
            "SELECT s.kind, s.tenant_id, s.vendor, s.symbol, s.timeframe, \
             (SELECT d.{time} FROM mds_extents AS e CROSS JOIN mds_slots AS o \
              CROSS JOIN {table} AS d ON d.bucket = e.extent * 64 + o.slot AND d.series_id = s.id \
              WHERE e.series_id = s.id \
              ORDER BY e.extent DESC, o.slot DESC, d.{time} DESC LIMIT 1) AS latest \
             FROM mds_series AS s WHERE s.kind = '{kind}'"
        )
    })
    .collect();
    let shown = iso("latest");
    format!(
        "CREATE VIEW data_freshness AS SELECT kind, tenant_id, vendor, symbol, timeframe, {shown} AS latest
    FROM ({}) WHERE latest IS NOT NULL;
",
        branches.join(" UNION ALL ")
    )
}
