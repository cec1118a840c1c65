//! Bars that are made up: the same for the same arguments, on every machine.

use mds_core::{Bar, Symbol, Timeframe, Timestamp};

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1_440 * MINUTE;
/// 2024-11-01T00:00:00Z, where the minutes begin; the days end before it.
const FIRST: i64 = 1_730_419_200_000_000;

/// How much is made up: every symbol has so many minute bars and so many daily bars.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Size {
    /// Instruments
    #[arg(long, value_name = "N", default_value_t = Self::default().symbols, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) symbols: u32,
    /// Minute bars of each
    #[arg(long, value_name = "N", default_value_t = Self::default().minutes, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) minutes: u32,
    /// Daily bars of each
    #[arg(long, value_name = "N", default_value_t = Self::default().days, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) days: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            symbols: 1_000,
            minutes: 240,
            days: 60,
        }
    }
}

impl Size {
    /// All bars.
    pub(super) fn rows(self) -> u64 {
        u64::from(self.symbols) * (u64::from(self.minutes) + u64::from(self.days))
    }

    /// All bars as a feed brings them: by time, and within a moment by symbol.
    pub(super) fn bars(self) -> impl Iterator<Item = Bar> {
        let days = (0..self.days).flat_map(move |day| {
            let ts = FIRST - i64::from(self.days - day) * DAY;
            (0..self.symbols).map(move |i| bar(i, Timeframe::DAY, ts))
        });
        let minutes = (0..self.minutes).flat_map(move |minute| {
            let ts = FIRST + i64::from(minute) * MINUTE;
            (0..self.symbols).map(move |i| bar(i, Timeframe::MINUTE, ts))
        });
        days.chain(minutes)
    }
}

/// The name of an instrument.
pub(super) fn symbol(i: u32) -> Symbol {
    Symbol::new(&format!("SYM{i:04}"))
}

/// A bar with prices that hang on instrument and time; its revision is its time.
pub(super) fn bar(i: u32, timeframe: Timeframe, ts: i64) -> Bar {
    let mixed = (i64::from(i) * 7_919 + ts / MINUTE * 104_729).rem_euclid(10_007);
    let close = 100.0 + f64::from(u32::try_from(mixed).unwrap_or_default()) / 10_007.0;
    Bar {
        vendor: "bench".into(),
        symbol: symbol(i),
        timeframe,
        ts: Timestamp::from_micros(ts),
        open_price: Some(close - 0.25),
        high_price: Some(close + 0.5),
        low_price: Some(close - 0.5),
        close_price: Some(close),
        volume: Some(1_234.0),
        revision: ts,
        ..Bar::default()
    }
}

/// A minute bar, numbered over all instruments and minutes.
pub(super) fn minute_bar(number: u64) -> Bar {
    const SYMBOLS: u64 = 1_000;
    let minute = i64::try_from(number / SYMBOLS).unwrap_or(i64::MAX / DAY);
    let i = u32::try_from(number % SYMBOLS).unwrap_or_default();
    bar(i, Timeframe::MINUTE, FIRST + minute * MINUTE)
}

/// Minute bars in the order of time, with revisions that count up from `revision`, and closing
/// prices moved by `shift`.
pub(super) fn minute_bars(rows: u64, revision: i64, shift: f64) -> impl Iterator<Item = Bar> {
    (0..rows).map(move |number| {
        let bar = minute_bar(number);
        Bar {
            close_price: bar.close_price.map(|close| close + shift),
            revision: revision + i64::try_from(number).unwrap_or_default(),
            ..bar
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use mds_core::Record;

    use super::*;

    #[test]
    fn bars_come_by_time_and_have_keys_of_their_own() {
        let size = Size {
            symbols: 3,
            minutes: 4,
            days: 2,
        };
        let bars: Vec<Bar> = size.bars().collect();
        assert_eq!((bars.len(), size.rows()), (18, 18));
        assert!(bars.is_sorted_by_key(|b| b.ts));
        let keys: HashSet<_> = bars
            .iter()
            .map(|b| (b.symbol.to_string(), b.timeframe.to_string(), b.ts))
            .collect();
        assert_eq!(keys.len(), 18);
        assert!(bars.iter().all(|b| b.validate().is_ok()));
        assert_eq!(minute_bar(1_002).symbol.as_str(), "SYM0002");
    }
}
