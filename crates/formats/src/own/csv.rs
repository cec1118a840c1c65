//! `csv`: delimited text in our own field names, or in any other with `--map`.
//!
//! - The delimiter is the one of `,` `;` tab `|` that the first line has most of.
//! - Without `--map` the header must name our fields; other columns are left out, and said so.
//! - With `--map FIELD=COLUMN` the columns are named by the header. Where every column is a number
//!   there is no header, and the number is its place from 1.
//! - Fields that are not mapped are taken from columns that bear their very names.
//! - `A+B` joins two columns with a blank between them.
//! - Times are read as `--time-format` says, without an offset in the zone of `--tz`.

use mds_core::{ColumnType, Record, Timeframe};

use super::template::{Draft, Template};
use crate::decode::{Decoder, Out};
use crate::delimited::{ByRow, Fielded, Fields, RowDecoder, delimiter_of};
use crate::detect::{Fit, Sample};
use crate::error::OpenError;
use crate::options::{Mapping, Options, TimeFormat};
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
    let line = sample.first_line();
    let mut fields = Fields::default();
    let Ok(header) = fields.split(line, delimiter_of(line)) else {
        return Fit::No;
    };
    let names: Vec<&str> = header.iter().map(str::trim).collect();
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

/// Where a field comes from: places from 0, joined with blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    field: usize,
    columns: Vec<usize>,
}

fn open<R: Record>(context: &mut Context<'_>) -> Result<Box<dyn Decoder<R>>, OpenError> {
    let line = context.sample.first_line().to_owned();
    let delimiter = delimiter_of(&line);
    let header = !context.options.map.iter().all(is_by_number) || context.options.map.is_empty();
    let mut fields = Fields::default();
    let names: Vec<String> = match fields.split(&line, delimiter) {
        Ok(row) if header => row.iter().map(|name| name.trim().to_owned()).collect(),
        _ => Vec::new(),
    };
    let layout = Layout {
        map: checked_map::<R>(context)?,
        header,
    };
    let template = Template::<R>::new(context.options);
    let mut places = Vec::new();
    if !line.is_empty() {
        let found = layout.places::<R>(&names);
        places = found.map_err(|column| option_error(context, column))?;
        require(context, &template, &places)?;
    }
    if header {
        note_left_out(context, &names, &places);
    }
    let rows = Rows {
        template,
        layout,
        revision: revision_column(&names),
        width: None,
        places,
        times: times::<R>(context.options),
        time_column: time_column::<R>(),
        joined: String::new(),
    };
    require_zone(context, &rows, delimiter)?;
    if header {
        Ok(Box::new(ByRow::new(WithHeader(rows), delimiter)))
    } else {
        Ok(Box::new(ByRow::new(rows, delimiter)))
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

/// How the columns of a part are found.
#[derive(Debug)]
struct Layout {
    /// Field and column as the user mapped them.
    map: Vec<(usize, String)>,
    header: bool,
}

fn is_by_number(mapping: &Mapping) -> bool {
    mapping
        .column
        .split('+')
        .all(|c| c.trim().parse::<usize>().is_ok_and(|n| n > 0))
}

fn checked_map<R: Record>(context: &Context<'_>) -> Result<Vec<(usize, String)>, OpenError> {
    let option = |value: String, reason: String| OpenError::Option {
        path: context.sample.path.to_owned(),
        flag: "--map",
        value,
        reason,
    };
    let mut map: Vec<(usize, String)> = Vec::new();
    for mapping in &context.options.map {
        let Some(field) = R::column(&mapping.field) else {
            let names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
            let reason = format!("{} have no such field, only {}", R::KIND, names.join(", "));
            return Err(option(mapping.to_string(), reason));
        };
        if map.iter().any(|(mapped, _)| *mapped == field) {
            return Err(option(
                mapping.to_string(),
                "the field is mapped twice".to_owned(),
            ));
        }
        map.push((field, mapping.column.clone()));
    }
    Ok(map)
}

impl Layout {
    /// Where each field is, given the names in the header; the error is the column that is not
    /// there.
    fn places<R: Record>(&self, names: &[String]) -> Result<Vec<Place>, String> {
        let mut places = Vec::new();
        for (field, column) in &self.map {
            let columns = self.find(names, column).ok_or_else(|| column.clone())?;
            places.push(Place {
                field: *field,
                columns,
            });
        }
        for (at, name) in names.iter().enumerate() {
            let Some(field) = R::column(name) else {
                continue;
            };
            let mapped = places
                .iter()
                .any(|p| p.field == field || p.columns.contains(&at));
            if !mapped {
                places.push(Place {
                    field,
                    columns: vec![at],
                });
            }
        }
        Ok(places)
    }

    fn find(&self, names: &[String], column: &str) -> Option<Vec<usize>> {
        if !self.header {
            return column
                .split('+')
                .map(|c| c.trim().parse::<usize>().ok()?.checked_sub(1))
                .collect();
        }
        let place_of = |wanted: &str| {
            let wanted = wanted.trim();
            names.iter().position(|name| name == wanted).or_else(|| {
                names
                    .iter()
                    .position(|name| name.eq_ignore_ascii_case(wanted))
            })
        };
        match place_of(column) {
            Some(at) => Some(vec![at]),
            None if column.contains('+') => column.split('+').map(place_of).collect(),
            None => None,
        }
    }
}

fn option_error(context: &Context<'_>, column: String) -> OpenError {
    OpenError::Option {
        path: context.sample.path.to_owned(),
        flag: "--map",
        value: column,
        reason: format!(
            "the header has no such column; it reads {:?}",
            context.sample.first_line()
        ),
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
    let left: Vec<&str> = names
        .iter()
        .enumerate()
        .filter(|(at, name)| {
            name.as_str() != "revision" && !places.iter().any(|p| p.columns.contains(at))
        })
        .map(|(_, name)| name.as_str())
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
    let Some(place) = rows.places.iter().find(|p| p.field == rows.time_column) else {
        return Ok(());
    };
    let mut fields = Fields::default();
    for line in context
        .sample
        .lines()
        .skip(usize::from(rows.layout.header))
        .take(20)
    {
        let Ok(row) = fields.split(line, delimiter) else {
            continue;
        };
        let text = joined(&row, place);
        if let Err(TimeFault::NoZone) = rows.times.try_read("ts", &text) {
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
    places: Vec<Place>,
    /// The column of the revision, in microseconds.
    revision: Option<usize>,
    /// Fields of a row; `None` where there is no header to say so.
    width: Option<usize>,
    times: Times,
    time_column: usize,
    joined: String,
}

impl<R: Record> RowDecoder<R> for Rows<R> {
    const HEADER: bool = false;
    const MULTILINE: bool = true;

    fn width(&self) -> Option<usize> {
        self.width
    }

    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, R>) -> Result<(), Fault> {
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
                let time = self.times.read(R::COLUMNS[place.field].name, text)?;
                draft.set_time(place.field, time);
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
        Ok(())
    }
}

fn revision_column(names: &[String]) -> Option<usize> {
    names.iter().position(|name| name == "revision")
}

fn set<R: Record>(draft: &mut Draft<'_, R>, field: usize, text: &str) -> Result<(), Fault> {
    let column = &R::COLUMNS[field];
    if column.ty == ColumnType::Date && text.trim_ascii().len() == 8 {
        let date = values::date(column.name, text)?;
        return draft.set(field, &date.to_string());
    }
    draft.set(field, text)
}

/// The same with a header, which says anew for each part where its columns are.
struct WithHeader<R>(Rows<R>);

impl<R: Record> RowDecoder<R> for WithHeader<R> {
    const HEADER: bool = true;
    const MULTILINE: bool = true;

    fn header(&mut self, header: &Fielded<'_>) -> Result<(), String> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let rows = &mut self.0;
        rows.places = rows
            .layout
            .places::<R>(&names)
            .map_err(|column| format!("the header has no column {column:?}"))?;
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
