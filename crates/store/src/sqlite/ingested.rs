//! The revisions of ingested files.

use mds_core::Kind;
use rusqlite::{Connection, OptionalExtension as _};

use crate::{FileRevision, IngestedFile, Remembered};

/// An [`IngestedFile`] that can go to the writing thread, in the form of the table.
pub(crate) struct File {
    content_hash: String,
    kind: Kind,
    keys: String,
    reading: String,
    path: Option<String>,
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

/// Says the revision of a file, and remembers it.
pub(crate) fn revision(conn: &Connection, file: &File) -> rusqlite::Result<FileRevision> {
    if let Some(known) = known(conn, file)? {
        return Ok(known);
    }
    let revision = next(conn, file)?;
    conn.execute(
        "INSERT INTO ingested_files \
            (content_hash, kind, keys, reading, base_revision, modified, first_seen, path) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT DO UPDATE SET reading = excluded.reading, \
            base_revision = excluded.base_revision, path = excluded.path",
        (
            &file.content_hash,
            file.kind.as_str(),
            &file.keys,
            &file.reading,
            revision.base,
            revision.modified,
            revision.first_seen,
            &file.path,
        ),
    )?;
    Ok(revision)
}

/// What was said about the same file, read in the same way.
fn known(conn: &Connection, file: &File) -> rusqlite::Result<Option<FileRevision>> {
    conn.query_row(
        "SELECT base_revision, modified, first_seen FROM ingested_files \
         WHERE content_hash = ?1 AND kind = ?2 AND keys = ?3 AND reading = ?4",
        (
            &file.content_hash,
            file.kind.as_str(),
            &file.keys,
            &file.reading,
        ),
        |row| {
            Ok(FileRevision {
                base: row.get(0)?,
                modified: row.get(1)?,
                first_seen: row.get(2)?,
                remembered: Remembered::SameReading,
            })
        },
    )
    .optional()
}

/// The revision of a file that was not read in this way before, or not last.
fn next(conn: &Connection, file: &File) -> rusqlite::Result<FileRevision> {
    // The other readings of other keys count too: an option that the rows override changes the hash
    // of the keys, and not one key.
    let (other, modified, first_seen): (Option<i64>, Option<i64>, Option<i64>) = conn.query_row(
        "SELECT max(base_revision) FILTER (WHERE reading <> ?3), min(modified), min(first_seen) \
         FROM ingested_files WHERE content_hash = ?1 AND kind = ?2",
        (&file.content_hash, file.kind.as_str(), &file.reading),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let (base, remembered) = match other {
        None => (file.modified, Remembered::Nothing),
        Some(other) => (after(conn, file, other)?, Remembered::OtherReading),
    };
    Ok(FileRevision {
        base,
        modified: modified.unwrap_or(file.modified),
        first_seen: first_seen.unwrap_or(file.now),
        remembered,
    })
}

/// A revision above those of the rows of an earlier reading, which began with `other`.
fn after(conn: &Connection, file: &File, other: i64) -> rusqlite::Result<i64> {
    let last: i64 = conn.query_row("SELECT last_revision FROM mds_meta", [], |row| row.get(0))?;
    // Two bounds of those rows. The number of bytes alone would put a large file that is read anew
    // at once so far ahead of the clock that its rows were refused.
    let end = other.saturating_add(file.max_rows);
    Ok(end.min(last.saturating_add(1)).max(file.now))
}
