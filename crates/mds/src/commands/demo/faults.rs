//! The faults of the demo: a sink in front of the real one that fails on a time table.
//!
//! | share of the run | what happens |
//! |---|---|
//! | always | every 25th write reports a deadlock, one from 85 % on if none did |
//! | 20 to 40 % | the store is away: writes and checks fail |
//! | 50 to 55 % | writes are committed, but the answers are lost |
//! | 62 to 66 % | the sink panics in every third write |
//! | 75 % | one write never answers |
//!
//! A machine that is busy may write nothing in one of these spans. So the store is not back before
//! a write has missed it, and lost answers and panics go on until there were three of each.
//!
//! Rows of one made-up symbol are refused by name, as a constraint would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mds_core::{Batch, ErrorKind, RowOutcome, Sink, SinkError, Sourced, WriteReport};
use mds_store::{StoreSink, StoredRecord};

use super::data::POISON;

/// How many writes lose their answer, or panic, at least.
const LEAST: u64 = 3;

/// The time table, shared by the sinks of all kinds.
#[derive(Debug)]
pub(super) struct Faults {
    started: Instant,
    length: Duration,
    writes: AtomicU64,
    /// How often each fault struck.
    pub(super) deadlocks: AtomicU64,
    pub(super) outages: AtomicU64,
    pub(super) lost_answers: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) hangs: AtomicU64,
    hung: AtomicBool,
}

enum Fault {
    None,
    Away,
    Deadlock,
    LoseAnswer,
    Panic,
    Hang,
}

impl Faults {
    pub(super) fn new(length: Duration) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            length,
            writes: AtomicU64::new(0),
            deadlocks: AtomicU64::new(0),
            outages: AtomicU64::new(0),
            lost_answers: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            hangs: AtomicU64::new(0),
            hung: AtomicBool::new(false),
        })
    }

    /// Hundredths of the run that are over.
    fn percent(&self) -> u128 {
        self.started.elapsed().as_millis() * 100 / self.length.as_millis().max(1)
    }

    fn is_away(&self) -> bool {
        let percent = self.percent();
        percent >= 20 && (percent < 40 || self.outages.load(Ordering::Relaxed) == 0)
    }

    /// What strikes the next write.
    fn next(&self) -> Fault {
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        let percent = self.percent();
        let so_far = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let is_due = |from: u128, to: u128, counter: &AtomicU64| {
            percent >= from && (percent < to || so_far(counter) < LEAST)
        };
        let (fault, count) = if self.is_away() {
            (Fault::Away, &self.outages)
        } else if is_due(50, 55, &self.lost_answers) {
            (Fault::LoseAnswer, &self.lost_answers)
        } else if is_due(62, 66, &self.panics) && write.is_multiple_of(3) {
            (Fault::Panic, &self.panics)
        } else if percent >= 75 && !self.hung.swap(true, Ordering::Relaxed) {
            (Fault::Hang, &self.hangs)
        } else if write % 25 == 24 || (percent >= 85 && so_far(&self.deadlocks) == 0) {
            (Fault::Deadlock, &self.deadlocks)
        } else {
            return Fault::None;
        };
        count.fetch_add(1, Ordering::Relaxed);
        fault
    }
}

/// The real sink, behind the faults.
pub(super) struct FaultySink<R> {
    pub(super) sink: StoreSink<R>,
    pub(super) faults: Arc<Faults>,
}

fn away() -> SinkError {
    SinkError::new(
        ErrorKind::Environment,
        "demo_away",
        "the store is away (on purpose)",
    )
}

impl<R> Sink<Sourced<R>> for FaultySink<R>
where
    R: StoredRecord,
{
    fn name(&self) -> &str {
        Sink::<Sourced<R>>::name(&self.sink)
    }

    async fn write(&self, batch: Batch<Sourced<R>>) -> WriteReport {
        let rows = batch.len();
        match self.faults.next() {
            Fault::None => self.write_good(batch).await,
            Fault::Away => WriteReport::failed(rows, away()),
            Fault::Deadlock => {
                let text = "deadlock detected (on purpose)";
                let error = SinkError::new(ErrorKind::Transient, "demo_deadlock", text);
                WriteReport::failed(rows, error)
            }
            Fault::LoseAnswer => {
                let mut report = self.write_good(batch).await;
                if report
                    .outcomes
                    .iter()
                    .any(|o| matches!(o, RowOutcome::Rejected { .. }))
                {
                    return report;
                }
                let text = "the connection broke after the commit (on purpose)";
                report.outcomes = vec![RowOutcome::NotTried; rows];
                report.error = Some(
                    SinkError::new(ErrorKind::Environment, "demo_lost", text)
                        .with_unknown_outcome(),
                );
                report
            }
            Fault::Panic => panic!("the demo's sink panics on purpose"),
            Fault::Hang => std::future::pending().await,
        }
    }

    async fn check(&self) -> Option<Result<(), SinkError>> {
        if self.faults.is_away() {
            return Some(Err(away()));
        }
        Sink::<Sourced<R>>::check(&self.sink).await
    }
}

impl<R> FaultySink<R>
where
    R: StoredRecord,
{
    /// Writes all rows but the poisoned ones, which are refused.
    async fn write_good(&self, batch: Batch<Sourced<R>>) -> WriteReport {
        let symbol = R::column("symbol");
        let is_poison = |row: &Sourced<R>| {
            symbol.is_some_and(|i| row.record.value(i) == mds_core::Value::Text(POISON))
        };
        let good: Vec<u32> = (0_u32..)
            .zip(batch.iter())
            .filter(|(_, row)| !is_poison(row))
            .map(|(i, _)| i)
            .collect();
        if good.len() == batch.len() {
            return self.sink.write(batch).await;
        }
        let rows: Vec<Sourced<R>> = batch
            .iter()
            .filter(|row| !is_poison(row))
            .cloned()
            .collect();
        let report = self.sink.write(Batch::from(rows)).await;
        let refused = RowOutcome::Rejected {
            code: "demo_poison".to_owned(),
            reason: "the demo's store refuses this symbol".to_owned(),
        };
        let mut outcomes = vec![refused; batch.len()];
        for (position, outcome) in good.into_iter().zip(report.outcomes) {
            if let Some(slot) = outcomes.get_mut(position as usize) {
                *slot = outcome;
            }
        }
        WriteReport {
            outcomes,
            conflicts: report.conflicts,
            error: report.error,
        }
    }
}
