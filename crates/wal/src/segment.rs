//! A segment: the file that records lie in, and the block at its beginning.
//!
//! ```text
//! offset  size  content of the block (kept twice, see `pair`), little-endian
//!      0     8  "MDSWALSG"
//!      8     2  version of the format
//!     10     8  number of the segment, from 1
//!     18     8  first: the number that its first record has
//!     26     8  previous end: the number after the last record before this segment
//!     34     8  salt of the queue
//!     42     1  1 where the file was a segment before, and has remains of it; else 0
//!     43     4  crc32 of the identity of the queue
//! ```
//!
//! Numbers from `previous end` to `first` were given to records whose write failed: nobody was told
//! that they are kept, and what of them may be found in an earlier segment is not delivered.
//!
//! Version 1 ends behind the salt: its files were never a segment before.
//!
//! A file that waits to become a segment again says so in its first block:
//!
//! ```text
//!      0     8  "MDSWALSP"
//!      8     2  version of the format
//! ```

use crate::SeqNo;
use crate::pair;

/// The newest version of the format.
pub(crate) const VERSION: u16 = 2;
/// Where the first group begins.
pub(crate) const DATA: u64 = pair::PAIR as u64;
const MAGIC: &[u8; 8] = b"MDSWALSG";
const SPARE_MAGIC: &[u8; 8] = b"MDSWALSP";
/// How the name of a segment ends.
const ENDING: &str = ".seg";

/// The name of the file of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{number:016}{ENDING}")
}

/// The number in the name of a segment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(ENDING)?;
    let is_ours = digits.len() >= 16 && digits.bytes().all(|b| b.is_ascii_digit());
    is_ours.then(|| digits.parse().ok()).flatten()
}

/// What the first block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) number: u64,
    pub(crate) first: SeqNo,
    pub(crate) previous_end: SeqNo,
    pub(crate) salt: u64,
    /// The file was a segment before: behind its last record are remains of that.
    pub(crate) is_reused: bool,
    /// The checksum of what the queue is for; version 1 does not say it.
    pub(crate) identity: Option<u32>,
}

impl SegmentHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(47);
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.number, self.first, self.previous_end, self.salt] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        content.push(u8::from(self.is_reused));
        content.extend_from_slice(&self.identity.unwrap_or(0).to_le_bytes());
        pair::encode(&content)
    }

    /// Reads the content of a block; the version where it is one that is not known.
    pub(crate) fn decode(content: &[u8]) -> Result<Self, Option<u16>> {
        let rest = content.strip_prefix(MAGIC).ok_or(None)?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(None)?;
        let version = u16::from_le_bytes(*version);
        if version > VERSION {
            return Err(Some(version));
        }
        let (is_reused, identity) = if version == 1 {
            (false, None)
        } else {
            let rest = rest.get(32..).ok_or(None)?;
            let (is_reused, identity) = rest.split_first_chunk::<1>().ok_or(None)?;
            let identity = identity.first_chunk::<4>().ok_or(None)?;
            (*is_reused != [0], Some(u32::from_le_bytes(*identity)))
        };
        let word = |at: usize| {
            let bytes = rest.get(at * 8..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let head = || {
            Some(Self {
                number: word(0)?,
                first: word(1)?,
                previous_end: word(2)?,
                salt: word(3)?,
                is_reused,
                identity,
            })
        };
        head().ok_or(None)
    }
}

/// The first block of a file that waits to become a segment again.
pub(crate) fn spare() -> Vec<u8> {
    let mut content = SPARE_MAGIC.to_vec();
    content.extend_from_slice(&VERSION.to_le_bytes());
    pair::encode(&content)
}

/// Whether the content of a first block says that there is nothing in the file.
pub(crate) fn is_spare(content: &[u8]) -> bool {
    content.starts_with(SPARE_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_heads_are_read_back() {
        assert_eq!(name(12), "0000000000000012.seg");
        assert_eq!(number("0000000000000012.seg"), Some(12));
        for other in ["12.seg", "000000000000001x.seg", "lock", "0000000000000012"] {
            assert_eq!(number(other), None, "{other}");
        }
        let head = SegmentHead {
            number: 3,
            first: 50,
            previous_end: 48,
            salt: 9,
            is_reused: true,
            identity: Some(7),
        };
        let pair::Found::Content(content, false) = pair::decode(&head.encode()) else {
            panic!("not a pair");
        };
        assert_eq!(SegmentHead::decode(&content), Ok(head));
        let mut newer = content.clone();
        newer[8] = 3;
        assert_eq!(SegmentHead::decode(&newer), Err(Some(3)));
        let mut older = content.clone();
        older[8] = 1;
        let expected = SegmentHead {
            is_reused: false,
            identity: None,
            ..head
        };
        assert_eq!(SegmentHead::decode(&older[..42]), Ok(expected));
        assert_eq!(SegmentHead::decode(&content[..45]), Err(None));
        assert_eq!(SegmentHead::decode(b"something"), Err(None));
        let pair::Found::Content(content, false) = pair::decode(&spare()) else {
            panic!("not a pair");
        };
        assert!(is_spare(&content) && SegmentHead::decode(&content) == Err(None));
    }
}
