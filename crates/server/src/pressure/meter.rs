//! How fast a queue drains and fills, from its counters.
//!
//! Rates are exponentially weighted over the past seconds: a sample that is τ old weighs 1/e of a new
//! one. The weights are summed too, so that the first seconds are no smaller than they were.

use std::time::Duration;

/// τ, seconds.
const MEMORY: f64 = 5.0;

/// Counters of a queue at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Since the meter was made.
    pub(crate) at: Duration,
    /// Records accepted so far, those of an earlier run too.
    pub(crate) taken: u64,
    /// Records that have their fate.
    pub(crate) resolved: u64,
}

/// Rows a second, in and out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    last: Sample,
    weight: f64,
    inflow: f64,
    drain: f64,
}

impl Meter {
    /// Notes the counters of a later moment; one that is not later is passed over.
    pub(crate) fn note(&mut self, sample: Sample) {
        let seconds = sample.at.saturating_sub(self.last.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = |now: u64, before: u64| per_second(now.saturating_sub(before), seconds);
        let kept = (-seconds / MEMORY).exp();
        let new = 1.0 - kept;
        self.weight = self.weight * kept + new;
        self.inflow = self.inflow * kept + new * rate(sample.taken, self.last.taken);
        self.drain = self.drain * kept + new * rate(sample.resolved, self.last.resolved);
        self.last = sample;
    }

    /// Rows a second that get their fate.
    pub(crate) fn drain(&self) -> f64 {
        self.of(self.drain)
    }

    /// Rows a second that come in.
    pub(crate) fn inflow(&self) -> f64 {
        self.of(self.inflow)
    }

    fn of(&self, sum: f64) -> f64 {
        if self.weight > 0.0 {
            sum / self.weight
        } else {
            0.0
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64, taken: u64, resolved: u64) -> Sample {
        Sample {
            at: Duration::from_millis(millis),
            taken,
            resolved,
        }
    }

    #[test]
    fn a_steady_rate_is_the_rate_from_the_first_sample_on() {
        let mut meter = Meter::default();
        assert_eq!((meter.drain(), meter.inflow()), (0.0, 0.0));
        for i in 1..=40 {
            meter.note(sample(i * 250, i * 250, i * 100));
            assert!((meter.inflow() - 1_000.0).abs() < 1e-6, "{meter:?}");
            assert!((meter.drain() - 400.0).abs() < 1e-6, "{meter:?}");
        }
        // Neither the same moment again nor counters that begin anew are rates.
        meter.note(sample(10_000, 99_999, 99_999));
        assert!((meter.inflow() - 1_000.0).abs() < 1e-6);
        meter.note(sample(10_250, 0, 0));
        assert!(meter.drain() > 0.0 && meter.drain() < 400.0);
    }

    #[test]
    fn what_has_stopped_is_forgotten_by_two_thirds_in_five_seconds() {
        let mut meter = Meter::default();
        for i in 1..=400 {
            meter.note(sample(i * 250, i * 250, i * 250));
        }
        for i in 401..=420 {
            meter.note(sample(i * 250, 100_000, 100_000));
        }
        let left = meter.drain() / 1_000.0;
        assert!((left - (-1.0_f64).exp()).abs() < 1e-3, "{left}");
    }

    #[test]
    fn no_counters_make_a_rate_that_is_none() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut meter, mut at) = (Meter::default(), 0);
        for _ in 0..10_000 {
            at += random.u64(0..1_000_000);
            meter.note(sample(at, random.u64(..), random.u64(..)));
            let rates = [meter.drain(), meter.inflow()];
            assert!(
                rates.iter().all(|r| r.is_finite() && *r >= 0.0),
                "{meter:?}"
            );
        }
    }
}
