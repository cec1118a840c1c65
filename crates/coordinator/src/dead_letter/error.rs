//! What can go wrong with dead letters.

use std::io;
use std::path::PathBuf;

use mds_core::ErrorKind;

/// A dead letter could not be written, read or settled.
///
/// Every error that concerns a file names it. [`DlqError::kind`] says what the write path has to
/// do: all but [`DlqError::Serialize`] and [`DlqError::TooLarge`] are an outage of the dead
/// letters, during which records wait.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DlqError {
    /// The path does not name a file.
    #[error("{path:?} does not name a file for dead letters; give a path such as .dlq/bars.ndjson")]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder of the file could not be made.
    #[error("cannot create the folder {path:?} for dead letters; create it or choose another path")]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be opened.
    #[error("cannot open {path:?}; check that the user of this process may read and write it")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock that appends take turns with could not be had.
    #[error("cannot lock {path:?}; the folder must be writable and its file system support locks")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another part of this one, is replaying or purging.
    #[error("dead letters are being replayed or purged elsewhere (it holds {path:?}); wait for it")]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// Letters could not be appended; nothing of them was kept.
    #[error("cannot append dead letters to {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system could not say that data reached the disk.
    #[error("cannot sync {path:?} to disk")]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bound on all letters together was reached.
    #[error(
        "dead letters at {path:?} take {used} bytes, and {needed} more would exceed the limit of \
         {limit}; replay or purge some, or raise the limit"
    )]
    Full {
        /// The active file.
        path: PathBuf,
        /// `max_total_bytes`.
        limit: u64,
        /// Bytes on disk.
        used: u64,
        /// Bytes that the refused letters need.
        needed: u64,
    },
    /// One letter is larger than a line may be.
    #[error("a dead letter of {bytes} bytes exceeds the {limit} bytes that one line may take")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest line that can be read back.
        limit: usize,
    },
    /// The active file could not be set aside.
    #[error("cannot rename {path:?} to {to:?} to start a new file of dead letters")]
    Rotate {
        /// The active file.
        path: PathBuf,
        /// Its new name.
        to: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Letters could not be read.
    #[error("cannot read dead letters from {path:?}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Settled letters could not be recorded: they stay unsettled.
    #[error("cannot record settled dead letters in {path:?}; they will be replayed again")]
    Settle {
        /// The file of settled letters.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file whose letters are all settled could not be removed.
    #[error("cannot remove {path:?}, whose letters are all settled; remove it by hand")]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An item has no JSON form.
    #[error("a dead letter's item cannot be written as JSON")]
    Serialize {
        /// What its `Serialize` said.
        source: serde_json::Error,
    },
    /// The runtime ended before the work was done.
    #[error("the runtime shut down before dead letters were written or read")]
    Interrupted {
        /// What the runtime said.
        source: tokio::task::JoinError,
    },
}

impl DlqError {
    /// What the write path has to do about it: wait for an outage to end (`Environment`), or give
    /// up on this letter in particular (`Fatal`).
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Serialize { .. } | Self::TooLarge { .. } | Self::NotAFile { .. } => {
                ErrorKind::Fatal
            }
            _ => ErrorKind::Environment,
        }
    }
}
