//! Rows of fields with a delimiter between them (RFC 4180 quoting).
//!
//! The `csv` crate is not used: one stray quote makes it take the rest of the file for one field.
//! Here a quoted field goes on over line ends only where the format has such fields, the joined
//! text is well formed and short; otherwise the bad line is one invalid row and the next line
//! stands for itself. The fields of well-formed text are those that the `csv` crate finds (a test
//! compares them).

use mds_core::Record;
use std::io;

use memchr::{memchr, memchr_iter};

use crate::decode::{Decoder, Out, Verdicts, text_of};
use crate::error::ReadError;
use crate::input::{Line, Lines, Part};
use crate::verdict::Fault;

/// How far a quoted field may go on over line ends, in bytes.
pub(crate) const JOINED_BYTES: usize = 256 * 1024;

/// Where the fields of one row lie.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    spans: Vec<Span>,
    /// Fields that had doubled quotes, with single ones.
    unescaped: String,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    unescaped: bool,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fielded<'a> {
    text: &'a str,
    fields: &'a Fields,
}

impl<'a> Fielded<'a> {
    /// How many fields the row has.
    pub(crate) const fn len(&self) -> usize {
        self.fields.spans.len()
    }

    /// The field at `index`, from 0; empty where there is none.
    pub(crate) fn get(&self, index: usize) -> &'a str {
        let Some(span) = self.fields.spans.get(index) else {
            return "";
        };
        let from = if span.unescaped {
            &self.fields.unescaped
        } else {
            self.text
        };
        &from[span.start..span.end]
    }

    /// The fields in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let row = *self;
        (0..row.len()).map(move |index| row.get(index))
    }
}

impl Fields {
    /// Splits `text` at `delimiter`.
    pub(crate) fn split<'a>(
        &'a mut self,
        text: &'a str,
        delimiter: u8,
    ) -> Result<Fielded<'a>, Fault> {
        self.spans.clear();
        let bytes = text.as_bytes();
        if memchr(b'"', bytes).is_none() {
            let mut start = 0;
            for end in memchr_iter(delimiter, bytes) {
                self.push(start, end);
                start = end + 1;
            }
            self.push(start, bytes.len());
        } else {
            self.unescaped.clear();
            self.split_quoted(text, delimiter)?;
        }
        Ok(Fielded { text, fields: self })
    }

    fn push(&mut self, start: usize, end: usize) {
        self.spans.push(Span {
            start,
            end,
            unescaped: false,
        });
    }

    fn split_quoted(&mut self, text: &str, delimiter: u8) -> Result<(), Fault> {
        let bytes = text.as_bytes();
        let mut start = 0;
        loop {
            let end = if bytes.get(start) == Some(&b'"') {
                self.quoted_field(text, start + 1)?
            } else {
                let rest = &bytes[start..];
                let end = memchr(delimiter, rest).map_or(bytes.len(), |at| start + at);
                // Only a quoted field may go on over a line end.
                if memchr(b'\n', &bytes[start..end]).is_some() {
                    return Err(Fault::line("quoting", "a quote must be closed"));
                }
                self.push(start, end);
                end
            };
            match bytes.get(end) {
                None => return Ok(()),
                Some(&b) if b == delimiter => start = end + 1,
                Some(_) => {
                    let rule = "a closing quote must be followed by the delimiter";
                    return Err(Fault::line("quoting", rule));
                }
            }
        }
    }

    /// Takes the field whose opening quote is before `start`; the answer is what follows its
    /// closing quote.
    fn quoted_field(&mut self, text: &str, start: usize) -> Result<usize, Fault> {
        let bytes = text.as_bytes();
        let written = self.unescaped.len();
        let mut from = start;
        loop {
            let Some(at) = memchr(b'"', &bytes[from..]) else {
                return Err(Fault::line("quoting", "a quote must be closed"));
            };
            let quote = from + at;
            if bytes.get(quote + 1) == Some(&b'"') {
                self.unescaped.push_str(&text[from..=quote]);
                from = quote + 2;
                continue;
            }
            if from == start {
                self.push(start, quote);
            } else {
                self.unescaped.push_str(&text[from..quote]);
                self.spans.push(Span {
                    start: written,
                    end: self.unescaped.len(),
                    unescaped: true,
                });
            }
            return Ok(quote + 1);
        }
    }
}

/// The delimiter of a line: the one of comma, semicolon, tab and bar that it has most of; a comma
/// where it has none.
pub(crate) fn delimiter_of(line: &str) -> u8 {
    let count = |delimiter| memchr_iter(delimiter, line.as_bytes()).count();
    [b',', b';', b'\t', b'|']
        .into_iter()
        .rev()
        .max_by_key(|&delimiter| count(delimiter))
        .filter(|&delimiter| count(delimiter) > 0)
        .unwrap_or(b',')
}

/// A format of rows.
pub(crate) trait RowDecoder<R>: Send {
    /// Whether the first line of each part is a header.
    const HEADER: bool;
    /// Whether quoted fields may hold line ends.
    const MULTILINE: bool = false;

    /// Takes the header of a part; the error, a sentence, ends the reading.
    fn header(&mut self, _header: &Fielded<'_>) -> Result<(), String> {
        Ok(())
    }

    /// Whether the first line of a part is a header, for formats that come with and without.
    fn is_header(&self, _first: &Fielded<'_>) -> bool {
        Self::HEADER
    }

    /// How many fields a row must have; `None` means that every number is right.
    fn width(&self) -> Option<usize>;

    /// Decodes one row; the error makes it invalid.
    fn row(&mut self, row: &Fielded<'_>, out: &mut Out<'_, '_, R>) -> Result<(), Fault>;
}

/// Drives a [`RowDecoder`].
#[derive(Debug)]
pub(crate) struct ByRow<D> {
    decoder: D,
    delimiter: u8,
    fields: Fields,
    at_start: bool,
}

impl<D> ByRow<D> {
    pub(crate) fn new(decoder: D, delimiter: u8) -> Self {
        Self {
            decoder,
            delimiter,
            fields: Fields::default(),
            at_start: true,
        }
    }
}

impl<R: Record, D: RowDecoder<R>> Decoder<R> for ByRow<D> {
    fn fill(
        &mut self,
        part: &mut Part,
        verdicts: &mut Verdicts<'_, R>,
        max: usize,
    ) -> Result<bool, ReadError> {
        while verdicts.out.len() < max {
            let (delimiter, fields) = (self.delimiter, &mut self.fields);
            let next = next_line(&mut part.lines, fields, delimiter, D::MULTILINE);
            let line = match next {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(false),
                Err(error) => return Err(part.failed(error)),
            };
            if D::HEADER && self.at_start && is_unreadable(&line) {
                let reason = "the header is not UTF-8, or too long".to_owned();
                return Err(malformed(&part.path, line.number, reason));
            }
            let Some(text) = text_of(&line, verdicts) else {
                continue;
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let mut out = verdicts.at(line.number, text);
            let decoded = match fields.split(text, delimiter) {
                Ok(row) if std::mem::take(&mut self.at_start) && self.decoder.is_header(&row) => {
                    let taken = self.decoder.header(&row);
                    taken.map_err(|reason| malformed(&part.path, line.number, reason))?;
                    continue;
                }
                Ok(row) => decode_row(&mut self.decoder, &row, &mut out),
                Err(fault) if D::HEADER && self.at_start => {
                    let reason = format!("the header cannot be read: {}", fault.rule);
                    return Err(malformed(&part.path, line.number, reason));
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = decoded {
                out.invalid(fault);
            }
        }
        Ok(true)
    }
}

/// Whether a line cannot be taken as text; as a header that is no row, nor is the line behind it.
fn is_unreadable(line: &Line<'_>) -> bool {
    line.over_long || str::from_utf8(line.bytes).is_err()
}

/// The next line of a part, or the next few where a quoted field holds line ends.
fn next_line<'p>(
    lines: &'p mut Lines,
    fields: &mut Fields,
    delimiter: u8,
    multiline: bool,
) -> io::Result<Option<Line<'p>>> {
    if !multiline {
        return lines.next_line();
    }
    lines.next_record(JOINED_BYTES, |joined| {
        str::from_utf8(joined).is_ok_and(|text| fields.split(text, delimiter).is_ok())
    })
}

fn malformed(path: &str, line: u64, reason: String) -> ReadError {
    ReadError::Malformed {
        path: path.to_owned(),
        line,
        reason,
    }
}

fn decode_row<R, D: RowDecoder<R>>(
    decoder: &mut D,
    row: &Fielded<'_>,
    out: &mut Out<'_, '_, R>,
) -> Result<(), Fault> {
    match decoder.width() {
        Some(width) if width != row.len() => Err(Fault::line(
            "column_count",
            format!("a row must have {width} fields, this one has {}", row.len()),
        )),
        _ => decoder.row(row, out),
    }
}
