//! A write-ahead queue of byte strings: an acknowledgement means fsynced.
//!
//! Many producers hand in records ([`WriteAheadQueue::append`]) and hear when they are durable; one
//! sync serves all that have gathered. Consumers read them ([`Reader`]) and settle them in any order
//! ([`WriteAheadQueue::ack`]); what is not settled comes back after a crash, however it ended.
//!
//! It is no log to be replayed from the beginning (settled records are removed, a segment at a time),
//! no database, and not distributed. It knows no record type and no async runtime; it has two threads
//! of its own.
//!
//! | module | is |
//! |---|---|
//! | `record`, `segment`, `pair`, `checkpoint`, `identity` | the bytes on the disk, each with its table |
//! | `scan`, `walk` | going through a segment, whatever is damaged; damage told from torn writes |
//! | `acks` | the set of settled records |
//! | `log` | groups, segments, checkpoints; the invariants |
//! | `survey`, `open` | what a folder holds; recovery |
//! | `reader` | reading |
//! | `queue`, `commit` | threads, group commit, waiting |
//! | `inspect` | looking into a folder without opening it |
//! | `storage`, [`sim`] | the file system, and a simulated one that loses, tears and fails |
//!
//! Guarantees: what was told to be durable is delivered until it is settled (at least once); nothing
//! is delivered that was not handed in; what is damaged is told with its exact place and costs
//! nothing else. The format is described in `docs/wal-format.md`.

mod acks;
mod checkpoint;
mod commit;
mod damage;
mod error;
mod identity;
mod inspect;
mod keeper;
mod log;
mod open;
mod options;
mod pair;
mod queue;
mod reader;
mod record;
mod retire;
mod scan;
mod segment;
pub mod sim;
mod spares;
mod state;
mod stats;
mod storage;
mod survey;
#[cfg(test)]
mod tests;
mod walk;

pub use acks::{CLASSES, Totals};
pub use commit::Ticket;
pub use damage::{Damage, DamageKind};
pub use error::{AppendError, CommitError, InspectError, OpenError, StorageError};
pub use inspect::{
    CheckpointInfo, FileInfo, Inspection, SegmentInfo, Verification, inspect, is_queue, verify,
    waiting,
};
pub use log::OnSync;
pub use open::Recovery;
pub use options::{FsyncPolicy, OnCommit, OnRoom, WalOptions};
pub use queue::WriteAheadQueue;
pub use reader::{Reader, Record};
pub use stats::WalStats;
pub use storage::{FileStorage, Storage, StorageFile};

/// The number of a record: 1 for the first of a queue, one more for each that follows.
pub type SeqNo = u64;
