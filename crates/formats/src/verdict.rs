//! What became of each row of an input.

use std::borrow::Cow;

use mds_core::{Invalid, Origin, Sourced};

/// Bytes of a bad line that are kept.
pub const RAW_LIMIT: usize = 64 * 1024;

/// The reader's word on one row.
///
/// Records and invalid rows together are what the input holds (`read`); skipped rows are outside
/// of that sum.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<R> {
    /// A record: normalized and validated.
    Record(Row<R>),
    /// A row that cannot be parsed, or that cannot be a market fact.
    Invalid(Box<InvalidRow>),
    /// A row that the format maps to no record.
    Skipped {
        /// The line, from 1.
        line: u64,
        /// Why, one of the closed set that the format documents.
        reason: &'static str,
    },
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<R> {
    /// The record and where it stood. Its `revision` is set where the vendor says when the value
    /// was published, else it is 0.
    pub sourced: Sourced<R>,
    /// How many rows (records and invalid ones) came before in this input, over all entries of an
    /// archive. Added to the revision of the input it makes the later line win.
    pub ordinal: u64,
}

/// A row that did not become a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRow {
    /// Where it stood.
    pub origin: Origin,
    /// As [`Row::ordinal`].
    pub ordinal: u64,
    /// The bytes of the line as they are, at most [`RAW_LIMIT`]; they may not be UTF-8.
    pub raw: Vec<u8>,
    /// Whether `raw` is only the start of the line.
    pub truncated: bool,
    /// The field at fault; `line` where no single one is.
    pub field: Cow<'static, str>,
    /// What the field held.
    pub value: String,
    /// The rule that it breaks, as a sentence.
    pub rule: Cow<'static, str>,
    /// The rule's short name, one of a closed set.
    pub code: &'static str,
}

/// Why a row is invalid, before it is known where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) field: Cow<'static, str>,
    pub(crate) value: String,
    pub(crate) rule: Cow<'static, str>,
    pub(crate) code: &'static str,
}

impl Fault {
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        code: &'static str,
        rule: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut value = value.into();
        crop(&mut value, RAW_LIMIT);
        Self {
            field: field.into(),
            value,
            rule: rule.into(),
            code,
        }
    }

    /// A fault of the line as a whole.
    pub(crate) fn line(code: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new("line", String::new(), code, rule)
    }

    /// A key part that the row lacks.
    pub(crate) fn missing(field: &'static str) -> Self {
        Self::new(field, "", "missing_key", "a key part must be present")
    }
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Self::new(invalid.field, invalid.value, invalid.code, invalid.rule)
    }
}

/// Cuts `text` at the last character boundary within `limit` bytes.
fn crop(text: &mut String, limit: usize) {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// The start of a line, up to the last character boundary within `limit` bytes where it is UTF-8 so
/// far.
pub(crate) fn start_of_bytes(line: &[u8], limit: usize) -> &[u8] {
    let Some(start) = line.get(..limit).filter(|start| start.len() < line.len()) else {
        return line;
    };
    match str::from_utf8(start) {
        // The cut goes through a character.
        Err(error) if error.error_len().is_none() => &start[..error.valid_up_to()],
        _ => start,
    }
}
