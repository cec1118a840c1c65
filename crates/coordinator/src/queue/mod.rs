//! The bounded queue: records wait here, and the books are kept here.
//!
//! # Life of a record
//!
//! ```text
//! put ─► fresh lane ─► lease (a worker holds it) ─► settle: its fate
//!            ▲              │        │
//!            │              │        └─► the writer of dead letters ─► settle
//!       (evicted by         └─► returned lane ─► lease ...
//!        drop_oldest)
//! ```
//!
//! # Invariants
//!
//! - Everything is one `Mutex`: a record moves between queued, in flight and its fate under it, so
//!   [`BoundedQueue::stats`] is one cut and the equation of [`Stats`] holds in it.
//! - A std mutex, not an async one: it is held for moves of memory only, never over an `await` and
//!   never while user code runs (sizes are computed before, callbacks run after).
//! - A lease that is dropped gives its rows back to the front, with their attempts.
//! - A record that is not `Clone` is never copied: rows that were leased once share one allocation
//!   and come back as the group they were.
//! - No lost wake-up: whoever makes a batch ready, or leaves one behind, wakes one worker.

mod backlog;
mod fates;
mod guards;
mod lease;
mod pressure;
mod state;
mod stats;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mds_core::BackpressureLevel;
use tokio::sync::Notify;
use tokio::time::Instant;

use backlog::Numbers;
pub(crate) use backlog::{Disk, Incoming};
pub use fates::FateCallback;
pub(crate) use fates::OnFate;
use guards::{Flushing, Idle, Waiting};
pub use lease::Lease;
use state::{Mode, Readiness, State};
pub(crate) use state::{RetryState, Revoked, RowMeta, Rows, Taken};
pub use stats::{ByReason, Fate, Stats};

use crate::feedback::FeedbackBus;
use crate::overflow::{OverflowStrategy, QueueFullError, Refusal};

/// How a [`BoundedQueue`] is set up.
///
/// ```
/// use mds_coordinator::{BoundedQueue, QueueOptions};
///
/// let queue = BoundedQueue::<u32>::new(QueueOptions { capacity: 10, ..QueueOptions::default() });
/// queue.try_put(7).unwrap();
/// assert_eq!((queue.size(), queue.capacity()), (1, 10));
/// ```
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// Records that may wait; at least 1. Default: 10,000.
    pub capacity: usize,
    /// Bytes that the waiting records may take. Default: 64 MiB.
    pub max_bytes: usize,
    /// Pressure is hard from here on. Default: 0.8 of the capacity.
    pub high_watermark: Option<usize>,
    /// Pressure is over from here down. Default: 0.5 of the capacity.
    pub low_watermark: Option<usize>,
    /// What a full queue does. Default: block.
    pub overflow_strategy: OverflowStrategy,
    /// Records in a batch; at least 1. Default: 500.
    pub batch_size: usize,
    /// How long a record may wait for its batch to fill. Default: 0.25 s.
    pub flush_interval: Duration,
    /// The name in feedback events. Default: `default`.
    pub coord_id: String,
    /// Where watermark crossings are published. Default: nowhere.
    pub buses: Vec<FeedbackBus>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_bytes: 64 << 20,
            high_watermark: None,
            low_watermark: None,
            overflow_strategy: OverflowStrategy::Block,
            batch_size: 500,
            flush_interval: Duration::from_millis(250),
            coord_id: "default".to_owned(),
            buses: Vec::new(),
        }
    }
}

/// As good as never: a longer wait would overflow the clock when it is added to now.
pub(crate) const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The options as the queue uses them.
#[derive(Debug)]
pub(crate) struct QueueConfig {
    pub(crate) capacity: usize,
    pub(crate) max_bytes: usize,
    pub(crate) high_watermark: usize,
    pub(crate) low_watermark: usize,
    pub(crate) high_bytes: usize,
    pub(crate) low_bytes: usize,
    pub(crate) strategy: OverflowStrategy,
    pub(crate) batch_size: usize,
    /// A batch ends before it takes more than this, so that what is in flight stays bounded too.
    pub(crate) batch_bytes: usize,
    pub(crate) flush_interval: Duration,
    pub(crate) coord_id: String,
    pub(crate) buses: Vec<FeedbackBus>,
    pub(crate) born: Instant,
    /// What the records are kept by, where they are durable.
    pub(crate) disk: Option<Disk>,
}

impl From<QueueOptions> for QueueConfig {
    fn from(options: QueueOptions) -> Self {
        let capacity = options.capacity.max(1);
        let share = |part: usize, whole: usize| whole / 10 * part + whole % 10 * part / 10;
        let high = options
            .high_watermark
            .unwrap_or_else(|| share(8, capacity))
            .max(1);
        let low = options
            .low_watermark
            .unwrap_or_else(|| share(5, capacity))
            .min(high - 1);
        Self {
            capacity,
            max_bytes: options.max_bytes,
            high_watermark: high,
            low_watermark: low,
            high_bytes: share(8, options.max_bytes).max(1),
            low_bytes: share(5, options.max_bytes),
            strategy: options.overflow_strategy,
            batch_size: options.batch_size.max(1),
            batch_bytes: (options.max_bytes / 8).max(1),
            flush_interval: options.flush_interval.min(FAR),
            coord_id: options.coord_id,
            buses: options.buses,
            born: Instant::now(),
            disk: None,
        }
    }
}

pub(crate) struct Shared<T> {
    pub(crate) config: QueueConfig,
    state: Mutex<State<T>>,
    /// A batch may be ready.
    work: Notify,
    /// There may be room.
    room: Notify,
    /// A record got its fate, or the queue was closed.
    settled: Notify,
    size_of: fn(&T) -> usize,
    on_fate: Option<OnFate<T>>,
}

/// A bounded queue of records with watermarks, byte bound, batch leases and books.
///
/// Cloning gives another handle on the same queue. A coordinator has one; it can be used alone.
pub struct BoundedQueue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for BoundedQueue<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for BoundedQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedQueue")
            .field("coord_id", &self.shared.config.coord_id)
            .field("size", &self.size())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// How many records are measured and moved under one lock.
const CHUNK: usize = 4_096;

/// Records that `drop_oldest` took out to make room.
pub(crate) type Evicted<T> = Vec<Taken<T>>;

impl<T> BoundedQueue<T> {
    /// An empty queue; each record counts with the size of its type.
    pub fn new(options: QueueOptions) -> Self {
        Self::with_size_of(options, |_| size_of::<T>())
    }

    /// An empty queue; `size_of` tells the bytes that a record takes in memory.
    pub fn with_size_of(options: QueueOptions, size_of: fn(&T) -> usize) -> Self {
        Self::with_config(options.into(), size_of, None)
    }

    /// The queue of a coordinator.
    pub(crate) fn in_memory(
        options: QueueOptions,
        size_of: fn(&T) -> usize,
        on_fate: Option<OnFate<T>>,
    ) -> Self {
        Self::with_config(options.into(), size_of, on_fate)
    }

    /// The window in memory of a durable queue whose oldest record is from `born`.
    pub(crate) fn on_disk(
        options: QueueOptions,
        size_of: fn(&T) -> usize,
        on_fate: Option<OnFate<T>>,
        disk: Disk,
        born: Instant,
    ) -> Self {
        let config = QueueConfig {
            disk: Some(disk),
            born,
            ..options.into()
        };
        Self::with_config(config, size_of, on_fate)
    }

    fn with_config(
        config: QueueConfig,
        size_of: fn(&T) -> usize,
        on_fate: Option<OnFate<T>>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                state: Mutex::new(State::new()),
                work: Notify::new(),
                room: Notify::new(),
                settled: Notify::new(),
                size_of,
                on_fate,
            }),
        }
    }

    /// Records that wait.
    pub fn size(&self) -> usize {
        self.lock().size()
    }

    /// Whether nothing is taken in any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed()
    }

    /// Whether a record is not larger than any may be.
    pub(crate) fn takes(&self, item: &T) -> bool {
        self.measure(item) as usize <= self.shared.config.max_bytes
    }

    /// Records that may wait.
    pub fn capacity(&self) -> usize {
        self.shared.config.capacity
    }

    /// The pressure now.
    pub fn level(&self) -> BackpressureLevel {
        self.lock().stats.level
    }

    /// One cut through the books.
    pub fn stats(&self) -> Stats {
        let state = self.lock();
        let now = self.now();
        let oldest = state
            .oldest()
            .map(|t| Duration::from_nanos(now.saturating_sub(t)));
        Stats {
            queued_bytes: state.bytes() as u64,
            oldest_age: oldest,
            ..state.stats
        }
    }

    /// Puts a record in, following the overflow strategy. With `block` it waits for room; a call
    /// that is cancelled before it returns has put nothing in.
    ///
    /// With `drop_oldest` the queue alone (not under a coordinator) counts what it evicts as
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`QueueFullError`] with the record: full (strategy `error`), closed, or too large.
    pub async fn put(&self, item: T) -> Result<(), QueueFullError<T>> {
        let mut item = item;
        loop {
            match self.push_one(item, true) {
                Ok(evicted) => {
                    self.drop_evicted(evicted);
                    return Ok(());
                }
                Err(full) if full.refusal == Refusal::QueueFull && self.blocks() => {
                    item = full.item;
                }
                Err(refused) => return Err(self.count_refusal(refused)),
            }
            self.wait_for_room(self.measure(&item)).await;
        }
    }

    /// Puts a record in if there is room now; never waits.
    ///
    /// # Errors
    ///
    /// [`QueueFullError`] with the record: full (also with `block`), closed, or too large.
    pub fn try_put(&self, item: T) -> Result<(), QueueFullError<T>> {
        match self.push_one(item, true) {
            Ok(evicted) => {
                self.drop_evicted(evicted);
                Ok(())
            }
            Err(refused) => Err(self.count_refusal(refused)),
        }
    }

    /// Takers that wait for a batch.
    pub(crate) fn idle_workers(&self) -> usize {
        self.lock().idle_workers
    }

    /// Records in a full batch.
    pub(crate) fn batch_size(&self) -> usize {
        self.shared.config.batch_size
    }

    pub(crate) fn strategy(&self) -> OverflowStrategy {
        self.shared.config.strategy
    }

    pub(crate) fn blocks(&self) -> bool {
        self.shared.config.strategy == OverflowStrategy::Block
    }

    /// One try to put a record in; with `evict` the oldest may have to go for it. Counts nothing
    /// if it is refused: the caller may still wait.
    pub(crate) fn push_one(&self, item: T, evict: bool) -> Result<Evicted<T>, QueueFullError<T>> {
        let bytes = self.measure(&item);
        let config = &self.shared.config;
        if bytes as usize > config.max_bytes {
            return Err(QueueFullError {
                item,
                refusal: Refusal::TooLarge,
            });
        }
        let now = self.now();
        let mut state = self.lock();
        if state.is_closed() {
            drop(state);
            return Err(QueueFullError {
                item,
                refusal: Refusal::Closed,
            });
        }
        let mut evicted = Vec::new();
        if evict && config.strategy == OverflowStrategy::DropOldest {
            // Nothing that waits is exempt, so there is room in the end.
            while !state.has_room(config, bytes)
                && let Some(taken) = state.evict(config, 1, bytes)
            {
                evicted.push(taken);
            }
        }
        if !state.has_room(config, bytes) {
            drop(state);
            return Err(QueueFullError {
                item,
                refusal: Refusal::QueueFull,
            });
        }
        state.push(item, bytes, now);
        self.after_push(&mut state, 1);
        Ok(evicted)
    }

    /// Moves as many records from the front of `items` as have room; with `evict` the oldest may
    /// have to go. Stops at the first that does not fit and says why.
    pub(crate) fn push_chunk(
        &self,
        items: &mut VecDeque<T>,
        evict: bool,
    ) -> (usize, Evicted<T>, Option<Refusal>) {
        let config = &self.shared.config;
        let sizes: Vec<u32> = items
            .iter()
            .take(CHUNK)
            .map(|item| self.measure(item))
            .collect();
        let evict = evict && config.strategy == OverflowStrategy::DropOldest;
        // What stands behind a record that is too large is not pushed, so nothing has to go for it.
        let fit = sizes
            .iter()
            .take_while(|b| **b as usize <= config.max_bytes);
        let wanted = fit.count().min(config.capacity);
        let now = self.now();
        let mut state = self.lock();
        if state.is_closed() {
            return (0, Vec::new(), Some(Refusal::Closed));
        }
        let mut pushed = 0;
        let mut refusal = None;
        let mut evicted = Vec::new();
        for bytes in sizes {
            if bytes as usize > config.max_bytes {
                refusal = Some(Refusal::TooLarge);
                break;
            }
            // All that this chunk needs goes at once, in as few groups as there are.
            while evict
                && pushed == 0
                && !state.has_room(config, bytes)
                && let Some(taken) = state.evict(config, wanted, bytes)
            {
                evicted.push(taken);
            }
            if !state.has_room(config, bytes) {
                refusal = Some(Refusal::QueueFull);
                break;
            }
            let Some(item) = items.pop_front() else { break };
            state.push(item, bytes, now);
            pushed += 1;
        }
        self.after_push(&mut state, pushed);
        (pushed, evicted, refusal)
    }

    /// Counts records that are handed back to their producer for good.
    pub(crate) fn refuse(&self, refusal: Refusal, rows: u64) {
        self.lock().stats.refuse(refusal, rows);
    }

    fn count_refusal(&self, refused: QueueFullError<T>) -> QueueFullError<T> {
        self.refuse(refused.refusal, 1);
        refused
    }

    /// Waits until there may be room, or the queue is closed. Cancel safe.
    pub(crate) async fn wait_for_room(&self, bytes: u32) {
        loop {
            // Listening and counted before the look, so that room made in between is not missed.
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let _waiting = Waiting::new(&self.shared);
            {
                let state = self.lock();
                if state.is_closed() || state.has_room(&self.shared.config, bytes) {
                    return;
                }
            }
            room.await;
        }
    }

    pub(crate) fn measure(&self, item: &T) -> u32 {
        u32::try_from((self.shared.size_of)(item)).unwrap_or(u32::MAX)
    }

    /// Without a coordinator nobody keeps what was evicted.
    fn drop_evicted(&self, evicted: Evicted<T>) {
        for taken in evicted {
            let fate = Fate::Dropped(crate::dead_letter::Reason::Overflow);
            self.settle(taken.id, &taken.positions, fate);
        }
    }

    fn after_push(&self, state: &mut State<T>, pushed: usize) {
        self.update_level(state);
        let config = &self.shared.config;
        // A worker is needed for a batch that is full now, or to keep the time of a first record.
        let full = state.size() >= config.batch_size
            || state.bytes() >= config.batch_bytes
            || state.is_full(config);
        let in_time = state
            .timekeeper
            .is_some_and(|kept| state.is_kept(config, kept));
        if pushed > 0 && state.idle_workers > 0 && (full || !in_time) {
            self.shared.work.notify_one();
        }
    }

    /// Takes a lease on the next batch; waits until one is full or due. `None` once the queue is in
    /// the mode `last`, or beyond, and empty, or `stop_when` says so. Cancel safe.
    async fn lease(&self, last: Mode, stop_when: impl Fn() -> bool) -> Option<Lease<T>> {
        loop {
            let work = self.shared.work.notified();
            tokio::pin!(work);
            work.as_mut().enable();
            let mut idle = {
                let mut state = self.lock();
                if stop_when() {
                    // The wake-up may have been meant for work.
                    self.shared.work.notify_one();
                    return None;
                }
                let now = Instant::now();
                if let Some(taken) = state.take(&self.shared.config, now) {
                    self.after_take(&mut state);
                    return Some(Lease::new(self.clone(), taken));
                }
                let timer = match state.readiness(&self.shared.config, now) {
                    Readiness::Never => return None,
                    Readiness::Empty if state.mode >= last && state.is_settled() => return None,
                    Readiness::Empty => None,
                    // One worker keeps the time for all, unless this is earlier than its time.
                    Readiness::At(at) => {
                        state.timekeeper.is_none_or(|kept| at < kept).then_some(at)
                    }
                };
                // Counted under the lock of the look: whoever adds a record sees it.
                state.idle_workers += 1;
                state.timekeeper = timer.or(state.timekeeper);
                Idle {
                    shared: &self.shared,
                    timer,
                    woke: false,
                }
            };
            match idle.timer {
                None => work.await,
                Some(at) => tokio::select! {
                    biased;
                    () = work => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
            idle.woke = true;
        }
    }

    /// Takes a lease on the next batch; waits until one is full or its oldest record has waited
    /// `flush_interval`. `None` once the queue is closed and every record has its fate. Cancel
    /// safe.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use mds_coordinator::{BoundedQueue, Fate, QueueOptions};
    ///
    /// let queue = BoundedQueue::new(QueueOptions::default());
    /// queue.try_put("a").unwrap();
    /// queue.close();
    /// queue.take().await.unwrap().settle(Fate::Written);
    /// assert!(queue.take().await.is_none());
    /// # });
    /// ```
    pub async fn take(&self) -> Option<Lease<T>> {
        self.lease(Mode::Closed, || false).await
    }

    /// The same for a worker. One that finds nothing in a queue that is closed waits all the same, until
    /// the queue drains: a new one would take its place at once, and what is on its way to the disk may
    /// still come.
    pub(crate) async fn lease_until_drained(
        &self,
        stop_when: impl Fn() -> bool,
    ) -> Option<Lease<T>> {
        self.lease(Mode::Draining, stop_when).await
    }

    /// Takes a lease on what is there, up to a batch; never waits.
    pub fn try_take(&self) -> Option<Lease<T>> {
        let mut state = self.lock();
        let far = Instant::now() + self.shared.config.flush_interval;
        let taken = state.take(&self.shared.config, far)?;
        self.after_take(&mut state);
        Some(Lease::new(self.clone(), taken))
    }

    /// Takes a lease on records that have waited longer than `max_age`.
    pub(crate) fn take_expired(&self, max_age: Duration) -> Option<Lease<T>> {
        let before = self.now_less(max_age)?;
        let mut state = self.lock();
        let taken = state.take_expired(before, self.shared.config.batch_size)?;
        self.after_take(&mut state);
        Some(Lease::new(self.clone(), taken))
    }

    fn after_take(&self, state: &mut State<T>) {
        self.update_level(state);
        if state.waiters > 0 {
            self.shared.room.notify_waiters();
        }
        self.ask_for_refill(state);
        // The next batch, or the time of the next record, is another worker's.
        if state.size() > 0 && state.idle_workers > 0 {
            self.shared.work.notify_one();
        }
    }

    pub(crate) fn settle(&self, lease: u64, positions: &[u32], fate: Fate) -> u64 {
        if positions.is_empty() {
            return 0;
        }
        let mut state = self.lock();
        let mut numbers = Numbers::default();
        let (settled, told) = match &self.shared.on_fate {
            None => (
                state.settle(lease, positions, fate, &mut numbers, |_| ()),
                None,
            ),
            Some(on_fate) => {
                let (items, mut now) = (state.items_of(lease), Vec::new());
                let each = |position| now.push(position);
                let settled = state.settle(lease, positions, fate, &mut numbers, each);
                (settled, items.map(|items| (on_fate, items, now)))
            }
        };
        let is_over = state.is_closed() && state.is_settled();
        drop(state);
        if let Some(disk) = &self.shared.config.disk
            && !numbers.is_empty()
        {
            (disk.settle)(numbers.into_ranges(), fate);
        }
        if let Some((on_fate, items, now)) = told {
            on_fate.tell(&self.shared.config.coord_id, &items, &now, fate);
        }
        self.shared.settled.notify_waiters();
        if is_over {
            // Who waits for a batch waits in vain.
            self.shared.work.notify_waiters();
        }
        settled
    }

    /// How often the callback of fates has panicked.
    pub(crate) fn fate_panics(&self) -> u64 {
        self.shared.on_fate.as_ref().map_or(0, OnFate::panics)
    }

    pub(crate) fn add_conflicts(&self, conflicts: u64) {
        if conflicts > 0 {
            self.lock().stats.conflicts += conflicts;
        }
    }

    /// Answers whether the lease still holds them: a stop may have taken them away.
    pub(crate) fn mark_lettering(&self, lease: u64, positions: &[u32], told: bool) -> bool {
        self.lock().mark_lettering(lease, positions, told)
    }

    pub(crate) fn give_back(
        &self,
        lease: u64,
        positions: &[u32],
        retry: RetryState,
        not_before: Option<Instant>,
        front: bool,
    ) {
        let mut state = self.lock();
        state.give_back(lease, positions, retry, not_before, front);
        self.update_level(&mut state);
        if state.idle_workers > 0 {
            self.shared.work.notify_one();
        }
    }

    /// Notes a suspect; answers whether nothing but suspects is left here.
    pub(crate) fn suspect(&self, lease: u64, newly: bool) -> bool {
        let mut state = self.lock();
        if newly {
            state.suspect(lease, 1);
        }
        state.only_suspects()
    }

    fn open_positions(&self, lease: u64) -> Vec<u32> {
        self.lock().open_positions(lease)
    }

    /// Refuses everything from now on; who waits for room gets the record back.
    pub fn close(&self) {
        self.raise(Mode::Closed);
    }

    /// Partial batches, and rows that were set aside, go at once from now on.
    pub(crate) fn drain(&self) {
        self.lock().forget_waits();
        self.raise(Mode::Draining);
    }

    /// No lease is given any more.
    pub(crate) fn halt(&self) {
        self.raise(Mode::Halted);
    }

    fn raise(&self, mode: Mode) {
        let mut state = self.lock();
        state.mode = state.mode.max(mode);
        drop(state);
        self.wake_all();
    }

    /// Lets every waiting worker and producer look again.
    pub(crate) fn wake_all(&self) {
        self.shared.work.notify_waiters();
        self.shared.room.notify_waiters();
        self.shared.settled.notify_waiters();
    }

    pub(crate) fn revoke_all(&self) -> Vec<Revoked<T>> {
        let mut state = self.lock();
        state.mode = Mode::Halted;
        let revoked = state.revoke_all();
        self.update_level(&mut state);
        drop(state);
        self.wake_all();
        revoked
    }

    /// Waits until no record is without a fate.
    pub(crate) async fn wait_settled(&self) {
        self.wait_until(State::is_settled).await;
    }

    /// Waits until no worker and no writer of dead letters holds a record.
    pub(crate) async fn wait_nothing_in_flight(&self) {
        self.wait_until(|state| state.stats.in_flight == 0).await;
    }

    pub(super) async fn wait_until(&self, done: impl Fn(&State<T>) -> bool) {
        loop {
            let settled = self.shared.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if done(&self.lock()) {
                return;
            }
            settled.await;
        }
    }

    /// Forces partial batches until every record put in before has its fate, or for `timeout`.
    /// Answers how many of those got it and how many did not.
    pub(crate) async fn flush(&self, timeout: Duration) -> (usize, usize) {
        let (mark, before) = {
            let mut state = self.lock();
            let mark = state.begin_flush();
            (mark, state.outstanding_until(mark))
        };
        let _flushing = Flushing {
            shared: &self.shared,
        };
        self.shared.work.notify_waiters();
        self.shared.work.notify_one();
        let through = self.wait_until(|state| state.outstanding_until(mark) == 0);
        let left = match tokio::time::timeout(timeout, through).await {
            Ok(()) => 0,
            Err(_) => self.lock().outstanding_until(mark),
        };
        (before - left.min(before), left)
    }

    /// Nanoseconds since the queue's birth.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.shared.config.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// As [`Self::now`], this long ago; `None` before the queue's birth.
    pub(crate) fn now_less(&self, age: Duration) -> Option<u64> {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.now().checked_sub(age)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs half-way through a move, so a poisoned lock is still sound.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
