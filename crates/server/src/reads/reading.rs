//! The rows behind a cursor, a chunk at a time.
//!
//! The store knows queries by time only. Behind a cursor that is two of them: what is left of the moment
//! of its row, where the rows up to it are left out, and everything behind that moment. Both are bounded
//! for the store, so that it never sorts more than it has to.

use std::time::Duration;

use mds_core::{Record, Timestamp};
use mds_store::{Chunks, Order, Query, Store, StoreError, StoredRecord};

use crate::problem::{Code, Problem};

/// How long the store may take for the next chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);
/// When to come again.
const LATER: Duration = Duration::from_secs(5);

/// The answer to a query. Dropping it ends the query.
#[derive(Debug)]
pub(super) struct Reading<R> {
    store: Store,
    /// What was not asked yet; the next one is the last.
    queries: Vec<Query>,
    chunks: Option<Chunks<R>>,
    order: Order,
    /// Rows up to this one were given already.
    after: Option<R>,
}

impl<R: StoredRecord> Reading<R> {
    pub(super) fn new(store: &Store, query: Query, after: Option<R>) -> Self {
        let order = query.order;
        let queries = match after.as_ref().map(Record::time) {
            None => vec![query],
            Some(time) => behind(&query, time).into(),
        };
        Self {
            store: store.clone(),
            queries,
            chunks: None,
            order,
            after,
        }
    }

    /// The next rows, none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<R>, Problem> {
        loop {
            if self.chunks.is_none() {
                let Some(query) = self.queries.pop() else {
                    return Ok(Vec::new());
                };
                self.chunks = Some(self.store.query(query));
            }
            let Some(chunks) = &mut self.chunks else {
                continue;
            };
            match answer_of_store(async { chunks.next().await.transpose() }).await? {
                None => self.chunks = None,
                Some(mut chunk) => {
                    chunk.retain(|row| self.is_behind(row));
                    if !chunk.is_empty() {
                        return Ok(chunk);
                    }
                }
            }
        }
    }

    fn is_behind(&self, row: &R) -> bool {
        self.after.as_ref().is_none_or(|after| match self.order {
            Order::OldestFirst => row.key_cmp(after).is_gt(),
            Order::NewestFirst => row.key_cmp(after).is_lt(),
        })
    }
}

/// The queries for what stands behind a row of the time `time`, the first one last.
fn behind(query: &Query, time: Timestamp) -> [Query; 2] {
    let next = Timestamp::from_micros(time.micros().saturating_add(1));
    let not_before = |time: Timestamp| Some(query.start.map_or(time, |start| start.max(time)));
    let before = |time: Timestamp| Some(query.end.map_or(time, |end| end.min(time)));
    let of_the_moment = Query {
        start: not_before(time),
        end: before(next),
        // How many of them are left out is not known.
        limit: None,
        ..query.clone()
    };
    let rest = match query.order {
        Order::OldestFirst => Query {
            start: not_before(next),
            ..query.clone()
        },
        Order::NewestFirst => Query {
            end: before(time),
            ..query.clone()
        },
    };
    [rest, of_the_moment]
}

/// What the store answers, within reason.
pub(super) async fn answer_of_store<V>(
    answer: impl Future<Output = Result<V, StoreError>>,
) -> Result<V, Problem> {
    if let Ok(answer) = tokio::time::timeout(CHUNK_TIMEOUT, answer).await {
        return answer.map_err(|error| unreadable(&error));
    }
    let limit = CHUNK_TIMEOUT.as_secs();
    let detail = format!("the store did not answer within {limit} s; ask for less at once");
    Err(Problem::new(Code::StoreUnavailable, detail).retry_after(LATER))
}

fn unreadable(error: &StoreError) -> Problem {
    use mds_core::ErrorKind::{Environment, Transient};
    let mut what = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        what.push_str(": ");
        what.push_str(&cause.to_string());
        source = cause.source();
    }
    if matches!(error.kind(), Environment | Transient) {
        return Problem::new(Code::StoreUnavailable, what).retry_after(LATER);
    }
    tracing::error!(error = what, "the store cannot be read");
    Problem::new(Code::Internal, what)
}
