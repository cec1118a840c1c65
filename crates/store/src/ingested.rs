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

/// An [`IngestedFile`] that can go to another thread, in the form of the table.
pub(crate) struct File {
    pub(crate) content_hash: String,
    pub(crate) kind: Kind,
    pub(crate) keys: String,
    pub(crate) reading: String,
    pub(crate) path: Option<String>,
    modified: i64,
    now: i64,
    max_rows: i64,
}

impl From<&IngestedFile<'_>> for File {
    fn from(file: &IngestedFile<'_>) -> Self {
        Self {
            content_hash: crate::hex(&file.content_hash),
            kind: file.kind,
            keys: crate::hex(&file.keys),
            reading: crate::hex(&file.reading),
            path: file.path.map(|path| path.display().to_string()),
            modified: file.modified,
            now: file.now,
            max_rows: file.max_rows,
        }
    }
}

/// What a store remembers of a content, whatever it was read for.
#[derive(Debug)]
pub(crate) struct Earlier {
    /// The greatest base of another reading.
    pub(crate) base: Option<i64>,
    /// When it was said to be last changed, at first.
    pub(crate) modified: Option<i64>,
    /// When it was seen first.
    pub(crate) first_seen: Option<i64>,
}

impl File {
    /// The revision of a file that was not read in this way before, or not last; `last_revision`
    /// is the greatest that the store has.
    pub(crate) fn next(&self, earlier: &Earlier, last_revision: i64) -> FileRevision {
        let (base, remembered) = match earlier.base {
            None => (self.modified, Remembered::Nothing),
            Some(other) => {
                // Two bounds of the rows of that reading. The number of bytes alone would put a
                // large file that is read anew at once so far ahead of the clock that its rows were
                // refused.
                let end = other.saturating_add(self.max_rows);
                let after = end.min(last_revision.saturating_add(1)).max(self.now);
                (after, Remembered::OtherReading)
            }
        };
        FileRevision {
            base,
            modified: earlier.modified.unwrap_or(self.modified),
            first_seen: earlier.first_seen.unwrap_or(self.now),
            remembered,
        }
    }
}
