//! How many workers run, between `workers` and `workers_max`.
//!
//! A pure controller: it is shown one [`Sample`] a tick and answers with the limit and the reason
//! of the last move. It grows by one while the queue keeps more than a batch per worker waiting,
//! and keeps the new worker only if throughput rose by it; otherwise the store is the limit, the
//! worker goes, and the next try waits twice as long. It shrinks by one when workers have had
//! nothing to do for long, and to the lower bound at once while writes fail.
//!
//! Against flapping: a step up is judged by the throughput of [`JUDGE_TICKS`] ticks, enough to see
//! through seconds that differ by 20 %, a step down needs [`IDLE_TICKS`] quiet ticks, and a failed try doubles the wait up to [`LONGEST_HOLD`].

use std::time::Duration;

/// The time between two samples.
pub const TICK: Duration = Duration::from_secs(1);
/// Ticks over which throughput before and after a step is compared.
const JUDGE_TICKS: usize = 12;
/// Ticks with workers to spare before one of them goes.
const IDLE_TICKS: u32 = 30;
/// Ticks to wait after a try that did not help: at first, and at most.
const FIRST_HOLD: u32 = 10;
const LONGEST_HOLD: u32 = 320;
/// Growth of throughput that one more worker must bring, as a share of an even share of work:
/// from n to n + 1 workers a perfect store would give 1 / n more; two fifths of it are asked.
const WANTED_SHARE: f64 = 0.4;

/// What the controller sees in one tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Records that wait.
    pub queued: usize,
    /// Records that got their fate during the tick.
    pub resolved: u64,
    /// Workers that wait for records.
    pub idle_workers: usize,
    /// Whether the circuit is not closed, or attempts failed during the tick.
    pub failing: bool,
}

/// Why the limit is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleReason {
    /// No move was made yet.
    #[default]
    Start,
    /// The queue was growing faster than it was written.
    Backlog,
    /// One more worker brought nothing.
    NoGain,
    /// Workers had nothing to do for long.
    Idle,
    /// Writes fail.
    Failing,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct WorkerScaler {
    min: usize,
    max: usize,
    batch_size: usize,
    limit: usize,
    reason: ScaleReason,
    recent: Vec<u64>,
    /// Throughput before the step that is being judged, and ticks left until the verdict.
    trial: Option<(f64, usize)>,
    hold: u32,
    next_hold: u32,
    idle: u32,
}

impl WorkerScaler {
    /// A controller that begins at `min`; `max` below `min` counts as `min`.
    pub fn new(min: usize, max: usize, batch_size: usize) -> Self {
        let min = min.max(1);
        Self {
            min,
            max: max.max(min),
            batch_size: batch_size.max(1),
            limit: min,
            reason: ScaleReason::Start,
            recent: Vec::new(),
            trial: None,
            hold: 0,
            next_hold: FIRST_HOLD,
            idle: 0,
        }
    }

    /// The limit now.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The reason of the last move.
    pub const fn reason(&self) -> ScaleReason {
        self.reason
    }

    /// Shows a tick to the controller; answers with the limit.
    pub fn observe(&mut self, sample: Sample) -> usize {
        self.recent.push(sample.resolved);
        if self.recent.len() > JUDGE_TICKS {
            self.recent.remove(0);
        }
        self.hold = self.hold.saturating_sub(1);
        if sample.failing {
            self.fall_back();
        } else if let Some((before, ticks)) = self.trial {
            self.judge(before, ticks);
        } else if sample.queued > self.batch_size * self.limit {
            self.idle = 0;
            self.grow();
        } else if sample.idle_workers >= (self.limit / 4).max(1) {
            self.rest();
        } else {
            self.idle = 0;
        }
        self.limit
    }

    fn fall_back(&mut self) {
        self.trial = None;
        self.recent.clear();
        self.idle = 0;
        if self.limit > self.min {
            self.step(self.min, ScaleReason::Failing);
        }
        // A store that just failed gets a while to show what it can do.
        self.hold = self.hold.max(FIRST_HOLD);
    }

    fn grow(&mut self) {
        if self.limit < self.max && self.hold == 0 && self.recent.len() == JUDGE_TICKS {
            self.trial = Some((self.throughput(), JUDGE_TICKS));
            self.step(self.limit + 1, ScaleReason::Backlog);
            self.recent.clear();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of workers")]
    fn judge(&mut self, before: f64, ticks: usize) {
        if ticks > 1 {
            self.trial = Some((before, ticks - 1));
            return;
        }
        self.trial = None;
        let wanted = before * (1.0 + WANTED_SHARE / (self.limit - 1) as f64);
        if self.throughput() > wanted {
            // Halved and no more: luck may have brought the gain.
            self.next_hold = (self.next_hold / 2).max(FIRST_HOLD);
        } else {
            self.step(self.limit - 1, ScaleReason::NoGain);
            self.hold = self.next_hold;
            self.next_hold = (self.next_hold * 2).min(LONGEST_HOLD);
        }
    }

    fn rest(&mut self) {
        self.idle += 1;
        if self.idle >= IDLE_TICKS && self.limit > self.min {
            self.idle = 0;
            self.step(self.limit - 1, ScaleReason::Idle);
        }
    }

    fn step(&mut self, limit: usize, reason: ScaleReason) {
        self.limit = limit.clamp(self.min, self.max);
        self.reason = reason;
    }

    /// The mean of the recent ticks without the best and the worst: one stalled second decides
    /// nothing.
    #[expect(clippy::cast_precision_loss, reason = "records per second")]
    fn throughput(&self) -> f64 {
        let mut sorted = self.recent.clone();
        sorted.sort_unstable();
        let middle = sorted
            .get(1..sorted.len().saturating_sub(1))
            .unwrap_or_default();
        middle.iter().sum::<u64>() as f64 / middle.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that writes `per_worker` records a second per worker, up to `most`, give or take
    /// 20 %; answers the limits of each second.
    fn run(
        scaler: &mut WorkerScaler,
        random: &mut fastrand::Rng,
        offered: u64,
        per_worker: u64,
        most: u64,
        secs: u32,
    ) -> Vec<usize> {
        let mut queued = 0_u64;
        (0..secs)
            .map(|_| {
                let able = (per_worker * scaler.limit() as u64).min(most);
                let able = able * random.u64(80..=120) / 100;
                queued += offered;
                let resolved = able.min(queued);
                queued = (queued - resolved).min(100_000);
                let busy = usize::try_from(resolved.div_ceil(per_worker)).unwrap();
                scaler.observe(Sample {
                    queued: usize::try_from(queued).unwrap(),
                    resolved,
                    idle_workers: scaler.limit().saturating_sub(busy),
                    failing: false,
                })
            })
            .collect()
    }

    fn turns(limits: &[usize]) -> usize {
        let moves: Vec<bool> = limits
            .windows(2)
            .filter(|w| w[0] != w[1])
            .map(|w| w[1] > w[0])
            .collect();
        moves.windows(2).filter(|w| w[0] != w[1]).count()
    }

    #[test]
    fn it_grows_while_workers_help_and_goes_back_when_idle() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut scaler = WorkerScaler::new(1, 8, 500);
            let light = run(&mut scaler, &mut random, 500, 1_000, 100_000, 120);
            assert!(light.iter().all(|l| *l == 1), "seed {seed}: {light:?}");
            let heavy = run(&mut scaler, &mut random, 10_000, 1_000, 100_000, 300);
            assert!(heavy.last() >= Some(&7), "seed {seed}: {heavy:?}");
            let light = run(&mut scaler, &mut random, 0, 1_000, 100_000, 600);
            assert_eq!(light.last(), Some(&1));
            assert!(turns(&light) <= 2, "seed {seed}: {light:?}");
        }
    }

    #[test]
    fn it_does_not_flap_where_the_store_is_the_limit() {
        let mut deceived = 0;
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut scaler = WorkerScaler::new(1, 8, 500);
            let limits = run(&mut scaler, &mut random, 10_000, 1_000, 1_500, 600);
            let moves = limits.windows(2).filter(|w| w[0] != w[1]).count();
            assert!(limits.iter().all(|l| *l <= 5), "seed {seed}: {limits:?}");
            deceived += usize::from(limits.contains(&4));
            assert!(
                moves <= 20,
                "seed {seed}: {moves} moves in 600 s: {limits:?}"
            );
        }
        // Two workers are best here and a third is tried; noise may keep it now and then.
        assert!(
            deceived <= 5,
            "{deceived} of 100 runs kept a worker that brought nothing"
        );
    }

    #[test]
    fn failing_writes_send_it_to_the_lower_bound() {
        let mut scaler = WorkerScaler::new(2, 8, 500);
        let mut random = fastrand::Rng::with_seed(7);
        run(&mut scaler, &mut random, 20_000, 1_000, 100_000, 300);
        assert_eq!(scaler.limit(), 8);
        scaler.observe(Sample {
            failing: true,
            ..Sample::default()
        });
        assert_eq!((scaler.limit(), scaler.reason()), (2, ScaleReason::Failing));
    }
}
