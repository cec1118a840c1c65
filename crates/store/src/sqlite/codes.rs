//! What each SQLite error means for a write: the one table.

use std::borrow::Cow;

use mds_core::ErrorKind;
use rusqlite::Error;

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The database is locked, full, read-only or out of reach: waiting helps.
    Environment,
    /// This attempt failed, the next may not.
    Transient,
    /// This row is refused; its neighbours are not.
    Row,
    /// No retry helps and no row is to blame.
    Fatal,
    /// Nothing is known about it.
    Unknown,
}

impl Class {
    /// The kind of a sink's error.
    pub(crate) const fn kind(self) -> ErrorKind {
        match self {
            Self::Environment => ErrorKind::Environment,
            Self::Transient => ErrorKind::Transient,
            Self::Row => ErrorKind::Rejected,
            Self::Fatal => ErrorKind::Fatal,
            Self::Unknown => ErrorKind::Unknown,
        }
    }
}

/// Result codes (sqlite.org/rescode.html), their names and what they mean. An extended code that is
/// not listed has the meaning of its low byte.
const TABLE: &[(i32, &str, Class)] = &[
    // Malformed statements and missing tables; triggers of users report SQLITE_CONSTRAINT_TRIGGER.
    (1, "SQLITE_ERROR", Class::Fatal),
    (2, "SQLITE_INTERNAL", Class::Unknown),
    (3, "SQLITE_PERM", Class::Environment),
    (4, "SQLITE_ABORT", Class::Transient),
    (5, "SQLITE_BUSY", Class::Environment),
    (6, "SQLITE_LOCKED", Class::Environment),
    (7, "SQLITE_NOMEM", Class::Environment),
    (8, "SQLITE_READONLY", Class::Environment),
    (9, "SQLITE_INTERRUPT", Class::Transient),
    (10, "SQLITE_IOERR", Class::Environment),
    (11, "SQLITE_CORRUPT", Class::Fatal),
    (12, "SQLITE_NOTFOUND", Class::Unknown),
    (13, "SQLITE_FULL", Class::Environment),
    (14, "SQLITE_CANTOPEN", Class::Environment),
    (15, "SQLITE_PROTOCOL", Class::Environment),
    (17, "SQLITE_SCHEMA", Class::Transient),
    (18, "SQLITE_TOOBIG", Class::Row),
    (19, "SQLITE_CONSTRAINT", Class::Row),
    (20, "SQLITE_MISMATCH", Class::Row),
    (21, "SQLITE_MISUSE", Class::Fatal),
    (22, "SQLITE_NOLFS", Class::Fatal),
    (23, "SQLITE_AUTH", Class::Fatal),
    (25, "SQLITE_RANGE", Class::Fatal),
    (26, "SQLITE_NOTADB", Class::Fatal),
    (257, "SQLITE_ERROR_MISSING_COLLSEQ", Class::Fatal),
    (513, "SQLITE_ERROR_RETRY", Class::Transient),
    (769, "SQLITE_ERROR_SNAPSHOT", Class::Transient),
    (516, "SQLITE_ABORT_ROLLBACK", Class::Transient),
    (261, "SQLITE_BUSY_RECOVERY", Class::Environment),
    (517, "SQLITE_BUSY_SNAPSHOT", Class::Environment),
    (773, "SQLITE_BUSY_TIMEOUT", Class::Environment),
    (262, "SQLITE_LOCKED_SHAREDCACHE", Class::Environment),
    (264, "SQLITE_READONLY_RECOVERY", Class::Environment),
    (520, "SQLITE_READONLY_CANTLOCK", Class::Environment),
    (776, "SQLITE_READONLY_ROLLBACK", Class::Environment),
    (1032, "SQLITE_READONLY_DBMOVED", Class::Environment),
    (1288, "SQLITE_READONLY_CANTINIT", Class::Environment),
    (1544, "SQLITE_READONLY_DIRECTORY", Class::Environment),
    (266, "SQLITE_IOERR_READ", Class::Environment),
    (522, "SQLITE_IOERR_SHORT_READ", Class::Environment),
    (778, "SQLITE_IOERR_WRITE", Class::Environment),
    (1034, "SQLITE_IOERR_FSYNC", Class::Environment),
    (1290, "SQLITE_IOERR_DIR_FSYNC", Class::Environment),
    (1546, "SQLITE_IOERR_TRUNCATE", Class::Environment),
    (3082, "SQLITE_IOERR_NOMEM", Class::Environment),
    (3850, "SQLITE_IOERR_LOCK", Class::Environment),
    (4874, "SQLITE_IOERR_SHMSIZE", Class::Environment),
    (8202, "SQLITE_IOERR_DATA", Class::Fatal),
    (8458, "SQLITE_IOERR_CORRUPTFS", Class::Fatal),
    (267, "SQLITE_CORRUPT_VTAB", Class::Fatal),
    (523, "SQLITE_CORRUPT_SEQUENCE", Class::Fatal),
    (779, "SQLITE_CORRUPT_INDEX", Class::Fatal),
    (270, "SQLITE_CANTOPEN_NOTEMPDIR", Class::Environment),
    (526, "SQLITE_CANTOPEN_ISDIR", Class::Environment),
    (275, "SQLITE_CONSTRAINT_CHECK", Class::Row),
    (531, "SQLITE_CONSTRAINT_COMMITHOOK", Class::Row),
    (787, "SQLITE_CONSTRAINT_FOREIGNKEY", Class::Row),
    (1043, "SQLITE_CONSTRAINT_FUNCTION", Class::Row),
    (1299, "SQLITE_CONSTRAINT_NOTNULL", Class::Row),
    (1555, "SQLITE_CONSTRAINT_PRIMARYKEY", Class::Row),
    (1811, "SQLITE_CONSTRAINT_TRIGGER", Class::Row),
    (2067, "SQLITE_CONSTRAINT_UNIQUE", Class::Row),
    (2323, "SQLITE_CONSTRAINT_VTAB", Class::Row),
    (3091, "SQLITE_CONSTRAINT_DATATYPE", Class::Row),
];

fn entry(code: i32) -> Option<&'static (i32, &'static str, Class)> {
    TABLE.iter().find(|(c, ..)| *c == code)
}

/// What an extended result code means.
pub(crate) fn class_of(extended: i32) -> Class {
    entry(extended)
        .or_else(|| entry(extended & 0xff))
        .map_or(Class::Unknown, |(_, _, class)| *class)
}

/// The name of an extended result code.
pub(crate) fn name_of(extended: i32) -> Cow<'static, str> {
    if let Some((_, name, _)) = entry(extended) {
        return Cow::Borrowed(name);
    }
    match entry(extended & 0xff) {
        Some((_, name, _)) => Cow::Owned(format!("{name}_{}", extended >> 8)),
        None => Cow::Owned(format!("SQLITE_{extended}")),
    }
}

/// What an error means.
pub(crate) fn classify(error: &Error) -> Class {
    match error {
        Error::SqliteFailure(e, _) => class_of(e.extended_code),
        Error::SqlInputError { error, .. } => class_of(error.extended_code),
        // A value of the row at hand, or of the stored row of its key, cannot be converted.
        Error::ToSqlConversionFailure(_)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => Class::Row,
        Error::InvalidColumnIndex(_)
        | Error::InvalidColumnName(_)
        | Error::InvalidParameterCount(..)
        | Error::InvalidParameterName(_)
        | Error::InvalidQuery
        | Error::ExecuteReturnedResults
        | Error::MultipleStatement => Class::Fatal,
        _ => Class::Unknown,
    }
}

/// The short code of an error.
pub(crate) fn code(error: &Error) -> Cow<'static, str> {
    match error {
        Error::SqliteFailure(e, _) => name_of(e.extended_code),
        Error::SqlInputError { error, .. } => name_of(error.extended_code),
        Error::ToSqlConversionFailure(_) => Cow::Borrowed("NOT_STORABLE"),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => Cow::Borrowed("STORED_ROW_UNREADABLE"),
        _ => Cow::Borrowed("SQLITE_MISUSE"),
    }
}

/// Whether the state of a transaction is unknown after its COMMIT failed so: its last frames may
/// have reached the log, and count if they did.
pub(crate) fn commit_outcome_unknown(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(e, _) => !matches!(e.extended_code & 0xff, 5 | 6 | 13 | 19),
        _ => true,
    }
}

/// Whether the connection should be opened anew before it is used again.
pub(crate) fn needs_reopen(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(e, _) => {
            matches!(e.extended_code & 0xff, 3 | 8 | 10 | 11 | 14 | 15 | 21 | 26)
        }
        _ => false,
    }
}

/// Whether somebody else holds a lock.
pub(crate) fn is_busy(error: &Error) -> bool {
    matches!(error, Error::SqliteFailure(e, _) if matches!(e.extended_code & 0xff, 5 | 6))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn every_row_of_the_table_says_what_a_write_does() {
        use ErrorKind::{Environment, Fatal, Rejected, Transient, Unknown};
        for (code, name, kind) in [
            (ffi::SQLITE_BUSY, "SQLITE_BUSY", Environment),
            (
                ffi::SQLITE_BUSY_SNAPSHOT,
                "SQLITE_BUSY_SNAPSHOT",
                Environment,
            ),
            (ffi::SQLITE_LOCKED, "SQLITE_LOCKED", Environment),
            (ffi::SQLITE_FULL, "SQLITE_FULL", Environment),
            (ffi::SQLITE_IOERR, "SQLITE_IOERR", Environment),
            (ffi::SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC", Environment),
            (ffi::SQLITE_IOERR_CORRUPTFS, "SQLITE_IOERR_CORRUPTFS", Fatal),
            (ffi::SQLITE_READONLY, "SQLITE_READONLY", Environment),
            (
                ffi::SQLITE_READONLY_DBMOVED,
                "SQLITE_READONLY_DBMOVED",
                Environment,
            ),
            (ffi::SQLITE_CANTOPEN, "SQLITE_CANTOPEN", Environment),
            (ffi::SQLITE_PROTOCOL, "SQLITE_PROTOCOL", Environment),
            (ffi::SQLITE_NOMEM, "SQLITE_NOMEM", Environment),
            (ffi::SQLITE_PERM, "SQLITE_PERM", Environment),
            (
                ffi::SQLITE_CONSTRAINT_CHECK,
                "SQLITE_CONSTRAINT_CHECK",
                Rejected,
            ),
            (
                ffi::SQLITE_CONSTRAINT_TRIGGER,
                "SQLITE_CONSTRAINT_TRIGGER",
                Rejected,
            ),
            (
                ffi::SQLITE_CONSTRAINT_DATATYPE,
                "SQLITE_CONSTRAINT_DATATYPE",
                Rejected,
            ),
            (ffi::SQLITE_TOOBIG, "SQLITE_TOOBIG", Rejected),
            (ffi::SQLITE_MISMATCH, "SQLITE_MISMATCH", Rejected),
            (ffi::SQLITE_SCHEMA, "SQLITE_SCHEMA", Transient),
            (ffi::SQLITE_INTERRUPT, "SQLITE_INTERRUPT", Transient),
            (
                ffi::SQLITE_ABORT_ROLLBACK,
                "SQLITE_ABORT_ROLLBACK",
                Transient,
            ),
            (ffi::SQLITE_CORRUPT, "SQLITE_CORRUPT", Fatal),
            (ffi::SQLITE_CORRUPT_INDEX, "SQLITE_CORRUPT_INDEX", Fatal),
            (ffi::SQLITE_NOTADB, "SQLITE_NOTADB", Fatal),
            (ffi::SQLITE_ERROR, "SQLITE_ERROR", Fatal),
            (ffi::SQLITE_AUTH, "SQLITE_AUTH", Fatal),
            (ffi::SQLITE_MISUSE, "SQLITE_MISUSE", Fatal),
            (ffi::SQLITE_INTERNAL, "SQLITE_INTERNAL", Unknown),
            // Not in the table: the meaning of its low byte, or none.
            (ffi::SQLITE_IOERR_BLOCKED, "SQLITE_IOERR_11", Environment),
            (200, "SQLITE_200", Unknown),
        ] {
            let error = failure(code);
            assert_eq!(super::code(&error), name);
            assert_eq!(classify(&error).kind(), kind, "{name}");
        }
    }

    #[test]
    fn no_code_is_listed_twice() {
        let codes: std::collections::BTreeSet<_> = TABLE.iter().map(|(code, ..)| code).collect();
        assert_eq!(codes.len(), TABLE.len());
    }

    #[test]
    fn only_an_interrupted_commit_has_an_unknown_outcome() {
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_CONSTRAINT] {
            assert!(!commit_outcome_unknown(&failure(code)), "{code}");
        }
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_NOMEM,
        ] {
            assert!(commit_outcome_unknown(&failure(code)), "{code}");
        }
    }
}
