//! Reasons to stop before the input ends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mds_coordinator::{Degraded, WriteCoordinator};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;

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
    /// The dead letters cannot be written.
    Letters { error: String },
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
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("stopped by SIGINT"),
            Self::Terminated => f.write_str("stopped by SIGTERM"),
            Self::Outage { limit, error } => {
                write!(
                    f,
                    "the store was away for longer than --max-outage ({limit:?}): {error}"
                )
            }
            Self::Fatal { error } => write!(f, "the store cannot be written to: {error}"),
            Self::Letters { error } => write!(f, "the dead letters cannot be written: {error}"),
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

/// Waits for SIGINT or SIGTERM. A second SIGINT ends the process at once.
async fn signals() -> Stop {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers the signals end the process as they always do.
        return std::future::pending().await;
    };
    let stop = tokio::select! {
        _ = interrupt.recv() => Stop::Interrupted,
        _ = terminate.recv() => Stop::Terminated,
    };
    tokio::spawn(async move {
        interrupt.recv().await;
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
    stop
}

/// How often the state of the write path is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for a signal, or until the store or the dead letters are away for longer than `limit`.
pub(crate) async fn stop_reason<T: Send + Sync + 'static>(
    coordinator: &WriteCoordinator<T>,
    limit: Duration,
) -> Stop {
    tokio::select! {
        stop = signals() => stop,
        stop = outage(coordinator, limit) => stop,
    }
}

/// Waits until the store, or the place of the dead letters, is away for longer than `limit` (zero:
/// for ever), or the store fails for good.
async fn outage<T: Send + Sync + 'static>(
    coordinator: &WriteCoordinator<T>,
    limit: Duration,
) -> Stop {
    let mut letters_since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let degraded = coordinator.degraded();
        let fatal = |reason: &Degraded| match reason {
            Degraded::Fatal { error } => Some(error.clone().unwrap_or_default()),
            _ => None,
        };
        if let Some(error) = degraded.iter().find_map(fatal) {
            return Stop::Fatal { error };
        }
        if degraded.contains(&Degraded::DeadLettersFailing) {
            letters_since.get_or_insert_with(tokio::time::Instant::now);
        } else {
            letters_since = None;
        }
        let is_over = |since: Option<Duration>| {
            limit > Duration::ZERO && since.is_some_and(|since| since > limit)
        };
        if is_over(coordinator.failing_for()) {
            let error = coordinator.last_error().unwrap_or_default();
            return Stop::Outage { limit, error };
        }
        if is_over(letters_since.map(|since| since.elapsed())) {
            let error = format!("for longer than --max-outage ({limit:?})");
            return Stop::Letters { error };
        }
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
}
