//! A failed statement, as a sink tells it.

use std::error::Error as _;
use std::fmt::Write as _;

use mds_core::{ErrorKind, SinkError};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity};

use super::connect::ConnectError;
use super::pool::PoolError;
use super::{sqlstate, tls};

/// The code where the server did not get to say one.
const CONNECTION: &str = "CONNECTION";
/// The code where the two sides did not agree on TLS.
const TLS: &str = "TLS";
/// The code where we have nothing that the server takes as proof of who we are.
const AUTHENTICATION: &str = "AUTHENTICATION";
/// The code of a server that takes no writes any more.
const READ_ONLY: &str = "25006";

/// What an error means for a write.
pub(crate) fn kind_of(error: &Error) -> ErrorKind {
    if let Some(db) = error.as_db_error() {
        // A policy that the user has made and named refuses a row; that of the tenants has no
        // name in this message, and a row that it refuses is one that the role must not write.
        if db
            .message()
            .starts_with("new row violates row-level security policy \"")
        {
            return ErrorKind::Rejected;
        }
        return sqlstate::kind_of(db.code().code());
    }
    match code_of(error).as_str() {
        TLS | AUTHENTICATION => return ErrorKind::Fatal,
        _ => {}
    }
    let text = error.to_string();
    let is = |start: &str| text.starts_with(start);
    if is("invalid config") {
        return ErrorKind::Fatal;
    }
    if is("error serializing parameter") || is("error deserializing column") {
        return ErrorKind::Unknown;
    }
    ErrorKind::Environment
}

/// The SQLSTATE, or a word of our own.
pub(crate) fn code_of(error: &Error) -> String {
    if let Some(code) = error.code() {
        return code.code().to_owned();
    }
    // The library tells these apart by its text only.
    let text = error.to_string();
    let word = if text.starts_with("error performing TLS handshake") && !was_cut(error) {
        TLS
    } else if text.starts_with("authentication error") || chain(error).contains("password missing")
    {
        AUTHENTICATION
    } else {
        CONNECTION
    };
    word.to_owned()
}

/// Whether the other side went away in the middle of a handshake, and did not refuse it.
fn was_cut(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return io.kind() != std::io::ErrorKind::InvalidData;
        }
        source = cause.source();
    }
    false
}

/// What the server said, with the names that it gave, or what went wrong on the way; and what to do
/// about it.
pub(crate) fn text_of(error: &Error) -> String {
    let (mut text, advice) = match error.as_db_error() {
        Some(db) => {
            // Whoever reads of a refused row knows what to do.
            let is_row = kind_of(error) == ErrorKind::Rejected;
            let advice = sqlstate::advice_on(db.code().code()).filter(|_| !is_row);
            (text_of_db(db), advice)
        }
        None => (chain(error), advice_on(error)),
    };
    if let Some(advice) = advice {
        // Writing into memory cannot fail.
        _ = write!(text, "; {advice}");
    }
    text
}

/// An error with what is underneath.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let next_text = next.to_string();
        // An error of the system says again what it holds.
        if !text.ends_with(&next_text) {
            _ = write!(text, ": {next_text}");
        }
        source = next.source();
    }
    text
}

/// What to do where the server did not get to say anything.
fn advice_on(error: &Error) -> Option<&'static str> {
    match code_of(error).as_str() {
        TLS => Some(tls::advice_on(error)),
        AUTHENTICATION => Some("give a password in the URL, PGPASSWORD or ~/.pgpass"),
        _ if error.to_string().starts_with("error connecting to server") => {
            Some("is the server running, and are host and port right?")
        }
        _ => None,
    }
}

fn text_of_db(db: &DbError) -> String {
    let mut text = db.message().to_owned();
    let parts = [
        ("constraint", db.constraint()),
        ("column", db.column().or_else(|| copied_column(db))),
        ("table", db.table()),
    ];
    let named: Vec<_> = parts
        .iter()
        .filter_map(|(what, name)| name.map(|name| format!("{what} {name}")))
        .collect();
    if !named.is_empty() {
        _ = write!(text, " ({})", named.join(", "));
    }
    if let Some(detail) = db.detail() {
        _ = write!(text, "; {detail}");
    }
    text
}

/// Where a COPY stopped: `COPY bars, line 8, column volume: "..."`, behind the places of triggers.
fn copied_place(db: &DbError) -> Option<&str> {
    let mut places = db.where_()?.lines().rev();
    places.find_map(|place| place.strip_prefix("COPY "))
}

fn copied_column(db: &DbError) -> Option<&str> {
    let (_, column) = copied_place(db)?.split_once(", column ")?;
    column.split(':').next()
}

/// The number of the row that a COPY stopped at, from 1.
pub(crate) fn copied_line(error: &Error) -> Option<usize> {
    let (_, line) = copied_place(error.as_db_error()?)?.split_once(", line ")?;
    let digits = line.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Lock not available, query canceled, configuration limit exceeded.
const LATE_ALONE: [&str; 3] = ["55P03", "57014", "53400"];

/// What it means, its code, and what is said, where no session was lent.
pub(crate) fn of_connecting(error: &PoolError<ConnectError>) -> (ErrorKind, String, String) {
    let PoolError::Connect(error) = error else {
        let text = "the store is closed".to_owned();
        return (ErrorKind::Environment, "CLOSED".to_owned(), text);
    };
    let (kind, code) = match &**error {
        ConnectError::Postgres(error) => {
            return (kind_of(error), code_of(error), text_of(error));
        }
        ConnectError::Tls(_) => (ErrorKind::Fatal, TLS),
        ConnectError::Name { .. } | ConnectError::Silent { .. } => {
            (ErrorKind::Environment, CONNECTION)
        }
    };
    (kind, code.to_owned(), chain(&**error))
}

/// Whether what failed may go well in another session: the server has ended this one or takes no
/// writes any more, or the role has other settings by now.
pub(crate) fn wants_new_session(error: &SinkError) -> bool {
    let has_ended = error
        .source()
        .and_then(|source| source.downcast_ref::<Error>())
        .and_then(Error::as_db_error)
        .and_then(DbError::parsed_severity)
        .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic));
    has_ended
        || matches!(error.kind(), ErrorKind::Fatal | ErrorKind::Unknown)
        || error.code() == READ_ONLY
}

/// An error in words for a person.
#[derive(Debug)]
pub(crate) struct Told {
    text: String,
    /// For whoever prints it in full.
    _error: Box<dyn std::error::Error + Send + Sync>,
}

impl Told {
    pub(crate) fn new(text: String, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            text,
            _error: Box::new(error),
        }
    }
}

impl From<Error> for Told {
    fn from(error: Error) -> Self {
        Self::new(text_of(&error), error)
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Told {}

/// The error of a write of late rows: where other rows are written, a lock on an old chunk (it is
/// being compressed) or a limit of TimescaleDB says nothing about the server.
pub(crate) fn of_late_rows(error: SinkError) -> SinkError {
    if !LATE_ALONE.contains(&error.code()) {
        return error;
    }
    let text = format!("late rows, of chunks that are compressed or will be: {error}");
    let told = SinkError::new(ErrorKind::Transient, error.code().to_owned(), text);
    let told = if error.outcome_unknown() {
        told.with_unknown_outcome()
    } else {
        told
    };
    told.with_source(error)
}

/// The error of a write.
pub(crate) fn sink_error(dsn: &str, error: Error) -> SinkError {
    let message = format!("{dsn}: {}", text_of(&error));
    SinkError::new(kind_of(&error), code_of(&error), message).with_source(error)
}
