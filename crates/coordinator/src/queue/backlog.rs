//! Records that a durable queue holds: they are accepted when they are durable, and come into the lanes
//! as there is room, in their order.
//!
//! They count as queued from the moment at which they are durable. Those that are on the disk only
//! make the backlog; a stop makes all of them backlog again, for the next start.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use mds_core::BackpressureLevel;

use super::state::{RowMeta, State, resolve_epoch};
use super::{BoundedQueue, QueueConfig};
use crate::health::Unreadable;

/// Numbers of records, as ranges.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Vec<Range<u64>>);

impl Numbers {
    /// Adds a number; 0 is none.
    pub(crate) fn add(&mut self, seq: u64) {
        match self.0.last_mut() {
            _ if seq == 0 => {}
            Some(last) if last.end == seq => last.end += 1,
            _ => self.0.push(seq..seq + 1),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_ranges(self) -> Vec<Range<u64>> {
        self.0
    }
}

/// Bytes of the disk: in use, and the limit.
type Use = dyn Fn() -> (u64, u64) + Send + Sync;
/// Bytes of the disk that a record takes, on average; `None` where that is not known.
type RecordBytes = dyn Fn() -> Option<u64> + Send + Sync;
/// Settles numbers.
type Settle = dyn Fn(Vec<Range<u64>>, super::Fate) + Send + Sync;

/// What a queue has to know of the disk that its records are on.
pub(crate) struct Disk {
    pub(crate) in_use: Box<Use>,
    pub(crate) record_bytes: Box<RecordBytes>,
    pub(crate) settle: Box<Settle>,
    /// Called when records can come in from the disk.
    pub(crate) refill: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("in_use", &(self.in_use)())
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// The pressure, by bytes: 80 % of them are hard, 50 % are over.
    pub(crate) fn level(&self) -> BackpressureLevel {
        let (used, limit) = (self.in_use)();
        let percent = used.saturating_mul(100) / limit.max(1);
        match percent {
            80.. => BackpressureLevel::Hard,
            51.. => BackpressureLevel::Soft,
            _ => BackpressureLevel::Ok,
        }
    }
}

/// A record on its way into the lanes.
#[derive(Debug)]
pub(crate) struct Incoming<T> {
    pub(crate) item: T,
    pub(crate) seq: u64,
    /// Nanoseconds from the queue's birth to the submit.
    pub(crate) enqueued: u64,
}

impl<T> State<T> {
    /// Counts records that are durable, and so accepted; none of them is in the lanes.
    fn accept(&mut self, rows: usize) {
        self.stats.submitted += rows as u64;
        self.add_backlog(rows);
    }

    fn add_backlog(&mut self, rows: usize) {
        if rows == 0 {
            return;
        }
        self.stats.queued += rows as u64;
        self.backlog_rows += rows;
        if let Some(last) = self.outstanding.back_mut() {
            last.1 += rows;
        }
        match self.backlog.back_mut() {
            Some((epoch, count)) if *epoch == self.epoch => *count += rows,
            _ => self.backlog.push_back((self.epoch, rows)),
        }
    }

    /// Takes the flush generation of the oldest record of the backlog.
    fn take_backlog(&mut self) -> Option<u32> {
        let (epoch, count) = self.backlog.front_mut()?;
        let epoch = *epoch;
        *count -= 1;
        if *count == 0 {
            self.backlog.pop_front();
        }
        self.backlog_rows -= 1;
        Some(epoch)
    }

    /// Moves the oldest record of the backlog into the lanes.
    fn deliver(&mut self, incoming: Incoming<T>, bytes: u32) {
        let Some(epoch) = self.take_backlog() else {
            return;
        };
        self.fresh.push_back(incoming.item);
        self.meta.push_back(RowMeta {
            enqueued: incoming.enqueued,
            bytes,
            epoch,
            seq: incoming.seq,
        });
        self.bytes += bytes as usize;
    }

    /// The oldest records of the backlog turned out to be damaged.
    fn damage(&mut self, rows: u64) {
        for _ in 0..rows {
            let Some(epoch) = self.take_backlog() else {
                return;
            };
            resolve_epoch(&mut self.outstanding, epoch);
            self.stats.queued -= 1;
            self.stats.damaged += 1;
        }
    }

    /// The oldest records of the backlog can be neither read nor set aside.
    fn hold(&mut self, seq: u64) {
        if let Some(epoch) = self.take_backlog() {
            self.held.push_back((epoch, seq));
        }
    }

    /// So many of those that were held, the first ones, are set aside.
    fn release(&mut self, rows: usize) {
        for _ in 0..rows {
            let Some((epoch, _)) = self.held.pop_front() else {
                return;
            };
            resolve_epoch(&mut self.outstanding, epoch);
            self.stats.queued -= 1;
            self.stats.damaged += 1;
        }
    }

    /// Makes everything backlog; what settles later settles nothing.
    fn park(&mut self) {
        self.held.clear();
        self.leases.clear();
        self.fresh.clear();
        self.meta.clear();
        self.returned.clear();
        (self.returned_rows, self.bytes, self.suspects) = (0, 0, 0);
        self.stats.queued += self.stats.in_flight;
        self.stats.in_flight = 0;
        self.backlog_rows = usize::try_from(self.stats.queued).unwrap_or(usize::MAX);
        self.backlog = VecDeque::from([(self.epoch, self.backlog_rows)]);
    }

    /// How many more records, and bytes of them, the lanes take.
    fn window(&self, config: &QueueConfig) -> (usize, usize) {
        (
            config.capacity.saturating_sub(self.size()),
            config.max_bytes.saturating_sub(self.bytes),
        )
    }
}

impl<T> BoundedQueue<T> {
    /// Counts records that an earlier process has left, and those of them that are damaged.
    pub(crate) fn recover(&self, rows: u64, damaged: u64) {
        let mut state = self.lock();
        state.stats.recovered += rows;
        state.add_backlog(usize::try_from(rows).unwrap_or(usize::MAX));
        state.damage(damaged);
        self.update_level(&mut state);
    }

    /// Accepts records that are durable by now, and puts as many of them into the lanes as there is
    /// room for, if nothing older waits outside; answers how many.
    pub(crate) fn accept(&self, rows: usize, items: &mut VecDeque<Incoming<T>>) -> usize {
        let mut state = self.lock();
        state.accept(rows);
        let delivered = self.deliver_into(&mut state, items);
        drop(state);
        delivered
    }

    /// Puts the oldest records of the backlog into the lanes, as far as there is room; answers how
    /// many. Those that have found none are still in `items`.
    pub(crate) fn deliver(&self, items: &mut VecDeque<Incoming<T>>) -> usize {
        let mut state = self.lock();
        self.deliver_into(&mut state, items)
    }

    /// The oldest records of the backlog turned out to be damaged.
    pub(crate) fn damage(&self, rows: u64) {
        if rows > 0 {
            self.resolve(|state| state.damage(rows));
        }
    }

    /// The oldest records of the backlog can be neither read nor set aside.
    pub(crate) fn hold(&self, numbers: impl Iterator<Item = u64>) {
        let mut state = self.lock();
        numbers.for_each(|seq| state.hold(seq));
    }

    /// So many of those that are held, the first ones, are set aside by now.
    pub(crate) fn release(&self, rows: usize) {
        if rows > 0 {
            self.resolve(|state| state.release(rows));
        }
    }

    /// Records that can be neither read nor set aside.
    pub(crate) fn unreadable(&self) -> Option<Unreadable> {
        let state = self.lock();
        let (_, first) = state.held.front()?;
        Some(Unreadable {
            records: state.held.len() as u64,
            first: *first,
        })
    }

    /// Gives records of the disk their fate, and tells who waits for it.
    fn resolve(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = self.lock();
        change(&mut state);
        let is_over = state.is_closed() && state.is_settled();
        drop(state);
        self.shared.settled.notify_waiters();
        if is_over {
            self.shared.work.notify_waiters();
        }
    }

    fn deliver_into(&self, state: &mut State<T>, items: &mut VecDeque<Incoming<T>>) -> usize {
        let config = &self.shared.config;
        let mut delivered = 0;
        while let Some(first) = items.front() {
            let bytes = self.measure(&first.item);
            // One record always has room: a larger one would wait for ever.
            if !state.has_room(config, bytes) && state.size() > 0 {
                break;
            }
            let Some(first) = items.pop_front() else {
                break;
            };
            state.deliver(first, bytes);
            delivered += 1;
        }
        self.after_push(state, delivered);
        delivered
    }

    /// How many records, and bytes of them, may come into the lanes now; `None` where it does not
    /// pay to ask yet, or nothing is on the disk only.
    pub(crate) fn wanted(&self) -> Option<(usize, usize)> {
        let state = self.lock();
        // Whoever ends leaves them to the next start.
        if state.mode == super::state::Mode::Halted {
            return None;
        }
        let config = &self.shared.config;
        let (rows, bytes) = state.window(config);
        let pays = rows >= state.backlog_rows.min(config.capacity.div_ceil(2));
        let wanted = rows.min(state.backlog_rows);
        (wanted > 0 && (pays && bytes > 0 || state.size() == 0)).then_some((wanted, bytes.max(1)))
    }

    /// There is more room in the lanes: records may come in from the disk.
    pub(super) fn ask_for_refill(&self, state: &State<T>) {
        if let Some(disk) = &self.shared.config.disk
            && state.backlog_rows > 0
        {
            (disk.refill)();
        }
    }

    /// Takes the oldest records of the lanes, to be given up.
    pub(crate) fn evict(&self, rows: usize) -> super::Evicted<T> {
        let mut state = self.lock();
        let mut evicted = Vec::new();
        let mut left = rows;
        while left > 0
            && let Some(taken) = state.take_oldest(left)
        {
            left -= taken.positions.len().min(left);
            evicted.push(taken);
        }
        // Where more have to go, they have to come in first.
        self.ask_for_refill(&state);
        evicted
    }

    /// Waits until the queue is closed. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.wait_until(State::is_closed).await;
    }

    /// Records that wait, on the disk too.
    pub(crate) fn queued(&self) -> u64 {
        self.lock().stats.queued
    }

    /// Gives no lease any more, and leaves every record to the next start.
    pub(crate) fn park(&self) {
        let mut state = self.lock();
        state.mode = super::state::Mode::Halted;
        state.park();
        drop(state);
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::{Fate, QueueOptions};
    use super::*;

    fn window() -> BoundedQueue<u64> {
        let disk = Disk {
            in_use: Box::new(|| (0, 1)),
            record_bytes: Box::new(|| None),
            settle: Box::new(|_, _| {}),
            refill: Box::new(|| {}),
        };
        BoundedQueue::on_disk(QueueOptions::default(), |_| 8, None, disk, Instant::now())
    }

    fn incoming(seq: u64) -> VecDeque<Incoming<u64>> {
        let one = Incoming {
            item: seq,
            seq,
            enqueued: 0,
        };
        [one].into()
    }

    /// The first record was there before the flush, and the second one, which is damaged or held, came
    /// after it: the flush waits for the first one.
    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_the_records_before_one_that_never_comes() {
        for is_held in [false, true] {
            let window = window();
            window.accept(1, &mut VecDeque::new());
            assert_eq!(window.flush(Duration::ZERO).await, (0, 1));
            window.accept(1, &mut VecDeque::new());
            window.deliver(&mut incoming(1));
            if is_held {
                window.hold([2].into_iter());
            } else {
                window.damage(1);
            }
            // The generation of the first one alone.
            assert_eq!(window.lock().outstanding_until(0), 1);
            window.try_take().unwrap().settle(Fate::Written);
            assert_eq!(window.lock().outstanding_until(0), 0);
            let left = usize::from(is_held);
            assert_eq!(window.flush(Duration::ZERO).await.1, left);
            window.release(left);
            assert_eq!(window.flush(Duration::ZERO).await.1, 0);
            assert!(window.stats().is_balanced());
            assert_eq!((window.stats().written, window.stats().damaged), (1, 1));
        }
    }
}
