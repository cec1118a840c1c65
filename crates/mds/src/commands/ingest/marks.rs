//! How far each file was taken into a durable queue, so that a run that was killed does not hand in
//! again what is acknowledged.
//!
//! A mark passes a row only after the row's record, or its letter, is synced. It belongs to the content
//! of a file and to how it is read: a file that was changed is read from its beginning. A mark that is
//! lost, or not as new as it might be, costs time only: rows that are in already write nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
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
pub(super) struct Mark {
    /// The file, as it was called.
    pub(super) path: String,
    /// Rows from its beginning that are acknowledged: records, and rows that are none.
    pub(super) rows: u64,
    /// Whether that is all of it.
    pub(super) is_whole: bool,
    /// Goes up with each change of any mark: the lowest is forgotten first.
    changed: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// By content and reading.
    marks: BTreeMap<String, Mark>,
    changes: u64,
}

/// The marks of a queue.
#[derive(Debug)]
pub(super) struct Marks {
    path: PathBuf,
    state: Mutex<State>,
    /// What this run has looked for or noted.
    own: Mutex<BTreeSet<String>>,
    saved: Mutex<Instant>,
}

impl Marks {
    /// Reads the marks in the folder of a queue. What cannot be read is as if it were not there.
    pub(super) fn read(folder: &Path) -> Self {
        let path = folder.join(NAME);
        let text = std::fs::read(&path).unwrap_or_default();
        let state = match serde_json::from_slice(&text) {
            Ok(state) => state,
            Err(error) => {
                if !text.is_empty() {
                    tracing::warn!(path = %path.display(), %error, "files are read from their beginning");
                }
                State::default()
            }
        };
        Self {
            path,
            state: Mutex::new(state),
            own: Mutex::default(),
            saved: Mutex::new(Instant::now()),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Mark> {
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
    pub(super) fn forget_own(&self) {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.marks.retain(|key, _| !own.contains(key));
    }

    /// Forgets all files.
    pub(super) fn forget_all(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.marks.clear();
    }

    /// Notes how far a file was taken.
    pub(super) fn set(&self, key: &str, path: &str, rows: u64, is_whole: bool) {
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
    pub(super) fn is_due(&self) -> bool {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = saved.elapsed() >= SAVE;
        if is_due {
            *saved = Instant::now();
        }
        is_due
    }

    /// Makes the marks durable; blocks.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let text = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            serde_json::to_vec_pretty(&*state)?
        };
        let mut file = AtomicFile::create(&self.path)?;
        let written = file.write_all(&text).and_then(|()| file.flush());
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        file.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_back_and_what_is_no_mark_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::read(folder.path());
        assert_eq!(marks.get("a"), None);
        marks.set("a", "a.csv", 10, false);
        marks.set("a", "a.csv", 30, true);
        marks.save().unwrap();
        let again = Marks::read(folder.path());
        let mark = again.get("a").unwrap();
        assert_eq!((mark.rows, mark.is_whole), (30, true));
        // Of another run, it stays when one that did not touch it ends.
        Marks::read(folder.path()).forget_own();
        assert!(Marks::read(folder.path()).get("a").is_some());
        again.forget_own();
        again.save().unwrap();
        assert_eq!(Marks::read(folder.path()).get("a"), None);
        std::fs::write(folder.path().join(NAME), "{\"marks\":").unwrap();
        assert_eq!(Marks::read(folder.path()).get("a"), None);
    }
}
