//! A flush forces partial batches, says what it reached, and never hangs.

use std::time::Duration;

use mds_coordinator::{CircuitState, ErrorKind};
use tokio::time::Instant;

use crate::support::{Act, FakeSink, builder, millis, secs, submit_all};

#[tokio::test(start_paused = true)]
async fn a_flush_writes_partial_batches_at_once() {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink).flush_interval(secs(3_600)).start().unwrap();
    submit_all(&coordinator, 0..3).await;
    tokio::time::sleep(secs(10)).await;
    assert_eq!(peek.rows(), 0);
    let started = Instant::now();
    let report = coordinator.flush(secs(10)).await;
    assert_eq!((report.resolved, report.outstanding), (3, 0));
    assert_eq!(
        (report.circuit, started.elapsed()),
        (CircuitState::Closed, Duration::ZERO)
    );
    assert_eq!(peek.rows(), 3);
    // It is over: the next partial batch waits for its interval again.
    submit_all(&coordinator, 3..5).await;
    tokio::time::sleep(secs(10)).await;
    assert_eq!(peek.rows(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_nothing_is_over_at_once() {
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink).start().unwrap();
    let report = coordinator.flush(secs(10)).await;
    assert_eq!((report.resolved, report.outstanding), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_what_comes_after_it() {
    let (sink, _) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = std::sync::Arc::new(builder(sink).batch_size(10).start().unwrap());
    submit_all(&coordinator, 0..10).await;
    let others = std::sync::Arc::clone(&coordinator);
    let producer = tokio::spawn(async move {
        for row in 10.. {
            if others.submit(row).await.is_err() {
                return;
            }
            tokio::time::sleep(millis(10)).await;
        }
    });
    let started = Instant::now();
    let report = coordinator.flush(secs(10)).await;
    assert_eq!((report.resolved, report.outstanding), (10, 0));
    assert!(
        started.elapsed() <= millis(1_001),
        "took {:?}",
        started.elapsed()
    );
    producer.abort();
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_ends_a_flush_at_its_timeout() {
    let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Environment, "refused"));
    let coordinator = builder(sink).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..100).await;
    tokio::time::sleep(secs(5)).await;
    let started = Instant::now();
    let report = coordinator.flush(secs(10)).await;
    assert_eq!(started.elapsed(), secs(10));
    assert_eq!((report.resolved, report.outstanding), (0, 100));
    assert_eq!(report.circuit, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_hung_write_ends_a_flush_at_its_timeout() {
    let (sink, _) = FakeSink::new(|batch| {
        if batch.iter().any(|row| *row == 7) {
            Act::Hang
        } else {
            Act::Write
        }
    });
    let coordinator = builder(sink).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..35).await;
    let report = coordinator.flush(secs(1)).await;
    assert_eq!((report.resolved, report.outstanding), (25, 10));
}

/// Flushing every second through a long outage must not pile anything up.
#[tokio::test(start_paused = true)]
async fn flushes_without_end_are_answered_right() {
    let up = Instant::now() + secs(30_000);
    let (sink, _) = FakeSink::new(move |_| {
        let down = Instant::now() < up;
        if down {
            Act::Fail(ErrorKind::Environment, "refused")
        } else {
            Act::Write
        }
    });
    let coordinator = builder(sink).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    for _ in 0..20_000 {
        let report = coordinator.flush(secs(1)).await;
        assert_eq!((report.resolved, report.outstanding), (0, 10));
    }
    submit_all(&coordinator, 10..12).await;
    let report = coordinator.flush(secs(20_000)).await;
    assert_eq!((report.resolved, report.outstanding), (12, 0));
}
