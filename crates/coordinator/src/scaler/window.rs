//! Samples, added up.

use std::time::Duration;

use super::TICK;

/// Ticks of a window at least, and at most.
const WINDOW: (u32, u32) = (8, 120);
/// Attempts that a window needs from each worker.
const ATTEMPTS_EACH: u64 = 8;
/// Ticks over which failures are counted, how many of them matter, and their share in percent.
const FAILURE_TICKS: u32 = 8;
const FEWEST_FAILURES: u64 = 3;
const FAILURE_PERCENT: u64 = 20;

/// What the controller sees in one tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Records that wait.
    pub queued: usize,
    /// Workers that wait for records.
    pub idle_workers: usize,
    /// Attempts that ended in the tick and that the store answered, be it with a refusal.
    pub answered: u64,
    /// Attempts that ended in the tick without an answer.
    pub failed: u64,
    /// Rows that got their answer.
    pub rows: u64,
    /// How long the answered attempts took, added up.
    pub busy: Duration,
    /// Whether the circuit is not closed.
    pub is_open: bool,
}

/// Samples at one limit, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    ticks: u32,
    /// Ticks in which a full batch waited and nobody was idle.
    pressed: u32,
    answered: u64,
    rows: u64,
    busy: Duration,
}

impl Window {
    pub(super) fn add(&mut self, sample: &Sample, is_pressed: bool) {
        self.ticks += 1;
        self.pressed += u32::from(is_pressed);
        self.answered += sample.answered;
        self.rows += sample.rows;
        self.busy += sample.busy;
    }

    /// Whether there is enough of it to say something about `limit` workers.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        let wanted = ATTEMPTS_EACH * limit as u64;
        self.ticks >= WINDOW.0 && (self.answered >= wanted || self.ticks >= WINDOW.1)
    }

    /// Whether workers had all the work that they could do.
    pub(super) const fn is_pressed(&self) -> bool {
        self.pressed * 5 >= self.ticks * 4
    }

    /// A window that is full again after as many ticks, with what was seen so far in it.
    pub(super) const fn again(self) -> Self {
        Self {
            ticks: 0,
            pressed: 0,
            ..self
        }
    }

    /// Seconds of a worker for a row.
    #[expect(clippy::cast_precision_loss, reason = "rows of a few seconds")]
    pub(super) fn seconds_a_row(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.busy.as_secs_f64() / self.rows as f64)
    }

    /// Rows a second that `limit` busy workers get through.
    #[expect(clippy::cast_precision_loss, reason = "a count of workers")]
    pub(super) fn throughput(&self, limit: usize) -> Option<f64> {
        let seconds = self.seconds_a_row().filter(|seconds| *seconds > 0.0)?;
        Some(limit as f64 / seconds)
    }
}

/// Ticks without a backlog.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    pub(super) ticks: u32,
    busy_workers: usize,
    answered: u64,
    busy: Duration,
}

/// Attempts of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    ticks: u32,
    failed: u64,
    answered: u64,
}

impl Quiet {
    pub(super) fn add(&mut self, sample: &Sample, limit: usize) {
        self.ticks += 1;
        self.busy_workers += limit.saturating_sub(sample.idle_workers);
        self.answered += sample.answered;
        self.busy += sample.busy;
    }

    /// As many workers as were busy, and a little more.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of workers"
    )]
    pub(super) fn needed(self) -> usize {
        let ticks = self.ticks.max(1);
        let busy = if self.answered >= u64::from(ticks) {
            // Of many short attempts their time says more than a look now and then, which may
            // always fall on the moment after a producer has come.
            self.busy.as_secs_f64() / (TICK * ticks).as_secs_f64()
        } else {
            self.busy_workers as f64 / f64::from(ticks)
        };
        (busy * 1.1 - 0.15).ceil().max(1.0) as usize
    }
}

impl Failures {
    /// Adds a sample; whether a good part of the attempts of late has failed, and then begins anew.
    pub(super) fn add(&mut self, sample: &Sample) -> bool {
        self.ticks += 1;
        self.failed += sample.failed;
        self.answered += sample.answered;
        let all = self.failed + self.answered;
        let is_bad = self.failed >= FEWEST_FAILURES && self.failed * 100 >= all * FAILURE_PERCENT;
        if is_bad || self.ticks >= FAILURE_TICKS {
            *self = Self::default();
        }
        is_bad
    }
}
