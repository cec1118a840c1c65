//! The controller against a store in arithmetic: no clock, no threads.

use super::*;

const BATCH: usize = 500;
const CAPACITY: usize = 100_000;

/// A store that writes `per_worker` rows a second for each worker up to `most`, give or take 20 %
/// for a tick: beyond `most`, workers only wait for each other, and each attempt takes longer.
struct Model {
    random: fastrand::Rng,
    per_worker: f64,
    most: f64,
    queued: f64,
}

impl Model {
    fn new(seed: u64, per_worker: f64, most: f64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            per_worker,
            most,
            queued: 0.0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts of rows and workers"
    )]
    fn tick(&mut self, limit: usize, offered: f64) -> Sample {
        let seconds = TICK.as_secs_f64();
        let noise = 0.8 + 0.4 * self.random.f64();
        let each = self.per_worker.min(self.most / limit as f64) * noise;
        self.queued += offered * seconds;
        let rows = self.queued.min(each * limit as f64 * seconds);
        self.queued = (self.queued - rows).min(CAPACITY as f64);
        let busy_workers = (rows / (each * seconds)).ceil() as usize;
        Sample {
            queued: self.queued as usize,
            idle_workers: limit.saturating_sub(busy_workers),
            answered: (rows / BATCH as f64).ceil() as u64,
            failed: 0,
            rows: rows as u64,
            busy: Duration::from_secs_f64(rows / each),
            is_open: false,
        }
    }

    /// The limit of each tick of `seconds`.
    fn run(&mut self, scaler: &mut WorkerScaler, offered: f64, seconds: u32) -> Vec<usize> {
        (0..seconds * 4)
            .map(|_| {
                let sample = self.tick(scaler.limit(), offered);
                scaler.observe(sample)
            })
            .collect()
    }
}

fn scaler(min: usize, max: usize) -> WorkerScaler {
    WorkerScaler::new(min, max, BATCH, CAPACITY)
}

fn moves(limits: &[usize]) -> Vec<bool> {
    let moved = limits.windows(2).filter(|w| w[0] != w[1]);
    moved.map(|w| w[1] > w[0]).collect()
}

/// How often the direction of a move changes.
fn turns(limits: &[usize]) -> usize {
    moves(limits).windows(2).filter(|w| w[0] != w[1]).count()
}

#[test]
fn it_grows_while_workers_help_and_goes_back_when_idle() {
    for seed in 0..100 {
        let mut model = Model::new(seed, 1_000.0, 100_000.0);
        let mut scaler = scaler(1, 8);
        let light = model.run(&mut scaler, 500.0, 120);
        assert!(light.iter().all(|l| *l == 1), "seed {seed}: {light:?}");
        let heavy = model.run(&mut scaler, 10_000.0, 300);
        assert!(heavy.last() >= Some(&7), "seed {seed}: {heavy:?}");
        let light = model.run(&mut scaler, 0.0, 600);
        assert_eq!(light.last(), Some(&1));
        assert_eq!(scaler.reason(), ScaleReason::Idle);
        assert!(turns(&light) <= 2, "seed {seed}: {light:?}");
    }
}

#[test]
fn it_does_not_flap_where_the_store_is_the_limit() {
    let mut deceived = 0;
    for seed in 0..100 {
        let mut model = Model::new(seed, 1_000.0, 1_500.0);
        let mut scaler = scaler(1, 8);
        let limits = model.run(&mut scaler, 10_000.0, 600);
        assert!(limits.iter().all(|l| *l <= 5), "seed {seed}: {limits:?}");
        deceived += usize::from(limits.contains(&4));
        let moves = moves(&limits).len();
        assert!(
            moves <= 6,
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
fn ten_times_the_load_and_back_turns_it_twice_at_most_a_step() {
    let mut found_best = 0;
    for seed in 0..200 {
        // Four workers are as good as eight.
        let mut model = Model::new(seed, 1_000.0, 4_000.0);
        let mut scaler = scaler(1, 8);
        for (what, offered, seconds) in [
            ("1x", 600.0, 120),
            ("10x", 6_000.0, 300),
            ("1x", 600.0, 300),
        ] {
            let limits = model.run(&mut scaler, offered, seconds);
            assert!(limits.iter().all(|l| (1..=8).contains(l)));
            assert!(turns(&limits) <= 2, "seed {seed}, {what}: {limits:?}");
            if offered > 1_000.0 {
                found_best += usize::from((3..=6).contains(limits.last().unwrap()));
            } else {
                assert_eq!(limits.last(), Some(&1), "seed {seed}, {what}: {limits:?}");
            }
        }
    }
    assert!(
        found_best >= 180,
        "{found_best} of 200 runs found about four workers"
    );
}

#[test]
fn a_load_that_comes_again_finds_the_limit_that_was_good() {
    let mut model = Model::new(7, 1_000.0, 3_000.0);
    let mut scaler = scaler(1, 8);
    model.run(&mut scaler, 6_000.0, 60);
    let good = scaler.limit();
    assert!((2..=4).contains(&good) && scaler.reason() == ScaleReason::ThroughputFlat);
    model.queued = 0.0;
    model.run(&mut scaler, 100.0, 60);
    assert_eq!((scaler.limit(), scaler.reason()), (1, ScaleReason::Idle));
    let again = model.run(&mut scaler, 6_000.0, 10);
    assert_eq!(moves(&again), [true], "{again:?}");
    assert_eq!(
        (scaler.limit(), scaler.reason()),
        (good, ScaleReason::Backlog)
    );
}

#[test]
fn an_open_circuit_sends_it_to_the_lower_bound_and_a_closed_one_back() {
    let mut model = Model::new(7, 1_000.0, 100_000.0);
    let mut scaler = scaler(2, 8);
    model.run(&mut scaler, 20_000.0, 300);
    assert_eq!(scaler.limit(), 8);
    for _ in 0..100 {
        scaler.observe(Sample {
            is_open: true,
            ..Sample::default()
        });
    }
    assert_eq!((scaler.limit(), scaler.reason()), (2, ScaleReason::Errors));
    // The first tick has no answer yet.
    let waiting = Sample {
        queued: 50_000,
        ..Sample::default()
    };
    assert_eq!(scaler.observe(waiting), 2);
    let back = model.run(&mut scaler, 20_000.0, 1);
    assert_eq!(back, [4, 8, 8, 8]);
    assert_eq!(scaler.reason(), ScaleReason::Recovered);
}

#[test]
fn failing_attempts_halve_it() {
    let mut model = Model::new(7, 1_000.0, 100_000.0);
    let mut scaler = scaler(1, 8);
    model.run(&mut scaler, 20_000.0, 300);
    let mut sick = |failed| {
        let limit = scaler.limit();
        scaler.observe(Sample {
            failed,
            ..model.tick(limit, 20_000.0)
        });
        (scaler.limit(), scaler.reason())
    };
    // Two failures may happen to anybody.
    assert_eq!(sick(2), (8, ScaleReason::ThroughputUp));
    assert_eq!(sick(2), (4, ScaleReason::Errors));
    assert_eq!(sick(30), (2, ScaleReason::Errors));
    assert_eq!(sick(30), (1, ScaleReason::Errors));
    assert_eq!(sick(30), (1, ScaleReason::Errors));
}

#[test]
fn a_store_that_slows_down_gets_fewer_workers() {
    let mut model = Model::new(7, 1_000.0, 6_000.0);
    let mut scaler = scaler(1, 6);
    model.run(&mut scaler, 20_000.0, 300);
    assert_eq!(scaler.limit(), 6);
    // Somebody else uses it now.
    model.most = 600.0;
    model.run(&mut scaler, 20_000.0, 60);
    assert_eq!((scaler.limit(), scaler.reason()), (4, ScaleReason::Latency));
}
