//! What can go wrong at a sink, by what the write path has to do about it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The kind of a failed write: it alone decides between waiting, retrying and isolating.
///
/// | kind | uses up attempts | circuit breaker | what happens |
/// |---|---|---|---|
/// | `Environment` | no | failure | records wait until the store is back |
/// | `Transient` | yes | failure | retried with backoff, then isolated |
/// | `Rejected` | no | success (the store answered) | isolated by halving the batch |
/// | `Fatal` | no | opens at once | records wait for a person |
/// | `Unknown` | yes | failure | as `Transient` if its text says so or its outcome is unknown, else isolated at once |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The store cannot be reached, is full, read-only, locked or shutting down.
    Environment,
    /// This attempt failed, the next one may not: deadlock, serialization, one statement's timeout.
    Transient,
    /// The store refused something in the batch and did not say which row.
    Rejected,
    /// No retry helps and no row is to blame: wrong schema, bad credentials, malformed statement.
    Fatal,
    /// The sink could not tell.
    Unknown,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Environment,
        Self::Transient,
        Self::Rejected,
        Self::Fatal,
        Self::Unknown,
    ];

    /// The label value of this kind, for metrics and letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Transient => "transient",
            Self::Rejected => "rejected",
            Self::Fatal => "fatal",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed write of a batch, or of the rest of one.
#[derive(Debug)]
pub struct SinkError {
    kind: ErrorKind,
    code: Cow<'static, str>,
    message: String,
    outcome_unknown: bool,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// An error of `kind`; `code` is the store's own short code (an SQLSTATE, `SQLITE_BUSY`).
    pub fn new(
        kind: ErrorKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            outcome_unknown: false,
            retry_after: None,
            source: None,
        }
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Marks the attempt as one whose effect is not known: the commit was sent, the answer lost.
    #[must_use]
    pub const fn with_unknown_outcome(mut self) -> Self {
        self.outcome_unknown = true;
        self
    }

    /// Adds the delay that the store asked for; it replaces a shorter computed backoff.
    #[must_use]
    pub const fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// What the write path has to do about it.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The store's own short code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Whether rows of the attempt may have been written all the same.
    pub const fn outcome_unknown(&self) -> bool {
        self.outcome_unknown
    }

    /// The delay that the store asked for.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.message, self.kind, self.code)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}
