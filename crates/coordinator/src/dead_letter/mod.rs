//! Dead letters: the records that were given up, in a file that people can read.
//!
//! One JSON object a line, as `docs/dead-letters.md` describes:
//!
//! ```text
//! {"ts":1760534400.123,"error":"...","metadata":{...},"items":[...]}
//! ```
//!
//! Invariants:
//!
//! - When an append returns, its letters are on disk (with [`DlqOptions::sync`]), each on a line of
//!   its own, however many processes append and whenever one of them is killed.
//! - The active file is only appended to. A rotated file never changes. A file is removed when all
//!   of its lines are settled, never before.
//! - A letter is settled by naming the lines that were read, so nothing that is appended later is
//!   settled unseen.
//! - A line that is no letter is reported and kept until [`DeadLetterQueue::purge_damaged`].
//! - No state is held between calls: the files are the truth, and removing or moving them by hand
//!   at any time is safe.
//!
//! | module | holds |
//! |---|---|
//! | `draft` | [`LetterDraft`]: letters to be written, and their ids |
//! | `append` | the append protocol and rotation |
//! | `letter` | [`Letter`], [`DlqRecord`], [`Damaged`]: letters read back |
//! | `scan`, `index` | reading in bounded memory, each letter once |
//! | `settle` | settled lines, and removing files |
//! | `replayer` | [`Replayer`]: one at a time, safe to kill |
//! | `filter` | [`LetterFilter`] and [`Histogram`] |
//! | `files` | names, locks and durable steps |

mod append;
mod draft;
mod error;
mod files;
mod filter;
mod index;
mod letter;
mod reason;
mod replayer;
mod scan;
mod settle;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

pub use append::Appended;
pub use draft::{LetterDraft, LetterItem};
pub use error::DlqError;
pub use filter::{Histogram, LetterFilter};
pub use letter::{Damaged, DlqRecord, Entry, Item, Letter, LetterKey};
pub use reason::{Reason, ReasonError};
pub use replayer::Replayer;
pub use scan::Scan;
pub use settle::Reclaimed;

use draft::{Rendered, json_line};
use files::Files;

use crate::log::log;

/// How many letters are settled with one sync while purging.
const PURGE_BATCH: usize = 10_000;

/// How a dead-letter queue treats its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DlqOptions {
    /// Whether missing folders are made. Default: true.
    pub mkdirs: bool,
    /// The size, in bytes, past which the active file is set aside and a new one started. One
    /// append is never split, so a file can exceed it by one append. Default: 64 MiB.
    pub max_file_bytes: u64,
    /// The size, in bytes, of all letters on disk past which appending is refused with
    /// [`DlqError::Full`]. Default: 1 GiB.
    pub max_total_bytes: u64,
    /// Whether an append returns only when its letters are on disk; without it they survive the
    /// process, not a power cut. Default: true.
    pub sync: bool,
    /// How long opening waits for somebody else's append to end; an append itself waits as long as
    /// it takes. Default: 5 s.
    pub lock_wait: Duration,
}

impl Default for DlqOptions {
    fn default() -> Self {
        Self {
            mkdirs: true,
            max_file_bytes: 64 << 20,
            max_total_bytes: 1 << 30,
            sync: true,
            lock_wait: Duration::from_secs(5),
        }
    }
}

/// A file of dead letters; `T` is the type of the items that are read back.
///
/// Any number of handles, threads and processes may use one file at the same time. Methods that
/// are not `async` block on files: call them where blocking is allowed.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions};
///
/// let dir = tempfile::tempdir().unwrap();
/// let path = dir.path().join(".dlq/items.ndjson");
/// let dlq = DeadLetterQueue::<String>::open(path, DlqOptions::default()).unwrap();
/// let metadata = [("stage".to_owned(), "write".into())].into_iter().collect();
/// dlq.save(&["a".to_owned()], &"connection refused", &metadata).await.unwrap();
///
/// let records = dlq.replay(100).await.unwrap();
/// assert_eq!(records[0].error, "connection refused");
/// assert_eq!(records[0].metadata["stage"], "write");
/// assert_eq!(records[0].items, ["a"]);
/// # });
/// ```
pub struct DeadLetterQueue<T> {
    files: Arc<Files>,
    options: DlqOptions,
    item: PhantomData<fn() -> T>,
}

impl<T> Clone for DeadLetterQueue<T> {
    fn clone(&self) -> Self {
        Self {
            files: Arc::clone(&self.files),
            options: self.options.clone(),
            item: PhantomData,
        }
    }
}

impl<T> fmt::Debug for DeadLetterQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterQueue")
            .field("path", &self.files.active)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<T> DeadLetterQueue<T> {
    /// Opens the letters at `path` for writing and reading, and proves that letters can be written.
    ///
    /// Makes folders as [`DlqOptions::mkdirs`] says; the file itself comes with the first letter.
    ///
    /// # Errors
    ///
    /// [`DlqError::NotAFile`] where `path` ends in no name, and [`DlqError::CreateFolder`],
    /// [`DlqError::Lock`] or [`DlqError::Open`] where letters could not be written.
    pub fn open(path: impl AsRef<Path>, options: DlqOptions) -> Result<Self, DlqError> {
        let queue = Self::at(path, options)?;
        let files = &queue.files;
        if queue.options.mkdirs {
            files.create_dir()?;
        }
        let lock = files.lock_within(queue.options.lock_wait)?;
        if files.active.exists() {
            files.open_active(false)?;
        } else if !files.settled.exists() && files.rotated()?.is_empty() {
            lock.remove()?;
        }
        Ok(queue)
    }

    /// The letters at `path`, without looking at or making anything yet; for reading letters that
    /// may not be there, or may be in a place that cannot be written to.
    pub fn at(path: impl AsRef<Path>, options: DlqOptions) -> Result<Self, DlqError> {
        Ok(Self {
            files: Arc::new(Files::new(path.as_ref())?),
            options,
            item: PhantomData,
        })
    }

    /// The same letters, with items read as another type.
    pub fn with_items<U>(&self) -> DeadLetterQueue<U> {
        DeadLetterQueue {
            files: Arc::clone(&self.files),
            options: self.options.clone(),
            item: PhantomData,
        }
    }

    /// The active file.
    pub fn path(&self) -> &Path {
        &self.files.active
    }

    /// The files that hold letters now, oldest first.
    pub fn letter_files(&self) -> Result<Vec<PathBuf>, DlqError> {
        let mut paths: Vec<_> = self.files.rotated()?.into_iter().map(|(_, p)| p).collect();
        if self.files.active.exists() {
            paths.push(self.files.active.clone());
        }
        Ok(paths)
    }

    /// Bytes of all letters on disk; settled ones count until their file is removed.
    pub fn bytes(&self) -> Result<u64, DlqError> {
        self.files.total_bytes()
    }

    /// Appends letters: all of them or none, with one sync.
    ///
    /// # Errors
    ///
    /// [`DlqError::Serialize`] and [`DlqError::TooLarge`] concern the letters; everything else is
    /// an outage of the file, [`DlqError::Full`] among it. After an error nothing of the letters
    /// counts as kept, though a failed sync, or a kill half-way, may leave some to be found;
    /// appending them again does not make them two.
    pub fn append(&self, letters: Vec<LetterDraft>) -> Result<Appended, DlqError> {
        let lines: Result<Vec<_>, _> = letters.into_iter().map(LetterDraft::render).collect();
        append::append(&self.files, &self.options, &lines?)
    }

    /// Settles the letters with these ids, durably, and removes the files that are done. Answers
    /// how many of the letters were there.
    pub fn settle(&self, ids: &[Uuid]) -> Result<u64, DlqError> {
        let ids: HashSet<_> = ids.iter().collect();
        let mut keys = Vec::new();
        for entry in Scan::<Value>::new(&self.files, LetterFilter::default())? {
            match entry? {
                Entry::Letter(letter) if ids.contains(&letter.id) => keys.push(letter.key()),
                _ => {}
            }
        }
        settle::mark(&self.files, &keys)?;
        settle::reclaim(&self.files)?;
        Ok(keys.len() as u64)
    }

    /// Gives up the letters that the filter selects, for good: they are settled without being
    /// replayed. Answers how many.
    ///
    /// # Errors
    ///
    /// [`DlqError::Busy`] while somebody replays or purges.
    pub fn purge(&self, filter: LetterFilter) -> Result<u64, DlqError> {
        let mut replayer = Replayer::<Value>::new(&self.files, filter)?;
        loop {
            let batch = replayer.next_batch(PURGE_BATCH)?;
            if batch.is_empty() {
                break;
            }
            let keys: Vec<_> = batch.iter().map(Letter::key).collect();
            replayer.settle(&keys)?;
        }
        let purged = replayer.settled();
        replayer.finish()?;
        Ok(purged)
    }

    /// Gives up the lines that are no letters, for good. Answers how many.
    pub fn purge_damaged(&self) -> Result<u64, DlqError> {
        let mut keys = Vec::new();
        for entry in Scan::<Value>::new(&self.files, LetterFilter::default())? {
            if let Entry::Damaged(damaged) = entry? {
                keys.push(LetterKey {
                    id: damaged.fingerprint,
                    lines: vec![damaged.fingerprint],
                });
            }
        }
        settle::mark(&self.files, &keys)?;
        settle::reclaim(&self.files)?;
        Ok(keys.len() as u64)
    }

    /// Counts the unsettled letters that the filter selects.
    pub fn histogram(&self, filter: LetterFilter) -> Result<Histogram, DlqError> {
        let mut histogram = Histogram::default();
        for entry in Scan::<Value>::new(&self.files, filter)? {
            match entry? {
                Entry::Letter(letter) => histogram.add(&letter),
                Entry::Damaged(_) => histogram.damaged += 1,
            }
        }
        Ok(histogram)
    }
}

impl<T: DeserializeOwned> DeadLetterQueue<T> {
    /// The unsettled letters that the filter selects, each once, oldest first. Takes about 20 bytes
    /// of memory for each letter on disk, and what one letter needs.
    pub fn scan(&self, filter: LetterFilter) -> Result<Scan<T>, DlqError> {
        Scan::new(&self.files, filter)
    }

    /// As [`scan`](Self::scan), all in memory; set [`LetterFilter::limit`].
    pub fn list(&self, filter: LetterFilter) -> Result<Vec<Entry<T>>, DlqError> {
        self.scan(filter)?.collect()
    }

    /// Becomes the one replayer of the letters that the filter selects.
    ///
    /// # Errors
    ///
    /// [`DlqError::Busy`] while somebody else, in any process, replays or purges.
    pub fn replayer(&self, filter: LetterFilter) -> Result<Replayer<T>, DlqError> {
        Replayer::new(&self.files, filter)
    }
}

impl<T: Serialize> DeadLetterQueue<T> {
    /// Writes `items` as one letter, with exactly this metadata.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is polled it does nothing; after that the letter is written all the same.
    pub fn save(
        &self,
        items: &[T],
        error: &dyn fmt::Display,
        metadata: &Map<String, Value>,
    ) -> impl Future<Output = Result<(), DlqError>> + Send + use<T> {
        let line = json_line(items)
            .and_then(|items| Rendered::new(&error.to_string(), metadata, &items, None));
        let (files, options) = (Arc::clone(&self.files), self.options.clone());
        async move {
            let line = line?;
            blocking(move || append::append(&files, &options, &[line])).await?;
            Ok(())
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> DeadLetterQueue<T> {
    /// Reads the oldest `max_records` letters that are not settled, and leaves them where they are.
    /// None where there is no file. Items that are no `T` are found in the metadata
    /// `unparsed_items`; lines that are no letters are passed over with a warning.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost; the work under way is finished in the background.
    pub async fn replay(&self, max_records: usize) -> Result<Vec<DlqRecord<T>>, DlqError> {
        let queue = self.clone();
        blocking(move || {
            let mut records = Vec::new();
            let mut damaged = 0_u64;
            let mut scan = queue.scan(LetterFilter::default())?;
            while records.len() < max_records {
                match scan.next().transpose()? {
                    Some(Entry::Letter(letter)) => records.push(letter.into()),
                    Some(Entry::Damaged(_)) => damaged += 1,
                    None => break,
                }
            }
            if damaged > 0 {
                let path = queue.path().display();
                let what = "lines that are no dead letters were passed over";
                log(|| tracing::warn!(%path, damaged, "{what}"));
            }
            Ok(records)
        })
        .await
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, DlqError> + Send + 'static,
) -> Result<R, DlqError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|source| Err(DlqError::Interrupted { source }))
}
