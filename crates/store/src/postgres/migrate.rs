//! Brings a database to the schema of this program, once, whoever else does the same.
//!
//! All steps run in one transaction under an advisory lock, and what is pending is decided under
//! that lock: a second process that migrates at the same time waits, and then finds nothing to do.

use mds_core::Kind;
use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::connect::Conn;
use super::failed;
use crate::{MigrationReport, MigrationStep, StoreError};

/// The number of the advisory lock: `mds_migr` in ASCII.
const LOCK: i64 = 0x6d64_735f_6d69_6772;

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// All migrations, in order. One that was released is never edited.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "tables and views",
    sql: include_str!("schema.sql"),
}];

/// What a store needs to know of a database that it has opened.
pub(crate) struct Opened {
    pub(crate) store_id: String,
    pub(crate) last_revision: i64,
    /// Row security binds the role that we are.
    pub(crate) is_bound: bool,
    /// By kind: the table is one table, without parts.
    pub(crate) has_places: [bool; 4],
}

/// Why a database was not migrated or opened.
pub(crate) enum MigrateError {
    Postgres(Error),
    Newer { found: i64, known: i64 },
    Diverged { version: i64 },
    Outdated { found: i64, wanted: i64 },
    Foreign { object: String },
}

impl From<Error> for MigrateError {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl MigrateError {
    pub(crate) fn into_store_error(self, dsn: &str) -> StoreError {
        let path = dsn.into();
        match self {
            Self::Postgres(error) => failed(dsn, "migrate the schema", error),
            Self::Newer { found, known } => StoreError::Newer { path, found, known },
            Self::Diverged { version } => StoreError::Diverged { path, version },
            Self::Outdated { found, wanted } => StoreError::Outdated {
                path,
                found,
                wanted,
            },
            Self::Foreign { object } => StoreError::Foreign { path, object },
        }
    }
}

fn step(migration: &Migration) -> MigrationStep {
    MigrationStep {
        version: migration.version,
        name: migration.name,
        checksum: crate::hex(&Sha256::digest(migration.sql.as_bytes())),
    }
}

/// Migrates, or with `plan` says what migrating would do.
pub(crate) async fn run(
    conn: Conn,
    plan: bool,
) -> (Option<Conn>, Result<MigrationReport, MigrateError>) {
    let result = if plan {
        version_of(&conn.client)
            .await
            .map(|from| report(from, false))
    } else {
        apply(&conn.client).await
    };
    // A failed transaction ends with its connection.
    (result.is_ok().then_some(conn), result)
}

/// Migrates if asked to, checks that the schema is the one of this program, and reads what the
/// store needs to know.
pub(crate) async fn open(
    conn: Conn,
    migrates: bool,
) -> (Option<Conn>, Result<Opened, MigrateError>) {
    let result = opened(&conn.client, migrates).await;
    (result.is_ok().then_some(conn), result)
}

async fn opened(client: &Client, migrates: bool) -> Result<Opened, MigrateError> {
    let mut found = version_of(client).await?;
    let wanted = MIGRATIONS.last().map_or(0, |m| m.version);
    if found < wanted && migrates {
        found = apply(client).await?.to;
    }
    if found != wanted {
        return Err(MigrateError::Outdated { found, wanted });
    }
    let sql = "SELECT store_id::text, last_revision, row_security_active('bars') FROM mds_meta";
    let row = client.query_typed_one(sql, &[]).await?;
    Ok(Opened {
        store_id: row.try_get(0)?,
        last_revision: row.try_get(1)?,
        is_bound: row.try_get(2)?,
        has_places: has_places(client).await?,
    })
}

/// Which tables are one table each: neither partitioned nor with tables that inherit from them,
/// as those of TimescaleDB.
async fn has_places(client: &Client) -> Result<[bool; 4], Error> {
    let sql = "SELECT c.relkind = 'r' AND NOT EXISTS \
         (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid) AND NOT EXISTS \
         (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = 'ts_insert_blocker') \
         FROM unnest($1::text[]) WITH ORDINALITY AS u (name, ord) \
         JOIN pg_class AS c ON c.oid = u.name::regclass ORDER BY u.ord";
    let tables = Kind::ALL.map(Kind::table);
    let mut places = [false; 4];
    let rows = client
        .query_typed(sql, &[(&&tables[..], Type::TEXT_ARRAY)])
        .await?;
    for (has_place, row) in places.iter_mut().zip(rows) {
        *has_place = row.try_get(0)?;
    }
    Ok(places)
}

/// The version of the schema; 0 where there is none and none is in the way.
async fn version_of(client: &Client) -> Result<i64, MigrateError> {
    if !has_relation(client, "mds_migrations").await? {
        for name in [
            "mds_meta",
            "ingested_files",
            "tenants",
            "bars",
            "options_snap",
            "fundamentals",
            "news",
            "latest_prices",
            "data_freshness",
        ] {
            if has_relation(client, name).await? {
                let object = name.to_owned();
                return Err(MigrateError::Foreign { object });
            }
        }
        return Ok(0);
    }
    let sql = "SELECT version, checksum FROM mds_migrations ORDER BY version";
    let mut found = 0;
    let known = MIGRATIONS.last().map_or(0, |m| m.version);
    for row in client.query_typed(sql, &[]).await? {
        let (version, checksum): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        found = version;
        if version > known {
            return Err(MigrateError::Newer { found, known });
        }
        let ours = MIGRATIONS.iter().find(|m| m.version == version);
        if ours.is_none_or(|m| step(m).checksum != checksum) {
            return Err(MigrateError::Diverged { version });
        }
    }
    Ok(found)
}

async fn has_relation(client: &Client, name: &str) -> Result<bool, Error> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    client
        .query_typed_one(sql, &[(&name, Type::TEXT)])
        .await?
        .try_get(0)
}

fn report(from: i64, applied: bool) -> MigrationReport {
    let steps: Vec<_> = MIGRATIONS
        .iter()
        .filter(|m| m.version > from)
        .map(step)
        .collect();
    MigrationReport {
        from,
        to: steps.last().map_or(from, |s| s.version),
        steps,
        applied,
    }
}

async fn apply(client: &Client) -> Result<MigrationReport, MigrateError> {
    // The lock is the transaction's, so that a connection that breaks gives it back.
    client
        .batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))
        .await?;
    let result = apply_pending(client).await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await?;
    result
}

async fn apply_pending(client: &Client) -> Result<MigrationReport, MigrateError> {
    let from = version_of(client).await?;
    let pending: Vec<_> = MIGRATIONS.iter().filter(|m| m.version > from).collect();
    if pending.is_empty() {
        return Ok(report(from, true));
    }
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS mds_migrations (version bigint PRIMARY KEY, \
             name text NOT NULL, checksum text NOT NULL, \
             applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    for migration in pending {
        client.batch_execute(migration.sql).await?;
        let step = step(migration);
        let sql = "INSERT INTO mds_migrations (version, name, checksum) VALUES ($1, $2, $3)";
        client
            .execute(sql, &[&step.version, &step.name, &step.checksum])
            .await?;
    }
    Ok(report(from, true))
}
