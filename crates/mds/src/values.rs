//! Values of options that several commands take.

use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use mds_core::{Kind, Symbol, Timestamp, Vendor};
use mds_formats::RowFormat;

/// Reads a kind of record, and lists the kinds in the help.
pub(crate) fn kind_parser() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)).try_map(|text| Kind::from_str(&text))
}

/// Reads a form of rows, and lists the forms in the help.
pub(crate) fn row_format_parser() -> impl TypedValueParser<Value = RowFormat> {
    PossibleValuesParser::new(RowFormat::ALL.map(RowFormat::as_str)).try_map(|text| {
        let named = RowFormat::ALL
            .into_iter()
            .find(|form| form.as_str() == text);
        named.ok_or("no form of rows")
    })
}

/// Reads a time with an offset, or a date, which stands for its first moment in UTC.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_or_midnight(text).map_err(|_| {
        "write a date in UTC, such as 2024-11-01, or a time with an offset, such as \
         2024-11-01T09:30:00Z"
            .to_owned()
    })
}

/// Reads a length of time: a number with `ms`, `s`, `m` or `h`; without a unit, seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is not a length of time, such as 30s, 5m or 1h");
    let digits = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.trim().parse().map_err(|_| refuse())?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(refuse()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| refuse())
}

/// Reads a symbol; the empty one would select nothing.
pub(crate) fn symbol(text: &str) -> Result<Symbol, String> {
    let symbol = Symbol::new(text);
    if symbol.is_empty() {
        Err("give a symbol, such as SPY".to_owned())
    } else {
        Ok(symbol)
    }
}

/// Reads a vendor; the empty one would select nothing.
pub(crate) fn vendor(text: &str) -> Result<Vendor, String> {
    let vendor = Vendor::new(text);
    if vendor.is_empty() {
        Err("give a vendor, such as binance".to_owned())
    } else {
        Ok(vendor)
    }
}

/// Runs an expression with `$record` standing for the record type of a kind.
macro_rules! with_record {
    ($kind:expr, $record:ident => $run:expr) => {
        match $kind {
            mds_core::Kind::Bars => {
                type $record = mds_core::Bar;
                $run
            }
            mds_core::Kind::Options => {
                type $record = mds_core::OptionSnap;
                $run
            }
            mds_core::Kind::Fundamentals => {
                type $record = mds_core::Fundamentals;
                $run
            }
            mds_core::Kind::News => {
                type $record = mds_core::News;
                $run
            }
        }
    };
}
pub(crate) use with_record;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_its_midnight_in_utc() {
        assert_eq!(time("2024-11-01"), time("2024-11-01T00:00:00Z"));
        assert_eq!(time("2024-11-01T02:00:00+02:00"), time("2024-11-01"));
        for bad in ["2024-11-01T00:00:00", "yesterday", "2024-13-01", ""] {
            assert!(
                time(bad).unwrap_err().contains("2024-11-01T09:30:00Z"),
                "{bad}"
            );
        }
    }

    #[test]
    fn empty_names_are_refused() {
        assert_eq!(symbol(" spy").unwrap().as_str(), "SPY");
        assert!(symbol(" ").is_err());
        assert!(vendor("").is_err());
    }
}
