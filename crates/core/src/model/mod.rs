//! The four kinds of records.
//!
//! Each record type says once what its columns are ([`Record::COLUMNS`]: the natural key in key
//! order, then the values); reading, writing, ranking and showing records are built on that.
//!
//! # Rank
//!
//! Of two records with the same natural key the store keeps the one of higher rank: settled before
//! provisional, then the greater revision, then the values in column order (absent lowest, text
//! bytewise). [`Record::rank_cmp`] is the only definition.

mod bar;
mod bytes;
mod field;
mod fundamentals;
mod news;
mod option_snap;
mod sourced;
mod value;

use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use bar::Bar;
pub use bytes::{ENCODING, put_text, take_text};
pub use fundamentals::Fundamentals;
pub use news::News;
pub use option_snap::{OptionSnap, OptionType};
pub use sourced::{Origin, Sourced};
pub use value::{Column, ColumnRole, ColumnType, Value};

use crate::ids::TenantId;
use crate::time::Timestamp;

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Open, high, low, close and volume of a span.
    Bars,
    /// Snapshots of option chains.
    Options,
    /// Figures from financial statements.
    Fundamentals,
    /// Headlines.
    News,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Bars, Self::Options, Self::Fundamentals, Self::News];

    /// The name that users type: `bars`, `options`, `fundamentals`, `news`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bars => "bars",
            Self::Options => "options",
            Self::Fundamentals => "fundamentals",
            Self::News => "news",
        }
    }

    /// The table that holds the kind.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Options => "options_snap",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a kind of record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of record; the kinds are bars, options, fundamentals and news")]
pub struct KindError(String);

impl std::str::FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == text || k.table() == text)
            .ok_or_else(|| KindError(text.to_owned()))
    }
}

/// Why a record cannot be a market fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {value:?}: {rule}")]
pub struct Invalid {
    /// The column.
    pub field: &'static str,
    /// What it held.
    pub value: String,
    /// The rule that it breaks, as a sentence.
    pub rule: &'static str,
    /// The rule's short name, one of a closed set.
    pub code: &'static str,
}

impl Invalid {
    /// A broken rule.
    pub fn new(
        field: &'static str,
        value: impl fmt::Display,
        code: &'static str,
        rule: &'static str,
    ) -> Self {
        Self {
            field,
            value: value.to_string(),
            rule,
            code,
        }
    }
}

/// One row of market data.
pub trait Record:
    Clone + fmt::Debug + Default + PartialEq + Send + Sync + Serialize + DeserializeOwned + 'static
{
    /// The kind.
    const KIND: Kind;
    /// The columns: the natural key in key order, then the values. `revision` is not among them.
    const COLUMNS: &'static [Column];

    /// The value of `COLUMNS[column]`; `Null` where there is none.
    fn value(&self, column: usize) -> Value<'_>;

    /// Sets `COLUMNS[column]` from text in the form that [`Value`]'s `Display` writes; the empty
    /// text is an absent value.
    fn set(&mut self, column: usize, text: &str) -> Result<(), Invalid>;

    /// Whose record it is.
    fn tenant_id(&self) -> TenantId;

    /// Gives the record to a tenant.
    fn set_tenant_id(&mut self, tenant: TenantId);

    /// The time in the natural key: `ts`, `asof` or `published_at`.
    fn time(&self) -> Timestamp;

    /// Sets the time in the natural key.
    fn set_time(&mut self, time: Timestamp);

    /// Microseconds; 0 means that none was given yet.
    fn revision(&self) -> i64;

    /// Gives the record its revision. A bar that was not over at that moment becomes provisional
    /// only by [`Record::mark_provisional`].
    fn set_revision(&mut self, revision: i64);

    /// Whether the record is final; only bars can be provisional.
    fn is_settled(&self) -> bool {
        true
    }

    /// Marks a record that was not over yet at `known_at` as provisional; only bars can be.
    fn mark_provisional(&mut self, _known_at: Timestamp) {}

    /// Brings every field into its normal form and fills in what follows from other fields.
    fn normalize(&mut self);

    /// Refuses what cannot be a market fact. Expects normal form.
    fn validate(&self) -> Result<(), Invalid>;

    /// Compares the natural keys.
    fn key_cmp(&self, other: &Self) -> Ordering;

    /// Bytes that the record takes in memory.
    fn bytes(&self) -> usize;

    /// Compares the ranks of two records of one key: the greater one is kept.
    fn rank_cmp(&self, other: &Self) -> Ordering {
        self.is_settled()
            .cmp(&other.is_settled())
            .then_with(|| self.revision().cmp(&other.revision()))
            .then_with(|| self.values_cmp(other))
    }

    /// Compares the values in column order: absent lowest, text bytewise.
    fn values_cmp(&self, other: &Self) -> Ordering {
        Self::COLUMNS
            .iter()
            .enumerate()
            .filter(|(_, c)| c.role == ColumnRole::Value)
            .map(|(i, _)| self.value(i).rank_cmp(&other.value(i)))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// Appends the record as bytes that [`Record::decode`] reads back, equal to the bit; [`ENCODING`]
    /// is the version of them.
    ///
    /// ```
    /// use mds_core::{Bar, Record};
    ///
    /// let bar = Bar { vendor: "v".into(), close_price: Some(0.1), revision: 7, ..Bar::default() };
    /// let mut bytes = Vec::new();
    /// bar.encode(&mut bytes);
    /// assert_eq!(Bar::decode(&mut bytes.as_slice()), Some(bar));
    /// assert_eq!(Bar::decode(&mut &bytes[1..]), None);
    /// ```
    fn encode(&self, bytes: &mut Vec<u8>);

    /// Takes a record from the beginning of `bytes`; `None` where they are not one.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;

    /// The position of the column `name`.
    fn column(name: &str) -> Option<usize> {
        Self::COLUMNS.iter().position(|c| c.name == name)
    }
}

/// The key parts that every kind has.
fn check_key(vendor: &str, time_field: &'static str, time: Timestamp) -> Result<(), Invalid> {
    check_id("vendor", vendor)?;
    if !time.is_valid() {
        return Err(Invalid::new(
            time_field,
            time,
            "time_out_of_range",
            "a time must lie in the years 1900 to 2199",
        ));
    }
    Ok(())
}

fn check_symbol(symbol: &str) -> Result<(), Invalid> {
    check_id("symbol", symbol)
}

/// A key part that is text: present, and of characters that can be seen. Others would be two keys
/// that look like one, and do things to terminals.
fn check_id(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        let rule = "a key part must be present";
        return Err(Invalid::new(field, text, "missing_key", rule));
    }
    check_visible(field, text)
}

fn check_visible(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.chars().any(char::is_control) {
        let rule = "must not have control characters";
        return Err(Invalid::new(field, text, "control_character", rule));
    }
    Ok(())
}

fn check_finite(field: &'static str, value: Option<f64>) -> Result<(), Invalid> {
    match value {
        Some(v) if !v.is_finite() => Err(Invalid::new(
            field,
            v,
            "not_finite",
            "a number must be finite",
        )),
        _ => Ok(()),
    }
}

fn check_not_negative(field: &'static str, value: Option<f64>) -> Result<(), Invalid> {
    check_finite(field, value)?;
    match value {
        Some(v) if v < 0.0 => Err(Invalid::new(
            field,
            v,
            "negative",
            "a volume or count cannot be negative",
        )),
        _ => Ok(()),
    }
}

/// Turns -0.0 into 0.0: the two compare equal in SQL, so a store could not tell them apart.
fn unsign_zero(values: &mut [&mut Option<f64>]) {
    for v in values.iter_mut().filter_map(|v| v.as_mut()) {
        *v += 0.0;
    }
}

#[cfg(test)]
mod tests;
