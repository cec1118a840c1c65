//! One batch inside a transaction: which rows are written, and the answer for each.
//!
//! Rows are taken in the order of the table, and of one key in the order of rank from the top. The
//! first that the store accepts, or to which it has an equal or better one, decides the key; a row
//! that the store refuses leaves its place to the next.
//!
//! Which of two rows ranks higher is decided by `Record::rank_cmp` alone. Reading the stored row
//! and replacing it are two statements, but the transaction holds the write lock from its start.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::marker::PhantomData;

use mds_core::{Batch, RowOutcome, WriteReport};
use rusqlite::{CachedStatement, Connection};
use tokio::sync::oneshot;

use super::codes::{self, Class};
use super::failure::Failure;
use super::intern::Intern;
use super::layout::{Binder, Layout, Sql, bucket_of};

/// `SQLITE_CONSTRAINT_TRIGGER`: a trigger said RAISE.
const RAISED: i32 = 1811;
/// Rows in a row that must have been there, or not, before the first question is changed.
const HABIT_LIMIT: i8 = 16;

/// Whether rows are mostly new (ask by inserting) or mostly stored already (ask by selecting).
/// A replay then writes nothing at all, not even a statement that changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habit(i8);

impl Habit {
    const fn select_first(self) -> bool {
        self.0 > 0
    }

    fn saw(&mut self, stored: bool) {
        let step = if stored { 1 } else { -1 };
        self.0 = (self.0 + step).clamp(-HABIT_LIMIT, HABIT_LIMIT);
    }
}

/// What a batch needs of the transaction that it is written in.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) intern: &'a mut Intern,
    pub(crate) habits: &'a mut [Habit; 4],
    pub(crate) sql: &'a [Sql; 4],
    /// The greatest revision written.
    pub(crate) revision: i64,
}

/// Why a batch stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A row took the transaction with it, or left a trace although it was refused. The row is
    /// noted; the transaction is to be done again without it.
    Again,
    /// No row is to blame.
    Failed(rusqlite::Error),
}

/// A batch of any kind.
pub(crate) trait WriteJob: Send {
    /// How many rows.
    fn rows(&self) -> usize;
    /// Writes the rows; may be called again after a rollback.
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), Stop>;
    /// The transaction was committed.
    fn committed(self: Box<Self>);
    /// The transaction had no effect, or an unknown one.
    fn failed(self: Box<Self>, failure: &Failure);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RowsJob<R, T> {
    batch: Batch<T>,
    reply: oneshot::Sender<WriteReport>,
    outcomes: Vec<RowOutcome>,
    conflicts: u64,
    /// Rows that are not tried again: they took a transaction with them.
    refused: HashMap<u32, RowOutcome>,
    record: PhantomData<fn() -> R>,
}

impl<R, T> RowsJob<R, T> {
    pub(crate) fn new(batch: Batch<T>, reply: oneshot::Sender<WriteReport>) -> Self {
        Self {
            batch,
            reply,
            outcomes: Vec::new(),
            conflicts: 0,
            refused: HashMap::new(),
            record: PhantomData,
        }
    }
}

/// Where a row goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    bucket: i64,
    series: i64,
    time: i64,
    row: u32,
}

impl Place {
    const fn order(&self) -> (i64, i64, i64) {
        (self.bucket, self.series, self.time)
    }
}

impl<R: Layout, T: Borrow<R> + Send + Sync + 'static> WriteJob for RowsJob<R, T> {
    fn rows(&self) -> usize {
        self.batch.len()
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), Stop> {
        self.outcomes.clear();
        self.outcomes.resize(self.batch.len(), RowOutcome::NotTried);
        self.conflicts = 0;
        let batch = self.batch.clone();
        let rows: Vec<&R> = batch.iter().map(Borrow::borrow).collect();
        let places = self.places(&rows, tx)?;
        let mut table = Table::<R>::prepare(tx).map_err(Stop::Failed)?;
        for group in places.chunk_by(|a, b| a.order() == b.order() && same_key(&rows, a, b)) {
            self.settle(&rows, group, tx, &mut table)?;
        }
        Ok(())
    }

    fn committed(self: Box<Self>) {
        let report = WriteReport {
            outcomes: self.outcomes,
            conflicts: self.conflicts,
            error: None,
        };
        // Nobody waits any more: the answer has no use.
        drop(self.reply.send(report));
    }

    fn failed(self: Box<Self>, failure: &Failure) {
        let report = WriteReport::failed(self.batch.len(), failure.to_sink_error());
        drop(self.reply.send(report));
    }
}

fn same_key<R: Layout>(rows: &[&R], a: &Place, b: &Place) -> bool {
    rows[a.row as usize].key_cmp(rows[b.row as usize]).is_eq()
}

impl<R: Layout, T: Borrow<R> + Send + Sync + 'static> RowsJob<R, T> {
    /// The places of all rows, in the order in which they are tried.
    fn places(&mut self, rows: &[&R], tx: &mut Tx<'_>) -> Result<Vec<Place>, Stop> {
        let mut places = Vec::with_capacity(rows.len());
        for (row, record) in (0_u32..).zip(rows) {
            if let Some(refused) = self.refused.get(&row) {
                self.outcomes[row as usize] = refused.clone();
                continue;
            }
            let time = record.time().micros();
            let found = tx.intern.series(tx.conn, *record).and_then(|series| {
                let bucket = bucket_of(time, series.bucket_micros);
                tx.intern.extent(tx.conn, series.id, bucket)?;
                Ok((series.id, bucket))
            });
            match found {
                Ok((series, bucket)) => places.push(Place {
                    bucket,
                    series,
                    time,
                    row,
                }),
                Err(error) => self.outcomes[row as usize] = self.refuse(row, error, tx.conn)?,
            }
        }
        places.sort_unstable_by(|a, b| {
            a.order().cmp(&b.order()).then_with(|| {
                let (x, y) = (rows[a.row as usize], rows[b.row as usize]);
                let by_rank = || y.rank_cmp(x).then(a.row.cmp(&b.row));
                x.key_cmp(y).then_with(by_rank)
            })
        });
        Ok(places)
    }

    /// Answers for the rows of one key, which are in the order of rank from the top.
    fn settle(
        &mut self,
        rows: &[&R],
        group: &[Place],
        tx: &mut Tx<'_>,
        table: &mut Table<'_, R>,
    ) -> Result<(), Stop> {
        let mut winner: Option<u32> = None;
        for place in group {
            let record = rows[place.row as usize];
            let outcome = if let Some(winner) = winner {
                let best = rows[winner as usize];
                let is_equal = best.rank_cmp(record) == Ordering::Equal;
                let is_conflict = !is_equal && best.revision() == record.revision();
                self.conflicts += u64::from(is_conflict);
                // Not `Same`, which after a lost answer would say that it was written.
                RowOutcome::Superseded
            } else {
                match self.write(record, place, tx, table)? {
                    rejected @ RowOutcome::Rejected { .. } => rejected,
                    settled => {
                        winner = Some(place.row);
                        settled
                    }
                }
            };
            self.outcomes[place.row as usize] = outcome;
        }
        Ok(())
    }

    /// Writes one row, unless the store has its equal or better.
    fn write(
        &mut self,
        record: &R,
        place: &Place,
        tx: &mut Tx<'_>,
        table: &mut Table<'_, R>,
    ) -> Result<RowOutcome, Stop> {
        let habit = &mut tx.habits[R::KIND as usize];
        let result = table.put(record, place, habit.select_first());
        match result {
            Ok(put) => {
                habit.saw(put.stored);
                self.conflicts += u64::from(put.conflict);
                if put.outcome == RowOutcome::Written {
                    tx.revision = tx.revision.max(record.revision());
                }
                Ok(put.outcome)
            }
            Err(error) => {
                let raised = matches!(&error, rusqlite::Error::SqliteFailure(e, _) if e.extended_code == RAISED);
                let rejected = self.refuse(place.row, error, tx.conn)?;
                // RAISE(FAIL) refuses a row and leaves it in the table.
                if raised && table.holds(record, place).map_err(Stop::Failed)? {
                    self.refused.insert(place.row, rejected);
                    return Err(Stop::Again);
                }
                Ok(rejected)
            }
        }
    }

    /// The answer for a row that met `error`, unless the row is not to blame.
    fn refuse(
        &mut self,
        row: u32,
        error: rusqlite::Error,
        conn: &Connection,
    ) -> Result<RowOutcome, Stop> {
        if codes::classify(&error) != Class::Row {
            return Err(Stop::Failed(error));
        }
        let rejected = RowOutcome::Rejected {
            code: codes::code(&error).into_owned(),
            reason: error.to_string(),
        };
        // RAISE(ROLLBACK) ends the whole transaction.
        if conn.is_autocommit() {
            self.refused.insert(row, rejected);
            return Err(Stop::Again);
        }
        Ok(rejected)
    }
}

/// What became of one row.
struct Put {
    outcome: RowOutcome,
    /// Whether the key was stored before.
    stored: bool,
    conflict: bool,
}

/// The statements of one kind, prepared.
struct Table<'c, R> {
    insert: CachedStatement<'c>,
    select: CachedStatement<'c>,
    update: CachedStatement<'c>,
    record: PhantomData<fn() -> R>,
}

impl<'c, R: Layout> Table<'c, R> {
    fn prepare(tx: &Tx<'c>) -> rusqlite::Result<Self> {
        let sql = &tx.sql[R::KIND as usize];
        Ok(Self {
            insert: tx.conn.prepare_cached(&sql.insert)?,
            select: tx.conn.prepare_cached(&sql.select)?,
            update: tx.conn.prepare_cached(&sql.update)?,
            record: PhantomData,
        })
    }

    fn put(&mut self, record: &R, place: &Place, select_first: bool) -> rusqlite::Result<Put> {
        if select_first {
            if let Some(stored) = self.stored(record, place)? {
                return self.replace(record, place, &stored);
            }
            if self.insert(record, place)? {
                return Ok(Put {
                    outcome: RowOutcome::Written,
                    stored: false,
                    conflict: false,
                });
            }
            return Ok(ignored());
        }
        if self.insert(record, place)? {
            return Ok(Put {
                outcome: RowOutcome::Written,
                stored: false,
                conflict: false,
            });
        }
        match self.stored(record, place)? {
            Some(stored) => self.replace(record, place, &stored),
            None => Ok(ignored()),
        }
    }

    /// Inserts; false where the key is taken.
    fn insert(&mut self, record: &R, place: &Place) -> rusqlite::Result<bool> {
        let mut to = Binder::new(&mut self.insert);
        to.put(place.bucket)?;
        to.put(place.series)?;
        record.bind_key(&mut to)?;
        record.bind_values(&mut to)?;
        to.put(record.revision())?;
        Ok(self.insert.raw_execute()? > 0)
    }

    /// The stored row of the key of `record`.
    fn stored(&mut self, record: &R, place: &Place) -> rusqlite::Result<Option<R>> {
        let mut to = Binder::new(&mut self.select);
        to.put(place.bucket)?;
        to.put(place.series)?;
        record.bind_key(&mut to)?;
        let mut rows = self.select.raw_query();
        match rows.next()? {
            Some(row) => R::read(&record.series(), row, 0).map(Some),
            None => Ok(None),
        }
    }

    /// Replaces the stored row where `record` ranks higher.
    fn replace(&mut self, record: &R, place: &Place, stored: &R) -> rusqlite::Result<Put> {
        let order = record.rank_cmp(stored);
        let outcome = match order {
            Ordering::Less => RowOutcome::Superseded,
            Ordering::Equal => RowOutcome::Same,
            Ordering::Greater => {
                let mut to = Binder::new(&mut self.update);
                record.bind_values(&mut to)?;
                to.put(record.revision())?;
                to.put(place.bucket)?;
                to.put(place.series)?;
                record.bind_key(&mut to)?;
                if self.update.raw_execute()? == 0 {
                    return Ok(ignored());
                }
                RowOutcome::Written
            }
        };
        Ok(Put {
            outcome,
            stored: true,
            conflict: order.is_ne() && record.revision() == stored.revision(),
        })
    }

    /// Whether the table holds exactly `record`.
    fn holds(&mut self, record: &R, place: &Place) -> rusqlite::Result<bool> {
        let stored = self.stored(record, place)?;
        Ok(stored.is_some_and(|s| s.rank_cmp(record).is_eq()))
    }
}

/// A statement that neither failed nor did anything: a trigger said RAISE(IGNORE).
fn ignored() -> Put {
    Put {
        outcome: RowOutcome::Rejected {
            code: "IGNORED_BY_TRIGGER".to_owned(),
            reason: "a trigger of the table ignored the row".to_owned(),
        },
        stored: false,
        conflict: false,
    }
}
