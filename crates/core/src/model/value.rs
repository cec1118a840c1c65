//! Columns and their values, for code that works on records of any kind.

use std::cmp::Ordering;
use std::fmt;

use crate::ids::{Symbol, TenantId, Timeframe};
use crate::model::OptionType;
use crate::time::{Date, Timestamp};

/// One column of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name, in JSON, CSV and SQL alike.
    pub name: &'static str,
    /// What it holds.
    pub ty: ColumnType,
    /// Key part or value.
    pub role: ColumnRole,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnRole {
    /// Part of the natural key: must be present.
    Key,
    /// A value: may be absent.
    Value,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// Symbols, written with a comma between them.
    Symbols,
    /// A finite 64-bit float.
    Float,
    /// True or false.
    Bool,
    /// UTC microseconds.
    Timestamp,
    /// A calendar date.
    Date,
    /// A UUID.
    Tenant,
    /// The span of a bar.
    Timeframe,
    /// Call or put.
    OptionType,
}

/// The value of a column of one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// UTF-8 text.
    Text(&'a str),
    /// Symbols.
    Symbols(&'a [Symbol]),
    /// A float.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// An instant.
    Timestamp(Timestamp),
    /// A date.
    Date(Date),
    /// A tenant.
    Tenant(TenantId),
    /// The span of a bar.
    Timeframe(Timeframe),
    /// Call or put.
    OptionType(OptionType),
}

impl Value<'_> {
    /// Whether there is no value.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The order of values within one column: absent lowest, text bytewise.
    pub fn rank_cmp(&self, other: &Value<'_>) -> Ordering {
        use Value as V;
        match (self, other) {
            (V::Null, V::Null) => Ordering::Equal,
            (V::Null, _) => Ordering::Less,
            (_, V::Null) => Ordering::Greater,
            // Validation lets no NaN through; `total_cmp` keeps the order total all the same.
            (V::Float(a), V::Float(b)) => a.partial_cmp(b).unwrap_or_else(|| a.total_cmp(b)),
            (V::Text(a), V::Text(b)) => a.cmp(b),
            (V::Bool(a), V::Bool(b)) => a.cmp(b),
            (V::Timestamp(a), V::Timestamp(b)) => a.cmp(b),
            (V::Date(a), V::Date(b)) => a.cmp(b),
            (V::Tenant(a), V::Tenant(b)) => a.cmp(b),
            (V::OptionType(a), V::OptionType(b)) => a.cmp(b),
            // Compared as the text that a store holds.
            (a, b) => a.to_string().cmp(&b.to_string()),
        }
    }
}

impl fmt::Display for Value<'_> {
    /// The text form of CSV files and tables; an absent value is the empty text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Text(v) => f.write_str(v),
            Self::Symbols(v) => {
                for (i, symbol) in v.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    f.write_str(symbol.as_str())?;
                }
                Ok(())
            }
            // `Display` of f64 is the shortest text that reads back equal.
            Self::Float(v) => write!(f, "{v}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Timestamp(v) => write!(f, "{v}"),
            Self::Date(v) => write!(f, "{v}"),
            Self::Tenant(v) => write!(f, "{v}"),
            Self::Timeframe(v) => write!(f, "{v}"),
            Self::OptionType(v) => f.write_str(v.as_str()),
        }
    }
}
