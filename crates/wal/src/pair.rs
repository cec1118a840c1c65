//! A small block of bytes that is kept twice, so that damage to one copy costs nothing.
//!
//! ```text
//! offset  size  field, little-endian
//!      0     4  crc32 of all that follows in the copy
//!      4     4  length of the content
//!      8     n  content, then zeros up to COPY bytes
//!    COPY        the same again
//! ```

/// Bytes of one copy.
pub(crate) const COPY: usize = 2048;
/// Bytes of both.
pub(crate) const PAIR: usize = 2 * COPY;
/// Bytes of content that fit.
pub(crate) const ROOM: usize = COPY - 8;

/// What was read of a pair.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The content, and whether one of the copies is damaged.
    Content(Vec<u8>, bool),
    /// Both copies are damaged.
    Damaged,
    /// Nothing but zeros, or nothing at all.
    Empty,
}

/// Both copies of a content of at most [`ROOM`] bytes.
pub(crate) fn encode(content: &[u8]) -> Vec<u8> {
    debug_assert!(content.len() <= ROOM);
    let mut copy = vec![0; COPY];
    let length = u32::try_from(content.len()).unwrap_or(0);
    copy[4..8].copy_from_slice(&length.to_le_bytes());
    copy[8..8 + content.len()].copy_from_slice(content);
    let crc = crc32fast::hash(&copy[4..]);
    copy[..4].copy_from_slice(&crc.to_le_bytes());
    copy.repeat(2)
}

/// Reads a pair; `bytes` may be shorter than one.
pub(crate) fn decode(bytes: &[u8]) -> Found {
    if bytes.iter().all(|byte| *byte == 0) {
        return Found::Empty;
    }
    let first = bytes.get(..COPY).and_then(decode_copy);
    let second = bytes.get(COPY..PAIR).and_then(decode_copy);
    let is_damaged = first.is_none() || second.is_none();
    match first.or(second) {
        Some(content) => Found::Content(content.to_vec(), is_damaged),
        None => Found::Damaged,
    }
}

fn decode_copy(copy: &[u8]) -> Option<&[u8]> {
    let crc = copy.first_chunk::<4>()?;
    if crc32fast::hash(&copy[4..]) != u32::from_le_bytes(*crc) {
        return None;
    }
    let length = copy.get(4..8)?.first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    copy.get(8..8_usize.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_damage_to_one_copy_is_survived_and_told() {
        let bytes = encode(b"content");
        assert_eq!(decode(&bytes), Found::Content(b"content".to_vec(), false));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), Found::Content(b"content".to_vec(), true));
        }
        // Torn anywhere, one copy is whole or there is nothing to rely on.
        for cut in 0..bytes.len() {
            let expected = match cut {
                0 => Found::Empty,
                1..COPY => Found::Damaged,
                _ => Found::Content(b"content".to_vec(), true),
            };
            assert_eq!(decode(&bytes[..cut]), expected, "{cut}");
        }
    }
}
