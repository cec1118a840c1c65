//! Keeping what is settled, and what becomes of segments when all of it is.
//!
//! 1. A checkpoint is written, durably, and a second one into the other file if a segment is done: one of
//!    the two can be lost.
//! 2. A file that is to be used again says so in its first block, durably, and gets its new name. A file
//!    of which a part cannot be read is renamed to `*.damaged`. Any other one is removed.
//! 3. The folder is synced. Only then may anything be written into a file that is used again.
//!
//! A crash in between leaves a segment that is done, or a file with nothing in it.

use std::io;

use crate::acks::Settled;
use crate::damage::{Damage, DamageKind, ENDING};
use crate::error::StorageError;
use crate::log::{Log, Segment, WhenDone, lock};
use crate::reader::Record;
use crate::segment;
use crate::storage::read_full;

impl Log {
    /// Keeps what is settled by now, durably, and puts away the segments that nobody needs any more.
    /// Answers whether room was made.
    pub(crate) fn checkpoint(&self) -> Result<bool, StorageError> {
        let mut checkpoints = lock(&self.checkpoints);
        if lock(&self.lock).is_none() {
            let closed = io::Error::other("the durable queue is closed");
            return Err(StorageError::new("write", "a checkpoint", closed));
        }
        self.make_room();
        let mut state = self.state();
        let (acks, end) = (state.acks.clone(), state.durable);
        let done: Vec<Segment> = state.done_segments().collect();
        state.is_dirty = false;
        drop(state);
        let mut written = checkpoints.write(self.salt, end, acks.clone());
        if written.is_ok() && !done.is_empty() {
            written = checkpoints.write(self.salt, end, acks);
        }
        if let Err(error) = written {
            self.state().is_dirty = true;
            return Err(error);
        }
        let has_done = !done.is_empty();
        self.retire(done)?;
        Ok(has_done)
    }

    /// Puts away segments that are done. The first error is told after all of them were tried.
    fn retire(&self, done: Vec<Segment>) -> Result<(), StorageError> {
        let (reusable, rest) = self.choose_reusable(done);
        let (mut blank, mut failed) = (Vec::new(), None);
        for segment in reusable {
            match self.blank(&segment) {
                Ok(file) => blank.push((segment, file)),
                // It may be half blank; all of it was settled.
                Err(error) => {
                    tracing::warn!(%error, "the file of a segment that is done cannot be used again");
                    failed = failed.or(self.discard(&segment).err());
                }
            }
        }
        let discards = !rest.is_empty();
        for segment in rest {
            failed = failed.or(self.discard(&segment).err());
        }
        let synced = match blank.is_empty() {
            false => self.reuse(blank),
            true if discards => self
                .storage
                .sync_dir()
                .map_err(|source| StorageError::new("sync", "", source)),
            true => Ok(()),
        };
        failed.map_or(Ok(()), Err).and(synced)
    }

    fn discard(&self, segment: &Segment) -> Result<(), StorageError> {
        let name = segment::name(segment.number);
        if segment.when_done == WhenDone::SetAside {
            let aside = format!("{name}{ENDING}");
            let moved = self.storage.rename(&name, &aside);
            moved.map_err(|source| StorageError::new("set aside", &name, source))?;
        } else {
            match self.storage.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::new("remove", &name, error));
                }
                _ => {}
            }
        }
        self.forget(segment.number);
        Ok(())
    }

    /// See [`crate::WriteAheadQueue::set_aside`].
    pub(crate) fn set_aside(&self, record: &Record) -> Result<(), StorageError> {
        let name = self.copy_of(record)?;
        let len = record.payload.len() as u64;
        let failed = |operation| {
            let name = name.clone();
            move |source| StorageError::new(operation, &name, source)
        };
        let file = match self.storage.create(&name, len) {
            // An earlier try has not come to its end.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.storage.open(&name).map_err(failed("open"))?
            }
            other => other.map_err(failed("make"))?,
        };
        file.write_all_at(&record.payload, 0)
            .map_err(failed("write"))?;
        file.sync().map_err(failed("sync"))?;
        self.storage.sync_dir().map_err(failed("sync"))?;
        let mut state = self.state();
        let range = record.seq..record.seq + 1;
        let records = state.acks.settle(range, Settled::Damaged);
        state.is_dirty |= records > 0;
        let mut damage = Damage::new("a record", 0..len, DamageKind::Damaged);
        (damage.first, damage.records, damage.copy) = (record.seq, records, Some(name));
        state.damages.add(damage);
        drop(state);
        self.bell.ring(false);
        Ok(())
    }

    /// The name of the file for a record: one that is not there, or that an earlier try for this record
    /// has left. A queue of before may have set aside another one of the same number.
    fn copy_of(&self, record: &Record) -> Result<String, StorageError> {
        let mut place = 1_u64;
        loop {
            let more = if place == 1 {
                String::new()
            } else {
                format!("-{place}")
            };
            let name = format!("record-{}{more}{ENDING}", record.seq);
            let failed = |source| StorageError::new("open", &name, source);
            let file = match self.storage.open(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
                other => other.map_err(failed)?,
            };
            let mut bytes = vec![0; record.payload.len() + 1];
            let read = read_full(file.as_ref(), &mut bytes, 0).map_err(failed)?;
            let may_be = |(found, wanted): (&u8, &u8)| *found == *wanted || *found == 0;
            if read == record.payload.len() && bytes.iter().zip(&record.payload).all(may_be) {
                return Ok(name);
            }
            place += 1;
        }
    }
}
