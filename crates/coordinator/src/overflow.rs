//! What happens to a record for which the queue has no room.

use std::fmt;
use std::str::FromStr;

/// What a full queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OverflowStrategy {
    /// The producer waits for room. Nothing is lost; pressure reaches the producer.
    #[default]
    Block,
    /// The oldest record that no worker holds makes room: it is dead-lettered (`overflow`), or
    /// dropped where there are no dead letters. The newest data is kept.
    DropOldest,
    /// The new record is refused and handed back.
    Error,
}

impl OverflowStrategy {
    /// The name in settings: `block`, `drop_oldest`, `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropOldest => "drop_oldest",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for OverflowStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no overflow strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an overflow strategy: block, drop_oldest or error")]
pub struct OverflowStrategyError(String);

impl FromStr for OverflowStrategy {
    type Err = OverflowStrategyError;

    fn from_str(text: &str) -> Result<Self, OverflowStrategyError> {
        [Self::Block, Self::DropOldest, Self::Error]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| OverflowStrategyError(text.to_owned()))
    }
}

/// Why a record was refused; the record comes back in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The queue is full and the strategy is `error` (or the caller does not wait, or no longer).
    QueueFull,
    /// The coordinator is stopping.
    Closed,
    /// The record alone is larger than `max_bytes`.
    TooLarge,
    /// A durable answer was asked of a queue that cannot give one.
    NotDurable,
    /// The disk of a durable queue takes no more, for want of room or for an error.
    DiskFailed,
    /// It is not known whether the record is in the durable queue.
    OutcomeUnknown,
    /// A durable queue answers after a sync, and the caller does not wait.
    MustWait,
}

impl Refusal {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::Closed,
        Self::TooLarge,
        Self::NotDurable,
        Self::DiskFailed,
        Self::OutcomeUnknown,
        Self::MustWait,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::TooLarge => "too_large",
            Self::NotDurable => "not_durable",
            Self::DiskFailed => "disk_failed",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::MustWait => "must_wait",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "the queue is full; wait and submit again",
            Self::Closed => "the coordinator is stopping and takes no more records",
            Self::TooLarge => "the record is larger than max_bytes",
            Self::NotDurable => {
                "the memory queue cannot make a record durable; use a durable queue"
            }
            Self::DiskFailed => {
                "the disk of the durable queue takes no more; free some room and submit again"
            }
            Self::OutcomeUnknown => {
                "it is not known whether the record is in the durable queue; submit it again, \
                 which does no harm"
            }
            Self::MustWait => "a durable queue answers after a sync; use submit",
        })
    }
}

/// A record that was not accepted, handed back.
#[derive(PartialEq, Eq)]
pub struct QueueFullError<T> {
    /// The record.
    pub item: T,
    /// Why it was not accepted.
    pub refusal: Refusal,
}

/// The name of the error of `submit`: besides a full queue it tells of the other refusals.
pub type SubmitError<T> = QueueFullError<T>;

impl<T> fmt::Debug for QueueFullError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueFullError")
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for QueueFullError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record refused: {}", self.refusal)
    }
}

impl<T> std::error::Error for QueueFullError<T> {}
