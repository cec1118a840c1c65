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
//! ```
//!
//! Numbers from `previous end` to `first` were given to records whose write failed: nobody was told
//! that they are kept, and what of them may be found in an earlier segment is not delivered.

use crate::SeqNo;
use crate::pair;

/// The newest version of the format.
pub(crate) const VERSION: u16 = 1;
/// Where the first group begins.
pub(crate) const DATA: u64 = pair::PAIR as u64;
const MAGIC: &[u8; 8] = b"MDSWALSG";
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
}

impl SegmentHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(42);
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.number, self.first, self.previous_end, self.salt] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        pair::encode(&content)
    }

    /// Reads the content of a block; the version where it is one that is not known.
    pub(crate) fn decode(content: &[u8]) -> Result<Self, Option<u16>> {
        let rest = content.strip_prefix(MAGIC).ok_or(None)?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(None)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(Some(version));
        }
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
            })
        };
        head().ok_or(None)
    }
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
        };
        let pair::Found::Content(content, false) = pair::decode(&head.encode()) else {
            panic!("not a pair");
        };
        assert_eq!(SegmentHead::decode(&content), Ok(head));
        let mut newer = content.clone();
        newer[8] = 2;
        assert_eq!(SegmentHead::decode(&newer), Err(Some(2)));
        assert_eq!(SegmentHead::decode(b"something"), Err(None));
    }
}
