//! Files that are ready to become segments, so that no group has to wait for one.
//!
//! A new file costs more than its making: each part of it that is written for the first time has to be
//! entered in the file system, and the sync of a group waits for that. A file that was a segment before
//! has all that behind it. So the files of segments that are done are used again, as far as a few of
//! them go; the records in them have lower numbers than any that comes, and are none for whoever reads
//! the new segment.
//!
//! The numbers of the files rise in the order in which they become segments: a number is given under the
//! lock under which the file joins those that are ready.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::StorageError;
use crate::log::{Log, Segment, WhenDone, lock};
use crate::segment;
use crate::storage::StorageFile;

/// A file that is ready to become a segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) len: u64,
    /// It was a segment before.
    pub(crate) is_reused: bool,
}

#[derive(Debug)]
pub(crate) struct Spares {
    next_number: u64,
    /// In the order of their numbers.
    ready: VecDeque<Spare>,
}

impl Spares {
    pub(crate) fn new(next_number: u64) -> Self {
        Self {
            next_number,
            ready: VecDeque::new(),
        }
    }

    /// A number that no file had; it is gone, whatever becomes of the file.
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }
}

impl Log {
    /// The file that is ready, or a new one where it is not there or too small.
    pub(crate) fn take_spare(&self, needed: u64) -> Result<Spare, StorageError> {
        let mut spares = lock(&self.spares);
        while let Some(ready) = spares.ready.pop_front() {
            self.note_spares(&spares);
            if ready.len >= needed {
                return Ok(ready);
            }
            // It has the lower number, so it cannot come after the one that is made now.
            drop(self.storage.remove(&segment::name(ready.number)));
        }
        self.make(&mut spares, needed)
    }

    fn make(&self, spares: &mut Spares, needed: u64) -> Result<Spare, StorageError> {
        let number = spares.number();
        let name = segment::name(number);
        let len = self.options.segment_bytes.max(needed);
        let made = self.storage.create(&name, len);
        let file = made.map_err(|source| StorageError::new("make", &name, source))?;
        if let Err(source) = self.storage.sync_dir() {
            drop(file);
            drop(self.storage.remove(&name));
            return Err(StorageError::new("sync", "", source));
        }
        Ok(Spare {
            number,
            file,
            len,
            is_reused: false,
        })
    }

    /// Makes a file for the next segment if none is ready.
    pub(crate) fn prepare(&self) -> Result<(), StorageError> {
        let mut spares = lock(&self.spares);
        if spares.ready.is_empty() {
            let made = self.make(&mut spares, 0)?;
            spares.ready.push_back(made);
            self.note_spares(&spares);
        }
        Ok(())
    }

    fn note_spares(&self, spares: &Spares) {
        let has_spare = !spares.ready.is_empty();
        self.has_spare.store(has_spare, Ordering::Relaxed);
    }

    /// Whether a file for the next segment is wanted by now, and not there.
    pub(crate) fn wants_spare(&self) -> bool {
        let state = self.state();
        let is_half = state
            .segments
            .back()
            .is_some_and(|last| !last.is_sealed && last.data_end > last.len / 2);
        drop(state);
        is_half && !self.has_spare.load(Ordering::Relaxed)
    }

    /// The segments whose files can be used again, and those that have to go: too many, of another
    /// size, of another process, or with a write that failed or parts that cannot be read.
    pub(crate) fn choose_reusable(&self, done: Vec<Segment>) -> (Vec<Segment>, Vec<Segment>) {
        let mut room = self
            .options
            .spares
            .saturating_sub(lock(&self.spares).ready.len());
        done.into_iter().partition(|segment| {
            let fits =
                segment.len == self.options.segment_bytes && segment.when_done == WhenDone::Reuse;
            let is_chosen = fits && room > 0;
            room -= usize::from(is_chosen);
            is_chosen
        })
    }

    /// Says durably in the file of a done segment that nothing is in it any more.
    pub(crate) fn blank(&self, segment: &Segment) -> Result<Arc<dyn StorageFile>, StorageError> {
        let name = segment::name(segment.number);
        let failed = |operation| move |source| (operation, source);
        let blanked = || {
            let file = self.storage.open(&name).map_err(failed("open"))?;
            file.write_all_at(&segment::spare(), 0)
                .map_err(failed("write"))?;
            file.sync().map_err(failed("sync"))?;
            Ok(file)
        };
        blanked().map_err(|(operation, source)| StorageError::new(operation, &name, source))
    }

    /// Gives the files of done segments their new numbers, and forgets those segments.
    ///
    /// Whoever still reads such a segment finds it forgotten before anything else is in its file.
    pub(crate) fn reuse(
        &self,
        blank: Vec<(Segment, Arc<dyn StorageFile>)>,
    ) -> Result<(), StorageError> {
        // Nobody may take a new file meanwhile: it would have a higher number than these.
        let mut spares = lock(&self.spares);
        let mut renamed = VecDeque::new();
        let mut failed = None;
        for (segment, file) in blank {
            let (old, number) = (segment::name(segment.number), spares.number());
            if let Err(source) = self.storage.rename(&old, &segment::name(number)) {
                // It is removed as any other, the next time.
                failed = Some(StorageError::new("rename", &old, source));
                continue;
            }
            self.forget(segment.number);
            renamed.push_back(Spare {
                number,
                file,
                len: segment.len,
                is_reused: true,
            });
        }
        if let Err(source) = self.storage.sync_dir() {
            // Their names are not certain, so nothing may be written into them.
            for spare in renamed {
                drop(self.storage.remove(&segment::name(spare.number)));
            }
            return Err(StorageError::new("sync", "", source));
        }
        spares.ready.append(&mut renamed);
        self.note_spares(&spares);
        failed.map_or(Ok(()), Err)
    }

    /// No segment has this number any more.
    pub(crate) fn forget(&self, number: u64) {
        self.state()
            .segments
            .retain(|segment| segment.number != number);
    }
}
