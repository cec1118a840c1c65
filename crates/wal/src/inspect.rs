//! Looking into a folder without opening it: no lock is taken and nothing is written, whether a
//! process uses the queue at the time or not.
//!
//! What is found damaged is judged as opening would judge it. While a process writes, two things
//! look like damage and are none, and are told apart so:
//!
//! - A part of a segment that is being written is read again before it is called damaged.
//! - A segment that was removed since it was listed is missed only if the checkpoint that is read
//!   after it does not say that all of its records are settled.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::acks::{Acks, Totals};
use crate::checkpoint;
use crate::damage::{Damage, ENDING};
use crate::error::{InspectError, StorageError};
use crate::log::Segment;
use crate::scan::Item;
use crate::segment;
use crate::storage::Storage;
use crate::survey::{Survey, TRIES, survey};
use crate::walk::{Findings, Walk, judge, walk};
use crate::{SeqNo, identity};

/// How long to wait for a write that may be under way.
const WRITE: Duration = Duration::from_millis(2);
/// A record may be as long as the segment that it is in.
const MAX_RECORD: usize = u32::MAX as usize;

/// A file, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
}

/// What is kept of the acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// How often it was written.
    pub generation: u64,
    /// Everything below it was settled.
    pub floor: SeqNo,
    /// The number after the last record that was durable.
    pub end: SeqNo,
    /// What was settled since the queue was made.
    pub totals: Totals,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its file.
    pub file: String,
    /// Its number, from 1.
    pub number: u64,
    /// The number of its first record.
    pub first: SeqNo,
    /// The number after its last record.
    pub end: SeqNo,
    /// The length of the file, with the room that is taken ahead.
    pub bytes: u64,
    /// Its records that are not settled.
    pub waiting: u64,
}

impl SegmentInfo {
    /// Whether nobody needs it any more.
    pub fn is_settled(&self) -> bool {
        self.waiting == 0
    }
}

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// What the queue is for, in the words of its owner; `None` where that cannot be read any more.
    pub identity: Option<String>,
    /// The checksum of what the queue is for, as its segments say it; `None` where none does.
    pub identity_checksum: Option<u32>,
    /// Whether anything still says the number that tells records of this queue from other bytes.
    pub has_salt: bool,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointInfo>,
    /// What is settled, as opening would find it: with what is torn or damaged.
    pub totals: Totals,
    /// The segments in their order.
    pub segments: Vec<SegmentInfo>,
    /// Files that were made ahead, with nothing in them.
    pub spares: Vec<FileInfo>,
    /// Copies of damaged bytes that were set aside.
    pub copies: Vec<FileInfo>,
    /// Records that wait, without those that are known to be damaged.
    pub waiting: u64,
    /// The number of the next record.
    pub next: SeqNo,
    /// What was found damaged, as far as it was looked at.
    pub damages: Vec<Damage>,
}

/// What a walk through all segments has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The folder, with all damage in it.
    pub inspection: Inspection,
    /// Records that are whole.
    pub records: u64,
    /// Of these, the ones that are settled.
    pub settled: u64,
    /// Of these, the ones that wait.
    pub waiting: u64,
}

impl Inspection {
    /// Whether the queue was made for this; `None` where nothing says it any more.
    pub fn is_for(&self, identity: &str) -> Option<bool> {
        let by_segments = || Some(self.identity_checksum? == identity::checksum(identity));
        let by_header = self.identity.as_ref().map(|found| found == identity);
        by_header.or_else(by_segments)
    }

    /// Records that waited and are lost.
    pub fn lost(&self) -> u64 {
        self.damages.iter().map(|damage| damage.records).sum()
    }

    /// Whether nothing is lost that was durable.
    pub fn is_whole(&self) -> bool {
        !self.damages.iter().any(Damage::is_loss)
    }
}

/// Whether there is a queue in a folder, or what is left of one.
pub fn is_queue(storage: &dyn Storage) -> Result<bool, StorageError> {
    let files = storage.list();
    let files = files.map_err(|source| StorageError::new("list", "", source))?;
    Ok(files.iter().any(|(name, _)| is_part(name)))
}

/// Whether a file is part of a queue.
fn is_part(name: &str) -> bool {
    name == identity::NAME || checkpoint::NAMES.contains(&name) || segment::number(name).is_some()
}

/// Looks into a folder: of all segments but the last only the first block is read, as when it is
/// opened.
pub fn inspect(storage: &dyn Storage) -> Result<Inspection, InspectError> {
    look(storage, false).map(|(inspection, _)| inspection)
}

/// Reads all segments from beginning to end, and tells every part of them that is damaged.
pub fn verify(storage: &dyn Storage) -> Result<Verification, InspectError> {
    let (inspection, whole) = look(storage, true)?;
    let (mut records, mut waiting) = (0, 0);
    for (range, open) in whole {
        records += range.end - range.start;
        waiting += open;
    }
    Ok(Verification {
        inspection,
        records,
        settled: records - waiting,
        waiting,
    })
}

/// Reads the records that wait in a queue, in their order, without opening it; damaged ones are left
/// out. While a process uses the queue, some may be settled meanwhile.
pub fn waiting(
    storage: &dyn Storage,
    mut visit: impl FnMut(SeqNo, &[u8]),
) -> Result<(), InspectError> {
    let survey = survey(storage, MAX_RECORD)?;
    if !survey.files.iter().any(|(name, _)| is_part(name)) {
        return Err(InspectError::NoQueue);
    }
    let lowest = survey.segments.front().map_or(1, |first| first.first);
    let acks = survey.newest.as_ref().map(|newest| newest.acks.clone());
    let acks = acks.unwrap_or_else(|| Acks::new(lowest));
    let last = survey.segments.len().saturating_sub(1);
    for (place, segment) in survey.segments.iter().enumerate() {
        let name = segment::name(segment.number);
        let file = match storage.open(&name) {
            Ok(file) => file,
            // Removed since, all of it settled.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(StorageError::new("open", &name, source).into()),
        };
        let (durable, below) = if place < last {
            (segment.end, segment.end)
        } else {
            (survey.checkpointed(), segment.most())
        };
        let mut scanner = segment.scanner(durable, below, survey.salt.unwrap_or(0), MAX_RECORD);
        scanner.skip_unreadable();
        loop {
            let item = scanner.next(file.as_ref());
            match item.map_err(|source| StorageError::new("read", &name, source))? {
                Item::Record { head, payload, .. } if !acks.contains(head.seq) => {
                    visit(head.seq, payload);
                }
                Item::Record { .. } | Item::Junk { .. } => {}
                Item::End => break,
            }
        }
    }
    Ok(())
}

/// Ranges of records that are whole, each with how many of them wait.
type Whole = Vec<(Range<SeqNo>, u64)>;

fn look(storage: &dyn Storage, is_all: bool) -> Result<(Inspection, Whole), InspectError> {
    let survey = survey(storage, MAX_RECORD)?;
    if !survey.files.iter().any(|(name, _)| is_part(name)) {
        return Err(InspectError::NoQueue);
    }
    let checkpointed = survey.checkpointed();
    let mut segments = survey.segments.clone();
    let salt = survey.salt.unwrap_or(0);
    let walks = walk_all(storage, &mut segments, checkpointed, salt, is_all)?;
    // What was removed or settled meanwhile is in it.
    let newest = checkpoint::read(storage)?.newest;
    let newest = newest.filter(|newest| Some(newest.salt) == survey.salt);
    let newest = newest.or_else(|| survey.newest.clone());
    let lowest = segments.front().map_or(1, |first| first.first);
    let acks = newest.as_ref().map(|newest| newest.acks.clone());
    let acks = acks.unwrap_or_else(|| Acks::new(lowest));
    let mut findings = Findings::default();
    let mut whole = Vec::new();
    let last = segments.len().saturating_sub(walks.len());
    for (walk, segment) in walks.into_iter().zip(segments.iter().skip(last)) {
        let is_last = segments.back() == Some(segment);
        let durable = if is_last { checkpointed } else { segment.end };
        whole.extend(walk.whole.clone());
        findings.add(walk.judge(segment, durable, &acks));
    }
    let verdict = judge(&segments, findings, acks, checkpointed);
    let acks = verdict.acks;
    let counted = whole.into_iter().map(|range| {
        let open = acks.open_in(range.clone());
        (range, open)
    });
    let counted = counted.collect();
    let mut damages = survey.damages.clone();
    damages.extend(verdict.damages);
    let info = |segment: &Segment| SegmentInfo {
        file: segment::name(segment.number),
        number: segment.number,
        first: segment.first,
        end: segment.end,
        bytes: segment.len,
        waiting: acks.open_in(segment.first..segment.end),
    };
    let inspection = Inspection {
        identity_checksum: survey.identity,
        has_salt: survey.salt.is_some(),
        checkpoint: newest.map(|newest| CheckpointInfo {
            generation: newest.generation,
            floor: newest.acks.floor(),
            end: newest.end,
            totals: newest.acks.totals(),
        }),
        totals: acks.totals(),
        segments: segments.iter().map(info).collect(),
        spares: spares(&survey),
        copies: copies(&survey),
        waiting: acks.open_in(0..verdict.durable),
        next: verdict.durable,
        damages,
        identity: survey.header.map(|header| header.identity),
    };
    Ok((inspection, counted))
}

/// Walks through the last segment, or through all.
fn walk_all(
    storage: &dyn Storage,
    segments: &mut VecDeque<Segment>,
    checkpointed: SeqNo,
    salt: u64,
    is_all: bool,
) -> Result<Vec<Walk>, StorageError> {
    let last = segments.len().saturating_sub(1);
    let skipped = if is_all { 0 } else { last };
    let mut walks = Vec::new();
    for (place, segment) in segments.iter_mut().enumerate().skip(skipped) {
        let below = (place < last).then_some(segment.end);
        let durable = below.unwrap_or(checkpointed);
        let mut found = walk(storage, segment, durable, below, salt, MAX_RECORD)?;
        let mut looks = 1;
        while found.has_holes() && looks < TRIES {
            // What is behind a hole may have been written after the hole was read, and the end of a
            // write that is under way comes soon.
            std::thread::sleep(WRITE);
            let again = walk(storage, segment, durable, below, salt, MAX_RECORD)?;
            let earlier = std::mem::replace(&mut found, again);
            found.keep_holes_of(&earlier);
            looks += 1;
        }
        if place == last {
            segment.end = found.end;
        }
        walks.push(found);
    }
    Ok(walks)
}

fn spares(survey: &Survey) -> Vec<FileInfo> {
    let info = |at: &crate::survey::At| FileInfo {
        file: segment::name(at.number),
        bytes: at.len,
    };
    survey.spares.iter().map(info).collect()
}

fn copies(survey: &Survey) -> Vec<FileInfo> {
    let is_copy = |(name, _): &&(String, u64)| name.ends_with(ENDING);
    let info = |(name, bytes): &(String, u64)| FileInfo {
        file: name.clone(),
        bytes: *bytes,
    };
    let mut copies: Vec<FileInfo> = survey.files.iter().filter(is_copy).map(info).collect();
    copies.sort_by(|a, b| a.file.cmp(&b.file));
    copies
}
