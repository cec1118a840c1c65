//! `csv`: delimited text in our own field names, or in any other with `--map`.
//!
//! - The delimiter is the one of `,` `;` tab `|` that the first line has most of.
//! - Without `--map` the header must name our fields, in upper or lower case; other columns are left
//!   out, and said so.
//! - With `--map FIELD=COLUMN` the columns are named by the header. Where every column is a number
//!   there is no header, and the number is its place from 1. Rows have as many fields as the first
//!   line, with and without a header.
//! - Fields that are not mapped are taken from columns that bear their very names.
//! - `A+B` joins two columns with a blank between them.
//! - Times are read as `--time-format` says, without an offset in the zone of `--tz`.

mod layout;

use mds_core::{ColumnType, Record, Timeframe};

pub(crate) use self::layout::has_header;
use self::layout::{Layout, Place, Unfit, revision_column};
use super::template::{Draft, Template};
use crate::decode::{Decoder, Out};
use crate::delimited::{ByRow, Fielded, Fields, RowDecoder, delimiter_of};
use crate::detect::{Fit, Sample};
use crate::error::OpenError;
use crate::options::{Options, TimeFormat};
use crate::reader::Context;
use crate::registry::{Format, Openers};
use crate::values::{self, TimeFault, Times};
use crate::verdict::Fault;

pub(crate) static FORMAT: Format = Format {
    name: "csv",
    about: "delimited text with a header of our own field names, or any other with --map",
    example: "mds ingest bars prices.csv --vendor acme --timeframe 1d --map symbol=Ticker --map ts=Day --map close_price=Close",
    detect,
    openers: Openers {
        bars: Some(open),
        options: Some(open),
        fundamentals: Some(open),
        news: Some(open),
    },
};

fn detect(sample: &Sample<'_>) -> Fit {
    let delimiter = delimiter_of(sample.first_line());
    let mut fields = Fields::default();
    let Ok(header) = fields.split(sample.first_record(), delimiter) else {
        return Fit::No;
    };
    let names: Vec<String> = header
        .iter()
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut kinds = super::kinds_with(&names);
    if let Some(asked) = sample.kind.filter(|asked| kinds.contains(asked)) {
        kinds = vec![asked];
    }
    if kinds.is_empty() {
        return Fit::No;
    }
    Fit::Yes {
        why: "the header has our own field names".to_owned(),
        kinds,
    }
}

fn open<R: Record>(context: &mut Context<'_>) -> Result<Box<dyn Decoder<R>>, OpenError> {
    let delimiter = delimiter_of(context.sample.first_line());
    context.sample.check_header()?;
    let layout = Layout::new::<R>(context)?;
    let mut fields = Fields::default();
    let first = first_names(context, &mut fields, delimiter)?;
    let names = if layout.header {
        first.clone()
    } else {
        Vec::new()
    };
    let template = Template::<R>::new(context.options);
    let mut places = Vec::new();
    if !first.is_empty() {
        let found = layout.places::<R>(&names, first.len());
        places = found.map_err(|unfit| unfit.in_input(context))?;
        require(context, &template, &places)?;
    }
    note_left_out(context, &names, &places);
    let mut rows = Rows {
        template,
        layout,
        revision: revision_column(&names),
        width: (!first.is_empty()).then_some(first.len()),
        places: Vec::new(),
        times: times::<R>(context.options),
        time_column: time_column::<R>(),
        span_column: None,
        joined: String::new(),
    };
    rows.take_places(places);
    require_zone(context, &rows, delimiter)?;
    if rows.layout.header {
        Ok(Box::new(ByRow::new(WithHeader(rows), delimiter)))
    } else {
        Ok(Box::new(ByRow::new(rows, delimiter)))
    }
}

/// The fields of the first line that has any: the names, where there is a header.
fn first_names(
    context: &Context<'_>,
    fields: &mut Fields,
    delimiter: u8,
) -> Result<Vec<String>, OpenError> {
    let line = context.sample.first_record();
    if line.is_empty() {
        return Ok(Vec::new());
    }
    let header = has_header(context.options);
    match fields.split(line, delimiter) {
        Ok(row) => Ok(row.iter().map(|name| name.trim().to_owned()).collect()),
        Err(fault) if header => Err(OpenError::Header {
            path: context.sample.path.to_owned(),
            reason: format!("the header {line:?} cannot be read: {}", fault.rule),
        }),
        // A first row that is broken; the next tells how many columns there are.
        Err(_) => {
            let mut next = context.sample.lines().skip(1);
            let width = next.find_map(|line| Some(fields.split(line, delimiter).ok()?.len()));
            Ok(vec![String::new(); width.unwrap_or_default()])
        }
    }
}

fn times<R: Record>(options: &Options) -> Times {
    let format = options.time_format.clone();
    Times {
        format: format.unwrap_or(TimeFormat::Rfc3339),
        zone: options.tz.clone(),
        days: whole_days::<R>(options.timeframe),
    }
}

/// Every key part must come from a column or from an option.
fn require<R: Record>(
    context: &Context<'_>,
    template: &Template<R>,
    places: &[Place],
) -> Result<(), OpenError> {
    for column in template.required() {
        let mapped = places
            .iter()
            .any(|p| R::COLUMNS[p.field].name == column.name);
        if mapped {
            continue;
        }
        let flag = match column.name {
            "vendor" => "--vendor",
            "symbol" => "--symbol",
            "timeframe" => "--timeframe",
            "published_at" => "--map published_at=COLUMN, or --published-at",
            "ts" => "--map ts=COLUMN",
            "asof" => "--map asof=COLUMN",
            "expiry" => "--map expiry=COLUMN",
            "option_type" => "--map option_type=COLUMN",
            _ => "--map strike=COLUMN",
        };
        return Err(context.missing(column.name, flag, "no column is mapped to it"));
    }
    Ok(())
}

fn note_left_out(context: &mut Context<'_>, names: &[String], places: &[Place]) {
    let revision = revision_column(names);
    let left: Vec<String> = names
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != revision && !places.iter().any(|p| p.columns.contains(at)))
        .map(|(at, name)| match name.as_str() {
            "" => format!("column {} (no name)", at + 1),
            name => name.to_owned(),
        })
        .collect();
    if !left.is_empty() {
        context.note(format!("columns left out: {}", left.join(", ")));
    }
}

/// A first time without an offset, where no zone is given, is an error before anything is read.
fn require_zone<R: Record>(
    context: &Context<'_>,
    rows: &Rows<R>,
    delimiter: u8,
) -> Result<(), OpenError> {
    let place_of = |field| rows.places.iter().find(|p| p.field == field);
    let Some(place) = place_of(rows.time_column) else {
        return Ok(());
    };
    let span_place = rows.span_column.and_then(place_of);
    let mut fields = Fields::default();
    let lines = context.sample.lines().skip(usize::from(rows.layout.header));
    for line in lines.take(20) {
        let Ok(row) = fields.split(line, delimiter) else {
            continue;
        };
        let span = span_place.map(|place| joined(&row, place));
        // A row without a span of its own, or of the options, is invalid whatever its time may be.
        let given = || context.options.timeframe.map(|_| rows.times.days);
        let days = match span.as_deref() {
            None => Some(rows.times.days),
            Some("") => given(),
            Some(span) => span.parse().ok().map(Times::whole_days),
        };
        let Some(days) = days else {
            continue;
        };
        let text = joined(&row, place);
        if let Err(TimeFault::NoZone) = rows.times.try_read("ts", &text, days) {
            return Err(OpenError::NoTimeZone {
                path: context.sample.path.to_owned(),
                example: text,
            });
        }
    }
    Ok(())
}

fn joined(row: &Fielded<'_>, place: &Place) -> String {
    let texts: Vec<&str> = place.columns.iter().map(|&c| row.get(c).trim()).collect();
    texts.join(" ")
}

/// Whether a date alone means the whole day: for bars of a day or more, and for fundamentals.
fn whole_days<R: Record>(timeframe: Option<Timeframe>) -> bool {
    match R::KIND {
        mds_core::Kind::Bars => timeframe.is_some_and(Times::whole_days),
        mds_core::Kind::Fundamentals | mds_core::Kind::Options => true,
        mds_core::Kind::News => false,
    }
}

fn time_column<R: Record>() -> usize {
    let is_time = |c: &mds_core::Column| c.ty == ColumnType::Timestamp;
    R::COLUMNS.iter().position(is_time).unwrap_or_default()
}

/// Decodes rows of known places.
struct Rows<R> {
    template: Template<R>,
    layout: Layout,
    /// The column of the time is the last of them, since the span says how a date is meant.
    places: Vec<Place>,
    /// The column of the revision, in microseconds.
    revision: Option<usize>,
    /// Fields of a row, as many as the first line has; `None` as long as none could be read.
    width: Option<usize>,
    times: Times,
    time_column: usize,
    /// The field of the span, where a column holds it.
    span_column: Option<usize>,
    joined: String,
}

impl<R: Record> Rows<R> {
    fn take_places(&mut self, mut places: Vec<Place>) {
        places.sort_by_key(|place| place.field == self.time_column);
        let span = R::COLUMNS
            .iter()
            .position(|c| c.ty == ColumnType::Timeframe);
        self.span_column = span.filter(|span| places.iter().any(|p| p.field == *span));
        self.places = places;
    }
}

impl<R: Record> RowDecoder<R> for Rows<R> {
    const HEADER: bool = false;
    const MULTILINE: bool = true;

    fn width(&self) -> Option<usize> {
        self.width
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, R>) -> Result<(), Fault> {
        self.width.get_or_insert(row.len());
        let mut draft = self.template.draft();
        for place in &self.places {
            let text = match place.columns.as_slice() {
                [only] => row.get(*only),
                several => {
                    self.joined.clear();
                    for (i, column) in several.iter().enumerate() {
                        if i > 0 {
                            self.joined.push(' ');
                        }
                        self.joined.push_str(row.get(*column).trim());
                    }
                    &self.joined
                }
            };
            if place.field == self.time_column && !text.trim_ascii().is_empty() {
                let span = self.span_column.and_then(|column| draft.timeframe(column));
                let days = span.map_or(self.times.days, Times::whole_days);
                let name = R::COLUMNS[place.field].name;
                let read = self.times.read_as(name, text, days);
                let time = read.map_err(|f| values::with_hint(f, &self.times.format))?;
                draft.set_time(place.field, time, self.times.cuts(text));
            } else {
                set(&mut draft, place.field, text)?;
            }
        }
        if let Some(text) = self
            .revision
            .map(|at| row.get(at))
            .filter(|t| !t.is_empty())
        {
            draft.set_revision(values::integer("revision", text)?);
        }
        out.record(draft.finish()?);
        self.template.tell(out);
        Ok(())
    }
}

fn set<R: Record>(draft: &mut Draft<'_, R>, field: usize, text: &str) -> Result<(), Fault> {
    let column = &R::COLUMNS[field];
    if column.ty == ColumnType::Date && text.trim_ascii().len() == 8 {
        let date = values::date(column.name, text)?;
        return draft.set(field, &date.to_string());
    }
    draft.set(field, text)
}

/// The same with a header.
struct WithHeader<R>(Rows<R>);

impl<R: Record> RowDecoder<R> for WithHeader<R> {
    const HEADER: bool = true;
    const MULTILINE: bool = true;

    fn header(&mut self, header: &Fielded<'_>) -> Result<(), String> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let rows = &mut self.0;
        let places = rows.layout.places::<R>(&names, names.len());
        rows.take_places(places.map_err(Unfit::in_header)?);
        rows.revision = revision_column(&names);
        rows.width = Some(names.len());
        Ok(())
    }

    fn width(&self) -> Option<usize> {
        self.0.width
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, R>) -> Result<(), Fault> {
        self.0.row(row, out)
    }
}
