//! The specification's own test suites, by the names of its table; `spec_ledger` holds its names,
//! types and defaults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mds_coordinator::{
    BoundedQueue, CircuitBreaker, CircuitState, CoordinatorHealth, DeadLetterQueue, ErrorKind,
    Exposition, Fate, FeedbackBus, Metrics, OverflowStrategy, QueueOptions, Reason, Refusal,
    RetryPolicy, default_retry_classifier,
};
use serde_json::{Map, Value, json};

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, settled, submit_all,
};

mod circuit_breaker {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn state_transitions() {
        let breaker = CircuitBreaker::default();
        for _ in 0..4 {
            breaker.on_failure();
            assert_eq!(breaker.state(), CircuitState::Closed);
        }
        breaker.on_failure();
        assert_eq!(breaker.state(), CircuitState::Open);
        tokio::time::advance(secs(60)).await;
        breaker.allow().unwrap().success();
        assert_eq!(breaker.state(), CircuitState::Closed);
        // A success in between: failures count in a row.
        for _ in 0..4 {
            breaker.on_failure();
        }
        breaker.on_success();
        breaker.on_failure();
        assert_eq!(breaker.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn opens_and_half_opens() {
        let breaker = CircuitBreaker::new(2, millis(100));
        breaker.on_failure();
        breaker.on_failure();
        let error = breaker.allow().unwrap_err();
        assert_eq!(
            (error.state, error.retry_in),
            (CircuitState::Open, millis(100))
        );
        tokio::time::advance(millis(100)).await;
        let probe = breaker.allow().unwrap();
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        probe.failure();
        assert_eq!(breaker.state(), CircuitState::Open);
    }
}

mod dlq {
    use super::*;
    use mds_coordinator::dead_letter::DlqOptions;

    fn open(dir: &tempfile::TempDir) -> DeadLetterQueue<Value> {
        let path = dir.path().join(".dlq/items.ndjson");
        DeadLetterQueue::open(path, DlqOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn save() {
        let dir = tempfile::tempdir().unwrap();
        let dlq = open(&dir);
        let metadata = json!({"stage": "write", "attempt": 5})
            .as_object()
            .unwrap()
            .clone();
        dlq.save(&[json!({"id": 1})], &"boom", &metadata)
            .await
            .unwrap();
        let text = std::fs::read_to_string(dlq.path()).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<_> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys, ["error", "items", "metadata", "ts"]);
        assert_eq!(
            (&line["error"], &line["metadata"]["attempt"]),
            (&json!("boom"), &json!(5))
        );
    }

    #[tokio::test]
    async fn replay() {
        let dir = tempfile::tempdir().unwrap();
        let dlq = open(&dir);
        dlq.save(&[json!(1), json!(2)], &"boom", &Map::new())
            .await
            .unwrap();
        let records = dlq.replay(100).await.unwrap();
        assert_eq!((records.len(), records[0].error.as_str()), (1, "boom"));
        assert_eq!(records[0].items, [json!(1), json!(2)]);
    }

    #[tokio::test]
    async fn replay_limits() {
        let dir = tempfile::tempdir().unwrap();
        let dlq = open(&dir);
        for n in 0..10 {
            dlq.save(&[json!(n)], &"boom", &Map::new()).await.unwrap();
        }
        assert_eq!(dlq.replay(3).await.unwrap().len(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_saves() {
        let dir = tempfile::tempdir().unwrap();
        let dlq = open(&dir);
        let saves: Vec<_> = (0..20)
            .map(|n| tokio::spawn(dlq.save(&[json!(n)], &"boom", &Map::new())))
            .collect();
        for save in saves {
            save.await.unwrap().unwrap();
        }
        assert_eq!(dlq.replay(100).await.unwrap().len(), 20);
    }
}

mod coordinator_metrics {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gauges() {
        let metrics = Metrics::new();
        let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Fatal, "no such table"));
        let coordinator = builder(sink)
            .workers(3)
            .batch_size(1)
            .metrics(metrics.clone())
            .start()
            .unwrap();
        submit_all(&coordinator, 0..10).await;
        tokio::time::sleep(secs(1)).await;
        let text = metrics.encode(Exposition::Text);
        for line in [
            "mds_coord_queue_depth{coord_id=\"default\"} 7",
            "mds_coord_workers_alive{coord_id=\"default\"} 3",
            "mds_coord_circuit_state{coord_id=\"default\"} 1",
            "mds_coord_items_submitted_total{coord_id=\"default\"} 10",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn health() {
        let (sink, _) = FakeSink::new(|_| Act::Slow(10_000));
        let coordinator = builder(sink).batch_size(10).start().unwrap();
        submit_all(&coordinator, 0..45).await;
        tokio::time::sleep(millis(1)).await;
        let expected = CoordinatorHealth {
            workers_alive: 4,
            queue_size: 5,
            capacity: 10_000,
            circuit_state: CircuitState::Closed,
        };
        assert_eq!(coordinator.health(), expected);
    }
}

mod retry_policy {
    use super::*;

    #[test]
    fn backoff_grows_by_the_multiplier() {
        let policy = RetryPolicy {
            jitter: false,
            ..RetryPolicy::default()
        };
        assert_eq!(
            [1, 2, 3, 4].map(|n| policy.next_backoff_ms(n)),
            [50, 100, 200, 400]
        );
    }

    #[test]
    fn backoff_is_capped() {
        let policy = RetryPolicy {
            jitter: false,
            ..RetryPolicy::default()
        };
        assert_eq!([7, 10, 100].map(|n| policy.next_backoff_ms(n)), [2_000; 3]);
    }

    #[test]
    fn jitter_takes_half_at_most() {
        let policy = RetryPolicy::default();
        let seen: Vec<u64> = (0..1_000).map(|_| policy.next_backoff_ms(3)).collect();
        assert!(seen.iter().all(|ms| (100..=200).contains(ms)));
        assert!(seen.iter().any(|ms| *ms < 120) && seen.iter().any(|ms| *ms > 180));
    }

    #[test]
    fn errors_are_classified_by_their_words() {
        for text in [
            "TimeoutError",
            "temporary failure",
            "deadlock detected",
            "please retry",
            "busy",
        ] {
            assert!(default_retry_classifier(text), "{text}");
        }
        assert!(!default_retry_classifier("ValueError: bad value"));
    }
}

mod queue_watermarks {
    use super::*;

    /// The levels that a queue of ten told, with watermarks at 8 and 5.
    fn queue() -> (BoundedQueue<u64>, FeedbackBus) {
        let bus = FeedbackBus::new();
        let options = QueueOptions {
            capacity: 10,
            buses: vec![bus.clone()],
            batch_size: 1,
            ..QueueOptions::default()
        };
        (BoundedQueue::new(options), bus)
    }

    #[test]
    fn high_is_told_once() {
        let (queue, bus) = queue();
        let mut events = bus.subscribe();
        (0..10).for_each(|row| queue.try_put(row).unwrap());
        let mut levels = Vec::new();
        while let Some(event) = events.try_recv() {
            levels.push((event.level.as_str(), event.queue_size));
        }
        assert_eq!(levels, [("soft", 6), ("hard", 8)]);
    }

    #[test]
    fn low_is_told_once_on_the_way_down() {
        let (queue, bus) = queue();
        (0..10).for_each(|row| queue.try_put(row).unwrap());
        let mut events = bus.subscribe();
        while let Some(lease) = queue.try_take() {
            lease.settle(Fate::Written);
        }
        let mut levels = Vec::new();
        while let Some(event) = events.try_recv() {
            levels.push((event.level.as_str(), event.queue_size));
        }
        assert_eq!(levels, [("soft", 7), ("ok", 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn overflow_strategies_do_what_they_say() {
        let with = |overflow_strategy| {
            let options = QueueOptions {
                capacity: 1,
                overflow_strategy,
                ..QueueOptions::default()
            };
            let queue = BoundedQueue::new(options);
            queue.try_put(1).unwrap();
            queue
        };
        let queue = with(OverflowStrategy::Error);
        assert_eq!(queue.put(2).await.unwrap_err().item, 2);
        let queue = with(OverflowStrategy::DropOldest);
        queue.put(2).await.unwrap();
        assert_eq!(queue.try_take().unwrap().batch().get(0), Some(&2));
        let queue = with(OverflowStrategy::Block);
        assert!(tokio::time::timeout(secs(1), queue.put(2)).await.is_err());
    }
}

mod worker_retry {
    use super::*;

    fn failing(times: u32, text: &'static str) -> FakeSink {
        let mut left = times;
        let (sink, _) = FakeSink::new(move |_| {
            if left == 0 {
                return Act::Write;
            }
            left -= 1;
            Act::Fail(ErrorKind::Unknown, text)
        });
        sink
    }

    async fn run(sink: FakeSink) -> (mds_coordinator::Stats, Arc<FakeLetters>) {
        let letters = FakeLetters::new();
        let coordinator = builder(sink.check(|| true))
            .workers(1)
            .dead_letters(letters.place())
            .start()
            .unwrap();
        submit_all(&coordinator, 0..10).await;
        settled(&coordinator, secs(600)).await;
        (coordinator.stats(), letters)
    }

    #[tokio::test(start_paused = true)]
    async fn succeeds_after_temporary_failures() {
        let (stats, letters) = run(failing(3, "timeout")).await;
        assert_eq!((stats.written, letters.rows()), (10, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fatal_row_is_given_up_and_the_worker_lives() {
        let (sink, _) = FakeSink::writing();
        let (stats, letters) = run(sink.poison(Poison::Unknown, |row| row == 4)).await;
        assert_eq!((stats.written, letters.rows()), (9, vec![4]));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_run_out() {
        let (sink, _) = FakeSink::new(|batch| {
            let locked = batch.iter().any(|row| *row == 4);
            if locked {
                Act::Fail(ErrorKind::Transient, "deadlock")
            } else {
                Act::Write
            }
        });
        let (stats, letters) = run(sink).await;
        assert_eq!((stats.written, letters.rows()), (9, vec![4]));
        assert_eq!(letters.seen()[0].reason, "retries_exhausted");
        assert!(letters.seen()[0].attempts >= 5);
    }
}

mod write_coordinator {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn submits_and_drains() {
        let (sink, peek) = FakeSink::writing();
        let coordinator = builder(sink).start().unwrap();
        submit_all(&coordinator, 0..1_234).await;
        let report = coordinator.stop(true, secs(10)).await;
        assert_eq!((report.stats.written, peek.rows()), (1_234, 1_234));
    }

    #[tokio::test(start_paused = true)]
    async fn submits_many() {
        let (sink, peek) = FakeSink::writing();
        let coordinator = builder(sink).start().unwrap();
        let mut rows = (0..25_000).collect();
        assert_eq!(coordinator.submit_many(&mut rows).await, Ok(25_000));
        coordinator.stop(true, secs(10)).await;
        assert_eq!(peek.rows(), 25_000);
    }

    #[tokio::test(start_paused = true)]
    async fn tells_backpressure() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (high, low) = (Arc::clone(&told), Arc::clone(&told));
        let (sink, _) = FakeSink::new(|_| Act::Slow(100));
        let coordinator = builder(sink)
            .workers(1)
            .capacity(10)
            .batch_size(20)
            .on_backpressure_high(move |_| high.lock().unwrap().push("high"))
            .on_backpressure_low(move |_| low.lock().unwrap().push("low"))
            .start()
            .unwrap();
        submit_all(&coordinator, 0..9).await;
        settled(&coordinator, secs(10)).await;
        assert_eq!(*told.lock().unwrap(), ["high", "low"]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_back_for_what_it_drops() {
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&dropped);
        let (sink, _) = FakeSink::new(|_| Act::Hang);
        let coordinator = builder(sink)
            .capacity(3)
            .batch_size(100)
            .overflow_strategy(OverflowStrategy::DropOldest)
            .drop_callback(move |row, reason| tell.lock().unwrap().push((*row, reason)))
            .start()
            .unwrap();
        submit_all(&coordinator, 0..5).await;
        assert_eq!(
            *dropped.lock().unwrap(),
            [(0, Reason::Overflow), (1, Reason::Overflow)]
        );
        coordinator.stop(false, Duration::ZERO).await;
    }

    #[tokio::test(start_paused = true)]
    async fn takes_nothing_after_stop() {
        let (sink, _) = FakeSink::writing();
        let coordinator = builder(sink).start().unwrap();
        coordinator.stop(true, secs(1)).await;
        let refused = coordinator.submit(5).await.unwrap_err();
        assert_eq!((refused.item, refused.refusal), (5, Refusal::Closed));
        assert_eq!(coordinator.health().workers_alive, 0);
    }
}
