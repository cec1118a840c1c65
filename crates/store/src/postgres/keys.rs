//! Whether the tables still have their keys: new rows are copied, and it is the keys that keep them
//! from being there twice.

use mds_core::{Bar, Fundamentals, Kind, News, OptionSnap};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::sql;

/// What is wrong with each table that has no unique key of exactly the parts of its natural key.
pub(crate) async fn missing(client: &Client) -> Result<Vec<String>, Error> {
    let sql = "SELECT tables.name, tables.parts FROM unnest($1::text[], $2::text[]) WITH ORDINALITY \
         AS tables (name, parts, ord) WHERE NOT EXISTS (SELECT FROM pg_index AS i \
         WHERE i.indrelid = tables.name::regclass AND i.indisunique AND i.indisvalid \
         AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
         AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") \
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place) \
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number \
            WHERE k.place <= i.indnkeyatts) \
         = (SELECT array_agg(part ORDER BY part COLLATE \"C\") \
            FROM unnest(string_to_array(tables.parts, ', ')) AS part)) ORDER BY tables.ord";
    let problem = |row: &tokio_postgres::Row| {
        let (name, parts): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        Ok(format!(
            "table {name} has no unique key ({parts}) any more, so rows could be there twice; add \
             it again as its primary key"
        ))
    };
    let tables = Kind::ALL.map(Kind::table);
    let keys = [
        sql::key_columns::<Bar>(),
        sql::key_columns::<OptionSnap>(),
        sql::key_columns::<Fundamentals>(),
        sql::key_columns::<News>(),
    ];
    let parts = keys.map(|key| key.join(", "));
    let rows = client
        .query_typed(
            sql,
            &[
                (&&tables[..], Type::TEXT_ARRAY),
                (&&parts[..], Type::TEXT_ARRAY),
            ],
        )
        .await?;
    rows.iter().map(problem).collect()
}
