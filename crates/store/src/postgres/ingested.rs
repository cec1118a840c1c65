//! The revisions of ingested files.

use tokio_postgres::Error;

use super::connect::Conn;
use crate::ingested::{Earlier, File};
use crate::{FileRevision, Remembered};

/// Says the revision of a file, and remembers it; committed when it answers. On an error the
/// transaction is left to the caller to end.
///
/// `opening` opens the transaction. Its limits of time end a session that waits for a lock: the
/// server does not notice that nobody waits for its answer any more, and each attempt would leave
/// one more session behind.
pub(crate) async fn revision(
    conn: &Conn,
    opening: &str,
    file: &File,
) -> Result<FileRevision, Error> {
    let client = &conn.client;
    // Two processes with the same content, one after the other.
    client
        .batch_execute(&format!(
            "{opening}; SELECT pg_advisory_xact_lock(hashtextextended('{}', 0))",
            file.content_hash
        ))
        .await?;
    let revision = look_up(conn, file).await?;
    if revision.remembered == Remembered::SameReading {
        return Ok(revision);
    }
    let kind = file.kind.as_str();
    let insert = "INSERT INTO ingested_files \
         (content_hash, kind, keys, reading, base_revision, modified, first_seen, path) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (content_hash, kind, keys) DO UPDATE SET reading = excluded.reading, \
         base_revision = excluded.base_revision, path = excluded.path";
    client
        .execute(
            insert,
            &[
                &file.content_hash,
                &kind,
                &file.keys,
                &file.reading,
                &revision.base,
                &revision.modified,
                &revision.first_seen,
                &file.path,
            ],
        )
        .await?;
    client.batch_execute("COMMIT").await?;
    Ok(revision)
}

/// Says the revision of a file; in a transaction of the caller.
pub(crate) async fn look_up(conn: &Conn, file: &File) -> Result<FileRevision, Error> {
    let client = &conn.client;
    let known = "SELECT base_revision, modified, first_seen FROM ingested_files \
         WHERE content_hash = $1 AND kind = $2 AND keys = $3 AND reading = $4";
    let kind = file.kind.as_str();
    let row = client
        .query_opt(
            known,
            &[&file.content_hash, &kind, &file.keys, &file.reading],
        )
        .await?;
    if let Some(row) = row {
        return Ok(FileRevision {
            base: row.try_get(0)?,
            modified: row.try_get(1)?,
            first_seen: row.try_get(2)?,
            remembered: Remembered::SameReading,
        });
    }
    let earlier = "SELECT max(base_revision) FILTER (WHERE reading <> $3), min(modified), \
         min(first_seen), (SELECT last_revision FROM mds_meta) \
         FROM ingested_files WHERE content_hash = $1 AND kind = $2";
    let row = client
        .query_one(earlier, &[&file.content_hash, &kind, &file.reading])
        .await?;
    let earlier = Earlier {
        base: row.try_get(0)?,
        modified: row.try_get(1)?,
        first_seen: row.try_get(2)?,
    };
    Ok(file.next(&earlier, row.try_get(3)?))
}
