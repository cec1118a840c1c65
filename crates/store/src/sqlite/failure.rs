//! A failed transaction, told to every job that was in it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use mds_core::{ErrorKind, SinkError};

use super::codes;
use crate::StoreError;

/// Why a transaction failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    code: Cow<'static, str>,
    message: String,
    outcome_unknown: bool,
    source: Option<Shared>,
}

impl Failure {
    /// A statement failed; the transaction had no effect.
    pub(crate) fn statement(path: &Path, error: rusqlite::Error) -> Self {
        let hint = match codes::classify(&error) {
            codes::Class::Fatal => "; nothing is written until a person has looked at the store",
            _ => "",
        };
        Self {
            kind: codes::classify(&error).kind(),
            code: codes::code(&error),
            message: format!("{}: cannot write: {error}{hint}", path.display()),
            outcome_unknown: false,
            source: Some(Shared(Arc::new(error))),
        }
    }

    /// The COMMIT failed.
    pub(crate) fn commit(path: &Path, error: rusqlite::Error, still_open: bool) -> Self {
        let outcome_unknown = !still_open && codes::commit_outcome_unknown(&error);
        Self {
            outcome_unknown,
            ..Self::statement(path, error)
        }
    }

    /// The store could not be opened, or is not what it was.
    pub(crate) fn store(error: StoreError) -> Self {
        let message = match &error {
            StoreError::Open { source, .. } | StoreError::Database { source, .. } => {
                format!("{error}: {source}")
            }
            StoreError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self {
            kind: error.kind(),
            code: Cow::Owned(error.code().to_owned()),
            message,
            outcome_unknown: false,
            source: Some(Shared(Arc::new(error))),
        }
    }

    /// The thread that writes is gone; what it was doing may have been committed.
    pub(crate) fn thread_gone(path: &Path) -> Self {
        Self {
            kind: ErrorKind::Unknown,
            code: Cow::Borrowed("WRITER_PANICKED"),
            message: format!(
                "{}: the writing thread failed on this batch",
                path.display()
            ),
            outcome_unknown: true,
            source: None,
        }
    }

    /// Whether other jobs of the transaction may succeed without the one that met this.
    pub(crate) fn may_be_of_one_job(&self) -> bool {
        !self.outcome_unknown && self.kind != ErrorKind::Environment
    }

    /// Whether somebody else held a lock for longer than the busy timeout.
    pub(crate) fn is_locked(&self) -> bool {
        self.code.starts_with("SQLITE_BUSY") || self.code.starts_with("SQLITE_LOCKED")
    }

    /// The error of one job.
    pub(crate) fn to_sink_error(&self) -> SinkError {
        let mut error = SinkError::new(self.kind, self.code.clone(), self.message.clone());
        if self.outcome_unknown {
            error = error.with_unknown_outcome();
        }
        match &self.source {
            Some(source) => error.with_source(source.clone()),
            None => error,
        }
    }
}

/// One error underneath several answers.
#[derive(Clone, Debug)]
struct Shared(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
