//! Files that were ingested, by their content: which revisions their rows take.

use std::path::Path;

use mds_core::Kind;

/// A file whose rows are to be written; all times are in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestedFile<'a> {
    /// A hash of its bytes.
    pub content_hash: [u8; 32],
    /// What it is read as.
    pub kind: Kind,
    /// A hash of what sets its records apart from those of the same content read for something
    /// else: the vendor, the symbol and so on, where the file does not say them.
    pub keys: [u8; 32],
    /// A hash of how it is read: what decides which values, and at which times, its rows have.
    pub reading: [u8; 32],
    /// Its name, for people.
    pub path: Option<&'a Path>,
    /// When it was last changed; not in the future.
    pub modified: i64,
    /// The present.
    pub now: i64,
    /// At least as many as it has rows.
    pub max_rows: i64,
}

/// What a store says about an [`IngestedFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRevision {
    /// The revision of its first row; the rows after it count on.
    pub base: i64,
    /// When a file of this content said at first that it was last changed.
    pub modified: i64,
    /// When this content was ingested for the first time.
    pub first_seen: i64,
    /// What the store knew of it before.
    pub remembered: Remembered,
}

/// What a store remembers of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing that concerns this reading.
    Nothing,
    /// This content, read in the same way.
    SameReading,
    /// This content, read in another way.
    OtherReading,
}
