//! Records as they lie in a segment.
//!
//! ```text
//! offset  size  field, little-endian
//!      0     4  crc32 of: payload, bytes 4 to 16, the whole sequence number, the salt of the queue
//!      4     4  length of the payload
//!      8     4  sequence number, its lower half
//!     12     4  place in its group, from 0
//!     16     n  payload
//! ```
//!
//! Records of a group follow each other without gaps; a group begins at a block (4 KiB), and zeros
//! fill its last block. So a block that was synced is never written again.
//!
//! - The salt is a random number of the queue: bytes of a record that are part of another record's
//!   payload are not taken for one, not even if they come from a queue.
//! - A record proves that all groups before its own were synced before it was written. So damage is
//!   told from a write that was under way at a power loss: only what belongs to the last group of a
//!   segment can be the latter.

use crate::SeqNo;
use crate::pair::PAIR as DATA;

/// Bytes of a record beside its payload.
pub(crate) const HEAD: usize = 16;
/// Groups begin at a multiple of it.
pub(crate) const BLOCK: usize = 4096;

/// `bytes` rounded up to whole blocks.
pub(crate) const fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK as u64) * BLOCK as u64
}

/// Records that are written and synced together.
#[derive(Debug)]
pub(crate) struct Group {
    first: SeqNo,
    count: u32,
    /// Room for the first block of a segment, then the records.
    bytes: Vec<u8>,
}

impl Group {
    /// An empty group; its buffer is that of an earlier one.
    pub(crate) fn new(first: SeqNo, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(DATA, 0);
        Self {
            first,
            count: 0,
            bytes: buffer,
        }
    }

    /// The number of its first record.
    pub(crate) fn first(&self) -> SeqNo {
        self.first
    }

    /// The number after its last record.
    pub(crate) fn end(&self) -> SeqNo {
        self.first + u64::from(self.count)
    }

    /// Bytes on the disk.
    pub(crate) fn len_on_disk(&self) -> u64 {
        blocks((self.bytes.len() - DATA) as u64)
    }

    /// The whole blocks of its records.
    pub(crate) fn on_disk(&mut self) -> &[u8] {
        self.fill_block();
        &self.bytes[DATA..]
    }

    /// The same behind the first block of a segment.
    pub(crate) fn on_disk_behind(&mut self, head: &[u8]) -> &[u8] {
        self.fill_block();
        self.bytes[..head.len()].copy_from_slice(head);
        &self.bytes
    }

    fn fill_block(&mut self) {
        let whole = self.bytes.len().next_multiple_of(BLOCK);
        self.bytes.resize(whole, 0);
    }

    /// Its buffer, for another group.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds a record. `payload` has at most `u32::MAX` bytes.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half of the number is what is kept; the length was checked"
    )]
    pub(crate) fn push(&mut self, payload: &[u8], salt: u64) {
        let seq = self.end();
        let mut head = [0; HEAD];
        head[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[8..12].copy_from_slice(&(seq as u32).to_le_bytes());
        head[12..16].copy_from_slice(&self.count.to_le_bytes());
        let crc = checksum(payload, &head, seq, salt);
        head[..4].copy_from_slice(&crc.to_le_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(payload);
        self.count += 1;
    }
}

fn checksum(payload: &[u8], head: &[u8; HEAD], seq: SeqNo, salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(payload);
    let mut rest = [0; 28];
    rest[..12].copy_from_slice(&head[4..]);
    rest[12..20].copy_from_slice(&seq.to_le_bytes());
    rest[20..].copy_from_slice(&salt.to_le_bytes());
    hasher.update(&rest);
    hasher.finalize()
}

/// A record at a place where one was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: SeqNo,
    /// The first record of its group.
    pub(crate) group_first: SeqNo,
    /// Bytes of the payload.
    pub(crate) len: usize,
}

impl Head {
    /// Bytes of the whole record.
    pub(crate) fn size(&self) -> usize {
        HEAD + self.len
    }
}

/// What is at the beginning of some bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A record, all of it there and right.
    Record(Head),
    /// What may be a record, if so many bytes from here on are looked at.
    Longer(usize),
    /// No record.
    Nothing,
}

/// The numbers that a record may have, and what it is told from other bytes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expect {
    /// The least number.
    pub(crate) next: SeqNo,
    /// A number that it is below.
    pub(crate) below: SeqNo,
    pub(crate) salt: u64,
    /// The greatest length of a payload.
    pub(crate) max_len: usize,
}

/// How many bytes from the beginning of `bytes` on, one at least, cannot be the beginning of a record:
/// the number there is not one that is looked for.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is compared"
)]
pub(crate) fn distance(bytes: &[u8], expect: &Expect) -> usize {
    let numbers = expect.below.saturating_sub(expect.next);
    let Ok(numbers) = u32::try_from(numbers) else {
        return 1;
    };
    let next = expect.next as u32;
    let words = bytes.get(9..).unwrap_or_default().windows(4);
    let is_far = |word: &[u8]| match word.first_chunk::<4>() {
        Some(word) => u32::from_le_bytes(*word).wrapping_sub(next) >= numbers,
        None => false,
    };
    1 + words.take_while(|word| is_far(word)).count()
}

/// The size of the record that is expected next, if a head looks like its own, whole or not.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is compared"
)]
pub(crate) fn resembles(head: &[u8; HEAD], expect: &Expect) -> Option<usize> {
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let len = usize::try_from(word(4)).ok()?;
    (word(8) == expect.next as u32 && len <= expect.max_len).then_some(HEAD + len)
}

/// Looks for a record at the beginning of `bytes`.
pub(crate) fn look(bytes: &[u8], expect: &Expect) -> Look {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Look::Longer(HEAD);
    };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let Ok(len) = usize::try_from(word(4)) else {
        return Look::Nothing;
    };
    if len > expect.max_len {
        return Look::Nothing;
    }
    // The number is the first at or above the least one that ends like this.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half is compared"
    )]
    let ahead = word(8).wrapping_sub(expect.next as u32);
    let seq = expect.next + u64::from(ahead);
    let index = u64::from(word(12));
    if seq >= expect.below || index > seq {
        return Look::Nothing;
    }
    let Some(payload) = bytes.get(HEAD..HEAD + len) else {
        return Look::Longer(HEAD + len);
    };
    if checksum(payload, head, seq, expect.salt) != word(0) {
        return Look::Nothing;
    }
    Look::Record(Head {
        seq,
        group_first: seq - index,
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECT: Expect = Expect {
        next: 7,
        below: 100,
        salt: 42,
        max_len: 1000,
    };

    fn group() -> Group {
        let mut group = Group::new(7, Vec::new());
        group.push(b"one", 42);
        group.push(b"", 42);
        group
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let group = group();
        let head = |seq, len| {
            Look::Record(Head {
                seq,
                group_first: 7,
                len,
            })
        };
        assert_eq!(look(&group.bytes[DATA..], &EXPECT), head(7, 3));
        assert_eq!(look(&group.bytes[DATA + 19..], &EXPECT), head(8, 0));
        assert_eq!(look(&group.bytes[DATA..][..5], &EXPECT), Look::Longer(16));
        assert_eq!(look(&group.bytes[DATA..][..18], &EXPECT), Look::Longer(19));
        assert_eq!((group.end(), group.len_on_disk()), (9, 4096));
        let mut group = group;
        assert_eq!(group.on_disk().len(), 4096);
        assert_eq!(group.on_disk_behind(&[1; DATA]).len(), DATA + 4096);
    }

    #[test]
    fn a_record_with_any_flipped_bit_or_of_another_queue_or_of_before_is_none() {
        let bytes = group().bytes[DATA..].to_vec();
        for bit in 0..19 * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !matches!(look(&damaged, &EXPECT), Look::Record(_)),
                "bit {bit}"
            );
        }
        let other = Expect { salt: 43, ..EXPECT };
        assert_eq!(look(&bytes, &other), Look::Nothing);
        let later = Expect { next: 8, ..EXPECT };
        assert_eq!(look(&bytes, &later), Look::Nothing);
    }

    #[test]
    fn no_record_is_stepped_over() {
        let mut bytes = vec![3; 700];
        bytes.extend_from_slice(&group().bytes[DATA..]);
        let mut at = 0;
        while look(&bytes[at..], &EXPECT) == Look::Nothing {
            at += distance(&bytes[at..], &EXPECT);
        }
        assert_eq!(at, 700);
        // Too few to say.
        assert_eq!(distance(&[3; 12], &EXPECT), 1);
        assert_eq!(distance(&[3; 13], &EXPECT), 2);
        let any = Expect {
            below: SeqNo::MAX,
            ..EXPECT
        };
        assert_eq!(distance(&bytes, &any), 1);
    }

    #[test]
    fn numbers_are_whole_again_beyond_32_bits() {
        let first = (3 << 32) - 1;
        let mut group = Group::new(first, Vec::new());
        group.push(b"a", 1);
        group.push(b"b", 1);
        let expect = Expect {
            next: first,
            below: first + 10,
            salt: 1,
            max_len: 10,
        };
        let Look::Record(head) = look(&group.bytes[DATA + 17..], &expect) else {
            panic!("no record");
        };
        assert_eq!((head.seq, head.group_first), (3 << 32, first));
    }
}
