//! A stop returns in time, with a fate for every record.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mds_coordinator::{CircuitBreaker, ErrorKind, Metrics, Reason, Refusal, WriteCoordinator};
use tokio::time::Instant;

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, series, settled, submit_all,
};

#[tokio::test(start_paused = true)]
async fn a_drain_writes_partial_batches_at_once_and_reports_every_fate() {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |row| row == 3))
        .flush_interval(secs(3_600))
        .start()
        .unwrap();
    submit_all(&coordinator, [1, 2, 3, 4, 4]).await;
    let started = Instant::now();
    let report = coordinator.stop(true, secs(10)).await;
    assert_eq!(
        (started.elapsed(), report.timed_out),
        (Duration::ZERO, false)
    );
    let stats = report.stats;
    assert_eq!(
        (stats.submitted, stats.written, stats.superseded),
        (5, 3, 1)
    );
    assert_eq!(stats.dropped.get(Reason::RejectedRow), 1);
    assert_eq!((stats.queued, stats.in_flight), (0, 0));
    assert!(stats.is_balanced() && report.handed_back.is_empty());
    assert_eq!((peek.rows(), coordinator.health().workers_alive), (3, 0));
    assert_eq!(
        coordinator.submit(9).await.unwrap_err().refusal,
        Refusal::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_producers_get_their_records_back() {
    let (sink, _) = FakeSink::new(|_| Act::Slow(5_000));
    let coordinator = Arc::new(
        builder(sink)
            .workers(1)
            .batch_size(1)
            .capacity(1)
            .start()
            .unwrap(),
    );
    submit_all(&coordinator, 0..2).await;
    let producers: Vec<_> = (10..20)
        .map(|row| {
            let coordinator = Arc::clone(&coordinator);
            tokio::spawn(async move { coordinator.submit(row).await.unwrap_err() })
        })
        .collect();
    let many = {
        let coordinator = Arc::clone(&coordinator);
        tokio::spawn(async move {
            let mut rows = (20..30).collect();
            let error = coordinator.submit_many(&mut rows).await.unwrap_err();
            (error.refusal, rows.len())
        })
    };
    tokio::time::sleep(millis(10)).await;
    let report = coordinator.stop(true, secs(60)).await;
    for (row, producer) in (10..20).zip(producers) {
        let refusal = producer.await.unwrap();
        assert_eq!((refusal.item, refusal.refusal), (row, Refusal::Closed));
    }
    assert_eq!(many.await.unwrap(), (Refusal::Closed, 10));
    assert_eq!((report.stats.submitted, report.stats.written), (2, 2));
    // The books of a stop's report are older than the producers' last counts.
    assert_eq!(coordinator.stats().refused_total(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_probed_until_the_deadline() {
    let down_for = |seconds| {
        let up = Instant::now() + secs(seconds);
        FakeSink::new(move |_| {
            let down = Instant::now() < up;
            if down {
                Act::Fail(ErrorKind::Environment, "refused")
            } else {
                Act::Write
            }
        })
    };
    // It comes back five seconds before the deadline.
    let (sink, peek) = down_for(25);
    let coordinator = builder(sink).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..100).await;
    tokio::time::sleep(secs(20)).await;
    let started = Instant::now();
    let report = coordinator.stop(true, secs(10)).await;
    assert_eq!(
        (report.stats.written, peek.rows(), report.timed_out),
        (100, 100, false)
    );
    // 2 s is the longest wait between two probes.
    assert!(started.elapsed() <= secs(7), "took {:?}", started.elapsed());

    // It does not.
    let (sink, _) = down_for(3_600);
    let letters = FakeLetters::new();
    let coordinator = builder(sink).dead_letters(letters.place()).start().unwrap();
    submit_all(&coordinator, 0..100).await;
    tokio::time::sleep(secs(20)).await;
    let started = Instant::now();
    let report = coordinator.stop(true, secs(10)).await;
    assert!(started.elapsed() >= secs(10) && started.elapsed() <= secs(11));
    assert!(report.timed_out);
    assert_eq!(report.stats.dead_lettered.get(Reason::Shutdown), 100);
    assert_eq!(letters.rows(), (0..100).collect::<Vec<_>>());
    assert!(letters.seen().iter().all(|l| l.reason == "shutdown"));
}

/// Whatever the store says: what could not be written comes back to who stopped the coordinator.
#[tokio::test(start_paused = true)]
async fn an_outage_that_outlasts_the_drain_hands_every_record_back() {
    for act in [
        Act::Fail(ErrorKind::Environment, "refused"),
        Act::Fail(ErrorKind::Transient, "deadlock"),
        Act::Fail(ErrorKind::Unknown, "timeout"),
        Act::Fail(ErrorKind::Unknown, "refused"),
        Act::Fail(ErrorKind::Fatal, "no such table"),
        Act::Panic,
    ] {
        let (sink, _) = FakeSink::new(move |_| act);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let coordinator = builder(sink)
            .batch_size(3)
            .drop_callback(move |row, reason| tell.lock().unwrap().push((*row, reason)))
            .start()
            .unwrap();
        submit_all(&coordinator, 0..10).await;
        tokio::time::sleep(secs(5)).await;
        let report = coordinator.stop(true, secs(60)).await;
        let mut back = report.handed_back;
        back.sort_unstable();
        assert_eq!(back, (0..10).collect::<Vec<_>>(), "{act:?}");
        assert_eq!(report.stats.dropped.get(Reason::Shutdown), 10, "{act:?}");
        let mut told = told.lock().unwrap().clone();
        told.sort_unstable();
        let all: Vec<_> = (0..10).map(|row| (row, Reason::Shutdown)).collect();
        assert_eq!(told, all, "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_drain_no_write_is_started_and_those_under_way_may_end() {
    let (sink, peek) = FakeSink::new(|_| Act::Slow(2_000));
    let coordinator = builder(sink).workers(2).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..100).await;
    tokio::time::sleep(secs(1)).await;
    assert_eq!(peek.attempts(), 2);
    let started = Instant::now();
    let report = coordinator.stop(false, secs(10)).await;
    assert_eq!(started.elapsed(), secs(1));
    assert_eq!((peek.attempts(), report.stats.written), (2, 20));
    assert_eq!((report.handed_back.len(), report.timed_out), (80, false));
    assert_eq!(report.stats.dropped.get(Reason::Shutdown), 80);
    tokio::time::sleep(secs(3_600)).await;
    assert_eq!(peek.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_drain_a_failing_batch_is_not_tried_again() {
    let (sink, peek) = FakeSink::new(|_| Act::Fail(ErrorKind::Transient, "deadlock"));
    let coordinator = builder(sink).workers(1).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(millis(10)).await;
    let before = peek.attempts();
    let report = coordinator.stop(false, secs(10)).await;
    assert_eq!(
        (before, peek.attempts(), report.handed_back.len()),
        (1, 1, 10)
    );
}

#[tokio::test(start_paused = true)]
async fn a_hung_write_is_left_alone_and_changes_no_count_later() {
    let (sink, peek) = FakeSink::new(|_| Act::Slow(60_000));
    let letters = FakeLetters::new();
    let coordinator = builder(sink)
        .batch_size(10)
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(1)).await;
    let started = Instant::now();
    let report = coordinator.stop(true, secs(5)).await;
    assert!(started.elapsed() <= secs(6), "took {:?}", started.elapsed());
    assert!(report.timed_out);
    assert_eq!(report.stats.dead_lettered.get(Reason::Shutdown), 10);
    assert!(
        letters.seen().iter().all(|l| l.outcome_unknown),
        "they may be written yet"
    );
    tokio::time::sleep(secs(120)).await;
    assert_eq!(peek.rows(), 10, "the write went on alone");
    assert_eq!(coordinator.stats(), report.stats);
}

#[tokio::test(start_paused = true)]
async fn records_held_by_a_hung_write_are_handed_back_too() {
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let coordinator = builder(sink).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(1)).await;
    let report = coordinator.stop(true, secs(5)).await;
    let shared: Vec<u64> = report
        .handed_back_shared
        .iter()
        .flat_map(|b| b.iter().copied())
        .collect();
    assert_eq!((report.handed_back.len(), shared), (0, (0..10).collect()));
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_answers_with_the_same_books() {
    let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Environment, "refused"));
    let coordinator = builder(sink).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    let first = coordinator.stop(true, secs(1)).await;
    let started = Instant::now();
    let second = coordinator.stop(true, secs(10)).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!((first.handed_back.len(), second.handed_back.len()), (10, 0));
    assert_eq!((first.stats, second.timed_out), (second.stats, false));
}

/// A second stop in a hurry, while the first one drains: each record comes back once.
#[tokio::test(start_paused = true)]
async fn two_stops_at_once_share_the_records() {
    let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Environment, "refused"));
    let told = Arc::new(Mutex::new(0));
    let tell = Arc::clone(&told);
    let coordinator = Arc::new(
        builder(sink)
            .dead_letters(FakeLetters::down_for(3_600))
            .drop_callback(move |_, _| *tell.lock().unwrap() += 1)
            .start()
            .unwrap(),
    );
    submit_all(&coordinator, 0..10).await;
    let slow = Arc::clone(&coordinator);
    let first = tokio::spawn(async move { slow.stop(true, secs(60)).await });
    tokio::time::sleep(secs(1)).await;
    let started = Instant::now();
    let second = coordinator.stop(false, secs(2)).await;
    assert!(started.elapsed() <= secs(3), "took {:?}", started.elapsed());
    let first = first.await.unwrap();
    assert!(
        started.elapsed() <= secs(3),
        "the first went on for {:?}",
        started.elapsed()
    );
    assert_eq!(first.handed_back.len() + second.handed_back.len(), 10);
    assert_eq!(
        (
            *told.lock().unwrap(),
            second.stats.dropped.get(Reason::Shutdown)
        ),
        (10, 10)
    );
}

/// Rows that failed alone must not be tried in an endless loop while a drain waits for others.
#[tokio::test(start_paused = true)]
async fn a_drain_tries_failing_rows_now_and_then() {
    let (sink, peek) = FakeSink::new(|batch| {
        if batch.get(0) == Some(&0) {
            Act::Hang
        } else {
            Act::Fail(ErrorKind::Unknown, "no")
        }
    });
    let coordinator = builder(sink)
        .batch_size(1)
        .circuit_breaker(None::<CircuitBreaker>)
        .start()
        .unwrap();
    submit_all(&coordinator, 0..3).await;
    tokio::time::sleep(secs(1)).await;
    let before = peek.attempts();
    coordinator.stop(true, secs(10)).await;
    assert!(
        peek.attempts() - before <= 600,
        "{} attempts",
        peek.attempts() - before
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_without_stop_it_still_settles_every_record() {
    let (sink, peek) = FakeSink::new(|_| Act::Slow(5_000));
    let letters = FakeLetters::new();
    let metrics = Metrics::new();
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(10)
        .metrics(metrics.clone())
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..30).await;
    tokio::time::sleep(secs(1)).await;
    drop(coordinator);
    assert_eq!(letters.rows(), (0..30).collect::<Vec<_>>());
    let unknown = letters.seen().iter().filter(|l| l.outcome_unknown).count();
    assert_eq!(unknown, 10, "only those that were being written");
    let labels = "{coord_id=\"default\",reason=\"shutdown\"}";
    let counted = series(
        &metrics,
        &format!("mds_coord_items_dead_lettered_total{labels}"),
    );
    assert!((counted - 30.0).abs() < 1e-9);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(peek.attempts(), 1, "nothing is written any more");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_stop_leaves_the_rest_to_the_drop() {
    let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Environment, "refused"));
    let letters = FakeLetters::new();
    let coordinator = builder(sink).dead_letters(letters.place()).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    assert!(
        tokio::time::timeout(secs(1), coordinator.stop(true, secs(60)))
            .await
            .is_err()
    );
    assert_eq!(
        coordinator.submit(11).await.unwrap_err().refusal,
        Refusal::Closed
    );
    assert_eq!(letters.rows(), Vec::<u64>::new());
    drop(coordinator);
    assert_eq!(letters.rows(), (0..10).collect::<Vec<_>>());
}

/// A drain does not wait for a flush interval, nor for rows that were set aside.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_no_row_that_was_set_aside() {
    let down = Arc::new(Mutex::new(true));
    let is_down = Arc::clone(&down);
    let (sink, peek) = FakeSink::new(move |_| {
        let down = *is_down.lock().unwrap();
        if down {
            Act::FailFor(ErrorKind::Unknown, secs(3_600))
        } else {
            Act::Write
        }
    });
    let coordinator: WriteCoordinator<u64> =
        builder(sink).workers(1).batch_size(1).start().unwrap();
    submit_all(&coordinator, 0..3).await;
    tokio::time::sleep(secs(1)).await;
    *down.lock().unwrap() = false;
    let started = Instant::now();
    let report = coordinator.stop(true, secs(10)).await;
    assert_eq!((report.stats.written, peek.rows()), (3, 3));
    assert!(started.elapsed() <= secs(1), "took {:?}", started.elapsed());
    settled(&coordinator, secs(1)).await;
}

/// With its intake closed and nothing to do, it waits; the clock can go on, and a worker is there for
/// what comes back.
#[test]
fn a_coordinator_whose_intake_is_closed_idles() {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let (sink, peek) = FakeSink::writing();
            let coordinator = builder(sink).workers(2).start().unwrap();
            submit_all(&coordinator, 0..10).await;
            settled(&coordinator, secs(10)).await;
            coordinator.close_intake();
            tokio::time::sleep(secs(3_600)).await;
            assert_eq!(coordinator.health().workers_alive, 2);
            let report = coordinator.stop(true, secs(10)).await;
            tell.send((peek.rows(), report.timed_out)).unwrap();
        });
    });
    // A coordinator that turns without end never lets the hour pass.
    let told = told.recv_timeout(secs(60));
    assert_eq!(told, Ok((10, false)));
}
