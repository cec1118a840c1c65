//! From the bytes of a body to rows that can be handed in.

use std::collections::VecDeque;
use std::io::{Cursor, ErrorKind};
use std::time::SystemTime;

use bytes::Bytes;
use mds_coordinator::ClockError;
use mds_core::revision::MAX_AHEAD_MICROS;
use mds_core::{Sourced, Timestamp};
use mds_formats::{
    InvalidRow, Limits as SourceLimits, OpenError, Options, ReadError, Row, Source, Verdict, reader,
};
use serde::Serialize;

use super::{ERRORS, LATER};
use crate::app::Limits;
use crate::lane::{MarketRecord, Revisions};
use crate::problem::{Code, Problem};

/// Bytes of a value that are shown.
const SHOWN: usize = 200;
/// The least bytes that a line may have, whatever the limit of a body is.
const LINE: usize = 64 << 10;
/// Verdicts at a time.
const CHUNK: usize = 1_000;

/// A row that was refused, and why.
#[derive(Debug, Serialize)]
pub(super) struct RowError {
    /// Its place among the records and bad rows of the body, from 0.
    pub(super) index: u64,
    /// Its line, from 1; for a JSON array the number of its record.
    pub(super) line: u64,
    pub(super) field: String,
    /// A word of a closed set.
    pub(super) code: &'static str,
    pub(super) reason: String,
    pub(super) value: String,
}

impl RowError {
    fn of(bad: &InvalidRow) -> Self {
        Self {
            index: bad.ordinal,
            line: bad.origin.line,
            field: bad.field.to_string(),
            code: bad.code,
            reason: bad.rule.to_string(),
            value: cropped(&bad.value),
        }
    }

    fn ahead<R: MarketRecord>(row: &Row<R>) -> Self {
        Self {
            index: row.ordinal,
            line: row.sourced.origin.as_ref().map_or(0, |origin| origin.line),
            field: "revision".to_owned(),
            code: "revision_ahead",
            reason: "a revision cannot be more than 5 minutes ahead of the clock".to_owned(),
            value: row.sourced.record.revision().to_string(),
        }
    }
}

fn cropped(text: &str) -> String {
    let mut end = text.len().min(SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// What is known of a body beside its bytes.
#[derive(Debug)]
pub(super) struct Request {
    /// What it is called in letters and messages.
    pub(super) path: String,
    pub(super) options: Options,
    pub(super) limits: Limits,
}

/// The rows of a body.
#[derive(Debug)]
pub(super) struct Parsed<R> {
    pub(super) rows: VecDeque<Sourced<R>>,
    /// The place of each in the body.
    pub(super) indexes: VecDeque<u64>,
    pub(super) received: u64,
    pub(super) skipped: u64,
    pub(super) refused: u64,
    /// The first of the refused.
    pub(super) errors: Vec<RowError>,
}

/// Reads a body to its end, and gives its rows their revisions; blocks.
pub(super) fn parse<R: MarketRecord>(
    body: Bytes,
    request: &Request,
    revisions: &Revisions,
) -> Result<Parsed<R>, Problem> {
    let most = request.limits.body_bytes as u64;
    let limits = SourceLimits {
        line_bytes: request.limits.body_bytes.max(LINE),
        document_bytes: most,
        unpacked_bytes: most,
    };
    let source = Source::from_reader(&request.path, Cursor::new(body), limits);
    let source = source.map_err(|error| not_opened(&error, most))?;
    let read = reader::<R>(source, &request.options);
    let mut read = read.map_err(|error| not_opened(&error, most))?;
    let mut parsed = Parsed {
        rows: VecDeque::new(),
        indexes: VecDeque::new(),
        received: 0,
        skipped: 0,
        refused: 0,
        errors: Vec::new(),
    };
    let latest = now().micros().saturating_add(MAX_AHEAD_MICROS);
    let mut verdicts = Vec::with_capacity(CHUNK);
    loop {
        let got = read.next_chunk(&mut verdicts, CHUNK);
        if got.map_err(|error| not_read(&error, most))? == 0 {
            break;
        }
        for verdict in verdicts.drain(..) {
            parsed.take(verdict, latest);
        }
    }
    revise(&mut parsed.rows, revisions)?;
    Ok(parsed)
}

impl<R: MarketRecord> Parsed<R> {
    fn take(&mut self, verdict: Verdict<R>, latest: i64) {
        let error = match verdict {
            Verdict::Skipped { .. } => {
                self.skipped += 1;
                return;
            }
            Verdict::Record(row) if row.sourced.record.revision() <= latest => {
                self.received += 1;
                self.indexes.push_back(row.ordinal);
                self.rows.push_back(row.sourced);
                return;
            }
            Verdict::Record(row) => RowError::ahead(&row),
            Verdict::Invalid(bad) => RowError::of(&bad),
        };
        self.received += 1;
        self.refuse(error);
    }

    /// The first row is too large for the queue.
    pub(super) fn refuse_first(&mut self) {
        if let (Some(row), Some(index)) = (self.rows.pop_front(), self.indexes.pop_front()) {
            self.refuse(RowError {
                index,
                line: row.origin.map_or(0, |origin| origin.line),
                field: "line".to_owned(),
                code: "too_large",
                reason: "the row is larger than the queue takes".to_owned(),
                value: String::new(),
            });
        }
    }

    fn refuse(&mut self, error: RowError) {
        self.refused += 1;
        if self.errors.len() < ERRORS {
            self.errors.push(error);
        }
    }
}

/// Gives revisions to the rows that brought none, in their order, so that the later line wins. A bar
/// that is not over as of its revision is provisional.
fn revise<R: MarketRecord>(
    rows: &mut VecDeque<Sourced<R>>,
    revisions: &Revisions,
) -> Result<(), Problem> {
    let failed = |error: ClockError| {
        let detail = format!("no revision can be given, since the disk fails: {error}");
        Problem::new(Code::DiskFailed, detail).retry_after(LATER)
    };
    let wanted = rows.iter().filter(|row| row.record.revision() == 0).count();
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    if let Some(brought) = rows.iter().map(|row| row.record.revision()).max()
        && brought > 0
    {
        revisions.observe(brought).map_err(failed)?;
    }
    let mut next = 0;
    if wanted > 0 {
        next = revisions.take(now(), wanted).map_err(failed)?;
    }
    for row in rows {
        if row.record.revision() == 0 {
            row.record.set_revision(next);
            next += 1;
        }
        let as_of = Timestamp::from_micros(row.record.revision());
        row.record.mark_provisional(as_of);
    }
    Ok(())
}

fn not_opened(error: &OpenError, limit: u64) -> Problem {
    match error {
        OpenError::Io { source, .. } if source.kind() == ErrorKind::FileTooLarge => {
            unpacked_too_large(limit)
        }
        OpenError::Io { source, .. } => {
            let detail = format!("the body cannot be unpacked: {source}");
            Problem::new(Code::BadGzip, detail)
        }
        other => Problem::new(Code::Malformed, other.to_string()),
    }
}

fn not_read(error: &ReadError, limit: u64) -> Problem {
    match error {
        ReadError::Io { source, .. } if source.kind() == ErrorKind::FileTooLarge => {
            unpacked_too_large(limit)
        }
        ReadError::TooLarge { .. } => unpacked_too_large(limit),
        ReadError::Io { line, source, .. } => {
            let detail = format!("the body cannot be unpacked after line {line}: {source}");
            Problem::new(Code::BadGzip, detail)
        }
        ReadError::Malformed { line, reason, .. } => {
            Problem::new(Code::Malformed, format!("line {line}: {reason}")).with("line", *line)
        }
        ReadError::Json { line, source, .. } => {
            Problem::new(Code::Malformed, format!("line {line}: {source}")).with("line", *line)
        }
        other => Problem::new(Code::Malformed, other.to_string()),
    }
}

fn unpacked_too_large(limit: u64) -> Problem {
    let detail = format!("the body unpacks to more than {limit} bytes; send the rows in parts");
    Problem::new(Code::UnpackedTooLarge, detail).with("limit_bytes", limit)
}

pub(super) fn now() -> Timestamp {
    let elapsed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}
