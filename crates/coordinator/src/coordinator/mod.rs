//! The write coordinator: what producers talk to.

mod readings;
mod submit;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mds_core::{Batch, Sink};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::builder::CoordinatorBuilder;
use crate::context::{Context, Phase};
use crate::dead_letter::Reason;
use crate::feedback::CallbackGuard;
use crate::health::{FlushReport, StopReport};
use crate::letters::{Cause, Job, Letters};
use crate::log::log;
use crate::metrics::Source;
use crate::overflow::{OverflowStrategy, Refusal, SubmitError};
use crate::queue::{Fate, Revoked, Taken};
pub use submit::SubmitManyError;

use submit::Patience;

/// A place for letters that is kept for whoever holds it.
type Place<'a, T> = mpsc::Permit<'a, Vec<Job<T>>>;

/// How long a stop works on the records that its deadline left over.
const LAST_LETTERS: Duration = Duration::from_secs(1);

const OVERFLOWED: &str = "the queue was full and newer records came";

#[derive(Debug)]
pub(crate) struct Tasks {
    pub(crate) supervisor: JoinHandle<()>,
    pub(crate) prober: JoinHandle<()>,
    pub(crate) letters: JoinHandle<()>,
    pub(crate) refill: Option<JoinHandle<()>>,
    pub(crate) callbacks: Option<CallbackGuard>,
}

impl Tasks {
    /// Ends all but the callbacks; afterwards nobody but a write that hangs holds a record.
    async fn end(self, deadline: Instant) -> Option<CallbackGuard> {
        self.prober.abort();
        self.letters.abort();
        if let Some(refill) = &self.refill {
            refill.abort();
        }
        // Neither can fail in a way that matters here: their records were taken away before.
        drop(tokio::time::timeout_at(deadline, self.supervisor).await);
        drop(tokio::time::timeout_at(deadline, self.letters).await);
        self.callbacks
    }
}

/// Takes records from many producers and brings each of them to exactly one fate.
///
/// All methods take `&self`: share it between producers with an [`Arc`]. Call
/// [`stop`](Self::stop) at the end; dropping it without does only the part that needs no waiting
/// (records that are left become dead letters or are dropped, and that is logged).
pub struct WriteCoordinator<T: Send + Sync + 'static> {
    context: Arc<Context<T>>,
    tasks: Mutex<Option<Tasks>>,
    /// Held while what a stop left over is settled: two stops at once must not both do it.
    ending: tokio::sync::Mutex<()>,
}

impl<T: Send + Sync + 'static> fmt::Debug for WriteCoordinator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteCoordinator")
            .field("coord_id", &self.context.options.coord_id)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> WriteCoordinator<T> {
    /// Sets up a coordinator that writes to `sink`.
    pub fn builder<S: Sink<T>>(sink: S) -> CoordinatorBuilder<T, S> {
        CoordinatorBuilder::new(sink)
    }

    pub(crate) fn new(context: Arc<Context<T>>, tasks: Tasks) -> Self {
        Self {
            context,
            tasks: Mutex::new(Some(tasks)),
            ending: tokio::sync::Mutex::default(),
        }
    }

    /// Submits a record. When this returns `Ok`, the record is accepted: in the memory of this
    /// process, or on the disk where the queue is durable. With the strategy `block` it waits for
    /// room.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] with the record handed back: the queue is full (strategy `error`), the
    /// coordinator is stopping, or the record is larger than `max_bytes`. On a durable queue also:
    /// the disk takes no more, or its sync has failed, so that the outcome is not known.
    ///
    /// # Cancel safety
    ///
    /// Cancelled before it returns, the record was not accepted; on a durable queue it was, once it
    /// is on its way to the disk, and only the answer is lost.
    pub async fn submit(&self, item: T) -> Result<(), SubmitError<T>> {
        let queue = &self.context.queue;
        if let Some(durable) = &self.context.durable {
            let mut items = VecDeque::from([item]);
            let submitted = self.submit_to_disk(durable, &mut items, Patience::WITHOUT_END);
            let submitted = submitted.await;
            return match (submitted, items.pop_front()) {
                (Err(refusal), Some(item)) => Err(self.refused(SubmitError { item, refusal })),
                _ => Ok(()),
            };
        }
        if queue.strategy() != OverflowStrategy::DropOldest || self.context.letters.sink.is_none() {
            if queue.strategy() == OverflowStrategy::DropOldest {
                return self.push_over(item, None);
            }
            return queue.put(item).await;
        }
        let item = match queue.push_one(item, false) {
            Ok(_) => return Ok(()),
            Err(full) if full.refusal == Refusal::QueueFull => full.item,
            Err(refused) => return Err(self.refused(refused)),
        };
        // A place for the letter first: a producer that overflows the queue waits while the dead
        // letters cannot keep up, and what it pushed out is never without an owner.
        let Some(place) = self.place_of_letter().await else {
            return Err(self.refused(SubmitError {
                item,
                refusal: Refusal::Closed,
            }));
        };
        self.push_over(item, Some(place))
    }

    /// Submits a record if there is room now; never waits.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and a full queue with any strategy but `drop_oldest`; with it
    /// where the dead letters cannot keep up. Always on a durable queue, which answers after a sync.
    pub fn try_submit(&self, item: T) -> Result<(), SubmitError<T>> {
        let queue = &self.context.queue;
        if self.context.durable.is_some() {
            return Err(self.refused(SubmitError {
                item,
                refusal: Refusal::MustWait,
            }));
        }
        if queue.strategy() != OverflowStrategy::DropOldest {
            return queue.try_put(item);
        }
        if self.context.letters.sink.is_none() {
            return self.push_over(item, None);
        }
        let item = match queue.push_one(item, false) {
            Ok(_) => return Ok(()),
            Err(full) if full.refusal == Refusal::QueueFull => full.item,
            Err(refused) => return Err(self.refused(refused)),
        };
        let Ok(place) = self.context.jobs.try_reserve() else {
            return Err(self.refused(SubmitError {
                item,
                refusal: Refusal::QueueFull,
            }));
        };
        self.push_over(item, Some(place))
    }

    /// Submits a record and returns once it is durable.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotDurable`] on the memory queue, which cannot give that.
    pub async fn submit_durable(&self, item: T) -> Result<(), SubmitError<T>> {
        if self.context.durable.is_some() {
            return self.submit(item).await;
        }
        Err(self.refused(SubmitError {
            item,
            refusal: Refusal::NotDurable,
        }))
    }

    /// Forces partial batches and waits until every record submitted before has its fate, or for
    /// `timeout`. Never hangs. Cancel safe.
    pub async fn flush(&self, timeout: Duration) -> FlushReport {
        let (resolved, outstanding) = self.context.queue.flush(timeout).await;
        FlushReport {
            resolved,
            outstanding,
            circuit: self.context.circuit(),
            unreadable: self.context.queue.unreadable(),
        }
    }

    /// Takes no record any more, from now on; [`stop`](Self::stop) does that first. Submits that wait
    /// for room give their records back, those on their way to the disk are answered as the disk answers,
    /// and what was accepted is worked on.
    pub fn close_intake(&self) {
        self.context.queue.close();
    }

    /// Ends the coordinator; returns within `timeout` and a second.
    ///
    /// Intake closes at once, and producers that wait for room get their records back. With
    /// `drain`, partial batches go at once and an open circuit is probed with a short backoff
    /// until the deadline; without, no write is started and only those under way may end. Each
    /// record that is left at the deadline becomes a dead letter (`shutdown`); where there are no
    /// dead letters, or they cannot be written, it is dropped (`shutdown`) and handed back in the
    /// report. A write that hangs goes on alone and changes no count any more.
    ///
    /// Where the queue is durable, what is left stays in it (`queued` in the report) and is written
    /// after the next start.
    ///
    /// A second call answers with the same books and no records.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe in the sense of its report: cancelled, intake is closed and the rest is
    /// done when the coordinator is dropped.
    pub async fn stop(&self, drain: bool, timeout: Duration) -> StopReport<T> {
        let context = &self.context;
        context.queue.close();
        let in_time = if drain {
            context.raise(Phase::Draining);
            context.queue.drain();
            if let Some(breaker) = &context.breaker {
                breaker.drain();
            }
            tokio::time::timeout(timeout, context.queue.wait_settled()).await
        } else {
            context.raise(Phase::Ending);
            context.queue.halt();
            tokio::time::timeout(timeout, context.queue.wait_nothing_in_flight()).await
        };
        context.raise(Phase::Halted);
        let _alone = self.ending.lock().await;
        let deadline = Instant::now() + LAST_LETTERS;
        let left = if context.durable.is_some() {
            // Workers that may not write any more must not be given a batch again and again.
            context.queue.halt();
            Vec::new()
        } else {
            context.queue.revoke_all()
        };
        let tasks = self.take_tasks();
        let callbacks = match tasks {
            Some(tasks) => tasks.end(deadline).await,
            None => None,
        };
        let unreadable = context.queue.unreadable();
        if let Some(durable) = &context.durable {
            context.queue.park();
            let closing = Arc::clone(durable);
            let closed = tokio::task::spawn_blocking(move || closing.queue.wal.close());
            // A disk that does not answer is left to itself; what it holds is there at the next start.
            drop(tokio::time::timeout_at(deadline, closed).await);
        }
        let (handed_back, handed_back_shared) = self.settle_left(left, deadline).await;
        drop(callbacks);
        context.publish(context.metrics.families());
        StopReport {
            stats: self.stats(),
            handed_back,
            handed_back_shared,
            timed_out: in_time.is_err(),
            unreadable,
        }
    }

    fn take_tasks(&self) -> Option<Tasks> {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The letters of what a stop took away, with what the store last said where it is the reason.
    fn last_jobs(&self, left: Vec<Revoked<T>>) -> Vec<Job<T>> {
        let mut unwritten = "not written before the deadline of the stop".to_owned();
        if let Some(error) = self.context.standing_error() {
            unwritten.push_str("; the store: ");
            unwritten.push_str(&error);
        }
        left.into_iter()
            .map(|left| last_job(left, &unwritten))
            .collect()
    }

    async fn settle_left(
        &self,
        left: Vec<Revoked<T>>,
        deadline: Instant,
    ) -> (Vec<T>, Vec<Batch<T>>) {
        if left.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let jobs = Arc::new(self.last_jobs(left));
        let letters = &self.context.letters;
        let written = letters.sink.is_some()
            && matches!(
                tokio::time::timeout_at(deadline, letters.append_apart(&jobs)).await,
                Ok(Ok(()))
            );
        if !written {
            for job in jobs.iter() {
                letters.call_back(job);
            }
        }
        self.finish(jobs, written)
    }

    /// Gives the last records their fate.
    fn finish(&self, jobs: Arc<Vec<Job<T>>>, written: bool) -> (Vec<T>, Vec<Batch<T>>) {
        let mut rows = 0;
        for job in jobs.iter() {
            for (position, cause) in &job.causes {
                let reason = cause.reason;
                let fate = if written {
                    Fate::DeadLettered(reason)
                } else {
                    Fate::Dropped(reason)
                };
                rows += self.context.queue.settle(job.lease, &[*position], fate);
            }
        }
        let coord_id = &self.context.options.coord_id;
        if written {
            let what = "records not written before the deadline are in the dead letters";
            log(|| tracing::warn!(%coord_id, rows, "{what}"));
            return (Vec::new(), Vec::new());
        }
        let what = "records not written before the deadline are dropped and handed back";
        log(|| tracing::error!(%coord_id, rows, "{what}"));
        hand_back(jobs)
    }

    fn refused(&self, refused: SubmitError<T>) -> SubmitError<T> {
        self.context.queue.refuse(refused.refusal, 1);
        refused
    }

    /// Waits until a group of letters has a place; `None` once the coordinator stops.
    async fn place_of_letter(&self) -> Option<Place<'_, T>> {
        tokio::select! {
            biased;
            () = self.context.wait_for(Phase::Draining) => None,
            place = self.context.jobs.reserve() => place.ok(),
        }
    }

    /// Pushes a record in, and the oldest out where there is no room for it: into the dead letters, if
    /// there is a place for them.
    fn push_over(&self, item: T, place: Option<Place<'_, T>>) -> Result<(), SubmitError<T>> {
        let pushed = self.context.queue.push_one(item, true);
        let evicted = pushed.map_err(|refused| self.refused(refused))?;
        self.give_up(place, evicted);
        Ok(())
    }

    fn overflow_jobs(&self, evicted: Vec<Taken<T>>) -> Vec<Job<T>> {
        evicted
            .into_iter()
            .filter_map(|taken| self.overflow_job(taken))
            .collect()
    }

    /// `None` if a stop has taken the records meanwhile; it tells and settles them.
    fn overflow_job(&self, evicted: Taken<T>) -> Option<Job<T>> {
        let told = self.context.letters.sink.is_some();
        if !self
            .context
            .queue
            .mark_lettering(evicted.id, &evicted.positions, told)
        {
            return None;
        }
        let cause = Arc::new(Cause {
            reason: Reason::Overflow,
            error: OVERFLOWED.to_owned(),
            error_class: "none",
            code: None,
            attempts: evicted.retry.attempts,
            worker_id: None,
            outcome_unknown: evicted.retry.outcome_unknown,
        });
        let causes = evicted
            .positions
            .iter()
            .map(|p| (*p, Arc::clone(&cause)))
            .collect();
        let mut job = Job {
            lease: evicted.id,
            rows: evicted.rows,
            causes,
            told: false,
        };
        if told {
            self.context.letters.call_back(&job);
            job.told = true;
        }
        Some(job)
    }
}

/// The letter of what a stop took away. What was pushed out by newer records and still waited for
/// its letter keeps that reason.
fn last_job<T>(left: Revoked<T>, unwritten: &str) -> Job<T> {
    let (reason, error) = if left.told {
        (Reason::Overflow, OVERFLOWED)
    } else {
        (Reason::Shutdown, unwritten)
    };
    let cause = Arc::new(Cause {
        reason,
        error: error.to_owned(),
        error_class: "none",
        code: None,
        attempts: 0,
        worker_id: None,
        outcome_unknown: left.outcome_unknown,
    });
    let causes = left
        .positions
        .iter()
        .map(|p| (*p, Arc::clone(&cause)))
        .collect();
    Job {
        lease: left.id,
        rows: left.rows,
        causes,
        told: left.told,
    }
}

/// The records themselves where nobody else holds them, else a handle on them.
fn hand_back<T>(jobs: Arc<Vec<Job<T>>>) -> (Vec<T>, Vec<Batch<T>>) {
    let (mut owned, mut shared) = (Vec::new(), Vec::new());
    let jobs = match Arc::try_unwrap(jobs) {
        Ok(jobs) => jobs,
        // The writer of the last letters did not come back in time and still reads them.
        Err(jobs) => {
            shared.extend(
                jobs.iter()
                    .map(|job| batch_of(&job.rows.items, &job.causes)),
            );
            return (owned, shared);
        }
    };
    // Parts of one batch share its rows: whoever holds the last handle owns them.
    let mut wanted: Vec<(Arc<Vec<T>>, Vec<bool>)> = Vec::new();
    let mut places: HashMap<*const Vec<T>, usize> = HashMap::new();
    for Job { rows, causes, .. } in jobs {
        let items = rows.items;
        let place = *places.entry(Arc::as_ptr(&items)).or_insert_with(|| {
            wanted.push((Arc::clone(&items), vec![false; items.len()]));
            wanted.len() - 1
        });
        for (position, _) in &causes {
            wanted[place].1[*position as usize] = true;
        }
    }
    for (items, wanted) in wanted {
        match Arc::try_unwrap(items) {
            Ok(items) => {
                let back = items.into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
                owned.extend(back.map(|(item, _)| item));
            }
            Err(items) => {
                let positions = (0_u32..).zip(wanted).filter(|(_, wanted)| *wanted);
                let positions = positions.map(|(position, _)| position).collect();
                shared.push(Batch::new(items).select(positions));
            }
        }
    }
    (owned, shared)
}

fn batch_of<T>(items: &Arc<Vec<T>>, causes: &[(u32, Arc<Cause>)]) -> Batch<T> {
    Batch::new(Arc::clone(items)).select(causes.iter().map(|(p, _)| *p).collect())
}

/// Writes the last letters where nothing can be awaited, but waits for them no longer than a stop
/// does: a lock that is never released must not hold up the caller for ever.
fn append_last<T: Send + Sync + 'static>(
    letters: &Arc<Letters<T>>,
    jobs: &Arc<Vec<Job<T>>>,
) -> bool {
    let Some(sink) = &letters.sink else {
        return false;
    };
    let is_blocking = sink.is_blocking();
    let (letters, jobs) = (Arc::clone(letters), Arc::clone(jobs));
    let append =
        move || catch_unwind(AssertUnwindSafe(|| letters.append(&jobs).is_ok())).unwrap_or(false);
    if !is_blocking {
        return append();
    }
    let (tell, written) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("last-letters".to_owned());
    // Where nobody waits any more, the answer has no use.
    let spawned = thread.spawn(move || tell.send(append()).is_ok());
    spawned.is_ok() && written.recv_timeout(LAST_LETTERS).unwrap_or(false)
}

impl<T: Send + Sync + 'static> Drop for WriteCoordinator<T> {
    fn drop(&mut self) {
        let tasks = self.take_tasks();
        let context = &self.context;
        context.queue.close();
        context.raise(Phase::Halted);
        if let Some(refill) = tasks.as_ref().and_then(|tasks| tasks.refill.as_ref()) {
            refill.abort();
        }
        if let Some(durable) = &context.durable {
            context.queue.park();
            durable.queue.wal.close();
        }
        let left = context.queue.revoke_all();
        if !left.is_empty() {
            let jobs = Arc::new(self.last_jobs(left));
            let letters = &context.letters;
            let written = append_last(letters, &jobs);
            if !written {
                jobs.iter().for_each(|job| letters.call_back(job));
            }
            drop(self.finish(jobs, written));
        }
        let Some(tasks) = tasks else { return };
        // The supervisor is not there any more to count them.
        context.workers_alive.store(0, Ordering::Relaxed);
        context.publish(context.metrics.families());
        tasks.supervisor.abort();
        tasks.prober.abort();
        tasks.letters.abort();
    }
}
