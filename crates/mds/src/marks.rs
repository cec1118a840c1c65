//! How far each file was taken into a durable queue, so that a run that was killed does not hand in
//! again what is acknowledged.
//!
//! A mark passes a row only after the row's record, or its letter, is synced. It belongs to the content
//! of a file and to how it is read: a file that was changed is read from its beginning. A mark that is
//! lost, or not as new as it might be, costs time only: rows that are in already write nothing.
//!
//! A mark that is believed wrongly costs rows. So marks say which queue has the rows ([`Standing`]), and
//! they are forgotten, on the disk too, before a queue takes anything that is another one, or that does
//! not remember its past, or that has lost records since.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mds_coordinator::DurableQueue;
use serde::{Deserialize, Serialize};

use crate::atomic_file::AtomicFile;

/// The name of the file in the folder of the queue.
const NAME: &str = "inputs.json";
/// How old what is on the disk may be.
const SAVE: Duration = Duration::from_millis(500);
/// Files that are remembered.
const KEPT: usize = 10_000;

/// How far one file was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The file, as it was called.
    pub(crate) path: String,
    /// Rows from its beginning that are acknowledged: records, and rows that are none.
    pub(crate) rows: u64,
    /// Whether that is all of it.
    pub(crate) is_whole: bool,
    /// Goes up with each change of any mark: the lowest is forgotten first.
    changed: u64,
}

/// What marks depend on, as the queue in their folder says it when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// The number that the queue has kept since it was made.
    queue: u64,
    /// A checkpoint of before says what became of its records.
    is_continued: bool,
    /// The number of its next record.
    next: u64,
    /// Records that were damaged since it was made.
    damaged: u64,
}

impl Standing {
    pub(crate) fn of<T: Send + Sync + 'static>(queue: &DurableQueue<T>) -> Self {
        let recovery = queue.recovery();
        Self {
            queue: recovery.queue,
            is_continued: recovery.is_continued,
            next: recovery.next,
            damaged: queue.stats().totals.damaged,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The number of the queue that has the rows; 0 where an earlier version has not said it.
    #[serde(default)]
    queue: u64,
    /// The number of the next record of the queue, once all these rows were in it.
    #[serde(default)]
    next: u64,
    /// Records that were damaged before the first of these rows was taken.
    #[serde(default)]
    damaged: u64,
    /// By content and reading.
    marks: BTreeMap<String, Mark>,
    changes: u64,
}

impl State {
    /// Why the rows may not be in this queue.
    fn doubt(&self, standing: &Standing) -> Option<&'static str> {
        if self.queue != standing.queue {
            Some("its marks are those of another queue")
        } else if !standing.is_continued {
            Some("the queue has lost its checkpoints")
        } else if standing.next < self.next {
            Some("the queue has lost records that were durable")
        } else if standing.damaged > self.damaged {
            Some("records of the queue were damaged")
        } else {
            None
        }
    }
}

/// The marks of a queue.
#[derive(Debug)]
pub(crate) struct Marks {
    path: PathBuf,
    state: Mutex<State>,
    /// What this run has looked for or noted.
    own: Mutex<BTreeSet<String>>,
    saved: Mutex<Instant>,
}

impl Marks {
    /// Removes the marks in the folder of a queue which has just been opened, where it may not have the
    /// rows; answers why. What cannot be read is as if it were not there.
    ///
    /// # Errors
    ///
    /// They cannot be removed.
    pub(crate) fn forget_in_doubt(
        folder: &Path,
        standing: &Standing,
    ) -> anyhow::Result<Option<&'static str>> {
        let path = folder.join(NAME);
        let state = read(&path);
        let doubt = state.doubt(standing);
        let Some(doubt) = doubt.filter(|_| !state.marks.is_empty()) else {
            return Ok(None);
        };
        let removed = std::fs::remove_file(&path).and_then(|()| {
            // They must not come back with a loss of power.
            std::fs::File::open(folder)?.sync_all()
        });
        let failed = || format!("{doubt}, and {} cannot be removed", path.display());
        removed.with_context(failed)?;
        Ok(Some(doubt))
    }

    /// Reads the marks in the folder of a queue which has just been opened.
    pub(crate) fn read(folder: &Path, standing: &Standing) -> Self {
        let path = folder.join(NAME);
        let mut state = read(&path);
        if state.doubt(standing).is_some() {
            state.marks.clear();
        }
        (state.queue, state.next) = (standing.queue, standing.next);
        state.damaged = standing.damaged;
        Self {
            path,
            state: Mutex::new(state),
            own: Mutex::default(),
            saved: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Mark> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // What this run has taken is no earlier run's: the same content may be there twice.
        let is_own = !own.insert(key.to_owned());
        drop(own);
        if is_own {
            return None;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.marks.get(key).cloned()
    }

    /// Forgets the files of this run, which has come to its end: the same command again reads them
    /// again.
    pub(crate) fn forget_own(&self) {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.marks.retain(|key, _| !own.contains(key));
    }

    /// Notes how far a file was taken.
    pub(crate) fn set(&self, key: &str, path: &str, rows: u64, is_whole: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.changes += 1;
        let changed = state.changes;
        let mark = Mark {
            path: path.to_owned(),
            rows,
            is_whole,
            changed,
        };
        state.marks.insert(key.to_owned(), mark);
        if state.marks.len() > KEPT {
            let oldest = state.marks.iter().min_by_key(|(_, mark)| mark.changed);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| state.marks.remove(&key));
        }
    }

    /// Whether it is time to save.
    pub(crate) fn is_due(&self) -> bool {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = saved.elapsed() >= SAVE;
        if is_due {
            *saved = Instant::now();
        }
        is_due
    }

    /// Makes the marks durable; blocks. All rows that were noted are in records before `next`, which is
    /// asked for when no more can be noted.
    pub(crate) fn save(&self, next: impl FnOnce() -> u64) -> anyhow::Result<()> {
        let text = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.next = state.next.max(next());
            serde_json::to_vec_pretty(&*state)?
        };
        let mut file = AtomicFile::create_private(&self.path)?;
        let written = file.write_all(&text).and_then(|()| file.flush());
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        file.commit()
    }
}

fn read(path: &Path) -> State {
    let text = std::fs::read(path).unwrap_or_default();
    match serde_json::from_slice(&text) {
        Ok(state) => state,
        Err(error) => {
            if !text.is_empty() {
                tracing::warn!(path = %path.display(), %error, "files are read from their beginning");
            }
            State::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDING: Standing = Standing {
        queue: u64::MAX,
        is_continued: true,
        next: 31,
        damaged: 2,
    };

    fn marks(folder: &Path) -> Marks {
        Marks::read(folder, &STANDING)
    }

    #[test]
    fn marks_are_read_back_and_what_is_no_mark_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let first = marks(folder.path());
        assert_eq!(first.get("a"), None);
        first.set("a", "a.csv", 10, false);
        first.set("a", "a.csv", 30, true);
        first.save(|| 31).unwrap();
        let again = marks(folder.path());
        let mark = again.get("a").unwrap();
        assert_eq!((mark.rows, mark.is_whole), (30, true));
        // Of another run, it stays when one that did not touch it ends.
        marks(folder.path()).forget_own();
        assert!(marks(folder.path()).get("a").is_some());
        again.forget_own();
        again.save(|| 31).unwrap();
        assert_eq!(marks(folder.path()).get("a"), None);
        std::fs::write(folder.path().join(NAME), "{\"marks\":").unwrap();
        assert_eq!(marks(folder.path()).get("a"), None);
    }

    #[test]
    fn marks_are_believed_only_where_the_queue_has_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let forgotten = |standing: Standing| {
            let before = marks(folder.path());
            before.set("a", "a.csv", 30, true);
            before.save(|| 31).unwrap();
            let is_believed = Marks::read(folder.path(), &standing).get("a").is_some();
            let doubt = Marks::forget_in_doubt(folder.path(), &standing).unwrap();
            assert_eq!(doubt.is_none(), is_believed);
            assert_eq!(folder.path().join(NAME).exists(), is_believed);
            doubt
        };
        assert_eq!(forgotten(STANDING), None);
        let later = Standing {
            next: 500,
            ..STANDING
        };
        assert_eq!(forgotten(later), None);
        let other = Standing {
            queue: 7,
            ..STANDING
        };
        assert_eq!(
            forgotten(other),
            Some("its marks are those of another queue")
        );
        let begun_anew = Standing {
            is_continued: false,
            ..STANDING
        };
        assert_eq!(
            forgotten(begun_anew),
            Some("the queue has lost its checkpoints")
        );
        let shorter = Standing {
            next: 30,
            ..STANDING
        };
        assert_eq!(
            forgotten(shorter),
            Some("the queue has lost records that were durable")
        );
        let damaged = Standing {
            damaged: 3,
            ..STANDING
        };
        assert_eq!(
            forgotten(damaged),
            Some("records of the queue were damaged")
        );
        // As an earlier version wrote them.
        let old =
            r#"{"marks":{"a":{"path":"a.csv","rows":3,"is_whole":true,"changed":1}},"changes":1}"#;
        std::fs::write(folder.path().join(NAME), old).unwrap();
        assert_eq!(marks(folder.path()).get("a"), None);
        assert!(
            Marks::forget_in_doubt(folder.path(), &STANDING)
                .unwrap()
                .is_some()
        );
    }
}
