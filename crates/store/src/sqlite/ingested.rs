//! The revisions of ingested files.

use rusqlite::{Connection, OptionalExtension as _};

use crate::ingested::{Earlier, File, FileRevision, Remembered};

/// Says the revision of a file, and remembers it.
pub(crate) fn revision(conn: &Connection, file: &File) -> rusqlite::Result<FileRevision> {
    let revision = look_up(conn, file)?;
    if revision.remembered == Remembered::SameReading {
        return Ok(revision);
    }
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

/// Says the revision of a file.
pub(crate) fn look_up(conn: &Connection, file: &File) -> rusqlite::Result<FileRevision> {
    let known = known(conn, file)?;
    known.map_or_else(|| next(conn, file), Ok)
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
    let earlier = conn.query_row(
        "SELECT max(base_revision) FILTER (WHERE reading <> ?3), min(modified), min(first_seen) \
         FROM ingested_files WHERE content_hash = ?1 AND kind = ?2",
        (&file.content_hash, file.kind.as_str(), &file.reading),
        |row| {
            Ok(Earlier {
                base: row.get(0)?,
                modified: row.get(1)?,
                first_seen: row.get(2)?,
            })
        },
    )?;
    let last: i64 = conn.query_row("SELECT last_revision FROM mds_meta", [], |row| row.get(0))?;
    Ok(file.next(&earlier, last))
}
