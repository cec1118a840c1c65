//! A worker: takes a batch, writes it, and gives every row of it an outcome.
//!
//! # From a failed attempt to an outcome
//!
//! ```text
//! attempt ─► rows with a final answer are settled, never tried again
//!    │
//!    └► the rest, by the error's kind
//!         environment, fatal   wait (no attempt used), the circuit breaker decides how long
//!         transient            retry with backoff; attempts used up ─► halve
//!         rejected             halve at once, the store refused something in it
//!         unknown              as transient if its text says so, or if nobody knows its effect (a
//!                              panic); else halve at once
//!    one row alone
//!         rejected             dead letter (rejected_row)
//!         else                 dead letter (retries_exhausted), once it is proven that the row is
//!                              to blame and not the store
//! ```
//!
//! **Proof.** A row that fails alone with its attempts used up is given up only if another write
//! *began and* succeeded between its first failure alone and the start of this attempt; or the
//! sink's own check said yes before an attempt that failed all the same; or every record here is
//! such a row, the sink has no check, the coordinator is not stopping, and probes of the circuit
//! breaker have failed with it as often as attempts are allowed. A failed probe starts the search
//! for proof anew: what succeeded before the circuit opened says nothing about a store that is
//! down. A check that says no settles it: the row waits. Until there is proof the row goes back to
//! the end of the queue, so that others are tried. Without this rule a store that is down for a
//! minute and answers with errors nobody can classify would empty the queue into the dead letters.
//!
//! **Cancellation.** The sink's future runs in a task of its own and is never dropped half-way; on
//! a timeout, or when the worker is ended, it goes on alone and its answer changes nothing.

use std::sync::Arc;
use std::time::Duration;

use mds_core::{Batch, ErrorKind, RowOutcome, Sink, SinkError, WriteReport};
use tokio::time::Instant;

use crate::breaker::Permit;
use crate::context::{Context, Phase};
use crate::dead_letter::Reason;
use crate::letters::{Cause, Job};
use crate::queue::{FAR, Fate, Lease, RetryState};
use crate::retry::Action;

/// How long a row that was set aside waits at most while the coordinator drains.
const DRAIN_ASIDE: Duration = Duration::from_millis(500);
/// The shortest time between two looks for expired records while the circuit is open.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);

/// Rows of a lease that are tried together.
struct Unit {
    positions: Vec<u32>,
    retry: RetryState,
    /// Failures that used up no attempt, for the length of the next wait.
    waits: u32,
}

impl Unit {
    fn new(positions: Vec<u32>, retry: RetryState) -> Self {
        Self {
            positions,
            retry,
            waits: 0,
        }
    }

    fn is_alone(&self) -> bool {
        self.positions.len() == 1
    }

    /// Two halves; a row that is alone from now on starts its attempts anew.
    fn halve(mut self, attempts: u32) -> (Self, Self) {
        let right = self.positions.split_off(self.positions.len() / 2);
        let part = |positions: Vec<u32>| {
            // Failures in company prove nothing about the row itself.
            let is_alone = positions.len() == 1;
            let first_mark = self.retry.first_mark.filter(|_| !is_alone);
            let attempts = if is_alone { 0 } else { attempts };
            let overtaken = 0;
            Self::new(
                positions,
                RetryState {
                    attempts,
                    overtaken,
                    first_mark,
                    ..self.retry
                },
            )
        };
        (part(std::mem::take(&mut self.positions)), part(right))
    }
}

/// What comes after an attempt.
enum Next {
    Done,
    Again(Unit, Duration),
    /// As `Again`, but it used up an attempt: it is paid for out of the budget that all workers
    /// share.
    Retry(Unit, Duration),
    Halves(Unit, Unit),
    /// The row goes back to the end of the queue, not before the given wait.
    Aside(Unit, Duration),
}

pub(crate) struct Worker<T, S> {
    pub(crate) id: u32,
    pub(crate) core: Arc<Context<T>>,
    pub(crate) sink: Arc<S>,
}

impl<T: Send + Sync + 'static, S: Sink<T>> Worker<T, S> {
    /// Works until the queue is closed and empty, or this worker is above the limit.
    pub(crate) async fn run(self) {
        loop {
            let core = &self.core;
            let id = self.id as usize;
            let is_surplus = || id >= core.worker_limit();
            let Some(lease) = core.queue.lease_until_drained(is_surplus).await else {
                return;
            };
            self.expire_waiting().await;
            let young = self.expire(&lease).await;
            self.process(lease, young).await;
        }
    }

    /// Gives up records that wait and have waited longer than the setting allows.
    async fn expire_waiting(&self) {
        let Some(max_age) = self.core.options.max_age else {
            return;
        };
        while let Some(lease) = self.core.queue.take_expired(max_age) {
            self.expire(&lease).await;
        }
    }

    /// Gives up the rows of a lease that waited longer than the setting allows; answers with the
    /// others.
    async fn expire(&self, lease: &Lease<T>) -> Vec<u32> {
        let positions = lease.positions().to_vec();
        let Some(max_age) = self.core.options.max_age else {
            return positions;
        };
        let Some(before) = self.core.queue.now_less(max_age) else {
            return positions;
        };
        let is_old = |p: &u32| lease.meta(*p).is_some_and(|meta| meta.enqueued < before);
        let (old, young): (Vec<u32>, Vec<u32>) = positions.into_iter().partition(is_old);
        let error = format!("waited longer than max_age ({} s)", max_age.as_secs_f64());
        let cause = Arc::new(self.cause(Reason::Expired, error, "none", None, lease.retry()));
        let causes = old.into_iter().map(|p| (p, Arc::clone(&cause))).collect();
        self.give_up(lease, causes).await;
        young
    }

    async fn process(&self, lease: Lease<T>, positions: Vec<u32>) {
        if positions.is_empty() {
            return;
        }
        let mut started = None;
        let mut units = vec![Unit::new(positions, lease.retry())];
        let mut wrote = false;
        while let Some(unit) = units.pop() {
            let Some(permit) = self.permit().await else {
                give_back_all(&lease, units, [unit]);
                return;
            };
            started.get_or_insert_with(Instant::now);
            let is_probe = permit.as_ref().is_some_and(Permit::is_probe);
            let next = self.attempt(&lease, unit, permit, &mut wrote).await;
            // A probe that failed leaves the next probe to another batch.
            let circuit_open = is_probe && !matches!(next, Next::Done) && self.core.is_open();
            match next {
                Next::Done => {}
                Next::Again(unit, _) | Next::Retry(unit, _) if circuit_open => {
                    give_back_all(&lease, units, [unit]);
                    return;
                }
                Next::Halves(a, b) if circuit_open => {
                    give_back_all(&lease, units, [a, b]);
                    return;
                }
                Next::Again(unit, delay) => {
                    let may_go_on = self.pause(delay).await;
                    units.push(unit);
                    if !may_go_on {
                        give_back_all(&lease, units, []);
                        return;
                    }
                }
                Next::Retry(unit, delay) => {
                    let may_go_on = self.pause(delay).await && self.pay().await;
                    units.push(unit);
                    if !may_go_on {
                        give_back_all(&lease, units, []);
                        return;
                    }
                }
                Next::Halves(a, b) => units.extend([b, a]),
                Next::Aside(unit, delay) => {
                    let draining = self.core.phase() >= Phase::Draining;
                    let longest = if draining { DRAIN_ASIDE } else { FAR };
                    let not_before = Some(Instant::now() + delay.min(longest));
                    lease.give_back(&unit.positions, unit.retry, not_before);
                }
            }
        }
        let took = started.map_or(Duration::ZERO, |started| started.elapsed());
        self.core.metrics.worker(self.id).batch(took, wrote);
    }

    /// The right to write; `None` if no write may be started any more.
    async fn permit(&self) -> Option<Option<Permit>> {
        let Some(breaker) = &self.core.breaker else {
            return self.core.may_write().then_some(None);
        };
        // While the circuit is open, every worker may wait here: somebody has to look at the age
        // of what waits behind them.
        let look = self
            .core
            .options
            .max_age
            .map_or(FAR, |age| (age / 4).max(SHORTEST_LOOK));
        loop {
            tokio::select! {
                biased;
                () = self.core.wait_for(Phase::Ending) => return None,
                permit = breaker.acquire() => return Some(Some(permit)),
                () = tokio::time::sleep(look) => self.expire_waiting().await,
            }
        }
    }

    /// Waits; `false` if no write may be started any more.
    async fn pause(&self, delay: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.core.wait_for(Phase::Ending) => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    /// Waits until a retry may be made; `false` if no write may be started any more.
    async fn pay(&self) -> bool {
        tokio::select! {
            biased;
            // The deadline of a stop costs rows; a retry too many does not.
            () = self.core.wait_for(Phase::Draining) => {}
            () = self.core.budget.withdraw() => {}
        }
        self.core.tried.add_retry();
        self.core.may_write()
    }

    async fn attempt(
        &self,
        lease: &Lease<T>,
        unit: Unit,
        permit: Option<Permit>,
        wrote: &mut bool,
    ) -> Next {
        let batch = lease.batch_of(&unit.positions);
        let before = self.core.last_success();
        let number = self.core.begin_attempt();
        if unit.retry.last_mark == 0 {
            self.core.budget.deposit();
        }
        let started = Instant::now();
        // Should this worker end here, nobody knows what becomes of the rows.
        lease.set_outcome_unknown(true);
        let report = self.write(batch).await;
        lease.set_outcome_unknown(false);
        self.core
            .metrics
            .sink()
            .attempt(started.elapsed(), report.error.is_none());
        let is_probe = permit.as_ref().is_some_and(Permit::is_probe);
        self.core.note_answer(is_answer(&report));
        tell_breaker(permit, &report);
        let (unit, rejected) = self.settle(lease, &unit, &report, number, wrote);
        self.core.tried.add(started.elapsed(), &report);
        self.core.queue.add_conflicts(report.conflicts);
        self.give_up(lease, rejected).await;
        if unit.positions.is_empty() {
            return Next::Done;
        }
        let error = report.error.unwrap_or_else(|| {
            SinkError::new(
                ErrorKind::Unknown,
                "no_answer",
                "the sink left rows without an answer",
            )
        });
        self.core.metrics.worker(self.id).error(error.kind());
        self.core.note_error(&error);
        self.after_failure(lease, unit, &error, before, is_probe)
            .await
    }

    /// Runs the sink in a task of its own and makes an answer of whatever happens to it.
    async fn write(&self, batch: Batch<T>) -> WriteReport {
        let rows = batch.len();
        let sink = Arc::clone(&self.sink);
        let task = tokio::spawn(async move { sink.write(batch).await });
        let limit = self.core.options.write_timeout;
        let error = match tokio::time::timeout(limit, task).await {
            Ok(Ok(report)) if report.outcomes.len() == rows => return report,
            Ok(Ok(report)) => {
                let text = format!(
                    "the sink answered for {} rows of {rows}",
                    report.outcomes.len()
                );
                SinkError::new(ErrorKind::Unknown, "wrong_answer", text).with_unknown_outcome()
            }
            Ok(Err(join)) => {
                let what = if join.is_panic() {
                    "panicked"
                } else {
                    "was cancelled"
                };
                SinkError::new(ErrorKind::Unknown, what, format!("the sink {what}"))
                    .with_source(join)
                    .with_unknown_outcome()
            }
            Err(_) => {
                let text = format!("no answer within write_timeout ({} s)", limit.as_secs_f64());
                SinkError::new(ErrorKind::Transient, "write_timeout", text).with_unknown_outcome()
            }
        };
        WriteReport::failed(rows, error)
    }

    /// Settles the rows that have an answer. What is left is the unit of the rows that have none;
    /// refused rows are on their way to the dead letters.
    fn settle(
        &self,
        lease: &Lease<T>,
        unit: &Unit,
        report: &WriteReport,
        number: u64,
        wrote: &mut bool,
    ) -> (Unit, Vec<(u32, Arc<Cause>)>) {
        let (mut written, mut superseded) = (Vec::new(), Vec::new());
        let (mut rejected, mut left) = (Vec::new(), Vec::new());
        for (position, outcome) in unit.positions.iter().zip(&report.outcomes) {
            match outcome {
                RowOutcome::Written => written.push(*position),
                // It was this batch that wrote it, in an attempt whose answer was lost.
                RowOutcome::Same if unit.retry.outcome_unknown => written.push(*position),
                RowOutcome::Same | RowOutcome::Superseded => superseded.push(*position),
                RowOutcome::Rejected { code, reason } => {
                    let retry = RetryState {
                        attempts: unit.retry.attempts + 1,
                        ..unit.retry
                    };
                    let code = Some(code.clone());
                    let class = ErrorKind::Rejected.as_str();
                    let cause = self.cause(Reason::RejectedRow, reason.clone(), class, code, retry);
                    rejected.push((*position, Arc::new(cause)));
                }
                RowOutcome::NotTried => left.push(*position),
            }
        }
        if !written.is_empty() || !superseded.is_empty() {
            *wrote |= !written.is_empty();
            self.core.note_success(number);
            self.core
                .observe_latency(written.iter().filter_map(|p| lease.meta(*p)));
            lease.settle_rows(&written, Fate::Written);
            lease.settle_rows(&superseded, Fate::Superseded);
        }
        let mut retry = unit.retry;
        retry.outcome_unknown |= report
            .error
            .as_ref()
            .is_some_and(SinkError::outcome_unknown);
        (
            Unit {
                positions: left,
                retry,
                waits: unit.waits,
            },
            rejected,
        )
    }

    async fn after_failure(
        &self,
        lease: &Lease<T>,
        mut unit: Unit,
        error: &SinkError,
        before: u64,
        is_probe: bool,
    ) -> Next {
        let policy = &self.core.options.retry_policy;
        let max_attempts = policy.max_attempts.max(1);
        if is_probe {
            // What succeeded before the circuit opened says nothing about the store of now.
            unit.retry.first_mark = None;
        }
        let proven = unit.retry.first_mark.is_some_and(|mark| before > mark);
        if unit.retry.last_mark > 0 && before > unit.retry.last_mark {
            unit.retry.overtaken += 1;
        }
        unit.retry.last_mark = self.core.attempts();
        unit.retry.first_mark.get_or_insert(unit.retry.last_mark);
        match Action::of(error) {
            Action::Wait if unit.retry.overtaken < max_attempts => {
                unit.waits += 1;
                let delay = policy.delay(unit.waits, error);
                Next::Again(unit, delay)
            }
            Action::Halve if unit.is_alone() => {
                let code = Some(error.code().to_owned());
                let class = error.kind().as_str();
                unit.retry.attempts += 1;
                self.give_up_alone(lease, &unit, Reason::RejectedRow, error, class, code)
                    .await
            }
            Action::Retry => {
                unit.retry.attempts += 1;
                if unit.retry.attempts < max_attempts {
                    let delay = policy.delay(unit.retry.attempts, error);
                    return Next::Retry(unit, delay);
                }
                self.take_apart(lease, unit, error, proven, is_probe).await
            }
            // A batch that nobody else's success helps is taken apart like one that used up its
            // attempts.
            Action::Wait | Action::Isolate => {
                unit.retry.attempts += 1;
                self.take_apart(lease, unit, error, proven, is_probe).await
            }
            Action::Halve => {
                let attempts = unit.retry.attempts;
                let (a, b) = unit.halve(attempts);
                Next::Halves(a, b)
            }
        }
    }

    async fn take_apart(
        &self,
        lease: &Lease<T>,
        unit: Unit,
        error: &SinkError,
        proven: bool,
        is_probe: bool,
    ) -> Next {
        if unit.is_alone() {
            return self.judge(lease, unit, error, proven, is_probe).await;
        }
        // The parts get one attempt each: theirs are used up.
        let (a, b) = unit.halve(self.core.options.retry_policy.max_attempts);
        Next::Halves(a, b)
    }

    /// Decides about a row that failed alone with its attempts used up.
    async fn judge(
        &self,
        lease: &Lease<T>,
        mut unit: Unit,
        error: &SinkError,
        proven: bool,
        is_probe: bool,
    ) -> Next {
        let policy = &self.core.options.retry_policy;
        let delay = policy.delay(unit.retry.attempts, error);
        let newly = !unit.retry.suspect;
        let verdict = self.check().await;
        unit.retry.suspect = true;
        if is_probe {
            unit.retry.probes += 1;
        }
        let only_suspects = self.core.queue.suspect(lease.id(), newly);
        let tried_enough = self.core.breaker.is_none() || unit.retry.probes >= policy.max_attempts;
        let to_blame = match verdict {
            Some(false) => false,
            Some(true) => unit.retry.checked || proven,
            // A drain probes in quick succession; there the deadline decides.
            None => {
                proven || (only_suspects && tried_enough && self.core.phase() == Phase::Running)
            }
        };
        if to_blame {
            let class = error.kind().as_str();
            let code = Some(error.code().to_owned());
            let reason = Reason::RetriesExhausted;
            return self
                .give_up_alone(lease, &unit, reason, error, class, code)
                .await;
        }
        unit.retry.checked = verdict == Some(true);
        Next::Aside(unit, delay)
    }

    /// What the sink's own probe says of the store; `None` if it has none.
    async fn check(&self) -> Option<bool> {
        let sink = Arc::clone(&self.sink);
        let task = tokio::spawn(async move { sink.check().await });
        let limit = self.core.options.write_timeout;
        match tokio::time::timeout(limit, task).await {
            Ok(Ok(answer)) => answer.map(|answer| answer.is_ok()),
            // A check that hangs or panics is no yes.
            _ => Some(false),
        }
    }

    async fn give_up_alone(
        &self,
        lease: &Lease<T>,
        unit: &Unit,
        reason: Reason,
        error: &SinkError,
        class: &'static str,
        code: Option<String>,
    ) -> Next {
        let cause = Arc::new(self.cause(reason, error.to_string(), class, code, unit.retry));
        let causes = unit
            .positions
            .iter()
            .map(|p| (*p, Arc::clone(&cause)))
            .collect();
        self.give_up(lease, causes).await;
        Next::Done
    }

    fn cause(
        &self,
        reason: Reason,
        error: String,
        error_class: &'static str,
        code: Option<String>,
        retry: RetryState,
    ) -> Cause {
        Cause {
            reason,
            error,
            error_class,
            code,
            attempts: retry.attempts,
            worker_id: Some(self.id),
            outcome_unknown: retry.outcome_unknown,
        }
    }

    /// Hands rows to the writer of dead letters (waits while too many groups are there already).
    async fn give_up(&self, lease: &Lease<T>, causes: Vec<(u32, Arc<Cause>)>) {
        if causes.is_empty() {
            return;
        }
        let positions: Vec<u32> = causes.iter().map(|(position, _)| *position).collect();
        self.core
            .queue
            .mark_lettering(lease.id(), &positions, false);
        let job = Job {
            lease: lease.id(),
            rows: lease.rows().clone(),
            causes,
            told: false,
        };
        self.core.give_up(job).await;
    }
}

fn give_back_all<T>(lease: &Lease<T>, units: Vec<Unit>, last: impl IntoIterator<Item = Unit>) {
    for unit in last.into_iter().chain(units) {
        lease.give_back(&unit.positions, unit.retry, None);
    }
}

/// Whether the store answered, be it with a refusal; or with what it wrote of a batch of which the
/// rest has to wait (a lock on a part of a table): that says nothing about the store.
fn is_answer(report: &WriteReport) -> bool {
    let is_final = |outcome: &RowOutcome| *outcome != RowOutcome::NotTried;
    match report.error.as_ref().map(SinkError::kind) {
        None | Some(ErrorKind::Rejected) => true,
        Some(ErrorKind::Transient) => report.outcomes.iter().any(is_final),
        Some(_) => false,
    }
}

fn tell_breaker(permit: Option<Permit>, report: &WriteReport) {
    let Some(permit) = permit else { return };
    match report.error.as_ref().map(SinkError::kind) {
        _ if is_answer(report) => permit.success(),
        Some(ErrorKind::Fatal) => permit.fatal(),
        _ => permit.failure(),
    }
}
