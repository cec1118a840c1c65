//! The one thread that writes.
//!
//! Batches that wait are taken together into one transaction (group commit) and answered after its
//! COMMIT. No transaction is open while the thread waits for work. A job that fails a transaction
//! of several, without the store being out of reach, is separated from the others by doing each
//! alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mds_core::{Bar, Fundamentals, News, OptionSnap};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::codes;
use super::connect::{FileId, Target};
use super::failure::Failure;
use super::intern::Intern;
use super::layout::Sql;
use super::migrate;
use super::rows::{Habit, Stop, Tx, WriteJob};
use crate::StoreError;

/// Rows in one transaction beyond which no further waiting batch is taken into it.
const GROUP_ROWS: usize = 20_000;
/// Filler of a probe: more than the free pages that a database usually has.
const PROBE_BYTES: i64 = 64 * 1024;

/// Work for the thread.
pub(crate) enum Command {
    /// A batch.
    Write(Box<dyn WriteJob>),
    /// Anything else; it does its own transactions.
    Run(Box<dyn FnOnce(&mut Writer) + Send>),
    /// End; answered when the database is closed.
    Close(oneshot::Sender<()>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write(_) => "Write",
            Self::Run(_) => "Run",
            Self::Close(_) => "Close",
        })
    }
}

/// The writing connection and what is known about its database.
#[derive(Debug)]
pub(crate) struct Writer {
    target: Arc<Target>,
    open: Option<Open>,
    store_id: String,
    intern: Intern,
    habits: [Habit; 4],
    sql: [Sql; 4],
    /// The high-water mark of revisions that the database is known to have at least.
    last_revision: i64,
}

#[derive(Debug)]
struct Open {
    conn: Connection,
    file: FileId,
    data_version: i64,
}

impl Writer {
    /// A writer on a connection that was opened, checked and migrated.
    pub(crate) fn new(target: Arc<Target>, conn: Connection) -> Result<Self, StoreError> {
        let store_id = migrate::store_id(&target, &conn)?;
        let file = FileId::of(&target.path)?;
        Ok(Self {
            open: Some(Open {
                conn,
                file,
                data_version: 0,
            }),
            store_id,
            target,
            intern: Intern::default(),
            habits: [Habit::default(); 4],
            // In the order of `Kind`.
            sql: [
                Sql::of::<Bar>(),
                Sql::of::<OptionSnap>(),
                Sql::of::<Fundamentals>(),
                Sql::of::<News>(),
            ],
            last_revision: i64::MIN,
        })
    }

    pub(crate) fn store_id(&self) -> &str {
        &self.store_id
    }

    pub(crate) const fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Works until it is told to close, or until nobody is left who could give it work.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut next = commands.blocking_recv();
        while let Some(command) = next.take() {
            match command {
                Command::Write(first) => {
                    let group;
                    (group, next) = take_group(first, &mut commands);
                    self.guarded(|writer| writer.write_group(group));
                }
                Command::Run(run) => self.guarded(run),
                Command::Close(reply) => {
                    drop(self);
                    drop(commands);
                    if reply.send(()).is_err() {
                        tracing::debug!("nobody waited for the store to close");
                    }
                    return;
                }
            }
            if next.is_none() {
                next = commands.blocking_recv();
            }
        }
    }

    /// A panic costs the job that caused it its answer, never the thread.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!(path = %self.target.path.display(), "a write panicked; the connection is opened anew");
            self.forget_connection();
        }
    }

    fn forget_connection(&mut self) {
        self.open = None;
        self.intern.clear();
        self.last_revision = i64::MIN;
    }

    fn write_group(&mut self, mut jobs: Vec<Box<dyn WriteJob>>) {
        match self.transact(&mut jobs) {
            Ok(()) => jobs.into_iter().for_each(WriteJob::committed),
            Err(failure) if jobs.len() > 1 && failure.may_be_of_one_job() => {
                for job in jobs {
                    self.write_group(vec![job]);
                }
            }
            Err(failure) => jobs.into_iter().for_each(|job| job.failed(&failure)),
        }
    }

    /// All of `jobs` in one transaction, repeated without the rows that undo it.
    fn transact(&mut self, jobs: &mut [Box<dyn WriteJob>]) -> Result<(), Failure> {
        loop {
            self.begin()?;
            match self.apply(jobs) {
                Ok(()) => return self.commit(),
                Err(Stop::Again) => self.rollback(),
                Err(Stop::Failed(error)) => return Err(self.fail(error)),
            }
        }
    }

    fn apply(&mut self, jobs: &mut [Box<dyn WriteJob>]) -> Result<(), Stop> {
        let Some(open) = &self.open else {
            return Err(Stop::Failed(rusqlite::Error::InvalidQuery));
        };
        let mut tx = Tx {
            conn: &open.conn,
            intern: &mut self.intern,
            habits: &mut self.habits,
            sql: &self.sql,
            revision: i64::MIN,
        };
        for job in jobs {
            job.apply(&mut tx)?;
        }
        let revision = tx.revision;
        if revision > self.last_revision {
            note_revision(&open.conn, revision).map_err(Stop::Failed)?;
            self.last_revision = revision;
        }
        Ok(())
    }

    /// Starts a transaction that holds the write lock, on a connection that is known to lead to
    /// the store that was opened.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        let begun = self.ensure_open().map_err(Failure::store).and_then(|()| {
            let Some(open) = &mut self.open else {
                return Ok(false);
            };
            let begin = |open: &Open| -> rusqlite::Result<i64> {
                open.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
                open.conn
                    .prepare_cached("PRAGMA data_version")?
                    .query_row([], |row| row.get(0))
            };
            let version = begin(open).map_err(|e| Failure::statement(&self.target.path, e))?;
            Ok(std::mem::replace(&mut open.data_version, version) != version)
        });
        match begun {
            Ok(changed) => {
                if changed {
                    // Another connection committed: it may have restored an older state.
                    self.intern.clear();
                    self.last_revision = i64::MIN;
                }
                Ok(())
            }
            Err(failure) => {
                self.rollback();
                // Opening is cheap beside an outage, and cures what an old handle may suffer from.
                self.reopen_unless_locked(&failure);
                Err(failure)
            }
        }
    }

    fn reopen_unless_locked(&mut self, failure: &Failure) {
        if !failure.is_locked() {
            self.forget_connection();
        }
    }

    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        let result = match &self.open {
            Some(open) => open
                .conn
                .prepare_cached("COMMIT")
                .and_then(|mut commit| commit.execute([])),
            None => Err(rusqlite::Error::InvalidQuery),
        };
        match result {
            Ok(_) => {
                self.intern.commit();
                Ok(())
            }
            Err(error) => {
                let still_open = self.open.as_ref().is_some_and(|o| !o.conn.is_autocommit());
                let busy = codes::is_busy(&error);
                let failure = Failure::commit(&self.target.path, error, still_open);
                self.rollback();
                if !busy {
                    self.forget_connection();
                }
                Err(failure)
            }
        }
    }

    /// Ends the transaction without effect after `error`.
    pub(crate) fn fail(&mut self, error: rusqlite::Error) -> Failure {
        self.rollback();
        if codes::needs_reopen(&error) {
            self.forget_connection();
        }
        Failure::statement(&self.target.path, error)
    }

    fn rollback(&mut self) {
        self.intern.rollback();
        self.last_revision = i64::MIN;
        let Some(open) = &self.open else { return };
        if !open.conn.is_autocommit() && open.conn.execute_batch("ROLLBACK").is_err() {
            self.forget_connection();
        }
    }

    fn ensure_open(&mut self) -> Result<(), StoreError> {
        let file = FileId::of(&self.target.path);
        if let (Some(open), Ok(file)) = (&self.open, &file)
            && open.file == *file
        {
            return Ok(());
        }
        // Moved or deleted: what this connection wrote would be in a file that nobody opens. When
        // it is closed it must not clean up by name, since the log there may be of another file.
        if let Some(open) = &self.open {
            let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = open.conn.set_db_config(keep_log, true) {
                tracing::warn!(%error, "cannot keep the log of a moved database");
            }
        }
        self.forget_connection();
        let file = file?;
        let conn = self.target.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrate::check(&self.target, &conn)?;
        let found = migrate::store_id(&self.target, &conn)?;
        if found != self.store_id {
            return Err(StoreError::Replaced {
                path: self.target.path.clone(),
                opened: self.store_id.clone(),
                found,
            });
        }
        self.target.make_writer(&conn)?;
        self.open = Some(Open {
            conn,
            file,
            data_version: 0,
        });
        Ok(())
    }

    /// The connection inside a transaction that `begin` started.
    pub(crate) fn conn(&self) -> rusqlite::Result<&Connection> {
        self.open
            .as_ref()
            .map(|open| &open.conn)
            .ok_or(rusqlite::Error::InvalidQuery)
    }

    /// One transaction around `work`.
    pub(crate) fn with_transaction<V>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<V>,
    ) -> Result<V, Failure> {
        self.begin()?;
        match self.conn().and_then(work) {
            Ok(value) => self.commit().map(|()| value),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Writes as a batch would: takes the lock, claims room, commits and syncs.
    pub(crate) fn probe(&mut self) -> Result<(), Failure> {
        self.with_transaction(|conn| {
            // The room is claimed in a savepoint, so that a probe never makes the file grow.
            conn.execute_batch("SAVEPOINT probe")?;
            conn.prepare_cached("INSERT INTO mds_probe (filler) VALUES (zeroblob(?1))")?
                .execute([PROBE_BYTES])?;
            conn.execute_batch("ROLLBACK TO probe; RELEASE probe")?;
            conn.prepare_cached("UPDATE mds_meta SET probes = probes + 1")?
                .execute([])
        })
        .map(drop)
    }
}

/// Raises the high-water mark of revisions.
pub(crate) fn note_revision(conn: &Connection, revision: i64) -> rusqlite::Result<usize> {
    conn.prepare_cached("UPDATE mds_meta SET last_revision = ?1 WHERE last_revision < ?1")?
        .execute([revision])
}

/// Takes the batches that are waiting, up to a bound, and the command that ended the taking.
fn take_group(
    first: Box<dyn WriteJob>,
    commands: &mut mpsc::Receiver<Command>,
) -> (Vec<Box<dyn WriteJob>>, Option<Command>) {
    let mut rows = first.rows();
    let mut group = vec![first];
    while rows < GROUP_ROWS {
        match commands.try_recv() {
            Ok(Command::Write(job)) => {
                rows += job.rows();
                group.push(job);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}
