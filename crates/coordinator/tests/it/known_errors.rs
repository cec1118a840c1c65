//! The defects of `market-data-store` 0.6.73, the Python program that this one takes the place of:
//! each was measured there or read in its source, and each has a test here that fails if we make
//! the same mistake.

use std::sync::Arc;
use std::time::Duration;

use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, Letter, LetterFilter};
use mds_coordinator::{
    CircuitBreaker, CircuitState, ErrorKind, FeedbackBus, OverflowStrategy, Reason, Refusal,
    default_retry_classifier,
};
use mds_core::Bar;
use tokio::time::{Instant, timeout};

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, settled, submit_all,
};

/// Four refused connections, then a healthy store: 0 of 1,000 written, 0 of 4 workers left, the
/// breaker "closed". "Connection refused" matched no retry word, and a worker ended with its error.
#[tokio::test(start_paused = true)]
async fn four_refused_connections_lose_everything() {
    for kind in [ErrorKind::Environment, ErrorKind::Unknown] {
        let mut failures = 4;
        let (sink, peek) = FakeSink::new(move |_| {
            if failures == 0 {
                return Act::Write;
            }
            failures -= 1;
            Act::Fail(kind, "connection refused")
        });
        let letters = FakeLetters::new();
        let coordinator = builder(sink)
            .batch_size(10)
            .dead_letters(letters.place())
            .start()
            .unwrap();
        submit_all(&coordinator, 0..1_000).await;
        settled(&coordinator, secs(120)).await;
        assert_eq!((peek.rows(), letters.rows()), (1_000, vec![]), "{kind}");
        assert_eq!(coordinator.health().workers_alive, 4);
        assert_eq!(coordinator.health().circuit_state, CircuitState::Closed);
    }
}

/// One bad row: 990 of 1,000 written, 3 of 4 workers left for good, its whole batch gone without a
/// dead letter. Four bad rows, then 500 good ones: no worker left, 0 of 500 written.
#[tokio::test(start_paused = true)]
async fn bad_rows_cost_their_batch_and_a_worker_each() {
    let (sink, peek) = FakeSink::writing();
    let letters = FakeLetters::new();
    let coordinator = builder(sink.check(|| true).poison(Poison::Unknown, |row| row < 4))
        .batch_size(10)
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..4).await;
    settled(&coordinator, secs(120)).await;
    assert_eq!(coordinator.health().workers_alive, 4);
    submit_all(&coordinator, 4..1_000).await;
    settled(&coordinator, secs(120)).await;
    assert_eq!((peek.rows(), letters.rows()), (996, vec![0, 1, 2, 3]));
    assert_eq!(coordinator.health().workers_alive, 4);
}

/// Twelve timeouts with a breaker of 5 failures and 0.5 s: 0 of 1,000 written before the stop, which
/// threw everything away. Each look at the open breaker used up an attempt, so that the first
/// failure after it was final.
#[tokio::test(start_paused = true)]
async fn twelve_timeouts_lose_everything() {
    let mut failures = 12;
    let (sink, peek) = FakeSink::new(move |_| {
        if failures == 0 {
            return Act::Write;
        }
        failures -= 1;
        Act::Fail(ErrorKind::Unknown, "TimeoutError")
    });
    let letters = FakeLetters::new();
    let coordinator = builder(sink)
        .batch_size(10)
        .circuit_breaker(CircuitBreaker::new(5, millis(500)))
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..1_000).await;
    let took = settled(&coordinator, secs(30)).await;
    assert_eq!((peek.rows(), letters.rows()), (1_000, vec![]));
    assert!(took <= secs(8), "took {took:?}");
    assert_eq!(coordinator.health().workers_alive, 4);
}

/// Ten rows, 0.6 s of silence, 100 rows: none of the 100 was ever written, with every health figure
/// green. The wait for the next row had become zero for good, and a wait of zero takes nothing.
#[tokio::test(start_paused = true)]
async fn a_quarter_second_of_silence_stops_it_for_good() {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(millis(600)).await;
    submit_all(&coordinator, 10..110).await;
    tokio::time::sleep(secs(3)).await;
    assert_eq!(peek.rows(), 110);
}

/// An idle coordinator with 4 workers took 0.78 of a core: the same loop, spinning.
#[tokio::test(start_paused = true)]
async fn idle_workers_spin() {
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink).start().unwrap();
    coordinator.submit(1).await.unwrap();
    settled(&coordinator, secs(1)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_park_count(0);
    tokio::time::sleep(secs(60)).await;
    let woken = metrics.worker_park_count(0) - before;
    assert!(
        (1..=5).contains(&woken),
        "woken {woken} times in an idle minute"
    );
}

/// A dead letter came back as the text of its record (`Bar(symbol='SPY'...)`), its types lost.
#[tokio::test]
async fn dead_letters_come_back_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bars.ndjson");
    let dlq = DeadLetterQueue::<Bar>::open(&path, DlqOptions::default()).unwrap();
    let bar = Bar {
        symbol: "SPY".into(),
        close_price: Some(0.1),
        ..Bar::default()
    };
    dlq.save(std::slice::from_ref(&bar), &"x", &serde_json::Map::new())
        .await
        .unwrap();
    assert_eq!(dlq.replay(1).await.unwrap()[0].items, [bar]);
}

/// `replay` always read the same first letters, and nothing was ever done with them.
#[tokio::test]
async fn replaying_never_gets_further() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.ndjson");
    let dlq = DeadLetterQueue::<u64>::open(&path, DlqOptions::default()).unwrap();
    for row in 0..5 {
        dlq.save(&[row], &"x", &serde_json::Map::new())
            .await
            .unwrap();
    }
    let mut replayer = dlq.replayer(LetterFilter::default()).unwrap();
    let first: Vec<_> = replayer
        .next_batch(2)
        .unwrap()
        .iter()
        .map(Letter::key)
        .collect();
    replayer.settle(&first).unwrap();
    replayer.finish().unwrap();
    let left: Vec<u64> = dlq
        .replay(2)
        .await
        .unwrap()
        .into_iter()
        .flat_map(|r| r.items)
        .collect();
    assert_eq!(left, [2, 3]);
}

/// Dead letters existed, but nothing wrote any: given-up rows were gone.
#[tokio::test]
async fn nothing_writes_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.ndjson");
    let dlq = DeadLetterQueue::<u64>::open(&path, DlqOptions::default()).unwrap();
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |row| row == 7))
        .dead_letters(Arc::new(dlq.clone()))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    let report = coordinator.stop(true, secs(10)).await;
    assert_eq!(report.stats.dead_lettered.get(Reason::RejectedRow), 1);
    assert_eq!(dlq.replay(10).await.unwrap()[0].items, [7]);
}

/// Half open let all of 50 callers through, on a clock that can be set.
#[tokio::test(start_paused = true)]
async fn half_open_admits_everybody() {
    let breaker = CircuitBreaker::new(1, secs(60));
    breaker.on_failure();
    tokio::time::advance(secs(60)).await;
    let admitted: Vec<_> = (0..50).filter_map(|_| breaker.allow().ok()).collect();
    assert_eq!(admitted.len(), 1);
}

/// `put` waited for subscribers with the queue locked: a webhook of 3 tries of 2.5 s stood still
/// every producer.
#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_holds_up_producers() {
    let bus = FeedbackBus::new();
    let mut events = bus.subscribe();
    let webhook = tokio::spawn(async move {
        let mut handled = 0;
        while events.recv().await.is_some() {
            tokio::time::sleep(millis(7_500)).await;
            handled += 1;
            if handled == 2 {
                break;
            }
        }
    });
    let (sink, _) = FakeSink::new(|_| Act::Slow(60_000));
    let coordinator = builder(sink)
        .feedback_bus(bus.clone())
        .capacity(10)
        .start()
        .unwrap();
    let started = Instant::now();
    submit_all(&coordinator, 0..10).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    webhook.await.unwrap();
    assert!(
        started.elapsed() >= secs(15),
        "it did hear of soft and hard"
    );
}

/// The strategy `error` looked whether the queue was full and then waited to put: with several
/// producers it blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_error_strategy_blocks() {
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let coordinator = Arc::new(
        builder(sink)
            .workers(1)
            .batch_size(1)
            .capacity(5)
            .overflow_strategy(OverflowStrategy::Error)
            .start()
            .unwrap(),
    );
    let producers: Vec<_> = (0..8)
        .map(|_| {
            let coordinator = Arc::clone(&coordinator);
            tokio::spawn(async move {
                let mut refused = 0;
                for row in 0..2_000 {
                    if let Err(error) = coordinator.submit(row).await {
                        assert_eq!((error.item, error.refusal), (row, Refusal::QueueFull));
                        refused += 1;
                    }
                }
                refused
            })
        })
        .collect();
    let mut refused = 0;
    for producer in producers {
        // A producer that blocks hangs the test here.
        refused += producer.await.unwrap();
    }
    let stats = coordinator.stats();
    assert_eq!(stats.submitted + refused, 16_000);
    assert!(stats.submitted <= 6, "{stats:?}");
}

/// `drop_oldest` looked, took one and then waited to put: producers raced for the place, and the
/// dropped rows were counted by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drop_oldest_races() {
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let coordinator = Arc::new(
        builder(sink)
            .workers(1)
            .batch_size(1)
            .capacity(5)
            .overflow_strategy(OverflowStrategy::DropOldest)
            .start()
            .unwrap(),
    );
    coordinator.submit(0).await.unwrap();
    while coordinator.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let producers: Vec<_> = (0..8)
        .map(|_| {
            let coordinator = Arc::clone(&coordinator);
            tokio::spawn(async move {
                for row in 0..2_000 {
                    coordinator.submit(row).await.unwrap();
                    assert!(coordinator.health().queue_size <= 5);
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    let stats = coordinator.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(
        (stats.submitted, stats.queued, stats.in_flight),
        (16_001, 5, 1)
    );
    assert_eq!(stats.dropped.get(Reason::Overflow), 15_995);
}

/// The soft level was told on the way up only.
#[tokio::test(start_paused = true)]
async fn soft_is_not_told_on_the_way_down() {
    let bus = FeedbackBus::new();
    let mut events = bus.subscribe();
    let (sink, _) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(1)
        .capacity(10)
        .feedback_bus(bus.clone())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    settled(&coordinator, secs(60)).await;
    let mut levels = Vec::new();
    while let Some(event) = events.try_recv() {
        levels.push(event.level.as_str());
    }
    assert_eq!(levels, ["soft", "hard", "soft", "ok"]);
}

/// After the drain timeout the rest of the queue was thrown away, with one line in the log and no
/// count.
#[tokio::test(start_paused = true)]
async fn what_a_stop_leaves_over_is_thrown_away_uncounted() {
    let (sink, _) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = builder(sink).workers(1).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..100).await;
    let report = coordinator.stop(true, millis(3_500)).await;
    let stats = report.stats;
    assert_eq!((stats.submitted, stats.written), (100, 30));
    assert_eq!(stats.dropped.get(Reason::Shutdown), 70);
    let shared: usize = report
        .handed_back_shared
        .iter()
        .map(mds_coordinator::Batch::len)
        .sum();
    // The batch that was being written is shared with the write, which goes on alone.
    assert_eq!((report.handed_back.len(), shared), (60, 10));
}

/// A breaker whose workers are all dead still said "closed": health looked at nothing.
#[tokio::test(start_paused = true)]
async fn an_outage_does_not_show_in_health() {
    let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Environment, "connection refused"));
    let coordinator = builder(sink).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(10)).await;
    let health = coordinator.health();
    assert_eq!(
        (health.workers_alive, health.circuit_state),
        (4, CircuitState::Open)
    );
    let degraded = format!("{:?}", coordinator.degraded());
    assert!(degraded.contains("connection refused"), "{degraded}");
    assert!(coordinator.stats().oldest_age.unwrap() >= secs(9));
}

/// The words that mean "try again", and the text that none of them matched.
#[test]
fn connection_refused_is_no_retry_word() {
    assert!(!default_retry_classifier(
        "ConnectionRefusedError: connection refused"
    ));
    let retried = [
        "TimeoutError",
        "temporarily unavailable",
        "Deadlock found",
        "retry",
        "BUSY",
    ];
    assert!(retried.iter().all(|text| default_retry_classifier(text)));
}

/// `put` added the row first and counted it after another wait: cancelled in between, the row was
/// in the queue and in no count. Here a cancelled submit has put nothing in.
#[tokio::test(start_paused = true)]
async fn a_cancelled_put_is_half_done() {
    let (sink, peek) = FakeSink::new(|_| Act::Slow(100));
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(1)
        .capacity(1)
        .start()
        .unwrap();
    let mut accepted = Vec::new();
    for row in 0..200 {
        let submit = timeout(millis(row % 150), coordinator.submit(row));
        if let Ok(answer) = submit.await {
            answer.unwrap();
            accepted.push(row);
        }
    }
    settled(&coordinator, secs(60)).await;
    assert!(
        accepted.len() > 20 && accepted.len() < 180,
        "{} accepted",
        accepted.len()
    );
    assert_eq!(peek.rows(), accepted.len());
    assert!(accepted.iter().all(|row| peek.has(*row)));
    assert_eq!(coordinator.stats().submitted, accepted.len() as u64);
}
