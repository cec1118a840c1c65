//! Whether the tables are still as a migration of ours has made them: somebody may have altered them
//! since, and each row that is written would tell it anew.

use mds_core::{Bar, Fundamentals, Kind, News, OptionSnap};
use tokio_postgres::{Client, Error, Row};

use super::adopt::wanted::{self, Wanted};
use super::keys;

/// What stands where our tables were, in their order: whether it is a table, and its
/// columns.
const FOUND: &str = "\
    SELECT name, c.relkind IN ('r', 'p'), ARRAY(SELECT attname::text FROM pg_attribute \
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) \
    FROM unnest(ARRAY['bars', 'options_snap', 'fundamentals', 'news', 'mds_meta', 'tenants', \
        'ingested_files']) WITH ORDINALITY AS tables (name, place) \
    LEFT JOIN pg_class AS c ON c.oid = to_regclass(name) ORDER BY place";

/// What nobody can read without.
const READ: usize = 5;

/// What has to be mended before a row is written, or with `only_reads` before one is read.
pub(super) async fn problems(client: &Client, only_reads: bool) -> Result<Vec<String>, Error> {
    let rows = client.query_typed(FOUND, &[]).await?;
    let mut problems = Vec::new();
    for row in rows.iter().take(if only_reads { READ } else { rows.len() }) {
        let (name, is_table): (&str, Option<bool>) = (row.try_get(0)?, row.try_get(1)?);
        match is_table {
            None => problems.push(format!(
                "table {name} is gone; give it its name again, or restore it from a backup"
            )),
            Some(_) if only_reads => {}
            Some(false) => problems.push(format!(
                "{name} is no table any more and has no key; give the table its name again"
            )),
            Some(true) => problems.extend(lost(name, row)?),
        }
    }
    if problems.is_empty() && !only_reads {
        return keys::missing(client).await;
    }
    Ok(problems)
}

/// The columns that a table of records has lost.
fn lost(name: &str, row: &Row) -> Result<Vec<String>, Error> {
    let columns: Vec<String> = row.try_get(2)?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.table() == name);
    let wanted = kind.map(columns_of).unwrap_or_default();
    let is_lost = |wanted: &&Wanted| !columns.iter().any(|column| column == wanted.name);
    let lost = wanted.iter().filter(is_lost);
    Ok(lost.map(|wanted| lost_column(name, wanted)).collect())
}

fn lost_column(table: &str, wanted: &Wanted) -> String {
    let column = wanted.name;
    // Nobody knows any more which row was which.
    if wanted.is_key && wanted.default.is_none() {
        return format!(
            "table {table} has lost its column {column}, a part of its key; restore it from a \
             backup"
        );
    }
    format!(
        "table {table} has lost its column {column}; add it again: ALTER TABLE {table} ADD COLUMN {}",
        wanted.definition()
    )
}

fn columns_of(kind: Kind) -> Vec<Wanted> {
    match kind {
        Kind::Bars => wanted::columns::<Bar>(),
        Kind::Options => wanted::columns::<OptionSnap>(),
        Kind::Fundamentals => wanted::columns::<Fundamentals>(),
        Kind::News => wanted::columns::<News>(),
    }
}
