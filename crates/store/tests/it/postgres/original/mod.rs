//! Databases as the Python original makes them, with a few rows, and what is asked of them.

use mds_store::{MigrationReport, OpenOptions, Store, StoreError, StoreUrl};
use tokio_postgres::Client;

use super::{Server, connect};

/// Unique keys without tenant and vendor.
pub(super) const NARROW: &str = include_str!("narrow.sql");
/// Keys with tenant and vendor; row security binds the owner.
pub(super) const WIDE: &str = include_str!("wide.sql");

/// The tenant of the rows.
pub(super) const ACME: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

/// A few rows of each kind; `bars` have spellings that are not ours.
pub(super) const ROWS: &str = "
    INSERT INTO tenants (id, tenant_id, name, created_at) VALUES
        ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'acme', 'Acme', '2025-01-01 00:00:00Z');
    INSERT INTO bars (tenant_id, vendor, symbol, timeframe, ts, open_price, high_price, low_price,
        close_price, volume, created_at, updated_at) VALUES
        ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'IBKR', 'AAPL', '1min', '2024-11-01 13:30:00Z',
         222.11, 222.5, 221.99, 222.42000001, 1234567, '2025-02-01 00:00:00Z', '2025-02-01 00:00:00Z'),
        ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'IBKR', 'AAPL', '1Day', '2025-02-01 00:00:00Z',
         NULL, NULL, NULL, 222.4, NULL, '2025-02-01 12:00:00Z', '2025-02-01 12:00:00Z');
    INSERT INTO options_snap (tenant_id, vendor, symbol, expiry, option_type, strike, ts, iv, oi, spot)
        VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'cboe', 'SPXW', '2024-12-20', 'C', 5800.00,
        '2024-11-01 13:30:00Z', 0.1234, 17, 5812.25);
    INSERT INTO fundamentals (tenant_id, vendor, symbol, asof, total_assets, eps, updated_at) VALUES
        ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'sec', 'AAPL', '2024-09-28 00:00:00Z',
         364980000000.00, 6.0800, '2025-02-01 00:00:00Z');
    INSERT INTO news (id, tenant_id, vendor, symbol, title, url, published_at, sentiment_score,
        updated_at) VALUES
        ('00000000-0000-4000-8000-000000000001', '6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'wire',
         'AAPL', 'Up', NULL, '2024-11-01 12:00:00Z', 0.25, '2025-02-01 00:00:00Z');
";

/// A database made by `script`, with a connection of the administrator to it.
pub(super) async fn database(server: &Server, scripts: &[&str]) -> (StoreUrl, Client) {
    let url = server.database().await;
    let admin = connect(&url.to_string()).await;
    for script in scripts {
        admin.batch_execute(script).await.unwrap();
    }
    (url, admin)
}

pub(super) async fn migrate(url: &StoreUrl) -> Result<MigrationReport, StoreError> {
    Store::migrate(url, OpenOptions::default(), false).await
}

pub(super) async fn plan(url: &StoreUrl) -> MigrationReport {
    Store::migrate(url, OpenOptions::default(), true)
        .await
        .unwrap()
}

/// What is in the way, as migrating says it.
pub(super) async fn problems(url: &StoreUrl) -> Vec<String> {
    match migrate(url).await.unwrap_err() {
        StoreError::Unfit { problems, .. } => problems,
        other => panic!("{other}"),
    }
}

/// One text.
pub(super) async fn text(client: &Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).await.unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

/// Everything about the database that a migration could change: definitions and rows.
pub(super) async fn everything(client: &Client) -> String {
    let definitions = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM ( \
        SELECT format('%s.%s %s %s %s', a.attrelid::regclass, a.attname, \
            format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS line \
            FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid \
            LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
            WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped \
        UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) \
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace \
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' \
        UNION ALL SELECT format('%s %s %s', tablename, policyname, qual) FROM pg_policies \
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal \
        UNION ALL SELECT format('%s %s %s %s %s %s', relname, relkind, relrowsecurity, \
            relforcerowsecurity, relacl, CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) END) \
            FROM pg_class WHERE relnamespace = 'public'::regnamespace) AS lines";
    let mut all = text(client, definitions).await;
    for table in ["tenants", "bars", "options_snap", "fundamentals", "news"] {
        let rows = format!("SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM {table} AS t");
        all.push_str(&text(client, &rows).await);
    }
    all
}
