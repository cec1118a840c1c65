//! Submitting many records at once, and waiting for room no longer than the caller will.
//!
//! A deadline bounds the waits for room and nothing else: what has been handed to the disk is answered
//! as the disk answers, however late. Given up half-way, only the answer would be lost, and the caller
//! would hand the same records in again.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Place, WriteCoordinator};
use crate::durable::Durable;
use crate::overflow::{OverflowStrategy, Refusal};
use crate::queue::Taken;

/// Records that are given up at once for newer ones: their segment goes when they are settled.
const EVICTED: usize = 4_096;
/// How long a producer waits for room on the disk before it looks again.
const ROOM_AGAIN: Duration = Duration::from_millis(100);
/// The same where it makes the room itself, and more of the oldest are on their way into the window.
const ROOM_SOON: Duration = Duration::from_millis(1);

/// How long a submit waits for room.
#[derive(Clone, Copy)]
pub(super) struct Patience(Option<Instant>);

impl Patience {
    pub(super) const WITHOUT_END: Self = Self(None);

    fn is_over(self) -> bool {
        self.0.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// As much of a wait as is left.
    fn at_most(self, wait: Duration) -> Duration {
        self.0.map_or(wait, |deadline| {
            wait.min(deadline.saturating_duration_since(Instant::now()))
        })
    }

    /// Waits for something; `QueueFull` where it takes too long. What is there already is taken,
    /// however late it is.
    async fn wait<F: Future>(self, something: F) -> Result<F::Output, Refusal> {
        match self.0 {
            None => Ok(something.await),
            Some(deadline) => tokio::time::timeout_at(deadline, something)
                .await
                .map_err(|_| Refusal::QueueFull),
        }
    }
}

/// A `submit_many` that took only a part: the records that were not accepted are still in the
/// caller's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{accepted} records accepted, then: {refusal}")]
pub struct SubmitManyError {
    /// Records accepted before.
    pub accepted: usize,
    /// Why the next one was not.
    pub refusal: Refusal,
}

impl<T: Send + Sync + 'static> WriteCoordinator<T> {
    /// Submits the records of a queue from its front, and removes exactly those that it accepted.
    /// More than `capacity` is no problem: it goes in as room comes up. Answers how many it took.
    ///
    /// # Errors
    ///
    /// [`SubmitManyError`]: the first record that was refused, and all behind it, are still in
    /// `items`.
    ///
    /// # Cancel safety
    ///
    /// Cancelled at any point, `items` holds exactly the records that were not accepted. On a durable
    /// queue, those that are on their way to the disk are gone from `items` as well: they are accepted
    /// all the same, unless the disk fails, and only the answer is lost. So do not put a timeout around
    /// this; [`submit_many_until`](Self::submit_many_until) has one that loses no answer.
    pub async fn submit_many(&self, items: &mut VecDeque<T>) -> Result<usize, SubmitManyError> {
        self.submit_patiently(items, Patience::WITHOUT_END).await
    }

    /// As [`submit_many`](Self::submit_many), but it waits for room no longer than until `deadline`.
    /// A deadline that is over means: what has room now. The strategy `error` never waits for room,
    /// and `drop_oldest` does so only for dead letters that cannot keep up, or for the room that the
    /// oldest leave on the disk: they may be given up before records are refused.
    ///
    /// Records that are on their way to the disk at the deadline are waited for, so that the answer is
    /// the truth: it comes as late as the disk's.
    ///
    /// # Errors
    ///
    /// As [`submit_many`](Self::submit_many), and [`Refusal::QueueFull`] at the deadline: the records
    /// that were not accepted are in `items`, and are counted as refused once.
    ///
    /// # Cancel safety
    ///
    /// As [`submit_many`](Self::submit_many).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use std::collections::VecDeque;
    /// use std::time::Duration;
    /// use mds_coordinator::{Batch, Refusal, Sink, WriteCoordinator, WriteReport};
    /// use tokio::time::Instant;
    ///
    /// /// Takes its time.
    /// struct Slow;
    /// impl Sink<u32> for Slow {
    ///     fn name(&self) -> &str {
    ///         "slow"
    ///     }
    ///     async fn write(&self, _: Batch<u32>) -> WriteReport {
    ///         std::future::pending().await
    ///     }
    /// }
    ///
    /// let coordinator = WriteCoordinator::builder(Slow).capacity(3).start().unwrap();
    /// let mut items: VecDeque<u32> = (1..=5).collect();
    /// let deadline = Instant::now() - Duration::from_secs(1);
    /// let error = coordinator.submit_many_until(&mut items, deadline).await.unwrap_err();
    /// assert_eq!((error.accepted, error.refusal), (3, Refusal::QueueFull));
    /// assert_eq!(items, [4, 5]);
    /// # });
    /// ```
    pub async fn submit_many_until(
        &self,
        items: &mut VecDeque<T>,
        deadline: Instant,
    ) -> Result<usize, SubmitManyError> {
        self.submit_patiently(items, Patience(Some(deadline))).await
    }

    async fn submit_patiently(
        &self,
        items: &mut VecDeque<T>,
        patience: Patience,
    ) -> Result<usize, SubmitManyError> {
        let mut accepted = 0;
        while !items.is_empty() {
            let some = match &self.context.durable {
                Some(durable) => self.submit_to_disk(durable, items, patience).await,
                None => self.submit_some(items, patience, &mut accepted).await,
            };
            match some {
                Ok(more) => accepted += more,
                Err(refusal) => return Err(self.refuse_rest(items.len(), accepted, refusal)),
            }
        }
        Ok(accepted)
    }

    /// Puts the first of `items` into the memory, adds their number to `accepted` and waits until more
    /// have room; answers how many it put in after that.
    async fn submit_some(
        &self,
        items: &mut VecDeque<T>,
        patience: Patience,
        accepted: &mut usize,
    ) -> Result<usize, Refusal> {
        let queue = &self.context.queue;
        let (pushed, evicted, refusal) = queue.push_chunk(items, false);
        debug_assert!(evicted.is_empty());
        *accepted += pushed;
        match refusal {
            None => {}
            Some(Refusal::QueueFull) if queue.blocks() => {
                if let Some(first) = items.front() {
                    let bytes = queue.measure(first);
                    patience.wait(queue.wait_for_room(bytes)).await?;
                }
            }
            Some(Refusal::QueueFull) if queue.strategy() == OverflowStrategy::DropOldest => {
                return self.push_out(items, patience).await;
            }
            Some(refusal) => return Err(refusal),
        }
        Ok(0)
    }

    fn refuse_rest(&self, rest: usize, accepted: usize, refusal: Refusal) -> SubmitManyError {
        // Those behind a record that is too large come again without it.
        let rows = match refusal {
            Refusal::TooLarge => 1,
            _ => rest as u64,
        };
        self.context.queue.refuse(refusal, rows);
        SubmitManyError { accepted, refusal }
    }

    /// Hands the first of `items` to the disk, as the strategy says where it is full.
    pub(super) async fn submit_to_disk(
        &self,
        durable: &Durable<T>,
        items: &mut VecDeque<T>,
        patience: Patience,
    ) -> Result<usize, Refusal> {
        let queue = &self.context.queue;
        loop {
            match durable.submit(queue, items).await {
                Err(Refusal::QueueFull) => {}
                other => return other,
            }
            // Nothing is given up for records that nobody waits for any more.
            if patience.is_over() {
                return Err(Refusal::QueueFull);
            }
            let mut again = ROOM_AGAIN;
            match queue.strategy() {
                OverflowStrategy::Error => return Err(Refusal::QueueFull),
                OverflowStrategy::Block => {}
                OverflowStrategy::DropOldest => {
                    if self.evict(items.len().min(EVICTED), patience).await? > 0 {
                        again = ROOM_SOON;
                    }
                }
            }
            tokio::select! {
                () = durable.queue.wal.room() => {}
                () = queue.closed() => return Err(Refusal::Closed),
                // Room may have been made before we listened.
                () = tokio::time::sleep(patience.at_most(again)) => {}
            }
        }
    }

    /// The place for the letters of what overflows, where somebody keeps them. Before anything is pushed
    /// out: what goes is never without an owner.
    async fn place_of_overflow(&self, patience: Patience) -> Result<Option<Place<'_, T>>, Refusal> {
        if self.context.letters.sink.is_none() {
            return Ok(None);
        }
        let place = patience.wait(self.place_of_letter()).await?;
        place.map(Some).ok_or(Refusal::Closed)
    }

    /// What was pushed out goes to the dead letters, or is dropped.
    pub(super) fn give_up(&self, place: Option<Place<'_, T>>, evicted: Vec<Taken<T>>) {
        let jobs = self.overflow_jobs(evicted);
        match place {
            Some(place) if !jobs.is_empty() => place.send(jobs),
            _ => jobs
                .iter()
                .for_each(|job| self.context.letters.drop_rows(job)),
        }
    }

    /// Gives the oldest records that no worker holds up, to make room for as many newer ones; answers
    /// how many.
    async fn evict(&self, rows: usize, patience: Patience) -> Result<usize, Refusal> {
        let place = self.place_of_overflow(patience).await?;
        let evicted = self.context.queue.evict(rows);
        let count = evicted.iter().map(|taken| taken.positions.len()).sum();
        self.give_up(place, evicted);
        Ok(count)
    }

    /// Pushes as many records as fit after the oldest have gone.
    async fn push_out(
        &self,
        items: &mut VecDeque<T>,
        patience: Patience,
    ) -> Result<usize, Refusal> {
        let queue = &self.context.queue;
        let place = self.place_of_overflow(patience).await?;
        let (pushed, evicted, refusal) = queue.push_chunk(items, true);
        self.give_up(place, evicted);
        match refusal {
            // Nothing could be pushed although the oldest went: the rest is not ours to take.
            Some(refusal) if pushed == 0 => Err(refusal),
            _ => Ok(pushed),
        }
    }
}
