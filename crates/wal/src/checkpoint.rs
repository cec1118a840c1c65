//! Where the acknowledgements are kept: two files that are written in turn, so that one of them is
//! whole at any time.
//!
//! ```text
//! offset  size  field, little-endian
//!      0     8  "MDSWALCP"
//!      8     2  version of the format
//!     10     4  length of the whole in bytes
//!     14     4  crc32 of all that follows, and of the bytes before
//!     18     8  generation: of two the higher one counts
//!     26     8  salt of the queue
//!     34     8  floor: all below it is settled
//!     42     8  end: the number after the last record that is durable
//!     50  16x8  totals: settled, by kind
//!    178     8  totals: damaged
//!    186     8  totals: void
//!    194     4  number of ranges
//!    198  16xn  ranges above the floor that are settled: from, to (exclusive)
//! ```
//!
//! Both files have their room from the beginning, so that a full disk does not keep records from
//! being settled. Where there are more ranges than fit, the highest are left out, and their records
//! are delivered again after a restart. What was settled since the last checkpoint is too.

use std::io;
use std::sync::Arc;

use crate::SeqNo;
use crate::acks::{Acks, Totals};
use crate::error::StorageError;
use crate::storage::{Storage, StorageFile, read_full};
use crate::survey::{Survey, SurveyError, TRIES};

const MAGIC: &[u8; 8] = b"MDSWALCP";
/// The newest version of the files.
const VERSION: u16 = 1;
/// The names of the two files.
pub(crate) const NAMES: [&str; 2] = ["ack.0", "ack.1"];
/// Bytes of each.
const ROOM: usize = 64 << 10;
const HEAD: usize = 198;
/// Ranges that fit.
pub(crate) const RANGES: usize = (ROOM - HEAD) / 16;

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) generation: u64,
    pub(crate) salt: u64,
    /// The number after the last durable record.
    pub(crate) end: SeqNo,
    pub(crate) acks: Acks,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut totals = self.acks.totals();
        // Whatever does not fit is not settled yet, as far as the next start knows.
        let left_out = self.acks.count_above(RANGES);
        take_back(&mut totals, left_out);
        let ranges: Vec<_> = self.acks.ranges(RANGES).collect();
        let mut bytes = Vec::with_capacity(HEAD + ranges.len() * 16);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let length = u32::try_from(HEAD + ranges.len() * 16).unwrap_or(0);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for number in [self.generation, self.salt, self.acks.floor(), self.end] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for total in totals.settled.iter().chain([&totals.damaged, &totals.void]) {
            bytes.extend_from_slice(&total.to_le_bytes());
        }
        let count = u32::try_from(ranges.len()).unwrap_or(0);
        bytes.extend_from_slice(&count.to_le_bytes());
        for (start, end) in ranges {
            bytes.extend_from_slice(&start.to_le_bytes());
            bytes.extend_from_slice(&end.to_le_bytes());
        }
        let crc = checksum(&bytes);
        bytes[14..18].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` where the bytes are no checkpoint, or a damaged one.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, bytes) = whole(bytes)?;
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if version != VERSION || bytes.len() < HEAD {
            return None;
        }
        let mut totals = Totals {
            damaged: long(178)?,
            void: long(186)?,
            ..Totals::default()
        };
        for (place, total) in totals.settled.iter_mut().enumerate() {
            *total = long(50 + 8 * place)?;
        }
        let count = usize::try_from(word(194)?).ok()?;
        let ranges: Option<Vec<_>> = (0..count)
            .map(|i| Some((long(HEAD + 16 * i)?, long(HEAD + 16 * i + 8)?)))
            .collect();
        Some(Self {
            generation: long(18)?,
            salt: long(26)?,
            end: long(42)?,
            acks: Acks::restore(long(34)?, ranges?.into_iter(), totals)?,
        })
    }
}

/// The version of what is a checkpoint, as it was written, and its bytes. What comes before and with
/// the checksum is the same in all versions.
fn whole(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.strip_prefix(MAGIC)?;
    let version = u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let length = usize::try_from(word(10)?).ok()?;
    let bytes = bytes.get(..length).filter(|bytes| bytes.len() >= 18)?;
    (checksum(bytes) == word(14)?).then_some((version, bytes))
}

/// Takes records out of the totals, wherever they stand.
fn take_back(totals: &mut Totals, mut count: u64) {
    for total in totals
        .settled
        .iter_mut()
        .chain([&mut totals.damaged, &mut totals.void])
    {
        let part = count.min(*total);
        *total -= part;
        count -= part;
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(18..).unwrap_or_default());
    hasher.update(bytes.get(..14).unwrap_or_default());
    hasher.finalize()
}

/// The two files.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    files: [Arc<dyn StorageFile>; 2],
    /// The generation of the next one.
    next: u64,
}

/// What was found in the two files.
#[derive(Debug, Default)]
pub(crate) struct FoundCheckpoint {
    pub(crate) newest: Option<Checkpoint>,
    /// Files that hold something that is no checkpoint.
    pub(crate) damaged: Vec<&'static str>,
    /// Files that are there and hold nothing.
    pub(crate) empty: Vec<&'static str>,
}

/// Reads both files, where they are there.
pub(crate) fn read(storage: &dyn Storage) -> Result<FoundCheckpoint, SurveyError> {
    let mut found = FoundCheckpoint::default();
    for name in NAMES {
        let read = match read_one(storage, name)? {
            One::Missing => continue,
            One::Empty => {
                found.empty.push(name);
                continue;
            }
            One::Damaged => {
                found.damaged.push(name);
                continue;
            }
            One::Checkpoint(read) => read,
        };
        let newest = found.newest.as_ref();
        if newest.is_none_or(|newest| read.generation > newest.generation) {
            found.newest = Some(read);
        }
    }
    Ok(found)
}

/// What one of the files holds.
enum One {
    Missing,
    /// Nothing was written into it yet.
    Empty,
    Damaged,
    Checkpoint(Checkpoint),
}

fn read_one(storage: &dyn Storage, name: &str) -> Result<One, SurveyError> {
    let failed = |source| StorageError::new("read", name, source);
    for _ in 0..TRIES {
        let file = match storage.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(One::Missing),
            other => other.map_err(failed)?,
        };
        let mut bytes = vec![0; ROOM];
        let length = read_full(file.as_ref(), &mut bytes, 0).map_err(failed)?;
        bytes.truncate(length);
        if let Some(checkpoint) = Checkpoint::decode(&bytes) {
            return Ok(One::Checkpoint(checkpoint));
        }
        if let Some((version, _)) = whole(&bytes)
            && version > VERSION
        {
            return Err(SurveyError::Newer(version, VERSION));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(One::Empty);
        }
        // Somebody may be writing it at this moment.
    }
    Ok(One::Damaged)
}

impl Checkpoints {
    /// Opens the two files, and makes those that are not there.
    pub(crate) fn open(storage: &dyn Storage, survey: &Survey) -> Result<Self, StorageError> {
        let file = |name: &'static str| {
            if survey.has(name) {
                let failed = |source| StorageError::new("open", name, source);
                return storage.open(name).map_err(failed);
            }
            let failed = |source| StorageError::new("make", name, source);
            storage.create(name, ROOM as u64).map_err(failed)
        };
        let newest = survey.newest.as_ref().map_or(0, |c| c.generation);
        Ok(Self {
            files: [file(NAMES[0])?, file(NAMES[1])?],
            next: newest + 1,
        })
    }

    /// Writes a checkpoint, durably, over the older of the two.
    pub(crate) fn write(&mut self, salt: u64, end: SeqNo, acks: Acks) -> Result<(), StorageError> {
        let place = usize::from(self.next % 2 == 1);
        let bytes = Checkpoint {
            generation: self.next,
            salt,
            end,
            acks,
        }
        .encode();
        let (file, name) = (&self.files[place], NAMES[place]);
        // One that fails may have damaged this file; the other one stands, and the next try goes
        // over the same one.
        file.write_all_at(&bytes, 0)
            .map_err(|source| StorageError::new("write", name, source))?;
        file.sync()
            .map_err(|source| StorageError::new("sync", name, source))?;
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acks::{CLASSES, Settled};

    fn some() -> Checkpoint {
        let mut acks = Acks::new(1);
        acks.settle(1..10, Settled::Class(0));
        acks.settle(12..15, Settled::Class(2));
        acks.settle(20..21, Settled::Damaged);
        Checkpoint {
            generation: 5,
            salt: 77,
            end: 30,
            acks,
        }
    }

    #[test]
    fn what_is_written_is_read_and_no_damaged_bit_goes_unseen() {
        let bytes = some().encode();
        assert_eq!(Checkpoint::decode(&bytes), Some(some()));
        assert_eq!(CLASSES, 16);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::decode(&damaged), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(&bytes[..cut]), None, "cut {cut}");
        }
    }

    #[test]
    fn more_ranges_than_fit_are_left_out_and_not_counted() {
        let mut acks = Acks::new(1);
        for i in 1..=RANGES as u64 + 10 {
            acks.settle(i * 2..i * 2 + 1, Settled::Class(1));
        }
        let bytes = Checkpoint { acks, ..some() }.encode();
        assert!(bytes.len() <= ROOM);
        let read = Checkpoint::decode(&bytes).unwrap();
        assert_eq!(read.acks.totals().settled[1], RANGES as u64);
        assert!(read.acks.contains(RANGES as u64 * 2));
        assert!(!read.acks.contains(RANGES as u64 * 2 + 2));
    }
}
