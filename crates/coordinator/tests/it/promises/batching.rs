//! A record is written within `flush_interval`, whatever came before; a full batch goes at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mds_coordinator::{ErrorKind, Metrics, RetryPolicy};
use tokio::time::Instant;

use crate::support::{Act, FakeSink, builder, millis, secs, series, settled, submit_all};

/// When each attempt began.
type Times = Arc<Mutex<Vec<Instant>>>;

fn timed() -> (FakeSink, Times) {
    let times = Times::default();
    let seen = Arc::clone(&times);
    let (sink, _) = FakeSink::new(move |_| {
        seen.lock().unwrap().push(Instant::now());
        Act::Write
    });
    (sink, times)
}

#[tokio::test(start_paused = true)]
async fn after_any_silence_a_record_is_written_within_the_flush_interval() {
    let (sink, times) = timed();
    let coordinator = builder(sink).start().unwrap();
    // From 0.1 s to an hour, a hundred silences.
    for row in 0..100 {
        let silence = 0.1 * 36_000_f64.powf(f64::from(row) / 99.0);
        tokio::time::sleep(Duration::from_secs_f64(silence)).await;
        let submitted = Instant::now();
        coordinator
            .submit(u64::try_from(row).unwrap())
            .await
            .unwrap();
        settled(&coordinator, secs(1)).await;
        let written = times.lock().unwrap()[usize::try_from(row).unwrap()];
        let waited = written - submitted;
        // Tokio's clock counts in whole milliseconds.
        assert!(
            waited <= millis(251),
            "after {silence} s of silence it waited {waited:?}"
        );
        assert!(
            waited >= millis(249),
            "after {silence} s of silence it waited {waited:?}"
        );
    }
    assert_eq!(coordinator.stats().written, 100);
    assert_eq!(times.lock().unwrap().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_the_rest_in_time() {
    let (sink, times) = timed();
    let coordinator = builder(sink).batch_size(10).start().unwrap();
    let started = Instant::now();
    submit_all(&coordinator, 0..25).await;
    settled(&coordinator, secs(1)).await;
    let times: Vec<Duration> = times.lock().unwrap().iter().map(|t| *t - started).collect();
    assert_eq!(times.len(), 3);
    assert_eq!(times[..2], [Duration::ZERO, Duration::ZERO]);
    assert!(
        times[2] >= millis(249) && times[2] <= millis(251),
        "{times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn batches_are_never_larger_than_batch_size() {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink).batch_size(7).capacity(1_000).start().unwrap();
    let mut rows = (0..700).collect();
    assert_eq!(coordinator.submit_many(&mut rows).await, Ok(700));
    settled(&coordinator, secs(1)).await;
    assert_eq!(peek.batch_sizes(), vec![7; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_interval_of_zero_waits_for_nobody() {
    let (sink, times) = timed();
    let coordinator = builder(sink)
        .flush_interval(Duration::ZERO)
        .start()
        .unwrap();
    tokio::time::sleep(secs(10)).await;
    let submitted = Instant::now();
    coordinator.submit(1).await.unwrap();
    settled(&coordinator, secs(1)).await;
    assert_eq!(times.lock().unwrap().as_slice(), [submitted]);
}

/// "Never, until the batch is full" is a setting like any other.
#[tokio::test(start_paused = true)]
async fn the_longest_flush_interval_there_is_waits_for_a_full_batch() {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .flush_interval(Duration::MAX)
        .batch_size(10)
        .start()
        .unwrap();
    submit_all(&coordinator, 0..19).await;
    tokio::time::sleep(secs(86_400)).await;
    assert_eq!((peek.rows(), coordinator.health().queue_size), (10, 9));
    let flushed = coordinator.flush(secs(1)).await;
    assert_eq!((flushed.resolved, flushed.outstanding), (9, 0));
}

/// A row that waits for its next try, long, must not make the worker that keeps the time for all
/// oversleep the flush interval of a record that comes meanwhile.
#[tokio::test(start_paused = true)]
async fn a_row_set_aside_for_long_delays_no_other() {
    let times = Times::default();
    let seen = Arc::clone(&times);
    let (sink, _) = FakeSink::new(move |batch| {
        if batch.get(0) == Some(&7) {
            return Act::FailFor(ErrorKind::Transient, secs(30));
        }
        seen.lock().unwrap().push(Instant::now());
        Act::Write
    });
    let coordinator = builder(sink)
        .retry_policy(RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        })
        .start()
        .unwrap();
    coordinator.submit(7).await.unwrap();
    tokio::time::sleep(secs(5)).await;
    let submitted = Instant::now();
    coordinator.submit(8).await.unwrap();
    tokio::time::sleep(secs(5)).await;
    let waited = times.lock().unwrap()[0] - submitted;
    assert!(waited <= millis(251), "waited {waited:?}");
}

/// What a store asks for is waited for, and however long that is, nothing overflows.
#[tokio::test(start_paused = true)]
async fn a_store_may_ask_for_any_delay() {
    let (sink, _) = FakeSink::new(move |_| Act::FailFor(ErrorKind::Transient, Duration::MAX));
    let metrics = Metrics::new();
    let coordinator = builder(sink)
        .metrics(metrics.clone())
        .retry_policy(RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        })
        .start()
        .unwrap();
    submit_all(&coordinator, 0..3).await;
    tokio::time::sleep(secs(10)).await;
    let stats = coordinator.stats();
    assert_eq!(
        (
            stats.queued + stats.in_flight,
            coordinator.health().workers_alive
        ),
        (3, 4)
    );
    let restarts = series(
        &metrics,
        "mds_coord_worker_restarts_total{coord_id=\"default\"}",
    );
    assert!(restarts < 1.0, "{restarts} restarts");
    let report = coordinator.stop(true, secs(2)).await;
    assert_eq!((report.handed_back.len(), report.timed_out), (3, true));
}

/// Idle costs no CPU: in an hour without records the runtime wakes up for the test's own timer and
/// for nothing else. A poll every 250 ms would be 14,400 wake-ups a worker.
#[tokio::test(start_paused = true)]
async fn idle_costs_no_wake_ups() {
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink).workers(64).start().unwrap();
    coordinator.submit(1).await.unwrap();
    settled(&coordinator, secs(1)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_park_count(0);
    tokio::time::sleep(secs(3_600)).await;
    let woken = metrics.worker_park_count(0) - before;
    assert!(
        (1..=5).contains(&woken),
        "woken {woken} times in an idle hour"
    );
}
