//! From texts to numbers and times.

use jiff::civil;
use mds_core::{Date, Timeframe, Timestamp};

use crate::options::{EpochUnit, TimeFormat, Zone};
use crate::verdict::Fault;

/// A number; digits, sign, point and exponent as every vendor writes them.
///
/// `NaN` and `inf` are numbers for Rust; validation refuses them as not finite.
pub(crate) fn number(field: &'static str, text: &str) -> Result<f64, Fault> {
    text.trim_ascii()
        .parse()
        .map_err(|_| Fault::new(field, text, "malformed", "must be a number"))
}

/// A number that may be absent: the empty text.
pub(crate) fn optional(field: &'static str, text: &str) -> Result<Option<f64>, Fault> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    number(field, text).map(Some)
}

/// A whole number.
pub(crate) fn integer(field: &'static str, text: &str) -> Result<i64, Fault> {
    text.trim_ascii()
        .parse()
        .map_err(|_| Fault::new(field, text, "malformed", "must be a whole number"))
}

/// A time in milliseconds since the epoch.
pub(crate) fn epoch_millis(field: &'static str, text: &str) -> Result<Timestamp, Fault> {
    Timestamp::from_millis(integer(field, text)?).ok_or_else(|| out_of_range(field, text))
}

pub(crate) fn out_of_range(field: &'static str, text: &str) -> Fault {
    Fault::new(
        field,
        text,
        "time_out_of_range",
        "a time must lie in the years 1900 to 2199",
    )
}

/// A calendar date as `2024-11-01` or `20241101`.
pub(crate) fn date(field: &'static str, text: &str) -> Result<Date, Fault> {
    let text = text.trim_ascii();
    let parsed = if text.len() == 8 {
        compact_date(text)
    } else {
        Date::parse(text).ok()
    };
    parsed.ok_or_else(|| {
        Fault::new(
            field,
            text,
            "malformed",
            "must be a date, such as 2024-11-01",
        )
    })
}

fn compact_date(text: &str) -> Option<Date> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Date::from_ymd(
        text.get(..4)?.parse().ok()?,
        text.get(4..6)?.parse().ok()?,
        text.get(6..8)?.parse().ok()?,
    )
}

/// Reads times as one input writes them.
///
/// - Text with an offset is that instant; text without one is read in the zone of the input.
/// - In the hour that a zone repeats when its summer time ends, the first of the two instants is
///   meant; a time that the zone skips when summer time starts is invalid.
/// - A date alone is midnight UTC of that date for records of whole days (`days`), since exchanges
///   date them by their own calendar; else it is midnight in the zone.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    pub(crate) format: TimeFormat,
    pub(crate) zone: Option<Zone>,
    pub(crate) days: bool,
}

/// A time that is not one instant yet.
enum Parsed {
    Instant(Timestamp),
    Local(civil::DateTime),
    Day(civil::Date),
}

/// Why a text gives no instant.
pub(crate) enum TimeFault {
    /// It has no offset and the input no zone.
    NoZone,
    Invalid(Fault),
}

impl Times {
    /// Whether bars of this span are dated by whole days.
    pub(crate) fn whole_days(timeframe: Timeframe) -> bool {
        let start = Timestamp::default();
        timeframe.end_of(start).micros() >= mds_core::time::MICROS_PER_DAY
    }

    /// The instant that `text` says.
    pub(crate) fn read(&self, field: &'static str, text: &str) -> Result<Timestamp, Fault> {
        self.try_read(field, text).map_err(|fault| match fault {
            TimeFault::Invalid(fault) => fault,
            TimeFault::NoZone => Fault::new(
                field,
                text,
                "no_time_zone",
                "a time without an offset needs a zone (--tz)",
            ),
        })
    }

    pub(crate) fn try_read(&self, field: &'static str, text: &str) -> Result<Timestamp, TimeFault> {
        let text = text.trim_ascii();
        let parsed = match &self.format {
            TimeFormat::Epoch(unit) => {
                return epoch(*unit, field, text).map_err(TimeFault::Invalid);
            }
            TimeFormat::Rfc3339 => iso(text),
            TimeFormat::Pattern(pattern) => by_pattern(pattern, text),
        };
        let Some(parsed) = parsed else {
            let rule = match &self.format {
                TimeFormat::Pattern(pattern) => format!("must be a time written as {pattern}"),
                _ => "must be a time, such as 2024-11-01T00:00:00Z".to_owned(),
            };
            return Err(TimeFault::Invalid(Fault::new(
                field,
                text,
                "malformed",
                rule,
            )));
        };
        let local = match parsed {
            Parsed::Instant(instant) => return Ok(instant),
            Parsed::Day(day) if self.days => return Ok(midnight(day)),
            Parsed::Day(day) => day.to_datetime(civil::Time::midnight()),
            Parsed::Local(local) => local,
        };
        let zone = self.zone.as_ref().ok_or(TimeFault::NoZone)?;
        in_zone(zone, local, field, text).map_err(TimeFault::Invalid)
    }
}

/// Midnight UTC of a date.
fn midnight(day: civil::Date) -> Timestamp {
    Date::from_ymd(day.year(), day.month(), day.day())
        .unwrap_or_default()
        .midnight()
}

fn in_zone(
    zone: &Zone,
    local: civil::DateTime,
    field: &'static str,
    text: &str,
) -> Result<Timestamp, Fault> {
    let ambiguous = zone.rules().to_ambiguous_timestamp(local);
    if matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
        return Err(Fault::new(
            field,
            text,
            "no_such_time",
            format!("the clocks of {zone} skip this time; is --tz right?"),
        ));
    }
    ambiguous
        .earlier()
        .map(|t| Timestamp::from_micros(t.as_microsecond()))
        .map_err(|_| out_of_range(field, text))
}

/// ISO 8601 with `T` or a blank, with or without offset, or a date alone.
fn iso(text: &str) -> Option<Parsed> {
    if text.len() <= 10 {
        return text.parse().ok().map(Parsed::Day);
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(Parsed::Instant(Timestamp::from_micros(
            instant.as_microsecond(),
        )));
    }
    text.parse().ok().map(Parsed::Local)
}

fn by_pattern(pattern: &str, text: &str) -> Option<Parsed> {
    let broken = jiff::fmt::strtime::parse(pattern, text).ok()?;
    if broken.offset().is_some() || broken.timestamp().is_some() {
        let instant = broken.to_timestamp().ok()?;
        return Some(Parsed::Instant(Timestamp::from_micros(
            instant.as_microsecond(),
        )));
    }
    let date = broken.to_date().ok()?;
    if broken.hour().is_none() {
        return Some(Parsed::Day(date));
    }
    broken.to_datetime().ok().map(Parsed::Local)
}

fn epoch(unit: EpochUnit, field: &'static str, text: &str) -> Result<Timestamp, Fault> {
    if text.bytes().any(|b| b == b'.' || b == b'e' || b == b'E') {
        return fractional_epoch(unit, field, text);
    }
    let count = integer(field, text)?;
    let micros = match unit {
        EpochUnit::Seconds => count.checked_mul(1_000_000),
        EpochUnit::Millis => count.checked_mul(1_000),
        EpochUnit::Micros => Some(count),
        EpochUnit::Nanos => Some(count.div_euclid(1_000)),
    };
    micros
        .map(Timestamp::from_micros)
        .ok_or_else(|| out_of_range(field, text))
}

/// `1600498800.0` or `1600498800.25`: exact to the microsecond.
fn fractional_epoch(unit: EpochUnit, field: &'static str, text: &str) -> Result<Timestamp, Fault> {
    let micros = number(field, text)?
        * match unit {
            EpochUnit::Seconds => 1e6,
            EpochUnit::Millis => 1e3,
            EpochUnit::Micros => 1.0,
            EpochUnit::Nanos => 1e-3,
        };
    // 2^53 microseconds are 285 years: whole numbers up to there are exact.
    if !micros.is_finite() || micros.abs() > 9_007_199_254_740_992.0 {
        return Err(out_of_range(field, text));
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 2^53, checked above")]
    let whole = micros.round() as i64;
    Ok(Timestamp::from_micros(whole))
}
