//! Opening connections, and telling whether the file is still the one that was opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mds_core::Timestamp;
use rusqlite::{Connection, OpenFlags, ffi};

use super::codes;
use crate::StoreError;

/// Page cache of the writer, in KiB: holds the pages that a batch in time order touches.
const WRITER_CACHE_KIB: i64 = 64 * 1024;
/// Page cache of each reader, in KiB.
const READER_CACHE_KIB: i64 = 16 * 1024;
/// Pages of log after which it is moved into the database: 16 MiB, some dozens of batches.
const CHECKPOINT_PAGES: i64 = 4_000;
/// The log is cut back to this size after it grew in a long transaction.
const LOG_LIMIT_BYTES: i64 = 64 * 1024 * 1024;
/// How long to wait between two tries to switch a new database to its log.
const WAL_RETRY: Duration = Duration::from_millis(10);

/// Where a database is, and how to open it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) path: PathBuf,
    pub(crate) busy_timeout: Duration,
    /// Bound of the database file in bytes; 0 for none.
    pub(crate) max_bytes: AtomicU64,
}

/// Which file a path leads to. Another one after a while means that it was moved or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl FileId {
    /// The file at `path` now.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let metadata = fs::metadata(path).map_err(|source| {
            if source.kind() == std::io::ErrorKind::NotFound {
                return StoreError::Missing {
                    path: path.to_owned(),
                };
            }
            StoreError::Io {
                path: path.to_owned(),
                operation: "look at the database file",
                source,
            }
        })?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            Ok(Self {
                device: metadata.dev(),
                inode: metadata.ino(),
            })
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Ok(Self {})
        }
    }
}

/// The error with what to do, where SQLite says only what it could not do.
fn with_advice(error: rusqlite::Error) -> rusqlite::Error {
    let rusqlite::Error::SqliteFailure(failure, text) = &error else {
        return error;
    };
    match failure.extended_code {
        // Readers need the log and its index too, and make them where no writer has.
        ffi::SQLITE_READONLY_DIRECTORY | ffi::SQLITE_READONLY_CANTINIT => {
            let text = text.clone().unwrap_or_else(|| failure.to_string());
            let advice = "the files -wal and -shm are kept beside it, also for reading: make its \
                          folder writable, or copy the store into one that is";
            rusqlite::Error::SqliteFailure(*failure, Some(format!("{text}; {advice}")))
        }
        _ => error,
    }
}

/// The time of the system clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Target {
    /// The error of a failed operation on this database.
    pub(crate) fn failed(&self, operation: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database {
            path: self.path.clone(),
            operation,
            code: codes::code(&source).into_owned(),
            source: Box::new(source),
        }
    }

    fn open_failed(&self, source: rusqlite::Error) -> StoreError {
        let source = with_advice(source);
        StoreError::Open {
            path: self.path.clone(),
            code: codes::code(&source).into_owned(),
            source: Box::new(source),
        }
    }

    /// A connection as it comes: nothing in the file is changed yet.
    pub(crate) fn connect(&self, flags: OpenFlags) -> Result<Connection, StoreError> {
        if self.path.is_dir() {
            // SQLite opens a folder for reading, and fails later with an I/O error.
            let failure = ffi::Error::new(ffi::SQLITE_CANTOPEN_ISDIR);
            let text = "unable to open database file: it is a folder";
            let source = rusqlite::Error::SqliteFailure(failure, Some(text.to_owned()));
            return Err(self.open_failed(source));
        }
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        if !flags.contains(OpenFlags::SQLITE_OPEN_CREATE) {
            // SQLite says only that it cannot open it.
            FileId::of(&self.path)?;
        }
        let conn =
            Connection::open_with_flags(&self.path, flags).map_err(|e| self.open_failed(e))?;
        conn.busy_timeout(self.busy_timeout)
            .map_err(|e| self.open_failed(e))?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(conn)
    }

    /// A connection that only reads, on a database that is known to be ours.
    pub(crate) fn connect_reader(&self) -> Result<Connection, StoreError> {
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)
            .map_err(|e| self.open_failed(e))?;
        Ok(conn)
    }

    /// Makes `conn` a writer: write-ahead log, every commit synced.
    pub(crate) fn make_writer(&self, conn: &Connection) -> Result<(), StoreError> {
        let mode = self.switch_to_log(conn)?;
        self.expect("journal_mode", &mode, "wal")?;
        let setup = || -> rusqlite::Result<i64> {
            // No effect except on macOS, where a plain fsync does not reach the medium.
            conn.pragma_update(None, "fullfsync", true)?;
            conn.pragma_update(None, "checkpoint_fullfsync", true)?;
            conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            conn.pragma_update(None, "synchronous", "FULL")?;
            conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            conn.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
            conn.pragma_query_value(None, "synchronous", |row| row.get(0))
        };
        let synchronous = setup().map_err(|e| self.open_failed(e))?;
        self.expect("synchronous", &synchronous.to_string(), "2")?;
        self.apply_max_bytes(conn)
            .map_err(|e| self.failed("bound the database file", e))
    }

    /// Bounds the file by `max_bytes`, rounded down to whole pages.
    pub(crate) fn apply_max_bytes(&self, conn: &Connection) -> rusqlite::Result<()> {
        // The greatest bound that SQLite knows, 2^32 - 2 pages.
        const NO_BOUND: i64 = 4_294_967_294;
        let page_bytes: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        let pages = match i64::try_from(max_bytes) {
            Ok(0) | Err(_) => NO_BOUND,
            Ok(bytes) => (bytes / page_bytes.max(1)).clamp(1, NO_BOUND),
        };
        // This pragma answers with a row.
        conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    fn expect(
        &self,
        setting: &'static str,
        found: &str,
        wanted: &'static str,
    ) -> Result<(), StoreError> {
        if found.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        Err(StoreError::Setting {
            path: self.path.clone(),
            setting,
            found: found.to_owned(),
            wanted,
        })
    }

    /// Switches to the write-ahead log. SQLite does not wait for this lock by itself where another
    /// process is switching the same new database, so the waiting is done here.
    fn switch_to_log(&self, conn: &Connection) -> Result<String, StoreError> {
        let started = Instant::now();
        loop {
            let mode = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
            match mode {
                Err(e) if codes::is_busy(&e) && started.elapsed() < self.busy_timeout => {
                    std::thread::sleep(WAL_RETRY);
                }
                other => return other.map_err(|e| self.open_failed(e)),
            }
        }
    }
}
