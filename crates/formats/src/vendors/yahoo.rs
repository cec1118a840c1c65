//! `yahoo`: daily prices as Yahoo Finance lets them be downloaded, and as `yfinance` writes them.
//!
//! - `Date,Open,High,Low,Close,Adj Close,Volume`; `yfinance` adds `Dividends` and `Stock Splits`,
//!   and leaves out `Adj Close` where prices are adjusted already. Columns are found by name.
//! - `yfinance` since 2024 writes three header lines: `Price,Close,High,..`, `Ticker,AAPL,AAPL,..`
//!   and `Date,,,..`; the symbol is that of the second. A file of several tickers is refused.
//! - A date is the exchange's calendar day, also with an offset (`2023-04-14 00:00:00+09:00`): the
//!   time of the bar is midnight UTC of that date. A `Datetime` column holds instants.
//! - A row whose four prices are all `null` or empty was no trading day: skipped, `no_trade`.
//! - Prices are taken as they stand; the adjusted close, dividends and splits are left out.
//! - The symbol stands only in the file name: `SYMBOL` in capitals, or `..yahoo-SYMBOL`.

use mds_core::{Bar, Date, Symbol, Timeframe, Timestamp};

use super::series::{Convention, Named, Series, days_of};
use crate::decode::{Decoder, Out};
use crate::delimited::{ByRow, Fielded, Fields, RowDecoder};
use crate::detect::{Fit, Sample};
use crate::error::OpenError;
use crate::input::Name;
use crate::options::TimeFormat;
use crate::reader::Context;
use crate::registry::{Format, Openers};
use crate::values::{Times, date, in_range, optional};
use crate::verdict::Fault;

pub(crate) static FORMAT: Format = Format {
    name: "yahoo",
    about: "Yahoo Finance and yfinance CSV: Date,Open,High,Low,Close,Adj Close,Volume",
    example: "mds ingest bars BRK-A.csv",
    detect,
    openers: Openers {
        bars: Some(open),
        ..Openers::NONE
    },
};

const NO_TRADE: &str = "no_trade";

/// The first cells of the header lines of `yfinance` since 2024.
const STACKED: &str = "Price";
const TICKER: &str = "Ticker";

/// Where the columns are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Columns {
    time: usize,
    /// The first column is called `Datetime`: instants, not days.
    instants: bool,
    /// Two more header lines follow.
    stacked: bool,
    prices: [usize; 4],
    volume: Option<usize>,
    width: usize,
}

/// The columns that a header names; `None` where it is not one of these files.
fn columns(header: &Fielded<'_>) -> Option<Columns> {
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    let find = |name| names.iter().position(|n| *n == name);
    let time = ["Datetime", "Date", STACKED].into_iter().find_map(find)?;
    Some(Columns {
        time,
        instants: find("Datetime").is_some(),
        stacked: names.first() == Some(&STACKED),
        prices: [find("Open")?, find("High")?, find("Low")?, find("Close")?],
        volume: find("Volume"),
        width: names.len(),
    })
}

fn detect(sample: &Sample<'_>) -> Fit {
    let mut fields = Fields::default();
    let Ok(header) = fields.split(sample.first_line(), b',') else {
        return Fit::No;
    };
    if columns(&header).is_none_or(|c| c.volume.is_none()) {
        return Fit::No;
    }
    let own = ["Adj Close", "Dividends", "Stock Splits"];
    let why = "a header of Date, Open, High, Low, Close, Volume";
    if is_stacked(sample.first_line()) && sample.lines().nth(1).is_some_and(is_ticker_line) {
        return Fit::yes("the header lines Price, Ticker and Date of yfinance");
    }
    if let Some(name) = header.iter().find(|name| own.contains(&name.trim())) {
        Fit::yes(format!("{why} and {name}"))
    } else if sample.named("yahoo") || sample.named("yfinance") {
        Fit::yes(format!("{why}, and the file name says so"))
    } else {
        Fit::Maybe(format!("{why}, which other vendors write too"))
    }
}

/// `SYMBOL` in capitals, alone or behind `yahoo-`.
fn named(name: &Name) -> Option<Named> {
    let symbol = name
        .after("yahoo")
        .or_else(|| name.after("yfinance"))
        .unwrap_or(name.stem());
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b".-^=".contains(&b);
    let whole = (1..=15).contains(&symbol.len()) && symbol.bytes().all(plain);
    let letters = symbol.bytes().any(|b| b.is_ascii_uppercase());
    (whole && letters).then(|| Named {
        symbol: Some(Symbol::new(symbol)),
        timeframe: None,
    })
}

fn open(context: &mut Context<'_>) -> Result<Box<dyn Decoder<Bar>>, OpenError> {
    let convention = Convention {
        vendor: "yahoo",
        name: named,
        shape: "SYMBOL in capitals, or yahoo-SYMBOL",
        symbol_in_rows: is_stacked(context.sample.first_line()),
    };
    context.sample.check_header()?;
    refuse_several(context)?;
    let instants = context
        .sample
        .lines()
        .take(3)
        .any(|line| line.starts_with("Datetime,"));
    let shown = if instants {
        None
    } else {
        shown_span(&context.sample)
    };
    let series = Series::open(context, convention, shown)?;
    if instants {
        context.note("times are instants, with the offset that stands beside them");
    } else {
        context.note("a date is the exchange's day: the time of its bar is midnight UTC");
    }
    let times = Times {
        format: TimeFormat::Rfc3339,
        zone: context.options.tz.clone(),
        days: Times::whole_days(series.timeframe()),
    };
    let rows = Rows {
        series,
        columns: Columns::default(),
        times,
    };
    Ok(Box::new(ByRow::new(rows, b',')))
}

fn is_stacked(line: &str) -> bool {
    line.split(',').next() == Some(STACKED)
}

fn is_ticker_line(line: &str) -> bool {
    line.split(',').next() == Some(TICKER)
}

/// A file with the columns of several tickers side by side is not one series.
fn refuse_several(context: &Context<'_>) -> Result<(), OpenError> {
    let Some(line) = context.sample.lines().nth(1).filter(|l| is_ticker_line(l)) else {
        return Ok(());
    };
    let mut tickers: Vec<&str> = line.split(',').skip(1).collect();
    tickers.dedup();
    if tickers.len() == 1 {
        return Ok(());
    }
    Err(OpenError::NotRecognised {
        path: context.sample.path.to_owned(),
        reason: "it has the columns of several tickers side by side; download them one by one"
            .to_owned(),
        candidates: Vec::new(),
    })
}

/// The span that the first dates show.
fn shown_span(sample: &Sample<'_>) -> Option<Timeframe> {
    let mut fields = Fields::default();
    let date = |line| day(fields.split(line, b',').ok()?.get(0)).ok();
    days_of(sample.lines().skip(1).take(23).filter_map(date))
}

/// The calendar day of a date, also with a time of midnight and an offset behind it.
fn day(text: &str) -> Result<Date, Fault> {
    let text = text.trim_ascii();
    let midnight = |rest: &str| rest.starts_with(" 00:00:00") || rest.starts_with("T00:00:00");
    match text.split_at_checked(10) {
        Some((day, rest)) if midnight(rest) => date("ts", day),
        _ => date("ts", text),
    }
}

struct Rows {
    series: Series,
    columns: Columns,
    times: Times,
}

impl Rows {
    /// Takes the second and third line of a header of three; false for a row.
    fn is_header_line(&mut self, row: &Fielded<'_>) -> bool {
        if !self.columns.stacked {
            return false;
        }
        match row.get(0) {
            TICKER => self.series.name_symbol(row.get(1)),
            "Date" => self.columns.instants = false,
            "Datetime" => self.columns.instants = true,
            _ => return false,
        }
        true
    }

    fn time(&self, text: &str) -> Result<Timestamp, Fault> {
        if self.columns.instants {
            return self.times.read("ts", text);
        }
        in_range("ts", text, Some(day(text)?.midnight()))
    }
}

/// A number; `null` and the empty text are none.
fn value(field: &'static str, text: &str) -> Result<Option<f64>, Fault> {
    if is_null(text) {
        return Ok(None);
    }
    optional(field, text)
}

fn is_null(text: &str) -> bool {
    matches!(text.trim_ascii(), "null" | "")
}

impl RowDecoder<Bar> for Rows {
    const HEADER: bool = true;

    fn header(&mut self, header: &Fielded<'_>) -> Result<(), String> {
        self.columns = columns(header)
            .ok_or_else(|| "the header must name Date, Open, High, Low and Close".to_owned())?;
        Ok(())
    }

    fn width(&self) -> Option<usize> {
        Some(self.columns.width)
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, Bar>) -> Result<(), Fault> {
        if self.is_header_line(row) {
            return Ok(());
        }
        let mut bar = self.series.bar();
        bar.ts = self.time(row.get(self.columns.time))?;
        let [open, high, low, close] = self.columns.prices.map(|at| row.get(at));
        if [open, high, low, close].into_iter().all(is_null) {
            out.skip(NO_TRADE);
            return Ok(());
        }
        bar.open_price = value("open_price", open)?;
        bar.high_price = value("high_price", high)?;
        bar.low_price = value("low_price", low)?;
        bar.close_price = value("close_price", close)?;
        if let Some(at) = self.columns.volume {
            bar.volume = value("volume", row.get(at))?;
        }
        out.record(bar);
        Ok(())
    }
}
