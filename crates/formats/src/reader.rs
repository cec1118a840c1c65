//! From a source to verdicts.

use std::fmt;
use std::sync::Arc;

use mds_core::{Kind, TenantId};

use crate::decode::{Decoder, Verdicts};
use crate::detect::{self, Detected, Sample};
use crate::entries::Likeness;
use crate::error::{OpenError, ReadError};
use crate::input::{Part, Source};
use crate::options::Options;
use crate::registry::{Format, Readable};
use crate::verdict::Verdict;

/// What a format gets to start with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The start of the input.
    pub(crate) sample: Sample<'a>,
    pub(crate) options: &'a Options,
    pub(crate) format: &'static Format,
    pub(crate) notes: &'a mut Vec<String>,
}

impl Context<'_> {
    /// The tenant of rows that name none.
    pub(crate) fn tenant(&self) -> TenantId {
        self.options.tenant.unwrap_or_default()
    }

    /// Tells the user something about how the input is read.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A key part that was found nowhere.
    pub(crate) fn missing(
        &self,
        field: &'static str,
        flag: &'static str,
        looked: impl Into<String>,
    ) -> OpenError {
        OpenError::Missing {
            path: self.sample.path.to_owned(),
            format: self.format.name,
            field,
            looked: looked.into(),
            flag,
        }
    }
}

/// Tells the format of an input without reading it: what `mds inspect` shows.
///
/// `kind` leaves out formats of other kinds. The source can be read afterwards.
pub fn detect(
    source: &mut Source,
    options: &Options,
    kind: Option<Kind>,
) -> Result<Detected, OpenError> {
    let path = source.first_path();
    let chosen = Sample::of(source.first_mut(), &path, kind, is_given(options))
        .and_then(|sample| detect::choose(&sample, options));
    chosen.map_err(|error| unreadable(source, error))
}

/// Whether the user said which format it is.
const fn is_given(options: &Options) -> bool {
    options.format.is_some() || !options.map.is_empty()
}

/// What could not be made out because reading failed early is unreadable, not unknown.
fn unreadable(source: &mut Source, error: OpenError) -> OpenError {
    let path = source.path().to_owned();
    match source
        .first_mut()
        .and_then(|part| part.lines.take_failure())
    {
        Some(source) => OpenError::Io {
            path,
            operation: "read",
            source,
        },
        None => error,
    }
}

/// Opens a reader of the records of one kind.
///
/// The format is that of the options, or told from the content and, where a vendor's format needs
/// it, from the file name. Nothing is guessed: a key part that neither the file nor its name nor an
/// option gives is an error that says what to pass.
pub fn reader<R: Readable>(mut source: Source, options: &Options) -> Result<Reader<R>, OpenError> {
    let mut notes = source.notes().to_vec();
    let (format, first, decoder) = match decoder(&mut source, options, &mut notes) {
        Ok(opened) => opened,
        Err(error) => return Err(unreadable(&mut source, error)),
    };
    Ok(Reader {
        format,
        notes,
        decoder: Some(decoder),
        first,
        source,
        part: None,
        rows: 0,
        ended: false,
        failed: None,
    })
}

type Opened<R> = (&'static Format, Likeness, Box<dyn Decoder<R>>);

/// The format of a source, what its first part is like, and the decoder of that part.
fn decoder<R: Readable>(
    source: &mut Source,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Opened<R>, OpenError> {
    let path = source.first_path();
    let sample = Sample::of(source.first_mut(), &path, Some(R::KIND), is_given(options))?;
    let detected = detect::choose(&sample, options)?;
    let format = detected.format;
    notes.push(format!("format {}: {}", format.name, detected.why));
    let opener =
        R::opener(&format.openers).ok_or_else(|| detect::other_kind(&sample, format, R::KIND))?;
    let first = Likeness::of(&sample, &detected, options);
    let decoder = opener(&mut Context {
        sample,
        options,
        format,
        notes,
    })?;
    Ok((format, first, decoder))
}

/// A reader of the records of one kind out of one input.
///
/// Memory is bounded: lines are read through one buffer that grows to the longest line, and formats
/// that are one document are held up to [`Limits::document_bytes`](crate::Limits::document_bytes).
pub struct Reader<R> {
    format: &'static Format,
    notes: Vec<String>,
    /// Of the part that is read, or will be read first.
    decoder: Option<Box<dyn Decoder<R>>>,
    first: Likeness,
    source: Source,
    part: Option<Part>,
    rows: u64,
    ended: bool,
    /// Told by the call that has no verdicts to deliver.
    failed: Option<ReadError>,
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("format", &self.format)
            .field("source", &self.source)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<R: Readable> Reader<R> {
    /// Appends about `max` verdicts to `out` (a line that holds several rows is never split) and
    /// answers how many; 0 at the end.
    ///
    /// An error comes after every verdict that could be read before it was delivered: first the
    /// last verdicts, at the next call the error. After an error, and at the end, every further
    /// call answers 0.
    pub fn next_chunk(
        &mut self,
        out: &mut Vec<Verdict<R>>,
        max: usize,
    ) -> Result<usize, ReadError> {
        let before = out.len();
        let max = before.saturating_add(max.max(1));
        while out.len() < max && !self.ended {
            if let Err(error) = self.advance(out, max) {
                self.ended = true;
                self.part = None;
                self.failed = Some(error);
            }
        }
        match self.failed.take_if(|_| out.len() == before) {
            Some(error) => Err(error),
            None => Ok(out.len() - before),
        }
    }

    fn advance(&mut self, out: &mut Vec<Verdict<R>>, max: usize) -> Result<(), ReadError> {
        if self.part.is_none() && !self.begin()? {
            self.ended = true;
        }
        let (Some(part), Some(decoder)) = (&mut self.part, &mut self.decoder) else {
            return Ok(());
        };
        let mut verdicts = Verdicts {
            out,
            rows: &mut self.rows,
            path: Arc::clone(&part.path),
            notes: &mut self.notes,
        };
        if !decoder.fill(part, &mut verdicts, max)? {
            self.part = None;
            self.decoder = None;
        }
        Ok(())
    }

    /// Goes on to the next part; false where there is none.
    fn begin(&mut self) -> Result<bool, ReadError> {
        let Some(mut part) = self.source.next_part()? else {
            return Ok(false);
        };
        // The first part has its decoder since the reader was opened.
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => self.first.decoder(&mut part, &mut self.notes)?,
        };
        decoder.begin(&mut part, &mut self.notes)?;
        self.decoder = Some(decoder);
        self.part = Some(part);
        Ok(true)
    }

    /// The format that is read.
    pub const fn format(&self) -> &'static Format {
        self.format
    }

    /// What a person should know: the format and why, what was taken from the file name, how times
    /// are read. Grows while the input is read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of the input, packed as it is; `None` for a stream.
    pub const fn length(&self) -> Option<u64> {
        self.source.length()
    }

    /// Bytes read so far, packed as they are.
    pub fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }
}
