//! The pool grows and shrinks with the load, and does not flap; retries are bounded for all workers
//! together, and none of that costs a record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mds_coordinator::{
    Batch, ErrorKind, FeedbackBus, Metrics, RetryPolicy, ScaleReason, Sink, WriteCoordinator,
    WriteReport,
};
use tokio::time::Instant;

use crate::support::{Act, FakeLetters, FakeSink, Poison, builder, millis, secs, series, settled};

/// Ten times the load for ten minutes, then the old load again: the limit of each second.
#[tokio::test(start_paused = true)]
async fn a_range_of_workers_follows_the_load() {
    // One worker writes 100 rows in a second.
    let (sink, peek) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = Arc::new(
        builder(sink)
            .workers(1)
            .workers_max(8)
            .batch_size(100)
            .capacity(100_000)
            .start()
            .unwrap(),
    );
    let producer = Arc::clone(&coordinator);
    let task = tokio::spawn(async move {
        let mut row = 0;
        for (seconds, per_second) in [(120, 50), (600, 700), (1_800, 50)] {
            for _ in 0..seconds {
                let mut rows = (row..row + per_second).collect();
                row += per_second;
                producer.submit_many(&mut rows).await.unwrap();
                tokio::time::sleep(secs(1)).await;
            }
        }
    });
    let mut limits = Vec::new();
    while !task.is_finished() {
        limits.push(coordinator.worker_limit());
        let alive = coordinator.health().workers_alive;
        assert!((1..=8).contains(&alive), "{alive} workers");
        tokio::time::sleep(secs(1)).await;
    }
    let (light, rest) = limits.split_at(115);
    let (heavy, light_again) = rest.split_at(600);
    assert!(light.iter().all(|limit| *limit == 1), "{light:?}");
    assert!(heavy.last() >= Some(&7), "{heavy:?}");
    assert_eq!(light_again.last(), Some(&1), "{light_again:?}");
    for (what, limits) in [("heavy", heavy), ("light again", light_again)] {
        assert!(turns(limits) <= 2, "{what}: {limits:?}");
    }
    tokio::time::sleep(secs(10)).await;
    assert_eq!(
        (coordinator.health().workers_alive, peek.rows()),
        (1, 516_000)
    );
    assert!(peek.most_running() <= 8);
    tokio::time::sleep(millis(1)).await;
}

/// How often the direction of a move changes.
fn turns(limits: &[usize]) -> usize {
    let moves = limits.windows(2).filter(|w| w[0] != w[1]);
    let up: Vec<bool> = moves.map(|w| w[1] > w[0]).collect();
    up.windows(2).filter(|w| w[0] != w[1]).count()
}

/// A store that writes a row in half a millisecond, give or take 30 %, and no more than four
/// batches at a time: with more writers each attempt takes longer, and there is something lost by
/// taking turns.
struct SharedStore {
    writers: AtomicU32,
}

impl Sink<u64> for SharedStore {
    fn name(&self) -> &'static str {
        "shared"
    }

    async fn write(&self, batch: Batch<u64>) -> WriteReport {
        let writers = self.writers.fetch_add(1, Ordering::Relaxed) + 1;
        let rows = u32::try_from(batch.len()).unwrap();
        let crowded = (f64::from(writers) / 4.0).max(1.0).powf(1.1);
        let noise = 0.7 + 0.6 * fastrand::f64();
        tokio::time::sleep(Duration::from_micros(500) * rows.mul(crowded * noise)).await;
        self.writers.fetch_sub(1, Ordering::Relaxed);
        WriteReport::written(batch.len())
    }
}

trait Mul {
    fn mul(self, factor: f64) -> u32;
}

impl Mul for u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand"
    )]
    fn mul(self, factor: f64) -> u32 {
        (f64::from(self) * factor) as u32
    }
}

/// What the worker limit did while rows were offered at a steady rate.
struct Step {
    limits: Vec<usize>,
    reason: ScaleReason,
    written: u64,
}

/// Offers rows for a while, as fast as they are taken and no faster than `per_second`.
async fn step(coordinator: &WriteCoordinator<u64>, per_second: u64, seconds: u64) -> Step {
    let before = coordinator.stats().written;
    let end = Instant::now() + secs(seconds);
    let mut limits = Vec::new();
    while Instant::now() < end {
        let mut rows = (0..per_second / 20).collect();
        // A full queue makes the producer wait, at most until the step is over.
        drop(tokio::time::timeout_at(end, coordinator.submit_many(&mut rows)).await);
        limits.push(coordinator.worker_limit());
        assert!(coordinator.health().workers_alive >= 1);
        tokio::time::sleep(millis(50)).await;
    }
    Step {
        limits,
        reason: coordinator.worker_limit_reason(),
        written: coordinator.stats().written - before,
    }
}

/// One worker writes 2,000 rows a second, four write 8,000, and more than that nobody does.
#[test]
fn ten_times_the_load_and_back_turns_the_limit_twice_at_most_a_step() {
    for seed in 0..12 {
        println!("MDS_SEED={seed}");
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let metrics = Metrics::new();
            let store = SharedStore {
                writers: AtomicU32::new(0),
            };
            let coordinator = WriteCoordinator::builder(store)
                .metrics(metrics.clone())
                .feedback_bus(FeedbackBus::new())
                .workers(1)
                .workers_max(8)
                .batch_size(100)
                .capacity(20_000)
                .start()
                .unwrap();
            let light = step(&coordinator, 1_200, 60).await;
            let heavy = step(&coordinator, 12_000, 180).await;
            let light_again = step(&coordinator, 1_200, 120).await;
            for (what, step) in [("1x", &light), ("10x", &heavy), ("1x", &light_again)] {
                assert!(turns(&step.limits) <= 2, "{what}: {:?}", step.limits);
                assert!(step.limits.iter().all(|limit| (1..=8).contains(limit)));
            }
            assert_eq!(
                (light.limits.last(), light.reason),
                (Some(&1), ScaleReason::Start)
            );
            let end = *heavy.limits.last().unwrap();
            assert!((3..=6).contains(&end), "{:?}", heavy.limits);
            assert!(heavy.written > 180 * 6_000, "{}", heavy.written);
            assert_eq!(light_again.limits.last(), Some(&1));
            let reason = |reason: &str| {
                let labels = format!("{{coord_id=\"default\",reason=\"{reason}\"}}");
                let moves = format!("mds_coord_worker_moves_total{labels}");
                let last = format!("mds_coord_worker_limit_reason{labels}");
                (
                    series(&metrics, &moves) > 0.0,
                    series(&metrics, &last) > 0.0,
                )
            };
            assert_eq!(reason("backlog"), (true, false));
            assert_eq!(reason("throughput_up"), (true, false));
            assert_eq!(reason("idle"), (true, true));
            assert_eq!(reason("errors"), (false, false));
            let stopped = coordinator.stop(true, secs(60)).await;
            assert_eq!(stopped.stats.written, stopped.stats.submitted);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_one_worker_and_the_limit_comes_back_within_three_seconds() {
    fastrand::seed(3);
    let up = Instant::now() + secs(200);
    let down = up - secs(40);
    let (sink, peek) = FakeSink::new(move |_| {
        if (down..up).contains(&Instant::now()) {
            Act::Fail(ErrorKind::Environment, "connection refused")
        } else {
            Act::Slow(500)
        }
    });
    let coordinator = builder(sink.check(move || Instant::now() >= up))
        .workers(1)
        .workers_max(8)
        .batch_size(100)
        .capacity(10_000)
        .start()
        .unwrap();
    // More than eight workers write: 200 rows a second each.
    step(&coordinator, 4_000, 159).await;
    assert_eq!(coordinator.worker_limit(), 8);
    step(&coordinator, 4_000, 20).await;
    assert_eq!(
        (
            coordinator.worker_limit(),
            coordinator.worker_limit_reason()
        ),
        (1, ScaleReason::Errors)
    );
    step(&coordinator, 4_000, 24).await;
    assert_eq!(
        (
            coordinator.worker_limit(),
            coordinator.worker_limit_reason()
        ),
        (8, ScaleReason::Recovered)
    );
    let stats = coordinator.stop(true, secs(60)).await.stats;
    // The same rows come again and again.
    assert_eq!(stats.written + stats.superseded, stats.submitted);
    assert_eq!((peek.rows(), stats.dropped.total()), (200, 0));
}

/// A third of the attempts of 64 workers fail, and each is eager to try again.
#[tokio::test(start_paused = true)]
async fn retries_of_all_workers_stay_below_their_share_and_cost_no_row() {
    fastrand::seed(5);
    let metrics = Metrics::new();
    let (sink, peek) = FakeSink::new(|_| match fastrand::u8(..3) {
        0 => Act::Fail(ErrorKind::Transient, "deadlock"),
        _ => Act::Slow(100),
    });
    let letters = FakeLetters::new();
    let coordinator = builder(sink)
        .metrics(metrics.clone())
        .dead_letters(letters.place())
        .circuit_breaker(None)
        .workers(64)
        .batch_size(10)
        .retry_policy(RetryPolicy {
            max_attempts: 50,
            initial_backoff_ms: 1,
            max_backoff_ms: 1,
            ..RetryPolicy::default()
        })
        .retry_budget_percent(10.0)
        .start()
        .unwrap();
    let started = Instant::now();
    let mut rows = (0..20_000).collect();
    coordinator.submit_many(&mut rows).await.unwrap();
    settled(&coordinator, secs(3_600)).await;
    let count = |name: &str| series(&metrics, &format!("{name}{{coord_id=\"default\"}}"));
    let retries = count("mds_coord_retries_total");
    let seconds = started.elapsed().as_secs_f64();
    // 2,000 batches, each tried for the first time once; ten retries a second, and ten at once.
    let most = 0.1 * 2_000.0 + 10.0 * seconds + 10.0;
    assert!(
        retries <= most,
        "{retries} retries, {most} allowed in {seconds} s"
    );
    assert!(retries > 500.0 && count("mds_coord_retries_delayed_total") > 100.0);
    assert_eq!((peek.rows(), letters.rows().len()), (20_000, 0));
    assert_eq!(coordinator.stats().written, 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_budget() {
    let (sink, peek) = FakeSink::new({
        let mut attempts = 0;
        move |_| {
            attempts += 1;
            match attempts {
                1..=400 => Act::Fail(ErrorKind::Transient, "deadlock"),
                _ => Act::Write,
            }
        }
    });
    let coordinator = builder(sink.poison(Poison::Named, |_| false))
        .circuit_breaker(None)
        .workers(40)
        .batch_size(1)
        .retry_policy(RetryPolicy {
            max_attempts: 100,
            initial_backoff_ms: 1,
            max_backoff_ms: 1,
            ..RetryPolicy::default()
        })
        .retry_budget_percent(0.0)
        .start()
        .unwrap();
    let mut rows = (0..40).collect();
    coordinator.submit_many(&mut rows).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    // Ten at once and ten a second: the other 340 attempts would take 34 s.
    assert!(peek.attempts() < 80, "{}", peek.attempts());
    let report = coordinator.stop(true, secs(5)).await;
    assert_eq!(
        (report.stats.written, report.stats.dropped.total()),
        (40, 0)
    );
}
