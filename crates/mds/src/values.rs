//! Values of options that several commands take.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use mds_core::{Date, Kind, Timestamp};

/// Reads a kind of record, and lists the kinds in the help.
pub(crate) fn kind_parser() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)).try_map(|text| Kind::from_str(&text))
}

/// Reads a time with an offset, or a date, which stands for its first moment in UTC.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(date) = Date::parse(text) {
        return Ok(date.midnight());
    }
    Timestamp::parse(text).map_err(|_| {
        "write a date in UTC, such as 2024-11-01, or a time with an offset, such as \
         2024-11-01T09:30:00Z"
            .to_owned()
    })
}

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
}
