//! A queue on the disk below the coordinator: what was answered survives a kill, power loss and a
//! stop, memory stays bounded, and the books balance throughout. The disk is simulated, its threads
//! are real, and so is the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mds_coordinator::{
    Degraded, DurableOptions, DurableQueue, ErrorKind, OverflowStrategy, Reason, Refusal,
    Unreadable,
};
use mds_wal::sim::{Fault, SimStorage};

use crate::disk::{
    LARGE, Numbers, PANICS, UNKNOWN, all_settled, held, queue, queue_of, submit, totals,
};
use crate::support::{Act, FakeLetters, FakeSink, Poison, builder, millis, secs};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_the_loss_of_power() {
    let storage = SimStorage::new(1);
    let (sink, _, _) = held();
    let coordinator = builder(sink)
        .capacity(100)
        .batch_size(50)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    submit(&coordinator, 0..5_000).await;
    let stats = coordinator.stats();
    assert_eq!(
        (stats.submitted, stats.queued + stats.in_flight),
        (5_000, 5_000)
    );
    assert!(stats.is_balanced(), "{stats:?}");
    let after = storage.crash(3);
    // The window is in memory, the rest is not.
    assert!(stats.queued_bytes <= 100 * 8, "{stats:?}");
    drop(coordinator);

    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .capacity(100)
        .batch_size(50)
        .durable_queue(queue(&after))
        .start()
        .unwrap();
    assert_eq!(coordinator.stats().recovered, 5_000);
    all_settled(&coordinator).await;
    let report = coordinator.stop(true, secs(10)).await;
    assert_eq!((peek.rows(), report.stats.written), (5_000, 5_000));
    assert!(report.stats.is_balanced());
    assert_eq!(queue(&after).recovery().records, 0);
    let totals = totals(&after);
    assert_eq!((totals.accepted, totals.written), (5_000, 5_000));
    assert!(totals.is_balanced(), "{totals:?}");
}

/// More than the window holds comes in while the store is away, and goes out in one process.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_larger_than_the_window_drains_by_itself() {
    let storage = SimStorage::new(2);
    let (sink, peek, is_free) = held();
    let coordinator = builder(sink)
        .capacity(64)
        .batch_size(32)
        .flush_interval(secs(0))
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    submit(&coordinator, 0..3_000).await;
    is_free.store(true, Ordering::Relaxed);
    // And more while it drains.
    for chunk in 0..30 {
        submit(&coordinator, 3_000 + chunk * 100..3_100 + chunk * 100).await;
        let stats = coordinator.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        assert!(stats.queued_bytes <= 64 * 8, "{stats:?}");
    }
    all_settled(&coordinator).await;
    assert_eq!(peek.rows(), 6_000);
    let report = coordinator.stop(true, secs(10)).await;
    assert_eq!(report.stats.written + report.stats.superseded, 6_000);
    assert_eq!(queue(&storage.restart()).recovery().records, 0);
}

/// Looks at sizes of records; each look at a record that waits for room is one.
static LOOKS: AtomicU64 = AtomicU64::new(0);

/// 400 bytes. A loop that looks without end would never give its thread back: it ends in a panic.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what the builder asks for"
)]
fn counted(_: &u64) -> usize {
    let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
    assert_ne!(looks, 100_000, "the backlog is read in a loop without end");
    400
}

/// There is some room, and not enough for the next record that was read: it waits for the next event,
/// without turning.
#[tokio::test]
async fn leftovers_of_the_backlog_wait_for_room() {
    let storage = SimStorage::new(14);
    let (sink, peek, is_free) = held();
    let coordinator = builder(sink)
        .capacity(100)
        .size_of(counted)
        // Two have room, and half of a third.
        .max_bytes(1_000)
        .workers(1)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    for row in 0..200 {
        coordinator.submit(row).await.unwrap();
    }
    let stats = coordinator.stats();
    assert_eq!(
        (stats.submitted, stats.queued + stats.in_flight),
        (200, 200)
    );
    assert!(stats.queued_bytes <= 800, "{stats:?}");
    // A few looks at each submit and each attempt of the worker.
    let looks = LOOKS.load(Ordering::Relaxed);
    assert!(looks < 2_000, "{looks} looks");
    is_free.store(true, Ordering::Relaxed);
    all_settled(&coordinator).await;
    assert_eq!(peek.rows(), 200);
    let looks = LOOKS.load(Ordering::Relaxed);
    assert!(looks < 5_000, "{looks} looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_what_is_not_written_to_the_next_start() {
    let storage = SimStorage::new(3);
    for life in 0..4 {
        let (sink, _, _) = held();
        let coordinator = builder(sink)
            .workers(2)
            .batch_size(10)
            .durable_queue(queue(&storage))
            .start()
            .unwrap();
        submit(&coordinator, life * 1_000..(life + 1) * 1_000).await;
        let report = coordinator.stop(true, secs(0)).await;
        let stats = report.stats;
        assert!(report.timed_out && report.handed_back.is_empty());
        assert_eq!(
            (
                stats.recovered,
                stats.submitted,
                stats.queued,
                stats.in_flight
            ),
            (life * 1_000, 1_000, (life + 1) * 1_000, 0)
        );
        assert!(stats.is_balanced());
    }
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    all_settled(&coordinator).await;
    assert_eq!((peek.rows(), coordinator.stats().recovered), (4_000, 4_000));
}

/// Dropped without a stop, within a write that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_leaves_everything_too() {
    let storage = SimStorage::new(4);
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    submit(&coordinator, 0..2_000).await;
    drop(coordinator);
    assert_eq!(queue(&storage.restart()).recovery().records, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_settle_their_records() {
    let storage = SimStorage::new(5);
    let letters = FakeLetters::new();
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |row| row % 100 == 13))
        .dead_letters(letters.place())
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    submit(&coordinator, 0..1_000).await;
    all_settled(&coordinator).await;
    coordinator.stop(true, secs(10)).await;
    assert_eq!((peek.rows(), letters.rows().len()), (990, 10));
    let totals = totals(&storage);
    assert_eq!(
        (totals.written, totals.dead_lettered, totals.queued),
        (990, 10, 0)
    );
    assert!(totals.is_balanced());
}

/// The letter cannot be written, and the process ends: the record is not gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_letter_is_not_written_comes_back() {
    let storage = SimStorage::new(6);
    let letters = FakeLetters::failing(u32::MAX);
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink.poison(Poison::Named, |row| row == 5))
        .dead_letters(letters.place())
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    submit(&coordinator, 0..10).await;
    while coordinator.stats().written < 9 {
        tokio::task::yield_now().await;
    }
    let report = coordinator.stop(true, secs(0)).await;
    assert_eq!((report.stats.written, report.stats.queued), (9, 1));
    let left = queue(&storage.restart());
    assert_eq!((left.recovery().records, left.recovery().first), (1, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_never_answered_with_yes() {
    let storage = SimStorage::new(7);
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    coordinator.submit(1).await.unwrap();
    all_settled(&coordinator).await;
    let mut unknown = 0;
    for round in 0..50 {
        storage.fail_at(storage.calls() + 1 + round % 5, Fault::Fails);
        match coordinator.submit(100 + round).await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.item, 100 + round);
                assert!(
                    matches!(error.refusal, Refusal::OutcomeUnknown | Refusal::DiskFailed),
                    "{}",
                    error.refusal
                );
                let degraded = coordinator.degraded();
                assert!(
                    matches!(degraded.as_slice(), [Degraded::DurableQueueFailing { .. }]),
                    "{degraded:?}"
                );
                unknown += 1;
                // The next one is in, and all is well again.
                storage.free();
                coordinator.submit(200 + round).await.unwrap();
                assert_eq!(coordinator.degraded(), []);
            }
        }
    }
    assert!(unknown > 5, "{unknown}");
    all_settled(&coordinator).await;
    let stats = coordinator.stop(true, secs(10)).await.stats;
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(peek.rows() as u64, stats.submitted);
    assert_eq!(
        stats.refused_total(),
        unknown,
        "each refused record was counted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_or_waits_or_gives_the_oldest_up() {
    // Refuses.
    let (sink, _, is_free) = held();
    let coordinator = builder(sink)
        .overflow_strategy(OverflowStrategy::Error)
        .durable_queue(queue_of(&SimStorage::new(8), 1 << 20))
        .start()
        .unwrap();
    let mut rows: VecDeque<u64> = (0..100_000).collect();
    let error = coordinator.submit_many(&mut rows).await.unwrap_err();
    assert_eq!(error.refusal, Refusal::QueueFull);
    assert_eq!(error.accepted + rows.len(), 100_000);
    assert_eq!(coordinator.stats().submitted, error.accepted as u64);
    assert_eq!(
        coordinator.stats().level,
        mds_coordinator::BackpressureLevel::Hard
    );
    // It drains, and takes more by itself.
    is_free.store(true, Ordering::Relaxed);
    all_settled(&coordinator).await;
    while coordinator.stats().level != mds_coordinator::BackpressureLevel::Ok {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(coordinator.submit(7).await.is_ok());
    drop(coordinator);

    // Waits.
    let (sink, peek) = FakeSink::new(|_| Act::Slow(1));
    let coordinator = builder(sink)
        .durable_queue(queue_of(&SimStorage::new(9), 1 << 20))
        .start()
        .unwrap();
    submit(&coordinator, 0..30_000).await;
    all_settled(&coordinator).await;
    assert_eq!(peek.rows(), 30_000);
    drop(coordinator);

    // Gives the oldest up, which become letters.
    let letters = FakeLetters::new();
    let (sink, peek, is_free) = held();
    let coordinator = builder(sink)
        .overflow_strategy(OverflowStrategy::DropOldest)
        .dead_letters(letters.place())
        .durable_queue(queue_of(&SimStorage::new(10), 1 << 20))
        .start()
        .unwrap();
    submit(&coordinator, 0..20_000).await;
    is_free.store(true, Ordering::Relaxed);
    all_settled(&coordinator).await;
    let stats = coordinator.stats();
    let given_up = stats.dead_lettered.get(Reason::Overflow);
    assert_eq!(stats.written + given_up, 20_000);
    assert!(given_up > 1_000 && stats.is_balanced(), "{stats:?}");
    assert!(peek.has(19_999), "the newest are kept");
    let kept: Vec<u64> = letters.rows();
    assert!(kept.iter().all(|row| !peek.has(*row)));
}

/// Whoever gives up waiting has lost the answer, and not the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_is_cancelled_is_in_all_the_same() {
    let storage = SimStorage::new(11);
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    for round in 0..200 {
        let mut rows: VecDeque<u64> = (round * 10..round * 10 + 10).collect();
        {
            // Once: it has handed them to the disk, and waits.
            let mut submit = std::pin::pin!(coordinator.submit_many(&mut rows));
            let waker = std::task::Waker::noop();
            let polled = submit
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
            assert!(polled.is_pending() || polled == std::task::Poll::Ready(Ok(10)));
        }
        assert_eq!(rows.len(), 0);
    }
    let stats = coordinator.stop(true, secs(10)).await.stats;
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(stats.submitted, 2_000);
    assert_eq!(peek.rows() as u64 + stats.queued, 2_000);
    assert_eq!(queue(&storage).recovery().records, stats.queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_costs_what_it_hit_and_is_counted() {
    let storage = SimStorage::new(12);
    let (sink, _, _) = held();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    for row in 0..100 {
        coordinator.submit(row).await.unwrap();
    }
    coordinator.submit(UNKNOWN).await.unwrap();
    submit(&coordinator, 101..200).await;
    drop(coordinator);
    let storage = storage.restart();
    // The third record is in the third block behind the head.
    storage.flip("0000000000000001.seg", (4_096 * 3 + 50) * 8);
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    all_settled(&coordinator).await;
    let stats = coordinator.stop(true, secs(10)).await.stats;
    // One whose bytes are damaged, and one that nobody can read.
    assert_eq!(
        (stats.recovered, stats.damaged, stats.written),
        (200, 2, 198)
    );
    assert!(stats.is_balanced(), "{stats:?}");
    assert!(!peek.has(2) && !peek.has(UNKNOWN) && peek.has(101));
    let copy = storage.content("record-101.damaged").unwrap();
    assert_eq!(copy[8..16], UNKNOWN.to_le_bytes());
    assert_eq!(totals(&storage).damaged, 2);
}

/// The damage is at the oldest record, in a segment that is written no more: it is looked at for its age
/// before anything else.
#[tokio::test(flavor = "multi_thread")]
async fn damage_to_the_oldest_record_is_counted_as_well() {
    let storage = SimStorage::new(21);
    let (sink, _, _) = held();
    let coordinator = builder(sink)
        .durable_queue(queue_of(&storage, 1 << 20))
        .start()
        .unwrap();
    for chunk in 0..40 {
        submit(&coordinator, chunk * 100..(chunk + 1) * 100).await;
    }
    let segments = coordinator.durable_stats().unwrap().segments;
    assert!(segments > 2, "{segments}");
    drop(coordinator);
    let storage = storage.restart();
    storage.flip("0000000000000001.seg", (4_096 + 50) * 8);
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue_of(&storage, 1 << 20))
        .start()
        .unwrap();
    all_settled(&coordinator).await;
    let stats = coordinator.stop(true, secs(10)).await.stats;
    assert_eq!(stats.recovered, 4_000);
    assert!((1..60).contains(&stats.damaged), "{stats:?}");
    assert_eq!(stats.written + stats.damaged, 4_000);
    assert!(
        stats.is_balanced() && !peek.has(0) && peek.has(3_999),
        "{stats:?}"
    );
}

/// A queue of 200 records of which number 101 is none of this program, on a disk without room for
/// new files.
async fn full_disk_with_an_unknown_record(seed: u64) -> (SimStorage, DurableQueue<u64>) {
    let storage = SimStorage::new(seed);
    let (sink, _, _) = held();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    submit(&coordinator, 0..100).await;
    coordinator.submit(UNKNOWN).await.unwrap();
    submit(&coordinator, 101..200).await;
    drop(coordinator);
    let storage = storage.restart();
    let queue = queue(&storage);
    storage.set_capacity(storage.used());
    (storage, queue)
}

/// A record that can be neither decoded nor set aside: the others are written, a flush ends and names
/// it, and when there is room it is set aside.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_set_aside_is_named_and_tried_again() {
    let (storage, queue) = full_disk_with_an_unknown_record(15).await;
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .capacity(50)
        .durable_queue(queue)
        .start()
        .unwrap();
    let mut report = coordinator.flush(secs(0)).await;
    while report.outstanding > 1 || report.unreadable.is_none() {
        report = coordinator.flush(millis(20)).await;
    }
    let one = Unreadable {
        records: 1,
        first: 101,
    };
    assert_eq!((report.outstanding, report.unreadable), (1, Some(one)));
    let stats = coordinator.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.written, stats.queued, stats.damaged), (199, 1, 0));
    assert_eq!(peek.rows(), 199);
    let why = "record 101 is none of this program and cannot be set aside, so it waits in the queue: \
               cannot make record-101.damaged: no storage space";
    assert_eq!(
        coordinator.degraded(),
        [Degraded::DurableQueueFailing {
            error: why.to_owned()
        }]
    );
    // There is room again.
    storage.free();
    all_settled(&coordinator).await;
    assert_eq!(coordinator.degraded(), []);
    let report = coordinator.stop(true, secs(10)).await;
    assert_eq!((report.timed_out, report.unreadable), (false, None));
    assert_eq!((report.stats.written, report.stats.damaged), (199, 1));
    assert!(report.stats.is_balanced(), "{:?}", report.stats);
    let copy = storage.content("record-101.damaged").unwrap();
    assert_eq!(copy[8..16], UNKNOWN.to_le_bytes());
}

/// A stop does not wait for it beyond its deadline, names it, and leaves it to the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_names_the_record_that_cannot_be_set_aside_and_keeps_it() {
    let (storage, queue_of_it) = full_disk_with_an_unknown_record(16).await;
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink).durable_queue(queue_of_it).start().unwrap();
    while coordinator.stats().written < 199 || coordinator.degraded().is_empty() {
        tokio::task::yield_now().await;
    }
    let report = coordinator.stop(true, millis(50)).await;
    let one = Unreadable {
        records: 1,
        first: 101,
    };
    assert_eq!((report.timed_out, report.unreadable), (true, Some(one)));
    assert_eq!((report.stats.queued, report.stats.written), (1, 199));
    assert!(report.stats.is_balanced(), "{:?}", report.stats);
    let left = queue(&storage.restart());
    assert_eq!((left.recovery().records, left.recovery().first), (1, 101));
}

/// Any call of the disk fails while a record is set aside, and then power is lost: its bytes are in the
/// copy, or the record is still in the queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_in_its_copy_or_in_the_queue() {
    for call in 1..40 {
        let (storage, queue_of_it) = full_disk_with_an_unknown_record(100 + call).await;
        storage.free();
        storage.fail_at(storage.calls() + call, Fault::Fails);
        let (sink, _) = FakeSink::writing();
        let coordinator = builder(sink).durable_queue(queue_of_it).start().unwrap();
        all_settled(&coordinator).await;
        coordinator.stop(true, secs(10)).await;
        for seed in 0..10 {
            let after = storage.crash(seed);
            let left = queue(&after).recovery().records;
            let copy = after.content("record-101.damaged").unwrap_or_default();
            let is_whole = copy.get(8..16) == Some(&UNKNOWN.to_le_bytes()[..]);
            assert!(is_whole || left == 1, "call {call}, seed {seed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_not_opened_for_something_else_or_twice() {
    let storage = SimStorage::new(13);
    let open = queue(&storage);
    let again = DurableQueue::open_on(
        Arc::new(storage.clone()),
        DurableOptions::default(),
        Arc::new(Numbers),
    );
    assert_eq!(
        again.unwrap_err().to_string(),
        "the durable queue is open in another process; one process at a time may use it"
    );
    drop(open);
    let other = DurableOptions {
        identity: "letters".to_owned(),
        ..DurableOptions::default()
    };
    let other = DurableQueue::open_on(Arc::new(storage), other, Arc::new(Numbers));
    assert_eq!(
        other.unwrap_err().to_string(),
        "the durable queue was made for something else: it says \"numbers\", and wanted is \
         \"letters\""
    );
}

/// The window is much smaller than what has to go: the next ones come in from the disk to be given up.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_on_the_disk_are_given_up_too() {
    let (sink, peek, is_free) = held();
    let coordinator = builder(sink)
        .capacity(20)
        .workers(1)
        .batch_size(5)
        .overflow_strategy(OverflowStrategy::DropOldest)
        .durable_queue(queue_of(&SimStorage::new(17), 1 << 20))
        .start()
        .unwrap();
    submit(&coordinator, 0..20_000).await;
    is_free.store(true, Ordering::Relaxed);
    all_settled(&coordinator).await;
    let stats = coordinator.stats();
    let given_up = stats.dropped.get(Reason::Overflow);
    assert_eq!(stats.written + given_up, 20_000);
    assert!(given_up > 1_000 && stats.is_balanced(), "{stats:?}");
    assert!(peek.has(19_999), "the newest are kept");
}

/// A record that the queue can never take is refused at once, with nothing that stands before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_costs_itself_only() {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue_of(&SimStorage::new(18), 256 << 10))
        .start()
        .unwrap();
    let mut rows: VecDeque<u64> = [1, 2, LARGE, 4].into();
    let error = coordinator.submit_many(&mut rows).await.unwrap_err();
    assert_eq!((error.accepted, error.refusal), (2, Refusal::TooLarge));
    assert_eq!(rows, [LARGE, 4]);
    let error = coordinator.submit(LARGE).await.unwrap_err();
    assert_eq!((error.item, error.refusal), (LARGE, Refusal::TooLarge));
    rows.pop_front();
    coordinator.submit_many(&mut rows).await.unwrap();
    all_settled(&coordinator).await;
    assert_eq!((peek.rows(), coordinator.stats().submitted), (3, 3));
}

/// A codec that panics costs the record at which it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_codec_costs_one_record() {
    let storage = SimStorage::new(19);
    let (sink, _, _) = held();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    for row in [1, PANICS, 3] {
        coordinator.submit(row).await.unwrap();
    }
    drop(coordinator);
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue(&storage))
        .start()
        .unwrap();
    all_settled(&coordinator).await;
    let stats = coordinator.stop(true, secs(10)).await.stats;
    assert_eq!((stats.recovered, stats.damaged, stats.written), (3, 1, 2));
    assert!(peek.has(1) && peek.has(3));
    let copy = storage.content("record-2.damaged").unwrap();
    assert_eq!(copy[8..16], PANICS.to_le_bytes());
}

/// Whoever drops a coordinator with a backlog has let go of its queue: nothing reads it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_ends_the_reading_of_the_backlog() {
    let codec = Arc::new(Numbers);
    let look = Arc::downgrade(&codec);
    let storage = SimStorage::new(20);
    let options = DurableOptions::default();
    let queue = DurableQueue::open_on(Arc::new(storage.clone()), options, codec).unwrap();
    let (sink, _, _) = held();
    let coordinator = builder(sink)
        .capacity(10)
        .durable_queue(queue)
        .start()
        .unwrap();
    submit(&coordinator, 0..1_000).await;
    drop(coordinator);
    let gone = async {
        while look.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(secs(60), gone).await;
    assert!(gone.is_ok(), "the queue is held for ever");
    // Neither a read that was under way nor anything else touches the folder.
    let calls = storage.calls();
    tokio::task::yield_now().await;
    assert_eq!(storage.calls(), calls);
}

/// Damage at random places of a backlog, calls of the disk that fail, and a small window: everything has
/// a fate in the end, and the books say how much was lost.
#[tokio::test(flavor = "multi_thread")]
async fn random_damage_costs_what_it_hit_and_no_flush_waits_for_it() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let storage = SimStorage::new(seed);
        let (sink, _, _) = held();
        let coordinator = builder(sink)
            .durable_queue(queue_of(&storage, 1 << 20))
            .start()
            .unwrap();
        for chunk in 0..30 {
            submit(&coordinator, chunk * 100..(chunk + 1) * 100).await;
        }
        let segments = coordinator.durable_stats().unwrap().segments as u64;
        drop(coordinator);
        let storage = storage.restart();
        let flips = random.u64(1..6);
        for _ in 0..flips {
            let name = format!("{:016}.seg", random.u64(1..=segments));
            storage.flip(&name, random.usize(4_096 * 8..100_000 * 8));
        }
        let (sink, peek) = FakeSink::writing();
        let queue_of_it = queue_of(&storage, 1 << 20);
        let call = storage.calls() + random.u64(1..30);
        storage.fail_at(call, Fault::Fails);
        let coordinator = builder(sink)
            .capacity(random.usize(1..300))
            .batch_size(random.usize(1..50))
            .flush_interval(secs(0))
            .durable_queue(queue_of_it)
            .start()
            .unwrap();
        all_settled(&coordinator).await;
        let stats = coordinator.stop(true, secs(10)).await.stats;
        assert_eq!(stats.recovered, 3_000, "seed {seed}");
        assert_eq!(
            stats.written + stats.damaged,
            3_000,
            "seed {seed}: {stats:?}"
        );
        assert_eq!(peek.rows() as u64, stats.written, "seed {seed}");
        // A block of 4 KiB holds 33 of them.
        assert!(stats.damaged <= flips * 66, "seed {seed}: {stats:?}");
    }
}

/// Kills at random moments of a life with everything in it: what was answered is written in the end.
#[tokio::test(flavor = "multi_thread")]
async fn random_lives_lose_nothing() {
    let seeds = if std::env::var_os("MDS_LONG").is_some() {
        200
    } else {
        20
    };
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut storage = SimStorage::new(seed);
        let mut answered: Vec<u64> = Vec::new();
        let mut stored: std::collections::HashSet<u64> = std::collections::HashSet::new();
        for life in 0..6 {
            let (sink, peek) = FakeSink::new(move |batch| match batch.get(0) {
                Some(first) if first % 3 == 0 => Act::Fail(ErrorKind::Environment, "down"),
                _ => Act::Write,
            });
            let coordinator = builder(sink)
                .capacity(random.usize(1..50))
                .batch_size(random.usize(1..20))
                .workers(random.usize(1..4))
                .durable_queue(queue(&storage))
                .start()
                .unwrap();
            for chunk in 0..random.u64(1..6) {
                let first = life * 1_000 + chunk * 100;
                let rows = first..first + random.u64(1..100);
                submit(&coordinator, rows.clone()).await;
                answered.extend(rows);
            }
            let stats = coordinator.stats();
            assert!(stats.is_balanced(), "seed {seed}: {stats:?}");
            let after = if random.bool() {
                storage.crash(random.u64(..))
            } else {
                storage.restart()
            };
            drop(coordinator);
            stored.extend(answered.iter().filter(|row| peek.has(**row)));
            storage = after;
        }
        let (sink, peek) = FakeSink::writing();
        let coordinator = builder(sink)
            .durable_queue(queue(&storage))
            .start()
            .unwrap();
        all_settled(&coordinator).await;
        for row in &answered {
            assert!(
                peek.has(*row) || stored.contains(row),
                "seed {seed}: {row} is lost"
            );
        }
    }
}
