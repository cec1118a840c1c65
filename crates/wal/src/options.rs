//! How a queue is set up.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::SeqNo;
use crate::error::{CommitError, OpenError};
use crate::identity;
use crate::log::{LogOptions, OnSync};
use crate::record::{BLOCK, blocks};

/// When the disk is told to make records durable. There is nothing weaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Once for all records that have gathered while the one before was under way.
    #[default]
    Group,
    /// Once for each append, alone.
    Always,
}

/// Told of each group on the thread that writes: its numbers, and how it ended. Groups come in the
/// order of their numbers.
pub type OnCommit = dyn Fn(Range<SeqNo>, &Result<(), CommitError>) + Send + Sync;

/// Told on the thread that removes segments.
pub type OnRoom = dyn Fn() + Send + Sync;

/// How a queue is set up.
#[derive(Clone)]
pub struct WalOptions {
    /// What the queue is for, at most 2,000 bytes: a folder that says something else is refused.
    /// Default: empty.
    pub identity: String,
    /// Bytes that it may take on the disk, at least four segments. Default: 4 GiB.
    pub max_bytes: u64,
    /// Bytes of a segment, rounded up to 4 KiB; at least 64 KiB. Default: 16 MiB, and at most an
    /// eighth of `max_bytes`.
    pub segment_bytes: u64,
    /// Bytes of the largest record. Default: 16 MiB.
    pub max_record: usize,
    /// Default: [`FsyncPolicy::Group`].
    pub fsync: FsyncPolicy,
    /// Called for each group before those who wait are told. Default: nothing.
    pub on_commit: Option<Arc<OnCommit>>,
    /// Called with the time that each sync took. Default: nothing.
    pub on_sync: Option<Arc<OnSync>>,
    /// Called when settled records have made room. Default: nothing.
    pub on_room: Option<Arc<OnRoom>>,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            identity: String::new(),
            max_bytes: 4 << 30,
            segment_bytes: 16 << 20,
            max_record: 16 << 20,
            fsync: FsyncPolicy::Group,
            on_commit: None,
            on_sync: None,
            on_room: None,
        }
    }
}

impl fmt::Debug for WalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalOptions")
            .field("identity", &self.identity)
            .field("max_bytes", &self.max_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("max_record", &self.max_record)
            .field("fsync", &self.fsync)
            .finish_non_exhaustive()
    }
}

impl WalOptions {
    pub(crate) fn log_options(&self) -> Result<LogOptions, OpenError> {
        if self.identity.len() > identity::MAX {
            return Err(OpenError::Options(
                "the identity of a queue has at most 2,000 bytes",
            ));
        }
        let least = 16 * BLOCK as u64;
        let eighth = self.max_bytes / 8 / BLOCK as u64 * BLOCK as u64;
        let segment_bytes = blocks(self.segment_bytes.max(least)).min(eighth.max(least));
        if self.max_bytes < 4 * segment_bytes {
            return Err(OpenError::Options(
                "a durable queue needs at least 256 KiB of the disk",
            ));
        }
        Ok(LogOptions {
            segment_bytes,
            // A small queue keeps its disk for records.
            spares: if self.max_bytes / segment_bytes >= 16 {
                3
            } else {
                1
            },
            max_record: self.max_record.min(u32::MAX as usize),
        })
    }
}
