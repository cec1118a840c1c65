//! Records of a durable queue that a person has accepted as lost: known damage, not to be told as new.
//!
//! What a queue has lost is told by its totals, and they never forget. That the rows came again from
//! their files, or are given up, only a person can know. That word is kept in the folder of the queue,
//! as a number of records: whatever is lost beyond it is new.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mds_coordinator::DurableTotals;
use serde::{Deserialize, Serialize};

use crate::atomic_file::AtomicFile;

/// The name of the file in the folder of the queue.
const NAME: &str = "accepted-damage.json";

/// What was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// Records that are lost, since the queue was made.
    pub(crate) records: u64,
    /// Of these, the ones that were not damaged: nobody knows what became of them.
    #[serde(default)]
    pub(crate) unknown: u64,
    /// Records that the queue had taken by then.
    pub(crate) of: u64,
    /// When.
    pub(crate) at: String,
    /// Why that is no loss, in the words of who accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Accepted {
    /// Reads what was accepted for the queue in a folder, as far as it is that of these totals: a queue
    /// that has taken fewer records than that one had begun anew since.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read: nothing is taken as accepted without knowing what.
    pub(crate) fn read(folder: &Path, totals: &DurableTotals) -> anyhow::Result<Option<Self>> {
        let path = path(folder);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let accepted: Self = serde_json::from_slice(&text).with_context(|| {
            let path = path.display();
            format!("{path} is damaged; remove it, and accept the damage again")
        })?;
        Ok(Some(accepted).filter(|accepted| accepted.of <= totals.accepted))
    }

    /// Makes it durable.
    pub(crate) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let path = path(folder);
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let mut file = AtomicFile::create_private(&path)?;
        let written = file.write_all(&text).and_then(|()| file.flush());
        written.with_context(|| format!("cannot write {}", path.display()))?;
        file.commit()
    }

    /// Takes the word back where it is that of a queue which was in the folder before this one: once
    /// this one has taken as many records, nobody could tell.
    pub(crate) fn forget_if_stale(folder: &Path, totals: &DurableTotals) {
        if let Ok(None) = Self::read(folder, totals)
            && let Err(error) = std::fs::remove_file(path(folder))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "accepted damage of an earlier queue stays");
        }
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Whether nothing is lost, or nothing beyond what was accepted.
pub(crate) fn is_settled(totals: &DurableTotals, accepted: Option<&Accepted>) -> bool {
    let most = accepted.map_or(0, |accepted| accepted.records);
    totals.lost().is_some_and(|lost| lost <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_for_a_queue_is_not_that_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let of = |accepted, written| DurableTotals {
            accepted,
            written,
            ..DurableTotals::default()
        };
        let accepted = Accepted {
            records: 3,
            unknown: 0,
            of: 100,
            at: "2024-11-02T00:00:00Z".to_owned(),
            reason: None,
        };
        assert_eq!(Accepted::read(folder.path(), &of(100, 97)).unwrap(), None);
        accepted.save(folder.path()).unwrap();
        let read = |totals: &DurableTotals| Accepted::read(folder.path(), totals).unwrap();
        assert_eq!(read(&of(100, 97)), Some(accepted.clone()));
        assert!(is_settled(&of(200, 197), Some(&accepted)));
        assert!(!is_settled(&of(200, 196), Some(&accepted)));
        assert!(!is_settled(&of(200, 201), Some(&accepted)));
        assert!(!is_settled(&of(200, 199), None));
        // Begun anew: it goes before the new queue has taken as many.
        assert_eq!(read(&of(99, 99)), None);
        Accepted::forget_if_stale(folder.path(), &of(100, 100));
        assert!(read(&of(100, 97)).is_some());
        Accepted::forget_if_stale(folder.path(), &of(0, 0));
        assert_eq!(read(&of(100, 97)), None);
        std::fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(Accepted::read(folder.path(), &of(100, 97)).is_err());
    }
}
