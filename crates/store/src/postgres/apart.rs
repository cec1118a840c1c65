//! Rows that the server refuses, found among their neighbours; one transaction.
//!
//! Where the server says which row it was (the line of a copy, the key of the row or of the
//! constraint), the rows before it are written, the row itself is tried alone, and so on with the
//! rest. Where it does not say, a binary search finds the shortest part that it refuses: what comes
//! before is written, and the last row of it is to blame.
//!
//! Each attempt stands behind a savepoint, and rows are tried in the order of their keys, so that
//! locks are taken in the order in which everybody takes them.

use std::sync::atomic::Ordering;

use mds_core::{Record, RowOutcome};
use tokio_postgres::Error;

use super::merge::{On, Work};
use super::transaction::{self, Failed};
use super::{encode, failure, suspect};

/// Sent before the attempt that follows one that went well.
const KEEP: &str = "RELEASE SAVEPOINT part; SAVEPOINT part";
/// Sent before whatever follows an attempt that failed.
const TAKE_BACK: &str = "ROLLBACK TO SAVEPOINT part";

/// How often a row that is named is followed to one before it; a search takes no more.
const MOST_NAMES: u32 = 8;

/// What is left of a batch.
struct Rest<'w> {
    rows: &'w [u32],
    /// What is sent before the next attempt.
    before: String,
    /// Rows are copied, and not merged.
    is_copied: bool,
    /// What the server said about a row was true until now.
    is_trusted: bool,
    /// Rows that have their answers.
    settled: usize,
    /// Of these, the refused ones.
    refused: usize,
}

impl Rest<'_> {
    fn settle(&mut self, count: usize) {
        self.settled += count;
        self.rows = &self.rows[count..];
    }

    /// How many rows are probably good, by how far the bad ones stood apart until now.
    fn guess(&self) -> usize {
        let apart = self.settled.checked_div(self.refused);
        let guess = apart.map_or(usize::MAX, |apart| (apart + apart / 2).max(1));
        guess.min(self.rows.len())
    }
}

/// What came of a copy.
enum Copied {
    All,
    /// The server refuses one of the rows.
    Refused(Error),
    /// It is not the way: a row is stored already, or a trigger or a type of the table is against it.
    No,
}

impl<R: Record> Work<'_, R> {
    /// Finds the rows that the server refuses, and writes the others; `first` is what it said to
    /// all of them.
    pub(super) async fn apart(
        &mut self,
        on: &On<'_>,
        winners: &[u32],
        first: Failed,
    ) -> Result<(), Failed> {
        let result = self.sift_and_commit(on, winners, first).await;
        let Err(failed) = result else {
            return Ok(());
        };
        // Nothing of it counts, not even where the answer to COMMIT was lost: the rows come again,
        // and then it shows what was kept.
        self.forget(winners);
        // A connection that cannot even roll back is dropped.
        if on.client.batch_execute("ROLLBACK").await.is_err() {
            on.is_broken.store(true, Ordering::Relaxed);
        }
        Err(failed)
    }

    async fn sift_and_commit(
        &mut self,
        on: &On<'_>,
        winners: &[u32],
        first: Failed,
    ) -> Result<(), Failed> {
        let mut rest = Rest {
            rows: winners,
            before: format!("{}; SAVEPOINT part", on.opening),
            is_copied: first
                .error()
                .is_some_and(|e| failure::copied_line(e).is_some()),
            is_trusted: true,
            settled: 0,
            refused: 0,
        };
        let all = winners.len();
        match first.of_rows() {
            Ok(error) => self.blame(on, &mut rest, all, error).await?,
            Err(failed) => return Err(failed),
        }
        while !rest.rows.is_empty() {
            let count = rest.guess();
            if let Some(error) = self.attempt(on, &mut rest, count).await? {
                self.blame(on, &mut rest, count, error).await?;
            }
        }
        if rest.before == TAKE_BACK {
            on.client.batch_execute(TAKE_BACK).await?;
        }
        transaction::end_open(on.client).await
    }

    /// The server refuses one of the next `count` rows with `error`: writes those before it, and
    /// answers for it.
    async fn blame(
        &mut self,
        on: &On<'_>,
        rest: &mut Rest<'_>,
        mut count: usize,
        mut error: Error,
    ) -> Result<(), Failed> {
        // Those that are named may be many, and in any order.
        let mut names = MOST_NAMES;
        while count > 1 {
            let suspect = (rest.is_trusted && names > 0).then(|| {
                let rows: Vec<&R> = rest.rows[..count].iter().map(|p| self.row(*p)).collect();
                suspect::of(&error, &rows)
            });
            let Some(at) = suspect.flatten() else {
                return self.narrow(on, rest, count).await;
            };
            if at > 0
                && let Some(other) = self.attempt(on, rest, at).await?
            {
                // Another one is refused too, and stands before it.
                names -= 1;
                (count, error) = (at, other);
                continue;
            }
            match self.attempt(on, rest, 1).await? {
                Some(error) => self.refuse(rest, &error),
                None => rest.is_trusted = false,
            }
            return Ok(());
        }
        self.refuse(rest, &error);
        Ok(())
    }

    /// Finds the first refused row among the next `count` rows, of which one is, by halving; writes
    /// those before it.
    async fn narrow(
        &mut self,
        on: &On<'_>,
        rest: &mut Rest<'_>,
        mut count: usize,
    ) -> Result<(), Failed> {
        let mut told = None;
        while count > 1 {
            let half = count / 2;
            if let Some(error) = self.attempt(on, rest, half).await? {
                told = (half == 1).then_some(error);
                count = half;
            } else {
                count -= half;
            }
        }
        // Alone, so that the server's words are about this row and no other.
        if told.is_none() {
            told = self.attempt(on, rest, 1).await?;
        }
        if let Some(error) = told {
            self.refuse(rest, &error);
        }
        Ok(())
    }

    /// Writes the next `count` rows, or none if the server refuses one; answers what it said.
    async fn attempt(
        &mut self,
        on: &On<'_>,
        rest: &mut Rest<'_>,
        count: usize,
    ) -> Result<Option<Error>, Failed> {
        if rest.is_copied {
            match self.attempt_copy(on, rest, count).await? {
                Copied::All => return Ok(None),
                Copied::Refused(error) => return Ok(Some(error)),
                Copied::No => rest.is_copied = false,
            }
        }
        let part = &rest.rows[..count];
        on.client.batch_execute(&rest.before).await?;
        match self.merge(on, None, part).await {
            Ok(()) => {
                KEEP.clone_into(&mut rest.before);
                rest.settle(count);
                Ok(None)
            }
            Err(failed) => {
                TAKE_BACK.clone_into(&mut rest.before);
                self.forget(part);
                failed.of_rows().map(Some)
            }
        }
    }

    async fn attempt_copy(
        &mut self,
        on: &On<'_>,
        rest: &mut Rest<'_>,
        count: usize,
    ) -> Result<Copied, Failed> {
        let part = &rest.rows[..count];
        let rows: Vec<&R> = part.iter().map(|p| self.row(*p)).collect();
        let before = std::mem::replace(&mut rest.before, TAKE_BACK.to_owned());
        let put = encode::put_row;
        let copied = transaction::copy_open(on.client, &before, on.sql, &rows, put).await;
        match copied.map_err(Failed::from) {
            Ok(Some(copied)) if copied == count as u64 => {
                for position in part {
                    self.answer(*position, RowOutcome::Written);
                }
                KEEP.clone_into(&mut rest.before);
                rest.settle(count);
                Ok(Copied::All)
            }
            Ok(_) => Ok(Copied::No),
            Err(failed) if failed.is_taken() => Ok(Copied::No),
            Err(failed) => failed.of_rows().map(Copied::Refused),
        }
    }

    /// Answers for the next row, which the server refuses.
    fn refuse(&mut self, rest: &mut Rest<'_>, error: &Error) {
        self.answer(
            rest.rows[0],
            RowOutcome::Rejected {
                code: failure::code_of(error),
                reason: failure::text_of(error),
            },
        );
        rest.settle(1);
        rest.refused += 1;
    }
}
