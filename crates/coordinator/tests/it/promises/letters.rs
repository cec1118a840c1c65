//! Records that are given up: when, in which order, and what happens while letters cannot be kept.

use std::sync::{Arc, Mutex};

use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqError, DlqOptions, LetterDraft, LetterItem,
};
use mds_coordinator::{DeadLetters, Degraded, ErrorKind, Metrics, OverflowStrategy, Reason};
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, series, settled, submit_all,
};

#[tokio::test(start_paused = true)]
async fn while_letters_cannot_be_written_their_rows_wait_and_others_go_on() {
    let metrics = Metrics::new();
    let letters = FakeLetters::down_for(600);
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |row| row % 100 == 7))
        .metrics(metrics.clone())
        .batch_size(50)
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..1_000).await;
    tokio::time::sleep(secs(300)).await;
    let stats = coordinator.stats();
    assert_eq!((stats.written, stats.queued, stats.in_flight), (990, 0, 10));
    assert_eq!((peek.rows(), stats.dead_lettered.total()), (990, 0));
    assert_eq!(coordinator.degraded(), [Degraded::DeadLettersFailing]);
    let failing = "mds_coord_dead_letters_failing{coord_id=\"default\"}";
    assert!((series(&metrics, failing) - 1.0).abs() < 1e-9);
    assert!(stats.oldest_age.unwrap() >= secs(299));

    let took = settled(&coordinator, secs(400)).await;
    assert!(took <= secs(304), "{took:?}");
    assert_eq!(
        letters.rows(),
        (0..10).map(|n| n * 100 + 7).collect::<Vec<_>>()
    );
    assert_eq!(
        coordinator.stats().dead_lettered.get(Reason::RejectedRow),
        10
    );
    assert_eq!(coordinator.degraded(), []);
    assert!(series(&metrics, failing).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_letter_says_what_happened() {
    let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Transient, "deadlock"));
    let letters = FakeLetters::new();
    let coordinator = builder(sink.check(|| true))
        .workers(1)
        .coord_id("prod")
        .dead_letters(letters.place())
        .start()
        .unwrap();
    coordinator.submit(7).await.unwrap();
    settled(&coordinator, secs(600)).await;
    let seen = &letters.seen()[0];
    assert_eq!(
        (seen.row, seen.reason, seen.code.as_deref()),
        (7, "retries_exhausted", Some("scripted"))
    );
    // Five attempts, and the one after the check said that the store is well.
    assert_eq!((seen.attempts, seen.outcome_unknown), (6, false));
}

#[tokio::test(start_paused = true)]
async fn records_older_than_max_age_are_given_up_and_younger_ones_are_not() {
    let up = Instant::now() + secs(300);
    let (sink, peek) = FakeSink::new(move |_| {
        let down = Instant::now() < up;
        if down {
            Act::Fail(ErrorKind::Environment, "refused")
        } else {
            Act::Write
        }
    });
    let letters = FakeLetters::new();
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(10)
        .max_age(secs(100))
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..50).await;
    tokio::time::sleep(secs(99)).await;
    assert_eq!(letters.rows(), Vec::<u64>::new());
    // The circuit is still open: age alone decides. What the worker holds goes with the next probe.
    tokio::time::sleep(secs(30)).await;
    assert_eq!(coordinator.health().circuit_state.as_str(), "open");
    assert_eq!(coordinator.stats().dead_lettered.get(Reason::Expired), 50);
    tokio::time::sleep(secs(151)).await;
    submit_all(&coordinator, 100..150).await;
    settled(&coordinator, secs(100)).await;
    assert!(letters.seen().iter().all(|l| l.reason == "expired"));
    let stats = coordinator.stats();
    assert_eq!(
        stats.dead_lettered.get(Reason::Expired),
        50,
        "{:?}",
        letters.rows()
    );
    assert_eq!((stats.written, peek.rows()), (50, 50));
}

#[tokio::test(start_paused = true)]
async fn without_max_age_nothing_expires() {
    let up = Instant::now() + secs(100_000);
    let (sink, peek) = FakeSink::new(move |_| {
        let down = Instant::now() < up;
        if down {
            Act::Fail(ErrorKind::Environment, "refused")
        } else {
            Act::Write
        }
    });
    let coordinator = builder(sink).start().unwrap();
    submit_all(&coordinator, 0..50).await;
    settled(&coordinator, secs(100_100)).await;
    assert_eq!(peek.rows(), 50);
}

/// Producers that overflow the queue wait while the letters of what they pushed out cannot be
/// written: nothing piles up without bound, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn overflow_is_held_back_by_letters_that_cannot_be_written() {
    let letters = FakeLetters::down_for(60);
    let (sink, peek) = FakeSink::new(|_| Act::Slow(100_000));
    let coordinator = Arc::new(
        builder(sink)
            .workers(1)
            .batch_size(1)
            .capacity(10)
            .write_timeout(secs(200_000))
            .overflow_strategy(OverflowStrategy::DropOldest)
            .dead_letters(letters.place())
            .start()
            .unwrap(),
    );
    let producer = Arc::clone(&coordinator);
    let task = tokio::spawn(async move { submit_all(&producer, 0..1_000).await });
    tokio::time::sleep(secs(30)).await;
    let stats = coordinator.stats();
    assert!(stats.submitted < 200, "{stats:?}");
    task.await.unwrap();
    tokio::time::sleep(secs(30)).await;
    let stats = coordinator.stats();
    assert_eq!(
        (stats.submitted, stats.queued, stats.in_flight, peek.rows()),
        (1_000, 10, 1, 0)
    );
    assert_eq!(stats.dead_lettered.get(Reason::Overflow), 989);
    assert_eq!(letters.rows().len(), 989);
}

/// A record of which no letter can be made.
#[derive(Clone)]
struct Odd(u64);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            5 => Err(serde::ser::Error::custom("no JSON for this one")),
            6 => panic!("serializing was told to panic"),
            row => serializer.serialize_u64(row),
        }
    }
}

struct Refusing;

impl mds_coordinator::Sink<Odd> for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    async fn write(&self, batch: mds_coordinator::Batch<Odd>) -> mds_coordinator::WriteReport {
        let outcome = mds_coordinator::RowOutcome::Rejected {
            code: "x".into(),
            reason: "y".into(),
        };
        mds_coordinator::WriteReport {
            outcomes: vec![outcome; batch.len()],
            conflicts: 0,
            error: None,
        }
    }
}

/// A record that has no JSON form costs the others nothing: its letter says so.
#[tokio::test]
async fn a_record_that_cannot_be_serialized_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd.ndjson");
    let dlq = DeadLetterQueue::<Odd>::open(&path, DlqOptions::default()).unwrap();
    let coordinator = mds_coordinator::WriteCoordinator::builder(Refusing)
        .metrics(Metrics::new())
        .dead_letters(Arc::new(dlq))
        .start()
        .unwrap();
    for row in 0..10 {
        coordinator.submit(Odd(row)).await.unwrap();
    }
    let report = coordinator.stop(true, secs(60)).await;
    assert!(!report.timed_out);
    assert_eq!(report.stats.dead_lettered.get(Reason::RejectedRow), 10);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 10);
    assert!(
        text.contains("not serializable: no JSON for this one"),
        "{text}"
    );
    assert!(
        text.contains("not serializable: serializing panicked"),
        "{text}"
    );
}

/// Dead letters that refuse one record for good, and count what they were asked.
#[derive(Default)]
struct Picky {
    kept: Mutex<Vec<String>>,
    calls: Mutex<u32>,
}

impl DeadLetters<u64> for Picky {
    fn item(&self, item: &u64) -> LetterItem {
        LetterItem::record(item).unwrap()
    }

    fn append(&self, letters: Vec<LetterDraft>) -> Result<(), DlqError> {
        *self.calls.lock().unwrap() += 1;
        let rows: Vec<String> = letters
            .iter()
            .map(|l| l.metadata["row"].to_string())
            .collect();
        if rows.iter().any(|row| row == "5") {
            return Err(DlqError::TooLarge { bytes: 2, limit: 1 });
        }
        self.kept.lock().unwrap().extend(rows);
        Ok(())
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

/// A letter that can never be written is no outage: it is dropped, counted and told, and the
/// others are written.
#[tokio::test(start_paused = true)]
async fn a_letter_that_can_never_be_written_holds_nobody_up() {
    let letters = Arc::new(Picky::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |row| row < 10))
        .dead_letters(Arc::<Picky>::clone(&letters))
        .drop_callback(move |row, reason| tell.lock().unwrap().push((*row, reason)))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..20).await;
    settled(&coordinator, secs(60)).await;
    let stats = coordinator.stats();
    assert_eq!(
        (stats.written, stats.dead_lettered.get(Reason::RejectedRow)),
        (10, 9)
    );
    assert_eq!(stats.dropped.get(Reason::RejectedRow), 1);
    assert_eq!(*told.lock().unwrap(), [(5, Reason::RejectedRow)]);
    assert_eq!(letters.kept.lock().unwrap().len(), 9);
    assert_eq!(coordinator.degraded(), []);
    // Once together, then one by one.
    assert_eq!(*letters.calls.lock().unwrap(), 11);
    tokio::time::sleep(millis(1)).await;
}
