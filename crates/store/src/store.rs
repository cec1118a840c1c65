//! A store of any back end.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use mds_core::{Batch, Sink, SinkError, TenantId, WriteReport};

use crate::postgres::{self, PostgresStore};
use crate::sqlite::{self, SqliteStore, StoredRecord};
use crate::{
    Chunks, FileRevision, IngestedFile, LatestPrice, MigrationReport, Query, StoreError,
    StoreStats, StoreUrl, TimescaleOptions,
};

/// How a store is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether a store that does not exist is created. Default: true.
    pub create: bool,
    /// Whether pending migrations are applied; otherwise they are an error. Default: true.
    pub migrate: bool,
    /// Whether the store is only read: nothing is created, migrated or locked. Default: false.
    pub read_only: bool,
    /// How long a write or an opening waits for a lock of another process. Default: 5 s.
    pub busy_timeout: Duration,
    /// Bound of the database file in bytes: beyond it the store is full. SQLite only. Default: none.
    pub max_bytes: Option<u64>,
    /// How long a server may work on one statement; one that stays silent a tenth longer is taken
    /// for gone. Should be below the write timeout of whoever writes. PostgreSQL only. Default:
    /// 25 s.
    pub statement_timeout: Duration,
    /// The password of a server whose URL has none, as `PGPASSWORD` holds it. Default: none.
    pub password: Option<String>,
    /// The file with passwords of servers, as `~/.pgpass`; asked last. Default: none.
    pub passfile: Option<PathBuf>,
    /// Who gets the rows without a tenant of a database that another program made, and whose rows
    /// are counted as a role that row security binds. PostgreSQL only. Default: the tenant of records
    /// that name none.
    pub tenant_id: TenantId,
    /// What is wanted of TimescaleDB. PostgreSQL only. Default: used where the database has it.
    pub timescale: TimescaleOptions,
    #[doc(hidden)]
    pub lock_order: LockOrder,
}

/// What a role may not do with a table that writing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRights {
    /// The name of the table.
    pub table: String,
    /// Of `SELECT`, `INSERT` and `UPDATE`, those that it lacks.
    pub rights: Vec<String>,
}

/// In which order rows are locked on a server.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockOrder {
    /// That of their keys, as everybody does it.
    #[default]
    Keys,
    /// That in which they come, all of other keys: only to show what the order of keys is for.
    AsTheyCome,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: true,
            migrate: true,
            read_only: false,
            busy_timeout: Duration::from_secs(5),
            max_bytes: None,
            statement_timeout: Duration::from_secs(25),
            password: None,
            passfile: None,
            tenant_id: TenantId::DEFAULT,
            timescale: TimescaleOptions::default(),
            lock_order: LockOrder::Keys,
        }
    }
}

impl std::fmt::Debug for OpenOptions {
    /// Shows no password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("create", &self.create)
            .field("migrate", &self.migrate)
            .field("read_only", &self.read_only)
            .field("busy_timeout", &self.busy_timeout)
            .field("max_bytes", &self.max_bytes)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

impl OpenOptions {
    /// For reading a store that exists.
    pub fn read_only() -> Self {
        Self {
            create: false,
            migrate: false,
            read_only: true,
            ..Self::default()
        }
    }
}

/// An open store; cheap to clone, all clones are the same store.
///
/// Its methods may be called on any Tokio runtime with a blocking pool; work on the database runs
/// on threads of its own.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Store {
    /// Opens a store: connects, refuses what is not ours, migrates, checks that commits are synced.
    ///
    /// If the future is dropped the store may have been created or migrated.
    pub async fn open(url: &StoreUrl, options: OpenOptions) -> Result<Self, StoreError> {
        let backend = match url {
            StoreUrl::Sqlite(path) => {
                Backend::Sqlite(SqliteStore::open(path.clone(), options).await?)
            }
            StoreUrl::Postgres(dsn) => Backend::Postgres(PostgresStore::open(dsn, &options).await?),
        };
        Ok(Self { backend })
    }

    /// Applies pending migrations; with `plan` only says what they are, and creates nothing.
    ///
    /// Safe when several processes migrate at the same time: one does it, the others find nothing
    /// left to do.
    pub async fn migrate(
        url: &StoreUrl,
        options: OpenOptions,
        plan: bool,
    ) -> Result<MigrationReport, StoreError> {
        match url {
            StoreUrl::Sqlite(path) => sqlite::migrate(path.clone(), options, plan).await,
            StoreUrl::Postgres(dsn) => postgres::migrate(dsn, &options, plan).await,
        }
    }

    /// The sink for records of one kind.
    pub fn sink<R: StoredRecord>(&self) -> StoreSink<R> {
        StoreSink {
            store: self.clone(),
            record: PhantomData,
        }
    }

    /// The records that `query` selects, by time and then by the rest of the natural key.
    ///
    /// Starts a task; must be called within a Tokio runtime. Memory is bounded by what the selected
    /// series have in one bucket of time.
    pub fn query<R: StoredRecord>(&self, query: Query) -> Chunks<R> {
        match &self.backend {
            Backend::Sqlite(store) => store.query(query),
            Backend::Postgres(store) => store.query(query),
        }
    }

    /// How many records `query` selects.
    pub async fn count<R: StoredRecord>(&self, query: Query) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.count::<R>(query).await,
            Backend::Postgres(store) => store.count::<R>(query).await,
        }
    }

    /// The last price of each instrument, by symbol, tenant and vendor. Of `query` the tenant, the
    /// symbols, the vendor and the time frame restrict; the rest is ignored.
    pub async fn latest(&self, query: Query) -> Result<Vec<LatestPrice>, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.latest(query).await,
            Backend::Postgres(store) => store.latest(query).await,
        }
    }

    /// What the store holds.
    pub async fn stats(&self) -> Result<StoreStats, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.stats().await,
            Backend::Postgres(store) => store.stats().await,
        }
    }

    /// Deletes the records that `query` selects (its limit is ignored) and answers how many.
    ///
    /// Done in several transactions, with writes in between; if the future is dropped, or on an
    /// error, a part may have been deleted. A later write may bring the records back.
    pub async fn delete<R: StoredRecord>(&self, query: Query) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.delete::<R>(query).await,
            Backend::Postgres(store) => store.delete::<R>(query).await,
        }
    }

    /// The greatest revision ever written; 0 for an empty store. A server may answer with up to a
    /// second more while it is written to, never with less.
    pub async fn last_revision(&self) -> Result<i64, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.last_revision().await,
            Backend::Postgres(store) => store.last_revision().await,
        }
    }

    /// Which revisions the rows of a file take. The store remembers the answer by content, kind and
    /// keys, with the last reading; once returned it is synced.
    ///
    /// - The same content, read as it was last: the remembered base, so that the same content writes
    ///   nothing, whatever the file's name and time are by then.
    /// - The same content that was last read in another way (also for other keys): a new base, not
    ///   before `now` and above every revision of the earlier reading, so that a corrected mapping
    ///   wins over a wrong one, row by row.
    /// - Anything else: the base is `modified`.
    pub async fn file_revision(&self, file: &IngestedFile<'_>) -> Result<FileRevision, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.file_revision(file).await,
            Backend::Postgres(store) => store.file_revision(file).await,
        }
    }

    /// What [`Store::file_revision`] would answer, without remembering it: nothing is written.
    pub async fn look_up_file(&self, file: &IngestedFile<'_>) -> Result<FileRevision, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.look_up_file(file).await,
            Backend::Postgres(store) => store.look_up_file(file).await,
        }
    }

    /// The id that the store got when it was made, a UUID.
    pub fn id(&self) -> &str {
        match &self.backend {
            Backend::Sqlite(store) => store.store_id(),
            Backend::Postgres(store) => store.store_id(),
        }
    }

    /// Changes the bound of the database file; `None` lifts it.
    pub async fn set_max_bytes(&self, max_bytes: Option<u64>) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.set_max_bytes(max_bytes).await,
            // A server bounds its own disk.
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// Writes as a batch would, without leaving anything: fails where the store is locked,
    /// read-only, full or gone.
    pub async fn check(&self) -> Result<(), SinkError> {
        match &self.backend {
            Backend::Sqlite(store) => store.check().await,
            Backend::Postgres(store) => store.check().await,
        }
    }

    /// The rights that the role of a server lacks to write, by table; none for a store that is a
    /// file, which [`Store::check`] tells all about.
    ///
    /// # Errors
    ///
    /// [`StoreError::Server`] where the server cannot be asked.
    pub async fn missing_rights(&self) -> Result<Vec<MissingRights>, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(Vec::new()),
            Backend::Postgres(store) => store.missing_rights().await,
        }
    }

    /// The same for a store that cannot be opened for lack of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Server`] where the server cannot be asked.
    pub async fn missing_rights_at(
        url: &StoreUrl,
        options: OpenOptions,
    ) -> Result<Vec<MissingRights>, StoreError> {
        match url {
            StoreUrl::Sqlite(_) => Ok(Vec::new()),
            StoreUrl::Postgres(dsn) => postgres::missing_rights(dsn, &options).await,
        }
    }

    /// Finishes the writes that were handed in, and closes the database. Later writes are answered
    /// with an error. A store that is dropped is closed too, only later.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(store) => store.close().await,
            Backend::Postgres(store) => store.close().await,
        }
    }
}

/// The sink for records of one kind; cheap to clone.
///
/// Batches of several callers are committed together where they wait for each other. Each batch is
/// answered after the COMMIT; the rows of a batch may come in any order and repeat keys.
#[derive(Debug)]
pub struct StoreSink<R> {
    store: Store,
    record: PhantomData<fn() -> R>,
}

impl<R> Clone for StoreSink<R> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            record: PhantomData,
        }
    }
}

impl<R, T> Sink<T> for StoreSink<R>
where
    R: StoredRecord,
    T: Borrow<R> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        match &self.store.backend {
            Backend::Sqlite(_) => "sqlite",
            Backend::Postgres(_) => "postgres",
        }
    }

    async fn write(&self, batch: Batch<T>) -> WriteReport {
        match &self.store.backend {
            Backend::Sqlite(store) => store.write::<R, T>(batch).await,
            Backend::Postgres(store) => store.write::<R, T>(batch).await,
        }
    }

    async fn check(&self) -> Option<Result<(), SinkError>> {
        Some(self.store.check().await)
    }
}
