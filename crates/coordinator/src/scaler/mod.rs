//! How many workers run, between `workers` and `workers_max`.
//!
//! A pure controller: it is shown one [`Sample`] a tick and answers with the limit and the reason
//! of the last move. What it goes by are single attempts: how many rows the store answered for, and
//! how long that took it. The wait between two attempts says nothing about the store, so a chain of
//! retries is never taken for one slow write.
//!
//! ```text
//!             a full batch waits, nobody is idle            rows/s rose by what was asked
//!    at rest ───────────────────────────────────► on trial ──────────────────────────────► at rest,
//!      │ ▲                                            │                                 a step higher
//!      │ └──── the step is taken back, and not ◄──────┘ they did not
//!      │       tried again soon
//!      ├─ idle      workers had nothing to do: as many as were busy
//!      ├─ latency   a row takes several times as long as it did: a third fewer
//!      ├─ errors    a good part of the attempts failed: half; the circuit opened: the lower bound
//!      └─ recovered the circuit is closed again: doubled each tick, up to what it was
//! ```
//!
//! Against flapping: a step up is judged by a whole [`Window`] before and after it, longer where
//! the two are close; one that did not help is a ceiling for [`FIRST_HOLD`] and then twice as long,
//! unless the store has changed; a step down for want of work needs a long quiet window, and goes to
//! what was needed at once.

mod reason;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::reason::ScaleReason;
pub use self::window::Sample;
use self::window::{Failures, Quiet, Window};

/// The time between two samples.
pub const TICK: Duration = Duration::from_millis(250);
/// Windows that a step is on trial for at most, and those that it takes to take it back.
const MOST_WINDOWS: u32 = 4;
const FEWEST_FLAT: u32 = 2;
/// Growth of throughput that added workers must bring, as a share of an even share of work: from n
/// to m workers a perfect store would give (m - n) / n more; two fifths of it are asked.
const WANTED_SHARE: f64 = 0.4;
/// A trial is over early where what it brought differs from what was asked by this part of it.
const CLEAR: f64 = 0.5;
/// Ticks that a ceiling stands: five minutes, and at most eighty.
const FIRST_HOLD: u32 = 1_200;
const LONGEST_HOLD: u32 = 19_200;
/// Ticks after which a store that has changed lifts a ceiling.
const LIFT_AFTER: u32 = 240;
/// A store has changed whose throughput at one limit changed by this factor, in so many windows
/// that follow each other.
const CHANGED: f64 = 1.5;
const ODD_WINDOWS: u32 = 5;
/// A row takes this many times as long as it did: the store is overloaded.
const SLOWER: f64 = 4.0;
/// Ticks without a backlog before idle workers go.
const IDLE_TICKS: u32 = 40;
/// Ticks without growth after failures.
const FAILURE_HOLD: u32 = 40;

/// A step up that is being judged.
#[derive(Clone, Copy, Debug)]
struct Trial {
    from: usize,
    before: f64,
    windows: u32,
}

/// A limit above which workers brought too little.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    limit: usize,
    throughput: f64,
    age: u32,
    hold: u32,
    /// Windows in a row in which the store was another than the one it was found with.
    odd: u32,
}

impl Ceiling {
    /// Looks at a window at `limit`; whether the ceiling stands no more.
    fn is_over(&mut self, limit: usize, throughput: f64) -> bool {
        let factor = throughput / self.throughput;
        let is_odd = limit == self.limit && !(1.0 / CHANGED..CHANGED).contains(&factor);
        self.odd = if is_odd { self.odd + 1 } else { 0 };
        self.age >= self.hold || (self.age >= LIFT_AFTER && self.odd >= ODD_WINDOWS)
    }
}

/// The controller.
#[derive(Clone, Debug)]
pub struct WorkerScaler {
    min: usize,
    max: usize,
    full_batch: usize,
    limit: usize,
    reason: ScaleReason,
    window: Window,
    trial: Option<Trial>,
    ceiling: Option<Ceiling>,
    next_hold: u32,
    /// Seconds of a worker for a row when this limit was found good.
    calm: Option<f64>,
    quiet: Quiet,
    failures: Failures,
    /// Ticks without growth.
    rest: u32,
    /// The limit before the circuit opened.
    recovering: Option<usize>,
}

impl WorkerScaler {
    /// A controller that begins at `min`; `max` below `min` counts as `min`. A full batch is one of
    /// `batch_size` records, or half of what may wait if that is less.
    pub fn new(min: usize, max: usize, batch_size: usize, capacity: usize) -> Self {
        let min = min.max(1);
        Self {
            min,
            max: max.max(min),
            full_batch: batch_size.min(capacity / 2).max(1),
            limit: min,
            reason: ScaleReason::Start,
            window: Window::default(),
            trial: None,
            ceiling: None,
            next_hold: FIRST_HOLD,
            calm: None,
            quiet: Quiet::default(),
            failures: Failures::default(),
            rest: 0,
            recovering: None,
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
        self.rest = self.rest.saturating_sub(1);
        if let Some(ceiling) = &mut self.ceiling {
            ceiling.age = ceiling.age.saturating_add(1);
        }
        if sample.is_open {
            self.outage();
        } else if let Some(target) = self.recovering {
            self.recover(target, &sample);
        } else if !self.back_off(&sample) {
            let is_pressed = sample.idle_workers == 0 && sample.queued >= self.full_batch;
            self.window.add(&sample, is_pressed);
            self.note_quiet(&sample, is_pressed);
            if self.window.is_full(self.limit) {
                let window = std::mem::take(&mut self.window);
                self.judge(window);
            } else if self.quiet.ticks >= IDLE_TICKS {
                self.let_go();
            }
        }
        self.limit
    }

    /// Nothing is written but probes: what was known of the store is of no use when it is back.
    fn outage(&mut self) {
        let before = self.trial.map_or(self.limit, |trial| trial.from);
        let before = self.recovering.unwrap_or(before);
        if self.limit > self.min {
            self.step(self.min, ScaleReason::Errors);
        }
        self.forget();
        self.recovering = Some(before);
    }

    /// Doubles the limit each tick that the store answers in, up to what it was.
    fn recover(&mut self, target: usize, sample: &Sample) {
        if sample.failed > sample.answered {
            self.recovering = None;
            self.rest = FAILURE_HOLD;
        } else if self.limit >= target {
            self.recovering = None;
        } else if sample.answered > 0 {
            self.step((self.limit * 2).min(target), ScaleReason::Recovered);
            self.forget();
            self.recovering = Some(target).filter(|target| self.limit < *target);
        }
    }

    /// Halves the limit where a good part of the attempts failed; whether it did.
    fn back_off(&mut self, sample: &Sample) -> bool {
        let is_bad = self.failures.add(sample);
        if is_bad {
            self.forget();
            self.rest = FAILURE_HOLD;
            if self.limit > self.min {
                self.step((self.limit / 2).max(self.min), ScaleReason::Errors);
            }
        }
        is_bad
    }

    /// A whole window at one limit.
    fn judge(&mut self, window: Window) {
        let Some(throughput) = window.throughput(self.limit) else {
            return;
        };
        if let Some(trial) = self.trial {
            if window.is_pressed() {
                self.judge_trial(trial, throughput, window);
            } else {
                // There is no backlog any more: they were enough, and idle ones go by and by.
                self.keep(&window);
            }
        } else if window.is_pressed() {
            if self.is_slower(&window) {
                self.step_down();
            } else {
                self.grow(throughput, &window);
            }
        }
    }

    fn judge_trial(&mut self, trial: Trial, throughput: f64, window: Window) {
        let wanted = wanted(trial.from, self.limit);
        let gain = throughput / trial.before - 1.0;
        let windows = trial.windows + 1;
        // A worker too many for a moment costs little, one too few for minutes costs much: that a
        // step brought nothing must show twice.
        let is_clear = gain > wanted * (1.0 + CLEAR)
            || (gain < wanted * (1.0 - CLEAR) && windows >= FEWEST_FLAT);
        if !is_clear && windows < MOST_WINDOWS {
            // Look longer, with what was seen so far.
            self.trial = Some(Trial { windows, ..trial });
            self.window = window.again();
        } else if gain > wanted {
            self.keep(&window);
            // What has just been seen is what the next step is judged against.
            self.grow(throughput, &window);
        } else {
            self.forget();
            self.step(trial.from, ScaleReason::ThroughputFlat);
            self.ceiling = Some(Ceiling {
                limit: trial.from,
                throughput: trial.before,
                age: 0,
                hold: self.next_hold,
                odd: 0,
            });
            self.next_hold = (self.next_hold * 2).min(LONGEST_HOLD);
        }
    }

    /// The step that was on trial stands.
    fn keep(&mut self, window: &Window) {
        self.trial = None;
        self.reason = ScaleReason::ThroughputUp;
        self.calm = window.seconds_a_row();
        // Halved and no more: luck may have brought the gain.
        self.next_hold = (self.next_hold / 2).max(FIRST_HOLD);
    }

    fn is_slower(&self, window: &Window) -> bool {
        let now = window.seconds_a_row();
        let slower = self
            .calm
            .zip(now)
            .is_some_and(|(calm, now)| now > calm * SLOWER);
        slower && self.limit > self.min
    }

    /// A third of the workers go; what the store can do now is seen anew.
    fn step_down(&mut self) {
        self.forget();
        self.ceiling = None;
        self.rest = LIFT_AFTER;
        let third = (self.limit / 3).max(1);
        self.step((self.limit - third).max(self.min), ScaleReason::Latency);
    }

    /// Tries more workers, or as many as were good before.
    fn grow(&mut self, throughput: f64, window: &Window) {
        self.calm = self.calm.or_else(|| window.seconds_a_row());
        let limit = self.limit;
        self.ceiling = self
            .ceiling
            .take_if(|ceiling| !ceiling.is_over(limit, throughput));
        if self.limit >= self.max || self.rest > 0 {
            return;
        }
        match self.ceiling {
            Some(ceiling) if self.limit >= ceiling.limit => {}
            Some(ceiling) => {
                self.forget();
                self.step(ceiling.limit, ScaleReason::Backlog);
            }
            None => {
                let trial = Trial {
                    from: self.limit,
                    before: throughput,
                    windows: 0,
                };
                let half = (self.limit / 2).max(1);
                // A step that follows on one that helped goes by the same reason.
                let reason = match self.reason {
                    ScaleReason::ThroughputUp => ScaleReason::ThroughputUp,
                    _ => ScaleReason::Backlog,
                };
                self.forget();
                self.step((self.limit + half).min(self.max), reason);
                self.trial = Some(trial);
            }
        }
    }

    fn note_quiet(&mut self, sample: &Sample, is_pressed: bool) {
        if is_pressed {
            self.quiet = Quiet::default();
        } else {
            self.quiet.add(sample, self.limit);
        }
    }

    /// After a long quiet time, as many workers stay as were busy in it.
    fn let_go(&mut self) {
        let needed = std::mem::take(&mut self.quiet).needed().max(self.min);
        self.trial = None;
        if needed < self.limit {
            self.step(needed, ScaleReason::Idle);
            self.forget();
        }
    }

    /// Drops what was measured at another limit, or of another store.
    fn forget(&mut self) {
        self.window = Window::default();
        self.quiet = Quiet::default();
        self.trial = None;
    }

    fn step(&mut self, limit: usize, reason: ScaleReason) {
        let limit = limit.clamp(self.min, self.max);
        if limit != self.limit {
            self.calm = None;
        }
        self.limit = limit;
        self.reason = reason;
    }
}

/// What `to` workers must bring over `from`, as a part of the throughput before.
#[expect(clippy::cast_precision_loss, reason = "a count of workers")]
fn wanted(from: usize, to: usize) -> f64 {
    WANTED_SHARE * (to - from) as f64 / from as f64
}
