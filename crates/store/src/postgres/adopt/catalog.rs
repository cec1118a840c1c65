//! What the server's catalog says of a table.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

/// A table as it is.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) oid: u32,
    /// Its name as it stands in a statement, quoted and with its schema where needed.
    pub(super) name: String,
    pub(super) columns: Vec<ColumnShape>,
    pub(super) uniques: Vec<Unique>,
    pub(super) foreign_keys: Vec<ForeignKey>,
    pub(super) policies: Vec<String>,
    pub(super) triggers: Vec<Trigger>,
    /// Why it is no table that columns of can be altered in place; `None` where it is one.
    pub(super) obstacle: Option<&'static str>,
    /// Row security binds its owner too.
    pub(super) is_forced: bool,
    /// Row security hides rows from us.
    pub(super) is_hidden: bool,
}

#[derive(Debug)]
pub(super) struct ColumnShape {
    pub(super) name: String,
    /// The type as SQL spells it, such as `numeric(20,8)`.
    pub(super) ty: String,
    /// The name of the type alone, such as `numeric`.
    pub(super) base: String,
    /// How its texts are compared.
    pub(super) collation: Option<String>,
    pub(super) is_not_null: bool,
    /// It has a value where an INSERT gives none.
    pub(super) fills_itself: bool,
    pub(super) default: Option<String>,
    pub(super) is_generated: bool,
    /// Digits in all and behind the point, of a `numeric` that says so.
    pub(super) precision: Option<(i32, i32)>,
}

/// A unique key: a constraint, or an index alone.
#[derive(Debug)]
pub(super) struct Unique {
    pub(super) name: String,
    pub(super) is_constraint: bool,
    pub(super) is_primary: bool,
    /// Its columns in order; empty where an expression is among them.
    pub(super) columns: Vec<String>,
    /// It covers only a part of the rows, or is not valid.
    pub(super) is_partial: bool,
    /// The foreign keys that lean on it, as `TABLE.NAME`.
    pub(super) leaning: Vec<String>,
}

#[derive(Debug)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    /// The table that it leads to.
    pub(super) target: String,
}

#[derive(Debug)]
pub(super) struct Trigger {
    pub(super) name: String,
    pub(super) function: String,
}

impl Shape {
    pub(super) fn column(&self, name: &str) -> Option<&ColumnShape> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// Types of columns cannot be altered then.
const COMPRESSED: &str = "is a hypertable with compression; decompress it and take compression off \
     first, and ask for it by the setting afterwards";

/// A name as it stands in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as it stands in a statement.
pub(super) fn literal(text: &str) -> String {
    // With `standard_conforming_strings`, which is on since version 9.1.
    format!("'{}'", text.replace('\'', "''"))
}

/// Reads the shape of a table; `None` where nothing has the name.
pub(super) async fn shape(client: &Client, table: &str) -> Result<Option<Shape>, Error> {
    let sql = "SELECT c.oid, c.oid::regclass::text, c.relkind::text, c.relforcerowsecurity, \
         c.relhassubclass, row_security_active(c.oid) FROM pg_class AS c WHERE c.oid = to_regclass($1)";
    let Some(row) = client.query_typed_opt(sql, &[(&table, Type::TEXT)]).await? else {
        return Ok(None);
    };
    let oid: u32 = row.try_get(0)?;
    let (kind, has_children): (String, bool) = (row.try_get(2)?, row.try_get(4)?);
    let obstacle = match kind.as_str() {
        "r" => match hypertable(client, oid).await? {
            Some(true) => Some(COMPRESSED),
            None if has_children => Some("has tables that inherit from it"),
            Some(false) | None => None,
        },
        "p" => Some("is partitioned"),
        _ => Some("is not a table"),
    };
    Ok(Some(Shape {
        oid,
        name: row.try_get(1)?,
        columns: columns(client, oid).await?,
        uniques: uniques(client, oid).await?,
        foreign_keys: foreign_keys(client, oid).await?,
        policies: names(
            client,
            "SELECT polname::text FROM pg_policy WHERE polrelid = $1",
            oid,
        )
        .await?,
        triggers: triggers(client, oid).await?,
        obstacle,
        is_forced: row.try_get(3)?,
        is_hidden: row.try_get(5)?,
    }))
}

/// Whether a hypertable of TimescaleDB has compression; `None` where the table is none.
async fn hypertable(client: &Client, oid: u32) -> Result<Option<bool>, Error> {
    let there = "SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL";
    if !client
        .query_typed_one(there, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        return Ok(None);
    }
    let sql = "SELECT h.compression_enabled FROM timescaledb_information.hypertables AS h \
         WHERE format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass::oid = $1";
    let row = client.query_typed_opt(sql, &[(&oid, Type::OID)]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn names(client: &Client, sql: &str, oid: u32) -> Result<Vec<String>, Error> {
    let rows = client.query_typed(sql, &[(&oid, Type::OID)]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn columns(client: &Client, oid: u32) -> Result<Vec<ColumnShape>, Error> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), t.typname::text, \
         a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', \
         a.attidentity <> '', a.atttypmod, l.collname::text \
         FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid \
         LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         LEFT JOIN pg_collation AS l ON l.oid = a.attcollation \
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let read = |row: &Row| {
        let (base, modifier): (String, i32) = (row.try_get(2)?, row.try_get(7)?);
        let default: Option<String> = row.try_get(4)?;
        let (is_generated, is_identity): (bool, bool) = (row.try_get(5)?, row.try_get(6)?);
        // The manual does not give this away; `numeric_typmod_in` of the server does.
        let packed = modifier.saturating_sub(4);
        let precision = (base == "numeric" && modifier >= 4)
            .then(|| ((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024));
        Ok(ColumnShape {
            name: row.try_get(0)?,
            ty: row.try_get(1)?,
            base,
            collation: row.try_get(8)?,
            is_not_null: row.try_get(3)?,
            fills_itself: default.is_some() || is_generated || is_identity,
            default: default.filter(|_| !is_generated),
            is_generated,
            precision,
        })
    };
    let rows = client.query_typed(sql, &[(&oid, Type::OID)]).await?;
    rows.iter().map(read).collect()
}

async fn uniques(client: &Client, oid: u32) -> Result<Vec<Unique>, Error> {
    let sql = "SELECT c.relname::text, n.oid IS NOT NULL, i.indisprimary, \
         ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (num, at) \
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.num \
            WHERE k.at <= i.indnkeyatts ORDER BY k.at), \
         i.indpred IS NOT NULL OR NOT i.indisvalid, i.indexprs IS NOT NULL, \
         ARRAY(SELECT f.conrelid::regclass::text || '.' || f.conname FROM pg_constraint AS f \
            WHERE f.contype = 'f' AND f.conindid = i.indexrelid AND f.conparentid = 0) \
         FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid \
         LEFT JOIN pg_constraint AS n ON n.conindid = i.indexrelid AND n.conrelid = i.indrelid \
         AND n.contype IN ('p', 'u') \
         WHERE i.indrelid = $1 AND i.indisunique ORDER BY i.indisprimary DESC, c.relname";
    let read = |row: &Row| {
        let has_expressions: bool = row.try_get(5)?;
        Ok(Unique {
            name: row.try_get(0)?,
            is_constraint: row.try_get(1)?,
            is_primary: row.try_get(2)?,
            columns: if has_expressions {
                Vec::new()
            } else {
                row.try_get(3)?
            },
            is_partial: row.try_get(4)?,
            leaning: row.try_get(6)?,
        })
    };
    let rows = client.query_typed(sql, &[(&oid, Type::OID)]).await?;
    rows.iter().map(read).collect()
}

async fn foreign_keys(client: &Client, oid: u32) -> Result<Vec<ForeignKey>, Error> {
    let sql = "SELECT conname::text, confrelid::regclass::text FROM pg_constraint \
         WHERE conrelid = $1 AND contype = 'f' ORDER BY conname";
    let read = |row: &Row| {
        Ok(ForeignKey {
            name: row.try_get(0)?,
            target: row.try_get(1)?,
        })
    };
    let rows = client.query_typed(sql, &[(&oid, Type::OID)]).await?;
    rows.iter().map(read).collect()
}

async fn triggers(client: &Client, oid: u32) -> Result<Vec<Trigger>, Error> {
    let sql = "SELECT t.tgname::text, p.proname::text FROM pg_trigger AS t \
         JOIN pg_proc AS p ON p.oid = t.tgfoid WHERE t.tgrelid = $1 AND NOT t.tgisinternal \
         ORDER BY t.tgname";
    let read = |row: &Row| {
        Ok(Trigger {
            name: row.try_get(0)?,
            function: row.try_get(1)?,
        })
    };
    let rows = client.query_typed(sql, &[(&oid, Type::OID)]).await?;
    rows.iter().map(read).collect()
}

/// What leans on the columns of a table in a way that forbids altering their types, in the
/// server's words; views first. What has one of the names in `but` is left out.
pub(super) async fn leaning(
    client: &Client,
    oid: u32,
    columns: &[&str],
    but: &[String],
) -> Result<Vec<String>, Error> {
    let sql = "SELECT DISTINCT CASE WHEN r.oid IS NOT NULL \
         THEN CASE v.relkind WHEN 'm' THEN 'materialized view ' WHEN 'v' THEN 'view ' \
            ELSE 'a rule on ' END || v.oid::regclass::text \
         WHEN g.oid IS NOT NULL THEN 'generated column ' || ga.attname \
         ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS what \
         FROM pg_depend AS d \
         LEFT JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
         LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
         LEFT JOIN pg_class AS v ON v.oid = r.ev_class \
         LEFT JOIN pg_attrdef AS g ON d.classid = 'pg_attrdef'::regclass AND g.oid = d.objid \
         LEFT JOIN pg_attribute AS ga ON ga.attrelid = g.adrelid AND ga.attnum = g.adnum \
         LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid \
         LEFT JOIN pg_trigger AS t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid \
         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 \
         AND a.attname::text = ANY ($2) \
         AND (r.oid IS NOT NULL OR p.oid IS NOT NULL OR t.oid IS NOT NULL \
            OR (g.oid IS NOT NULL AND ga.attname <> a.attname) \
            OR d.classid IN ('pg_proc'::regclass, 'pg_publication_rel'::regclass)) \
         AND coalesce(v.oid::regclass::text, p.polname::text, t.tgname::text, '') <> ALL ($3) \
         AND coalesce(v.oid, 0) <> $1 ORDER BY what";
    let columns: Vec<&str> = columns.to_vec();
    let rows = client
        .query_typed(
            sql,
            &[
                (&oid, Type::OID),
                (&columns, Type::TEXT_ARRAY),
                (&but, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
