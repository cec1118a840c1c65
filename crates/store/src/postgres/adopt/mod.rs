//! Brings a database that the Python original made, or another that holds its tables, to our
//! schema, without losing a row.
//!
//! It is looked at first, and what speaks against it is told all at once: rows that would become
//! one record, rows that no record can be, columns and keys that would refuse our rows, objects of
//! the user that lean on what has to be altered. Only where there is none of it anything changes,
//! in the transaction of the migration and under its lock.
//!
//! | what | becomes |
//! |---|---|
//! | prices as `numeric`, volumes as `bigint` | `double precision` |
//! | bounded texts | `text`, in the spelling that records have |
//! | unique keys of fewer columns | the natural key, the time first |
//! | absent columns | added; the revision is taken from when the row was last written |
//! | foreign keys to `tenants` | gone: no record is refused for its tenant |
//! | the views `latest_prices`, `data_freshness` | ours, with the rights that others had on them |
//! | other columns, tables, indexes, triggers, policies | stay |

mod catalog;
mod columns;
mod figures;
mod keys;
mod table;
mod tenants;
mod texts;
pub(super) mod wanted;

use mds_core::{Bar, Fundamentals, Kind, News, OptionSnap, TenantId};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use self::catalog::Shape;
use self::table::{TablePlan, VIEWS};

/// Tables that only we make: where one is there without our migrations, the database is not ours.
const OURS_ALONE: [&str; 2] = ["mds_meta", "ingested_files"];

/// One step: what it does, in words, and how.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) says: Vec<String>,
    /// Empty where the words belong to another step.
    pub(crate) sql: String,
}

/// What has to be done to a database, and what speaks against it.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    pub(crate) changes: Vec<Change>,
    pub(crate) notes: Vec<String>,
    pub(crate) problems: Vec<String>,
    /// Names of our tables that are there already.
    present: Vec<&'static str>,
    /// What others were allowed on the views that are made anew.
    grants: Vec<String>,
    /// Tables whose owner row security binds as well.
    forced: Vec<String>,
}

/// What is found where our tables would be.
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// Tables that hold records, by names of ours.
    Tables(Vec<&'static str>),
    /// Something else that has a name of ours.
    Other(String),
}

/// Looks what has the names of our tables and views; there are no migrations of ours.
pub(crate) async fn find(client: &Client) -> Result<Found, Error> {
    for name in OURS_ALONE {
        if catalog::shape(client, name).await?.is_some() {
            return Ok(Found::Other(name.to_owned()));
        }
    }
    let mut present = Vec::new();
    let mut has_other = None;
    for kind in Kind::ALL {
        let name = kind.table();
        match catalog::shape(client, name).await? {
            Some(shape) if holds(kind, &shape) => present.push(name),
            Some(_) => has_other = Some(name),
            None => {}
        }
    }
    let is_adoptable = !present.is_empty() && has_other.is_none();
    if catalog::shape(client, "tenants").await?.is_some() {
        present.push("tenants");
    }
    for view in VIEWS {
        let kind = "SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass($1)";
        match client.query_typed_opt(kind, &[(&view, Type::TEXT)]).await? {
            Some(row) if is_adoptable && row.try_get(0)? => {}
            Some(_) => has_other = has_other.or(Some(view)),
            None => {}
        }
    }
    Ok(match (has_other, present.first()) {
        (Some(name), _) => Found::Other(name.to_owned()),
        (None, None) => Found::Nothing,
        (None, Some(_)) if is_adoptable => Found::Tables(present),
        (None, Some(name)) => Found::Other((*name).to_owned()),
    })
}

fn holds(kind: Kind, shape: &Shape) -> bool {
    match kind {
        Kind::Bars => table::holds::<Bar>(shape),
        Kind::Options => table::holds::<OptionSnap>(shape),
        Kind::Fundamentals => table::holds::<Fundamentals>(shape),
        Kind::News => table::holds::<News>(shape),
    }
}

/// Locks the tables against everybody else and lifts what would hide rows from their owner, so
/// that what is looked at is all there is, and stays so.
pub(crate) async fn lock(client: &Client, present: &[&'static str]) -> Result<(), Error> {
    client
        .batch_execute(&format!(
            "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            present.join(", ")
        ))
        .await
}

/// Makes row security no longer bind the owner of a table, until the end of the adoption.
async fn lift(client: &Client, shape: &Shape) -> Result<(), Error> {
    let sql = format!("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY", shape.name);
    client.batch_execute(&sql).await
}

/// Says what has to be done. With `lifts`, row security of the owner is lifted for the look, which
/// needs the lock; without, nothing is changed, and rows that are hidden from us are not looked at.
pub(crate) async fn examine(
    client: &Client,
    present: Vec<&'static str>,
    tenant: TenantId,
    lifts: bool,
) -> Result<Adoption, Error> {
    let mut adoption = Adoption {
        present,
        ..Adoption::default()
    };
    adoption.views(client).await?;
    for kind in Kind::ALL {
        let Some(mut shape) = catalog::shape(client, kind.table()).await? else {
            continue;
        };
        if shape.is_forced {
            adoption.notes.push(format!(
                "{}: row security binds its owner as well (FORCE) and goes on to do so; name a \
                 tenant with app.tenant_id to read it",
                shape.name
            ));
            adoption.forced.push(shape.name.clone());
            if lifts {
                lift(client, &shape).await?;
                shape.is_hidden = false;
            }
        }
        let plan = match kind {
            Kind::Bars => table::examine::<Bar>(client, &shape, tenant).await?,
            Kind::Options => table::examine::<OptionSnap>(client, &shape, tenant).await?,
            Kind::Fundamentals => table::examine::<Fundamentals>(client, &shape, tenant).await?,
            Kind::News => table::examine::<News>(client, &shape, tenant).await?,
        };
        adoption.take(plan);
    }
    if let Some(shape) = catalog::shape(client, "tenants").await? {
        adoption.take(tenants::examine(&shape));
    }
    Ok(adoption)
}

impl Adoption {
    fn take(&mut self, plan: TablePlan) {
        self.changes.extend(plan.changes);
        self.notes.extend(plan.notes);
        self.problems.extend(plan.problems);
    }

    /// The steps in words.
    pub(crate) fn said(&self) -> Vec<String> {
        self.changes.iter().flat_map(|c| c.says.clone()).collect()
    }

    /// Views of the original, which are made anew.
    async fn views(&mut self, client: &Client) -> Result<(), Error> {
        for view in VIEWS {
            let Some(shape) = catalog::shape(client, view).await? else {
                continue;
            };
            let but: Vec<String> = VIEWS.map(str::to_owned).to_vec();
            let columns: Vec<&str> = shape.columns.iter().map(|c| c.name.as_str()).collect();
            for what in catalog::leaning(client, shape.oid, &columns, &but).await? {
                self.problems.push(format!(
                    "{view} must be made anew, and {what} uses it; drop it first and make it \
                     again afterwards"
                ));
            }
            let grants = "SELECT format('GRANT %s ON %s TO %s%s', g.privilege_type, \
                 c.oid::regclass, CASE g.grantee WHEN 0 THEN 'PUBLIC' \
                 ELSE quote_ident(pg_get_userbyid(g.grantee)) END, \
                 CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
                 FROM pg_class AS c, aclexplode(c.relacl) AS g \
                 WHERE c.oid = $1 AND g.grantee <> c.relowner ORDER BY 1";
            for row in client
                .query_typed(grants, &[(&shape.oid, Type::OID)])
                .await?
            {
                self.grants.push(row.try_get(0)?);
            }
            self.changes.push(Change {
                says: vec![format!(
                    "{view}: make the view anew; it runs with the rights of who asks, so that row \
                     security holds for it"
                )],
                sql: format!("DROP VIEW {}", shape.name),
            });
        }
        Ok(())
    }

    /// Does it, and makes what is missing of `schema`, the statements of our first migration.
    pub(crate) async fn apply(&self, client: &Client, schema: &str) -> Result<(), Error> {
        let changes = self.changes.iter().map(|c| c.sql.as_str());
        let is_there = |statement: &&str| {
            !created_table(statement).is_some_and(|name| self.present.contains(&name))
        };
        let missing = statements(schema).filter(is_there);
        let grants = self.grants.iter().map(String::as_str);
        for sql in changes.chain(missing).chain(grants) {
            client.batch_execute(sql).await?;
        }
        for kind in Kind::ALL {
            let sql = format!(
                "UPDATE mds_meta SET last_revision = greatest(last_revision, \
                 (SELECT coalesce(max(revision), 0) FROM {}))",
                kind.table()
            );
            client.batch_execute(&sql).await?;
        }
        for table in &self.forced {
            let sql = format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY");
            client.batch_execute(&sql).await?;
        }
        Ok(())
    }
}

/// The statements of a script of ours, each of which ends a line with its semicolon.
fn statements(script: &str) -> impl Iterator<Item = &str> {
    let parts = script.split(";\n").map(str::trim);
    parts.filter(|part| !part.is_empty())
}

/// The table that a statement makes.
fn created_table(statement: &str) -> Option<&str> {
    let mut lines = statement.lines();
    let first = lines.find(|line| !line.is_empty() && !line.starts_with("--"))?;
    first.strip_prefix("CREATE TABLE ")?.strip_suffix(" (")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_into_statements() {
        let script =
            "-- One.\nCREATE TABLE bars (\n    a int\n);\nINSERT INTO x DEFAULT VALUES;\n\n";
        let parts: Vec<_> = statements(script).collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(created_table(parts[0]), Some("bars"));
        assert_eq!(created_table(parts[1]), None);
    }

    #[test]
    fn the_first_migration_makes_every_table() {
        let script = include_str!("../schema.sql");
        let made: Vec<_> = statements(script).filter_map(created_table).collect();
        assert_eq!(
            made,
            [
                "mds_meta",
                "ingested_files",
                "tenants",
                "bars",
                "options_snap",
                "fundamentals",
                "news"
            ]
        );
    }
}
