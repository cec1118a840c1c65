//! The embedded store: one SQLite file, one writing thread, reads on connections of their own.

mod admin;
mod bare;
pub(crate) mod codes;
mod connect;
mod edges;
mod failure;
mod ingested;
mod intern;
mod kinds;
mod layout;
mod migrate;
mod read;
mod rows;
mod schema;
mod writer;

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mds_core::{Batch, ErrorKind, SinkError, WriteReport};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub(crate) use bare::Bare;
pub(crate) use layout::Layout;
pub use layout::StoredRecord;

use self::connect::{FileId, Target};
use self::failure::Failure;
use self::rows::RowsJob;
use self::writer::{Command, Writer};
use crate::{
    Chunks, FileRevision, IngestedFile, LatestPrice, MigrationReport, OpenOptions, Query,
    StoreError, StoreStats,
};

/// Batches that may wait for the writing thread; further ones wait at the channel.
const WAITING_COMMANDS: usize = 64;
/// Reading connections at work at the same time.
const READERS: usize = 8;
/// Records in a chunk of an answer.
const CHUNK_ROWS: usize = 1_000;
/// Chunks that are read ahead.
const CHUNKS_AHEAD: usize = 2;

/// An open SQLite store; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SqliteStore {
    target: Arc<Target>,
    readers: Arc<Readers>,
    /// `None` where the store was opened for reading only.
    commands: Option<mpsc::Sender<Command>>,
    store_id: Arc<str>,
}

/// Reading connections that are not at work.
#[derive(Debug)]
struct Readers {
    idle: Mutex<Vec<(FileId, Connection)>>,
    permits: Arc<Semaphore>,
}

fn target(path: &Path, options: &OpenOptions) -> Target {
    Target {
        path: path.to_owned(),
        busy_timeout: options.busy_timeout,
        max_bytes: AtomicU64::new(options.max_bytes.unwrap_or(0)),
    }
}

/// What the migrations are, applied unless `plan`.
pub(crate) async fn migrate(
    path: PathBuf,
    options: OpenOptions,
    plan: bool,
) -> Result<MigrationReport, StoreError> {
    let closed = StoreError::Closed { path: path.clone() };
    let work = move || {
        let target = target(&path, &options);
        if plan {
            return migrate::plan(&target);
        }
        open_writer(&target, &options).map(|(_, report)| report)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(closed))
}

/// A writing connection on a database of the current schema.
fn open_writer(
    target: &Target,
    options: &OpenOptions,
) -> Result<(Connection, MigrationReport), StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    if options.create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let mut conn = target.connect(flags)?;
    // Before anything is changed, the log mode included.
    migrate::refuse_foreign(target, &conn)?;
    if !options.migrate {
        migrate::check(target, &conn)?;
    }
    target.make_writer(&conn)?;
    let report = migrate::run(target, &mut conn)?;
    Ok((conn, report))
}

impl SqliteStore {
    pub(crate) async fn open(path: PathBuf, options: OpenOptions) -> Result<Self, StoreError> {
        let target = Arc::new(target(&path, &options));
        let closed = || StoreError::Closed { path: path.clone() };
        let (commands, store_id) = if options.read_only {
            let target = Arc::clone(&target);
            let read = move || {
                let conn = target.connect_reader()?;
                migrate::check(&target, &conn)?;
                migrate::store_id(&target, &conn)
            };
            let id = tokio::task::spawn_blocking(read).await;
            (None, id.unwrap_or_else(|_| Err(closed()))?)
        } else {
            let (commands, waiting) = mpsc::channel(WAITING_COMMANDS);
            let (ready, opened) = oneshot::channel();
            let for_thread = Arc::clone(&target);
            thread::Builder::new()
                .name("mds-sqlite".to_owned())
                .spawn(move || {
                    let writer = open_writer(&for_thread, &options)
                        .and_then(|(conn, _)| Writer::new(for_thread, conn));
                    match writer {
                        Ok(writer) => {
                            let id = writer.store_id().to_owned();
                            if ready.send(Ok(id)).is_ok() {
                                writer.run(waiting);
                            }
                        }
                        // Where nobody waits for the store, nobody misses it.
                        Err(e) => drop(ready.send(Err(e))),
                    }
                })
                .map_err(|source| StoreError::Io {
                    path: path.clone(),
                    operation: "start the writing thread",
                    source,
                })?;
            (
                Some(commands),
                opened.await.unwrap_or_else(|_| Err(closed()))?,
            )
        };
        Ok(Self {
            target,
            readers: Arc::new(Readers {
                idle: Mutex::default(),
                permits: Arc::new(Semaphore::new(READERS)),
            }),
            commands,
            store_id: store_id.into(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.target.path
    }

    pub(crate) fn store_id(&self) -> &str {
        &self.store_id
    }

    fn closed(&self) -> StoreError {
        let path = self.target.path.clone();
        match self.commands {
            Some(_) => StoreError::Closed { path },
            None => StoreError::ReadOnly { path },
        }
    }

    fn no_writer(&self) -> SinkError {
        let error = self.closed();
        SinkError::new(
            ErrorKind::Environment,
            error.code().to_owned(),
            error.to_string(),
        )
    }

    /// Writes a batch; the answer comes after the COMMIT of the transaction that it was in.
    pub(crate) async fn write<R, T>(&self, batch: Batch<T>) -> WriteReport
    where
        R: Layout,
        T: Borrow<R> + Send + Sync + 'static,
    {
        let rows = batch.len();
        if rows == 0 {
            return WriteReport::written(0);
        }
        let (reply, answer) = oneshot::channel();
        let job: RowsJob<R, T> = RowsJob::new(batch, reply);
        let Some(commands) = &self.commands else {
            return WriteReport::failed(rows, self.no_writer());
        };
        if commands.send(Command::Write(Box::new(job))).await.is_err() {
            return WriteReport::failed(rows, self.no_writer());
        }
        answer.await.unwrap_or_else(|_| {
            WriteReport::failed(rows, Failure::thread_gone(self.path()).to_sink_error())
        })
    }

    /// Runs `work` on the writing thread.
    async fn run<V: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> V + Send + 'static,
    ) -> Result<V, StoreError> {
        let commands = self.commands.as_ref().ok_or_else(|| self.closed())?;
        let (reply, answer) = oneshot::channel();
        let run = Command::Run(Box::new(move |writer| {
            // Where nobody waits for the answer, it has no use.
            drop(reply.send(work(writer)));
        }));
        commands.send(run).await.map_err(|_| self.closed())?;
        answer.await.map_err(|_| self.closed())
    }

    /// Runs `work` in a transaction on the writing thread.
    async fn change<V: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<V> + Send + 'static,
    ) -> Result<V, StoreError> {
        let result = self.run(|writer| writer.with_transaction(work)).await?;
        result.map_err(|failure| StoreError::Write {
            path: self.target.path.clone(),
            operation,
            source: Box::new(failure.to_sink_error()),
        })
    }

    pub(crate) async fn check(&self) -> Result<(), SinkError> {
        match self.run(Writer::probe).await {
            Ok(result) => result.map_err(|failure| failure.to_sink_error()),
            Err(_) => Err(self.no_writer()),
        }
    }

    pub(crate) async fn close(&self) {
        // The writer goes last: only it may put the log into the database and remove it.
        self.readers.lock().clear();
        if let Some(commands) = &self.commands {
            let (reply, done) = oneshot::channel();
            if commands.send(Command::Close(reply)).await.is_ok() {
                // The thread is gone either way.
                drop(done.await);
            }
        }
    }

    pub(crate) async fn set_max_bytes(&self, max_bytes: Option<u64>) -> Result<(), StoreError> {
        self.target
            .max_bytes
            .store(max_bytes.unwrap_or(0), Ordering::Relaxed);
        let result = self
            .run(|writer| {
                let target = Arc::clone(writer.target());
                writer.conn().and_then(|conn| target.apply_max_bytes(conn))
            })
            .await?;
        result.map_err(|e| self.target.failed("bound the database file", e))
    }

    pub(crate) async fn delete<R: Layout>(&self, query: Query) -> Result<u64, StoreError> {
        let mut deletion = admin::Deletion::new(query);
        let mut deleted = 0;
        loop {
            let (back, part) = self
                .change("delete records", move |conn| {
                    let part = deletion.step::<R>(conn)?;
                    Ok((deletion, part))
                })
                .await?;
            deletion = back;
            deleted += part.0;
            if part.1 {
                return Ok(deleted);
            }
        }
    }

    pub(crate) async fn file_revision(
        &self,
        file: &IngestedFile<'_>,
    ) -> Result<FileRevision, StoreError> {
        let file = crate::ingested::File::from(file);
        self.change("remember an ingested file", move |conn| {
            ingested::revision(conn, &file)
        })
        .await
    }

    pub(crate) async fn look_up_file(
        &self,
        file: &IngestedFile<'_>,
    ) -> Result<FileRevision, StoreError> {
        let file = crate::ingested::File::from(file);
        self.read("look up an ingested file", move |conn| {
            ingested::look_up(conn, &file)
        })
        .await
    }

    pub(crate) async fn last_revision(&self) -> Result<i64, StoreError> {
        self.read("read the last revision", |conn| {
            conn.query_row("SELECT last_revision FROM mds_meta", [], |row| row.get(0))
        })
        .await
    }

    pub(crate) async fn latest(&self, query: Query) -> Result<Vec<LatestPrice>, StoreError> {
        self.read("read latest prices", move |conn| {
            admin::latest(conn, &query)
        })
        .await
    }

    pub(crate) async fn count<R: Layout>(&self, query: Query) -> Result<u64, StoreError> {
        self.read("count records", move |conn| admin::count::<R>(conn, &query))
            .await
    }

    pub(crate) async fn stats(&self) -> Result<StoreStats, StoreError> {
        let (kinds, freshness) = self.read("read figures of the store", admin::stats).await?;
        let mut log = self.target.path.clone().into_os_string();
        log.push("-wal");
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        Ok(StoreStats {
            kinds,
            freshness,
            file_bytes: bytes(&self.target.path),
            log_bytes: bytes(Path::new(&log)),
        })
    }

    /// Runs `work` on a reading connection, in one snapshot.
    async fn read<V: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<V> + Send + 'static,
    ) -> Result<V, StoreError> {
        // The semaphore is never closed.
        let permits = Arc::clone(&self.readers.permits);
        let permit = permits.acquire_owned().await;
        let (target, readers) = (Arc::clone(&self.target), Arc::clone(&self.readers));
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            readers.with(&target, operation, work)
        });
        task.await.unwrap_or_else(|_| Err(self.closed()))
    }

    pub(crate) fn query<R: Layout>(&self, query: Query) -> Chunks<R> {
        let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let store = self.clone();
        let errors = chunks.clone();
        let read = async move {
            let work = move |conn: &Connection| {
                let mut cursor = read::Cursor::<R>::new(conn, &query)?;
                let mut chunk = Vec::with_capacity(CHUNK_ROWS);
                while let Some(record) = cursor.next()? {
                    chunk.push(record);
                    if chunk.len() == CHUNK_ROWS {
                        let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_ROWS));
                        if chunks.blocking_send(Ok(full)).is_err() {
                            // Nobody wants the rest.
                            return Ok(());
                        }
                    }
                }
                if !chunk.is_empty() {
                    drop(chunks.blocking_send(Ok(chunk)));
                }
                Ok(())
            };
            if let Err(error) = store.read("read records", work).await {
                drop(errors.send(Err(error)).await);
            }
        };
        drop(tokio::spawn(read));
        Chunks::new(receiver)
    }
}

impl Readers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(FileId, Connection)>> {
        // The list is whole whenever the lock is free.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<V>(
        &self,
        target: &Target,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<V>,
    ) -> Result<V, StoreError> {
        let file = FileId::of(&target.path)?;
        let idle = {
            let mut all = self.lock();
            // The file may have been replaced.
            all.retain(|(of, _)| *of == file);
            all.pop()
        };
        let conn = match idle {
            Some((_, conn)) => conn,
            None => target.connect_reader()?,
        };
        let snapshot = || {
            let tx = conn.unchecked_transaction()?;
            let value = work(&tx)?;
            tx.finish()?;
            Ok(value)
        };
        let value = snapshot().map_err(|e| target.failed(operation, e))?;
        // After an error the connection is dropped.
        self.lock().push((file, conn));
        Ok(value)
    }
}
