//! What can go wrong with an input as a whole.
//!
//! A row that cannot be read is never an error of these types: it is a
//! [`Verdict::Invalid`](crate::Verdict::Invalid). [`OpenError`] says that the input could not be
//! started on, [`ReadError`] that it could not be finished; rows delivered before stay good.

use std::fmt;
use std::io;

use mds_core::Kind;

/// A format that an input may be, and why it is thought so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name to pass as `--format`.
    pub format: &'static str,
    /// What speaks for it.
    pub why: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--format {} ({})", self.format, self.why)
    }
}

/// The candidates, in one line.
fn list(candidates: &[Candidate]) -> String {
    let shown: Vec<String> = candidates.iter().map(ToString::to_string).collect();
    shown.join("; ")
}

/// How the message about an unrecognised input ends.
fn advice(candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        "pass --format, or --map field=column for a delimited file (docs/formats.md lists both)"
            .to_owned()
    } else {
        format!("it might be: {}; pass one of them", list(candidates))
    }
}

/// Why an input could not be started on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {operation} {path}")]
    Io {
        /// The file, as the user named it.
        path: String,
        /// What was tried.
        operation: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The zip archive's table of contents cannot be read.
    #[error("cannot read the table of contents of {path}")]
    Archive {
        /// The file, as the user named it.
        path: String,
        /// What is wrong with it.
        #[source]
        source: zip::result::ZipError,
    },
    /// An entry of the zip archive cannot be read by this program.
    #[error("cannot read {path}: {reason}; unpack the archive and pass its files")]
    ArchiveEntry {
        /// The archive and the entry.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The bytes are text in another encoding than UTF-8.
    #[error("{path} is UTF-16 text; convert it to UTF-8 (iconv -f {encoding} -t UTF-8) first")]
    Utf16 {
        /// The file, as the user named it.
        path: String,
        /// The encoding, as `iconv` calls it.
        encoding: &'static str,
    },
    /// The bytes are no text of records at all.
    #[error("{path} is {what}; {advice}")]
    Foreign {
        /// The file, as the user named it.
        path: String,
        /// What it is.
        what: &'static str,
        /// What to do with it.
        advice: &'static str,
    },
    /// Lines end as they did on old computers.
    #[error("{path}: lines end in CR; convert: tr '\\r' '\\n'")]
    CrLines {
        /// The file, as the user named it.
        path: String,
    },
    /// The line that should be the header cannot be it.
    #[error("{path}: {reason}")]
    Header {
        /// The file, as the user named it.
        path: String,
        /// The line, what is wrong with it, and what to do.
        reason: String,
    },
    /// No format fits the input.
    #[error("{path} is not recognised: {reason}; {}", advice(candidates))]
    NotRecognised {
        /// The file, as the user named it.
        path: String,
        /// What was seen instead.
        reason: String,
        /// Formats that come near.
        candidates: Vec<Candidate>,
    },
    /// More than one format fits the input.
    #[error(
        "{path} fits more than one format: {}; pass one of them",
        list(candidates)
    )]
    Ambiguous {
        /// The file, as the user named it.
        path: String,
        /// The formats that fit.
        candidates: Vec<Candidate>,
    },
    /// The format holds records of another kind.
    #[error("{path} is in format {format}, which holds {holds}, not {kind}")]
    OtherKind {
        /// The file, as the user named it.
        path: String,
        /// The format.
        format: &'static str,
        /// The kind that was asked for.
        kind: Kind,
        /// The kinds that the format holds, as text.
        holds: String,
    },
    /// The format holds the kind, but the fields are those of others.
    #[error("{path} is in format {format}, and its fields are those of {fields}, not of {kind}")]
    OtherFields {
        /// The file, as the user named it.
        path: String,
        /// The format.
        format: &'static str,
        /// The kind that was asked for.
        kind: Kind,
        /// The kinds whose fields they are, as text.
        fields: String,
    },
    /// A key part that neither the file nor its name nor an option gives.
    #[error("{path}: {format} needs the {field}: {looked}; pass {flag}")]
    Missing {
        /// The file, as the user named it.
        path: String,
        /// The format.
        format: &'static str,
        /// The key part.
        field: &'static str,
        /// Where it was looked for.
        looked: String,
        /// What to pass.
        flag: &'static str,
    },
    /// A time without an offset, and no zone to read it in.
    #[error(
        "{path}: the time {example:?} has no offset; pass --tz with the zone of the file, such as --tz America/New_York"
    )]
    NoTimeZone {
        /// The file, as the user named it.
        path: String,
        /// The first time of the file.
        example: String,
    },
    /// An option that the input contradicts, or that does not fit the format.
    #[error("{path}: {flag} {value}: {reason}")]
    Option {
        /// The file, as the user named it.
        path: String,
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl OpenError {
    /// Whether the user's words or choice of file are to blame (exit code 2), rather than the
    /// machine or damage (exit code 1).
    pub const fn is_usage(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Archive { .. })
    }
}

/// What a JSON parser said, without a line: it counts from the start of what it was given.
#[derive(Debug)]
pub struct JsonFault(serde_json::Error);

impl From<serde_json::Error> for JsonFault {
    fn from(error: serde_json::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = (self.0.line(), self.0.column());
        let said = self.0.to_string();
        let reason = said.strip_suffix(&format!(" at line {line} column {column}"));
        f.write_str(reason.unwrap_or(&said))?;
        if line == 1 {
            write!(f, " (column {column})")?;
        }
        Ok(())
    }
}

impl std::error::Error for JsonFault {}

/// Why reading stopped before the end. Everything delivered before is good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Reading or unpacking failed: a truncated archive, a bad checksum, a broken disk.
    #[error("cannot {operation} {path} after line {line}")]
    Io {
        /// The file, as the user named it; an entry of an archive follows after `!`.
        path: String,
        /// What was tried.
        operation: &'static str,
        /// The last line that was read whole; 0 where there was none.
        line: u64,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The structure is broken so that nothing after it can be told apart.
    #[error("{path}, line {line}: {reason}")]
    Malformed {
        /// The file, as the user named it; an entry of an archive follows after `!`.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The document is not the JSON that the format asks for.
    #[error("{path}, line {line}: the JSON document cannot be read on")]
    Json {
        /// The file, as the user named it; an entry of an archive follows after `!`.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What the parser said.
        #[source]
        source: JsonFault,
    },
    /// A later entry of an archive that could not have been started on by itself.
    #[error(
        "{path}: the entry cannot be read, and nothing of it was taken; unpack the archive and \
         ingest it separately"
    )]
    Entry {
        /// The archive and, after `!`, the entry.
        path: String,
        /// What is wrong with the entry.
        #[source]
        source: Box<OpenError>,
    },
    /// A later entry of an archive that is not as the first one.
    #[error(
        "{path}: {reason}; nothing of it was taken: unpack the archive and ingest it separately"
    )]
    EntryDiffers {
        /// The archive and, after `!`, the entry.
        path: String,
        /// In what it differs.
        reason: String,
    },
    /// An entry of an archive whose name does not say what the first one's did.
    #[error("{path}: neither the entry nor its name gives the {field}; pass {flag}")]
    Missing {
        /// The file, as the user named it; an entry of an archive follows after `!`.
        path: String,
        /// The key part.
        field: &'static str,
        /// What to pass.
        flag: &'static str,
    },
    /// More bytes than the limit allows.
    #[error("{path} unpacks to more than {limit} bytes, the limit for {what}")]
    TooLarge {
        /// The file, as the user named it; an entry of an archive follows after `!`.
        path: String,
        /// Bytes.
        limit: u64,
        /// What the limit is for.
        what: &'static str,
    },
}
