//! The queue with its two threads.
//!
//! - **Writer**: takes the group that has gathered, writes and syncs it, tells those who wait. What is
//!   handed in meanwhile is the next group, so that the groups are the larger the more there is to do,
//!   and nobody waits for company.
//! - **Keeper**: see [`crate::keeper`].

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;

use crate::SeqNo;
use crate::acks::CLASSES;
use crate::commit::{Done, Ticket};
use crate::damage::Damage;
use crate::error::{AppendError, OpenError, StorageError};
use crate::log::{Log, lock};
use crate::open::{self, Recovery};
use crate::options::{FsyncPolicy, OnCommit, OnRoom, WalOptions};
use crate::reader::{Reader, Record};
use crate::record::{Group, HEAD, blocks};
use crate::segment::DATA;
use crate::stats::WalStats;
use crate::storage::{FileStorage, Storage};

/// Bytes after which a group that waits takes no more: one that goes to the disk meanwhile should
/// not take much longer than a sync does anyway.
const GROUP: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct PendingGroup {
    group: Group,
    done: Arc<Done>,
}

#[derive(Debug)]
pub(crate) struct Pending {
    groups: VecDeque<PendingGroup>,
    pub(crate) next: SeqNo,
    /// Bytes of the groups, the one that is being written too.
    pub(crate) bytes: u64,
    buffers: Vec<Vec<u8>>,
    pub(crate) is_closed: bool,
}

pub(crate) struct Inner {
    pub(crate) log: Arc<Log>,
    pub(crate) max_bytes: u64,
    pub(crate) fsync: FsyncPolicy,
    pub(crate) on_commit: Option<Arc<OnCommit>>,
    pub(crate) on_room: Option<Arc<OnRoom>>,
    pub(crate) pending: Mutex<Pending>,
    pub(crate) work: Condvar,
    /// Those who wait for room.
    pub(crate) waiting: Mutex<Vec<Waker>>,
    pub(crate) first: SeqNo,
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
            self.inner.log.bell.ring(false);
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
        self.inner.log.bell.close();
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
            drop(pending);
            self.log.want_room();
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

    /// Some files are ready, and one is not full: what they take beyond what is written.
    fn reserve(&self) -> u64 {
        (self.log.options.spares as u64 + 1) * self.log.options.segment_bytes
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
            let was_dirty = self.log.is_dirty();
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
            let wants_spare = self.log.wants_spare();
            if wants_spare || !was_dirty || self.log.has_done_segments() {
                self.log.bell.ring(wants_spare);
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
}
