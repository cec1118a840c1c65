//! How often and how soon a failed write is tried again.
//!
//! The policy only computes; the worker waits. Backoff before attempt *n + 1* is
//! `initial * multiplier^(n - 1)`, capped; with jitter it is 50 to 100 % of that, drawn evenly, so
//! that workers that failed together do not come back together.

use std::time::Duration;

use mds_core::{ErrorKind, SinkError};

/// The limits of repetition.
///
/// ```
/// use mds_coordinator::RetryPolicy;
///
/// let policy = RetryPolicy { jitter: false, ..RetryPolicy::default() };
/// let delays: Vec<u64> = (1..=8).map(|attempt| policy.next_backoff_ms(attempt)).collect();
/// assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts that a batch may use up before it is taken apart; at least 1. Default: 5.
    pub max_attempts: u32,
    /// Backoff after the first failed attempt, milliseconds. Default: 50.
    pub initial_backoff_ms: u64,
    /// The longest backoff, milliseconds. Default: 2000.
    pub max_backoff_ms: u64,
    /// Growth of the backoff from one attempt to the next; at least 1. Default: 2.
    pub backoff_multiplier: f64,
    /// Whether a backoff is shortened at random to 50 to 100 % of its length. Default: true.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_backoff_ms: 50,
            max_backoff_ms: 2_000,
            backoff_multiplier: 2.0,
            jitter: true,
        }
    }
}

impl RetryPolicy {
    /// Milliseconds to wait after the failed attempt number `attempt` (1 is the first).
    pub fn next_backoff_ms(&self, attempt: u32) -> u64 {
        self.backoff_ms_with(attempt, fastrand::f64)
    }

    /// As [`Self::next_backoff_ms`], with the source of randomness (0 to 1) given.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds up to a cap that a person set, never negative"
    )]
    pub fn backoff_ms_with(&self, attempt: u32, random: impl FnOnce() -> f64) -> u64 {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_backoff_ms as f64 * self.backoff_multiplier.powi(exponent);
        let capped = grown.min(self.max_backoff_ms as f64).max(0.0);
        let factor = if self.jitter {
            0.5 + random() / 2.0
        } else {
            1.0
        };
        (capped * factor).round() as u64
    }

    /// The wait after a failed attempt: the backoff, or what the store asked for if that is longer.
    pub(crate) fn delay(&self, attempt: u32, error: &SinkError) -> Duration {
        let backoff = Duration::from_millis(self.next_backoff_ms(attempt.max(1)));
        error
            .retry_after()
            .map_or(backoff, |asked| asked.max(backoff))
    }
}

/// The words that make an error without a kind worth another attempt.
const RETRYABLE_WORDS: [&str; 5] = ["timeout", "temporar", "deadlock", "retry", "busy"];

/// Whether an error that has no kind of its own looks temporary: its text contains `timeout`,
/// `temporar`, `deadlock`, `retry` or `busy`, in any case.
///
/// ```
/// use mds_coordinator::default_retry_classifier;
///
/// assert!(default_retry_classifier("Database is BUSY"));
/// assert!(!default_retry_classifier("ValueError: price is not a number"));
/// ```
pub fn default_retry_classifier(text: &str) -> bool {
    let lower = text.to_lowercase();
    RETRYABLE_WORDS.iter().any(|word| lower.contains(word))
}

/// What the worker does about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Wait, without using up an attempt.
    Wait,
    /// Try again while attempts are left, then take the batch apart.
    Retry,
    /// Take the batch apart at once; the store refused something in it.
    Halve,
    /// Take the batch apart at once; nobody knows why it failed.
    Isolate,
}

impl Action {
    pub(crate) fn of(error: &SinkError) -> Self {
        match error.kind() {
            ErrorKind::Environment | ErrorKind::Fatal => Self::Wait,
            ErrorKind::Transient => Self::Retry,
            ErrorKind::Rejected => Self::Halve,
            // An attempt that nobody knows the effect of (a panic, a lost answer) says nothing about
            // the rows: it deserves the same patience as one that says why it failed.
            ErrorKind::Unknown if error.outcome_unknown() => Self::Retry,
            ErrorKind::Unknown => {
                if default_retry_classifier(&format!("{} {error}", error.code())) {
                    Self::Retry
                } else {
                    Self::Isolate
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.backoff_ms_with(2, || 0.0), 50);
        assert_eq!(policy.backoff_ms_with(2, || 1.0), 100);
    }

    #[test]
    fn huge_attempts_do_not_overflow() {
        let policy = RetryPolicy {
            jitter: false,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.next_backoff_ms(u32::MAX), 2_000);
        assert_eq!(policy.next_backoff_ms(0), 50);
    }

    #[test]
    fn a_longer_wait_asked_for_by_the_store_is_kept() {
        let policy = RetryPolicy::default();
        let error = SinkError::new(ErrorKind::Transient, "40001", "serialization")
            .with_retry_after(Duration::from_secs(7));
        assert_eq!(policy.delay(1, &error), Duration::from_secs(7));
    }

    #[test]
    fn words_decide_only_where_no_kind_exists() {
        let unknown = |text: &str| Action::of(&SinkError::new(ErrorKind::Unknown, "", text));
        assert_eq!(unknown("Timeout while waiting"), Action::Retry);
        assert_eq!(unknown("connection refused"), Action::Isolate);
        let panic = SinkError::new(ErrorKind::Unknown, "panicked", "").with_unknown_outcome();
        assert_eq!(Action::of(&panic), Action::Retry);
        let rejected = SinkError::new(ErrorKind::Rejected, "23514", "check says retry");
        assert_eq!(Action::of(&rejected), Action::Halve);
    }
}
