//! Rows that the server refuses, found among their neighbours.

use std::sync::atomic::Ordering;

use mds_core::{Record, RowOutcome};

use super::failure;
use super::merge::{On, Work};
use super::transaction::{self, Failed};

impl<R: Record> Work<'_, R> {
    /// Halves until the rows that the server refuses stand alone; one transaction.
    pub(super) async fn apart(&mut self, on: &On<'_>, winners: &[u32]) -> Result<(), Failed> {
        let result = self.halve_and_commit(on, winners).await;
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

    async fn halve_and_commit(&mut self, on: &On<'_>, winners: &[u32]) -> Result<(), Failed> {
        on.client.batch_execute(on.opening).await?;
        self.halve(on, winners).await?;
        transaction::end_open(on.client).await
    }

    async fn halve(&mut self, on: &On<'_>, winners: &[u32]) -> Result<(), Failed> {
        let mut parts: Vec<&[u32]> = vec![winners];
        // The whole was refused a moment ago.
        let mut is_first = true;
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            if !(is_first && part.len() > 1) && self.is_settled(on, part).await? {
                continue;
            }
            is_first = false;
            let (left, right) = part.split_at(part.len() / 2);
            parts.extend([right, left]);
        }
        Ok(())
    }

    /// Whether all rows of a part have their answers: merged, or one alone and refused.
    async fn is_settled(&mut self, on: &On<'_>, part: &[u32]) -> Result<bool, Failed> {
        on.client.batch_execute("SAVEPOINT part").await?;
        let failed = match self.merge(on, None, part).await {
            Ok(()) => {
                on.client.batch_execute("RELEASE SAVEPOINT part").await?;
                return Ok(true);
            }
            Err(failed) if failed.is_of_rows() => failed,
            Err(failed) => return Err(failed),
        };
        let back = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";
        on.client.batch_execute(back).await?;
        self.forget(part);
        if let ([alone], Failed::Server { error, .. }) = (part, &failed) {
            self.answer(
                *alone,
                RowOutcome::Rejected {
                    code: failure::code_of(error),
                    reason: failure::text_of(error),
                },
            );
            return Ok(true);
        }
        Ok(false)
    }
}
