//! Rows that are made of numbers, and recognised by them.

use mds_core::{Bar, Symbol, Timeframe, Timestamp};

/// 2024-11-01T00:00:00Z.
const FIRST: i64 = 1_730_419_200_000_000;
const MINUTE: i64 = 60_000_000;
const SYMBOLS: u64 = 8;

/// The time of a row, microseconds since 1970: no two have the same.
pub(super) fn ts_of(number: u64) -> i64 {
    FIRST + i64::try_from(number).unwrap_or_default() * MINUTE
}

/// The number of the row with this time.
pub(super) fn number_at(ts: i64) -> Option<u64> {
    let since = ts.checked_sub(FIRST)?;
    (since % MINUTE == 0)
        .then(|| u64::try_from(since / MINUTE).ok())
        .flatten()
}

/// The instrument of a row.
pub(super) fn symbol_of(number: u64) -> String {
    format!("TEST{}", number % SYMBOLS)
}

/// The closing price of a row.
pub(super) fn close_of(number: u64) -> f64 {
    let mixed = number.wrapping_mul(2_654_435_761) % 1_000_003;
    f64::from(u32::try_from(mixed).unwrap_or_default()) / 64.0
}

/// The row of a number.
pub(super) fn bar(number: u64) -> Bar {
    let ts = ts_of(number);
    Bar {
        vendor: "selftest".into(),
        symbol: Symbol::new(&symbol_of(number)),
        timeframe: Timeframe::MINUTE,
        ts: Timestamp::from_micros(ts),
        close_price: Some(close_of(number)),
        volume: Some(1.0),
        revision: ts,
        ..Bar::default()
    }
}

#[cfg(test)]
mod tests {
    use mds_core::Record as _;

    use super::*;

    #[test]
    fn a_row_is_known_by_its_time() {
        for number in [0, 1, 7, 8, 1_000_000] {
            let bar = bar(number);
            assert!(bar.validate().is_ok());
            assert_eq!(number_at(bar.ts.micros()), Some(number));
        }
        assert_eq!(number_at(FIRST + 1), None);
        assert_eq!(number_at(FIRST - MINUTE), None);
    }
}
