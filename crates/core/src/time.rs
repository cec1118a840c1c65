//! Instants and dates.
//!
//! A [`Timestamp`] is a count of microseconds since 1970-01-01T00:00:00Z, without a zone: every
//! time in the store is UTC. Text without an offset is refused here, since it would have to be
//! guessed; a reader that knows the zone of its file converts before it gets this far.

use std::fmt;
use std::str::FromStr;

/// Microseconds in one second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds in one day.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// An instant: UTC, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A calendar date: days since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text is not an RFC 3339 date and time with an offset.
    #[error("{0:?} is not a time with an offset, such as 2024-11-01T00:00:00Z")]
    Timestamp(String),
    /// The text is not a calendar date.
    #[error("{0:?} is not a date, such as 2024-11-01")]
    Date(String),
    /// The value cannot be held in microseconds.
    #[error("{0} is outside the range of times")]
    Range(String),
}

impl Timestamp {
    /// 1900-01-01T00:00:00Z, the earliest instant that validation accepts.
    pub const MIN_VALID: Self = Self(-2_208_988_800 * MICROS_PER_SECOND);
    /// 2200-01-01T00:00:00Z, the first instant that validation refuses again.
    pub const MAX_VALID: Self = Self(7_258_118_400 * MICROS_PER_SECOND);

    /// An instant from microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// An instant from milliseconds since the epoch; `None` where microseconds would overflow.
    pub const fn from_millis(millis: i64) -> Option<Self> {
        match millis.checked_mul(1_000) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// An instant from seconds since the epoch; `None` where microseconds would overflow.
    pub const fn from_seconds(seconds: i64) -> Option<Self> {
        match seconds.checked_mul(MICROS_PER_SECOND) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whether the instant lies in the years 1900 to 2199.
    pub const fn is_valid(self) -> bool {
        self.0 >= Self::MIN_VALID.0 && self.0 < Self::MAX_VALID.0
    }

    /// The UTC date that the instant falls on.
    pub fn date(self) -> Date {
        let days = self.0.div_euclid(MICROS_PER_DAY);
        Date(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }))
    }

    /// Parses an RFC 3339 date and time; the offset (or `Z`) is required, digits past the
    /// microsecond are cut off. The second 60 is refused: taken for 59, a leap second would be one
    /// with the second before it.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        match text.parse::<jiff::Timestamp>() {
            // Nowhere else in a valid text can this stand.
            Ok(t) if !text.contains(":60") => Ok(Self(t.as_microsecond())),
            _ => Err(TimeError::Timestamp(text.to_owned())),
        }
    }

    /// Parses a date, which stands for its first moment in UTC, or a time with an offset.
    pub fn parse_or_midnight(text: &str) -> Result<Self, TimeError> {
        match Date::parse(text) {
            Ok(date) => Ok(date.midnight()),
            Err(_) => Self::parse(text),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse(text)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with `Z`, with as many digits of the second as the value needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => fmt::Display::fmt(&t, f),
            // Outside of jiff's years -9999..9999 there is no calendar date to print.
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl Date {
    /// A date from days since 1970-01-01.
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// A date from year, month (1 to 12) and day; `None` where the calendar has no such day.
    pub fn from_ymd(year: i16, month: i8, day: i8) -> Option<Self> {
        let date = jiff::civil::Date::new(year, month, day).ok()?;
        let epoch = jiff::civil::date(1970, 1, 1);
        let days = date.since(epoch).ok()?.get_days();
        Some(Self(days))
    }

    /// Days since 1970-01-01.
    pub const fn days(self) -> i32 {
        self.0
    }

    /// Midnight UTC at the start of the date; the first or the last instant where the date lies
    /// beyond it.
    pub fn midnight(self) -> Timestamp {
        Timestamp(i64::from(self.0).saturating_mul(MICROS_PER_DAY))
    }

    /// Parses `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let refuse = || TimeError::Date(text.to_owned());
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return Err(refuse());
        }
        let part = |range: std::ops::Range<usize>| -> Option<i16> {
            let digits = text.get(range)?;
            digits
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| digits.parse().ok())?
        };
        let (Some(y), Some(m), Some(d)) = (part(0..4), part(5..7), part(8..10)) else {
            return Err(refuse());
        };
        let (Ok(m), Ok(d)) = (i8::try_from(m), i8::try_from(d)) else {
            return Err(refuse());
        };
        Self::from_ymd(y, m, d).ok_or_else(refuse)
    }
}

impl FromStr for Date {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse(text)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = jiff::Timestamp::from_second(i64::from(self.0) * 86_400)
            .map(|t| jiff::tz::TimeZone::UTC.to_datetime(t).date());
        match shown {
            Ok(date) => fmt::Display::fmt(&date, f),
            Err(_) => write!(f, "{}d", self.0),
        }
    }
}

macro_rules! serde_as_text {
    ($type:ty, $expecting:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}
pub(crate) use serde_as_text;

serde_as_text!(
    Timestamp,
    "a time with an offset, such as \"2024-11-01T00:00:00Z\""
);
serde_as_text!(Date, "a date, such as \"2024-11-01\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_back_equal() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-11-01T00:00:00.000001Z", 1_730_419_200_000_001),
            ("1969-12-31T23:59:59.5Z", -500_000),
        ] {
            assert_eq!(Timestamp::parse(text), Ok(Timestamp(micros)));
            assert_eq!(Timestamp(micros).to_string(), text);
        }
        assert_eq!(
            Timestamp::parse("2024-11-01T02:00:00+02:00"),
            Ok(Timestamp(1_730_419_200_000_000))
        );
    }

    #[test]
    fn a_time_without_offset_is_refused() {
        assert!(Timestamp::parse("2024-11-01T00:00:00").is_err());
        assert!(Timestamp::parse("2024-11-01").is_err());
        assert!(Timestamp::parse("").is_err());
    }

    #[test]
    fn a_leap_second_is_refused() {
        assert!(Timestamp::parse("2016-12-31T23:59:60Z").is_err());
        assert!(Timestamp::parse("2016-12-31T23:59:59Z").is_ok());
    }

    #[test]
    fn dates_know_the_calendar() {
        assert_eq!(Date::parse("1970-01-01"), Ok(Date(0)));
        assert_eq!(Date::parse("2022-12-16").unwrap().to_string(), "2022-12-16");
        assert_eq!(Date::parse("1969-12-31"), Ok(Date(-1)));
        assert_eq!(Date(i32::MIN).midnight(), Timestamp(i64::MIN));
        for bad in [
            "2023-02-29",
            "2023-13-01",
            "2023-1-01",
            "20230101",
            "+023-01-01",
        ] {
            assert!(Date::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_valid_range_is_1900_to_2199() {
        assert_eq!(Timestamp::MIN_VALID.to_string(), "1900-01-01T00:00:00Z");
        assert_eq!(Timestamp::MAX_VALID.to_string(), "2200-01-01T00:00:00Z");
    }
}
