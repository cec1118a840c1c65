//! PostgreSQL, with or without TimescaleDB.
//!
//! | module | is |
//! |---|---|
//! | `dsn`, `password`, `tls` | where the server is, and how it is spoken to |
//! | `pool`, `connect` | connections |
//! | `migrate` | tables and views, as numbered migrations |
//! | `adopt` | databases that another program made |
//! | `timescale`, `layout` | hypertables, compression and retention; late rows |
//! | `sql`, `encode` | statements spelled out of the columns of a kind, values in binary |
//! | `transaction` | transactions that rely on nothing but themselves |
//! | `merge`, `stored`, `apart`, `habit` | one batch: which rows are written, by which way |
//! | `rights`, `keys` | what the role lacks, and what a table has lost |
//! | `read` | queries in bounded memory, figures, deletion |
//! | `sqlstate`, `failure` | what each error of the server means |
//!
//! Invariants:
//! - work on a connection runs in a task of its own that nobody aborts: a caller that goes away
//!   leaves no session in the middle of a transaction;
//! - a connection goes back to the pool at rest or not at all.

mod adopt;
mod apart;
mod bare;
mod connect;
mod dsn;
mod encode;
mod failure;
mod fit;
mod habit;
mod ingested;
mod keys;
mod layout;
mod merge;
mod migrate;
mod password;
mod pool;
mod read;
mod rights;
mod scratch;
mod sql;
mod sqlstate;
mod stored;
mod suspect;
mod timescale;
mod tls;
mod transaction;

use std::borrow::Borrow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mds_core::{
    Bar, Batch, ErrorKind, Fundamentals, News, OptionSnap, Record, SinkError, TenantId, Value,
    WriteReport,
};
use tokio::sync::RwLock;

pub(crate) use bare::bare_copy;
pub use dsn::{Dsn, DsnError};
pub(crate) use scratch::Session;

use self::connect::{Conn, ConnectError, Endpoint};
use self::habit::Habit;
use self::layout::Layout;
use self::merge::{On, Work};
use self::pool::{Pool, PoolError};
use self::sql::Sql;
use self::transaction::Failed;
use crate::{LockOrder, MigrationReport, MissingRights, OpenOptions, StoreError};

/// How far the kept revision runs ahead of the written ones, so that it is not written with every
/// batch.
const REVISION_AHEAD: i64 = 1_000_000;

/// Sources that are told apart when it is learned what their rows are like.
const SOURCES: usize = 16;

/// An open PostgreSQL store; cheap to clone.
#[derive(Clone)]
pub(crate) struct PostgresStore {
    shared: Arc<Shared>,
}

struct Shared {
    dsn: String,
    pool: Pool<Endpoint>,
    /// Held shared by each write, and alone by whoever closes the store.
    writing: Arc<RwLock<()>>,
    statement_timeout: Duration,
    store_id: String,
    read_only: bool,
    sql: [Sql; 4],
    /// By kind and source.
    habits: [[Habit; SOURCES]; 4],
    late_habits: [Habit; 4],
    /// No revision above it was written, as the server knows.
    revision: AtomicI64,
    /// The greatest revision that this process has handed in.
    highest: AtomicI64,
    /// Tenants that the server knows.
    tenants: Mutex<HashSet<TenantId>>,
    /// Rows are locked in the order of their keys.
    is_sorted: bool,
    /// Row security binds this role, so each transaction says whose rows it is about.
    is_bound: bool,
    /// Whose rows such a role counts, if it is set to no tenant itself.
    tenant_id: TenantId,
    layout: layout::Known,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("dsn", &self.shared.dsn)
            .finish_non_exhaustive()
    }
}

fn pool_of(dsn: &Dsn, options: &OpenOptions) -> Result<Pool<Endpoint>, StoreError> {
    let mut server = dsn
        .server()
        .map_err(|source| StoreError::Address { source })?;
    server.take_password(options.password.as_deref(), options.passfile.as_deref());
    if options.read_only {
        server.only_reads();
    }
    Ok(Endpoint::new(server, options.statement_timeout).pool())
}

/// Migrates, or says what migrating would do.
pub(crate) async fn migrate(
    dsn: &Dsn,
    options: &OpenOptions,
    plan: bool,
) -> Result<MigrationReport, StoreError> {
    let pool = pool_of(dsn, options)?;
    let name = dsn.to_string();
    let options = options.clone();
    let report = run(&pool, &name, "migrate the schema", move |conn| async move {
        migrate::run(conn, &options, plan).await
    })
    .await?;
    pool.close();
    report.map_err(|e| e.into_store_error(&name))
}

/// See [`crate::Store::missing_rights_at`].
pub(crate) async fn missing_rights(
    dsn: &Dsn,
    options: &OpenOptions,
) -> Result<Vec<MissingRights>, StoreError> {
    let (pool, name) = (pool_of(dsn, options)?, dsn.to_string());
    let operation = "read the rights of the role";
    let missing = run(&pool, &name, operation, rights::missing).await?;
    pool.close();
    missing.map_err(|error| failed(&name, operation, error))
}

/// Runs `work` on a connection, in a task that goes on if the caller does not.
async fn run<V, F>(
    pool: &Pool<Endpoint>,
    dsn: &str,
    operation: &'static str,
    work: impl FnOnce(Conn) -> F + Send + 'static,
) -> Result<V, StoreError>
where
    V: Send + 'static,
    F: Future<Output = (Option<Conn>, V)> + Send + 'static,
{
    let pool = pool.clone();
    let task = tokio::spawn(async move { pool.with(work).await });
    match task.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(connect_error(dsn, operation, error)),
        Err(join) => Err(StoreError::Server {
            dsn: dsn.to_owned(),
            operation,
            code: "PANIC".to_owned(),
            kind: ErrorKind::Unknown,
            source: Box::new(join),
        }),
    }
}

fn connect_error(dsn: &str, operation: &'static str, error: PoolError<ConnectError>) -> StoreError {
    let (kind, code, text) = failure::of_connecting(&error);
    StoreError::Server {
        dsn: dsn.to_owned(),
        operation,
        code,
        kind,
        source: match error {
            PoolError::Connect(error) => Box::new(failure::Told::new(text, error)),
            PoolError::Closed => text.into(),
        },
    }
}

fn failed(dsn: &str, operation: &'static str, error: tokio_postgres::Error) -> StoreError {
    StoreError::Server {
        dsn: dsn.to_owned(),
        operation,
        code: failure::code_of(&error),
        kind: failure::kind_of(&error),
        source: Box::new(failure::Told::from(error)),
    }
}

impl PostgresStore {
    pub(crate) async fn open(dsn: &Dsn, options: &OpenOptions) -> Result<Self, StoreError> {
        let pool = pool_of(dsn, options)?;
        let name = dsn.to_string();
        let read_only = options.read_only;
        let asked = options.clone();
        let opened = run(&pool, &name, "open the store", move |conn| async move {
            migrate::open(conn, &asked).await
        })
        .await?
        .map_err(|e| e.into_store_error(&name))?;
        Ok(Self {
            shared: Arc::new(Shared {
                dsn: name,
                pool,
                writing: Arc::default(),
                statement_timeout: options.statement_timeout,
                store_id: opened.store_id,
                read_only,
                sql: [
                    Sql::of::<Bar>(opened.texts),
                    Sql::of::<OptionSnap>(opened.texts),
                    Sql::of::<Fundamentals>(opened.texts),
                    Sql::of::<News>(opened.texts),
                ],
                habits: Default::default(),
                late_habits: Default::default(),
                revision: AtomicI64::new(opened.last_revision),
                highest: AtomicI64::new(opened.last_revision),
                tenants: Mutex::default(),
                is_sorted: options.lock_order == LockOrder::Keys,
                is_bound: opened.is_bound,
                tenant_id: options.tenant_id,
                layout: layout::Known::new(opened.layout),
            }),
        })
    }

    pub(crate) fn store_id(&self) -> &str {
        &self.shared.store_id
    }

    /// Runs `work` on a connection.
    pub(crate) async fn with<V, F>(
        &self,
        operation: &'static str,
        work: impl FnOnce(Conn) -> F + Send + 'static,
    ) -> Result<V, StoreError>
    where
        V: Send + 'static,
        F: Future<Output = (Option<Conn>, Result<V, tokio_postgres::Error>)> + Send + 'static,
    {
        let dsn = &self.shared.dsn;
        run(&self.shared.pool, dsn, operation, work)
            .await?
            .map_err(|error| failed(dsn, operation, error))
    }

    pub(crate) async fn write<R, T>(&self, batch: Batch<T>) -> WriteReport
    where
        R: Record,
        T: Borrow<R> + Send + Sync + 'static,
    {
        let rows = batch.len();
        if rows == 0 {
            return WriteReport::written(0);
        }
        if self.shared.read_only {
            let text = format!("{}: the store is open for reading only", self.shared.dsn);
            return WriteReport::failed(
                rows,
                SinkError::new(ErrorKind::Environment, "READ_ONLY", text),
            );
        }
        let shared = Arc::clone(&self.shared);
        let Ok(handed_in) = Arc::clone(&shared.writing).try_read_owned() else {
            return WriteReport::failed(rows, connect_sink_error(&shared.dsn, PoolError::Closed));
        };
        let task = tokio::spawn(async move {
            let _handed_in = handed_in;
            let pool = shared.pool.clone();
            let written = pool
                .with(|conn| write_on::<R, T>(conn, &shared, batch))
                .await;
            written.unwrap_or_else(|error| {
                WriteReport::failed(rows, connect_sink_error(&shared.dsn, error))
            })
        });
        task.await.unwrap_or_else(|join| {
            let text = format!("{}: a write panicked", self.shared.dsn);
            let error = SinkError::new(ErrorKind::Unknown, "PANIC", text);
            WriteReport::failed(rows, error.with_source(join).with_unknown_outcome())
        })
    }

    pub(crate) async fn check(&self) -> Result<(), SinkError> {
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let pool = shared.pool.clone();
            let probed = pool
                .with(|conn| async {
                    conn.expects_answers();
                    let opening = transaction::opening(None, shared.statement_timeout);
                    let probe = format!("{opening}; {PROBE}");
                    let result = conn.client.batch_execute(&probe).await;
                    (at_rest(conn, result.as_ref().err()), result)
                })
                .await;
            match probed {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(failure::sink_error(&shared.dsn, error)),
                Err(error) => Err(connect_sink_error(&shared.dsn, error)),
            }
        });
        task.await.unwrap_or_else(|join| {
            Err(SinkError::new(ErrorKind::Unknown, "PANIC", "the probe panicked").with_source(join))
        })
    }

    /// The greatest revision ever written: what the server keeps, unless it is this process that
    /// told it to run ahead.
    pub(crate) async fn last_revision(&self) -> Result<i64, StoreError> {
        let kept = self.kept_revision().await?;
        let shared = &self.shared;
        Ok(if kept == shared.revision.load(Ordering::Relaxed) {
            shared.highest.load(Ordering::Relaxed)
        } else {
            kept
        })
    }

    /// Waits for the writes that were handed in, and closes the connections.
    pub(crate) async fn close(&self) {
        let _all = self.shared.writing.write().await;
        self.shared.pool.close();
    }
}

/// Writes and takes back: fails where the server is read-only, full or gone.
const PROBE: &str = "UPDATE mds_meta SET last_revision = last_revision; ROLLBACK";

/// The connection, if its session is at rest after `error`.
fn at_rest(conn: Conn, error: Option<&tokio_postgres::Error>) -> Option<Conn> {
    // A statement that failed inside of BEGIN leaves the transaction open: not ours to mend.
    (error.is_none() && !conn.broken).then_some(conn)
}

/// The error of a write that did not begin, so that its outcome is known.
fn connect_sink_error(dsn: &str, error: PoolError<ConnectError>) -> SinkError {
    let (kind, code, text) = failure::of_connecting(&error);
    let told = SinkError::new(kind, code, format!("{dsn}: {text}"));
    match error {
        PoolError::Connect(error) => told.with_source(error),
        PoolError::Closed => told,
    }
}

/// Rows of a batch that are written together.
struct Part {
    /// They go into compressed chunks of TimescaleDB.
    is_late: bool,
    tenant: TenantId,
    /// Where in the batch they are.
    places: Vec<usize>,
}

/// Splits a batch by tenant, late rows behind all others.
fn parts_of<R: Record>(rows: &[&R], layout: Layout) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let tenant = row.tenant_id();
        let is_late = layout.is_late(R::KIND, row.time());
        let is_its = |part: &&mut Part| part.tenant == tenant && part.is_late == is_late;
        match parts.iter_mut().find(is_its) {
            Some(part) => part.places.push(place),
            None => parts.push(Part {
                is_late,
                tenant,
                places: vec![place],
            }),
        }
    }
    parts.sort_by_key(|part| (part.is_late, part.tenant));
    parts
}

/// Writes a batch: a transaction or more for each tenant, in the order of tenants; late rows in
/// transactions of their own when all others are written.
async fn write_on<R, T>(
    mut conn: Conn,
    shared: &Shared,
    batch: Batch<T>,
) -> (Option<Conn>, WriteReport)
where
    R: Record,
    T: Borrow<R> + Send + Sync + 'static,
{
    conn.expects_answers();
    let layout = match shared.layout.current(&conn.client).await {
        Ok(layout) => layout,
        Err(error) => {
            let failed = Failed::from(error).into_sink_error(&shared.dsn);
            let report = WriteReport::failed(batch.len(), failed);
            return (None, report);
        }
    };
    let rows: Vec<&R> = batch.iter().map(Borrow::borrow).collect();
    let mut whole = WriteReport::written(batch.len());
    whole.outcomes.fill(mds_core::RowOutcome::NotTried);
    for part in parts_of(&rows, layout) {
        let of_part = part.places.iter().map(|place| rows[*place]).collect();
        let report = write_part::<R>(&mut conn, shared, &part, layout, of_part).await;
        for (place, outcome) in part.places.into_iter().zip(report.outcomes) {
            whole.outcomes[place] = outcome;
        }
        whole.conflicts += report.conflicts;
        if let Some(error) = report.error {
            whole.error = Some(if part.is_late {
                failure::of_late_rows(error)
            } else {
                error
            });
            break;
        }
    }
    // A server that became another one, a role with other settings: a new session sees it.
    let is_stale = whole.error.as_ref().is_some_and(failure::wants_new_session);
    (Some(conn).filter(|_| !is_stale), whole)
}

async fn write_part<R: Record>(
    conn: &mut Conn,
    shared: &Shared,
    part: &Part,
    layout: Layout,
    rows: Vec<&R>,
) -> WriteReport {
    conn.expects_answers();
    let tenant = part.tenant;
    let tenant_id = shared.is_bound.then_some(tenant);
    let mut opening = transaction::opening(tenant_id, shared.statement_timeout);
    if part.is_late {
        opening.push_str(&timescale::late(shared.statement_timeout));
    }
    let revisions = rows.iter().map(|row| row.revision());
    if let Err(failed) = prepare(conn, shared, &opening, tenant, revisions).await {
        return WriteReport::failed(rows.len(), failed.into_sink_error(&shared.dsn));
    }
    let index = R::KIND as usize;
    let habit = if part.is_late {
        &shared.late_habits[index]
    } else {
        &shared.habits[index][source_of(rows.first().copied())]
    };
    let on = On {
        client: &conn.client,
        sql: &shared.sql[index],
        habit,
        opening: &opening,
        is_bound: shared.is_bound,
        has_places: layout.has_places[index],
        is_broken: AtomicBool::new(false),
    };
    let report = Work::new(rows, shared.is_sorted)
        .run(&on, &shared.dsn)
        .await;
    conn.broken |= on.is_broken.into_inner();
    report
}

/// The number of the source of a batch, by the vendor of its first row.
fn source_of<R: Record>(row: Option<&R>) -> usize {
    let vendor = row.zip(R::column("vendor")).map(|(row, c)| row.value(c));
    let Some(Value::Text(vendor)) = vendor else {
        return 0;
    };
    let sum = vendor.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    sum % SOURCES
}

/// What has to be so before rows are written: the tenant is known, and no revision goes above the
/// one that the server keeps.
async fn prepare(
    conn: &Conn,
    shared: &Shared,
    opening: &str,
    tenant: TenantId,
    revisions: impl Iterator<Item = i64>,
) -> Result<(), Failed> {
    let lock = || {
        shared
            .tenants
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if !lock().contains(&tenant) {
        let sql =
            format!("INSERT INTO tenants (tenant_id) VALUES ('{tenant}') ON CONFLICT DO NOTHING");
        transaction::run_all(&conn.client, opening, &sql).await?;
        lock().insert(tenant);
    }
    let highest = revisions.max().unwrap_or(0);
    shared.highest.fetch_max(highest, Ordering::Relaxed);
    if highest > shared.revision.load(Ordering::Relaxed) {
        let ahead = highest.saturating_add(REVISION_AHEAD);
        let sql =
            format!("UPDATE mds_meta SET last_revision = {ahead} WHERE last_revision < {ahead}");
        transaction::run_all(&conn.client, opening, &sql).await?;
        shared.revision.fetch_max(ahead, Ordering::Relaxed);
    }
    Ok(())
}
