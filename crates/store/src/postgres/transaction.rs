//! Transactions that rely on nothing but themselves.
//!
//! A pooler between us and the server may give each transaction another session, so whatever a
//! transaction needs (limits of time, the tenant it speaks for, how it is planned) is said inside
//! of it, and no statement is prepared under a name.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{join, join3};
use futures_util::{SinkExt as _, pin_mut};
use mds_core::{ErrorKind, SinkError, TenantId};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::connect::Session;
use super::sql::Sql;
use super::{encode, failure};

/// Bytes of a COPY that are sent at once.
const COPY_CHUNK: usize = 64 * 1024;
/// How every transaction that writes is planned: each statement looks rows up by their keys, and
/// without the other ways a table that was never analyzed is not read from end to end.
const LOCALS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
     SET LOCAL jit = off; SET CONSTRAINTS ALL IMMEDIATE";
/// How every transaction that writes begins. Each of its statements sees what is committed by then,
/// whatever the database has as its default; and what is committed is on disk, even where the
/// server would rather not wait. Other settings (of standbys) stay as they are.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') = 'off'";
/// Milliseconds that every limit made of them can still be told to a server.
const LONGEST_TIMEOUT: u128 = 800_000_000;

/// A parameter and its type.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Why a transaction did not give its answers.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The server said no, or nothing.
    Server {
        error: Error,
        /// COMMIT was sent, and nobody knows what became of it.
        is_unknown: bool,
    },
    /// The server answered with fewer rows than the statement has.
    NoAnswer,
    /// The server has crashed and is back, or another one is there: what was committed without
    /// waiting for the disk may be gone.
    Recovered,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Server {
            error,
            is_unknown: false,
        }
    }
}

impl Failed {
    /// Whether the server refuses one or more of the rows; else no row is to blame.
    pub(crate) fn is_of_rows(&self) -> bool {
        matches!(self, Self::Server { error, .. }
            if failure::kind_of(error) == ErrorKind::Rejected)
    }

    /// What the server said.
    pub(crate) fn error(&self) -> Option<&Error> {
        match self {
            Self::Server { error, .. } => Some(error),
            Self::NoAnswer | Self::Recovered => None,
        }
    }

    /// What the server said, if it refuses one or more of the rows.
    pub(crate) fn of_rows(self) -> Result<Error, Self> {
        match self {
            Self::Server { error, .. } if failure::kind_of(&error) == ErrorKind::Rejected => {
                Ok(error)
            }
            other => Err(other),
        }
    }

    /// Whether a unique key is taken.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Self::Server { error, .. } if failure::code_of(error) == "23505")
    }

    /// The same, where an earlier part of the work may have been kept.
    pub(crate) fn unknown(self) -> Self {
        match self {
            Self::Server { error, .. } => Self::Server {
                error,
                is_unknown: true,
            },
            other => other,
        }
    }

    /// The error of a write.
    pub(crate) fn into_sink_error(self, dsn: &str) -> SinkError {
        match self {
            Self::Server { error, is_unknown } => {
                let told = failure::sink_error(dsn, error);
                if is_unknown {
                    told.with_unknown_outcome()
                } else {
                    told
                }
            }
            Self::NoAnswer => {
                let text = format!("{dsn}: the server gave no answer to a merge");
                SinkError::new(ErrorKind::Unknown, "NO_ANSWER", text).with_unknown_outcome()
            }
            Self::Recovered => {
                let text = format!("{dsn}: the server crashed amid a batch; it is written again");
                SinkError::new(ErrorKind::Environment, "RECOVERED", text).with_unknown_outcome()
            }
        }
    }
}

/// The text that opens a transaction; it speaks for `tenant` where row security binds the role.
///
/// A lock is waited for shorter than a statement may take, so that the one is told from the other;
/// the write path has a longer limit around both.
pub(crate) fn opening(tenant: Option<TenantId>, statement_timeout: Duration) -> String {
    let millis = statement_timeout.as_millis().clamp(10, LONGEST_TIMEOUT);
    let (lock, idle) = (millis * 2 / 5, millis * 12 / 5);
    let limits = format!(
        "SET LOCAL statement_timeout = {millis}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}"
    );
    match tenant {
        Some(tenant) => {
            format!("{BEGIN}; {limits}; {LOCALS}; SET LOCAL app.tenant_id = '{tenant}'")
        }
        None => format!("{BEGIN}; {limits}; {LOCALS}"),
    }
}

/// The text that opens a transaction which does not wait for the disk: a later one does.
pub(crate) fn unsynced(opening: &str) -> String {
    format!("{opening}; SET LOCAL synchronous_commit = off")
}

/// Waits until what was committed before is on disk, which a server that has crashed since, and is
/// not `the_same` any more, may have forgotten.
pub(crate) async fn flush(client: &Session, opening: &str, the_same: &str) -> Result<(), Failed> {
    // A commit waits for the disk only if it has something in the log.
    let message = format!("SELECT pg_logical_emit_message(true, 'mds', '') WHERE {the_same}");
    let flushed = run_one(client, opening, &message, &[]).await;
    if flushed.map_err(Failed::unknown)?.is_empty() {
        return Err(Failed::Recovered);
    }
    Ok(())
}

/// The one row of an answer.
pub(crate) fn only(rows: &[Row]) -> Result<&Row, Failed> {
    rows.first().ok_or(Failed::NoAnswer)
}

/// Runs one statement in a transaction of its own: sent as a whole, one way there and back.
pub(crate) async fn run_one(
    client: &Session,
    opening: &str,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<Row>, Failed> {
    let is_sent = !client.is_closed();
    let statement = client.query_typed(sql, params);
    let answers = join3(client.batch_execute(opening), statement, commit(client)).await;
    end(answers, is_sent)
}

/// Runs one statement that should write `expected` rows in a transaction of its own; answers whether
/// it did. Where it wrote another number, nothing is kept.
pub(crate) async fn run_counted(
    client: &Session,
    opening: &str,
    sql: &str,
    params: &[Param<'_>],
    expected: usize,
) -> Result<bool, Failed> {
    let statement = client.execute_typed(sql, params);
    let (opened, written) = join(client.batch_execute(opening), statement).await;
    let written = opened.and(written);
    if written.as_ref().is_ok_and(|w| *w == expected as u64) {
        end_open(client).await?;
        return Ok(true);
    }
    let rolled_back = client.batch_execute("ROLLBACK").await;
    written?;
    rolled_back?;
    Ok(false)
}

/// Runs statements without parameters in a transaction of their own.
pub(crate) async fn run_all(client: &Session, opening: &str, sql: &str) -> Result<(), Failed> {
    let is_sent = !client.is_closed();
    let statements = client.batch_execute(sql);
    let answers = join3(client.batch_execute(opening), statements, commit(client)).await;
    end(answers, is_sent)
}

/// Copies rows, each as `put` encodes it, in a transaction of its own; answers whether they went
/// in: all, or none, where a trigger leaves some of them out or a column has another type than the
/// one that they are encoded for.
pub(crate) async fn copy_in<T: Copy>(
    client: &Session,
    opening: &str,
    sql: &Sql,
    rows: &[T],
    put: impl Fn(&mut BytesMut, T),
) -> Result<bool, Failed> {
    let copied = copy_open(client, opening, sql, rows, put).await;
    if copied.as_ref().is_ok_and(|c| *c == Some(rows.len() as u64)) {
        end_open(client).await?;
        return Ok(true);
    }
    let rolled_back = client.batch_execute("ROLLBACK").await;
    copied?;
    rolled_back?;
    Ok(false)
}

/// Copies rows in a transaction that `opening` opens or goes on with; answers how many went in, if the columns have the
/// types that they are encoded for.
pub(crate) async fn copy_open<T: Copy>(
    client: &Session,
    opening: &str,
    sql: &Sql,
    rows: &[T],
    put: impl Fn(&mut BytesMut, T),
) -> Result<Option<u64>, Error> {
    // The names of the statements live within the transaction only: they are given up before the
    // end.
    let (opened, table, statement) = join3(
        client.batch_execute(opening),
        client.prepare(&sql.table),
        client.prepare(&sql.copy),
    )
    .await;
    opened?;
    // A copy takes eight bytes of a number for eight bytes of any other type, without a word. To
    // prepare the other statement has locked the types until the transaction ends.
    if !sql.fits(table?.columns()) {
        return Ok(None);
    }
    let statement = statement?;
    let sink = match client.copy_in(&statement).await {
        Ok(sink) => sink,
        Err(error) => {
            // After a copy that could not begin (a lock, a right) the library ends it once more,
            // and the server answers once more: from here on every answer would be taken for the
            // next one.
            client.cut();
            return Err(error);
        }
    };
    drop(statement);
    pin_mut!(sink);
    let mut chunk = BytesMut::with_capacity(COPY_CHUNK + 1_024);
    chunk.extend_from_slice(encode::COPY_HEAD);
    for row in rows {
        put(&mut chunk, *row);
        if chunk.len() >= COPY_CHUNK {
            sink.feed(chunk.split().freeze()).await?;
            chunk.reserve(COPY_CHUNK + 1_024);
        }
    }
    chunk.extend_from_slice(encode::COPY_END);
    sink.feed(chunk.freeze()).await?;
    sink.finish().await.map(Some)
}

/// Commits a transaction that was opened by hand.
pub(crate) async fn end_open(client: &Session) -> Result<(), Failed> {
    let is_sent = !client.is_closed();
    end((Ok(()), Ok(()), commit(client).await), is_sent)
}

async fn commit(client: &Session) -> Result<(), Error> {
    client.batch_execute("COMMIT").await
}

/// A COMMIT after a failed statement rolls back: the session is at rest whatever happened.
fn end<V>(
    (opened, value, committed): (Result<(), Error>, Result<V, Error>, Result<(), Error>),
    is_sent: bool,
) -> Result<V, Failed> {
    let failed = |error: Error, is_unknown| Failed::Server { error, is_unknown };
    // What the server refused before COMMIT was rolled back; where it said nothing, it may have
    // gone on to COMMIT.
    let before = |error: Error| {
        let is_unknown = is_sent && error.as_db_error().is_none();
        failed(error, is_unknown)
    };
    opened.map_err(before)?;
    let value = value.map_err(before)?;
    match committed {
        Ok(()) => Ok(value),
        // A server that shuts down may have committed before it said so.
        Err(error) => {
            let is_waiting = failure::kind_of(&error) == ErrorKind::Environment;
            Err(failed(error, is_sent && is_waiting))
        }
    }
}
