//! Brings a database to the schema of this program, once, whoever else does the same.
//!
//! All steps run in one transaction under an advisory lock, and what is pending is decided under
//! that lock: a second process that migrates at the same time waits, and then finds nothing to do.
//! A plan looks at the same things in a transaction that can only read.

use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::adopt::{self, Adoption, Found};
use super::connect::{Conn, Session};
use super::layout::{self, Layout};
use super::{failed, fit, sql, timescale};
use crate::{MigrationReport, MigrationStep, OpenOptions, StoreError};

/// The number of the advisory lock: `mds_migr` in ASCII.
const LOCK: i64 = 0x6d64_735f_6d69_6772;
/// What a migration is set to: however long it takes, or the one before it; but it does not wait
/// long for tables that others use. Rows that row security would hide are an error.
const LOCALS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL row_security = off; \
     SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; SET LOCAL extra_float_digits = 1; \
     SET LOCAL standard_conforming_strings = on; SET LOCAL client_min_messages = 'warning'";

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
    pub(crate) texts: sql::Texts,
    pub(crate) layout: Layout,
}

/// Why a database was not migrated or opened.
pub(crate) enum MigrateError {
    Postgres(Error),
    Newer { found: i64, known: i64 },
    Diverged { version: i64 },
    Outdated { found: i64, wanted: i64 },
    Foreign { object: String },
    NotAdopted,
    Unfit { problems: Vec<String> },
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
            Self::Postgres(error) => failed(dsn, "check or migrate the schema", error),
            Self::Newer { found, known } => StoreError::Newer { path, found, known },
            Self::Diverged { version } => StoreError::Diverged { path, version },
            Self::Outdated { found, wanted } => StoreError::Outdated {
                path,
                found,
                wanted,
            },
            Self::Foreign { object } => StoreError::Foreign { path, object },
            Self::NotAdopted => StoreError::NotAdopted { path },
            Self::Unfit { problems } => StoreError::Unfit { path, problems },
        }
    }
}

/// What a database is before any change.
enum State {
    /// Ours, at a version; 0 where nothing is there.
    Ours(i64),
    /// Tables with our records, but no migrations of ours.
    Adoptable(Vec<&'static str>),
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
    options: &OpenOptions,
    plan: bool,
) -> (Option<Conn>, Result<MigrationReport, MigrateError>) {
    let result = if plan {
        look(&conn.client, options).await
    } else {
        apply(&conn.client, options, true).await
    };
    // A failed transaction ends with its connection.
    (result.is_ok().then_some(conn), result)
}

/// Migrates if asked to, checks that the schema is the one of this program, and reads what the
/// store needs to know.
pub(crate) async fn open(
    conn: Conn,
    options: &OpenOptions,
) -> (Option<Conn>, Result<Opened, MigrateError>) {
    let result = opened(&conn.client, options).await;
    (result.is_ok().then_some(conn), result)
}

async fn opened(client: &Session, options: &OpenOptions) -> Result<Opened, MigrateError> {
    client.expects_answers();
    // To alter what somebody else made is nothing to do on the side.
    let State::Ours(mut found) = state_of(client).await? else {
        return Err(MigrateError::NotAdopted);
    };
    let wanted = MIGRATIONS.last().map_or(0, |m| m.version);
    if found < wanted && options.migrate && !options.read_only {
        client.takes_its_time();
        found = apply(client, options, false).await?.to;
        client.expects_answers();
    }
    if found != wanted {
        return Err(MigrateError::Outdated { found, wanted });
    }
    must_fit(client, options.read_only).await?;
    let sql = "SELECT store_id::text, last_revision, row_security_active('bars') \
         OR row_security_active('options_snap') OR row_security_active('fundamentals') \
         OR row_security_active('news'), current_setting('server_encoding') FROM mds_meta";
    let row = client.query_typed_one(sql, &[]).await?;
    Ok(Opened {
        store_id: row.try_get(0)?,
        last_revision: row.try_get(1)?,
        is_bound: row.try_get(2)?,
        texts: sql::Texts::of_encoding(row.try_get(3)?),
        layout: layout::read(client).await?,
    })
}

/// Refuses tables that somebody has altered since.
async fn must_fit(client: &Client, only_reads: bool) -> Result<(), MigrateError> {
    let problems = fit::problems(client, only_reads).await?;
    if problems.is_empty() {
        return Ok(());
    }
    Err(MigrateError::Unfit { problems })
}

async fn state_of(client: &Client) -> Result<State, MigrateError> {
    while !has_migrations(client).await? {
        let found = adopt::find(client).await?;
        if matches!(found, Found::Nothing) {
            return Ok(State::Ours(0));
        }
        // The catalog has no snapshots: somebody may have migrated between the two looks.
        if !has_migrations(client).await? {
            return match found {
                Found::Tables(present) => Ok(State::Adoptable(present)),
                Found::Other(object) => Err(MigrateError::Foreign { object }),
                Found::Nothing => Ok(State::Ours(0)),
            };
        }
    }
    version_of(client).await.map(State::Ours)
}

async fn has_migrations(client: &Client) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('mds_migrations') IS NOT NULL";
    client.query_typed_one(sql, &[]).await?.try_get(0)
}

/// The version of a schema of ours.
async fn version_of(client: &Client) -> Result<i64, MigrateError> {
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
        ..MigrationReport::default()
    }
}

/// What migrating would do.
async fn look(client: &Client, options: &OpenOptions) -> Result<MigrationReport, MigrateError> {
    let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {LOCALS}");
    client.batch_execute(&begin).await?;
    let result = planned(client, options).await;
    client.batch_execute("ROLLBACK").await?;
    result
}

async fn planned(client: &Client, options: &OpenOptions) -> Result<MigrationReport, MigrateError> {
    let mut report = match state_of(client).await? {
        State::Ours(from) => report(from, false),
        State::Adoptable(present) => {
            let tenant = options.tenant_id;
            let adoption = adopt::examine(client, present, tenant, false).await?;
            let mut report = report(0, false);
            add_adoption(&mut report, adoption);
            report
        }
    };
    if report.from > 0 {
        report.problems.extend(fit::problems(client, false).await?);
    }
    if !report.steps.is_empty() {
        report.problems.extend(no_place(client).await?);
    }
    let wishes = timescale::examine(client, options.timescale).await?;
    add_timescale(&mut report, wishes);
    Ok(report)
}

/// Why there is no schema that tables can be made in.
async fn no_place(client: &Client) -> Result<Option<String>, Error> {
    let sql = "SELECT s, coalesce(has_schema_privilege(s, 'CREATE'), false), current_user::text \
         FROM current_schema() s";
    let row = client.query_typed_one(sql, &[]).await?;
    let (schema, may_create): (Option<String>, bool) = (row.try_get(0)?, row.try_get(1)?);
    let role: String = row.try_get(2)?;
    Ok(match schema {
        None => Some(format!(
            "no schema of the search_path of {role} is there, so that no table can be made"
        )),
        Some(schema) if !may_create => Some(format!(
            "{role} may not make tables in the schema {schema}; GRANT CREATE ON SCHEMA {schema} \
             TO {role}, or migrate as a role that may"
        )),
        Some(_) => None,
    })
}

fn add_adoption(report: &mut MigrationReport, adoption: Adoption) {
    report.actions.extend(adoption.said());
    report.notes.extend(adoption.notes);
    report.problems.extend(adoption.problems);
}

fn add_timescale(report: &mut MigrationReport, wishes: timescale::Wishes) {
    report.actions.extend(wishes.said());
    report.notes.extend(wishes.notes);
    report.problems.extend(wishes.problems);
}

/// Migrates; `is_asked` where somebody asked for it, so that tables that somebody else made are
/// altered, and settings of TimescaleDB reach tables that are there already.
async fn apply(
    client: &Client,
    options: &OpenOptions,
    is_asked: bool,
) -> Result<MigrationReport, MigrateError> {
    // The lock is the transaction's, so that a connection that breaks gives it back.
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {LOCALS}; SELECT pg_advisory_xact_lock({LOCK})"
    );
    client.batch_execute(&begin).await?;
    let result = apply_pending(client, options, is_asked).await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await?;
    result
}

async fn apply_pending(
    client: &Client,
    options: &OpenOptions,
    is_asked: bool,
) -> Result<MigrationReport, MigrateError> {
    client
        .batch_execute("SET LOCAL lock_timeout = '10s'")
        .await?;
    let (from, present) = match state_of(client).await? {
        State::Ours(from) => (from, None),
        State::Adoptable(_) if !is_asked => return Err(MigrateError::NotAdopted),
        State::Adoptable(present) => (0, Some(present)),
    };
    if is_asked && from > 0 {
        must_fit(client, false).await?;
    }
    let mut report = report(from, true);
    for migration in MIGRATIONS.iter().filter(|m| m.version > from) {
        match &present {
            Some(present) if migration.version == 1 => {
                let adoption = adopt(client, options, present).await?;
                add_adoption(&mut report, adoption);
            }
            _ => client.batch_execute(migration.sql).await?,
        }
        remember(client, &step(migration)).await?;
    }
    if is_asked || from == 0 {
        let wishes = timescale::examine(client, options.timescale).await?;
        if !wishes.problems.is_empty() {
            let problems = wishes.problems;
            return Err(MigrateError::Unfit { problems });
        }
        wishes.apply(client).await?;
        add_timescale(&mut report, wishes);
    }
    Ok(report)
}

async fn adopt(
    client: &Client,
    options: &OpenOptions,
    present: &[&'static str],
) -> Result<Adoption, MigrateError> {
    adopt::lock(client, present).await?;
    let adoption = adopt::examine(client, present.to_vec(), options.tenant_id, true).await?;
    if adoption.problems.is_empty() {
        adoption.apply(client, MIGRATIONS[0].sql).await?;
        return Ok(adoption);
    }
    let problems = adoption.problems;
    Err(MigrateError::Unfit { problems })
}

async fn remember(client: &Client, step: &MigrationStep) -> Result<(), Error> {
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS mds_migrations (version bigint PRIMARY KEY, \
             name text NOT NULL, checksum text NOT NULL, \
             applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let sql = "INSERT INTO mds_migrations (version, name, checksum) VALUES ($1, $2, $3)";
    client
        .execute_typed(
            sql,
            &[
                (&step.version, Type::INT8),
                (&step.name, Type::TEXT),
                (&step.checksum, Type::TEXT),
            ],
        )
        .await?;
    Ok(())
}
