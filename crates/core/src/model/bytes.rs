//! Fields as bytes, for queues on the disk: short, quick, and exact to the bit.
//!
//! Numbers are little-endian; a text is its length (LEB128) and its UTF-8; an absent value is a byte 0,
//! a present one a byte 1 and the value. The fields of a record follow each other in the order of its
//! columns, the revision last. [`ENCODING`] goes up with any change.

use smol_str::SmolStr;

use crate::ids::{Symbol, TenantId, Timeframe, Vendor};
use crate::model::OptionType;
use crate::time::{Date, Timestamp};

/// The version of the bytes that [`crate::Record::encode`] makes.
pub const ENCODING: u32 = 1;

/// A type that has bytes.
pub(super) trait FieldBytes: Sized {
    /// Appends the bytes.
    fn put(&self, bytes: &mut Vec<u8>);
    /// Takes the value from the beginning of `bytes`; `None` where they are not its.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*array)
}

/// Appends a text.
pub fn put_text(text: &str, bytes: &mut Vec<u8>) {
    let mut length = text.len();
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= 7;
        if length == 0 {
            bytes.push(low & 0x7f);
            break;
        }
        // A mark that more follow.
        bytes.push(low | 0x80);
    }
    bytes.extend_from_slice(text.as_bytes());
}

/// Takes a text from the beginning of `bytes`; `None` where there is none.
pub fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let [byte] = array::<1>(bytes)?;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

macro_rules! number_bytes {
    ($($type:ty),+) => {
        $(impl FieldBytes for $type {
            fn put(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                array(bytes).map(Self::from_le_bytes)
            }
        })+
    };
}

number_bytes!(i64, i32, f64);

impl FieldBytes for bool {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        match array::<1>(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl FieldBytes for Timestamp {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.micros().put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        i64::take(bytes).map(Self::from_micros)
    }
}

impl FieldBytes for Date {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.days().put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        i32::take(bytes).map(Self::from_days)
    }
}

impl FieldBytes for TenantId {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.as_u128().to_le_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        array(bytes).map(|b| Self::from_u128(u128::from_le_bytes(b)))
    }
}

impl FieldBytes for OptionType {
    fn put(&self, bytes: &mut Vec<u8>) {
        (*self == Self::Put).put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let is_put = bool::take(bytes)?;
        Some(if is_put { Self::Put } else { Self::Call })
    }
}

impl FieldBytes for Timeframe {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_text(&self.to_string(), bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        match take_text(bytes)? {
            "1m" => Some(Self::MINUTE),
            text => text.parse().ok(),
        }
    }
}

macro_rules! text_bytes {
    ($($type:ty: $text:ident => $made:expr),+ $(,)?) => {
        $(impl FieldBytes for $type {
            fn put(&self, bytes: &mut Vec<u8>) {
                put_text(self.as_str(), bytes);
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let $text = take_text(bytes)?;
                Some($made)
            }
        })+
    };
}

text_bytes!(
    Symbol: text => Self::new(text),
    Vendor: text => Self::new(text),
    SmolStr: text => Self::new(text),
    String: text => text.to_owned(),
);

impl<F: FieldBytes> FieldBytes for Option<F> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.is_some().put(bytes);
        if let Some(value) = self {
            value.put(bytes);
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        if bool::take(bytes)? {
            F::take(bytes).map(Some)
        } else {
            Some(None)
        }
    }
}

impl FieldBytes for Vec<Symbol> {
    fn put(&self, bytes: &mut Vec<u8>) {
        let count = i32::try_from(self.len()).unwrap_or(i32::MAX);
        count.put(bytes);
        for symbol in self {
            symbol.put(bytes);
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let count = i32::take(bytes)?;
        (0..count).map(|_| Symbol::take(bytes)).collect()
    }
}
