//! Which column holds which field.

use mds_core::Record;

use crate::error::OpenError;
use crate::options::{Mapping, Options};
use crate::reader::Context;

/// Where a field comes from: places from 0, joined with blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) field: usize,
    pub(super) columns: Vec<usize>,
}

/// How the columns of a part are found.
#[derive(Debug)]
pub(super) struct Layout {
    /// Field and column as the user mapped them.
    map: Vec<(usize, String)>,
    /// Whether the first line names the columns.
    pub(super) header: bool,
}

/// What is wrong with a column that is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    Absent(String),
    /// A number beyond the columns of the first line.
    Beyond(String, usize),
    Twice(String),
}

/// Whether the file has a header: it has none where all columns are mapped by their numbers.
pub(crate) fn has_header(options: &Options) -> bool {
    options.map.is_empty() || !options.map.iter().all(is_by_number)
}

fn is_by_number(mapping: &Mapping) -> bool {
    let mut columns = mapping.column.split('+');
    columns.all(|c| c.trim().parse::<usize>().is_ok_and(|n| n > 0))
}

/// The field that a column of the file's own names is; case is no matter.
pub(super) fn field_of<R: Record>(name: &str) -> Option<usize> {
    R::column(&name.to_ascii_lowercase())
}

pub(super) fn revision_column(names: &[String]) -> Option<usize> {
    names
        .iter()
        .position(|name| name.eq_ignore_ascii_case("revision"))
}

impl Layout {
    pub(super) fn new<R: Record>(context: &Context<'_>) -> Result<Self, OpenError> {
        Ok(Self {
            map: checked_map::<R>(context)?,
            header: has_header(context.options),
        })
    }

    /// Where each field is, given the names in the header, or how many columns there are.
    pub(super) fn places<R: Record>(
        &self,
        names: &[String],
        width: usize,
    ) -> Result<Vec<Place>, Unfit> {
        let mut places: Vec<Place> = Vec::new();
        for (field, column) in &self.map {
            let columns = if self.header {
                by_name(names, column)?
            } else {
                by_number(column, width)?
            };
            places.push(Place {
                field: *field,
                columns,
            });
        }
        let mapped = places.len();
        for (at, name) in names.iter().enumerate() {
            let Some(field) = field_of::<R>(name) else {
                continue;
            };
            let (by_map, by_name) = places.split_at(mapped);
            if by_map
                .iter()
                .any(|p| p.field == field || p.columns.contains(&at))
            {
                continue;
            }
            if by_name.iter().any(|p| p.field == field) {
                return Err(Unfit::Twice(name.clone()));
            }
            places.push(Place {
                field,
                columns: vec![at],
            });
        }
        Ok(places)
    }
}

fn by_number(column: &str, width: usize) -> Result<Vec<usize>, Unfit> {
    let place = |text: &str| {
        let number: usize = text.trim().parse().ok()?;
        number.checked_sub(1).filter(|&at| at < width)
    };
    let places: Option<Vec<usize>> = column.split('+').map(place).collect();
    places.ok_or_else(|| Unfit::Beyond(column.to_owned(), width))
}

fn by_name(names: &[String], column: &str) -> Result<Vec<usize>, Unfit> {
    match place_of(names, column) {
        Err(Unfit::Absent(_)) if column.contains('+') => {
            let places = column.split('+').map(|part| place_of(names, part.trim()));
            places.collect()
        }
        place => place.map(|at| vec![at]),
    }
}

/// The column with this very name, else with it in another case.
fn place_of(names: &[String], wanted: &str) -> Result<usize, Unfit> {
    let only = |same: fn(&str, &str) -> bool| {
        let mut fitting = names.iter().enumerate().filter(|(_, n)| same(n, wanted));
        let first = fitting.next().map(|(at, _)| at);
        match fitting.next() {
            Some(_) => Err(Unfit::Twice(wanted.to_owned())),
            None => Ok(first),
        }
    };
    let exact = only(|a, b| a == b)?;
    let place = match exact {
        Some(at) => Some(at),
        None => only(str::eq_ignore_ascii_case)?,
    };
    place.ok_or_else(|| Unfit::Absent(wanted.to_owned()))
}

fn checked_map<R: Record>(context: &Context<'_>) -> Result<Vec<(usize, String)>, OpenError> {
    let mut map: Vec<(usize, String)> = Vec::new();
    for mapping in &context.options.map {
        let Some(field) = R::column(&mapping.field) else {
            let names: Vec<&str> = R::COLUMNS.iter().map(|c| c.name).collect();
            let reason = format!("{} have no such field, only {}", R::KIND, names.join(", "));
            return Err(option(context, mapping.to_string(), reason));
        };
        if map.iter().any(|(mapped, _)| *mapped == field) {
            let reason = "the field is mapped twice".to_owned();
            return Err(option(context, mapping.to_string(), reason));
        }
        map.push((field, mapping.column.clone()));
    }
    Ok(map)
}

fn option(context: &Context<'_>, value: String, reason: String) -> OpenError {
    OpenError::Option {
        path: context.sample.path.to_owned(),
        flag: "--map",
        value,
        reason,
    }
}

impl Unfit {
    pub(super) fn in_input(self, context: &Context<'_>) -> OpenError {
        let reads = || format!("it reads {:?}", context.sample.first_record());
        match self {
            Self::Absent(column) => {
                let reason = format!("the header has no such column; {}", reads());
                option(context, column, reason)
            }
            Self::Beyond(column, width) => {
                let columns = if width == 1 { "column" } else { "columns" };
                option(
                    context,
                    column,
                    format!("the first line has {width} {columns}"),
                )
            }
            Self::Twice(column) => OpenError::Header {
                path: context.sample.path.to_owned(),
                reason: format!(
                    "the column {column:?} stands twice in the header; rename one of them; {}",
                    reads()
                ),
            },
        }
    }

    pub(super) fn in_header(self) -> String {
        match self {
            Self::Absent(column) => format!("the header has no column {column:?}"),
            Self::Beyond(column, width) => format!("there is no column {column} of {width}"),
            Self::Twice(column) => format!("the column {column:?} stands twice in the header"),
        }
    }
}
