//! From texts to numbers and times.

use jiff::civil;
use mds_core::{Date, Timeframe, Timestamp};

use crate::options::{EpochUnit, TimeFormat, Zone};
use crate::verdict::Fault;

/// A number; digits, sign, point and exponent as every vendor writes them. It must be finite,
/// which `NaN`, `inf` and `1e999` are not.
pub(crate) fn number(field: &'static str, text: &str) -> Result<f64, Fault> {
    match text.trim_ascii().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err(not_finite(field, text)),
        Err(_) => Err(no_number(field, text)),
    }
}

pub(crate) fn not_finite(field: &'static str, text: &str) -> Fault {
    Fault::new(field, text, "not_finite", "a number must be finite")
}

pub(crate) fn no_number(field: &'static str, text: &str) -> Fault {
    let pointed = text.trim_ascii().replacen(',', ".", 1);
    let rule = match pointed.parse::<f64>() {
        Ok(_) if text.contains(',') => "must be a number (a decimal comma?)",
        _ => "must be a number",
    };
    Fault::new(field, text, "malformed", rule)
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
    let time = Timestamp::from_millis(integer(field, text)?);
    in_range(field, text, time)
}

/// The time, if it is one that a record may have.
pub(crate) fn in_range(
    field: &'static str,
    text: &str,
    time: Option<Timestamp>,
) -> Result<Timestamp, Fault> {
    time.filter(|time| time.is_valid())
        .ok_or_else(|| out_of_range(field, text))
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

/// Midnight UTC of a calendar date.
pub(crate) fn day(field: &'static str, text: &str) -> Result<Timestamp, Fault> {
    in_range(field, text, Some(date(field, text)?.midnight()))
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

/// The rule that a text breaks which is no time as RFC 3339 writes them.
const NO_TIME: &str = "must be a time, such as 2024-11-01T00:00:00Z";

/// What `--time-format` should probably say, where a time cannot be read as it is written.
pub(crate) fn with_hint(mut fault: Fault, format: &TimeFormat) -> Fault {
    let unit = probable_epoch(&fault.value);
    let is_out_of_range = fault.code == "time_out_of_range";
    let hint = match (format, unit) {
        (TimeFormat::Rfc3339, None) if fault.rule == NO_TIME => "another --time-format?".to_owned(),
        (TimeFormat::Rfc3339, Some(unit)) if fault.rule == NO_TIME => {
            format!("--time-format {unit}?")
        }
        (TimeFormat::Epoch(_), Some(unit)) if is_out_of_range => format!("--time-format {unit}?"),
        _ => return fault,
    };
    fault.rule = format!("{} ({hint})", fault.rule).into();
    fault
}

/// The unit in which a number is a time from 1973 on; a day such as 20241101 is one in none.
fn probable_epoch(text: &str) -> Option<&'static str> {
    match text.trim_ascii().parse::<f64>().ok()? {
        1e8..1e10 => Some("epoch_s"),
        1e11..1e13 => Some("epoch_ms"),
        1e14..1e16 => Some("epoch_us"),
        1e17..1e19 => Some("epoch_ns"),
        _ => None,
    }
}

/// A time that is not one instant yet, with all of its digits.
#[derive(Clone, Debug, PartialEq)]
enum Parsed {
    Instant(jiff::Timestamp),
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
        self.read_as(field, text, self.days)
    }

    /// The same for a record that says itself whether it is one of whole days.
    pub(crate) fn read_as(
        &self,
        field: &'static str,
        text: &str,
        days: bool,
    ) -> Result<Timestamp, Fault> {
        self.try_read(field, text, days)
            .map_err(|fault| match fault {
                TimeFault::Invalid(fault) => fault,
                TimeFault::NoZone => Fault::new(
                    field,
                    text,
                    "no_time_zone",
                    "a time without an offset needs a zone (--tz)",
                ),
            })
    }

    pub(crate) fn try_read(
        &self,
        field: &'static str,
        text: &str,
        days: bool,
    ) -> Result<Timestamp, TimeFault> {
        let text = text.trim_ascii();
        let time = match &self.format {
            TimeFormat::Epoch(unit) => {
                let time = epoch(*unit, field, text).map_err(TimeFault::Invalid)?;
                return in_range(field, text, Some(time)).map_err(TimeFault::Invalid);
            }
            TimeFormat::Rfc3339 => parse_time(field, text, iso),
            TimeFormat::Pattern(pattern) => {
                parse_time(field, text, |text| by_pattern(pattern, text))
            }
        };
        let Some(parsed) = time.map_err(TimeFault::Invalid)? else {
            let rule = match &self.format {
                TimeFormat::Pattern(pattern) => format!("must be a time written as {pattern}"),
                _ => NO_TIME.to_owned(),
            };
            return Err(TimeFault::Invalid(Fault::new(
                field,
                text,
                "malformed",
                rule,
            )));
        };
        let time = match parsed {
            Parsed::Instant(instant) => Ok(Timestamp::from_micros(instant.as_microsecond())),
            Parsed::Day(day) if days => Ok(midnight(day)),
            Parsed::Day(day) => self.local(day.to_datetime(civil::Time::midnight()), field, text),
            Parsed::Local(local) => self.local(local, field, text),
        };
        in_range(field, text, Some(time?)).map_err(TimeFault::Invalid)
    }

    fn local(
        &self,
        local: civil::DateTime,
        field: &'static str,
        text: &str,
    ) -> Result<Timestamp, TimeFault> {
        let zone = self.zone.as_ref().ok_or(TimeFault::NoZone)?;
        in_zone(zone, local, field, text).map_err(TimeFault::Invalid)
    }

    /// Whether a text that was read has digits beyond the microsecond.
    pub(crate) fn cuts(&self, text: &str) -> bool {
        match &self.format {
            TimeFormat::Rfc3339 | TimeFormat::Pattern(_) => has_nanos(text),
            TimeFormat::Epoch(EpochUnit::Seconds) => digits_beyond(text, 6),
            TimeFormat::Epoch(EpochUnit::Millis) => digits_beyond(text, 3),
            TimeFormat::Epoch(EpochUnit::Micros) => digits_beyond(text, 0),
            TimeFormat::Epoch(EpochUnit::Nanos) => !text.trim_ascii().ends_with("000"),
        }
    }
}

/// Whether a time has digits of its second beyond the microsecond, other than zeros.
pub(crate) fn has_nanos(text: &str) -> bool {
    digits_beyond(text, 6)
}

fn digits_beyond(text: &str, kept: usize) -> bool {
    let Some((_, fraction)) = text.rsplit_once(['.', ',']) else {
        return false;
    };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit);
    digits.skip(kept).any(|digit| digit != b'0')
}

/// Refuses an instant that was read from `text` and cannot be the time of a record.
pub(crate) fn check_instant(field: &'static str, text: &str, time: Timestamp) -> Result<(), Fault> {
    in_range(field, text, Some(time))?;
    // Almost no text has to be read a second time.
    if text.contains("60") {
        parse_time(field, text.trim_ascii(), iso)?;
    }
    Ok(())
}

/// The time that `parse` reads. The second 60, which it takes for 59, is refused: a leap second
/// would stand in the place of the second before it.
fn parse_time(
    field: &'static str,
    text: &str,
    parse: impl Fn(&str) -> Option<Parsed>,
) -> Result<Option<Parsed>, Fault> {
    let time = parse(text);
    let is_leap = |at: usize| {
        let mut other = text.to_owned();
        other.replace_range(at..at + 2, "59");
        parse(&other) == time
    };
    if time.is_some() && text.match_indices("60").any(|(at, _)| is_leap(at)) {
        let rule = "the second must be 00 to 59: a leap second has no time of its own";
        return Err(Fault::new(field, text, "malformed", rule));
    }
    Ok(time)
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
    if let Ok(instant) = text.parse() {
        return Some(Parsed::Instant(instant));
    }
    text.parse().ok().map(Parsed::Local)
}

/// Whether a pattern can read at least what it prints.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    // 2001-02-03T04:05:06Z
    let Ok(time) = jiff::Timestamp::from_second(981_173_106) else {
        return false;
    };
    let time = jiff::ZonedDateTime::new(time, jiff::tz::TimeZone::UTC);
    // `%Q` is the name of a zone, which would be read over.
    !pattern.replace("%%", "").contains("%Q")
        && jiff::fmt::strtime::format(pattern, &time)
            .is_ok_and(|text| by_pattern(pattern, &text).is_some())
}

fn by_pattern(pattern: &str, text: &str) -> Option<Parsed> {
    let broken = jiff::fmt::strtime::parse(pattern, text).ok()?;
    if broken.offset().is_some() || broken.timestamp().is_some() {
        return broken.to_timestamp().ok().map(Parsed::Instant);
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
