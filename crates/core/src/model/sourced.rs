//! A record together with where it was read.

use std::borrow::Borrow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The line of a file that a record came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, as the user named it; an entry of an archive follows after `!`.
    pub path: Arc<str>,
    /// The line, from 1; for formats without lines the number of the record, from 1.
    pub line: u64,
}

/// A record that knows its [`Origin`], so that whatever becomes of it can be told by line.
///
/// Serializes as the record alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced<R> {
    /// The record.
    pub record: R,
    /// Where it was read; `None` for a record that came from no file.
    pub origin: Option<Origin>,
}

impl<R> From<R> for Sourced<R> {
    fn from(record: R) -> Self {
        Self {
            record,
            origin: None,
        }
    }
}

impl<R: Serialize> Serialize for Sourced<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.record.serialize(serializer)
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Sourced<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        R::deserialize(deserializer).map(Self::from)
    }
}

impl<R> Borrow<R> for Sourced<R> {
    fn borrow(&self) -> &R {
        &self.record
    }
}
