//! What can go wrong when a store is opened, read or administered.
//!
//! Failed writes are not here: a sink answers with [`mds_core::SinkError`].

use std::path::PathBuf;

use mds_core::{ErrorKind, Invalid, SinkError};

/// Why a store could not be opened, read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no database at the path, and creating one was not asked for.
    #[error("{}: there is no store here; check the path, or ingest something to create it", path.display())]
    Missing {
        /// Where the store was looked for.
        path: PathBuf,
    },
    /// The database could not be opened.
    #[error("{}: cannot open the store ({code})", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// SQLite's name of the error.
        code: String,
        /// What SQLite said.
        #[source]
        source: Box<rusqlite::Error>,
    },
    /// A setting that promises depend on did not take.
    #[error("{}: {setting} is {found:?}, but must be {wanted:?}; the file system may not support it", path.display())]
    Setting {
        /// The database file.
        path: PathBuf,
        /// Which setting.
        setting: &'static str,
        /// What it reads back as.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// The database was made by a newer version of this program.
    #[error("{}: the store has schema version {found}, but this program knows only up to {known}; use a newer program", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The greatest version known.
        known: i64,
    },
    /// A migration that was applied differs from the one this program knows by that number.
    #[error("{}: migration {version} of the store is not the one this program has; it was made by another build, and nothing was changed", path.display())]
    Diverged {
        /// The database file.
        path: PathBuf,
        /// Which migration.
        version: i64,
    },
    /// The database belongs to something else and has a table of one of our names.
    #[error("{}: the database has {object:?}, which is not ours; use another file, database or schema", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// The table, view or index in the way.
        object: String,
    },
    /// Migrations are pending and were not asked for.
    #[error("{}: the store has schema version {found}, {wanted} is needed; run `mds migrate` first", path.display())]
    Outdated {
        /// The database file.
        path: PathBuf,
        /// The version found; 0 for an empty database.
        found: i64,
        /// The version needed.
        wanted: i64,
    },
    /// The database was made by the Python original, or by hand, and was not adopted yet.
    #[error("{}: the database has tables that another program made; mds migrate --plan says what it takes to use them, mds migrate does it", path.display())]
    NotAdopted {
        /// The address, without its password.
        path: PathBuf,
    },
    /// Something in the database has to be changed by a person before it can be migrated.
    #[error("{}: the database cannot be used as it is, and nothing was changed:{}", path.display(), items(problems))]
    Unfit {
        /// The address, without its password.
        path: PathBuf,
        /// What is in the way, all of it, in words.
        problems: Vec<String>,
    },
    /// The file at the path is no longer the store that was opened.
    #[error("{}: the file was replaced by another store (id {found}, it was {opened}); stop and open it anew", path.display())]
    Replaced {
        /// The database file.
        path: PathBuf,
        /// The id of the store that was opened.
        opened: String,
        /// The id found now.
        found: String,
    },
    /// A file operation failed.
    #[error("{}: cannot {operation}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The database refused an operation.
    #[error("{}: cannot {operation} ({code})", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// SQLite's name of the error.
        code: String,
        /// What SQLite said.
        #[source]
        source: Box<rusqlite::Error>,
    },
    /// A change was not committed.
    #[error("{}: cannot {operation}", path.display())]
    Write {
        /// The database file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// Why, as a sink would answer.
        #[source]
        source: Box<SinkError>,
    },
    /// The address of a server has something wrong with it.
    #[error(transparent)]
    Address {
        /// What is wrong.
        source: crate::DsnError,
    },
    /// A server cannot be reached, or refused an operation.
    #[error("{dsn}: cannot {operation} ({code})")]
    Server {
        /// The address, without its password.
        dsn: String,
        /// What was tried.
        operation: &'static str,
        /// The SQLSTATE, or `CONNECTION`.
        code: String,
        /// What kind of failure it is.
        kind: ErrorKind,
        /// What the server or the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row of another program holds what no record can hold.
    #[error("{}: a row of {table} cannot be read, {invalid}; correct or delete the row WHERE {row}", path.display())]
    Malformed {
        /// The database.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row, as a condition that finds it.
        row: String,
        /// What is wrong with it.
        invalid: Box<Invalid>,
    },
    /// The store was opened for reading.
    #[error("{}: the store is open for reading only", path.display())]
    ReadOnly {
        /// The database file.
        path: PathBuf,
    },
    /// The store was closed, or a thread of it ended.
    #[error("{}: the store is closed", path.display())]
    Closed {
        /// The database file.
        path: PathBuf,
    },
}

impl StoreError {
    /// What kind of failure it is: whether waiting may help (`Environment`, `Transient`) or a
    /// person is needed (`Fatal`).
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } | Self::Database { source, .. } => {
                crate::sqlite::codes::classify(source).kind()
            }
            Self::Write { source, .. } => source.kind(),
            Self::Server { kind, .. } => *kind,
            Self::Missing { .. }
            | Self::Io { .. }
            | Self::ReadOnly { .. }
            | Self::Closed { .. } => ErrorKind::Environment,
            Self::Address { .. }
            | Self::Malformed { .. }
            | Self::Setting { .. }
            | Self::Newer { .. }
            | Self::Diverged { .. }
            | Self::Foreign { .. }
            | Self::Outdated { .. }
            | Self::NotAdopted { .. }
            | Self::Unfit { .. }
            | Self::Replaced { .. } => ErrorKind::Fatal,
        }
    }

    /// A short code: SQLite's name of the error where it has one.
    pub fn code(&self) -> &str {
        match self {
            Self::Open { code, .. } | Self::Database { code, .. } | Self::Server { code, .. } => {
                code
            }
            Self::Address { .. } => "ADDRESS",
            Self::Malformed { .. } => "STORED_ROW_UNREADABLE",
            Self::Write { source, .. } => source.code(),
            Self::Missing { .. } => "MISSING",
            Self::Setting { .. } => "SETTING",
            Self::Newer { .. } => "NEWER_SCHEMA",
            Self::Diverged { .. } => "DIVERGED_SCHEMA",
            Self::Foreign { .. } => "FOREIGN_DATABASE",
            Self::Outdated { .. } => "OUTDATED_SCHEMA",
            Self::NotAdopted { .. } => "NOT_ADOPTED",
            Self::Unfit { .. } => "UNFIT_DATABASE",
            Self::Replaced { .. } => "REPLACED",
            Self::Io { .. } => "IO",
            Self::ReadOnly { .. } => "READ_ONLY",
            Self::Closed { .. } => "CLOSED",
        }
    }
}

/// A list, each item on a line of its own.
fn items(items: &[String]) -> String {
    let lines = items.iter().flat_map(|item| ["\n  - ", item]);
    lines.collect()
}
