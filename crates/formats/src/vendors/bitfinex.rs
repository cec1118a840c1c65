//! `bitfinex`: candles without a header, `time,open,close,high,low,volume`.
//!
//! - The time is the start of the candle in milliseconds since the epoch.
//! - The close stands **before** high and low; a file whose columns do not fit that order is not
//!   recognised.
//! - Minutes without trades are absent; volumes are fractional, small ones in scientific notation.
//! - The file names neither symbol nor span; `..bitfinex-SYMBOL-SPAN..` in its name does.

use mds_core::{Bar, Symbol, Timestamp};

use super::series::{Convention, Named, Series};
use crate::decode::{Decoder, Out};
use crate::delimited::{ByRow, Fielded, Fields, RowDecoder};
use crate::detect::{Fit, Sample};
use crate::error::OpenError;
use crate::input::Name;
use crate::reader::Context;
use crate::registry::{Format, Openers};
use crate::values::{epoch_millis, number};
use crate::verdict::Fault;

pub(crate) static FORMAT: Format = Format {
    name: "bitfinex",
    about: "Bitfinex candles: time,open,close,high,low,volume without a header",
    example: "mds ingest bars merged.csv.gz --format bitfinex --symbol BTCUSD --timeframe 1m",
    detect,
    openers: Openers {
        bars: Some(open),
        ..Openers::NONE
    },
};

const WIDTH: usize = 6;
/// Rows that are looked at.
const LOOKED_AT: usize = 200;

fn detect(sample: &Sample<'_>) -> Fit {
    let lines = || sample.lines().take(LOOKED_AT);
    let mut fields = Fields::default();
    let mut shaped = 0;
    let mut candles: Vec<[f64; 4]> = Vec::new();
    for line in lines() {
        let Ok(row) = fields.split(line, b',') else {
            continue;
        };
        shaped += usize::from(is_shaped(&row));
        candles.extend(prices(&row));
    }
    let fitting = candles.iter().filter(|candle| fits(candle)).count();
    // A few bad rows must not hide what the others are.
    if shaped == 0 || shaped * 2 < lines().count() || fitting * 5 < candles.len() * 4 {
        return Fit::No;
    }
    let why =
        "six columns without a header, epoch milliseconds, in the order open, close, high, low";
    if candles.iter().any(tells_order) || sample.named("bitfinex") {
        Fit::yes(why)
    } else {
        Fit::Maybe("six columns without a header, whose order its few rows do not tell".to_owned())
    }
}

/// Whether a row can be open, close, high, low.
fn fits(&[open, close, high, low]: &[f64; 4]) -> bool {
    high >= open.max(close) && low <= open.min(close)
}

/// Whether a row can be that, but not open, high, low, close, which is the usual order.
fn tells_order(candle: &[f64; 4]) -> bool {
    let &[open, high, low, close] = candle;
    fits(candle) && (high < open.max(close) || low > open.min(close))
}

/// Whether a row has six fields, the first of them a time.
fn is_shaped(row: &Fielded<'_>) -> bool {
    let time = row.get(0).parse().ok().and_then(Timestamp::from_millis);
    // Seconds since the epoch, taken for milliseconds, are days in January 1970.
    let plausible = time.is_some_and(Timestamp::is_valid) && row.get(0).len() >= 12;
    row.len() == WIDTH && plausible
}

/// The prices of a row as they stand, if it has the shape of a candle.
fn prices(row: &Fielded<'_>) -> Option<[f64; 4]> {
    if !is_shaped(row) {
        return None;
    }
    let mut prices = [0.0; 4];
    for (price, text) in prices.iter_mut().zip(row.iter().skip(1)) {
        *price = text.parse().ok()?;
    }
    Some(prices)
}

/// `..bitfinex-SYMBOL-SPAN..`
fn named(name: &Name) -> Option<Named> {
    let mut words = name.after("bitfinex")?.split(['-', '_']);
    let symbol = words.next().filter(|w| !w.is_empty())?;
    Some(Named {
        symbol: Some(Symbol::new(symbol)),
        timeframe: Some(words.next()?.parse().ok()?),
    })
}

fn open(context: &mut Context<'_>) -> Result<Box<dyn Decoder<Bar>>, OpenError> {
    let convention = Convention {
        vendor: "bitfinex",
        name: named,
        shape: "bitfinex-SYMBOL-SPAN",
        symbol_in_rows: false,
    };
    let series = Series::open(context, convention, None)?;
    Ok(Box::new(ByRow::new(Candles { series }, b',')))
}

struct Candles {
    series: Series,
}

impl RowDecoder<Bar> for Candles {
    const HEADER: bool = false;

    fn width(&self) -> Option<usize> {
        Some(WIDTH)
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, Bar>) -> Result<(), Fault> {
        let mut bar = self.series.bar();
        bar.ts = epoch_millis("ts", row.get(0))?;
        bar.open_price = Some(number("open_price", row.get(1))?);
        bar.close_price = Some(number("close_price", row.get(2))?);
        bar.high_price = Some(number("high_price", row.get(3))?);
        bar.low_price = Some(number("low_price", row.get(4))?);
        bar.volume = Some(number("volume", row.get(5))?);
        out.record(bar);
        Ok(())
    }
}
