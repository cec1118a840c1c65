//! Reasons to stop before the input ends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::exit::Exit;
use crate::pipeline;

/// Rows from which on a share of bad rows is judged, and after which a file of bad rows only is
/// taken for a wrong format or `--map`.
pub(super) const FIRST_ROWS: u64 = 1_000;

/// How many bad rows are too many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum MaxBad {
    Rows(u64),
    Percent(f64),
}

impl FromStr for MaxBad {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("{text:?} is neither a number of rows nor a percentage, such as 5%");
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Rows).map_err(|_| refuse()),
            Some(share) => match share.parse::<f64>() {
                Ok(share) if (0.0..=100.0).contains(&share) => Ok(Self::Percent(share)),
                _ => Err(refuse()),
            },
        }
    }
}

impl MaxBad {
    /// Whether `bad` of `read` rows are too many.
    #[expect(clippy::cast_precision_loss, reason = "a share of rows")]
    pub(super) fn is_exceeded(self, bad: u64, read: u64) -> bool {
        match self {
            Self::Rows(most) => bad > most,
            Self::Percent(most) => read >= FIRST_ROWS && bad as f64 * 100.0 > most * read as f64,
        }
    }
}

/// Why a run stops early.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// The store was away for longer than allowed.
    Outage { limit: Duration, error: String },
    /// An error that no retry helps.
    Fatal { error: String },
    /// Letters of rows that are no records cannot be written.
    Letters { error: String },
    /// Letters of records could not be written for longer than allowed.
    LettersOutage { limit: Duration },
    /// The disk of the durable queue took nothing, or could not be read, for longer than allowed.
    Queue { limit: Duration, error: String },
    /// More bad rows than allowed.
    TooManyBad { bad: u64, read: u64 },
    /// Not one row of the first thousand is a record.
    AllBad,
}

impl Stop {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Interrupted => Exit::Interrupted,
            Self::Terminated => Exit::Terminated,
            Self::AllBad => Exit::Usage,
            _ => Exit::Failure,
        }
    }

    /// Whether the same command again, later, goes on where this run ended.
    pub(super) const fn can_be_resumed(&self) -> bool {
        !matches!(self, Self::TooManyBad { .. } | Self::AllBad)
    }

    /// How long what was accepted may take to be settled. A store that has been waited for is not
    /// waited for much longer.
    pub(crate) fn grace(&self) -> Duration {
        const LEAST: Duration = Duration::from_secs(1);
        match self {
            Self::Outage { limit, .. }
            | Self::LettersOutage { limit }
            | Self::Queue { limit, .. } => (*limit).clamp(LEAST, pipeline::STOP_TIMEOUT),
            Self::Fatal { .. } => LEAST,
            _ => pipeline::STOP_TIMEOUT,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("stopped by SIGINT"),
            Self::Terminated => f.write_str("stopped by SIGTERM"),
            Self::Outage { limit, error } => {
                let limit = shown(*limit);
                write!(
                    f,
                    "the store was away for longer than --max-outage ({limit}): {error}"
                )
            }
            Self::Queue { limit, error } => {
                let limit = shown(*limit);
                write!(
                    f,
                    "the durable queue failed for longer than --max-outage ({limit}): {error}"
                )
            }
            Self::Fatal { error } => write!(f, "the store cannot be written to: {error}"),
            Self::Letters { error } => write!(f, "the dead letters cannot be written: {error}"),
            Self::LettersOutage { limit } => {
                let limit = shown(*limit);
                write!(
                    f,
                    "the dead letters could not be written for longer than --max-outage ({limit})"
                )
            }
            Self::TooManyBad { bad, read } => {
                write!(
                    f,
                    "{bad} of {read} rows are bad, more than --max-bad allows"
                )
            }
            Self::AllBad => write!(
                f,
                "the first {FIRST_ROWS} rows are all bad: the format, --map or --time-format is \
                 probably wrong; `mds dlq list` shows the rows"
            ),
        }
    }
}

/// A length of time as it may be typed: 300 s is `5m`.
pub(super) fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_nanos() > 0 || seconds == 0 {
        format!("{time:?}")
    } else if seconds.is_multiple_of(3_600) {
        format!("{}h", seconds / 3_600)
    } else if seconds.is_multiple_of(60) {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_rows_are_counted_or_weighed() {
        let rows: MaxBad = "10".parse().unwrap();
        assert!(!rows.is_exceeded(10, 10));
        assert!(rows.is_exceeded(11, 1_000_000));
        let share: MaxBad = "0.5%".parse().unwrap();
        assert!(!share.is_exceeded(500, 999), "too few rows to judge");
        assert!(!share.is_exceeded(5, 1_000));
        assert!(share.is_exceeded(6, 1_000));
        for bad in ["", "x", "101%", "-1", "5.5"] {
            assert!(bad.parse::<MaxBad>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time_are_shown_as_they_are_typed() {
        for (seconds, text) in [(0.0, "0ns"), (0.5, "500ms"), (90.0, "90s"), (300.0, "5m")] {
            assert_eq!(shown(Duration::from_secs_f64(seconds)), text);
        }
        assert_eq!(shown(Duration::from_secs(7_200)), "2h");
    }

    #[test]
    fn the_end_never_waits_long_for_a_store_that_was_waited_for() {
        let outage = |secs| Stop::Outage {
            limit: Duration::from_secs(secs),
            error: String::new(),
        };
        assert_eq!(outage(3).grace(), Duration::from_secs(3));
        assert_eq!(outage(300).grace(), Duration::from_secs(10));
        assert_eq!(Stop::Interrupted.grace(), Duration::from_secs(10));
    }
}
