//! What a format implements: from the lines of a part to verdicts.
//!
//! Most formats are lines and implement [`LineDecoder`], or rows of delimited fields and implement
//! [`RowDecoder`](crate::delimited::RowDecoder); both are driven here and there in loops without a
//! virtual call per row. A format that is one document implements [`Decoder`] itself.

use std::sync::Arc;

use mds_core::{Origin, Record, Sourced};

use crate::error::ReadError;
use crate::input::{Line, Part};
use crate::verdict::{Fault, InvalidRow, RAW_LIMIT, Row, Verdict, start_of_bytes};

/// Turns one part of an input into verdicts.
pub(crate) trait Decoder<R>: Send {
    /// Starts on the part; each has a decoder of its own.
    fn begin(&mut self, _part: &mut Part, _notes: &mut Vec<String>) -> Result<(), ReadError> {
        Ok(())
    }

    /// Reads on until `verdicts` has about `max` verdicts or the part ends; false at its end.
    fn fill(
        &mut self,
        part: &mut Part,
        verdicts: &mut Verdicts<'_, R>,
        max: usize,
    ) -> Result<bool, ReadError>;
}

/// Where verdicts go.
#[derive(Debug)]
pub(crate) struct Verdicts<'a, R> {
    pub(crate) out: &'a mut Vec<Verdict<R>>,
    /// Rows that were read so far, records and invalid ones.
    pub(crate) rows: &'a mut u64,
    pub(crate) path: Arc<str>,
    /// What a person should know.
    pub(crate) notes: &'a mut Vec<String>,
}

/// Where the verdicts of one line go.
#[derive(Debug)]
pub(crate) struct Out<'v, 'o, R> {
    verdicts: &'v mut Verdicts<'o, R>,
    line: u64,
    raw: &'v str,
}

impl<'o, R: Record> Verdicts<'o, R> {
    /// The verdicts of the line `line`, which reads `raw`.
    pub(crate) const fn at<'v>(&'v mut self, line: u64, raw: &'v str) -> Out<'v, 'o, R> {
        Out {
            verdicts: self,
            line,
            raw,
        }
    }

    fn ordinal(&mut self) -> u64 {
        let ordinal = *self.rows;
        *self.rows += 1;
        ordinal
    }

    fn invalid(&mut self, line: u64, raw: &[u8], cut: bool, fault: Fault) {
        // Cropped before it is copied: a line may be much longer than what is kept of it.
        let kept = start_of_bytes(raw, RAW_LIMIT);
        let truncated = cut || kept.len() < raw.len();
        let raw = kept.to_vec();
        let ordinal = self.ordinal();
        self.out.push(Verdict::Invalid(Box::new(InvalidRow {
            origin: Origin {
                path: Arc::clone(&self.path),
                line,
            },
            ordinal,
            raw,
            truncated,
            field: fault.field,
            value: fault.value,
            rule: fault.rule,
            code: fault.code,
        })));
    }
}

impl<R: Record> Out<'_, '_, R> {
    /// A record: brings it into normal form and validates it.
    pub(crate) fn record(&mut self, mut record: R) {
        record.normalize();
        if let Err(invalid) = record.validate() {
            return self.invalid(invalid.into());
        }
        let ordinal = self.verdicts.ordinal();
        let origin = Some(Origin {
            path: Arc::clone(&self.verdicts.path),
            line: self.line,
        });
        self.verdicts.out.push(Verdict::Record(Row {
            sourced: Sourced { record, origin },
            ordinal,
        }));
    }

    /// A row that is no record.
    pub(crate) fn invalid(&mut self, fault: Fault) {
        self.verdicts
            .invalid(self.line, self.raw.as_bytes(), false, fault);
    }

    /// Tells a person something about the input, once.
    pub(crate) fn note(&mut self, note: &str) {
        if !self.verdicts.notes.iter().any(|told| told == note) {
            self.verdicts.notes.push(note.to_owned());
        }
    }

    /// A row that the format maps to no record.
    pub(crate) fn skip(&mut self, reason: &'static str) {
        self.verdicts.out.push(Verdict::Skipped {
            line: self.line,
            reason,
        });
    }
}

/// A format whose lines each are rows of their own.
pub(crate) trait LineDecoder<R>: Send {
    /// Decodes one line that is not blank; the error makes the line invalid.
    fn line(&mut self, line: &str, out: &mut Out<'_, '_, R>) -> Result<(), Fault>;
}

/// Drives a [`LineDecoder`].
#[derive(Debug)]
pub(crate) struct ByLine<D>(pub(crate) D);

impl<R: Record, D: LineDecoder<R>> Decoder<R> for ByLine<D> {
    fn fill(
        &mut self,
        part: &mut Part,
        verdicts: &mut Verdicts<'_, R>,
        max: usize,
    ) -> Result<bool, ReadError> {
        while verdicts.out.len() < max {
            let line = match part.lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(false),
                Err(error) => return Err(part.failed(error)),
            };
            let Some(text) = text_of(&line, verdicts) else {
                continue;
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let mut out = verdicts.at(line.number, text);
            if let Err(fault) = self.0.line(text, &mut out) {
                out.invalid(fault);
            }
        }
        Ok(true)
    }
}

/// The line as text, unless it is over-long or not UTF-8, which makes it an invalid row.
pub(crate) fn text_of<'l, R: Record>(
    line: &Line<'l>,
    verdicts: &mut Verdicts<'_, R>,
) -> Option<&'l str> {
    if line.over_long {
        let fault = Fault::line("line_too_long", "a line may not be longer than the limit");
        verdicts.invalid(line.number, line.bytes, true, fault);
        return None;
    }
    let text = str::from_utf8(line.bytes).ok();
    if text.is_none() {
        let fault = Fault::line("not_utf8", "a line must be UTF-8 text");
        verdicts.invalid(line.number, line.bytes, false, fault);
    }
    text
}
