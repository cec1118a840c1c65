//! What the queue's lock protects: records, leases, books and the pressure level.
//!
//! Every move of a record between `queued`, `in_flight` and its fate is one method here, called
//! with the lock held, so the books balance whenever the lock is free. No user code runs in this
//! module; a record that leaves is handed out and dropped by the caller.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mds_core::BackpressureLevel;
use tokio::time::Instant;

use super::QueueConfig;
use super::backlog::Numbers;
use super::stats::{Fate, Stats};

/// What is kept beside each record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowMeta {
    /// Nanoseconds from the queue's birth to the submit.
    pub(crate) enqueued: u64,
    pub(crate) bytes: u32,
    /// The flush generation that the record belongs to.
    pub(super) epoch: u32,
    /// Its number in a durable queue; 0 where it is in memory only.
    pub(super) seq: u64,
}

/// Rows that left the fresh lane: they share one allocation from the first attempt to the end.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    pub(crate) items: Arc<Vec<T>>,
    pub(crate) meta: Arc<Vec<RowMeta>>,
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        Self {
            items: Arc::clone(&self.items),
            meta: Arc::clone(&self.meta),
        }
    }
}

/// What is remembered about failures of a group of rows, from lease to lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryState {
    /// Attempts used up.
    pub(crate) attempts: u32,
    /// Failures that used up no attempt although other writes succeeded since the one before.
    pub(crate) overtaken: u32,
    /// Failed half-open probes of this row alone.
    pub(crate) probes: u32,
    /// The number of the latest attempt that had begun anywhere at the latest failure, and at the
    /// first one from which on a success of others counts as proof.
    pub(crate) last_mark: u64,
    pub(crate) first_mark: Option<u64>,
    /// The row has failed alone and used up its attempts, but nothing else has been seen to work.
    pub(crate) suspect: bool,
    /// The sink said that it is healthy, after the latest failure.
    pub(crate) checked: bool,
    /// An attempt may have been committed although its answer was lost.
    pub(crate) outcome_unknown: bool,
}

/// Rows given back by a worker: leased again as the group they are.
#[derive(Debug)]
pub(crate) struct Parcel<T> {
    pub(crate) rows: Rows<T>,
    pub(crate) positions: Vec<u32>,
    pub(crate) retry: RetryState,
    pub(crate) not_before: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowState {
    /// The lease holds it.
    Open,
    /// The writer of dead letters has it; a lease that ends does not give it back.
    Lettering,
    /// It has its fate, or was given back.
    Gone,
}

#[derive(Debug)]
pub(super) struct LeaseSlot<T> {
    rows: Rows<T>,
    state: Vec<RowState>,
    open: usize,
    suspects: usize,
    /// The drop callback was called for the rows.
    told: bool,
}

/// Rows taken from the queue under a lease.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) id: u64,
    pub(crate) rows: Rows<T>,
    pub(crate) positions: Vec<u32>,
    pub(crate) retry: RetryState,
}

/// Rows that a stop took away from everybody.
#[derive(Debug)]
pub(crate) struct Revoked<T> {
    pub(crate) id: u64,
    pub(crate) rows: Rows<T>,
    pub(crate) positions: Vec<u32>,
    /// A worker held them, or an earlier attempt's answer was lost.
    pub(crate) outcome_unknown: bool,
    /// The drop callback was called for them.
    pub(crate) told: bool,
}

/// How far the queue is with ending; only ever goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Open,
    /// Nothing is taken in any more.
    Closed,
    /// Partial batches go at once.
    Draining,
    /// No lease is given any more.
    Halted,
}

#[derive(Debug)]
pub(crate) struct State<T> {
    pub(super) fresh: VecDeque<T>,
    pub(super) meta: VecDeque<RowMeta>,
    pub(super) returned: VecDeque<Parcel<T>>,
    pub(super) returned_rows: usize,
    pub(super) bytes: usize,
    pub(super) leases: BTreeMap<u64, LeaseSlot<T>>,
    next_lease: u64,
    pub(crate) stats: Stats,
    pub(super) epoch: u32,
    /// Records without a fate, by flush generation; the last entry is the current one.
    pub(super) outstanding: VecDeque<(u32, usize)>,
    /// Records that are in a durable queue only, by flush generation, in their order.
    pub(super) backlog: VecDeque<(u32, usize)>,
    /// Their number.
    pub(super) backlog_rows: usize,
    /// Records of a durable queue that can be neither read nor set aside: flush generation, number.
    pub(super) held: VecDeque<(u32, u64)>,
    /// Records queued or leased that are suspects.
    pub(super) suspects: usize,
    /// Whether the last lease came from the returned lane.
    took_returned: bool,
    pub(crate) mode: Mode,
    pub(crate) flushes: usize,
    pub(crate) idle_workers: usize,
    /// The earliest moment at which a waiting worker wakes by itself.
    pub(crate) timekeeper: Option<Instant>,
    pub(crate) waiters: usize,
}

impl<T> State<T> {
    pub(crate) fn new() -> Self {
        Self {
            fresh: VecDeque::new(),
            meta: VecDeque::new(),
            returned: VecDeque::new(),
            returned_rows: 0,
            bytes: 0,
            leases: BTreeMap::new(),
            next_lease: 0,
            stats: Stats::default(),
            epoch: 0,
            outstanding: VecDeque::from([(0, 0)]),
            backlog: VecDeque::new(),
            backlog_rows: 0,
            held: VecDeque::new(),
            suspects: 0,
            took_returned: false,
            mode: Mode::Open,
            flushes: 0,
            idle_workers: 0,
            timekeeper: None,
            waiters: 0,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.mode >= Mode::Closed
    }

    /// Whether partial batches go at once.
    fn hurries(&self) -> bool {
        self.mode == Mode::Draining || self.flushes > 0
    }

    /// Records that wait.
    pub(crate) fn size(&self) -> usize {
        self.fresh.len() + self.returned_rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_settled(&self) -> bool {
        let is_on_disk = self.backlog_rows > 0 || !self.held.is_empty();
        self.size() == 0 && self.leases.is_empty() && !is_on_disk
    }

    /// Whether one more record of `bytes` has room.
    pub(crate) fn has_room(&self, config: &QueueConfig, bytes: u32) -> bool {
        self.size() < config.capacity && self.bytes + bytes as usize <= config.max_bytes
    }

    /// Whether no record at all has room: then a batch waits for company in vain.
    pub(crate) fn is_full(&self, config: &QueueConfig) -> bool {
        self.size() >= config.capacity
    }

    /// Puts a record at the end of the fresh lane.
    pub(crate) fn push(&mut self, item: T, bytes: u32, enqueued: u64) {
        self.fresh.push_back(item);
        self.meta.push_back(RowMeta {
            enqueued,
            bytes,
            epoch: self.epoch,
            seq: 0,
        });
        self.bytes += bytes as usize;
        self.stats.submitted += 1;
        self.stats.queued += 1;
        if let Some(last) = self.outstanding.back_mut() {
            last.1 += 1;
        }
    }

    /// Takes the oldest fresh records until `wanted` more, the first of them of `bytes`, have
    /// room; the taken ones count as in flight. `None` if nothing had to go or nothing could.
    pub(crate) fn evict(
        &mut self,
        config: &QueueConfig,
        wanted: usize,
        bytes: u32,
    ) -> Option<Taken<T>> {
        if !self.is_short(config, wanted, bytes, 0, 0) {
            return None;
        }
        // What was given back is older than anything in the fresh lane.
        if let Some(parcel) = self.returned.pop_front() {
            return Some(self.evict_from(parcel, config, wanted, bytes));
        }
        let (mut count, mut freed) = (0, 0);
        while self.is_short(config, wanted, bytes, count, freed) {
            let Some(meta) = self.meta.get(count) else {
                break;
            };
            freed += meta.bytes as usize;
            count += 1;
        }
        (count > 0).then(|| self.lease_fresh(count))
    }

    /// Takes the oldest records that no worker holds: a group that was given back, or up to `max`
    /// fresh ones.
    pub(super) fn take_oldest(&mut self, max: usize) -> Option<Taken<T>> {
        if let Some(parcel) = self.returned.pop_front() {
            return Some(self.lease_parcel(parcel));
        }
        let count = self.fresh.len().min(max);
        (count > 0).then(|| self.lease_fresh(count))
    }

    /// Takes as many rows of a parcel as must go, and puts the rest back where it was.
    fn evict_from(
        &mut self,
        mut parcel: Parcel<T>,
        config: &QueueConfig,
        wanted: usize,
        bytes: u32,
    ) -> Taken<T> {
        let (mut count, mut freed) = (0, 0);
        while count < parcel.positions.len() && self.is_short(config, wanted, bytes, count, freed) {
            freed += parcel.rows.meta[parcel.positions[count] as usize].bytes as usize;
            count += 1;
        }
        let positions: Vec<u32> = parcel.positions.drain(..count).collect();
        let (rows, retry) = (parcel.rows.clone(), parcel.retry);
        self.returned_rows -= count;
        if !parcel.positions.is_empty() {
            self.returned.push_front(parcel);
        }
        self.lease(rows, positions, retry)
    }

    /// Whether room is missing for `wanted` records, the first of `bytes`, after `gone` records
    /// of `freed` bytes have left.
    fn is_short(
        &self,
        config: &QueueConfig,
        wanted: usize,
        bytes: u32,
        gone: usize,
        freed: usize,
    ) -> bool {
        self.size() + wanted > config.capacity.saturating_add(gone)
            || self.bytes - freed + bytes as usize > config.max_bytes
    }

    /// Whether a batch may be taken now; with the moment to look again if not.
    pub(crate) fn readiness(&self, config: &QueueConfig, now: Instant) -> Readiness {
        if self.mode == Mode::Halted {
            return Readiness::Never;
        }
        let hurry = self.hurries();
        let fresh = self.fresh_deadline(config, hurry);
        let returned = self
            .returned
            .iter()
            .map(|p| p.not_before.unwrap_or(now))
            .min();
        match (fresh, returned) {
            (None, None) => Readiness::Empty,
            (Some(at), None) | (None, Some(at)) => Readiness::At(at),
            (Some(a), Some(b)) => Readiness::At(a.min(b)),
        }
    }

    /// Whether a worker that wakes at `kept` is in time for the oldest fresh record.
    pub(crate) fn is_kept(&self, config: &QueueConfig, kept: Instant) -> bool {
        self.fresh_deadline(config, self.hurries())
            .is_none_or(|due| kept <= due)
    }

    /// Lets rows that were set aside be tried at once.
    pub(crate) fn forget_waits(&mut self) {
        for parcel in &mut self.returned {
            parcel.not_before = None;
        }
    }

    fn fresh_deadline(&self, config: &QueueConfig, hurry: bool) -> Option<Instant> {
        let oldest = config.instant(self.meta.front()?.enqueued);
        let full = self.fresh.len() >= config.batch_size
            || self.bytes >= config.batch_bytes
            || self.is_full(config);
        if hurry || full {
            Some(oldest)
        } else {
            Some(oldest + config.flush_interval)
        }
    }

    /// Takes a whole batch, if one is ready at `now`.
    pub(crate) fn take(&mut self, config: &QueueConfig, now: Instant) -> Option<Taken<T>> {
        if self.mode == Mode::Halted {
            return None;
        }
        let hurry = self.hurries();
        let fresh = self
            .fresh_deadline(config, hurry)
            .is_some_and(|at| at <= now);
        let returned = self
            .returned
            .iter()
            .position(|p| p.not_before.is_none_or(|at| at <= now));
        match returned {
            // The lanes take turns, so that neither starves the other.
            Some(at) if !fresh || !self.took_returned => {
                self.took_returned = true;
                self.returned
                    .remove(at)
                    .map(|parcel| self.lease_parcel(parcel))
            }
            _ if fresh => {
                self.took_returned = false;
                Some(self.lease_batch(config))
            }
            _ => None,
        }
    }

    fn lease_batch(&mut self, config: &QueueConfig) -> Taken<T> {
        let mut count = 0;
        let mut bytes = 0;
        for meta in self.meta.iter().take(config.batch_size) {
            bytes += meta.bytes as usize;
            if count > 0 && bytes > config.batch_bytes {
                break;
            }
            count += 1;
        }
        self.lease_fresh(count)
    }

    /// Takes records that were queued before `before`: a group that was given back and is that old
    /// altogether, or up to `max` fresh ones.
    pub(crate) fn take_expired(&mut self, before: u64, max: usize) -> Option<Taken<T>> {
        let is_old = |p: &Parcel<T>| {
            p.positions
                .iter()
                .all(|i| p.rows.meta[*i as usize].enqueued < before)
        };
        if let Some(at) = self.returned.iter().position(is_old) {
            return self
                .returned
                .remove(at)
                .map(|parcel| self.lease_parcel(parcel));
        }
        let expired = self
            .meta
            .iter()
            .take(max)
            .take_while(|m| m.enqueued < before)
            .count();
        (expired > 0).then(|| self.lease_fresh(expired))
    }

    fn lease_fresh(&mut self, count: usize) -> Taken<T> {
        let items: Vec<T> = self.fresh.drain(..count).collect();
        let meta: Vec<RowMeta> = self.meta.drain(..count).collect();
        let positions = all_positions(count);
        let rows = Rows {
            items: Arc::new(items),
            meta: Arc::new(meta),
        };
        self.lease(rows, positions, RetryState::default())
    }

    fn lease_parcel(&mut self, parcel: Parcel<T>) -> Taken<T> {
        self.returned_rows -= parcel.positions.len();
        self.lease(parcel.rows, parcel.positions, parcel.retry)
    }

    fn lease(&mut self, rows: Rows<T>, positions: Vec<u32>, retry: RetryState) -> Taken<T> {
        let id = self.next_lease;
        self.next_lease += 1;
        let mut state = vec![RowState::Gone; rows.items.len()];
        for position in &positions {
            state[*position as usize] = RowState::Open;
            self.bytes -= rows.meta[*position as usize].bytes as usize;
        }
        let open = positions.len();
        self.stats.queued -= open as u64;
        self.stats.in_flight += open as u64;
        let suspects = if retry.suspect { open } else { 0 };
        self.leases.insert(
            id,
            LeaseSlot {
                rows: rows.clone(),
                state,
                open,
                suspects,
                told: false,
            },
        );
        Taken {
            id,
            rows,
            positions,
            retry,
        }
    }

    /// Gives rows of a lease their fate; rows that have one already, or whose lease was taken
    /// away, are passed over. Answers how many rows got theirs now.
    ///
    /// Their numbers in a durable queue are added to `numbers`, and `each` is told their positions.
    pub(crate) fn settle(
        &mut self,
        lease: u64,
        positions: &[u32],
        fate: Fate,
        numbers: &mut Numbers,
        mut each: impl FnMut(u32),
    ) -> u64 {
        let Some(slot) = self.leases.get_mut(&lease) else {
            return 0;
        };
        let mut settled = 0;
        for position in positions {
            let state = &mut slot.state[*position as usize];
            if *state == RowState::Gone {
                continue;
            }
            *state = RowState::Gone;
            settled += 1;
            let meta = &slot.rows.meta[*position as usize];
            resolve_epoch(&mut self.outstanding, meta.epoch);
            numbers.add(meta.seq);
            each(*position);
        }
        self.leave(lease, settled);
        self.stats.settle(fate, settled as u64);
        settled as u64
    }

    /// The rows that a lease is of.
    pub(crate) fn items_of(&self, lease: u64) -> Option<Arc<Vec<T>>> {
        let slot = self.leases.get(&lease)?;
        Some(Arc::clone(&slot.rows.items))
    }

    /// Hands rows of a lease to the writer of dead letters; `told`: the drop callback knows them.
    /// Answers whether the lease is still there.
    pub(crate) fn mark_lettering(&mut self, lease: u64, positions: &[u32], told: bool) -> bool {
        let Some(slot) = self.leases.get_mut(&lease) else {
            return false;
        };
        slot.told |= told;
        for position in positions {
            let state = &mut slot.state[*position as usize];
            if *state == RowState::Open {
                *state = RowState::Lettering;
            }
        }
        true
    }

    /// Puts rows of a lease back, as a group of their own; `front` before all others.
    pub(crate) fn give_back(
        &mut self,
        lease: u64,
        positions: &[u32],
        retry: RetryState,
        not_before: Option<Instant>,
        front: bool,
    ) {
        let Some(slot) = self.leases.get_mut(&lease) else {
            return;
        };
        let mut back = Vec::with_capacity(positions.len());
        for position in positions {
            let state = &mut slot.state[*position as usize];
            if *state == RowState::Open {
                *state = RowState::Gone;
                self.bytes += slot.rows.meta[*position as usize].bytes as usize;
                back.push(*position);
            }
        }
        if back.is_empty() {
            return;
        }
        let rows = slot.rows.clone();
        let count = back.len();
        self.leave(lease, count);
        if retry.suspect {
            self.suspects += count;
        }
        self.stats.in_flight -= count as u64;
        self.stats.queued += count as u64;
        self.returned_rows += count;
        let parcel = Parcel {
            rows,
            positions: back,
            retry,
            not_before,
        };
        if front {
            self.returned.push_front(parcel);
        } else {
            self.returned.push_back(parcel);
            // What comes next is something else: the next probe takes another batch.
            self.took_returned = true;
        }
    }

    /// All rows that a lease still holds.
    pub(crate) fn open_positions(&self, lease: u64) -> Vec<u32> {
        let Some(slot) = self.leases.get(&lease) else {
            return Vec::new();
        };
        positions_in(&slot.state, |s| s == RowState::Open)
    }

    /// `count` rows have left the lease.
    fn leave(&mut self, lease: u64, count: usize) {
        let Some(slot) = self.leases.get_mut(&lease) else {
            return;
        };
        let was_suspect = slot.suspects.min(count);
        slot.suspects -= was_suspect;
        self.suspects -= was_suspect;
        slot.open -= count;
        if slot.open == 0 {
            self.leases.remove(&lease);
        }
    }

    /// Notes that rows of a lease became suspects.
    pub(crate) fn suspect(&mut self, lease: u64, count: usize) {
        if let Some(slot) = self.leases.get_mut(&lease) {
            slot.suspects += count;
            self.suspects += count;
        }
    }

    /// Whether every record here is a suspect: then nothing is left to compare one with.
    pub(crate) fn only_suspects(&self) -> bool {
        self.suspects as u64 >= self.stats.queued + self.stats.in_flight
    }

    /// Takes everything away from everybody; what settles later settles nothing.
    pub(crate) fn revoke_all(&mut self) -> Vec<Revoked<T>> {
        let mut revoked = Vec::new();
        let held: Vec<u64> = self.leases.keys().copied().collect();
        for lease in held {
            let Some(slot) = self.leases.remove(&lease) else {
                continue;
            };
            let positions = positions_in(&slot.state, |s| s != RowState::Gone);
            let id = self.next_lease;
            self.next_lease += 1;
            let (rows, told) = (slot.rows.clone(), slot.told);
            self.leases.insert(id, slot);
            revoked.push(Revoked {
                id,
                rows,
                positions,
                outcome_unknown: true,
                told,
            });
        }
        let mut waiting = Vec::new();
        while let Some(parcel) = self.returned.pop_front() {
            waiting.push(self.lease_parcel(parcel));
        }
        if !self.fresh.is_empty() {
            waiting.push(self.lease_fresh(self.fresh.len()));
        }
        revoked.extend(waiting.into_iter().map(|taken| Revoked {
            id: taken.id,
            rows: taken.rows,
            positions: taken.positions,
            outcome_unknown: taken.retry.outcome_unknown,
            told: false,
        }));
        revoked
    }

    /// Begins a new flush generation; answers the last of the old ones.
    pub(crate) fn begin_flush(&mut self) -> u32 {
        self.flushes += 1;
        // Nothing came since the last flush: its generation will do, or flushes through a long
        // outage would pile up.
        if let [.., (before, _), (_, 0)] = *self.outstanding.make_contiguous() {
            return before;
        }
        let mark = self.epoch;
        self.epoch = self.epoch.wrapping_add(1);
        self.outstanding.push_back((self.epoch, 0));
        mark
    }

    /// Records up to flush generation `mark` that have no fate yet.
    pub(crate) fn outstanding_until(&self, mark: u32) -> usize {
        let until = self
            .outstanding
            .iter()
            .position(|(epoch, _)| *epoch == mark);
        until.map_or(0, |at| {
            self.outstanding
                .iter()
                .take(at + 1)
                .map(|(_, count)| count)
                .sum()
        })
    }

    pub(crate) fn end_flush(&mut self) {
        self.flushes -= 1;
    }

    /// The age, in nanoseconds since the queue's birth, of the oldest record without a fate.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let fresh = self.meta.front().map(|m| m.enqueued);
        let returned = self
            .returned
            .iter()
            .flat_map(|p| p.positions.iter().map(|i| p.rows.meta[*i as usize]));
        let leased = self.leases.values().flat_map(|slot| {
            let held = slot.state.iter().zip(slot.rows.meta.iter());
            held.filter(|(state, _)| **state != RowState::Gone)
                .map(|(_, meta)| *meta)
        });
        returned
            .chain(leased)
            .map(|m| m.enqueued)
            .chain(fresh)
            .min()
    }

    pub(crate) fn level(&self, config: &QueueConfig) -> BackpressureLevel {
        if let Some(disk) = &config.disk {
            return disk.level();
        }
        let size = self.size();
        if size >= config.high_watermark || self.bytes >= config.high_bytes {
            BackpressureLevel::Hard
        } else if size <= config.low_watermark && self.bytes <= config.low_bytes {
            BackpressureLevel::Ok
        } else {
            BackpressureLevel::Soft
        }
    }
}

/// When a batch can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Now, or at the given moment in the future.
    At(Instant),
    /// There is nothing.
    Empty,
    /// No write may be started any more.
    Never,
}

pub(super) fn resolve_epoch(outstanding: &mut VecDeque<(u32, usize)>, epoch: u32) {
    if let Some(entry) = outstanding.iter_mut().rev().find(|(e, _)| *e == epoch) {
        entry.1 -= 1;
    }
    // Old generations that are through need no entry; the current one stays.
    while outstanding.len() > 1 && outstanding.front().is_some_and(|(_, count)| *count == 0) {
        outstanding.pop_front();
    }
}

fn all_positions(count: usize) -> Vec<u32> {
    (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
}

fn positions_in(state: &[RowState], wanted: impl Fn(RowState) -> bool) -> Vec<u32> {
    let held = state.iter().zip(0_u32..).filter(|(s, _)| wanted(**s));
    held.map(|(_, position)| position).collect()
}

impl QueueConfig {
    /// The instant of a count of nanoseconds since the queue's birth.
    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        self.born + Duration::from_nanos(nanos)
    }
}
