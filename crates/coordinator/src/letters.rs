//! The writer of dead letters: one task per coordinator that makes letters durable and only then
//! gives their records the fate `dead_lettered`.
//!
//! Invariants:
//!
//! - Order: store COMMIT, then letter appended and fsynced, then the record is settled.
//! - A letter that cannot be written is an outage of the dead letters: its record stays in flight
//!   and is tried again; workers go on with other batches until [`JOBS`] groups wait here. One that
//!   never can (its own fault: too large) is dropped and told, or it would hold up all others.
//! - Letters that wait together are written together, with one fsync.
//! - User code (describing a letter, serialization, the drop callback) runs outside of any lock,
//!   and a panic in it costs nothing but the description, or the call.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mds_core::ErrorKind;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::dead_letter::{DeadLetterQueue, DlqError, LetterDraft, LetterItem, Reason};
use crate::log::log;
use crate::queue::{BoundedQueue, Fate, Rows};

/// Groups of records that may wait for their letters before workers wait too.
pub(crate) const JOBS: usize = 64;
/// Records whose letters are written with one fsync, at most.
const RECORDS_PER_APPEND: usize = 4_096;
/// The first and the longest wait after a failed append.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long one append may take before it is told as an outage: a lock that is never released, a
/// disk that does not answer.
const LONGEST_APPEND: Duration = Duration::from_secs(5);

/// Why a record was given up.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The closed set of reasons.
    pub reason: Reason,
    /// What happened, for a person.
    pub error: String,
    /// The error's kind, as in [`mds_core::ErrorKind::as_str`].
    pub error_class: &'static str,
    /// The store's own short code.
    pub code: Option<String>,
    /// Attempts used up.
    pub attempts: u32,
    /// The worker that gave up.
    pub worker_id: Option<u32>,
    /// The record may have been written all the same.
    pub outcome_unknown: bool,
}

/// A place for dead letters. [`DeadLetterQueue`] is the one of this crate.
pub trait DeadLetters<T>: Send + Sync + 'static {
    /// The record as a letter holds it.
    fn item(&self, item: &T) -> LetterItem;

    /// Makes letters durable; blocks. All or nothing is not required: a letter that was written is
    /// recognised by its id when it is written again.
    fn append(&self, letters: Vec<LetterDraft>) -> Result<(), DlqError>;

    /// Bytes that the letters take, for the metric.
    fn bytes(&self) -> u64 {
        0
    }

    /// Whether `append` may block; then it is called where blocking is allowed.
    fn is_blocking(&self) -> bool {
        true
    }
}

impl<T: Serialize + Send + Sync + 'static> DeadLetters<T> for DeadLetterQueue<T> {
    fn item(&self, item: &T) -> LetterItem {
        // An item that cannot be serialized must not hold up the others for ever: its letter says
        // so and keeps all the rest.
        let error = match catch_unwind(AssertUnwindSafe(|| LetterItem::record(item))) {
            Ok(Ok(item)) => return item,
            Ok(Err(DlqError::Serialize { source })) => source.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "serializing panicked".to_owned(),
        };
        LetterItem::line(format!("not serializable: {error}").as_bytes())
    }

    fn append(&self, letters: Vec<LetterDraft>) -> Result<(), DlqError> {
        Self::append(self, letters).map(drop)
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self).unwrap_or(0)
    }
}

/// Completes the letter of a record: its kind, where it was read, the letter that it replaces.
pub type DescribeFn<T> = dyn Fn(&T, &mut LetterDraft) + Send + Sync;
/// Called for a record that overflowed or is dropped.
pub type DropCallback<T> = dyn Fn(&T, Reason) + Send + Sync;

/// Records of one lease, each with its cause.
pub(crate) struct Job<T> {
    pub(crate) lease: u64,
    pub(crate) rows: Rows<T>,
    pub(crate) causes: Vec<(u32, Arc<Cause>)>,
    /// The drop callback was called for the records before.
    pub(crate) told: bool,
}

impl<T> Job<T> {
    /// Another handle on the same records.
    fn share(&self) -> Self {
        let (lease, rows, causes) = (self.lease, self.rows.clone(), self.causes.clone());
        Self {
            lease,
            rows,
            causes,
            told: self.told,
        }
    }

    /// A job for each record.
    fn split(self) -> impl Iterator<Item = Self> {
        let (lease, rows, told) = (self.lease, self.rows, self.told);
        let job = move |cause| Self {
            lease,
            rows: rows.clone(),
            causes: vec![cause],
            told,
        };
        self.causes.into_iter().map(job)
    }
}

/// Why letters were not written, as text: it may be a panic.
#[derive(Debug)]
pub(crate) struct AppendError {
    text: String,
    /// One of the letters can never be written, or not all of them together.
    is_final: bool,
}

impl AppendError {
    fn outage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_final: false,
        }
    }
}

impl From<&DlqError> for AppendError {
    fn from(error: &DlqError) -> Self {
        // More than there may ever be: no purge makes room for it.
        let exceeds_all = matches!(error, DlqError::Full { limit, needed, .. } if needed > limit);
        Self {
            text: error.to_string(),
            is_final: exceeds_all || error.kind() == ErrorKind::Fatal,
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the writer works with; shared with `stop`, which writes the last letters itself.
pub(crate) struct Letters<T> {
    pub(crate) queue: BoundedQueue<T>,
    pub(crate) coord_id: String,
    pub(crate) sink: Option<Arc<dyn DeadLetters<T>>>,
    pub(crate) describe: Option<Arc<DescribeFn<T>>>,
    pub(crate) drop_callback: Option<Arc<DropCallback<T>>>,
    pub(crate) failing: AtomicBool,
    pub(crate) callback_panics: AtomicU64,
}

impl<T> fmt::Debug for Letters<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters")
            .field("coord_id", &self.coord_id)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Letters<T> {
    /// Settles a group that has no dead letters to go to. A row is settled before the callback
    /// hears of it: a stop that comes in between then tells nobody of it a second time.
    pub(crate) fn drop_rows(&self, job: &Job<T>) {
        for (position, cause) in &job.causes {
            let settled = self
                .queue
                .settle(job.lease, &[*position], Fate::Dropped(cause.reason));
            if settled > 0 && !job.told {
                self.call_back_for(job, *position, cause.reason);
            }
        }
        if let Some((_, cause)) = job.causes.first() {
            log(|| {
                tracing::error!(
                    coord_id = %self.coord_id,
                    reason = cause.reason.as_str(),
                    rows = job.causes.len(),
                    error = %cause.error,
                    "records dropped: there is no dead letter queue, or it can never take them"
                );
            });
        }
    }

    /// Tells the drop callback of each record, once.
    pub(crate) fn call_back(&self, job: &Job<T>) {
        if job.told {
            return;
        }
        for (position, cause) in &job.causes {
            self.call_back_for(job, *position, cause.reason);
        }
    }

    fn call_back_for(&self, job: &Job<T>, position: u32, reason: Reason) {
        let Some(callback) = &self.drop_callback else {
            return;
        };
        let Some(item) = job.rows.items.get(position as usize) else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| callback(item, reason))).is_err() {
            self.callback_panics.fetch_add(1, Ordering::Relaxed);
            log(|| tracing::error!(coord_id = %self.coord_id, "drop callback panicked"));
        }
    }

    /// Writes the letters of `jobs`, once; blocks.
    pub(crate) fn append(&self, jobs: &[Job<T>]) -> Result<(), DlqError> {
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        let mut letters = Vec::new();
        for job in jobs {
            for (position, cause) in &job.causes {
                let Some(item) = job.rows.items.get(*position as usize) else {
                    continue;
                };
                letters.push(self.draft(sink.as_ref(), item, cause));
            }
        }
        sink.append(letters)
    }

    fn item(&self, sink: &dyn DeadLetters<T>, item: &T) -> LetterItem {
        catch_unwind(AssertUnwindSafe(|| sink.item(item))).unwrap_or_else(|_| {
            self.callback_panics.fetch_add(1, Ordering::Relaxed);
            log(|| tracing::error!(coord_id = %self.coord_id, "making the item of a letter panicked"));
            LetterItem::line(b"making the item of this letter panicked")
        })
    }

    fn draft(&self, sink: &dyn DeadLetters<T>, item: &T, cause: &Cause) -> LetterDraft {
        let mut draft = LetterDraft {
            code: cause.code.clone(),
            attempts: cause.attempts,
            worker_id: cause.worker_id,
            outcome_unknown: cause.outcome_unknown,
            ..LetterDraft::new(
                self.coord_id.as_str(),
                cause.reason,
                cause.error.as_str(),
                cause.error_class,
                self.item(sink, item),
            )
        };
        if let Some(describe) = &self.describe
            && catch_unwind(AssertUnwindSafe(|| describe(item, &mut draft))).is_err()
        {
            self.callback_panics.fetch_add(1, Ordering::Relaxed);
            log(|| tracing::error!(coord_id = %self.coord_id, "describing a letter panicked"));
        }
        draft
    }

    /// Writes each letter on its own, since one of them can never be written, or not all of them
    /// together; the record of one that cannot be written alone is dropped. What was written is
    /// taken out of `jobs`; an outage leaves the rest in.
    async fn append_each(self: &Arc<Self>, jobs: Vec<Job<T>>) -> Result<(), Vec<Job<T>>> {
        let mut rest: VecDeque<Job<T>> = jobs.into_iter().flat_map(Job::split).collect();
        while let Some(job) = rest.pop_front() {
            let one = Arc::new(vec![job]);
            let answer = self.append_apart(&one).await;
            match answer {
                Ok(()) => self.settle(&one),
                Err(error) if error.is_final => one.iter().for_each(|job| self.drop_rows(job)),
                Err(_) => {
                    rest.extend(one.iter().map(Job::share));
                    return Err(rest.into());
                }
            }
        }
        Ok(())
    }

    fn settle(&self, jobs: &[Job<T>]) {
        for job in jobs {
            for (position, cause) in &job.causes {
                self.queue
                    .settle(job.lease, &[*position], Fate::DeadLettered(cause.reason));
            }
        }
    }

    /// Runs until the last sender is gone.
    pub(crate) async fn run(self: Arc<Self>, mut jobs: mpsc::Receiver<Vec<Job<T>>>) {
        while let Some(mut waiting) = jobs.recv().await {
            let mut records: usize = waiting.iter().map(|job| job.causes.len()).sum();
            while records < RECORDS_PER_APPEND
                && let Ok(more) = jobs.try_recv()
            {
                records += more.iter().map(|job| job.causes.len()).sum::<usize>();
                waiting.extend(more);
            }
            self.write(waiting).await;
        }
    }

    /// Writes letters until they are written. A stop takes the records away from a writer that
    /// does not get through; its late success then settles nothing.
    async fn write(self: &Arc<Self>, jobs: Vec<Job<T>>) {
        let mut jobs = Arc::new(jobs);
        let mut backoff = BACKOFF.0;
        loop {
            let error = match self.append_watched(&jobs).await {
                Ok(()) => {
                    self.failing.store(false, Ordering::Relaxed);
                    self.settle(&jobs);
                    return;
                }
                Err(error) => error,
            };
            if error.is_final {
                match self
                    .append_each(jobs.iter().map(Job::share).collect())
                    .await
                {
                    Ok(()) => {
                        self.failing.store(false, Ordering::Relaxed);
                        return;
                    }
                    Err(rest) => jobs = Arc::new(rest),
                }
            }
            self.note_outage(&error);
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    fn note_outage(&self, error: &dyn fmt::Display) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            let (coord_id, what) = (
                &self.coord_id,
                "dead letters cannot be written; their records wait",
            );
            log(|| tracing::error!(%coord_id, %error, "{what}"));
        }
    }

    /// Appends, and tells of an append that does not come back.
    async fn append_watched(self: &Arc<Self>, jobs: &Arc<Vec<Job<T>>>) -> Result<(), AppendError> {
        let append = self.append_apart(jobs);
        tokio::pin!(append);
        tokio::select! {
            biased;
            answer = &mut append => return answer,
            () = tokio::time::sleep(LONGEST_APPEND) => {}
        }
        self.note_outage(&format_args!(
            "no answer for {} s",
            LONGEST_APPEND.as_secs()
        ));
        append.await
    }

    /// Appends where blocking is allowed.
    pub(crate) async fn append_apart(
        self: &Arc<Self>,
        jobs: &Arc<Vec<Job<T>>>,
    ) -> Result<(), AppendError> {
        let letters = Arc::clone(self);
        let jobs = Arc::clone(jobs);
        let append = move || match catch_unwind(AssertUnwindSafe(|| letters.append(&jobs))) {
            Ok(result) => result.map_err(|error| AppendError::from(&error)),
            Err(_) => Err(AppendError::outage("writing the letters panicked")),
        };
        if self.sink.as_ref().is_none_or(|sink| !sink.is_blocking()) {
            return append();
        }
        let answer = tokio::task::spawn_blocking(append).await;
        answer.unwrap_or_else(|error| Err(AppendError::outage(error.to_string())))
    }
}
