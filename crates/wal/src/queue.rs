//! The queue with its two threads.
//!
//! - **Writer**: takes the group that has gathered, writes and syncs it, tells those who wait. What is
//!   handed in meanwhile is the next group, so that the groups are the larger the more there is to do,
//!   and nobody waits for company.
//! - **Keeper**: writes a checkpoint when something was settled, removes the segments that are done,
//!   and has a file ready before the current one is full.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::SeqNo;
use crate::acks::{CLASSES, Totals};
use crate::commit::{Done, Ticket};
use crate::damage::Damage;
use crate::error::{AppendError, CommitError, OpenError, StorageError};
use crate::identity;
use crate::log::{Log, LogOptions, OnSync};
use crate::open::{self, Recovery};
use crate::reader::{Reader, Record};
use crate::record::{BLOCK, Group, HEAD, blocks};
use crate::segment::DATA;
use crate::storage::{FileStorage, Storage};

/// Bytes after which a group that waits takes no more: one that goes to the disk meanwhile should
/// not take much longer than a sync does anyway.
const GROUP: usize = 1 << 20;
/// How often what was settled is kept, at least.
const CHECKPOINTS: Duration = Duration::from_millis(250);
/// How long the keeper waits after a failure.
const BACKOFF: Duration = Duration::from_millis(500);

/// When the disk is told to make records durable. There is nothing weaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Once for all records that have gathered while the one before was under way.
    #[default]
    Group,
    /// Once for each append, alone.
    Always,
}

/// Told of each group on the thread that writes: its numbers, and how it ended. Groups come in the
/// order of their numbers.
pub type OnCommit = dyn Fn(Range<SeqNo>, &Result<(), CommitError>) + Send + Sync;

/// Told on the thread that removes segments.
pub type OnRoom = dyn Fn() + Send + Sync;

/// How a queue is set up.
#[derive(Clone)]
pub struct WalOptions {
    /// What the queue is for, at most 2,000 bytes: a folder that says something else is refused.
    /// Default: empty.
    pub identity: String,
    /// Bytes that it may take on the disk, at least four segments. Default: 4 GiB.
    pub max_bytes: u64,
    /// Bytes of a segment, rounded up to 4 KiB; at least 64 KiB. Default: 16 MiB, and at most an
    /// eighth of `max_bytes`.
    pub segment_bytes: u64,
    /// Bytes of the largest record. Default: 16 MiB.
    pub max_record: usize,
    /// Default: [`FsyncPolicy::Group`].
    pub fsync: FsyncPolicy,
    /// Called for each group before those who wait are told. Default: nothing.
    pub on_commit: Option<Arc<OnCommit>>,
    /// Called with the time that each sync took. Default: nothing.
    pub on_sync: Option<Arc<OnSync>>,
    /// Called when settled records have made room. Default: nothing.
    pub on_room: Option<Arc<OnRoom>>,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            identity: String::new(),
            max_bytes: 4 << 30,
            segment_bytes: 16 << 20,
            max_record: 16 << 20,
            fsync: FsyncPolicy::Group,
            on_commit: None,
            on_sync: None,
            on_room: None,
        }
    }
}

impl fmt::Debug for WalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalOptions")
            .field("identity", &self.identity)
            .field("max_bytes", &self.max_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("max_record", &self.max_record)
            .field("fsync", &self.fsync)
            .finish_non_exhaustive()
    }
}

impl WalOptions {
    pub(crate) fn log_options(&self) -> Result<LogOptions, OpenError> {
        if self.identity.len() > identity::MAX {
            return Err(OpenError::Options(
                "the identity of a queue has at most 2,000 bytes",
            ));
        }
        let least = 16 * BLOCK as u64;
        let eighth = self.max_bytes / 8 / BLOCK as u64 * BLOCK as u64;
        let segment_bytes = blocks(self.segment_bytes.max(least)).min(eighth.max(least));
        if self.max_bytes < 4 * segment_bytes {
            return Err(OpenError::Options(
                "a durable queue needs at least 256 KiB of the disk",
            ));
        }
        Ok(LogOptions {
            segment_bytes,
            max_record: self.max_record.min(u32::MAX as usize),
        })
    }
}

/// Figures of a queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalStats {
    /// Durable records that are not settled.
    pub backlog: u64,
    /// The number of the next record.
    pub next: SeqNo,
    /// Everything below it is settled.
    pub floor: SeqNo,
    /// What was settled since the queue was made.
    pub totals: Totals,
    /// Bytes on the disk that records take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes that are handed in and not durable yet.
    pub pending_bytes: u64,
    /// Groups that were synced since it was opened.
    pub groups: u64,
    /// Bytes that were written since it was opened.
    pub written_bytes: u64,
    /// How long the syncs of groups took, all of them.
    pub sync_time: Duration,
    /// Groups that could not be written or synced.
    pub failures: u64,
    /// Damaged parts of files that were found since it was opened.
    pub damages: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
}

#[derive(Debug)]
struct PendingGroup {
    group: Group,
    done: Arc<Done>,
}

#[derive(Debug)]
struct Pending {
    groups: VecDeque<PendingGroup>,
    next: SeqNo,
    /// Bytes of the groups, the one that is being written too.
    bytes: u64,
    buffers: Vec<Vec<u8>>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Keeping {
    is_poked: bool,
    is_closed: bool,
}

struct Inner {
    log: Arc<Log>,
    max_bytes: u64,
    fsync: FsyncPolicy,
    on_commit: Option<Arc<OnCommit>>,
    on_room: Option<Arc<OnRoom>>,
    pending: Mutex<Pending>,
    work: Condvar,
    keeping: Mutex<Keeping>,
    kept: Condvar,
    /// Those who wait for room.
    waiting: Mutex<Vec<Waker>>,
    first: SeqNo,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A durable queue of byte strings.
///
/// Dropping the last handle closes it: what was handed in is written first.
///
/// ```
/// use mds_wal::{WalOptions, WriteAheadQueue};
///
/// let dir = tempfile::tempdir().unwrap();
/// let (queue, recovery) = WriteAheadQueue::open(dir.path(), WalOptions::default()).unwrap();
/// assert_eq!(recovery.records, 0);
///
/// let durable = queue.append(["one", "two"]).unwrap().wait().unwrap();
/// assert_eq!(durable, 1..3);
///
/// let mut reader = queue.reader();
/// let records = reader.read(10, 1 << 20).unwrap();
/// assert_eq!(records[1].payload, b"two");
/// queue.ack(2..3, 0);
/// drop((queue, reader));
///
/// // What was not acknowledged comes back.
/// let (queue, recovery) = WriteAheadQueue::open(dir.path(), WalOptions::default()).unwrap();
/// assert_eq!(recovery.records, 1);
/// assert_eq!(queue.reader().read(10, 1 << 20).unwrap()[0].payload, b"one");
/// ```
pub struct WriteAheadQueue {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for WriteAheadQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteAheadQueue")
            .field("log", &self.inner.log)
            .finish_non_exhaustive()
    }
}

impl WriteAheadQueue {
    /// Opens the queue in a folder, which is made if it is not there.
    pub fn open(dir: &Path, options: WalOptions) -> Result<(Self, Recovery), OpenError> {
        let storage = FileStorage::create(dir);
        let storage = storage.map_err(|source| StorageError::new("make", "", source))?;
        Self::open_on(Arc::new(storage), options)
    }

    /// Opens the queue on any storage.
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: WalOptions,
    ) -> Result<(Self, Recovery), OpenError> {
        let log_options = options.log_options()?;
        let (opened, recovery) = open::open(storage.as_ref(), log_options, &options.identity)?;
        let log = Arc::new(Log::new(storage, log_options, opened, options.on_sync));
        let inner = Arc::new(Inner {
            log,
            max_bytes: options.max_bytes,
            fsync: options.fsync,
            on_commit: options.on_commit,
            on_room: options.on_room,
            pending: Mutex::new(Pending {
                groups: VecDeque::new(),
                next: recovery.next,
                bytes: 0,
                buffers: Vec::new(),
                is_closed: false,
            }),
            work: Condvar::new(),
            keeping: Mutex::default(),
            kept: Condvar::new(),
            waiting: Mutex::default(),
            first: recovery.first,
        });
        let queue = Self {
            inner,
            threads: Mutex::default(),
        };
        queue.start("wal-writer", Inner::write)?;
        queue.start("wal-keeper", Inner::keep)?;
        Ok((queue, recovery))
    }

    fn start(&self, name: &str, run: fn(&Inner)) -> Result<(), OpenError> {
        let inner = Arc::clone(&self.inner);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&inner))
            .map_err(OpenError::Thread)?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// Hands in records, all of them or none; never blocks on the disk. They follow each other in
    /// the queue, in their order.
    ///
    /// # Errors
    ///
    /// None of the records is in the queue: it is full, or closed, or one of them is too large.
    pub fn append<R: AsRef<[u8]>>(
        &self,
        records: impl IntoIterator<Item = R, IntoIter: Clone>,
    ) -> Result<Ticket, AppendError> {
        self.inner.append(records.into_iter())
    }

    /// A reader that begins with the first record that is not settled. Each reader reads all
    /// records; who is to get which is the owner's business.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.inner.log), self.inner.first)
    }

    /// Settles records for good, in any order; answers how many of them were not settled before.
    /// `class` (below 16) says how they are counted. It is kept, durably, a quarter of a second
    /// later at most; what was settled after that comes back after a crash.
    pub fn ack(&self, range: Range<SeqNo>, class: u8) -> u64 {
        debug_assert!(usize::from(class) < CLASSES);
        let (settled, is_first) = self.inner.log.ack(range, class);
        if is_first || settled > 0 && self.inner.log.has_done_segments() {
            self.inner.poke();
        }
        settled
    }

    /// Puts a record that its owner cannot read into a file beside the queue, and settles it as
    /// damaged.
    ///
    /// # Errors
    ///
    /// The file cannot be written: the record is not settled.
    pub fn set_aside(&self, record: &Record) -> Result<(), StorageError> {
        self.inner.log.set_aside(record)
    }

    /// Keeps what is settled by now, durably.
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        self.inner.checkpoint().map(drop)
    }

    /// Waits until there may be room again after [`AppendError::Full`], or the queue is closed.
    /// Cancel safe.
    pub async fn room(&self) {
        let used = self.inner.log.used_bytes();
        std::future::poll_fn(|context| self.inner.poll_room(context, used)).await;
    }

    /// Bytes of the disk that are in use, and those that may be.
    pub fn bytes_in_use(&self) -> (u64, u64) {
        let limit = self.inner.max_bytes - self.inner.reserve();
        (self.inner.log.used_bytes(), limit)
    }

    /// Figures of this moment.
    pub fn stats(&self) -> WalStats {
        self.inner.stats()
    }

    /// What was found damaged since it was opened, the latest thousand of it.
    pub fn damages(&self) -> Vec<Damage> {
        self.inner.log.state().damages.kept().cloned().collect()
    }

    /// Takes no more records, writes and syncs what was handed in, and keeps what is settled.
    /// Blocks until that is done.
    pub fn close(&self) {
        lock(&self.inner.pending).is_closed = true;
        self.inner.work.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let mut threads = threads.into_iter();
        // The writer first: what it still writes is part of the last checkpoint.
        if let Some(writer) = threads.next() {
            drop(writer.join());
        }
        lock(&self.inner.keeping).is_closed = true;
        self.inner.kept.notify_all();
        threads.for_each(|thread| drop(thread.join()));
        self.inner.log.release();
        self.inner.wake_waiting();
    }
}

impl Drop for WriteAheadQueue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn append<R: AsRef<[u8]>>(
        &self,
        records: impl Iterator<Item = R> + Clone,
    ) -> Result<Ticket, AppendError> {
        let (mut bytes, limit) = (0_u64, self.log.options.max_record);
        for record in records.clone() {
            let length = record.as_ref().len();
            if length > limit {
                return Err(AppendError::TooLarge {
                    bytes: length,
                    limit,
                });
            }
            bytes += (HEAD + length) as u64;
        }
        let reserve = self.reserve();
        let mut pending = lock(&self.pending);
        if pending.is_closed {
            return Err(AppendError::Closed);
        }
        let used = self.log.used_bytes() + pending.bytes;
        if used + blocks(bytes) + DATA > self.max_bytes - reserve {
            return Err(AppendError::Full {
                used,
                limit: self.max_bytes - reserve,
            });
        }
        let first = pending.next;
        if bytes == 0 {
            let done = Arc::<Done>::default();
            done.tell(Ok(()));
            return Ok(Ticket::new(done, first..first));
        }
        let done = self.add(&mut pending, records);
        let range = first..pending.next;
        drop(pending);
        self.work.notify_one();
        Ok(Ticket::new(done, range))
    }

    /// One file is ready, and one is not full: what they take beyond what is written.
    fn reserve(&self) -> u64 {
        2 * self.log.options.segment_bytes
    }

    /// Adds records to the group that gathers, or to a new one.
    fn add<R: AsRef<[u8]>>(
        &self,
        pending: &mut Pending,
        records: impl Iterator<Item = R>,
    ) -> Arc<Done> {
        let is_open = |last: &PendingGroup| last.group.len_on_disk() < GROUP as u64;
        let joins = self.fsync == FsyncPolicy::Group && pending.groups.back().is_some_and(is_open);
        if !joins {
            let buffer = pending.buffers.pop().unwrap_or_default();
            pending.groups.push_back(PendingGroup {
                group: Group::new(pending.next, buffer),
                done: Arc::default(),
            });
        }
        let Some(last) = pending.groups.back_mut() else {
            return Arc::default();
        };
        let before = last.group.len_on_disk();
        for record in records {
            last.group.push(record.as_ref(), self.log.salt);
        }
        pending.next = last.group.end();
        pending.bytes += last.group.len_on_disk() - before;
        Arc::clone(&last.done)
    }

    /// The thread that writes.
    fn write(&self) {
        while let Some(PendingGroup { mut group, done }) = self.next_group() {
            let range = group.first()..group.end();
            let bytes = group.len_on_disk();
            let result = self.log.commit(&mut group);
            self.end(bytes, group);
            if let Err(error) = &result {
                tracing::error!(%error, "records were not made durable");
            }
            if let Some(on_commit) = &self.on_commit {
                on_commit(range, &result);
            }
            done.tell(result);
            // A segment that was sealed by this may be done already.
            if self.log.wants_spare() || self.log.has_done_segments() {
                self.poke();
            }
        }
    }

    /// A group is on the disk, or failed. Noted before anybody is told: its bytes count as in use by
    /// now, and would count twice for whoever hands in more at once.
    fn end(&self, bytes: u64, group: Group) {
        let mut pending = lock(&self.pending);
        pending.bytes -= bytes;
        // Two are in use at any time; what a burst has left behind goes.
        if pending.buffers.len() < 2 {
            let mut buffer = group.into_buffer();
            buffer.clear();
            buffer.shrink_to(2 * GROUP);
            pending.buffers.push(buffer);
        }
    }

    fn next_group(&self) -> Option<PendingGroup> {
        let mut pending = lock(&self.pending);
        loop {
            if let Some(group) = pending.groups.pop_front() {
                return Some(group);
            }
            if pending.is_closed {
                return None;
            }
            pending = self
                .work
                .wait(pending)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thread that keeps what is settled.
    fn keep(&self) {
        let mut pause = None;
        let mut has_failed = false;
        loop {
            // What has failed comes again by itself: nobody may be there to ask for it.
            let is_closed = self.wait_to_keep(pause, has_failed);
            (pause, has_failed) = (None, false);
            // The last one also says up to where records are durable: what of them is damaged when
            // the queue is opened again cannot be taken for a write that was under way.
            if is_closed || self.log.is_dirty() || self.log.has_done_segments() {
                pause = Some(CHECKPOINTS);
                if let Err(error) = self.checkpoint() {
                    tracing::error!(%error, "what is settled cannot be kept; it is tried again");
                    (pause, has_failed) = (Some(BACKOFF), true);
                }
            }
            if is_closed {
                return;
            }
            if self.log.wants_spare()
                && let Err(error) = self.log.prepare()
            {
                tracing::warn!(%error, "no segment can be made ahead");
                pause = Some(BACKOFF);
            }
        }
    }

    /// Waits for `pause`, and then for something to do unless it is known that there is. Answers
    /// whether it is the last time.
    fn wait_to_keep(&self, pause: Option<Duration>, is_known: bool) -> bool {
        let mut keeping = lock(&self.keeping);
        if let Some(pause) = pause {
            let wait = |keeping: &mut Keeping| !keeping.is_closed;
            let waited = self.kept.wait_timeout_while(keeping, pause, wait);
            keeping = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let idle = |keeping: &mut Keeping| !is_known && !keeping.is_poked && !keeping.is_closed;
        let waited = self.kept.wait_while(keeping, idle);
        let mut keeping = waited.unwrap_or_else(PoisonError::into_inner);
        keeping.is_poked = false;
        keeping.is_closed
    }

    fn poke(&self) {
        lock(&self.keeping).is_poked = true;
        self.kept.notify_all();
    }

    fn checkpoint(&self) -> Result<bool, StorageError> {
        let made_room = self.log.checkpoint();
        if !matches!(made_room, Ok(false)) {
            self.wake_waiting();
            if let Some(on_room) = &self.on_room {
                on_room();
            }
        }
        made_room
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll_room(&self, context: &mut Context<'_>, used: u64) -> Poll<()> {
        let mut waiting = lock(&self.waiting);
        if self.log.used_bytes() < used || lock(&self.pending).is_closed {
            return Poll::Ready(());
        }
        waiting.push(context.waker().clone());
        Poll::Pending
    }

    fn stats(&self) -> WalStats {
        let pending = lock(&self.pending);
        let (next, pending_bytes) = (pending.next, pending.bytes);
        drop(pending);
        let bytes = self.log.used_bytes();
        let counters = &self.log.counters;
        let read = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let state = self.log.state();
        WalStats {
            backlog: state.backlog(),
            next,
            floor: state.acks.floor(),
            totals: state.acks.totals(),
            bytes,
            max_bytes: self.max_bytes,
            segments: state.segments.len(),
            pending_bytes,
            groups: read(&counters.groups),
            written_bytes: read(&counters.bytes),
            sync_time: Duration::from_nanos(read(&counters.sync_nanos)),
            failures: read(&counters.failures),
            damages: state.damages.count(),
            damaged_bytes: state.damages.bytes(),
        }
    }
}
