//! Each accepted record is told its fate once, however it ends, and the calls agree with the books.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use mds_coordinator::{
    CoordinatorBuilder, ErrorKind, Fate, Metrics, OverflowStrategy, Reason, Stats,
};
use mds_wal::sim::SimStorage;

use super::overflow::full;
use crate::disk::{UNKNOWN, all_settled, held, queue, submit};
use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, series, settled, submit_all,
};

/// What was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(u64, Fate)>>>);

impl Told {
    fn on(&self, builder: CoordinatorBuilder<u64, FakeSink>) -> CoordinatorBuilder<u64, FakeSink> {
        let to = self.clone();
        builder.on_fate(move |row, fate| to.0.lock().unwrap().push((*row, fate)))
    }

    fn sorted(&self) -> Vec<(u64, Fate)> {
        let mut told = self.0.lock().unwrap().clone();
        told.sort_by_key(|(row, _)| *row);
        told
    }

    /// Nobody was told twice, and of each fate as many as the books say.
    fn agrees(&self, stats: &Stats) {
        let told = self.sorted();
        let mut rows: Vec<u64> = told.iter().map(|(row, _)| *row).collect();
        rows.dedup();
        assert_eq!(rows.len(), told.len(), "a record was told twice");
        let count = |which: fn(&Fate) -> bool| {
            let these = told.iter().filter(|(_, fate)| which(fate));
            these.count() as u64
        };
        let told = [
            count(|fate| *fate == Fate::Written),
            count(|fate| *fate == Fate::Superseded),
            count(|fate| matches!(fate, Fate::DeadLettered(_))),
            count(|fate| matches!(fate, Fate::Dropped(_))),
        ];
        let (letters, dropped) = (stats.dead_lettered.total(), stats.dropped.total());
        let books = [stats.written, stats.superseded, letters, dropped];
        assert_eq!(told, books);
        assert!(stats.is_balanced(), "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn written_superseded_dead_lettered_and_dropped_are_told() {
    let told = Told::default();
    let (sink, _) = FakeSink::writing();
    let letters = FakeLetters::new();
    let coordinator = told
        .on(builder(sink.poison(Poison::Named, |row| row == 3)))
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, [1, 2, 3]).await;
    settled(&coordinator, secs(10)).await;
    let rejected = Fate::DeadLettered(Reason::RejectedRow);
    let so_far = [(1, Fate::Written), (2, Fate::Written), (3, rejected)];
    assert_eq!(told.sorted(), so_far);
    // The store has it: another of the same key is told too, with its own fate.
    submit_all(&coordinator, [1]).await;
    settled(&coordinator, secs(10)).await;
    assert_eq!(told.0.lock().unwrap().last(), Some(&(1, Fate::Superseded)));
    assert_eq!(told.sorted().len(), 4);

    let told = Told::default();
    let (sink, _) = FakeSink::writing();
    let coordinator = told.on(builder(sink.poison(Poison::Named, |row| row == 3)));
    let coordinator = coordinator.start().unwrap();
    submit_all(&coordinator, [1, 3]).await;
    settled(&coordinator, secs(10)).await;
    let rejected = Fate::Dropped(Reason::RejectedRow);
    assert_eq!(told.sorted(), [(1, Fate::Written), (3, rejected)]);
}

#[tokio::test(start_paused = true)]
async fn what_overflows_is_told_when_it_is_gone() {
    for with_letters in [false, true] {
        let told = Told::default();
        let (coordinator, _) = full(OverflowStrategy::DropOldest, |b| {
            if with_letters {
                told.on(b).dead_letters(FakeLetters::new().place())
            } else {
                told.on(b)
            }
        })
        .await;
        let mut rows: VecDeque<u64> = (11..14).collect();
        coordinator.submit_many(&mut rows).await.unwrap();
        tokio::time::sleep(millis(1)).await;
        let gone = if with_letters {
            Fate::DeadLettered(Reason::Overflow)
        } else {
            Fate::Dropped(Reason::Overflow)
        };
        assert_eq!(told.sorted(), [(1, gone), (2, gone), (3, gone)]);
        settled(&coordinator, secs(60)).await;
        told.agrees(&coordinator.stats());
        assert_eq!(told.sorted().len(), 14);
    }
}

/// Attempts that fail, panic, hang or lose their answer tell nothing; the one that counts does.
#[tokio::test(start_paused = true)]
async fn a_record_is_told_once_after_many_attempts() {
    let told = Told::default();
    let mut attempt = 0;
    let (sink, _) = FakeSink::new(move |_| {
        attempt += 1;
        match attempt % 6 {
            1 => Act::Fail(ErrorKind::Transient, "deadlock"),
            2 => Act::Panic,
            3 => Act::Half(ErrorKind::Environment, "gone"),
            4 => Act::WriteAndFail(ErrorKind::Environment, "no answer"),
            5 => Act::Hang,
            _ => Act::Write,
        }
    });
    let builder = told.on(builder(sink)).write_timeout(secs(1)).batch_size(10);
    let coordinator = builder.start().unwrap();
    submit_all(&coordinator, 0..200).await;
    settled(&coordinator, secs(3_600)).await;
    told.agrees(&coordinator.stats());
    assert_eq!(told.sorted().len(), 200);
}

/// A stop tells of what it leaves over, and a write that comes back after it tells nothing more.
#[tokio::test(start_paused = true)]
async fn a_stop_tells_of_what_is_left_over() {
    for (with_letters, is_drop) in [(false, false), (true, false), (false, true), (true, true)] {
        let told = Told::default();
        let (sink, _) = FakeSink::new(|batch| match batch.get(0) {
            Some(0) => Act::Slow(60_000),
            _ => Act::Fail(ErrorKind::Environment, "down"),
        });
        let mut builder = told.on(builder(sink)).workers(2).batch_size(5);
        if with_letters {
            builder = builder.dead_letters(FakeLetters::new().place());
        }
        let coordinator = builder.write_timeout(secs(600)).start().unwrap();
        submit_all(&coordinator, 0..50).await;
        tokio::time::sleep(secs(1)).await;
        assert_eq!(told.sorted(), []);
        if is_drop {
            drop(coordinator);
        } else {
            let report = coordinator.stop(true, secs(5)).await;
            assert!(report.timed_out);
            told.agrees(&report.stats);
        }
        let left = if with_letters {
            Fate::DeadLettered(Reason::Shutdown)
        } else {
            Fate::Dropped(Reason::Shutdown)
        };
        let all: Vec<_> = (0..50).map(|row| (row, left)).collect();
        assert_eq!(told.sorted(), all);
        tokio::time::sleep(secs(120)).await;
        assert_eq!(told.sorted(), all);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_callback_is_counted_and_costs_one_call() {
    let metrics = Metrics::new();
    let told = Told::default();
    let to = told.clone();
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .metrics(metrics.clone())
        .on_fate(move |row, fate| {
            assert_ne!(*row % 3, 0, "the callback was told to panic");
            to.0.lock().unwrap().push((*row, fate));
        })
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    settled(&coordinator, secs(10)).await;
    let told: Vec<u64> = told.sorted().iter().map(|(row, _)| *row).collect();
    assert_eq!(told, [1, 2, 4, 5, 7, 8]);
    assert_eq!((peek.rows(), coordinator.stats().written), (10, 10));
    let panics = series(
        &metrics,
        r#"mds_coord_callback_panics_total{coord_id="default"}"#,
    );
    assert!((panics - 4.0).abs() < 1e-9, "{panics}");
    assert_eq!(coordinator.health().workers_alive, 4);
}

/// More than the window holds, over two lives: each record is told in the life in which it ends.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_back_from_the_backlog_are_told() {
    let storage = SimStorage::new(50);
    let told = Told::default();
    let (sink, _, is_free) = held();
    let coordinator = told.on(builder(sink)).capacity(20).batch_size(10);
    let coordinator = coordinator.durable_queue(queue(&storage)).start().unwrap();
    submit(&coordinator, 0..500).await;
    is_free.store(true, Ordering::Relaxed);
    all_settled(&coordinator).await;
    is_free.store(false, Ordering::Relaxed);
    submit(&coordinator, 500..900).await;
    coordinator.submit(UNKNOWN).await.unwrap();
    submit(&coordinator, 900..1_000).await;
    let report = coordinator.stop(true, secs(0)).await;
    told.agrees(&report.stats);
    let first: HashMap<u64, Fate> = told.sorted().into_iter().collect();
    assert!(first.len() >= 500 && report.stats.queued > 0);

    let told = Told::default();
    let letters = FakeLetters::new();
    let (sink, _) = FakeSink::writing();
    let coordinator = told
        .on(builder(sink.poison(Poison::Named, |row| row == 950)))
        .capacity(20)
        .batch_size(10)
        .dead_letters(letters.place())
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    all_settled(&coordinator).await;
    let report = coordinator.stop(true, secs(10)).await;
    told.agrees(&report.stats);
    assert_eq!(report.stats.damaged, 1);
    let second: HashMap<u64, Fate> = told.sorted().into_iter().collect();
    assert_eq!(second[&950], Fate::DeadLettered(Reason::RejectedRow));
    // Each of the thousand in one of the two lives.
    assert!(first.keys().all(|row| !second.contains_key(row)));
    assert_eq!(first.len() + second.len(), 1_000);
}
