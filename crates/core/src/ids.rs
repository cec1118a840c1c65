//! Identifiers with one normal form each, applied on writing and on asking alike.
//!
//! | type | normal form |
//! |---|---|
//! | [`Symbol`] | trimmed, upper-cased |
//! | [`Vendor`] | trimmed, lower-cased |
//! | [`Timeframe`] | one of the units `s m h d w mo`, the largest that divides the span |
//! | [`TenantId`] | a UUID |
//!
//! Short texts (up to 23 bytes, which is nearly every symbol) are held inline: a clone allocates
//! nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::time::{MICROS_PER_SECOND, Timestamp, serde_as_text};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $normal:ident, $is_normal:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(SmolStr);

        impl $name {
            /// The identifier in its normal form.
            pub fn new(text: &str) -> Self {
                let trimmed = text.trim();
                if trimmed.bytes().all($is_normal) {
                    return Self(SmolStr::new(trimmed));
                }
                Self(SmolStr::new(trimmed.$normal()))
            }

            /// The text as it is.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Whether there is no text.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// Brings a value that was read as it stood (by serde) into its normal form.
            pub fn normalize(&mut self) {
                let text = self.0.as_str();
                if text.bytes().all($is_normal) {
                    return;
                }
                *self = Self::new(text);
            }

            /// Bytes on the heap: 0 for a text held inline.
            pub fn heap_bytes(&self) -> usize {
                if self.0.is_heap_allocated() { self.0.len() } else { 0 }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// An instrument's symbol: trimmed and upper-cased (`BTCUSDT`, `BRK.A`, `NDXP`).
    Symbol,
    to_uppercase,
    |b| b.is_ascii_graphic() && !b.is_ascii_lowercase()
);
text_id!(
    /// Where a record came from: trimmed and lower-cased (`binance`, `sec`).
    Vendor,
    to_lowercase,
    |b| b.is_ascii_graphic() && !b.is_ascii_uppercase()
);

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(Uuid);

impl TenantId {
    /// The tenant of records that name none.
    pub const DEFAULT: Self = Self(Uuid::from_u128(1));

    /// A tenant from its UUID.
    pub const fn from_u128(value: u128) -> Self {
        Self(Uuid::from_u128(value))
    }

    /// The number that [`TenantId::from_u128`] makes it of.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// The 16 bytes of the UUID.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// A tenant from the 16 bytes of its UUID.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The text is not a UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID, such as 6ba7b810-9dad-11d1-80b4-00c04fd430c8")]
pub struct TenantError(String);

impl FromStr for TenantId {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Self, TenantError> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| TenantError(text.to_owned()))
    }
}

/// The unit of a [`Timeframe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// The span of a bar, such as `1m`, `5m`, `1h`, `1d`, `1w`, `1mo`.
///
/// A span that a larger unit divides is written in that unit (`60m` is `1h`), except that days
/// never turn into weeks: a seven-day bar and a calendar week need not start together.
///
/// ```
/// use mds_core::Timeframe;
///
/// assert_eq!("60m".parse::<Timeframe>().unwrap().to_string(), "1h");
/// assert_eq!("1Min".parse::<Timeframe>().unwrap().to_string(), "1m");
/// assert_eq!("1M".parse::<Timeframe>().unwrap().to_string(), "1mo");
/// assert!("0m".parse::<Timeframe>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeframe {
    unit: Unit,
    count: u16,
}

/// The text is not a time frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time frame, such as 1s, 1m, 5m, 1h, 1d, 1w or 1mo")]
pub struct TimeframeError(String);

impl Timeframe {
    /// One minute.
    pub const MINUTE: Self = Self {
        unit: Unit::Minute,
        count: 1,
    };
    /// One hour.
    pub const HOUR: Self = Self {
        unit: Unit::Hour,
        count: 1,
    };
    /// One day.
    pub const DAY: Self = Self {
        unit: Unit::Day,
        count: 1,
    };

    /// The end of a bar of this span that starts at `start`; months count as 31 days, so that a
    /// bar is never taken for settled before it is.
    pub fn end_of(self, start: Timestamp) -> Timestamp {
        let seconds: i64 = match self.unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Week => 7 * 86_400,
            Unit::Month => 31 * 86_400,
        };
        let span = seconds * i64::from(self.count) * MICROS_PER_SECOND;
        Timestamp::from_micros(start.micros().saturating_add(span))
    }

    fn normal(unit: Unit, count: u16) -> Self {
        match unit {
            Unit::Second if count.is_multiple_of(60) => Self::normal(Unit::Minute, count / 60),
            Unit::Minute if count.is_multiple_of(60) => Self::normal(Unit::Hour, count / 60),
            Unit::Hour if count.is_multiple_of(24) => Self::normal(Unit::Day, count / 24),
            _ => Self { unit, count },
        }
    }
}

impl Default for Timeframe {
    fn default() -> Self {
        Self::MINUTE
    }
}

impl FromStr for Timeframe {
    type Err = TimeframeError;

    fn from_str(text: &str) -> Result<Self, TimeframeError> {
        let refuse = || TimeframeError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let count: u16 = if number.is_empty() {
            1
        } else {
            number.parse().map_err(|_| refuse())?
        };
        // `M` alone is a month for the vendors that use it (Binance), `m` a minute.
        let unit = match unit.trim_start() {
            "M" => Unit::Month,
            other => match other.to_ascii_lowercase().as_str() {
                "s" | "sec" | "second" | "seconds" => Unit::Second,
                "m" | "min" | "minute" | "minutes" | "t" => Unit::Minute,
                "h" | "hr" | "hour" | "hours" => Unit::Hour,
                "d" | "day" | "days" => Unit::Day,
                "w" | "wk" | "week" | "weeks" => Unit::Week,
                "mo" | "mon" | "month" | "months" => Unit::Month,
                _ => return Err(refuse()),
            },
        };
        if count == 0 {
            return Err(refuse());
        }
        Ok(Self::normal(unit, count))
    }
}

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "s",
            Unit::Minute => "m",
            Unit::Hour => "h",
            Unit::Day => "d",
            Unit::Week => "w",
            Unit::Month => "mo",
        };
        write!(f, "{}{unit}", self.count)
    }
}

serde_as_text!(Timeframe, "a time frame, such as \"1m\" or \"1d\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms() {
        assert_eq!(Symbol::new("  brk.a ").as_str(), "BRK.A");
        assert_eq!(Vendor::new(" Binance").as_str(), "binance");
        let mut read: Symbol = serde_json::from_str("\" eth\"").unwrap();
        read.normalize();
        assert_eq!(read.as_str(), "ETH");
        assert_eq!(Symbol::new("straße").as_str(), "STRASSE");
    }

    #[test]
    fn timeframes_have_one_form() {
        for (text, normal) in [
            ("1s", "1s"),
            ("60s", "1m"),
            ("3600s", "1h"),
            ("24h", "1d"),
            ("1440m", "1d"),
            ("7d", "7d"),
            ("1w", "1w"),
            ("1mo", "1mo"),
            ("1M", "1mo"),
            ("Day", "1d"),
            ("90m", "90m"),
        ] {
            assert_eq!(
                text.parse::<Timeframe>().unwrap().to_string(),
                normal,
                "{text}"
            );
        }
        for bad in ["", "x", "1y", "0m", "70000s", "-1m", "1.5h"] {
            assert!(bad.parse::<Timeframe>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bar_ends_after_its_span() {
        let start = Timestamp::parse("2024-11-01T00:00:00Z").unwrap();
        assert_eq!(
            Timeframe::MINUTE.end_of(start).to_string(),
            "2024-11-01T00:01:00Z"
        );
    }
}
