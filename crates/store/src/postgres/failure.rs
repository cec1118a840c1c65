//! A failed statement, as a sink tells it.

use std::fmt::Write as _;

use mds_core::{ErrorKind, SinkError};
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use super::connect::ConnectError;
use super::pool::PoolError;
use super::sqlstate;

/// The code where the server did not get to say one.
const CONNECTION: &str = "CONNECTION";
/// The code of a server that takes no writes any more.
const READ_ONLY: &str = "25006";

/// What an error means for a write.
pub(crate) fn kind_of(error: &Error) -> ErrorKind {
    if let Some(db) = error.as_db_error() {
        return sqlstate::kind_of(db.code().code());
    }
    // The library tells these apart by its text only.
    let text = error.to_string();
    let is = |start: &str| text.starts_with(start);
    if is("error performing TLS handshake") || is("authentication error") || is("invalid config") {
        return ErrorKind::Fatal;
    }
    if is("error serializing parameter") || is("error deserializing column") {
        return ErrorKind::Unknown;
    }
    ErrorKind::Environment
}

/// The SQLSTATE, or a word of our own.
pub(crate) fn code_of(error: &Error) -> String {
    error
        .code()
        .map_or_else(|| CONNECTION.to_owned(), |code| code.code().to_owned())
}

/// What the server said, with the names that it gave; or what went wrong on the way.
pub(crate) fn text_of(error: &Error) -> String {
    error.as_db_error().map_or_else(|| chain(error), text_of_db)
}

/// An error with what is underneath.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        // Writing into memory cannot fail.
        _ = write!(text, ": {next}");
        source = next.source();
    }
    text
}

fn text_of_db(db: &DbError) -> String {
    let mut text = db.message().to_owned();
    let parts = [
        ("constraint", db.constraint()),
        ("column", db.column()),
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
        ConnectError::Tls(_) => (ErrorKind::Fatal, "TLS"),
        ConnectError::Name { .. } | ConnectError::Silent { .. } => {
            (ErrorKind::Environment, CONNECTION)
        }
    };
    (kind, code.to_owned(), chain(&**error))
}

/// Whether what failed may go well in another session: this one's server takes no writes any more,
/// or the role has other settings by now.
pub(crate) fn wants_new_session(error: &SinkError) -> bool {
    matches!(error.kind(), ErrorKind::Fatal | ErrorKind::Unknown) || error.code() == READ_ONLY
}

/// The error of a write.
pub(crate) fn sink_error(dsn: &str, error: Error) -> SinkError {
    let message = format!("{dsn}: {}", text_of(&error));
    SinkError::new(kind_of(&error), code_of(&error), message).with_source(error)
}
