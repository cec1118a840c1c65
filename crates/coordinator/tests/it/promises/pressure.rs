//! Pressure is told once per crossing, and whoever listens cannot slow the write path.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mds_coordinator::{
    BackpressureLevel, FeedbackBus, OverflowStrategy, Refusal, WriteCoordinator,
};
use mds_wal::sim::SimStorage;
use tokio::time::Instant;

use crate::disk::{all_settled, held, queue_of, submit};
use crate::support::{Act, FakeSink, builder, millis, secs, settled, submit_all};

/// What a subscriber has heard.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(&'static str, usize)>>>);

impl Heard {
    fn on(bus: &FeedbackBus) -> (Self, mds_coordinator::CallbackGuard) {
        let heard = Self::default();
        let to = heard.clone();
        let guard = bus.subscribe_fn(move |event| {
            to.0.lock()
                .unwrap()
                .push((event.level.as_str(), event.queue_size));
        });
        (heard, guard)
    }

    fn take(&self) -> Vec<(&'static str, usize)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// One worker, ten rows a batch, a second a batch; watermarks at 80 and 50 of 100.
fn slow(bus: &FeedbackBus) -> WriteCoordinator<u64> {
    let (sink, _) = FakeSink::new(|_| Act::Slow(1_000));
    builder(sink)
        .workers(1)
        .batch_size(10)
        .capacity(100)
        .feedback_bus(bus.clone())
        .coord_id("bars")
        .start()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_crossing_is_told_once_on_the_way_up_and_on_the_way_down() {
    let bus = FeedbackBus::new();
    let (heard, _guard) = Heard::on(&bus);
    let coordinator = slow(&bus);
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(millis(1)).await;
    submit_all(&coordinator, 0..50).await;
    tokio::time::sleep(millis(1)).await;
    assert_eq!(heard.take(), [], "50 is the low watermark");
    submit_all(&coordinator, 0..40).await;
    tokio::time::sleep(millis(1)).await;
    assert_eq!(heard.take(), [("soft", 51), ("hard", 80)]);
    // Ten rows leave each second: 90, 80, 70, 60, 50.
    settled(&coordinator, secs(60)).await;
    assert_eq!(heard.take(), [("soft", 70), ("ok", 50)]);
}

#[tokio::test(start_paused = true)]
async fn an_event_has_the_fields_that_producers_read() {
    let bus = FeedbackBus::new();
    let mut events = bus.subscribe();
    let coordinator = slow(&bus);
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(millis(1)).await;
    submit_all(&coordinator, 0..80).await;
    let soft = events.recv().await.unwrap();
    assert_eq!(soft.level, BackpressureLevel::Soft);
    assert_eq!(
        soft.reason.as_deref(),
        Some("queue size is between the watermarks")
    );
    let hard = events.recv().await.unwrap();
    assert_eq!(
        (hard.coordinator_id.as_str(), hard.source.as_str()),
        ("bars", "store")
    );
    assert_eq!(
        (hard.queue_size, hard.capacity, hard.level),
        (80, 100, BackpressureLevel::Hard)
    );
    assert!((hard.utilization - 0.8).abs() < 1e-9 && hard.ts > 1_600_000_000.0);
    assert_eq!(
        hard.reason.as_deref(),
        Some("queue size reached the high watermark")
    );
}

/// Whoever comes late asks, and hears what the latest crossing said; asking tells nobody anything.
#[tokio::test(start_paused = true)]
async fn the_pressure_can_be_asked_for_at_any_time() {
    let bus = FeedbackBus::new();
    let coordinator = slow(&bus);
    let mut events = bus.subscribe();
    let ask = || {
        let event = coordinator.pressure();
        assert_eq!(
            (event.coordinator_id.as_str(), event.source.as_str()),
            ("bars", "store")
        );
        assert_eq!(event.reason.as_deref(), Some("snapshot"));
        assert!(event.ts > 1_600_000_000.0);
        (event.queue_size, event.capacity, event.level)
    };
    assert_eq!(ask(), (0, 100, BackpressureLevel::Ok));
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(millis(1)).await;
    assert_eq!(ask(), (0, 100, BackpressureLevel::Ok), "all are in flight");
    submit_all(&coordinator, 0..51).await;
    assert_eq!(ask(), (51, 100, BackpressureLevel::Soft));
    submit_all(&coordinator, 0..49).await;
    assert_eq!(ask(), (100, 100, BackpressureLevel::Hard));
    assert!((coordinator.pressure().utilization - 1.0).abs() < 1e-9);
    settled(&coordinator, secs(60)).await;
    assert_eq!(ask(), (0, 100, BackpressureLevel::Ok));
    coordinator.stop(true, secs(1)).await;
    assert_eq!(ask(), (0, 100, BackpressureLevel::Ok));
    // Up and down, once each.
    let told = std::iter::from_fn(|| events.try_recv());
    let told: Vec<_> = told.map(|e| (e.level.as_str(), e.queue_size)).collect();
    assert_eq!(told, [("soft", 51), ("hard", 80), ("soft", 70), ("ok", 50)]);
}

#[tokio::test(start_paused = true)]
async fn bytes_press_as_records_do() {
    let bus = FeedbackBus::new();
    let mut events = bus.subscribe();
    let (sink, _) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(1)
        .max_bytes(1_000)
        .size_of(|_| 100)
        .feedback_bus(bus.clone())
        .start()
        .unwrap();
    coordinator.submit(0).await.unwrap();
    tokio::time::sleep(millis(1)).await;
    submit_all(&coordinator, 1..9).await;
    let reasons: Vec<_> = [events.recv().await, events.recv().await]
        .map(|e| e.unwrap().reason.clone().unwrap())
        .into();
    assert_eq!(
        reasons,
        [
            "queued bytes is between the watermarks",
            "queued bytes reached the high watermark"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn callbacks_come_once_a_press_by_turns() {
    let (highs, lows) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (high, low) = (Arc::clone(&highs), Arc::clone(&lows));
    let (sink, _) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(10)
        .capacity(100)
        .on_backpressure_high(move |e| {
            assert_eq!(e.level, BackpressureLevel::Hard);
            high.fetch_add(1, Ordering::Relaxed);
        })
        .on_backpressure_low(move |e| {
            assert_eq!(e.level, BackpressureLevel::Ok);
            low.fetch_add(1, Ordering::Relaxed);
        })
        .start()
        .unwrap();
    for press in 1..=3 {
        submit_all(&coordinator, 0..85).await;
        // Over the high watermark and under it again, without coming to the low one.
        for _ in 0..3 {
            tokio::time::sleep(millis(1_050)).await;
            submit_all(&coordinator, 0..10).await;
        }
        let now = (highs.load(Ordering::Relaxed), lows.load(Ordering::Relaxed));
        assert_eq!(now, (press, press - 1));
        settled(&coordinator, secs(60)).await;
        let now = (highs.load(Ordering::Relaxed), lows.load(Ordering::Relaxed));
        assert_eq!(now, (press, press));
    }
}

/// How long a thousand submits took, with a subscriber that does what it likes.
async fn submit_under(bus: &FeedbackBus) -> Duration {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .capacity(10)
        .high_watermark(2)
        .low_watermark(1)
        .flush_interval(millis(1))
        .feedback_bus(bus.clone())
        .start()
        .unwrap();
    let started = Instant::now();
    submit_all(&coordinator, 0..1_000).await;
    settled(&coordinator, secs(60)).await;
    assert_eq!(peek.rows(), 1_000);
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_slow_or_panicking_subscriber_changes_nothing() {
    let alone = submit_under(&FeedbackBus::new()).await;

    let bus = FeedbackBus::new();
    let _panics = bus.subscribe_fn(|_| panic!("a subscriber was told to panic"));
    assert_eq!(submit_under(&bus).await, alone);
    assert!(bus.callback_panics() > 0);

    // Five seconds an event, for hundreds of them.
    let bus = FeedbackBus::new();
    let mut slow = bus.subscribe();
    let handled = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&handled);
    let task = tokio::spawn(async move {
        while slow.recv().await.is_some() {
            tokio::time::sleep(secs(5)).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(submit_under(&bus).await, alone);
    assert!(handled.load(Ordering::Relaxed) <= 1);
    task.abort();

    // One that never takes anything loses the oldest, and is told how many.
    let bus = FeedbackBus::new();
    let mut asleep = bus.subscribe();
    assert_eq!(submit_under(&bus).await, alone);
    assert!(asleep.try_recv().is_some());
    println!("events lost: {}", bus.events_lost());
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_is_called_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let (sink, _) = FakeSink::new(|_| Act::Slow(100));
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(10)
        .capacity(10)
        .on_backpressure_high(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            panic!("a callback was told to panic");
        })
        .start()
        .unwrap();
    for _ in 0..3 {
        submit_all(&coordinator, 0..9).await;
        settled(&coordinator, secs(10)).await;
    }
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

/// What records took so far says how many more have room, however many bytes settled ones still hold.
#[tokio::test(flavor = "multi_thread")]
async fn the_pressure_says_how_many_records_the_disk_has_room_for() {
    let storage = SimStorage::new(22);
    let (sink, _, is_free) = held();
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(10)
        .overflow_strategy(OverflowStrategy::Error)
        .durable_queue(queue_of(&storage, 1 << 20))
        .start()
        .unwrap();
    let pressure = coordinator.pressure();
    assert_eq!((pressure.queue_size, pressure.level.as_str()), (0, "ok"));
    assert!(pressure.capacity >= 1, "{pressure:?}");
    is_free.store(true, Ordering::Relaxed);
    for chunk in 0..8 {
        submit(&coordinator, chunk * 100..(chunk + 1) * 100).await;
    }
    all_settled(&coordinator).await;
    let empty = coordinator.pressure();
    assert_eq!((empty.queue_size, empty.level.as_str()), (0, "ok"));
    // Now as many come as there is room for.
    is_free.store(false, Ordering::Relaxed);
    let mut accepted = 0;
    let refused = loop {
        let mut part: VecDeque<u64> = (1_000 + accepted..1_100 + accepted).collect();
        match coordinator.submit_many(&mut part).await {
            Ok(rows) => accepted += rows as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.refusal, Refusal::QueueFull);
    accepted += refused.accepted as u64;
    // A part of each segment stays empty.
    assert!((3_800..4_800).contains(&empty.capacity), "{empty:?}");
    assert!((3_800..4_800).contains(&accepted), "{accepted}");
    let full = coordinator.pressure();
    assert_eq!(full.level.as_str(), "hard");
    assert!(full.queue_size as u64 <= accepted && full.queue_size as u64 + 10 >= accepted);
    assert!(
        (0..200).contains(&(full.capacity - full.queue_size)),
        "{full:?}"
    );
}
