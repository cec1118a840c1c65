//! The circuit breaker, shared by all workers of a coordinator.
//!
//! ```text
//!            failure_threshold failures in a row, or one that no retry helps
//!   closed ────────────────────────────────────────────────► open
//!     ▲                                                       │ half_open_after_sec,
//!     │ probe succeeds                                        │ or the sink's own check says yes
//!     └──────────────────────── half_open ◄───────────────────┘
//!                                   │ probe fails, is dropped, or lapses
//!                                   └──────────────► open
//! ```
//!
//! Invariants:
//!
//! - In `half_open` at most one probe is in flight: a [`Permit`] that is dropped without an answer
//!   counts as failed, and one that is not answered within `half_open_after` lapses: the next may
//!   pass, and a failure of the lapsed one changes nothing. Its success closes the circuit all the
//!   same, or a store slower than `half_open_after` would never be taken as well.
//! - Time is monotonic; a clock step neither opens nor closes anything.
//! - Only the probe's answer leaves `half_open`; answers of writes that began before the circuit
//!   opened change nothing while it is open.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The state of a [`CircuitBreaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Writes go through.
    Closed,
    /// No write is tried.
    Open,
    /// One write is tried.
    HalfOpen,
}

impl CircuitState {
    /// `closed`, `open` or `half_open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    /// The value of the gauge `mds_coord_circuit_state`: 0 closed, 1 open, 2 half open.
    pub const fn as_gauge(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::Open => 1,
            Self::HalfOpen => 2,
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The circuit is open, or its one probe is under way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("circuit is {state}; the next probe is due in {} ms", retry_in.as_millis())]
pub struct CircuitOpenError {
    /// `Open` or `HalfOpen`.
    pub state: CircuitState,
    /// When it is worth asking again.
    pub retry_in: Duration,
}

#[derive(Debug)]
struct Inner {
    state: CircuitState,
    /// Failures in a row while closed.
    failures: u32,
    /// When the circuit opened, or when the probe under way began.
    since: Instant,
    /// Number of the latest probe; an answer of an earlier one has lapsed.
    probe: u64,
    /// Open time while the coordinator drains: grows from failed probe to failed probe.
    drain_backoff: Option<Duration>,
    /// The sink's own check said that a probe has a chance.
    probe_due: bool,
    opened_total: u64,
}

#[derive(Debug)]
struct Shared {
    failure_threshold: u32,
    half_open_after: Duration,
    inner: Mutex<Inner>,
    /// Wakes those who wait to pass.
    changed: Notify,
    /// The state, and how often the circuit has opened, for those who follow it.
    state: watch::Sender<(CircuitState, u64)>,
}

/// Stops writes to a store that keeps failing, and lets one through now and then.
///
/// Cloning gives another handle on the same breaker.
///
/// ```
/// use std::time::Duration;
/// use mds_coordinator::{CircuitBreaker, CircuitState};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let breaker = CircuitBreaker::new(2, Duration::from_secs(60));
/// breaker.on_failure();
/// assert_eq!(breaker.state(), CircuitState::Closed);
/// breaker.on_failure();
/// assert_eq!(breaker.state(), CircuitState::Open);
/// tokio::time::advance(Duration::from_secs(60)).await;
/// let probe = breaker.allow().unwrap();
/// assert_eq!(breaker.state(), CircuitState::HalfOpen);
/// assert!(breaker.allow().is_err());
/// probe.success();
/// assert_eq!(breaker.state(), CircuitState::Closed);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    shared: Arc<Shared>,
}

impl Default for CircuitBreaker {
    /// Opens after 5 failures in a row, probes after 60 s.
    fn default() -> Self {
        Self::new(5, Duration::from_secs(60))
    }
}

/// The shortest time that a circuit stays open.
const SHORTEST_OPEN: Duration = Duration::from_millis(1);
/// The first and the longest wait between probes while the coordinator drains.
const DRAIN_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl CircuitBreaker {
    /// A closed breaker that opens after `failure_threshold` failures in a row (at least 1) and
    /// lets a probe through after `half_open_after` (at least a millisecond: without any time every
    /// caller would be the one probe).
    pub fn new(failure_threshold: u32, half_open_after: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                failure_threshold: failure_threshold.max(1),
                half_open_after: half_open_after.max(SHORTEST_OPEN),
                inner: Mutex::new(Inner {
                    state: CircuitState::Closed,
                    failures: 0,
                    since: Instant::now(),
                    probe: 0,
                    drain_backoff: None,
                    probe_due: false,
                    opened_total: 0,
                }),
                changed: Notify::new(),
                state: watch::Sender::new((CircuitState::Closed, 0)),
            }),
        }
    }

    /// The state now. An open circuit turns half open when somebody asks to pass it.
    pub fn state(&self) -> CircuitState {
        self.lock().state
    }

    /// Asks to pass: a [`Permit`] that must be told how the write ended.
    ///
    /// # Errors
    ///
    /// [`CircuitOpenError`] while the circuit is open or another probe is under way.
    pub fn allow(&self) -> Result<Permit, CircuitOpenError> {
        let mut inner = self.lock();
        match self.wait_of(&inner) {
            None => {
                return Ok(Permit {
                    breaker: self.clone(),
                    probe: None,
                    answered: false,
                });
            }
            Some(Duration::ZERO) => {}
            Some(retry_in) => {
                let state = inner.state;
                return Err(CircuitOpenError { state, retry_in });
            }
        }
        self.set(&mut inner, CircuitState::HalfOpen);
        inner.since = Instant::now();
        inner.probe_due = false;
        inner.probe += 1;
        Ok(Permit {
            breaker: self.clone(),
            probe: Some(inner.probe),
            answered: false,
        })
    }

    /// How long it is until the next write may pass, at most: the sink's own check may let one pass
    /// earlier. Zero if one may pass now, to see whether the store is back; `None` while the circuit is
    /// closed.
    pub fn retry_in(&self) -> Option<Duration> {
        self.wait_of(&self.lock())
    }

    fn wait_of(&self, inner: &Inner) -> Option<Duration> {
        let wait = match inner.state {
            CircuitState::Closed => return None,
            CircuitState::Open => inner.drain_backoff.unwrap_or(self.shared.half_open_after),
            CircuitState::HalfOpen => self.shared.half_open_after,
        };
        if inner.probe_due {
            return Some(Duration::ZERO);
        }
        Some(wait.saturating_sub(inner.since.elapsed()))
    }

    /// Waits until it may pass. Cancel safe: nothing is held before it returns.
    pub async fn acquire(&self) -> Permit {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.allow() {
                Ok(permit) => return permit,
                Err(open) => {
                    tokio::select! {
                        biased;
                        () = &mut changed => {}
                        () = tokio::time::sleep(open.retry_in) => {}
                    }
                }
            }
        }
    }

    /// Tells of a write that went through.
    pub fn on_success(&self) {
        let mut inner = self.lock();
        match inner.state {
            CircuitState::Closed => inner.failures = 0,
            CircuitState::HalfOpen => self.close(&mut inner),
            CircuitState::Open => {}
        }
    }

    /// Tells of a write that failed.
    pub fn on_failure(&self) {
        let mut inner = self.lock();
        match inner.state {
            CircuitState::Closed => self.count_failure(&mut inner),
            CircuitState::HalfOpen => self.open(&mut inner),
            CircuitState::Open => {}
        }
    }

    /// Opens at once, for an error that no retry helps.
    pub fn trip(&self) {
        let mut inner = self.lock();
        if inner.state != CircuitState::Open {
            self.open(&mut inner);
        }
    }

    /// Ends the open state early: the next one that asks is the probe. Called when the sink's own
    /// check succeeds.
    pub(crate) fn probe_now(&self) {
        let mut inner = self.lock();
        if inner.state == CircuitState::Open {
            inner.probe_due = true;
            self.shared.changed.notify_waiters();
        }
    }

    /// From now on an open circuit is probed with a short, growing backoff: the coordinator is
    /// stopping and its deadline is nearer than `half_open_after`.
    pub(crate) fn drain(&self) {
        let mut inner = self.lock();
        if inner.drain_backoff.is_none() {
            inner.drain_backoff = Some(DRAIN_BACKOFF.0);
        }
        self.shared.changed.notify_waiters();
    }

    /// Waits until the state, and the number of times that the circuit has opened, are `wanted`;
    /// answers with them. Cancel safe.
    pub(crate) async fn wait_for_state(
        &self,
        wanted: impl Fn(CircuitState, u64) -> bool,
    ) -> (CircuitState, u64) {
        let mut state = self.shared.state.subscribe();
        let found = state.wait_for(|(now, opened)| wanted(*now, *opened)).await;
        match found.map(|now| *now) {
            Ok(now) => now,
            // The sender lives as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// How often the circuit has opened.
    pub fn opened_total(&self) -> u64 {
        self.lock().opened_total
    }

    fn set(&self, inner: &mut Inner, state: CircuitState) {
        inner.state = state;
        self.shared.state.send_replace((state, inner.opened_total));
    }

    fn close(&self, inner: &mut Inner) {
        self.set(inner, CircuitState::Closed);
        inner.failures = 0;
        if inner.drain_backoff.is_some() {
            inner.drain_backoff = Some(DRAIN_BACKOFF.0);
        }
        self.shared.changed.notify_waiters();
    }

    fn open(&self, inner: &mut Inner) {
        if inner.state == CircuitState::HalfOpen {
            inner.drain_backoff = inner
                .drain_backoff
                .map(|b| (b * 2).clamp(DRAIN_BACKOFF.0, DRAIN_BACKOFF.1));
        }
        inner.failures = 0;
        inner.probe_due = false;
        inner.since = Instant::now();
        inner.opened_total += 1;
        self.set(inner, CircuitState::Open);
        self.shared.changed.notify_waiters();
    }

    fn answer(&self, probe: Option<u64>, answer: Answer) {
        let mut inner = self.lock();
        match (probe, inner.state) {
            (None, CircuitState::Closed) => match answer {
                Answer::Success => inner.failures = 0,
                Answer::Failure => self.count_failure(&mut inner),
                Answer::Fatal => self.open(&mut inner),
            },
            (Some(number), CircuitState::HalfOpen) => match answer {
                Answer::Success => self.close(&mut inner),
                Answer::Failure | Answer::Fatal if inner.probe == number => self.open(&mut inner),
                // The permit lapsed, and another probe decides.
                Answer::Failure | Answer::Fatal => {}
            },
            // A write that began in an earlier state.
            _ => {}
        }
    }

    fn count_failure(&self, inner: &mut Inner) {
        inner.failures += 1;
        if inner.failures >= self.shared.failure_threshold {
            self.open(inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing inside can panic half-way through a change, so a poisoned lock is still sound.
        self.shared
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
enum Answer {
    Success,
    Failure,
    Fatal,
}

/// The right to try one write. Dropped without an answer it counts as failed, if it was the probe.
#[derive(Debug)]
pub struct Permit {
    breaker: CircuitBreaker,
    probe: Option<u64>,
    answered: bool,
}

impl Permit {
    /// Whether this is the one write that is tried in the half-open state.
    pub const fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// The store answered.
    pub fn success(mut self) {
        self.answered = true;
        self.breaker.answer(self.probe, Answer::Success);
    }

    /// The write failed.
    pub fn failure(mut self) {
        self.answered = true;
        self.breaker.answer(self.probe, Answer::Failure);
    }

    /// The write failed in a way that no retry helps.
    pub fn fatal(mut self) {
        self.answered = true;
        self.breaker.answer(self.probe, Answer::Fatal);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.answered && self.probe.is_some() {
            self.breaker.answer(self.probe, Answer::Failure);
        }
    }
}
