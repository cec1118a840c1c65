//! The entries of an archive after the first: each is looked at as if it stood alone.
//!
//! An archive is read as one format. An entry that would not have been recognised as that, or whose
//! header has other names, ends the reading before its first row, since its columns would be taken
//! for others.

use std::sync::Arc;

use crate::decode::Decoder;
use crate::delimited::delimiter_of;
use crate::detect::{Detected, Fit, Sample, refuse_foreign};
use crate::error::{OpenError, ReadError};
use crate::input::Part;
use crate::options::Options;
use crate::own;
use crate::reader::Context;
use crate::registry::{Format, Readable, formats};

/// What the first entry was like.
#[derive(Debug)]
pub(crate) struct Likeness {
    format: &'static Format,
    /// Whether the first entry is in the format by its look, not only by what the user says.
    fitted: bool,
    /// The names of the columns, where they say what is in them.
    header: Option<Vec<String>>,
    shape: Shape,
    options: Options,
}

/// The outward form of the first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Json(char),
    /// Fields between delimiters.
    Fields(usize),
}

impl Shape {
    fn of(sample: &Sample<'_>) -> Self {
        match sample.first_char() {
            Some(first @ ('{' | '[')) => Self::Json(first),
            _ => Self::Fields(header_of(sample).len()),
        }
    }
}

fn header_of(sample: &Sample<'_>) -> Vec<String> {
    let line = sample.first_record();
    let delimiter = delimiter_of(sample.first_line());
    let names = line.split(char::from(delimiter));
    names.map(|name| name.trim().to_owned()).collect()
}

impl Likeness {
    pub(crate) fn of(sample: &Sample<'_>, detected: &Detected, options: &Options) -> Self {
        let format = detected.format;
        let named = *format == own::csv::FORMAT && own::csv::has_header(options);
        Self {
            format,
            fitted: (format.detect)(sample) != Fit::No,
            header: named.then(|| header_of(sample)),
            shape: Shape::of(sample),
            options: options.clone(),
        }
    }

    /// Starts on a later entry; `notes` gets what is new.
    pub(crate) fn decoder<R: Readable>(
        &self,
        part: &mut Part,
        notes: &mut Vec<String>,
    ) -> Result<Box<dyn Decoder<R>>, ReadError> {
        let path = Arc::clone(&part.path);
        let mut said = Vec::new();
        let started = self.start::<R>(part, &mut said);
        let decoder = started.map_err(|unlike| match part.lines.take_failure() {
            // What could not be made out because reading failed early is unreadable.
            Some(source) => read_error(&path, source, "read"),
            None => unlike.in_entry(&path),
        })?;
        said.retain(|note| !notes.contains(note));
        notes.append(&mut said);
        Ok(decoder)
    }

    fn start<R: Readable>(
        &self,
        part: &mut Part,
        notes: &mut Vec<String>,
    ) -> Result<Box<dyn Decoder<R>>, Unlike> {
        let whole = Arc::clone(&part.path);
        let name = whole.split_once('!').map_or(&*whole, |(_, entry)| entry);
        let sample = Sample::of(Some(part), name, Some(R::KIND), true)?;
        refuse_foreign(&sample)?;
        self.compare(&sample).map_err(Unlike::Differs)?;
        let opener = R::opener(&self.format.openers);
        let opener = opener.ok_or_else(|| Unlike::Differs("it holds another kind".to_owned()))?;
        Ok(opener(&mut Context {
            sample,
            options: &self.options,
            format: self.format,
            notes,
        })?)
    }

    /// In what an entry differs from the first one, if it does.
    fn compare(&self, sample: &Sample<'_>) -> Result<(), String> {
        if let Some(header) = &self.header {
            let own = header_of(sample);
            if own != *header {
                let shown =
                    |names: &[String]| names.join(",").chars().take(200).collect::<String>();
                return Err(format!(
                    "its first line is {:?}, not {:?}, the header of the entry before it",
                    shown(&own),
                    shown(header)
                ));
            }
        }
        let name = self.format.name;
        let fits = if self.fitted {
            holds(&(self.format.detect)(sample), sample)
        } else {
            Shape::of(sample) == self.shape
        };
        if !fits {
            let starts: String = sample.first_line().chars().take(100).collect();
            return Err(format!(
                "it is not in format {name} as the entry before it: it starts with {starts:?}"
            ));
        }
        let told = self.options.format.is_some() || !self.options.map.is_empty();
        match formats().iter().find(|other| {
            !told && **other != self.format && is_sure(&(other.detect)(sample), sample)
        }) {
            Some(other) if !is_sure(&(self.format.detect)(sample), sample) => Err(format!(
                "it is in format {}, not {name} as the entry before it",
                other.name
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a format may be that of a sample, of the kind that is asked for.
fn holds(fit: &Fit, sample: &Sample<'_>) -> bool {
    matches!(fit, Fit::Maybe(_)) || is_sure(fit, sample)
}

fn is_sure(fit: &Fit, sample: &Sample<'_>) -> bool {
    match fit {
        Fit::Yes { kinds, .. } => {
            kinds.is_empty() || sample.kind.is_none_or(|kind| kinds.contains(&kind))
        }
        Fit::Maybe(_) | Fit::No => false,
    }
}

/// Why an entry is not started on.
enum Unlike {
    Differs(String),
    Open(OpenError),
}

impl From<OpenError> for Unlike {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl Unlike {
    fn in_entry(self, path: &str) -> ReadError {
        let path = path.to_owned();
        match self {
            Self::Differs(reason) => ReadError::EntryDiffers { path, reason },
            Self::Open(OpenError::Missing { field, flag, .. }) => {
                ReadError::Missing { path, field, flag }
            }
            Self::Open(OpenError::Io {
                operation, source, ..
            }) => read_error(&path, source, operation),
            Self::Open(source) => ReadError::Entry {
                path,
                source: Box::new(source),
            },
        }
    }
}

fn read_error(path: &str, source: std::io::Error, operation: &'static str) -> ReadError {
    ReadError::Io {
        path: path.to_owned(),
        operation,
        line: 0,
        source,
    }
}
