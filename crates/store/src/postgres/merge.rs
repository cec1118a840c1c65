//! One batch: which rows are written, and the answer for each, from the server's own words.
//!
//! Rows are sorted by key and, within a key, by rank from the top, and every statement takes them
//! in that order, so that writers that work side by side never wait for each other in a circle. Of
//! each key the best row is tried; one that the server refuses leaves its place to the next.
//!
//! ```text
//! copy      rows that are probably new go straight into the table; one that is there already
//!           fails the whole statement, and the batch is compared instead
//! compare   the stored rows at the same times are read; what changes nothing is answered without
//!           a write, what is lower is replaced where it is, what is new is copied
//! merge     one statement: looks every key up, inserts the rest, guards against races; for few
//!           rows, for rows among many others, and where a race was lost
//! apart     a transaction with savepoints, halving: finds the rows that the server refuses
//! ```
//!
//! Each statement is a transaction of its own, but those of the last. Nothing is counted that the
//! server did not say.

use std::cmp::Ordering;
use std::sync::atomic::AtomicBool;

use mds_core::{ErrorKind, Record, RowOutcome, SinkError, Value, WriteReport};
use tokio_postgres::{Error, Row};

use super::connect::Session;
use super::encode;
use super::habit::Habit;
use super::sql::{self, Sql, met};
use super::stored::{self, Compared, Look, Place};
use super::transaction::{self, Failed};

/// Rows below which one merge is the quickest way.
const FEWEST_TOGETHER: usize = 64;
/// Rows that are worth a transaction of their own where a batch is replaced in parts.
const ROWS_PER_PART: usize = 500;
/// Parts in which a batch is replaced, at most.
const MOST_PARTS: usize = 6;
/// How often rows are merged after a race, at most.
const MOST_RACES: usize = 16;
/// How often a row may be missed while the stored one stays as it is: that is no race.
const MOST_MISSES: u32 = 2;

/// What a batch is written with.
pub(crate) struct On<'a> {
    pub(crate) client: &'a Session,
    pub(crate) sql: &'a Sql,
    pub(crate) habit: &'a Habit,
    /// The text that opens a transaction.
    pub(crate) opening: &'a str,
    /// Row security binds the role: COPY is not ours to use.
    pub(crate) is_bound: bool,
    /// The table is one table, so that a place in it says which row is there.
    pub(crate) has_places: bool,
    /// The session is in the middle of a transaction that could not be ended.
    pub(crate) is_broken: AtomicBool,
}

/// The rows of a batch and what became of them.
pub(crate) struct Work<'a, R> {
    rows: Vec<&'a R>,
    outcomes: Vec<RowOutcome>,
    /// Whether the row met another one of its revision.
    conflicts: Vec<bool>,
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

impl<'a, R: Record> Work<'a, R> {
    pub(crate) fn new(rows: Vec<&'a R>, is_sorted: bool) -> Self {
        let mut outcomes = vec![RowOutcome::NotTried; rows.len()];
        let conflicts = vec![false; rows.len()];
        let mut order: Vec<u32> = Vec::with_capacity(rows.len());
        for (position, row) in (0_u32..).zip(&rows) {
            match not_storable(*row) {
                Some(rejected) => outcomes[position as usize] = rejected,
                None => order.push(position),
            }
        }
        let row = |position: &u32| rows[*position as usize];
        if is_sorted {
            order.sort_unstable_by(|a, b| {
                let by_key = sql::key_cmp(row(a), row(b));
                let by_rank = by_key.then_with(|| row(b).rank_cmp(row(a)));
                by_rank.then(a.cmp(b))
            });
        }
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
            conflicts,
            groups,
        }
    }

    /// Writes until every row has an answer, or no row is to blame for an error.
    pub(crate) async fn run(mut self, on: &On<'_>, dsn: &str) -> WriteReport {
        let mut error = None;
        loop {
            let open = self.groups.iter().filter(|group| !group.is_done);
            let winners: Vec<u32> = open.filter_map(Group::winner).collect();
            if winners.is_empty() {
                break;
            }
            let written = self.write(on, &winners).await;
            self.settle();
            if let Err(failed) = written {
                error = Some(failed.into_sink_error(dsn));
                break;
            }
            if !self.open_of(&winners).is_empty() {
                let text = format!("{dsn}: others replaced the same rows again and again");
                error = Some(SinkError::new(ErrorKind::Transient, "CONTENDED", text));
                break;
            }
        }
        let answered = self.outcomes.iter().zip(&self.conflicts);
        let conflicts = answered.filter(|(o, is)| **is && **o != RowOutcome::NotTried);
        WriteReport {
            conflicts: conflicts.count() as u64,
            outcomes: self.outcomes,
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
                    for loser in &group.positions[group.cursor + 1..] {
                        let row = self.rows[*loser as usize];
                        let is_equal = best.rank_cmp(row) == Ordering::Equal;
                        self.conflicts[*loser as usize] |=
                            !is_equal && best.revision() == row.revision();
                        // Not `Same`, which after a lost answer would say that it was written.
                        self.outcomes[*loser as usize] = RowOutcome::Superseded;
                    }
                }
            }
        }
    }

    async fn write(&mut self, on: &On<'_>, winners: &[u32]) -> Result<(), Failed> {
        let written = if winners.len() < FEWEST_TOGETHER {
            self.merge(on, Some(on.opening), winners).await
        } else if on.habit.is_new() {
            self.write_new(on, winners).await
        } else if on.habit.is_dense() {
            self.write_compared(on, winners).await
        } else {
            self.merge(on, Some(on.opening), winners).await
        };
        match written {
            Err(failed) if failed.is_of_rows() => {
                self.apart(on, &self.open_of(winners), failed).await
            }
            other => other,
        }
    }

    /// Those that have no answer yet.
    fn open_of(&self, winners: &[u32]) -> Vec<u32> {
        let is_open = |p: &&u32| self.outcomes[**p as usize] == RowOutcome::NotTried;
        winners.iter().filter(is_open).copied().collect()
    }

    /// Rows that are probably new go straight into the table; where one is there already, all of
    /// them are merged.
    async fn write_new(&mut self, on: &On<'_>, winners: &[u32]) -> Result<(), Failed> {
        if on.is_bound {
            return self.merge(on, Some(on.opening), winners).await;
        }
        if self.copy(on, winners).await? {
            on.habit.copied();
            return Ok(());
        }
        on.habit.met_stored();
        if on.habit.is_dense() {
            self.write_compared(on, winners).await
        } else {
            self.merge(on, Some(on.opening), winners).await
        }
    }

    /// Reads what is stored at the times of these rows, answers for those that change nothing,
    /// replaces the lower ones where they are, and copies the rest.
    async fn write_compared(&mut self, on: &On<'_>, winners: &[u32]) -> Result<(), Failed> {
        let rows: Vec<&R> = winners.iter().map(|p| self.rows[*p as usize]).collect();
        let look = Look::new(&rows, on.has_places);
        let compared = stored::compare(on.client, on.opening, &look, &rows).await?;
        let Some(compared) = compared else {
            on.habit.met_others();
            return self.merge(on, Some(on.opening), winners).await;
        };
        let is_met = |class: &&i16| **class != met::NEW;
        let met = compared.classes.iter().filter(is_met).count();
        on.habit.looked(met);
        // By their numbers, which are in the order of keys.
        let (mut new, mut lower) = (Vec::new(), Vec::new());
        for (number, class) in compared.classes.iter().enumerate() {
            match (*class, compared.places[number]) {
                (met::LOWER | met::LOWER_CONFLICT, Some(place)) => lower.push((number, place)),
                (met::NEW | met::LOWER | met::LOWER_CONFLICT, _) => new.push(number),
                (class, _) => self.settle_class(winners[number], class),
            }
        }
        let mut rest = self.replace(on, winners, &lower, &compared).await?;
        let positions: Vec<u32> = new.iter().map(|number| winners[*number]).collect();
        let is_copied = new.len() >= FEWEST_TOGETHER
            && on.has_places
            && !on.is_bound
            && self.copy(on, &positions).await?;
        if !is_copied {
            rest.append(&mut new);
        }
        if rest.is_empty() {
            return Ok(());
        }
        rest.sort_unstable();
        let rest: Vec<u32> = rest.into_iter().map(|number| winners[number]).collect();
        self.merge(on, Some(on.opening), &rest).await
    }

    /// Replaces lower rows where they were seen; answers which somebody else has touched since.
    ///
    /// In several transactions, each with every n-th row: what one of them leaves behind on a page
    /// makes room for the next, so that most new versions stay on their page and the index is left
    /// alone (a third quicker and half the log). Only the last waits for the disk, and nothing is
    /// answered before. One that writes anything has met the server that was there for the look, so
    /// that all before it are on disk with it.
    async fn replace(
        &mut self,
        on: &On<'_>,
        winners: &[u32],
        lower: &[(usize, Place)],
        compared: &Compared,
    ) -> Result<Vec<usize>, Failed> {
        let parts = (lower.len() / ROWS_PER_PART).clamp(1, MOST_PARTS);
        let (mut written, mut missed) = (Vec::new(), Vec::new());
        let unsynced = transaction::unsynced(on.opening);
        let the_same = sql::is_same_run(compared.validity);
        let mut is_synced = true;
        for part in 0..parts.min(lower.len()) {
            let numbers = || lower.iter().skip(part).step_by(parts);
            let rows: Vec<(&R, Place)> = numbers()
                .map(|(number, place)| (self.rows[winners[*number] as usize], *place))
                .collect();
            let is_last = part + 1 == parts;
            let opening = if is_last { on.opening } else { &unsynced };
            match stored::replace(on.client, opening, &rows, compared).await {
                Ok(is_written) => {
                    // A transaction that writes nothing does not wait for the disk either.
                    is_synced = is_last && is_written.contains(&true);
                    for ((number, _), is_written) in numbers().zip(is_written) {
                        if is_written {
                            written.push(*number);
                        } else {
                            missed.push(*number);
                        }
                    }
                }
                // The parts before are committed, and on disk after the next one that is.
                Err(failed) if failed.is_of_rows() => {
                    transaction::flush(on.client, on.opening, &the_same).await?;
                    self.settle_all(winners, &written, &compared.classes);
                    return Err(failed);
                }
                Err(failed) => {
                    let was_sent = !written.is_empty();
                    return Err(if was_sent { failed.unknown() } else { failed });
                }
            }
        }
        if !is_synced && !written.is_empty() {
            transaction::flush(on.client, on.opening, &the_same).await?;
        }
        self.settle_all(winners, &written, &compared.classes);
        Ok(missed)
    }

    fn settle_all(&mut self, winners: &[u32], numbers: &[usize], classes: &[i16]) {
        for number in numbers {
            self.settle_class(winners[*number], classes[*number]);
        }
    }

    /// Copies rows that are probably not there; answers whether they went in.
    async fn copy(&mut self, on: &On<'_>, positions: &[u32]) -> Result<bool, Failed> {
        let rows: Vec<&R> = positions.iter().map(|p| self.rows[*p as usize]).collect();
        let put = encode::put_row;
        let copied = transaction::copy_in(on.client, on.opening, on.sql, &rows, put).await;
        if copied.as_ref().is_err_and(Failed::is_taken) {
            return Ok(false);
        }
        let is_copied = copied?;
        if is_copied {
            for position in positions {
                self.outcomes[*position as usize] = RowOutcome::Written;
            }
        }
        Ok(is_copied)
    }

    /// Merges rows until each has its answer: rows of which somebody else replaced the stored one at
    /// the same moment are merged again. In a transaction of its own each, if there is an `opening`.
    pub(super) async fn merge(
        &mut self,
        on: &On<'_>,
        opening: Option<&str>,
        winners: &[u32],
    ) -> Result<(), Failed> {
        let mut tried: Vec<_> = winners.iter().map(|p| Missed::new(*p)).collect();
        for _ in 0..MOST_RACES {
            tried = self.merge_once(on, opening, &tried).await?;
            if tried.is_empty() {
                return Ok(());
            }
        }
        // They stay without an answer, and the batch comes again.
        Ok(())
    }

    /// Merges rows in one statement; answers which must be merged again.
    async fn merge_once(
        &mut self,
        on: &On<'_>,
        opening: Option<&str>,
        tried: &[Missed],
    ) -> Result<Vec<Missed>, Failed> {
        let rows: Vec<&R> = tried.iter().map(|t| self.row(t.position)).collect();
        let mut arrays = encode::columns_of(&rows, |_, _| true);
        arrays.push(encode::bounds_of(&rows));
        let params = encode::typed(&arrays);
        let answer = match opening {
            Some(opening) => {
                transaction::run_one(on.client, opening, &on.sql.merge, &params).await?
            }
            None => on.client.query_typed(&on.sql.merge, &params).await?,
        };
        let merged = Merged::read(transaction::only(&answer)?, rows.len())?;
        on.habit.looked(merged.met);
        let mut again = Vec::new();
        for (number, before) in tried.iter().enumerate() {
            let (position, class) = (before.position, merged.classes[number]);
            if !merged.missed[number] {
                self.settle_class(position, class);
                continue;
            }
            let now = before.once_more(merged.stored[number]);
            if now.times > MOST_MISSES {
                self.outcomes[position as usize] = if class == met::LOWER_CONFLICT {
                    // It stands there by its revision, as a narrower column or a trigger has made
                    // its values.
                    RowOutcome::Same
                } else {
                    ignored()
                };
            } else {
                again.push(now);
            }
        }
        Ok(again)
    }

    pub(super) fn row(&self, position: u32) -> &'a R {
        self.rows[position as usize]
    }

    pub(super) fn answer(&mut self, position: u32, outcome: RowOutcome) {
        self.outcomes[position as usize] = outcome;
    }

    /// Takes answers back: what they say was rolled back.
    pub(super) fn forget(&mut self, positions: &[u32]) {
        for position in positions {
            self.outcomes[*position as usize] = RowOutcome::NotTried;
            self.conflicts[*position as usize] = false;
        }
    }

    /// Answers for a row by its class; it was written, if its class says that it should be.
    fn settle_class(&mut self, position: u32, class: i16) {
        let position = position as usize;
        self.conflicts[position] |= matches!(class, met::LOWER_CONFLICT | met::HIGHER_CONFLICT);
        self.outcomes[position] = match class {
            met::NEW | met::LOWER | met::LOWER_CONFLICT => RowOutcome::Written,
            met::SAME => RowOutcome::Same,
            _ => RowOutcome::Superseded,
        };
    }
}

/// A row that a merge should have written, and did not.
#[derive(Clone, Copy)]
struct Missed {
    position: u32,
    /// The revision of the stored row, if there was one.
    stored: Option<i64>,
    /// How often it was missed while that did not change.
    times: u32,
}

impl Missed {
    fn new(position: u32) -> Self {
        Self {
            position,
            stored: None,
            times: 0,
        }
    }

    fn once_more(self, stored: Option<i64>) -> Self {
        let times = if self.stored == stored {
            self.times + 1
        } else {
            1
        };
        Self {
            stored,
            times,
            ..self
        }
    }
}

/// What a merge answers, by row.
struct Merged {
    classes: Vec<i16>,
    /// The revision of the stored row.
    stored: Vec<Option<i64>>,
    /// Rows that should have been written and were not.
    missed: Vec<bool>,
    /// How many met a stored row.
    met: usize,
}

impl Merged {
    fn read(row: &Row, rows: usize) -> Result<Self, Error> {
        let (met, classes): (Vec<i32>, Vec<i16>) = (row.try_get(0)?, row.try_get(1)?);
        let (missed, stored): (Vec<i32>, Vec<i64>) = (row.try_get(2)?, row.try_get(3)?);
        let mut merged = Self {
            classes: vec![met::NEW; rows],
            stored: vec![None; rows],
            missed: vec![false; rows],
            met: met.len(),
        };
        for ((ordinal, class), stored) in met.into_iter().zip(classes).zip(stored) {
            if let Some(place) = sql::place_of(ordinal).filter(|place| *place < rows) {
                merged.classes[place] = class;
                merged.stored[place] = Some(stored);
            }
        }
        for ordinal in missed {
            if let Some(of_row) = sql::place_of(ordinal).and_then(|p| merged.missed.get_mut(p)) {
                *of_row = true;
            }
        }
        Ok(merged)
    }
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
