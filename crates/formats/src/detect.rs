//! Telling a format from the start of an input and from its file name.
//!
//! Every format looks at the same sample and says whether the input is its own. One that says so
//! alone is chosen; none or several are an error that lists what might fit. A format says yes only
//! to what no other vendor writes.

use std::borrow::Cow;

use mds_core::Kind;

use crate::delimited::{Fields, JOINED_BYTES, delimiter_of};
use crate::error::{Candidate, OpenError};
use crate::input::{Name, Part};
use crate::magic::{self, Foreign};
use crate::options::Options;
use crate::own;
use crate::registry::{Format, formats};

/// How much of the unpacked input is looked at.
const SAMPLE_BYTES: usize = 64 * 1024;
/// Lines of a stream that are enough to look at, the second number where the format is given: the
/// first rows must not wait for later ones.
const STREAM_LINES: (usize, usize) = (8, 2);

/// A format's word on a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is the format's own.
    Yes {
        why: String,
        /// The kinds that the sample holds; empty means all kinds of the format.
        kinds: Vec<Kind>,
    },
    /// It may be, but other vendors write the same.
    Maybe(String),
    No,
}

impl Fit {
    pub(crate) fn yes(why: impl Into<String>) -> Self {
        Self::Yes {
            why: why.into(),
            kinds: Vec::new(),
        }
    }
}

/// The start of an input.
#[derive(Debug)]
pub(crate) struct Sample<'a> {
    /// The input, as the user named it.
    pub(crate) path: &'a str,
    /// The names of the first part and of the file around it.
    pub(crate) names: &'a [Name],
    /// The text, up to the last whole line.
    pub(crate) text: Cow<'a, str>,
    /// The kind that is asked for.
    pub(crate) kind: Option<Kind>,
    foreign: Option<Foreign>,
    /// The number of the first line that is not blank, where it is not UTF-8.
    not_utf8: Option<usize>,
}

impl<'a> Sample<'a> {
    /// The start of `part`; `None` is an archive without entries. `is_given`: the user said which
    /// format it is.
    pub(crate) fn of(
        part: Option<&'a mut Part>,
        path: &'a str,
        kind: Option<Kind>,
        is_given: bool,
    ) -> Result<Self, OpenError> {
        let Some(part) = part else {
            return Ok(Self {
                path,
                names: &[],
                text: Cow::Borrowed(""),
                kind,
                foreign: None,
                not_utf8: None,
            });
        };
        let Part {
            names,
            lines,
            is_stream,
            ..
        } = part;
        let enough = match (*is_stream, is_given) {
            (false, _) => usize::MAX,
            (true, false) => STREAM_LINES.0,
            (true, true) => STREAM_LINES.1,
        };
        lines.peek_start(SAMPLE_BYTES, enough);
        if let Some(source) = lines.failed_at_once() {
            return Err(OpenError::Io {
                path: path.to_owned(),
                operation: "read",
                source,
            });
        }
        let (mut bytes, is_all) = lines.peek_start(SAMPLE_BYTES, enough);
        let foreign = magic::foreign(bytes);
        if !is_all && let Some(end) = memchr::memrchr(b'\n', bytes) {
            bytes = &bytes[..=end];
        }
        Ok(Self {
            path,
            names,
            text: String::from_utf8_lossy(bytes),
            kind,
            foreign,
            not_utf8: not_utf8(bytes),
        })
    }

    /// The lines that are not blank.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text
            .lines()
            .filter(|line| !line.trim_ascii().is_empty())
    }

    /// The first line that is not blank.
    pub(crate) fn first_line(&self) -> &str {
        self.lines().next().unwrap_or_default()
    }

    /// The first line, or the first few where a quoted field of delimited text holds line ends.
    pub(crate) fn first_record(&self) -> &str {
        let line = self.first_line();
        let quotes = |text: &str| memchr::memchr_iter(b'"', text.as_bytes()).count();
        if quotes(line).is_multiple_of(2) {
            return line;
        }
        let from = self.text.find(line).unwrap_or_default();
        let text = self.text.get(from..).unwrap_or_default();
        let mut fields = Fields::default();
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
        let mut joined = ends
            .take_while(|&end| end <= JOINED_BYTES)
            .filter_map(|end| text.get(..end))
            .map(|text| text.strip_suffix('\r').unwrap_or(text))
            .skip_while(|text| !quotes(text).is_multiple_of(2));
        match joined.next() {
            Some(joined) if fields.split(joined, delimiter_of(line)).is_ok() => joined,
            _ => line,
        }
    }

    /// The number of the first line that is not blank.
    fn first_number(&self) -> usize {
        let blank = |line: &&str| line.trim_ascii().is_empty();
        1 + self.text.lines().take_while(blank).count()
    }

    /// What is wrong with the first line, for formats with a header: another line stands before it,
    /// or it cannot be read as text.
    pub(crate) fn check_header(&self) -> Result<(), OpenError> {
        let reason = match (self.not_utf8, self.preamble()) {
            (Some(number), _) => format!(
                "the header (line {number}) is not UTF-8; convert it: iconv -f latin1 -t utf8"
            ),
            (None, Some(preamble)) => preamble,
            (None, None) => return Ok(()),
        };
        Err(OpenError::Header {
            path: self.path.to_owned(),
            reason,
        })
    }

    /// The word on a first line that spreadsheets or people put before the header.
    fn preamble(&self) -> Option<String> {
        let mut lines = self.lines();
        let line = lines.next()?.trim();
        let count = |line: &str| {
            let delimiter = delimiter_of(line);
            memchr::memchr_iter(delimiter, line.as_bytes()).count()
        };
        let separator = line.trim_matches('"').get(..4);
        let found = separator.is_some_and(|word| word.eq_ignore_ascii_case("sep="))
            // A header may start with this sign too; a comment has another number of fields.
            || (line.starts_with('#') && lines.next().is_some_and(|next| count(next) != count(line)));
        let number = self.first_number();
        let shown: String = line.chars().take(100).collect();
        found.then(|| format!("line {number} ({shown:?}) stands before the header; remove it"))
    }

    /// The first character that is not blank.
    pub(crate) fn first_char(&self) -> Option<char> {
        self.text.trim_ascii_start().chars().next()
    }

    /// Whether `word` stands in the name of the input.
    pub(crate) fn named(&self, word: &str) -> bool {
        self.names.iter().any(|name| name.has_word(word))
    }

    /// The kinds that may be meant.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        let asked = self.kind;
        Kind::ALL
            .into_iter()
            .filter(move |kind| asked.is_none_or(|asked| asked == *kind))
    }
}

/// What an input was recognised as.
#[derive(Clone, Debug)]
pub struct Detected {
    /// The format.
    pub format: &'static Format,
    /// The kinds of records that it may hold.
    pub kinds: Vec<Kind>,
    /// Why it was chosen.
    pub why: String,
}

/// Chooses the format of an input.
pub(crate) fn choose(sample: &Sample<'_>, options: &Options) -> Result<Detected, OpenError> {
    refuse_foreign(sample)?;
    let given = match options.format {
        Some(format) => Some((format, "as --format says")),
        None if !options.map.is_empty() => Some((&own::csv::FORMAT, "since --map was given")),
        None => None,
    };
    match given {
        Some((format, why)) => given_format(sample, format, why),
        None => detected_format(sample),
    }
}

/// Refuses what is no text of records, whatever the user says.
pub(crate) fn refuse_foreign(sample: &Sample<'_>) -> Result<(), OpenError> {
    let path = sample.path.to_owned();
    Err(match sample.foreign {
        None => return Ok(()),
        Some(Foreign::Utf16(encoding)) => OpenError::Utf16 { path, encoding },
        Some(Foreign::CrLines) => OpenError::CrLines { path },
        Some(Foreign::Other(what, advice)) => OpenError::Foreign { path, what, advice },
    })
}

/// The number of the first line that is not blank, where it is not UTF-8.
fn not_utf8(bytes: &[u8]) -> Option<usize> {
    let mut lines = bytes.split(|&b| b == b'\n').enumerate();
    let (at, line) = lines.find(|(_, line)| !line.trim_ascii().is_empty())?;
    str::from_utf8(line).is_err().then_some(at + 1)
}

fn given_format(
    sample: &Sample<'_>,
    format: &'static Format,
    why: &str,
) -> Result<Detected, OpenError> {
    if let Some(kind) = sample.kind
        && !format.holds(kind)
    {
        return Err(other_kind(sample, format, kind));
    }
    Ok(Detected {
        format,
        kinds: sample.kinds().filter(|kind| format.holds(*kind)).collect(),
        why: why.to_owned(),
    })
}

fn detected_format(sample: &Sample<'_>) -> Result<Detected, OpenError> {
    let mut fitting = Vec::new();
    let mut near = Vec::new();
    for format in formats().iter().copied() {
        match (format.detect)(sample) {
            Fit::Yes { why, kinds } => fitting.push(Detected {
                format,
                kinds: if kinds.is_empty() {
                    format.kinds().collect()
                } else {
                    kinds
                },
                why,
            }),
            Fit::Maybe(why) => near.push(Candidate {
                format: format.name,
                why,
            }),
            Fit::No => {}
        }
    }
    if let Some(kind) = sample.kind
        && let Some(other) = fitting.first().map(|d| (d.format, d.kinds.clone()))
    {
        fitting.retain(|d| d.kinds.contains(&kind));
        if fitting.is_empty() {
            let (format, kinds) = other;
            return Err(if format.holds(kind) {
                other_fields(sample, format, kind, &kinds)
            } else {
                other_kind(sample, format, kind)
            });
        }
    }
    let path = sample.path.to_owned();
    let candidate = |detected: Detected| Candidate {
        format: detected.format.name,
        why: detected.why,
    };
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        0 => Err(OpenError::NotRecognised {
            path,
            reason: describe(sample),
            candidates: near,
        }),
        _ => Err(OpenError::Ambiguous {
            path,
            candidates: fitting.into_iter().map(candidate).collect(),
        }),
    }
}

/// The error for a format that holds other kinds than the one asked for.
pub(crate) fn other_kind(sample: &Sample<'_>, format: &Format, kind: Kind) -> OpenError {
    OpenError::OtherKind {
        path: sample.path.to_owned(),
        format: format.name,
        kind,
        holds: names(format.kinds()),
    }
}

/// The error for a format that holds the kind asked for, in fields that are not those of the input.
fn other_fields(sample: &Sample<'_>, format: &Format, kind: Kind, kinds: &[Kind]) -> OpenError {
    OpenError::OtherFields {
        path: sample.path.to_owned(),
        format: format.name,
        kind,
        fields: names(kinds.iter().copied()),
    }
}

fn names(kinds: impl Iterator<Item = Kind>) -> String {
    kinds.map(Kind::as_str).collect::<Vec<_>>().join(", ")
}

/// What the input looks like, for the message that it was not recognised.
fn describe(sample: &Sample<'_>) -> String {
    // A JSON document may start with a bracket alone on its line.
    let line = match sample.first_char() {
        Some('{' | '[') => &squeezed(&sample.text),
        _ => sample.first_line(),
    };
    let control = |c: char| (c.is_control() && c != '\t') || c == char::REPLACEMENT_CHARACTER;
    if sample.text.is_empty() {
        "it is empty".to_owned()
    } else if let Some(preamble) = sample.preamble() {
        preamble
    } else if line.chars().any(control) {
        "it is not text".to_owned()
    } else {
        let shown: String = line.chars().take(100).collect();
        let dots = if shown.len() < line.len() { ".." } else { "" };
        format!("it starts with {shown:?}{dots}")
    }
}

/// The start of a text, with single blanks between its words.
fn squeezed(text: &str) -> String {
    let words: Vec<&str> = text.split_ascii_whitespace().take(50).collect();
    words.join(" ")
}
