//! One batch: which rows are written, and the answer for each, from the server's own words.
//!
//! Rows are sorted by key and, within a key, by rank from the top, so that writers that work side
//! by side lock in one order and never deadlock. Of each key the best row is tried; one that the
//! server refuses leaves its place to the next.
//!
//! ```text
//! copy    rows that are probably new go straight into the table; one that is there already fails
//!         the whole statement, and the batch is merged instead
//! merge   one statement: compare with what is stored, insert the rest, guard against races;
//!         it answers how each row ranked, and how many were written
//! apart   a transaction with savepoints, halving: finds the rows that the server refuses
//! ```
//!
//! Each is one transaction. Nothing is counted that the server did not say.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use mds_core::{Batch, ErrorKind, Record, RowOutcome, SinkError, Value, WriteReport};
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyInSink, Error, Row};

use super::encode;
use super::failure;
use super::habit::Habit;
use super::pool::Conn;
use super::sql::{Sql, met};

/// Bytes of a COPY that are sent at once.
const COPY_CHUNK: usize = 64 * 1024;
/// How often rows are merged again after a race, at most.
const MOST_RACES: usize = 16;
/// The code of a unique key that is taken.
const UNIQUE_VIOLATION: &str = "23505";

/// The rows of a batch and what became of them.
pub(crate) struct Work<'a, R> {
    rows: Vec<&'a R>,
    outcomes: Vec<RowOutcome>,
    conflicts: u64,
    /// A commit was sent, and nobody has said yet whether it went through, or what it wrote.
    is_unknown: bool,
    /// Rows of one key, the best first; those before the cursor were refused.
    groups: Vec<Group>,
}

struct Group {
    positions: Vec<u32>,
    cursor: usize,
    is_done: bool,
}

impl Group {
    fn winner(&self) -> Option<u32> {
        self.positions.get(self.cursor).copied()
    }
}

/// Why a statement did not give answers.
enum Failed {
    /// The server refuses one or more of the rows.
    Rows(Error),
    /// No row is to blame.
    Store(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match failure::kind_of(&error) {
            ErrorKind::Rejected => Self::Rows(error),
            _ => Self::Store(error),
        }
    }
}

impl<'a, R: Record> Work<'a, R> {
    pub(crate) fn new<T: Borrow<R>>(batch: &'a Batch<T>) -> Self {
        let rows: Vec<&R> = batch.iter().map(Borrow::borrow).collect();
        let mut outcomes = vec![RowOutcome::NotTried; rows.len()];
        let mut order: Vec<u32> = Vec::with_capacity(rows.len());
        for (position, row) in (0_u32..).zip(&rows) {
            match not_storable(*row) {
                Some(rejected) => outcomes[position as usize] = rejected,
                None => order.push(position),
            }
        }
        let row = |position: &u32| rows[*position as usize];
        order.sort_unstable_by(|a, b| {
            let by_time = row(a).time().cmp(&row(b).time());
            let by_key = by_time.then_with(|| row(a).key_cmp(row(b)));
            let by_rank = by_key.then_with(|| row(b).rank_cmp(row(a)));
            by_rank.then(a.cmp(b))
        });
        let groups = order
            .chunk_by(|a, b| row(a).key_cmp(row(b)).is_eq())
            .map(|positions| Group {
                positions: positions.to_vec(),
                cursor: 0,
                is_done: false,
            })
            .collect();
        Self {
            rows,
            outcomes,
            conflicts: 0,
            is_unknown: false,
            groups,
        }
    }

    /// Writes until every row has an answer, or no row is to blame for an error.
    pub(crate) async fn run(
        mut self,
        conn: &mut Conn,
        sql: &Sql,
        habit: &Habit,
        dsn: &str,
    ) -> WriteReport {
        let mut error = None;
        loop {
            let winners: Vec<u32> = self
                .groups
                .iter()
                .filter(|group| !group.is_done)
                .filter_map(Group::winner)
                .collect();
            if winners.is_empty() {
                break;
            }
            if let Err(failed) = self.write(conn, sql, habit, &winners).await {
                let failed = failure::sink_error(dsn, failed);
                error = Some(if self.is_unknown {
                    failed.with_unknown_outcome()
                } else {
                    failed
                });
                break;
            }
            self.settle();
            let is_stuck =
                |position: &u32| self.outcomes[*position as usize] == RowOutcome::NotTried;
            if winners.iter().any(is_stuck) {
                break;
            }
        }
        if error.is_none() && self.outcomes.contains(&RowOutcome::NotTried) {
            let text = format!("{dsn}: others replaced the same rows again and again");
            error = Some(SinkError::new(ErrorKind::Transient, "CONTENDED", text));
        }
        self.answer(error)
    }

    fn answer(self, error: Option<SinkError>) -> WriteReport {
        WriteReport {
            outcomes: self.outcomes,
            conflicts: self.conflicts,
            error,
        }
    }

    /// Answers for the losers of keys that are decided; a refused winner leaves its place.
    fn settle(&mut self) {
        for group in &mut self.groups {
            let Some(winner) = group.winner().filter(|_| !group.is_done) else {
                continue;
            };
            match self.outcomes[winner as usize] {
                RowOutcome::Rejected { .. } => group.cursor += 1,
                RowOutcome::NotTried => {}
                _ => {
                    group.is_done = true;
                    let best = self.rows[winner as usize];
                    let superseded = self.outcomes[winner as usize] == RowOutcome::Superseded;
                    for loser in &group.positions[group.cursor + 1..] {
                        let row = self.rows[*loser as usize];
                        let is_equal = best.rank_cmp(row) == Ordering::Equal;
                        self.conflicts += u64::from(!is_equal && best.revision() == row.revision());
                        self.outcomes[*loser as usize] = if is_equal && !superseded {
                            RowOutcome::Same
                        } else {
                            RowOutcome::Superseded
                        };
                    }
                }
            }
        }
    }

    async fn write(
        &mut self,
        conn: &mut Conn,
        sql: &Sql,
        habit: &Habit,
        winners: &[u32],
    ) -> Result<(), Error> {
        if habit.copies(winners.len()) {
            match self.copy(conn, sql, winners).await {
                Ok(rows) => {
                    habit.copied();
                    if usize::try_from(rows) != Ok(winners.len()) {
                        return self.left_out(conn, sql, winners).await;
                    }
                    for position in winners {
                        self.outcomes[*position as usize] = RowOutcome::Written;
                    }
                    return Ok(());
                }
                Err(Failed::Store(error)) => return Err(error),
                Err(Failed::Rows(error)) => {
                    if failure::code_of(&error) == UNIQUE_VIOLATION {
                        habit.met_stored();
                    }
                }
            }
        }
        match self.merge(conn, sql, winners).await {
            Ok(merged) => {
                habit.merged(merged, winners.len());
                Ok(())
            }
            Err(Failed::Store(error)) => Err(error),
            Err(Failed::Rows(_)) => self.apart(conn, sql, winners).await,
        }
    }

    /// Copies rows, and answers how many of them there are now.
    async fn copy(&mut self, conn: &mut Conn, sql: &Sql, winners: &[u32]) -> Result<u64, Failed> {
        let statement = conn.prepared(&sql.copy).await?;
        let sink = conn.client.copy_in(&statement).await?;
        futures_util::pin_mut!(sink);
        let mut chunk = BytesMut::with_capacity(COPY_CHUNK + 1_024);
        chunk.extend_from_slice(encode::COPY_HEAD);
        for position in winners {
            encode::put_row(&mut chunk, self.rows[*position as usize]);
            if chunk.len() >= COPY_CHUNK {
                sink.feed(chunk.split().freeze()).await?;
                chunk.reserve(COPY_CHUNK + 1_024);
            }
        }
        chunk.extend_from_slice(encode::COPY_END);
        sink.feed(chunk.freeze()).await?;
        self.is_unknown = true;
        let committed = finish(sink).await;
        self.is_unknown = committed.as_ref().is_err_and(is_unanswered);
        Ok(committed?)
    }

    /// A trigger left rows out of a copy: finds which.
    async fn left_out(&mut self, conn: &mut Conn, sql: &Sql, winners: &[u32]) -> Result<(), Error> {
        let rows: Vec<&R> = winners.iter().map(|p| self.rows[*p as usize]).collect();
        let columns = encode::columns_of(&rows);
        let params: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
        self.is_unknown = true;
        let statement = conn.prepared(&sql.compare).await?;
        let there = conn.client.query(&statement, &params).await?;
        let there: HashSet<i32> = there
            .iter()
            .map(|r| r.try_get(0))
            .collect::<Result<_, _>>()?;
        for (ordinal, position) in (1..).zip(winners) {
            self.outcomes[*position as usize] = if there.contains(&ordinal) {
                RowOutcome::Written
            } else {
                ignored()
            };
        }
        self.is_unknown = false;
        Ok(())
    }

    /// Merges rows until each has its answer: rows of which somebody else replaced the stored one at
    /// the same moment are merged again.
    async fn merge(
        &mut self,
        conn: &mut Conn,
        sql: &Sql,
        winners: &[u32],
    ) -> Result<usize, Failed> {
        let (mut met, mut again) = self.merge_once(conn, sql, winners).await?;
        for _ in 0..MOST_RACES {
            if again.is_empty() {
                return Ok(met);
            }
            let rows = std::mem::take(&mut again);
            (met, again) = self.merge_once(conn, sql, &rows).await?;
        }
        // They stay without an answer, and the batch comes again.
        Ok(met)
    }

    /// Merges rows in one statement, which is a transaction of its own unless one is open; answers
    /// how many met a stored row, and which must be merged again.
    async fn merge_once(
        &mut self,
        conn: &mut Conn,
        sql: &Sql,
        winners: &[u32],
    ) -> Result<(usize, Vec<u32>), Failed> {
        let rows: Vec<&R> = winners.iter().map(|p| self.rows[*p as usize]).collect();
        let columns = encode::columns_of(&rows);
        let params: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
        let statement = conn.prepared(&sql.merge).await?;
        // Nothing is sent on a connection that is closed.
        self.is_unknown = !conn.client.is_closed();
        let answer = conn.client.query_one(&statement, &params).await;
        self.is_unknown &= answer.as_ref().is_err_and(is_unanswered);
        let merged = Merged::read(&answer?)?;
        let mut classes = vec![met::NEW; rows.len()];
        for (ordinal, class) in merged.ordinals.iter().zip(&merged.classes) {
            let place = usize::try_from(*ordinal)
                .ok()
                .and_then(|o| o.checked_sub(1));
            if let Some(place) = place.and_then(|place| classes.get_mut(place)) {
                *place = *class;
            }
        }
        let expected = classes.iter().filter(|c| **c < met::SAME).count();
        if usize::try_from(merged.written) != Ok(expected) {
            // Whatever becomes of the look: the rows may be there.
            self.is_unknown = true;
            self.raced(
                conn,
                sql,
                &params,
                winners,
                &mut classes,
                merged.xid.as_deref(),
            )
            .await?;
            self.is_unknown = false;
        }
        let mut again = Vec::new();
        for (position, class) in winners.iter().zip(&classes) {
            if *class == met::AGAIN {
                again.push(*position);
                continue;
            }
            self.conflicts +=
                u64::from(matches!(*class, met::LOWER_CONFLICT | met::HIGHER_CONFLICT));
            self.outcomes[*position as usize] = match *class {
                met::NEW | met::LOWER | met::LOWER_CONFLICT => RowOutcome::Written,
                met::SAME => RowOutcome::Same,
                met::IGNORED => ignored(),
                _ => RowOutcome::Superseded,
            };
        }
        Ok((merged.met, again))
    }

    /// Somebody else wrote one of the keys at the same time, or a trigger left a row out: looks
    /// again which rows are there, and which of them this transaction wrote.
    async fn raced(
        &self,
        conn: &mut Conn,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
        winners: &[u32],
        classes: &mut [i16],
        xid: Option<&str>,
    ) -> Result<(), Failed> {
        let statement = conn.prepared(&sql.compare).await?;
        let mut now = vec![met::IGNORED; winners.len()];
        for row in conn.client.query(&statement, params).await? {
            let (ordinal, class, by): (i32, i16, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let Some(place) = usize::try_from(ordinal)
                .ok()
                .and_then(|ordinal| now.get_mut(ordinal.wrapping_sub(1)))
            else {
                continue;
            };
            let ours = xid.is_some_and(|xid| is_xid(xid, &by));
            *place = if class == met::SAME && ours {
                met::NEW
            } else {
                class
            };
        }
        for (class, now) in classes.iter_mut().zip(now) {
            if *class < met::SAME {
                // What was lower and is ours now keeps its word on conflicts.
                *class = match now {
                    met::NEW => *class,
                    // Somebody else has put another lower one there.
                    met::LOWER | met::LOWER_CONFLICT => met::AGAIN,
                    // Somebody has deleted the stored one meanwhile.
                    met::IGNORED if *class != met::NEW => met::AGAIN,
                    other => other,
                };
            }
        }
        Ok(())
    }

    /// Halves until the rows that the server refuses stand alone; one transaction.
    async fn apart(&mut self, conn: &mut Conn, sql: &Sql, winners: &[u32]) -> Result<(), Error> {
        conn.client.batch_execute("BEGIN").await?;
        let mut result = self.halve(conn, sql, winners).await;
        // Of what happened within the transaction nothing stays but by its commit.
        self.is_unknown = false;
        if result.is_ok() {
            self.is_unknown = !conn.client.is_closed();
            result = conn.client.batch_execute("COMMIT").await;
            self.is_unknown &= result.as_ref().is_err_and(is_unanswered);
        }
        let Err(error) = result else {
            return Ok(());
        };
        // Nothing of it counts, not even where the answer to COMMIT was lost: the rows come again,
        // and then it shows what was kept.
        for position in winners {
            self.outcomes[*position as usize] = RowOutcome::NotTried;
        }
        // A connection that cannot even roll back is dropped.
        if conn.client.batch_execute("ROLLBACK").await.is_err() {
            conn.broken = true;
        }
        Err(error)
    }

    async fn halve(&mut self, conn: &mut Conn, sql: &Sql, winners: &[u32]) -> Result<(), Error> {
        let mut parts: Vec<&[u32]> = vec![winners];
        // The whole was refused a moment ago.
        let mut is_first = true;
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            if !(is_first && part.len() > 1) {
                conn.client.batch_execute("SAVEPOINT part").await?;
                match self.merge(conn, sql, part).await {
                    Ok(_) => {
                        conn.client.batch_execute("RELEASE SAVEPOINT part").await?;
                        continue;
                    }
                    Err(Failed::Store(error)) => return Err(error),
                    Err(Failed::Rows(error)) => {
                        conn.client
                            .batch_execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
                            .await?;
                        if let [alone] = part {
                            self.outcomes[*alone as usize] = RowOutcome::Rejected {
                                code: failure::code_of(&error),
                                reason: failure::text_of(&error),
                            };
                            continue;
                        }
                    }
                }
            }
            is_first = false;
            let (left, right) = part.split_at(part.len() / 2);
            parts.extend([right, left]);
        }
        Ok(())
    }
}

/// What a merge answers.
struct Merged {
    written: i64,
    ordinals: Vec<i32>,
    classes: Vec<i16>,
    xid: Option<String>,
    met: usize,
}

impl Merged {
    fn read(row: &Row) -> Result<Self, Error> {
        let ordinals: Vec<i32> = row.try_get(1)?;
        Ok(Self {
            written: row.try_get(0)?,
            met: ordinals.len(),
            ordinals,
            classes: row.try_get(2)?,
            xid: row.try_get(3)?,
        })
    }
}

/// Ends a COPY and waits until its transaction is committed.
async fn finish(mut sink: Pin<&mut CopyInSink<Bytes>>) -> Result<u64, Error> {
    let rows = sink.as_mut().finish().await?;
    // That was the answer for the rows. What comes next is the one for the transaction: an error
    // (of a deferred constraint, of a server that goes down), or that the server is ready, for
    // which the library has no word here.
    match sink.finish().await {
        Err(error) if !failure::is_unexpected_message(&error) => Err(error),
        _ => Ok(rows),
    }
}

/// The server did not get to say what became of the statement.
fn is_unanswered(error: &Error) -> bool {
    error.as_db_error().is_none()
}

/// Whether the 32 bits of a row's `xmin` are those of a transaction's 64-bit number.
fn is_xid(full: &str, xmin: &str) -> bool {
    let (Ok(full), Ok(xmin)) = (full.parse::<u64>(), xmin.parse::<u64>()) else {
        return false;
    };
    full & 0xffff_ffff == xmin
}

/// Why the server could never hold the row, where that can be told without asking it.
fn not_storable<R: Record>(row: &R) -> Option<RowOutcome> {
    let columns = R::COLUMNS.iter().enumerate();
    columns.into_iter().find_map(|(index, column)| {
        let what = match row.value(index) {
            Value::Float(number) if number.is_nan() => "is not a number (NaN)",
            Value::Text(text) if text.contains('\0') => "has a NUL character",
            Value::Symbols(symbols) if symbols.iter().any(|s| s.as_str().contains('\0')) => {
                "has a NUL character"
            }
            _ => return None,
        };
        Some(RowOutcome::Rejected {
            code: "NOT_STORABLE".to_owned(),
            reason: format!("{} {what}, which cannot be stored", column.name),
        })
    })
}

fn ignored() -> RowOutcome {
    RowOutcome::Rejected {
        code: "IGNORED".to_owned(),
        reason: "a trigger or a rule of the database left the row out".to_owned(),
    }
}
