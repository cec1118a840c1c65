//! `binance`: klines of the spot and the futures market, as CSV files and as answers of the API.
//!
//! - Columns: open time, open, high, low, close, volume, close time, quote volume, count of trades,
//!   taker buy volume, taker buy quote volume, one to ignore. Files of the futures market have a
//!   header, those of the spot market have none; answers of the API are JSON arrays of arrays with
//!   the prices as texts.
//! - Times are milliseconds, in spot files of 2025 and later microseconds: a count of 10^14 and
//!   more is one of microseconds (as milliseconds it would be the year 5138).
//! - The time of a bar is its open time. The span is that of the option, of the file name, or the
//!   distance from open to close time.
//! - The symbol stands only in the file name: `SYMBOL-SPAN-YYYY-MM` or `SYMBOL-SPAN-YYYY-MM-DD`,
//!   perhaps behind a prefix.

use mds_core::{Bar, Symbol, Timeframe, Timestamp};
use serde_json::value::RawValue;

use super::series::{Convention, Named, Series};
use crate::decode::{Decoder, Out, Verdicts};
use crate::delimited::{ByRow, Fielded, Fields, RowDecoder};
use crate::detect::{Fit, Sample};
use crate::elements::Elements;
use crate::error::{OpenError, ReadError};
use crate::input::{Name, Part};
use crate::reader::Context;
use crate::registry::{Format, Openers};
use crate::values::{in_range, integer, number};
use crate::verdict::Fault;

pub(crate) static FORMAT: Format = Format {
    name: "binance",
    about: "Binance klines of spot and futures markets: CSV with or without header, JSON arrays",
    example: "mds ingest bars BTCUSDT-1m-2024-11.zip",
    detect,
    openers: Openers {
        bars: Some(open),
        ..Openers::NONE
    },
};

const WIDTH: usize = 12;
const HEADER: [&str; 7] = [
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
];
const CLOSE_TIME: usize = 6;
/// Rows that are looked at.
const LOOKED_AT: usize = 100;

fn detect(sample: &Sample<'_>) -> Fit {
    if sample.first_char() == Some('[') {
        return match spans(sample).first() {
            Some(_) => Fit::yes("JSON arrays of twelve, from open time to close time and on"),
            None => Fit::No,
        };
    }
    let mut fields = Fields::default();
    match fields.split(sample.first_line(), b',') {
        Ok(row) if is_header(&row) => Fit::yes("the header of klines"),
        Ok(row) if row.len() == WIDTH && !spans(sample).is_empty() => {
            Fit::yes("twelve columns without a header, from open time to close time and on")
        }
        _ => Fit::No,
    }
}

/// Whether a line names the first columns of klines; older files write `Open time`.
fn is_header(row: &Fielded<'_>) -> bool {
    row.len() >= HEADER.len()
        && row
            .iter()
            .zip(HEADER)
            .all(|(name, own)| name.trim().replace(' ', "_").eq_ignore_ascii_case(own))
}

/// The distances from open to close time in the first rows, in microseconds.
fn spans(sample: &Sample<'_>) -> Vec<i64> {
    let span = |open: &str, close: &str| {
        let (open, close) = (instant(open).ok()?, instant(close).ok()?);
        // The close time is the last tick of the span; one tick is 1 ms or 1 us.
        let distance = close.micros().checked_sub(open.micros())?;
        let tick = if distance % 1_000_000 == 999_999 {
            1
        } else {
            1_000
        };
        (open.micros() > 0 && distance > 0).then_some(distance + tick)
    };
    if sample.first_char() == Some('[') {
        let Some(inside) = sample.text.trim_ascii_start().strip_prefix('[') else {
            return Vec::new();
        };
        let first = serde_json::Deserializer::from_str(inside)
            .into_iter::<Vec<&RawValue>>()
            .next();
        return match first {
            Some(Ok(kline)) if kline.len() == WIDTH => {
                span(kline[0].get(), kline[CLOSE_TIME].get())
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        };
    }
    let mut fields = Fields::default();
    let read = |line| {
        let row = fields.split(line, b',').ok()?;
        (row.len() == WIDTH).then(|| span(row.get(0), row.get(CLOSE_TIME)))?
    };
    sample.lines().take(LOOKED_AT).filter_map(read).collect()
}

/// `..SYMBOL-SPAN-YYYY-MM` or `..SYMBOL-SPAN-YYYY-MM-DD`.
fn named(name: &Name) -> Option<Named> {
    let number =
        |word: &str, digits| word.len() == digits && word.bytes().all(|b| b.is_ascii_digit());
    let mut words = name.stem().rsplit('-').peekable();
    words.next_if(|w| number(w, 2))?;
    words.next_if(|w| number(w, 2));
    words.next_if(|w| number(w, 4))?;
    let span = words.next()?;
    let symbol = words.next()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (symbol.len() >= 4 && symbol.bytes().all(plain)).then_some(())?;
    Some(Named {
        symbol: Some(Symbol::new(symbol)),
        timeframe: Some(span.parse().ok()?),
    })
}

/// The span that most of the first rows have.
fn usual(mut spans: Vec<i64>) -> Option<Timeframe> {
    spans.sort_unstable();
    let seconds = spans.get(spans.len() / 2)? / 1_000_000;
    // Months differ in length; they have to be named.
    (seconds <= 7 * 86_400).then(|| by_seconds(seconds))?
}

/// A span in whole seconds is written in seconds, minutes, hours, days or a week.
fn by_seconds(seconds: i64) -> Option<Timeframe> {
    let text = if seconds == 7 * 86_400 {
        "1w".to_owned()
    } else if seconds % 60 == 0 {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    };
    text.parse().ok()
}

fn open(context: &mut Context<'_>) -> Result<Box<dyn Decoder<Bar>>, OpenError> {
    let convention = Convention {
        vendor: "binance",
        name: named,
        shape: "SYMBOL-SPAN-YYYY-MM[-DD]",
        symbol_in_rows: false,
    };
    let shown = usual(spans(&context.sample));
    let series = Series::open(context, convention, shown)?;
    let told = series.timeframe();
    if let Some(shown) = shown.filter(|shown| *shown != told) {
        return Err(OpenError::Option {
            path: context.sample.path.to_owned(),
            flag: "--timeframe",
            value: told.to_string(),
            reason: format!("open and close times of the rows are {shown} apart"),
        });
    }
    if context.sample.first_char() == Some('[') {
        return Ok(Box::new(Answer {
            series,
            elements: Elements::default(),
        }));
    }
    if context
        .sample
        .first_line()
        .starts_with(|c: char| c.is_ascii_alphabetic())
    {
        context.note(
            "the file has a header, as those of the futures market; pass --vendor to keep its bars \
             apart from those of the spot market",
        );
    }
    Ok(Box::new(ByRow::new(Klines { series }, b',')))
}

/// A count of milliseconds or microseconds.
fn instant(text: &str) -> Result<Timestamp, Fault> {
    let count = integer("ts", text)?;
    let time = if count >= 100_000_000_000_000 {
        Some(Timestamp::from_micros(count))
    } else {
        Timestamp::from_millis(count)
    };
    in_range("ts", text, time)
}

fn kline<'t>(series: &Series, field: impl Fn(usize) -> &'t str) -> Result<Bar, Fault> {
    let mut bar = series.bar();
    bar.ts = instant(field(0))?;
    bar.open_price = Some(number("open_price", field(1))?);
    bar.high_price = Some(number("high_price", field(2))?);
    bar.low_price = Some(number("low_price", field(3))?);
    bar.close_price = Some(number("close_price", field(4))?);
    bar.volume = Some(number("volume", field(5))?);
    Ok(bar)
}

/// Rows of a CSV file.
struct Klines {
    series: Series,
}

impl RowDecoder<Bar> for Klines {
    const HEADER: bool = false;

    fn is_header(&self, first: &Fielded<'_>) -> bool {
        is_header(first)
    }

    fn width(&self) -> Option<usize> {
        Some(WIDTH)
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, Bar>) -> Result<(), Fault> {
        out.record(kline(&self.series, |at| row.get(at))?);
        Ok(())
    }
}

/// An answer of the API.
struct Answer {
    series: Series,
    elements: Elements,
}

impl Decoder<Bar> for Answer {
    fn begin(&mut self, part: &mut Part, _: &mut Vec<String>) -> Result<(), ReadError> {
        self.elements = Elements::of(part)?;
        Ok(())
    }

    fn fill(
        &mut self,
        _: &mut Part,
        verdicts: &mut Verdicts<'_, Bar>,
        max: usize,
    ) -> Result<bool, ReadError> {
        while verdicts.out.len() < max {
            let Some(element) = self.elements.next()? else {
                return Ok(false);
            };
            let mut out = verdicts.at(element.line, element.text);
            match array(element.text)
                .and_then(|fields| kline(&self.series, |at| fields[at].get().trim_matches('"')))
            {
                Ok(bar) => out.record(bar),
                Err(fault) => out.invalid(fault),
            }
        }
        Ok(true)
    }
}

fn array(text: &str) -> Result<Vec<&RawValue>, Fault> {
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(fields) if fields.len() == WIDTH => Ok(fields),
        Ok(fields) => Err(Fault::line(
            "column_count",
            format!(
                "a kline must have {WIDTH} fields, this one has {}",
                fields.len()
            ),
        )),
        Err(_) => Err(Fault::line("malformed", "a kline must be a JSON array")),
    }
}
