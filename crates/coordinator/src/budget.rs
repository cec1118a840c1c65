//! A bound on retries, shared by the workers of a coordinator.
//!
//! Backoff spaces the attempts of one batch. With many workers that is not enough: each of them
//! goes on retrying, and a store in trouble gets more work than one that is well. So retries are
//! paid for: every first attempt adds a share of a token, every second adds [`EACH_SECOND`], and a
//! retry takes a whole one. Where there is none it waits; it is never given up for want of one.
//!
//! What is paid for: another attempt at the same rows after an error that uses up attempts. Waiting
//! for a store that is away is the circuit breaker's, which lets one probe through; taking a batch
//! apart is a search that ends by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Retries that may always be made in a second, so that few records, or none but failing ones, do
/// not wait for ever.
pub(crate) const EACH_SECOND: f64 = 10.0;
/// Tokens that are kept at most: a short burst of failures is retried at once.
pub(crate) const MOST_TOKENS: f64 = 10.0;

/// The tokens.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// What a first attempt adds.
    share: f64,
    bucket: Mutex<Bucket>,
    filled: Notify,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    delayed: u64,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + seconds * EACH_SECOND).min(MOST_TOKENS);
        self.at = now;
    }
}

impl RetryBudget {
    /// A budget of `percent` retries for a hundred first attempts, and [`EACH_SECOND`].
    pub(crate) fn new(percent: f64) -> Self {
        Self {
            share: percent / 100.0,
            bucket: Mutex::new(Bucket {
                tokens: MOST_TOKENS,
                at: Instant::now(),
                delayed: 0,
            }),
            filled: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        // Whole numbers and times: there is nothing half-way in it.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A first attempt is made.
    pub(crate) fn deposit(&self) {
        let mut bucket = self.lock();
        let before = bucket.tokens;
        bucket.tokens = (before + self.share).min(MOST_TOKENS);
        if before < 1.0 && bucket.tokens >= 1.0 {
            self.filled.notify_one();
        }
    }

    /// Takes a token, and waits for one where there is none. Cancel safe: a token is taken when
    /// this returns, or none.
    pub(crate) async fn withdraw(&self) {
        let mut is_first = true;
        loop {
            let filled = self.filled.notified();
            let wait = {
                let mut bucket = self.lock();
                bucket.fill(Instant::now());
                if bucket.tokens >= 1.0 {
                    bucket.tokens -= 1.0;
                    return;
                }
                bucket.delayed += u64::from(std::mem::take(&mut is_first));
                Duration::from_secs_f64((1.0 - bucket.tokens) / EACH_SECOND)
            };
            tokio::select! {
                biased;
                () = filled => {}
                // A little more than the fraction says, so that rounding leaves no empty loop.
                () = tokio::time::sleep(wait + Duration::from_millis(1)) => {}
            }
        }
    }

    /// Retries that had to wait.
    pub(crate) fn delayed(&self) -> u64 {
        self.lock().delayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_then_time_or_first_attempts_pay() {
        let budget = RetryBudget::new(20.0);
        let started = Instant::now();
        for _ in 0..10 {
            budget.withdraw().await;
        }
        assert_eq!((started.elapsed(), budget.delayed()), (Duration::ZERO, 0));
        for _ in 0..20 {
            budget.withdraw().await;
        }
        let seconds = started.elapsed().as_secs_f64();
        assert!((2.0..2.1).contains(&seconds), "{seconds}");
        assert_eq!(budget.delayed(), 20);

        let started = Instant::now();
        for _ in 0..10 {
            for _ in 0..5 {
                budget.deposit();
            }
            budget.withdraw().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_waits_is_woken_by_a_first_attempt() {
        let budget = std::sync::Arc::new(RetryBudget::new(100.0));
        for _ in 0..10 {
            budget.withdraw().await;
        }
        let waiting = std::sync::Arc::clone(&budget);
        let started = Instant::now();
        let task = tokio::spawn(async move { waiting.withdraw().await });
        tokio::task::yield_now().await;
        budget.deposit();
        task.await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
