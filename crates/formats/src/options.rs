//! What the user says about an input.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use mds_core::{Symbol, TenantId, Timeframe, Timestamp, Vendor};

use crate::registry::Format;

/// What the user says about an input; everything may be left out.
///
/// What a row says itself wins over these, except that a vendor's format takes `vendor` in place of
/// its own name and `symbol` and `timeframe` in place of what the file name says.
///
/// ```
/// use mds_formats::Options;
///
/// let options = Options {
///     symbol: Some("usdjpy".into()),
///     timeframe: Some("1m".parse().unwrap()),
///     tz: Some("America/New_York".parse().unwrap()),
///     map: vec!["ts=1".parse().unwrap(), "close_price=5".parse().unwrap()],
///     time_format: Some("%Y%m%d %H%M%S".parse().unwrap()),
///     ..Options::default()
/// };
/// assert_eq!(options.map[1].to_string(), "close_price=5");
/// assert!("America/New_Yorck".parse::<mds_formats::Zone>().is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The format; `None` tells it from the content.
    pub format: Option<&'static Format>,
    /// The vendor.
    pub vendor: Option<Vendor>,
    /// The symbol.
    pub symbol: Option<Symbol>,
    /// The span of the bars.
    pub timeframe: Option<Timeframe>,
    /// The zone of times that have no offset.
    pub tz: Option<Zone>,
    /// The tenant of rows that name none.
    pub tenant: Option<TenantId>,
    /// Which column holds which field.
    pub map: Vec<Mapping>,
    /// How times are written.
    pub time_format: Option<TimeFormat>,
    /// When the news was published, for files that do not say.
    pub published_at: Option<Timestamp>,
}

/// One `--map FIELD=COLUMN`: the column by its name in the header, or by its number from 1 in a
/// file without a header.
///
/// `A+B` joins two columns with a blank, for a date and a time that stand apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The field of the record.
    pub field: String,
    /// The column of the file.
    pub column: String,
}

/// The text is not a mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mapping, such as close_price=Close or close_price=5")]
pub struct MappingError(String);

impl FromStr for Mapping {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        match text.split_once('=') {
            Some((field, column)) if !field.trim().is_empty() && !column.trim().is_empty() => {
                Ok(Self {
                    field: field.trim().to_owned(),
                    column: column.trim().to_owned(),
                })
            }
            _ => Err(MappingError(text.to_owned())),
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.field, self.column)
    }
}

/// A time zone by its IANA name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// The text is not the name of a time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time zone of the IANA database, such as America/New_York or UTC")]
pub struct ZoneError(String);

impl Zone {
    /// The zone's rules.
    pub(crate) const fn rules(&self) -> &TimeZone {
        &self.0
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        TimeZone::get(text.trim())
            .map(Self)
            .map_err(|_| ZoneError(text.to_owned()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

/// How times are written in a delimited file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// `rfc3339`: 2024-11-01T00:00:00Z; the offset may be left out where a zone is given.
    Rfc3339,
    /// `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`: a count since 1970-01-01T00:00:00Z.
    Epoch(EpochUnit),
    /// A pattern of `strftime`.
    Pattern(String),
}

/// The unit of a count since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochUnit {
    /// Seconds, which may have a fraction.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds; digits below the microsecond are cut off.
    Nanos,
}

/// The text is not a way of writing times.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time format: rfc3339, epoch_s, epoch_ms, epoch_us, epoch_ns or a pattern such as \"%Y-%m-%d %H:%M:%S\""
)]
pub struct TimeFormatError(String);

impl FromStr for TimeFormat {
    type Err = TimeFormatError;

    fn from_str(text: &str) -> Result<Self, TimeFormatError> {
        Ok(match text {
            "rfc3339" => Self::Rfc3339,
            "epoch_s" => Self::Epoch(EpochUnit::Seconds),
            "epoch_ms" => Self::Epoch(EpochUnit::Millis),
            "epoch_us" => Self::Epoch(EpochUnit::Micros),
            "epoch_ns" => Self::Epoch(EpochUnit::Nanos),
            pattern if pattern.contains('%') && crate::values::is_pattern(pattern) => {
                Self::Pattern(pattern.to_owned())
            }
            _ => return Err(TimeFormatError(text.to_owned())),
        })
    }
}
