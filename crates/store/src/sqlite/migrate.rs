//! Brings a database to the schema of this program, once, whoever else does the same.
//!
//! All steps are applied in one transaction that starts with the write lock, and what is pending is
//! decided under that lock: a second process that migrates at the same time waits, and then finds
//! nothing to do.

use mds_core::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};
use uuid::Uuid;

use super::connect::{Target, now};
use super::schema::{self, Migration};
use crate::{MigrationReport, StoreError};

fn cannot_read(target: &Target, e: rusqlite::Error) -> StoreError {
    StoreError::Open {
        path: target.path.clone(),
        code: super::codes::code(&e).into_owned(),
        source: Box::new(e),
    }
}

/// What the database is before any change, after it was found to be ours or free for us. All of it
/// is read in one snapshot: another process may be making the tables at this moment.
fn version_of(target: &Target, conn: &Connection) -> Result<i64, StoreError> {
    if !conn.is_autocommit() {
        return version_in(target, conn);
    }
    let snapshot = conn
        .unchecked_transaction()
        .map_err(|e| cannot_read(target, e))?;
    version_in(target, &snapshot)
}

fn version_in(target: &Target, conn: &Connection) -> Result<i64, StoreError> {
    let read = |e| cannot_read(target, e);
    if !has_object(conn, "mds_migrations").map_err(read)? {
        for name in schema::NAMES {
            if has_object(conn, name).map_err(read)? {
                return Err(StoreError::Foreign {
                    path: target.path.clone(),
                    object: (*name).to_owned(),
                });
            }
        }
        return Ok(0);
    }
    let applied = applied(conn).map_err(read)?;
    let known = schema::migrations();
    let latest_known = known.last().map_or(0, |m| m.version);
    let found = applied.last().map_or(0, |(version, _)| *version);
    if found > latest_known {
        return Err(StoreError::Newer {
            path: target.path.clone(),
            found,
            known: latest_known,
        });
    }
    for (version, checksum) in applied {
        let ours = known.iter().find(|m| m.version == version);
        if ours.is_none_or(|m| m.step().checksum != checksum) {
            return Err(StoreError::Diverged {
                path: target.path.clone(),
                version,
            });
        }
    }
    Ok(found)
}

fn has_object(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM sqlite_schema WHERE lower(name) = ?1")?
        .exists([name])
}

fn applied(conn: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    conn.prepare("SELECT version, checksum FROM mds_migrations ORDER BY version")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn pending(from: i64) -> Vec<Migration> {
    let mut all = schema::migrations();
    all.retain(|m| m.version > from);
    all
}

fn report(from: i64, applied: bool) -> MigrationReport {
    let steps: Vec<_> = pending(from).iter().map(Migration::step).collect();
    MigrationReport {
        from,
        to: steps.last().map_or(from, |s| s.version),
        steps,
        applied,
        ..MigrationReport::default()
    }
}

/// What migrating would do; changes nothing and creates no file.
pub(crate) fn plan(target: &Target) -> Result<MigrationReport, StoreError> {
    match target.connect(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Ok(conn) => Ok(report(version_of(target, &conn)?, false)),
        Err(StoreError::Missing { .. }) => Ok(report(0, false)),
        Err(e) => Err(e),
    }
}

/// Refuses a database that is not ours, or that is of another version than this program's.
pub(crate) fn check(target: &Target, conn: &Connection) -> Result<(), StoreError> {
    let found = version_of(target, conn)?;
    let wanted = found + i64::try_from(pending(found).len()).unwrap_or(i64::MAX);
    if found == wanted {
        return Ok(());
    }
    Err(StoreError::Outdated {
        path: target.path.clone(),
        found,
        wanted,
    })
}

/// Refuses a database that migrations must not touch; changes nothing.
pub(crate) fn refuse_foreign(target: &Target, conn: &Connection) -> Result<(), StoreError> {
    version_of(target, conn).map(drop)
}

/// Applies what is pending.
pub(crate) fn run(target: &Target, conn: &mut Connection) -> Result<MigrationReport, StoreError> {
    let from = version_of(target, conn)?;
    if pending(from).is_empty() {
        return Ok(report(from, true));
    }
    let failed = |e| target.failed("migrate the schema", e);
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    // Another process may have migrated while this one waited for the lock.
    let from = version_of(target, &tx)?;
    for migration in pending(from) {
        apply(&tx, &migration, now()).map_err(failed)?;
    }
    tx.commit().map_err(failed)?;
    Ok(report(from, true))
}

fn apply(conn: &Connection, migration: &Migration, at: Timestamp) -> rusqlite::Result<()> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS mds_migrations (
            version INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            checksum TEXT NOT NULL,
            applied_at TEXT NOT NULL
        ) STRICT;",
    )?;
    conn.execute_batch(&migration.sql)?;
    let step = migration.step();
    conn.execute(
        "INSERT INTO mds_migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
        (step.version, step.name, &step.checksum, at.to_string()),
    )?;
    conn.execute(
        "INSERT INTO mds_meta (only, store_id, created_at) VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING",
        (Uuid::new_v4().to_string(), at.to_string()),
    )?;
    Ok(())
}

/// The id that the store got when it was made.
pub(crate) fn store_id(target: &Target, conn: &Connection) -> Result<String, StoreError> {
    conn.query_row("SELECT store_id FROM mds_meta", [], |row| row.get(0))
        .optional()
        .map_err(|e| target.failed("read the id of the store", e))?
        .ok_or_else(|| StoreError::Foreign {
            path: target.path.clone(),
            object: "mds_meta".to_owned(),
        })
}
