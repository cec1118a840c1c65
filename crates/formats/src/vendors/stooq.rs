//! `stooq`: prices from the download page of stooq.com / stooq.pl and from its bulk archives.
//!
//! - Download page: `Date,Open,High,Low,Close,Volume` or, from the Polish page,
//!   `Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen`; the volume is absent where an
//!   instrument has none. The symbol stands only in the file name: `SYMBOL_d` (`_w`, `_m`), perhaps
//!   behind `..stooq-`.
//! - Bulk: `<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>`; the symbol is
//!   the ticker (`AAPL.US`), the span is the period (`D`, `W`, `M`, or minutes).
//! - A date is the exchange's calendar day: the time of the bar is midnight UTC of that date. Times
//!   of bulk bars of minutes have no offset and need `--tz`; they are taken for the start.

use mds_core::{Bar, Symbol, Timeframe, Timestamp};

use super::series::{Convention, Named, Series, days_of};
use crate::decode::{Decoder, Out};
use crate::delimited::{ByRow, Fielded, Fields, RowDecoder};
use crate::detect::{Fit, Sample};
use crate::error::OpenError;
use crate::input::Name;
use crate::options::TimeFormat;
use crate::reader::Context;
use crate::registry::{Format, Openers};
use crate::values::{Times, date, day, number, optional};
use crate::verdict::Fault;

pub(crate) static FORMAT: Format = Format {
    name: "stooq",
    about: "Stooq CSV: download page (English or Polish header) and bulk archives",
    example: "mds ingest bars wig20_d.csv",
    detect,
    openers: Openers {
        bars: Some(open),
        ..Openers::NONE
    },
};

const ENGLISH: [&str; 5] = ["Date", "Open", "High", "Low", "Close"];
const POLISH: [&str; 5] = ["Data", "Otwarcie", "Najwyzszy", "Najnizszy", "Zamkniecie"];
const BULK: [&str; 10] = [
    "<TICKER>",
    "<PER>",
    "<DATE>",
    "<TIME>",
    "<OPEN>",
    "<HIGH>",
    "<LOW>",
    "<CLOSE>",
    "<VOL>",
    "<OPENINT>",
];

fn starts_with(header: &Fielded<'_>, names: &[&str]) -> bool {
    header.len() >= names.len() && header.iter().zip(names).all(|(a, b)| a.trim() == *b)
}

/// Whether a header is one of the download page: five columns, and one of the volume or none.
fn is_page(header: &Fielded<'_>, names: &[&str; 5], volume: &str) -> bool {
    starts_with(header, names)
        && match header.len() {
            5 => true,
            6 => header.get(5).trim() == volume,
            _ => false,
        }
}

fn detect(sample: &Sample<'_>) -> Fit {
    let mut fields = Fields::default();
    let Ok(header) = fields.split(sample.first_line(), b',') else {
        return Fit::No;
    };
    let named_so = sample.named("stooq") || sample.names.iter().any(|n| named(n).is_some());
    if starts_with(&header, &BULK) {
        Fit::yes("the header of bulk archives, <TICKER>,<PER>,<DATE> and on")
    } else if is_page(&header, &POLISH, "Wolumen") {
        Fit::yes("the Polish header, Data,Otwarcie and on")
    } else if is_page(&header, &ENGLISH, "Volume") && named_so {
        Fit::yes("a header of Date,Open,High,Low,Close, and the file name has the vendor's shape")
    } else if is_page(&header, &ENGLISH, "Volume") {
        Fit::Maybe("a header of Date,Open,High,Low,Close, which other vendors write too".to_owned())
    } else {
        Fit::No
    }
}

/// `SYMBOL_d`, `SYMBOL_w` or `SYMBOL_m`, alone or behind `stooq-`.
fn named(name: &Name) -> Option<Named> {
    let own = name.after("stooq").unwrap_or(name.stem());
    let (symbol, span) = own.rsplit_once('_')?;
    let timeframe = match span {
        "d" => "1d",
        "w" => "1w",
        "m" => "1mo",
        _ => return None,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-^&".contains(&b);
    (!symbol.is_empty() && symbol.bytes().all(plain)).then(|| Named {
        symbol: Some(Symbol::new(symbol)),
        timeframe: timeframe.parse().ok(),
    })
}

fn open(context: &mut Context<'_>) -> Result<Box<dyn Decoder<Bar>>, OpenError> {
    context.sample.check_header()?;
    let mut fields = Fields::default();
    let header = fields.split(context.sample.first_line(), b',');
    if header.is_ok_and(|header| starts_with(&header, &BULK)) {
        return open_bulk(context);
    }
    let convention = Convention {
        vendor: "stooq",
        name: named,
        shape: "SYMBOL_d",
        symbol_in_rows: false,
    };
    let mut fields = Fields::default();
    let dates = context.sample.lines().skip(1).take(20).filter_map(|line| {
        let row = fields.split(line, b',').ok()?;
        date("ts", row.get(0)).ok()
    });
    let shown = days_of(dates);
    let series = Series::open(context, convention, shown)?;
    context.note("a date is the exchange's day: the time of its bar is midnight UTC");
    Ok(Box::new(ByRow::new(Page { series, width: 6 }, b',')))
}

/// Rows of the download page.
struct Page {
    series: Series,
    width: usize,
}

impl RowDecoder<Bar> for Page {
    const HEADER: bool = true;

    fn header(&mut self, header: &Fielded<'_>) -> Result<(), String> {
        self.width = header.len();
        if is_page(header, &ENGLISH, "Volume") || is_page(header, &POLISH, "Wolumen") {
            return Ok(());
        }
        Err("the header must be Date,Open,High,Low,Close,Volume or its Polish form".to_owned())
    }

    fn width(&self) -> Option<usize> {
        Some(self.width)
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, Bar>) -> Result<(), Fault> {
        let mut bar = self.series.bar();
        bar.ts = day("ts", row.get(0))?;
        prices(&mut bar, row, 1)?;
        if self.width > 5 {
            bar.volume = optional("volume", row.get(5))?;
        }
        out.record(bar);
        Ok(())
    }
}

/// Open, high, low and close from column `from` on.
fn prices(bar: &mut Bar, row: &Fielded<'_>, from: usize) -> Result<(), Fault> {
    bar.open_price = Some(number("open_price", row.get(from))?);
    bar.high_price = Some(number("high_price", row.get(from + 1))?);
    bar.low_price = Some(number("low_price", row.get(from + 2))?);
    bar.close_price = Some(number("close_price", row.get(from + 3))?);
    Ok(())
}

fn open_bulk(context: &mut Context<'_>) -> Result<Box<dyn Decoder<Bar>>, OpenError> {
    let options = context.options;
    let mut template = Bar {
        tenant_id: context.tenant(),
        ..Bar::default()
    };
    template.vendor = options.vendor.clone().unwrap_or_else(|| "stooq".into());
    let mut fields = Fields::default();
    let minutes = context.sample.lines().skip(1).take(20).find_map(|line| {
        let row = fields.split(line, b',').ok()?;
        let timed = row.get(1).trim().parse::<u32>().is_ok();
        timed.then(|| format!("{} {}", row.get(2), row.get(3)))
    });
    if let (Some(example), None) = (minutes, &options.tz) {
        return Err(OpenError::NoTimeZone {
            path: context.sample.path.to_owned(),
            example,
        });
    }
    let times = Times {
        format: TimeFormat::Pattern("%Y%m%d %H%M%S".to_owned()),
        zone: options.tz.clone(),
        days: false,
    };
    let bulk = Bulk { template, times };
    Ok(Box::new(ByRow::new(bulk, b',')))
}

/// Rows of a bulk archive.
struct Bulk {
    template: Bar,
    times: Times,
}

impl Bulk {
    fn time(&self, timeframe: Timeframe, date: &str, time: &str) -> Result<Timestamp, Fault> {
        if Times::whole_days(timeframe) {
            return day("ts", date);
        }
        self.times
            .read("ts", &format!("{} {time:0>6}", date.trim()))
    }
}

fn period(text: &str) -> Result<Timeframe, Fault> {
    let minutes = || format!("{}m", text.parse::<u16>().ok()?).parse().ok();
    let span = match text.trim() {
        "D" => Some(Timeframe::DAY),
        "W" => "1w".parse().ok(),
        "M" => "1mo".parse().ok(),
        _ => minutes(),
    };
    let rule = "must be D, W, M or a number of minutes";
    span.ok_or_else(|| Fault::new("timeframe", text, "malformed", rule))
}

impl RowDecoder<Bar> for Bulk {
    const HEADER: bool = true;

    fn header(&mut self, header: &Fielded<'_>) -> Result<(), String> {
        if starts_with(header, &BULK) {
            return Ok(());
        }
        Err(format!("the header must be {}", BULK.join(",")))
    }

    fn width(&self) -> Option<usize> {
        Some(BULK.len())
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, Bar>) -> Result<(), Fault> {
        let mut bar = self.template.clone();
        bar.symbol = Symbol::new(row.get(0));
        bar.timeframe = period(row.get(1))?;
        bar.ts = self.time(bar.timeframe, row.get(2), row.get(3).trim())?;
        prices(&mut bar, row, 4)?;
        bar.volume = optional("volume", row.get(8))?;
        out.record(bar);
        Ok(())
    }
}
