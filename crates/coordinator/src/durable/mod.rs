//! Records on the disk before they are in memory: what a submit has answered survives the process.
//!
//! ```text
//! submit ─► encoded, appended ─► synced ─► accepted ─┬─► window in memory ─► worker ─► fate ─► settled
//!                                                    └─► on the disk only ─► read as there is room ─┘
//! ```
//!
//! Invariants:
//!
//! - A submit answers after the sync. Cancelled before, the record is in all the same: once it is
//!   appended, only the answer is lost.
//! - Records come into the window in the order of their numbers: straight from their producer where
//!   nothing older waits on the disk, else from the disk. So what is in memory is bounded by the window
//!   and by what is being synced, however long the backlog is.
//! - A record is settled on the disk after the store has committed it, or after its letter is synced,
//!   never before. What a stop leaves over stays, and is recovered by the next start.
//! - Numbers of fates are kept with what is settled, in the same checkpoint.

mod clock;
mod intake;
mod refill;
mod totals;
mod trouble;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mds_wal::{
    FileStorage, FsyncPolicy, InspectError, OpenError, Recovery, Storage, WalOptions, WalStats,
    WriteAheadQueue,
};
use tokio::sync::Notify;

pub use clock::{ClockError, ClockStart, DurableClock};
pub(crate) use intake::Intake;
pub(crate) use refill::refill;
pub(crate) use totals::class_of;
pub use totals::{DurableTotals, fate_of};
use trouble::Trouble;

/// Makes bytes of a record, and a record of bytes. The bytes may be read by a later version of the
/// program: [`DurableOptions::identity`] says which one they are of.
pub trait Codec<T>: Send + Sync + 'static {
    /// Appends the bytes of a record.
    fn encode(&self, item: &T, bytes: &mut Vec<u8>);

    /// Makes a record of what [`Codec::encode`] has made.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes, in words: they are set aside and told.
    fn decode(&self, bytes: &[u8]) -> Result<T, String>;
}

/// How a durable queue is set up.
#[derive(Clone, Debug)]
pub struct DurableOptions {
    /// What the records are: their kind, the version of their bytes, the store that they are for. A
    /// folder that says something else is refused. Default: empty.
    pub identity: String,
    /// Bytes that may be used on the disk; at least 256 KiB. A record is refused as too large from
    /// 16 MiB on, or from half of what is left of them beside the segments that are
    /// made ahead. Default: 4 GiB.
    pub max_bytes: u64,
    /// Default: one sync for all that has gathered.
    pub fsync: FsyncPolicy,
}

impl Default for DurableOptions {
    fn default() -> Self {
        Self {
            identity: String::new(),
            max_bytes: 4 << 30,
            fsync: FsyncPolicy::Group,
        }
    }
}

/// Told of syncs, by metrics.
type OnSync = dyn Fn(Duration) + Send + Sync;

/// What the threads of the queue call; set when a coordinator starts.
#[derive(Default)]
struct Hooks {
    commit: OnceLock<Arc<mds_wal::OnCommit>>,
    sync: OnceLock<Arc<OnSync>>,
    room: OnceLock<Arc<mds_wal::OnRoom>>,
}

/// A durable queue in a folder, for [`crate::CoordinatorBuilder::durable_queue`].
///
/// ```
/// use std::sync::Arc;
/// use mds_coordinator::{Codec, DurableOptions, DurableQueue};
///
/// struct Text;
/// impl Codec<String> for Text {
///     fn encode(&self, item: &String, bytes: &mut Vec<u8>) {
///         bytes.extend_from_slice(item.as_bytes());
///     }
///     fn decode(&self, bytes: &[u8]) -> Result<String, String> {
///         String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
///     }
/// }
///
/// let dir = tempfile::tempdir().unwrap();
/// let queue = DurableQueue::open(dir.path(), DurableOptions::default(), Arc::new(Text)).unwrap();
/// assert_eq!(queue.recovery().records, 0);
/// ```
pub struct DurableQueue<T> {
    pub(crate) wal: WriteAheadQueue,
    pub(crate) codec: Arc<dyn Codec<T>>,
    hooks: Arc<Hooks>,
    recovery: Recovery,
    /// How long the oldest record has been here.
    pub(crate) oldest_age: Duration,
}

impl<T> fmt::Debug for DurableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableQueue")
            .field("wal", &self.wal)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> DurableQueue<T> {
    /// Opens the queue in a folder, which is made if it is not there; blocks.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: another process uses it, it is for something else, the disk does not answer.
    pub fn open(
        dir: &Path,
        options: DurableOptions,
        codec: Arc<dyn Codec<T>>,
    ) -> Result<Self, OpenError> {
        Self::open_with(codec, options, |options| {
            WriteAheadQueue::open(dir, options)
        })
    }

    /// The same on any storage.
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: DurableOptions,
        codec: Arc<dyn Codec<T>>,
    ) -> Result<Self, OpenError> {
        Self::open_with(codec, options, |options| {
            WriteAheadQueue::open_on(storage, options)
        })
    }

    fn open_with(
        codec: Arc<dyn Codec<T>>,
        options: DurableOptions,
        open: impl FnOnce(WalOptions) -> Result<(WriteAheadQueue, Recovery), OpenError>,
    ) -> Result<Self, OpenError> {
        let hooks = Arc::<Hooks>::default();
        let (of_commit, of_sync, of_room) =
            (Arc::clone(&hooks), Arc::clone(&hooks), Arc::clone(&hooks));
        let (wal, mut recovery) = open(WalOptions {
            identity: options.identity,
            max_bytes: options.max_bytes,
            fsync: options.fsync,
            on_commit: Some(Arc::new(move |range, result| {
                if let Some(told) = of_commit.commit.get() {
                    told(range, result);
                }
            })),
            on_sync: Some(Arc::new(move |took| {
                if let Some(told) = of_sync.sync.get() {
                    told(took);
                }
            })),
            on_room: Some(Arc::new(move || {
                if let Some(told) = of_room.room.get() {
                    told();
                }
            })),
            ..WalOptions::default()
        })?;
        // A storage that does not answer here is asked again when the backlog is read.
        let known = wal.stats().totals.damaged;
        let oldest = wal.reader().read(1, 1).unwrap_or_default();
        // What is found on the way to the oldest is settled, and nobody comes upon it again.
        recovery.damaged += wal.stats().totals.damaged - known;
        recovery.damages = wal.damages();
        let oldest_age = oldest.first().map_or(Duration::ZERO, |record| {
            age_of(time_of(&record.payload).unwrap_or_else(now_micros))
        });
        Ok(Self {
            wal,
            codec,
            hooks,
            recovery,
            oldest_age,
        })
    }

    /// What was found when it was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Figures of this moment.
    pub fn stats(&self) -> WalStats {
        self.wal.stats()
    }
}

/// Reads the records that wait in the folder of a queue, without opening it: a process may use it, or
/// none. Those that are damaged, or that the codec does not know, are left out.
///
/// # Errors
///
/// [`InspectError`]: there is no queue, or the disk does not answer.
pub fn waiting_records<T: 'static>(
    dir: &Path,
    codec: &dyn Codec<T>,
    mut visit: impl FnMut(T),
) -> Result<(), InspectError> {
    mds_wal::waiting(&FileStorage::at(dir), |_, payload| {
        let bytes = payload.get(TIME..).unwrap_or_default();
        if let Ok(record) = codec.decode(bytes) {
            visit(record);
        }
    })
}

/// A durable queue at work.
pub(crate) struct Durable<T> {
    pub(crate) queue: DurableQueue<T>,
    pub(crate) intake: Mutex<Intake<T>>,
    pub(crate) refill: Notify,
    coord_id: String,
    /// Bytes of the largest record that always finds room in the end.
    largest: usize,
    /// Making records durable.
    writing: Trouble,
    /// Reading the backlog; its records wait.
    reading: Trouble,
    /// Setting aside what nobody can read; it waits.
    holding: Trouble,
}

impl<T> fmt::Debug for Durable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl<T> Durable<T> {
    /// Bytes of the disk that a record took on average since the queue was opened, blocks that were
    /// not filled included; `None` before the first.
    pub(crate) fn record_bytes(&self) -> Option<u64> {
        let stats = self.queue.wal.stats();
        let records = stats.next.saturating_sub(self.queue.recovery.next);
        let bytes = stats.written_bytes + stats.pending_bytes;
        bytes.checked_div(records).filter(|each| *each > 0)
    }

    /// Why records are not made durable, or cannot be read, at the moment.
    pub(crate) fn errors(&self) -> impl Iterator<Item = String> {
        let all = [&self.writing, &self.reading, &self.holding];
        all.into_iter().filter_map(Trouble::error)
    }
}

/// Bytes before those of a record: when it was handed in, microseconds since 1970.
const TIME: usize = 8;

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

fn time_of(payload: &[u8]) -> Option<i64> {
    payload
        .first_chunk::<TIME>()
        .map(|b| i64::from_le_bytes(*b))
}

fn age_of(micros: i64) -> Duration {
    let age = now_micros().saturating_sub(micros);
    Duration::from_micros(u64::try_from(age).unwrap_or(0))
}
