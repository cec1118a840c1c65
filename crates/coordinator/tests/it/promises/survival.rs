//! Nothing that goes wrong in code of the program, or of the store, costs a worker or a row.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mds_coordinator::{Batch, Metrics, Reason, RowOutcome, Sink, WriteCoordinator, WriteReport};
use tokio::time::Instant;
use tracing::span;

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, series, settled, submit_all,
};

const RESTARTS: &str = "mds_coord_worker_restarts_total{coord_id=\"default\"}";

#[tokio::test(start_paused = true)]
async fn all_workers_are_there_from_the_start() {
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink).workers(7).start().unwrap();
    assert_eq!(coordinator.health().workers_alive, 7);
    assert_eq!(coordinator.degraded(), []);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_costs_neither_worker_nor_row() {
    let mut attempts = 0;
    let (sink, peek) = FakeSink::new(move |_| {
        attempts += 1;
        if attempts % 3 == 0 {
            Act::Panic
        } else {
            Act::Write
        }
    });
    let letters = FakeLetters::new();
    let coordinator = builder(sink)
        .batch_size(10)
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..1_000).await;
    settled(&coordinator, secs(600)).await;
    assert_eq!((peek.rows(), letters.rows()), (1_000, vec![]));
    assert_eq!(coordinator.health().workers_alive, 4);
}

/// A log subscriber that always panics, as one does that prints to a pipe that nobody reads.
struct Bomb;

impl tracing::Subscriber for Bomb {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        panic!("the subscriber was told to panic");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_log_that_panics_costs_neither_worker_nor_row() {
    let _log = tracing::subscriber::set_default(Bomb);
    let mut texts = ["a", "b", "c", "d"].into_iter();
    let (sink, peek) = FakeSink::new(move |_| match texts.next() {
        // A new text each time, since a repeated error is logged once.
        Some(text) => Act::Fail(mds_coordinator::ErrorKind::Environment, text),
        None => Act::Write,
    });
    let letters = FakeLetters::failing(3);
    let coordinator = builder(sink.poison(Poison::Named, |row| row == 7))
        .workers(2)
        .batch_size(10)
        .dead_letters(letters.place())
        .drop_callback(|_, _| panic!("the drop callback was told to panic"))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..40).await;
    settled(&coordinator, secs(600)).await;
    assert_eq!((peek.rows(), letters.rows()), (39, vec![7]));
    assert_eq!(coordinator.health().workers_alive, 2);
    assert_eq!(coordinator.degraded(), []);
}

/// A record whose destructor panics, once.
struct Fragile {
    armed: Arc<AtomicU32>,
    row: u64,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        let goes_off = self.row == 3 && self.armed.swap(0, Ordering::Relaxed) == 1;
        assert!(!goes_off, "the destructor was told to panic");
    }
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Sink<Fragile> for Store {
    fn name(&self) -> &'static str {
        "store"
    }

    async fn write(&self, batch: Batch<Fragile>) -> WriteReport {
        let mut rows = self.0.lock().unwrap();
        for item in batch.iter() {
            *rows.entry(item.row).or_default() += 1;
        }
        let outcomes = vec![RowOutcome::Written; batch.len()];
        WriteReport {
            outcomes,
            conflicts: 0,
            error: None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_destructor_panics_costs_no_other() {
    let store = Store::default();
    let metrics = Metrics::new();
    let coordinator = WriteCoordinator::builder(store.clone())
        .metrics(metrics.clone())
        .batch_size(5)
        .workers(1)
        .start()
        .unwrap();
    let armed = Arc::new(AtomicU32::new(1));
    for row in 0..50 {
        let item = Fragile {
            armed: Arc::clone(&armed),
            row,
        };
        coordinator
            .submit(item)
            .await
            .unwrap_or_else(|_| panic!("refused"));
    }
    tokio::time::sleep(secs(10)).await;
    let stats = coordinator.stats();
    assert_eq!((stats.written, stats.queued, stats.in_flight), (50, 0, 0));
    assert_eq!(armed.load(Ordering::Relaxed), 0, "it did panic");
    assert!((series(&metrics, RESTARTS) - 1.0).abs() < 1e-9);
    assert_eq!(coordinator.health().workers_alive, 1);
    assert_eq!(
        *store.0.lock().unwrap(),
        (0..50).map(|row| (row, 1)).collect()
    );
}

#[tokio::test(start_paused = true)]
async fn callbacks_that_panic_are_counted_and_change_nothing() {
    let metrics = Metrics::new();
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |row| row < 3))
        .metrics(metrics.clone())
        .drop_callback(|_, _| panic!("the drop callback was told to panic"))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    settled(&coordinator, secs(10)).await;
    assert_eq!(
        (
            peek.rows(),
            coordinator.stats().dropped.get(Reason::RejectedRow)
        ),
        (7, 3)
    );
    let panics = series(
        &metrics,
        "mds_coord_callback_panics_total{coord_id=\"default\"}",
    );
    assert!((panics - 3.0).abs() < 1e-9);
    assert_eq!(coordinator.health().workers_alive, 4);
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_counted() {
    let (sink, _) = FakeSink::new(|_| Act::Conflict(2));
    let metrics = Metrics::new();
    let coordinator = builder(sink)
        .batch_size(10)
        .metrics(metrics.clone())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..30).await;
    settled(&coordinator, secs(10)).await;
    assert_eq!(
        (coordinator.stats().conflicts, coordinator.stats().written),
        (6, 30)
    );
    let counted = series(&metrics, "mds_coord_conflicts_total{coord_id=\"default\"}");
    assert!((counted - 6.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_changes_no_count_and_its_rows_count_as_written() {
    let mut attempts = 0;
    let (sink, peek) = FakeSink::new(move |_| {
        attempts += 1;
        // The first write takes 40 s: its answer comes 10 s after the timeout of 30 s.
        if attempts == 1 {
            Act::Slow(40_000)
        } else {
            Act::Slow(20_000)
        }
    });
    let coordinator = builder(sink).workers(1).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    let started = Instant::now();
    tokio::time::sleep(millis(39_900)).await;
    assert_eq!(
        (coordinator.stats().written, coordinator.stats().in_flight),
        (0, 10)
    );
    tokio::time::sleep(secs(1)).await;
    // The first write has committed; nobody waits for its answer any more.
    assert_eq!(peek.rows(), 10);
    assert_eq!(
        (coordinator.stats().written, coordinator.stats().in_flight),
        (0, 10)
    );
    settled(&coordinator, secs(60)).await;
    assert!(started.elapsed() >= secs(50));
    let stats = coordinator.stats();
    assert_eq!(
        (stats.written, stats.superseded),
        (10, 0),
        "the same rows, ours"
    );
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_counts_once() {
    let mut attempts = 0;
    let (sink, peek) = FakeSink::new(move |_| {
        attempts += 1;
        match attempts {
            1 => Act::WriteAndFail(mds_coordinator::ErrorKind::Environment, "cut"),
            _ => Act::Write,
        }
    });
    let coordinator = builder(sink).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    settled(&coordinator, secs(10)).await;
    // Once more, from outside: these were there before.
    submit_all(&coordinator, 0..10).await;
    settled(&coordinator, secs(10)).await;
    let stats = coordinator.stats();
    assert_eq!((peek.rows(), stats.written, stats.superseded), (10, 10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_half_written_batch_is_finished_and_nothing_is_sent_twice() {
    let mut attempts = 0;
    let (sink, peek) = FakeSink::new(move |_| {
        attempts += 1;
        let cut = Act::Half(mds_coordinator::ErrorKind::Environment, "cut");
        if attempts == 1 { cut } else { Act::Write }
    });
    let coordinator = builder(sink).batch_size(10).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    settled(&coordinator, secs(10)).await;
    let stats = coordinator.stats();
    assert_eq!((peek.batch_sizes(), stats.written), (vec![10, 5], 10));
}
