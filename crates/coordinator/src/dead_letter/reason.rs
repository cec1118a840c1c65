//! Why a record became a dead letter: a closed set, fit for metric labels.

use std::fmt;
use std::str::FromStr;

/// Why a record became a dead letter.
///
/// ```
/// use mds_coordinator::dead_letter::Reason;
///
/// assert_eq!(Reason::RejectedRow.as_str(), "rejected_row");
/// assert_eq!("overflow".parse(), Ok(Reason::Overflow));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The store refused this row.
    RejectedRow,
    /// The row failed alone until its attempts were used up.
    RetriesExhausted,
    /// The queue was full and its overflow strategy gives records up.
    Overflow,
    /// The record waited longer than the maximum age.
    Expired,
    /// The deadline of a shutdown passed before the record was written.
    Shutdown,
    /// The row could not be parsed, or cannot be a market fact.
    Invalid,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::RejectedRow,
        Self::RetriesExhausted,
        Self::Overflow,
        Self::Expired,
        Self::Shutdown,
        Self::Invalid,
    ];

    /// The name in letters and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RejectedRow => "rejected_row",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::Shutdown => "shutdown",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a reason for a dead letter; the reasons are rejected_row, retries_exhausted, \
     overflow, expired, shutdown and invalid"
)]
pub struct ReasonError(String);

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| ReasonError(text.to_owned()))
    }
}
