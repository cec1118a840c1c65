//! What a folder holds, found out without changing anything in it. Opening goes on from here;
//! looking into a queue ends here.
//!
//! - Of each segment only the first block is read. Where that one is gone, the records tell.
//! - It may look at a queue that another process uses. So the checkpoint is read first: whatever it
//!   calls durable was so before the segments are looked at. A file may go meanwhile, since all of it
//!   is settled; a block that is not whole is read again, since it may be written at this moment.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use crate::SeqNo;
use crate::checkpoint::{self, Checkpoint};
use crate::damage::{Damage, DamageKind};
use crate::error::{InspectError, OpenError, StorageError};
use crate::identity::{self, Header};
use crate::log::{Segment, WhenDone};
use crate::pair::{self, Found};
use crate::record::{Expect, HEAD};
use crate::scan::{Item, Scanner};
use crate::segment::{self, DATA, SegmentHead, VERSION};
use crate::storage::{Storage, read_full};

/// Tries to read a block before it is taken for unreadable, or for damaged.
pub(crate) const TRIES: u32 = 3;

/// Why nothing can be said about a folder.
#[derive(Debug)]
pub(crate) enum SurveyError {
    Storage(StorageError),
    /// It has a version that is not known: the one found, and the newest that is.
    Newer(u16, u16),
    /// All its segments are of another queue than its header.
    Mixed,
}

impl From<StorageError> for SurveyError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<SurveyError> for OpenError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::Storage(error) => Self::Storage(error),
            SurveyError::Mixed => Self::Mixed,
            SurveyError::Newer(found, known) => Self::Newer { found, known },
        }
    }
}

impl From<SurveyError> for InspectError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::Storage(error) => Self::Storage(error),
            SurveyError::Mixed => Self::Mixed,
            SurveyError::Newer(found, known) => Self::Newer { found, known },
        }
    }
}

/// A file that is named as a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) number: u64,
    pub(crate) len: u64,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Survey {
    /// All files, with their lengths.
    pub(crate) files: Vec<(String, u64)>,
    pub(crate) header: Option<Header>,
    /// Of the header, both copies are as they were written.
    pub(crate) is_header_whole: bool,
    /// The number that tells records of this queue from other bytes, if anything still says it.
    pub(crate) salt: Option<u64>,
    /// The checksum of what the queue is for, as a segment says it.
    pub(crate) identity: Option<u32>,
    pub(crate) newest: Option<Checkpoint>,
    /// In the order of their numbers; where the last one ends is not known yet.
    pub(crate) segments: VecDeque<Segment>,
    /// Files that were made ahead, with nothing in them.
    pub(crate) spares: Vec<At>,
    /// Files that bear the name of a segment and are none of this queue.
    pub(crate) foreign: Vec<At>,
    /// The number after that of the last file.
    pub(crate) next_number: u64,
    pub(crate) damages: Vec<Damage>,
}

impl Survey {
    /// The number after the last record that a checkpoint calls durable.
    pub(crate) fn checkpointed(&self) -> SeqNo {
        self.newest.as_ref().map_or(0, |newest| newest.end)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|(file, _)| file == name)
    }
}

struct Surveying<'a> {
    storage: &'a dyn Storage,
    max_record: usize,
    spares: Vec<At>,
    foreign: Vec<At>,
    damages: Vec<Damage>,
}

/// Looks at a folder.
pub(crate) fn survey(storage: &dyn Storage, max_record: usize) -> Result<Survey, SurveyError> {
    let mut surveying = Surveying {
        storage,
        max_record,
        spares: Vec::new(),
        foreign: Vec::new(),
        damages: Vec::new(),
    };
    let found = checkpoint::read(storage)?;
    let files = storage.list();
    let files = files.map_err(|source| StorageError::new("list", "", source))?;
    let heads = surveying.heads(&files)?;
    let (header, is_header_whole) = identity::read(storage)?;
    if !is_header_whole {
        let kind = match &header {
            Some(_) => DamageKind::Copy,
            None => DamageKind::Damaged,
        };
        surveying.damage(identity::NAME, 0..pair::PAIR as u64, kind);
    }
    if header.is_none() && is_header_whole && (!heads.is_empty() || found.newest.is_some()) {
        // Whose queue it is, nothing says any more.
        surveying.damage(identity::NAME, 0..0, DamageKind::Missing);
    }
    surveying.checkpoint_damage(&found.damaged);
    // Both are there before the first segment is.
    if !heads.is_empty() {
        surveying.missing_checkpoints(&files);
        // The first one was written before the first segment, and the second one into the other file.
        let written = found.newest.as_ref().map(|newest| newest.generation);
        let kind = match written {
            None => Some(DamageKind::Missing),
            Some(0..=1) => None,
            Some(_) => Some(DamageKind::Copy),
        };
        for (name, kind) in found.empty.iter().zip(kind.into_iter().cycle()) {
            surveying.damage(name, 0..0, kind);
        }
    }
    let of_segments = heads.iter().find_map(|(head, _)| Some(head.as_ref()?.salt));
    let of_header = header.as_ref().map(|header| header.salt);
    let mut salts = heads
        .iter()
        .filter_map(|(head, _)| Some(head.as_ref()?.salt));
    if of_header.is_some() && of_segments.is_some() && salts.all(|salt| Some(salt) != of_header) {
        return Err(SurveyError::Mixed);
    }
    let salt = of_header.or(of_segments);
    let salt = salt.or_else(|| Some(found.newest.as_ref()?.salt));
    let newest = found.newest.filter(|newest| Some(newest.salt) == salt);
    let identity = heads.iter().find_map(|(head, _)| {
        let head = head.as_ref().filter(|head| Some(head.salt) == salt)?;
        head.identity
    });
    let numbers = files.iter().filter_map(|(name, _)| segment::number(name));
    let next_number = numbers.max().unwrap_or(0) + 1;
    // The salt of a queue is never 0.
    let segments = surveying.segments(heads, salt.unwrap_or(0), newest.as_ref());
    Ok(Survey {
        files,
        header,
        is_header_whole,
        salt,
        identity,
        newest,
        segments,
        spares: surveying.spares,
        foreign: surveying.foreign,
        next_number,
        damages: surveying.damages,
    })
}

impl Surveying<'_> {
    /// The heads of all segments, in order; `None` for one that cannot be made out. Files without
    /// any content are spares.
    fn heads(
        &mut self,
        files: &[(String, u64)],
    ) -> Result<Vec<(Option<SegmentHead>, At)>, SurveyError> {
        let mut named: Vec<At> = files
            .iter()
            .filter_map(|(name, len)| {
                let number = segment::number(name)?;
                Some(At { number, len: *len })
            })
            .collect();
        named.sort_by_key(|at| at.number);
        let mut heads = Vec::new();
        for at in named {
            let name = segment::name(at.number);
            match self.head(&name, at.len)? {
                None => {}
                Some(Found::Empty) => self.spares.push(at),
                Some(Found::Damaged) => {
                    self.damage(&name, 0..DATA.min(at.len), DamageKind::Copy);
                    heads.push((None, at));
                }
                // Where one copy says so, the other one is of a write that was under way.
                Some(Found::Content(content, _)) if segment::is_spare(&content) => {
                    self.spares.push(at);
                }
                Some(Found::Content(content, is_damaged)) => {
                    if is_damaged {
                        self.damage(&name, 0..DATA, DamageKind::Copy);
                    }
                    match SegmentHead::decode(&content) {
                        Ok(head) => heads.push((Some(head), at)),
                        Err(Some(found)) => return Err(SurveyError::Newer(found, VERSION)),
                        Err(None) => heads.push((None, at)),
                    }
                }
            }
        }
        Ok(heads)
    }

    /// The first block of a segment, `None` if the file is gone. It is empty only where all of the
    /// file is.
    fn head(&self, name: &str, len: u64) -> Result<Option<Found>, StorageError> {
        let mut tries = 0;
        loop {
            let found = match self.try_head(name, len) {
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other,
            };
            tries += 1;
            match found {
                Ok(Found::Damaged | Found::Content(_, true)) | Err(_) if tries < TRIES => {}
                other => return other.map(Some),
            }
        }
    }

    fn try_head(&self, name: &str, len: u64) -> Result<Found, StorageError> {
        let failed = |source| StorageError::new("read", name, source);
        let file = self.storage.open(name).map_err(failed)?;
        let mut bytes = vec![0; pair::PAIR];
        let length = read_full(file.as_ref(), &mut bytes, 0).map_err(failed)?;
        let found = pair::decode(&bytes[..length]);
        if found != Found::Empty {
            return Ok(found);
        }
        let mut buffer = vec![0; 256 << 10];
        let mut at = length as u64;
        while at < len {
            let read = read_full(file.as_ref(), &mut buffer, at).map_err(failed)?;
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Ok(Found::Damaged);
            }
            if read == 0 {
                break;
            }
            at += read as u64;
        }
        Ok(Found::Empty)
    }

    fn damage(&mut self, file: &str, bytes: Range<u64>, kind: DamageKind) {
        self.damages.push(Damage::new(file, bytes, kind));
    }

    /// One of the two is half written when power is lost; both are not.
    fn checkpoint_damage(&mut self, damaged: &[&'static str]) {
        let kind = match damaged.len() {
            2 => DamageKind::Damaged,
            _ => DamageKind::Copy,
        };
        for name in damaged {
            self.damage(name, 0..0, kind);
        }
    }

    fn missing_checkpoints(&mut self, files: &[(String, u64)]) {
        let is_there = |name: &&str| files.iter().any(|(file, _)| file == *name);
        let missing: Vec<_> = checkpoint::NAMES.iter().filter(|n| !is_there(n)).collect();
        let kind = match missing.len() {
            2 => DamageKind::Missing,
            _ => DamageKind::Copy,
        };
        for name in missing {
            self.damage(name, 0..0, kind);
        }
    }

    /// The segments with what is known of each without reading its records. Where a head is gone,
    /// the records tell.
    fn segments(
        &mut self,
        heads: Vec<(Option<SegmentHead>, At)>,
        salt: u64,
        newest: Option<&Checkpoint>,
    ) -> VecDeque<Segment> {
        let mut segments: VecDeque<Segment> = VecDeque::new();
        // Where the one behind each begins, if that is known.
        let ends = heads
            .iter()
            .skip(1)
            .map(|(head, _)| Some(head.as_ref()?.previous_end));
        let ends: Vec<Option<SeqNo>> = ends.chain([None]).collect();
        for ((head, at), next) in heads.into_iter().zip(ends) {
            let name = segment::name(at.number);
            let is_foreign = head.is_some_and(|h| h.salt != salt || h.number != at.number);
            let within = at.len / HEAD as u64 + 1;
            let lowest = newest.map_or(1, |c| c.acks.floor());
            // Its first records may be settled.
            let lowest = lowest.saturating_sub(within).max(1);
            let least = segments.back().map_or(lowest, |before| before.first);
            // The one before, and this one, may be of after the checkpoint.
            let durable = newest
                .map_or(0, |c| c.end)
                .max(least.saturating_add(within));
            let below = next.unwrap_or(durable.saturating_add(within));
            // Where nothing says so, there may be remains.
            let is_reused = head.is_none_or(|head| head.is_reused);
            let told = head
                .map(|head| (head.first, head.previous_end))
                .or_else(|| self.salvage(&name, at.len, least..below, salt));
            let Some((first, previous_end)) = told.filter(|_| !is_foreign) else {
                self.damage(&name, 0..at.len, DamageKind::Copy);
                self.foreign.push(at);
                continue;
            };
            if let Some(before) = segments.back_mut() {
                before.end = previous_end.max(before.first);
            }
            segments.push_back(Segment {
                number: at.number,
                first,
                previous_end: previous_end.min(first),
                end: first,
                data_end: at.len,
                len: at.len,
                is_sealed: true,
                is_reused,
                when_done: WhenDone::Remove,
            });
        }
        segments
    }

    /// Where a segment whose head is gone begins: with its first record that is whole.
    fn salvage(
        &self,
        name: &str,
        len: u64,
        numbers: Range<SeqNo>,
        salt: u64,
    ) -> Option<(SeqNo, SeqNo)> {
        let file = self.storage.open(name).ok()?;
        let expect = Expect {
            next: numbers.start,
            below: numbers.end,
            salt,
            max_len: self.max_record,
        };
        let mut scanner = Scanner::new(DATA..len, expect, Some(0));
        scanner.skip_unreadable();
        loop {
            match scanner.next(file.as_ref()).ok()? {
                Item::Record { head, .. } => {
                    let first = head.group_first.max(numbers.start);
                    return Some((first, first));
                }
                Item::Junk { .. } => {}
                Item::End => return None,
            }
        }
    }
}
