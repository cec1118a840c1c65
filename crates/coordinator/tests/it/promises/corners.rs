//! Corners: settings at their limits, and callers that go away, one test for each that once broke
//! a promise.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqError, DlqOptions, LetterDraft, LetterFilter, LetterItem,
};
use mds_coordinator::{
    BoundedQueue, CircuitBreaker, ConfigError, DeadLetters, Degraded, ErrorKind, Fate, FeedbackBus,
    Metrics, OverflowStrategy, QueueOptions, Refusal, RetryPolicy, WriteCoordinator,
};
use tokio::time::{Instant, timeout};

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, series, settled, submit_all,
};

#[tokio::test(start_paused = true)]
async fn a_queue_smaller_than_a_batch_is_written_when_it_is_full() {
    for strategy in [
        OverflowStrategy::Block,
        OverflowStrategy::DropOldest,
        OverflowStrategy::Error,
    ] {
        let (sink, peek) = FakeSink::writing();
        let coordinator = builder(sink)
            .capacity(10)
            .batch_size(500)
            .flush_interval(secs(3_600))
            .overflow_strategy(strategy)
            .start()
            .unwrap();
        for row in 0..100 {
            coordinator.submit(row).await.unwrap();
            tokio::time::sleep(millis(1)).await;
        }
        assert_eq!(coordinator.stats().dropped.total(), 0, "{strategy}");
        assert_eq!(peek.batch_sizes(), vec![10; 10], "{strategy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_taker_that_is_cancelled_leaves_the_time_to_the_others() {
    let queue = BoundedQueue::new(QueueOptions::default());
    let (first, second) = (queue.clone(), queue.clone());
    let first = tokio::spawn(async move { first.take().await });
    tokio::task::yield_now().await;
    let second = tokio::spawn(async move { second.take().await.unwrap().settle(Fate::Written) });
    tokio::task::yield_now().await;
    // The first one wakes, finds an unfilled batch and keeps its time.
    queue.try_put("a").unwrap();
    tokio::time::sleep(millis(10)).await;
    first.abort();
    let taken = timeout(secs(1), second).await;
    taken.expect("the record was never taken").unwrap();
    assert_eq!(queue.stats().written, 1);
}

#[tokio::test(start_paused = true)]
async fn no_record_goes_for_one_that_cannot_be_pushed() {
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(10)
        .capacity(100)
        .size_of(|row| if *row == 777 { 2_000 } else { 1 })
        .max_bytes(1_000)
        .overflow_strategy(OverflowStrategy::DropOldest)
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(1)).await;
    submit_all(&coordinator, 10..110).await;
    let mut rows: VecDeque<u64> = [500, 777].into_iter().chain(600..650).collect();
    let error = coordinator.submit_many(&mut rows).await.unwrap_err();
    assert_eq!((error.accepted, error.refusal), (1, Refusal::TooLarge));
    assert_eq!(
        coordinator.stats().dropped.total(),
        1,
        "one went for the one that was accepted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_bound_of_records_is_bounded_by_bytes() {
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(1)
        .capacity(usize::MAX)
        .max_bytes(100)
        .size_of(|_| 10)
        .overflow_strategy(OverflowStrategy::DropOldest)
        .start()
        .unwrap();
    for row in 0..30 {
        coordinator.submit(row).await.unwrap();
        tokio::time::sleep(millis(1)).await;
    }
    let stats = coordinator.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(
        (stats.queued, stats.in_flight, stats.dropped.total()),
        (10, 1, 19)
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_too_large_counts_once_whatever_stands_behind_it() {
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink)
        .max_bytes(1_000)
        .size_of(|row| if row.is_multiple_of(10) { 2_000 } else { 1 })
        .start()
        .unwrap();
    let mut rows: VecDeque<u64> = (0..100).collect();
    while let Err(error) = coordinator.submit_many(&mut rows).await {
        assert_eq!(error.refusal, Refusal::TooLarge);
        rows.pop_front();
    }
    let stats = coordinator.stats();
    assert_eq!((stats.submitted, stats.refused_total()), (90, 10));
}

/// Letters that fail twice, and then take all but row 13, which is too large for them.
#[derive(Default)]
struct AllButOne {
    appends: AtomicUsize,
    kept: Mutex<Vec<u64>>,
}

impl DeadLetters<u64> for AllButOne {
    fn item(&self, item: &u64) -> LetterItem {
        LetterItem::record(item).unwrap()
    }

    fn append(&self, letters: Vec<LetterDraft>) -> Result<(), DlqError> {
        if self.appends.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(DlqError::Full {
                path: "letters".into(),
                limit: 1,
                used: 1,
                needed: 1,
            });
        }
        let rows: Vec<u64> = letters
            .iter()
            .map(|letter| letter.metadata["row"].as_u64().unwrap())
            .collect();
        if rows.contains(&13) {
            return Err(DlqError::TooLarge { bytes: 2, limit: 1 });
        }
        self.kept.lock().unwrap().extend(rows);
        Ok(())
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn letters_that_were_written_one_by_one_end_their_outage_too() {
    let (sink, _) = FakeSink::writing();
    let letters = Arc::<AllButOne>::default();
    let coordinator = builder(sink.poison(Poison::Named, |row| row >= 10))
        .dead_letters(Arc::<AllButOne>::clone(&letters))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..20).await;
    settled(&coordinator, secs(10)).await;
    let stats = coordinator.stats();
    assert_eq!((stats.dead_lettered.total(), stats.dropped.total()), (9, 1));
    assert_eq!(letters.kept.lock().unwrap().len(), 9);
    assert_eq!(coordinator.degraded(), []);
}

/// Letters whose item of row 13 panics.
#[derive(Default)]
struct PanicsOnce(Mutex<Vec<String>>);

impl DeadLetters<u64> for PanicsOnce {
    fn item(&self, item: &u64) -> LetterItem {
        assert!(*item != 13, "row 13 cannot be put into a letter");
        LetterItem::record(item).unwrap()
    }

    fn append(&self, letters: Vec<LetterDraft>) -> Result<(), DlqError> {
        let rows = letters
            .iter()
            .map(|letter| letter.metadata["row"].to_string());
        self.0.lock().unwrap().extend(rows);
        Ok(())
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_panics_holds_up_no_letter_and_has_one() {
    let (sink, _) = FakeSink::writing();
    let letters = Arc::<PanicsOnce>::default();
    let coordinator = builder(sink.poison(Poison::Named, |row| row >= 10))
        .dead_letters(Arc::<PanicsOnce>::clone(&letters))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..20).await;
    settled(&coordinator, secs(10)).await;
    assert_eq!(coordinator.stats().dead_lettered.total(), 10);
    let kept = letters.0.lock().unwrap();
    assert!(
        kept.len() == 10 && kept.contains(&"13".to_owned()),
        "{kept:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_coordinator_was_dropped_none_of_its_workers_is_alive() {
    let (sink, _) = FakeSink::writing();
    let metrics = Metrics::new();
    let coordinator = WriteCoordinator::builder(sink)
        .metrics(metrics.clone())
        .feedback_bus(FeedbackBus::new())
        .start()
        .unwrap();
    let alive = "mds_coord_workers_alive{coord_id=\"default\"}";
    assert!((series(&metrics, alive) - 4.0).abs() < f64::EPSILON);
    drop(coordinator);
    assert!(series(&metrics, alive).abs() < f64::EPSILON);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_without_open_time_has_one_probe_and_does_not_spin() {
    let breaker = CircuitBreaker::new(1, Duration::ZERO);
    breaker.on_failure();
    let probe = breaker.acquire().await;
    assert!(probe.is_probe());
    assert!(breaker.allow().is_err(), "a second probe");
    drop(probe);

    let (sink, peek) = FakeSink::new(|_| Act::Fail(ErrorKind::Environment, "down"));
    let coordinator = builder(sink)
        .circuit_breaker(CircuitBreaker::new(1, Duration::ZERO))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(1)).await;
    assert!(peek.attempts() <= 1_000, "{} attempts", peek.attempts());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_also_without_a_circuit_breaker() {
    let (sink, _) = FakeSink::new(|batch| match batch.get(0) {
        Some(0) => Act::Fail(ErrorKind::Environment, "the store is down"),
        _ => Act::Write,
    });
    let coordinator = builder(sink).circuit_breaker(None).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(60)).await;
    let error = "the store is down (environment, scripted)".to_owned();
    assert_eq!(
        coordinator.degraded(),
        [Degraded::WritesFailing { error: Some(error) }]
    );
}

#[tokio::test(start_paused = true)]
async fn times_and_factors_that_mean_nothing_are_refused() {
    let (sink, _) = FakeSink::writing();
    let error = builder(sink)
        .write_timeout(Duration::ZERO)
        .start()
        .unwrap_err();
    assert_eq!(error.to_string(), "write_timeout must be longer than zero");
    let (sink, _) = FakeSink::writing();
    let policy = RetryPolicy {
        backoff_multiplier: f64::NAN,
        ..RetryPolicy::default()
    };
    let error = builder(sink).retry_policy(policy).start().unwrap_err();
    assert!(matches!(error, ConfigError::Multiplier(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_hands_records_back_that_wait_for_the_letters_of_others() {
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let letters = FakeLetters::down_for(1_000);
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(1)
        .capacity(1)
        .dead_letters(letters.place())
        .overflow_strategy(OverflowStrategy::DropOldest)
        .start()
        .unwrap();
    let coordinator = Arc::new(coordinator);
    let one = Arc::clone(&coordinator);
    let producer = tokio::spawn(async move {
        for row in 0.. {
            if let Err(refused) = one.submit(row).await {
                return (refused.refusal, Instant::now());
            }
        }
        unreachable!("rows never end")
    });
    let many = Arc::clone(&coordinator);
    let producer_of_many = tokio::spawn(async move {
        let mut rows: VecDeque<u64> = (1_000..2_000).collect();
        let error = many.submit_many(&mut rows).await.unwrap_err();
        (error.refusal, Instant::now())
    });
    tokio::time::sleep(secs(10)).await;
    let began = Instant::now();
    let report = coordinator.stop(true, secs(10)).await;
    assert!(report.stats.is_balanced(), "{:?}", report.stats);
    for producer in [producer, producer_of_many] {
        let (refusal, at) = producer.await.unwrap();
        assert_eq!(refusal, Refusal::Closed);
        assert_eq!(at - began, Duration::ZERO);
    }
}

/// Letters whose append does not come back before it is released.
struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

impl DeadLetters<u64> for Stuck {
    fn item(&self, item: &u64) -> LetterItem {
        LetterItem::record(item).unwrap()
    }

    fn append(&self, _: Vec<LetterDraft>) -> Result<(), DlqError> {
        self.0.lock().unwrap().recv().unwrap();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_of_letters_that_does_not_come_back_is_told() {
    let (release, stuck) = std::sync::mpsc::channel();
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |_| true))
        .flush_interval(Duration::ZERO)
        .dead_letters(Arc::new(Stuck(Mutex::new(stuck))))
        .start()
        .unwrap();
    coordinator.submit(1).await.unwrap();
    // Time does not pass by itself while a thread is blocked.
    for _ in 0..60 {
        tokio::time::advance(millis(100)).await;
    }
    assert_eq!(coordinator.degraded(), [Degraded::DeadLettersFailing]);
    assert_eq!(coordinator.stats().in_flight, 1);
    release.send(()).unwrap();
    settled(&coordinator, secs(1)).await;
    assert_eq!(coordinator.stats().dead_lettered.total(), 1);
    assert_eq!(coordinator.degraded(), []);
}

#[tokio::test(start_paused = true)]
async fn letters_that_together_exceed_all_room_are_written_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = DlqOptions {
        max_total_bytes: 2_000,
        ..DlqOptions::default()
    };
    let letters = DeadLetterQueue::<u64>::open(dir.path().join("rows.ndjson"), options).unwrap();
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |_| true))
        .workers(1)
        .dead_letters(Arc::new(letters.clone()))
        .describe_letter(|row, letter| {
            // One is larger than all letters together may be.
            let size = if *row == 13 { 5_000 } else { 100 };
            letter
                .metadata
                .insert("text".into(), "x".repeat(size).into());
        })
        .start()
        .unwrap();
    submit_all(&coordinator, 0..20).await;
    let (mut purged, mut rounds) = (0, 0);
    while coordinator.stats().in_flight + coordinator.stats().queued > 0 {
        rounds += 1;
        assert!(rounds < 20, "{:?}", coordinator.stats());
        tokio::time::sleep(secs(5)).await;
        assert!(letters.bytes().unwrap() <= 2_000);
        purged += letters.purge(LetterFilter::default()).unwrap();
    }
    let stats = coordinator.stats();
    assert_eq!(
        (stats.dead_lettered.total(), stats.dropped.total()),
        (19, 1)
    );
    assert_eq!(purged, 19);
}

#[tokio::test(start_paused = true)]
async fn a_drop_does_not_wait_for_letters_for_ever() {
    let (release, stuck) = std::sync::mpsc::channel();
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let told = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&told);
    let coordinator = builder(sink)
        .dead_letters(Arc::new(Stuck(Mutex::new(stuck))))
        .drop_callback(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    drop(coordinator);
    assert_eq!(told.load(Ordering::Relaxed), 10);
    drop(release);
}
