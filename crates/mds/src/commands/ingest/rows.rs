//! Rows on their way from a reader into the write path.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mds_coordinator::dead_letter::{LetterDraft, LetterItem};
use mds_coordinator::{Reason, Refusal, SubmitManyError, WriteCoordinator};
use mds_core::{Origin, Record, Sourced};
use mds_formats::InvalidRow;
use tokio::time::Instant;

use super::read::Chunk;
use super::run::Run;
use super::stop::{FIRST_ROWS, Stop};
use crate::pipeline::MarketRecord;

/// How long to wait for the disk of the queue before the next try.
const DISK_AGAIN: Duration = Duration::from_millis(200);
/// How long a stop waits for the disk's answer to what is on its way to it.
const ANSWER: Duration = Duration::from_secs(2);

/// How far an input has been taken.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Rows, records among them.
    rows: u64,
    records: u64,
    /// What the input holds and how it is read, as one text, where that is known.
    pub(super) content: Option<Arc<str>>,
    /// All rows up to this one are synced, as records or as letters.
    pub(super) acknowledged: u64,
    /// A row was not taken, so that nothing behind it may be passed over.
    pub(super) has_refused: bool,
    /// Records that did not bring a revision of their own.
    pub(super) given: u64,
    /// Where the last row that was taken stands.
    pub(super) last: Option<Origin>,
}

impl Seen {
    /// Nothing yet of an input with this content.
    pub(super) fn of(content: Option<&str>) -> Self {
        Self {
            content: content.map(Into::into),
            ..Self::default()
        }
    }
}

impl<R: MarketRecord> Run<R> {
    /// Takes a chunk; where the run stops before all of it is taken, answers with the first row
    /// that is not.
    pub(super) async fn chunk(
        &self,
        mut chunk: Chunk<R>,
        seen: &mut Seen,
    ) -> Result<(), Option<Origin>> {
        let last = chunk.last().cloned();
        let bad = chunk.invalid.len() as u64;
        let end = chunk.before + chunk.rows();
        seen.rows += chunk.rows();
        seen.records += chunk.records.len() as u64;
        seen.given += chunk.given;
        if let Err(error) = self.letters_of(chunk.invalid).await {
            self.stop_for(Stop::Letters { error });
            return Err(chunk.first);
        }
        {
            let mut tally = self.tally();
            tally.invalid += bad;
            for (reason, rows) in chunk.skipped {
                *tally.skipped.entry(reason).or_insert(0) += rows;
            }
        }
        let refused = self.tally().refused;
        if !self.submit(&mut chunk.records).await {
            return Err(chunk.records.front().and_then(|row| row.origin.clone()));
        }
        // A row that was refused is in neither a record nor a letter: the next run gets it again.
        seen.has_refused |= self.tally().refused > refused;
        if !seen.has_refused {
            seen.acknowledged = end;
        }
        seen.last = last.or(seen.last.take());
        self.judge(seen);
        Ok(())
    }

    /// Stops the run where too many rows are bad.
    fn judge(&self, seen: &Seen) {
        let tally = self.tally();
        let (bad, read) = (tally.invalid, tally.read());
        drop(tally);
        if seen.rows >= FIRST_ROWS && seen.records == 0 {
            self.stop_for(Stop::AllBad);
        } else if self.max_bad.is_some_and(|most| most.is_exceeded(bad, read)) {
            self.stop_for(Stop::TooManyBad { bad, read });
        }
    }

    /// Submits records; `false` if the run stops before all are accepted or refused.
    async fn submit(&self, records: &mut VecDeque<Sourced<R>>) -> bool {
        let mut disk_failing: Option<Instant> = None;
        while !records.is_empty() {
            let before = records.len();
            let result = hand_in(&self.coordinator, records, self.stopped()).await;
            let taken = (before - records.len()) as u64;
            if result.is_none() {
                self.tally().unanswered += taken;
            } else {
                self.tally().accepted += taken;
            }
            match result {
                None => return false,
                Some(Ok(_)) => disk_failing = None,
                Some(Err(error)) if is_of_disk(error.refusal) => {
                    let since = *disk_failing.get_or_insert_with(Instant::now);
                    if !self.wait_for_disk(since, error.refusal).await {
                        return false;
                    }
                }
                Some(Err(error)) if error.refusal == Refusal::Closed => return false,
                Some(Err(error)) => {
                    // One record that cannot be taken costs itself only; for want of room all that
                    // were handed in are refused, which is how the coordinator counts them.
                    let rows = match error.refusal {
                        Refusal::QueueFull => records.len(),
                        _ => 1,
                    };
                    let refused: Vec<_> = records.drain(..rows.min(records.len())).collect();
                    self.tally().note_refused(&refused, error.refusal);
                }
            }
        }
        true
    }

    /// Waits a moment for the disk of the queue; `false` if the run stops.
    async fn wait_for_disk(&self, since: Instant, refusal: Refusal) -> bool {
        let limit = self.max_outage;
        if !limit.is_zero() && since.elapsed() >= limit {
            let error = refusal.to_string();
            self.stop_for(Stop::Queue { limit, error });
            return false;
        }
        tokio::select! {
            biased;
            _ = self.stopped() => false,
            () = tokio::time::sleep(DISK_AGAIN) => true,
        }
    }

    /// Writes the letters of rows that are no records.
    async fn letters_of(&self, invalid: Vec<InvalidRow>) -> Result<(), String> {
        if invalid.is_empty() {
            return Ok(());
        }
        let letters = Arc::clone(&self.letters);
        let write = tokio::task::spawn_blocking(move || {
            letters.append(invalid.iter().map(invalid_letter::<R>).collect())
        });
        match write.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::new(error))),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Submits records until a stop, which closes the intake: what has room to wait for comes back, and
/// what is on its way to the disk gets the disk's answer, so that each row is known to be taken or not.
/// `None` where the disk has not answered in time.
async fn hand_in<T: Send + Sync + 'static, S>(
    coordinator: &WriteCoordinator<T>,
    records: &mut VecDeque<T>,
    stopped: impl Future<Output = S>,
) -> Option<Result<usize, SubmitManyError>> {
    let submit = coordinator.submit_many(records);
    tokio::pin!(submit);
    tokio::select! {
        biased;
        result = &mut submit => return Some(result),
        _ = stopped => {}
    }
    coordinator.close_intake();
    tokio::time::timeout(ANSWER, submit).await.ok()
}

/// Whether the disk of the queue is the reason, and the same records may go in later. Whether they
/// are in already does not matter: they write nothing twice.
fn is_of_disk(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::DiskFailed | Refusal::OutcomeUnknown)
}

fn invalid_letter<R: Record>(row: &InvalidRow) -> LetterDraft {
    let error = if row.value.is_empty() {
        format!("{}: {}", row.field, row.rule)
    } else {
        format!("{} = {:?}: {}", row.field, row.value, row.rule)
    };
    let item = LetterItem::line(&row.raw);
    let mut letter = LetterDraft::new(R::KIND.as_str(), Reason::Invalid, error, "invalid", item);
    letter.kind = Some(R::KIND.as_str().to_owned());
    letter.code = Some(row.code.to_owned());
    let mut set = |key: &str, value: serde_json::Value| {
        letter.metadata.insert(key.to_owned(), value);
    };
    set("path", row.origin.path.as_ref().into());
    set("line", row.origin.line.into());
    set("field", row.field.as_ref().into());
    if row.truncated {
        set("truncated", true.into());
    }
    letter
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Condvar, Mutex};

    use mds_coordinator::{Codec, DurableOptions, DurableQueue};
    use mds_core::{Batch, Sink, WriteReport};
    use mds_wal::{FileStorage, Storage, StorageFile};

    use super::*;

    /// A disk on which a sync, once it is asked to, begins, waits, and fails.
    #[derive(Debug)]
    struct Disk {
        files: FileStorage,
        sync: Arc<FailingSync>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        Works,
        Asked,
        Begun,
        Failed,
    }

    #[derive(Debug)]
    struct FailingSync {
        step: Mutex<Step>,
        changed: Condvar,
    }

    impl FailingSync {
        fn set(&self, step: Step) {
            *self.step.lock().unwrap() = step;
            self.changed.notify_all();
        }

        fn wait_for(&self, step: Step) {
            let now = self.step.lock().unwrap();
            drop(self.changed.wait_while(now, |now| *now != step).unwrap());
        }
    }

    impl Disk {
        fn file(&self, name: &str, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
            let sync = Arc::clone(&self.sync);
            let is_segment = std::path::Path::new(name)
                .extension()
                .is_some_and(|end| end == "seg");
            Arc::new(File {
                file,
                sync: is_segment.then_some(sync),
            })
        }
    }

    impl Storage for Disk {
        fn list(&self) -> io::Result<Vec<(String, u64)>> {
            self.files.list()
        }

        fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
            Ok(self.file(name, self.files.create(name, len)?))
        }

        fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
            Ok(self.file(name, self.files.open(name)?))
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.files.remove(name)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.files.rename(from, to)
        }

        fn sync_dir(&self) -> io::Result<()> {
            self.files.sync_dir()
        }

        fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
            self.files.lock()
        }
    }

    #[derive(Debug)]
    struct File {
        file: Arc<dyn StorageFile>,
        sync: Option<Arc<FailingSync>>,
    }

    impl StorageFile for File {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.file.read_at(buf, offset)
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.file.write_all_at(bytes, offset)
        }

        fn sync(&self) -> io::Result<()> {
            let Some(sync) = &self.sync else {
                return self.file.sync();
            };
            let step = *sync.step.lock().unwrap();
            match step {
                Step::Works => return self.file.sync(),
                Step::Asked => {
                    sync.set(Step::Begun);
                    sync.wait_for(Step::Failed);
                }
                Step::Begun | Step::Failed => {}
            }
            Err(io::Error::other("the disk does not sync"))
        }

        fn truncate(&self, len: u64) -> io::Result<()> {
            self.file.truncate(len)
        }
    }

    struct Number;

    impl Codec<u64> for Number {
        fn encode(&self, item: &u64, bytes: &mut Vec<u8>) {
            bytes.extend_from_slice(&item.to_le_bytes());
        }

        fn decode(&self, bytes: &[u8]) -> Result<u64, String> {
            let bytes = bytes.try_into().map_err(|_| "no number".to_owned())?;
            Ok(u64::from_le_bytes(bytes))
        }
    }

    struct Written;

    impl Sink<u64> for Written {
        fn name(&self) -> &'static str {
            "written"
        }

        async fn write(&self, batch: Batch<u64>) -> WriteReport {
            WriteReport::written(batch.len())
        }
    }

    /// A stop amid a commit waits for its answer: rows that the disk did not take are not taken.
    #[tokio::test(flavor = "multi_thread")]
    async fn rows_whose_commit_fails_after_a_stop_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let sync = Arc::new(FailingSync {
            step: Mutex::new(Step::Works),
            changed: Condvar::new(),
        });
        let disk = Arc::new(Disk {
            files: FileStorage::create(dir.path()).unwrap(),
            sync: Arc::clone(&sync),
        });
        let queue =
            DurableQueue::open_on(disk, DurableOptions::default(), Arc::new(Number)).unwrap();
        let coordinator = WriteCoordinator::builder(Written)
            .coord_id("numbers")
            .durable_queue(queue)
            .start()
            .unwrap();
        sync.set(Step::Asked);
        let mut records: VecDeque<u64> = (0..100).collect();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let breaking = async {
            let begun = Arc::clone(&sync);
            tokio::task::spawn_blocking(move || begun.wait_for(Step::Begun))
                .await
                .unwrap();
            stop.send(()).unwrap();
            tokio::task::yield_now().await;
            sync.set(Step::Failed);
        };
        let (answer, ()) = tokio::join!(hand_in(&coordinator, &mut records, stopped), breaking);
        let stats = coordinator.stop(true, Duration::from_secs(10)).await.stats;
        assert_eq!((stats.submitted, records.len()), (0, 100));
        let refusal = answer.unwrap().unwrap_err().refusal;
        assert_eq!(refusal, Refusal::OutcomeUnknown);
    }
}
