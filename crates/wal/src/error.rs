//! What can go wrong, by operation. Every error that comes from the disk carries the file and what
//! was done with it.

use std::io;

use crate::SeqNo;

/// Something the storage could not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {file}: {source}")]
pub struct StorageError {
    /// What was being done, such as `write` or `sync`.
    pub operation: &'static str,
    /// The name of the file within the folder of the queue; empty for the folder itself.
    pub file: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl StorageError {
    pub(crate) fn new(operation: &'static str, file: &str, source: io::Error) -> Self {
        let file = if file.is_empty() { "the folder" } else { file };
        Self {
            operation,
            file: file.to_owned(),
            source,
        }
    }

    /// Whether the disk, or a quota on it, is full.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Why a queue could not be opened. Damaged content is never a reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The storage failed.
    #[error("cannot open the durable queue")]
    Storage(#[from] StorageError),
    /// Another process has the queue open.
    #[error("the durable queue is open in another process; one process at a time may use it")]
    InUse,
    /// The folder holds the queue of something else.
    #[error(
        "the durable queue was made for something else: it says {found:?}, and wanted is {wanted:?}"
    )]
    Mismatch {
        /// What the folder says it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A later version of this program wrote the folder.
    #[error("the durable queue has format {found}, and this program knows up to {known}")]
    Newer {
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// The header is that of another queue than the segments.
    #[error(
        "the header of the durable queue is of another queue than its segments: put its own header \
         back, or move the segments away"
    )]
    Mixed,
    /// The options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// A thread could not be started.
    #[error("cannot start a thread of the durable queue")]
    Thread(#[source] io::Error),
}

/// Why a folder could not be looked into. Damaged content is never a reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The storage failed.
    #[error("cannot look into the durable queue")]
    Storage(#[from] StorageError),
    /// A later version of this program wrote the folder.
    #[error("the durable queue has format {found}, and this program knows up to {known}")]
    Newer {
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// The header is that of another queue than the segments.
    #[error(
        "the header of the durable queue is of another queue than its segments: put its own header \
         back, or move the segments away"
    )]
    Mixed,
    /// Nothing in the folder is part of a queue.
    #[error("there is no durable queue")]
    NoQueue,
}

/// Why records were not appended: none of them is in the queue, now or later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The queue takes as much of the disk as it may.
    #[error("the durable queue is full: {used} of {limit} bytes are in use")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes that may be used.
        limit: u64,
    },
    /// A record is larger than any may be.
    #[error("a record of {bytes} bytes is larger than the {limit} that the durable queue takes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest.
        limit: usize,
    },
    /// The queue is closed.
    #[error("the durable queue is closed")]
    Closed,
}

/// Why a group of records is not known to be durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Nothing was written: the records are not in the queue, now or later.
    #[error("the durable queue cannot take records: {reason}")]
    Refused {
        /// What the storage said.
        reason: String,
        /// Whether the disk is full.
        is_full: bool,
    },
    /// The write or the sync failed. The records may come back when the queue is opened the next
    /// time, or not: hand them in again.
    #[error("it is not known whether records {first} to {last} are in the durable queue: {reason}")]
    OutcomeUnknown {
        /// The first record.
        first: SeqNo,
        /// The last record.
        last: SeqNo,
        /// What the storage said.
        reason: String,
    },
}
