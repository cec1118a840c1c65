//! A sink and dead letters in memory, told what to do by a script or a seed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mds_coordinator::dead_letter::{DlqError, LetterDraft, LetterItem};
use mds_coordinator::{
    Batch, DeadLetters, ErrorKind, Exposition, FeedbackBus, Metrics, RowOutcome, Sink, SinkError,
    WriteCoordinator, WriteReport,
};
use tokio::time::Instant;

/// What a sink does with one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Writes all rows that are not poison.
    Write,
    /// Fails with an error of this kind and text.
    Fail(ErrorKind, &'static str),
    /// Fails, and asks not to be tried again before this long.
    FailFor(ErrorKind, Duration),
    /// Writes, then loses the answer.
    WriteAndFail(ErrorKind, &'static str),
    /// Writes the first half, then fails.
    Half(ErrorKind, &'static str),
    Panic,
    /// Answers after this many milliseconds.
    Slow(u64),
    /// Never answers.
    Hang,
    /// Writes, and reports this many conflicts.
    Conflict(u64),
}

/// How a sink refuses poison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// By naming the row.
    Named,
    /// By refusing the batch, without saying which row.
    Batch,
    /// By an error that nobody can classify.
    Unknown,
}

type Script = Box<dyn FnMut(&Batch<u64>) -> Act + Send>;

pub(crate) struct FakeSink {
    inner: Arc<Mutex<Inner>>,
    poison: Poison,
    is_poison: fn(u64) -> bool,
    check: Option<Check>,
}

type Check = Box<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
struct Inner {
    script: Option<Script>,
    /// How often each row was committed as new.
    pub(crate) store: HashMap<u64, u32>,
    attempts: u64,
    running: usize,
    most_running: usize,
    rows_in_attempts: Vec<usize>,
}

/// A look into the sink from outside.
#[derive(Clone)]
pub(crate) struct Peek(Arc<Mutex<Inner>>);

impl Peek {
    pub(crate) fn has(&self, row: u64) -> bool {
        self.0.lock().unwrap().store.contains_key(&row)
    }

    pub(crate) fn rows(&self) -> usize {
        self.0.lock().unwrap().store.len()
    }

    pub(crate) fn attempts(&self) -> u64 {
        self.0.lock().unwrap().attempts
    }

    pub(crate) fn most_running(&self) -> usize {
        self.0.lock().unwrap().most_running
    }

    pub(crate) fn reset_most_running(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.most_running = inner.running;
    }

    pub(crate) fn batch_sizes(&self) -> Vec<usize> {
        self.0.lock().unwrap().rows_in_attempts.clone()
    }
}

impl FakeSink {
    pub(crate) fn new(script: impl FnMut(&Batch<u64>) -> Act + Send + 'static) -> (Self, Peek) {
        let inner = Inner {
            script: Some(Box::new(script)),
            ..Inner::default()
        };
        let inner = Arc::new(Mutex::new(inner));
        let sink = Self {
            inner: Arc::clone(&inner),
            poison: Poison::Named,
            is_poison: |_| false,
            check: None,
        };
        (sink, Peek(inner))
    }

    pub(crate) fn writing() -> (Self, Peek) {
        Self::new(|_| Act::Write)
    }

    pub(crate) fn poison(mut self, how: Poison, which: fn(u64) -> bool) -> Self {
        self.poison = how;
        self.is_poison = which;
        self
    }

    pub(crate) fn check(mut self, check: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    fn commit(&self, rows: &[u64]) -> Vec<RowOutcome> {
        let mut inner = self.inner.lock().unwrap();
        rows.iter()
            .map(|row| {
                if (self.is_poison)(*row) {
                    let reason = format!("row {row} is poison");
                    return RowOutcome::Rejected {
                        code: "poison".into(),
                        reason,
                    };
                }
                let count = inner.store.entry(*row).or_insert(0);
                if *count > 0 {
                    return RowOutcome::Same;
                }
                *count += 1;
                RowOutcome::Written
            })
            .collect()
    }

    fn write_now(&self, rows: &[u64]) -> WriteReport {
        if rows.iter().any(|r| (self.is_poison)(*r)) && self.poison != Poison::Named {
            let kind = match self.poison {
                Poison::Batch => ErrorKind::Rejected,
                _ => ErrorKind::Unknown,
            };
            let error = SinkError::new(kind, "poison", "something in the batch is poison");
            return WriteReport::failed(rows.len(), error);
        }
        WriteReport {
            outcomes: self.commit(rows),
            conflicts: 0,
            error: None,
        }
    }
}

/// Counts an attempt as running for as long as it lives.
struct Running<'a>(&'a Mutex<Inner>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Ok(mut inner) = self.0.lock() {
            inner.running -= 1;
        }
    }
}

impl Sink<u64> for FakeSink {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn write(&self, batch: Batch<u64>) -> WriteReport {
        let act = {
            let mut inner = self.inner.lock().unwrap();
            inner.attempts += 1;
            inner.rows_in_attempts.push(batch.len());
            inner.running += 1;
            inner.most_running = inner.most_running.max(inner.running);
            let mut script = inner.script.take().unwrap();
            let act = script(&batch);
            inner.script = Some(script);
            act
        };
        let _running = Running(&self.inner);
        let rows: Vec<u64> = batch.iter().copied().collect();
        match act {
            Act::Write => self.write_now(&rows),
            Act::Fail(kind, text) => {
                WriteReport::failed(rows.len(), SinkError::new(kind, "scripted", text))
            }
            Act::FailFor(kind, delay) => {
                let error = SinkError::new(kind, "scripted", "not now").with_retry_after(delay);
                WriteReport::failed(rows.len(), error)
            }
            Act::WriteAndFail(kind, text) => {
                self.write_now(&rows);
                let error = SinkError::new(kind, "scripted", text).with_unknown_outcome();
                WriteReport::failed(rows.len(), error)
            }
            Act::Half(kind, text) => {
                let half = rows.len() / 2;
                let mut outcomes = self.commit(&rows[..half]);
                outcomes.resize(rows.len(), RowOutcome::NotTried);
                let error = Some(SinkError::new(kind, "scripted", text));
                WriteReport {
                    outcomes,
                    conflicts: 0,
                    error,
                }
            }
            Act::Panic => panic!("the sink was told to panic"),
            Act::Slow(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.write_now(&rows)
            }
            Act::Hang => std::future::pending().await,
            Act::Conflict(conflicts) => WriteReport {
                conflicts,
                ..self.write_now(&rows)
            },
        }
    }

    async fn check(&self) -> Option<Result<(), SinkError>> {
        let down = || SinkError::new(ErrorKind::Environment, "down", "the store is down");
        self.check
            .as_ref()
            .map(|check| if check() { Ok(()) } else { Err(down()) })
    }
}

/// A letter as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) row: u64,
    pub(crate) reason: &'static str,
    pub(crate) code: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) outcome_unknown: bool,
}

/// Dead letters in memory.
#[derive(Default)]
pub(crate) struct FakeLetters {
    seen: Mutex<Vec<Seen>>,
    /// Appends that fail before one succeeds.
    pub(crate) failures: Mutex<u32>,
    /// Appends fail until then.
    down_until: Option<Instant>,
}

impl FakeLetters {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn failing(times: u32) -> Arc<Self> {
        Arc::new(Self {
            failures: Mutex::new(times),
            ..Self::default()
        })
    }

    pub(crate) fn down_for(seconds: u64) -> Arc<Self> {
        let until = Instant::now() + Duration::from_secs(seconds);
        Arc::new(Self {
            down_until: Some(until),
            ..Self::default()
        })
    }

    /// A handle for a coordinator.
    pub(crate) fn place(self: &Arc<Self>) -> Arc<dyn DeadLetters<u64>> {
        Arc::<Self>::clone(self)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn rows(&self) -> Vec<u64> {
        let mut rows: Vec<u64> = self.seen().iter().map(|s| s.row).collect();
        rows.sort_unstable();
        rows
    }
}

impl DeadLetters<u64> for FakeLetters {
    fn item(&self, item: &u64) -> LetterItem {
        LetterItem::record(item).unwrap()
    }

    fn append(&self, letters: Vec<LetterDraft>) -> Result<(), DlqError> {
        let mut failures = self.failures.lock().unwrap();
        let is_down = self.down_until.is_some_and(|until| Instant::now() < until);
        if *failures > 0 || is_down {
            *failures = failures.saturating_sub(1);
            return Err(DlqError::Full {
                path: "letters".into(),
                limit: 1,
                used: 1,
                needed: 1,
            });
        }
        self.seen
            .lock()
            .unwrap()
            .extend(letters.into_iter().map(|letter| Seen {
                row: letter.metadata["row"].as_u64().unwrap(),
                reason: letter.reason.as_str(),
                code: letter.code.clone(),
                attempts: letter.attempts,
                outcome_unknown: letter.outcome_unknown,
            }));
        Ok(())
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

/// A coordinator of numbers with metrics and bus of its own, whose letters name their row.
pub(crate) fn builder(sink: FakeSink) -> mds_coordinator::CoordinatorBuilder<u64, FakeSink> {
    WriteCoordinator::builder(sink)
        .metrics(Metrics::new())
        .feedback_bus(FeedbackBus::new())
        .describe_letter(|row, letter| {
            letter.metadata.insert("row".into(), (*row).into());
        })
}

/// Waits until every accepted record has its fate, looking every 10 ms at first, then every 200th
/// of the time it took so far; fails after `limit`.
pub(crate) async fn settled(coordinator: &WriteCoordinator<u64>, limit: Duration) -> Duration {
    let started = Instant::now();
    loop {
        let stats = coordinator.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        if stats.queued + stats.in_flight == 0 {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < limit,
            "not settled after {limit:?}: {stats:?}"
        );
        tokio::time::sleep((started.elapsed() / 200).max(millis(10))).await;
    }
}

/// Submits rows one by one.
pub(crate) async fn submit_all(
    coordinator: &WriteCoordinator<u64>,
    rows: impl IntoIterator<Item = u64>,
) {
    for row in rows {
        coordinator.submit(row).await.unwrap();
    }
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The value of a series in the exposition, such as `mds_coord_queue_depth{coord_id="default"}`.
pub(crate) fn series(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.encode(Exposition::Text);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {name} in:\n{text}"))
        .parse()
        .unwrap()
}

/// The seed of a random test: `MDS_SEED`, or one that a failed test shows.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("MDS_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("MDS_SEED={seed}");
    seed
}
