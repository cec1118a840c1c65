//! Replaying letters.
//!
//! A replayer hands out letters and settles them once their fate is known elsewhere. It removes
//! nothing that it was not told to settle, so a process that is killed while it replays leaves every
//! letter either settled or as it was. Letters that are appended while it runs, such as those that
//! failed again, are left for the next replayer.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::error::DlqError;
use super::files::{FileLock, Files};
use super::filter::LetterFilter;
use super::letter::{Entry, Letter, LetterKey};
use super::scan::Scan;
use super::settle::{self, Reclaimed};

/// The one replayer of a dead-letter queue, made by
/// [`DeadLetterQueue::replayer`](super::DeadLetterQueue::replayer).
///
/// A letter that fails again is appended anew, with [`LetterDraft::replaces`] and a higher
/// [`LetterDraft::replays`], *before* the old one is settled: a kill in between leaves two copies
/// with one id, of which the newer one counts.
///
/// [`LetterDraft::replaces`]: super::LetterDraft::replaces
/// [`LetterDraft::replays`]: super::LetterDraft::replays
///
/// All calls block on files.
#[derive(Debug)]
pub struct Replayer<T> {
    files: Arc<Files>,
    scan: Scan<T>,
    lock: FileLock,
    settled: u64,
    damaged: u64,
}

impl<T: DeserializeOwned> Replayer<T> {
    pub(super) fn new(files: &Arc<Files>, filter: LetterFilter) -> Result<Self, DlqError> {
        let lock = FileLock::try_acquire(&files.replay_lock)?;
        Ok(Self {
            files: Arc::clone(files),
            scan: Scan::new(files, filter)?,
            lock,
            settled: 0,
            damaged: 0,
        })
    }

    /// The next letters, at most `max` of them, oldest first; none when there are no more.
    ///
    /// Damaged lines are counted and passed over.
    pub fn next_batch(&mut self, max: usize) -> Result<Vec<Letter<T>>, DlqError> {
        let mut batch = Vec::new();
        while batch.len() < max {
            match self.scan.next().transpose()? {
                Some(Entry::Letter(letter)) => batch.push(letter),
                Some(Entry::Damaged(_)) => self.damaged += 1,
                None => break,
            }
        }
        Ok(batch)
    }

    /// Records letters as settled; durable when it returns. Call it after the store has answered.
    pub fn settle(&mut self, letters: &[LetterKey]) -> Result<(), DlqError> {
        settle::mark(&self.files, letters)?;
        self.settled += letters.len() as u64;
        Ok(())
    }

    /// Letters settled so far.
    pub const fn settled(&self) -> u64 {
        self.settled
    }

    /// Damaged lines passed over so far.
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Removes the files whose letters are all settled, and lets the next replayer in.
    ///
    /// A replayer that is dropped lets the next one in too, and leaves removing to it.
    pub fn finish(self) -> Result<Reclaimed, DlqError> {
        let reclaimed = settle::reclaim(&self.files)?;
        self.lock.remove()?;
        Ok(reclaimed)
    }
}
