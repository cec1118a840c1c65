//! What a full queue does: each strategy, by records and by bytes, with and without dead letters.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use mds_coordinator::{
    CoordinatorBuilder, OverflowStrategy, Reason, Refusal, SubmitManyError, WriteCoordinator,
};
use tokio::time::timeout;

use crate::support::{Act, FakeLetters, FakeSink, builder, millis, secs, settled, submit_all};

pub(crate) type Dropped = Arc<Mutex<Vec<(u64, Reason)>>>;

/// A coordinator of one worker that hangs on the first row; ten more have room.
pub(crate) async fn full(
    strategy: OverflowStrategy,
    set_up: impl FnOnce(CoordinatorBuilder<u64, FakeSink>) -> CoordinatorBuilder<u64, FakeSink>,
) -> (Arc<WriteCoordinator<u64>>, Dropped) {
    let (sink, _) = FakeSink::new(|batch| {
        if batch.get(0) == Some(&0) {
            Act::Slow(10_000)
        } else {
            Act::Write
        }
    });
    let dropped = Dropped::default();
    let tell = Arc::clone(&dropped);
    let coordinator = set_up(builder(sink))
        .workers(1)
        .batch_size(1)
        .capacity(10)
        .overflow_strategy(strategy)
        .drop_callback(move |row, reason| tell.lock().unwrap().push((*row, reason)))
        .start()
        .unwrap();
    coordinator.submit(0).await.unwrap();
    tokio::time::sleep(millis(1)).await;
    submit_all(&coordinator, 1..=10).await;
    assert_eq!(coordinator.health().queue_size, 10);
    (Arc::new(coordinator), dropped)
}

pub(crate) fn refused(coordinator: &WriteCoordinator<u64>, why: Refusal) -> u64 {
    let at = Refusal::ALL.iter().position(|r| *r == why).unwrap();
    coordinator.stats().refused[at]
}

#[tokio::test(start_paused = true)]
async fn block_waits_for_room_and_loses_nothing() {
    let (coordinator, dropped) = full(OverflowStrategy::Block, |b| b).await;
    let waiting = coordinator.submit(11);
    assert!(
        timeout(secs(9), waiting).await.is_err(),
        "there was no room for 9 s"
    );
    assert_eq!(
        coordinator.stats().submitted,
        11,
        "a cancelled submit was not accepted"
    );

    let refusal = coordinator.try_submit(12).unwrap_err();
    assert_eq!((refusal.item, refusal.refusal), (12, Refusal::QueueFull));
    assert_eq!(
        refusal.to_string(),
        "record refused: the queue is full; wait and submit again"
    );
    assert_eq!(refused(&coordinator, Refusal::QueueFull), 1);

    timeout(secs(2), coordinator.submit(13))
        .await
        .unwrap()
        .unwrap();
    settled(&coordinator, secs(1)).await;
    assert_eq!(
        (coordinator.stats().written, dropped.lock().unwrap().len()),
        (12, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn error_never_waits_and_hands_the_record_back() {
    let (coordinator, dropped) = full(OverflowStrategy::Error, |b| b).await;
    for row in 11..15 {
        let refusal = timeout(millis(1), coordinator.submit(row))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!((refusal.item, refusal.refusal), (row, Refusal::QueueFull));
    }
    let mut rows: VecDeque<u64> = (20..25).collect();
    let error = coordinator.submit_many(&mut rows).await.unwrap_err();
    assert_eq!(
        error,
        SubmitManyError {
            accepted: 0,
            refusal: Refusal::QueueFull
        }
    );
    assert_eq!(rows, [20, 21, 22, 23, 24]);
    let stats = coordinator.stats();
    assert_eq!(
        (stats.submitted, refused(&coordinator, Refusal::QueueFull)),
        (11, 9)
    );
    assert_eq!(dropped.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_without_letters_drops_and_tells_once() {
    let (coordinator, dropped) = full(OverflowStrategy::DropOldest, |b| b).await;
    coordinator.submit(11).await.unwrap();
    coordinator.try_submit(12).unwrap();
    let mut rows: VecDeque<u64> = (13..16).collect();
    assert_eq!(coordinator.submit_many(&mut rows).await, Ok(3));
    let told: Vec<_> = (1..=5).map(|row| (row, Reason::Overflow)).collect();
    assert_eq!(*dropped.lock().unwrap(), told);
    let stats = coordinator.stats();
    assert_eq!((stats.submitted, stats.queued), (16, 10));
    assert_eq!(stats.dropped.get(Reason::Overflow), 5);
    settled(&coordinator, secs(60)).await;
    assert_eq!(
        (coordinator.stats().written, dropped.lock().unwrap().len()),
        (11, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_with_letters_keeps_what_it_pushes_out() {
    let letters = FakeLetters::new();
    let kept = letters.place();
    let (coordinator, dropped) = full(OverflowStrategy::DropOldest, |b| b.dead_letters(kept)).await;
    coordinator.submit(11).await.unwrap();
    coordinator.try_submit(12).unwrap();
    let mut rows: VecDeque<u64> = (13..16).collect();
    assert_eq!(coordinator.submit_many(&mut rows).await, Ok(3));
    settled(&coordinator, secs(60)).await;
    let stats = coordinator.stats();
    assert_eq!((stats.written, stats.dropped.total()), (11, 0));
    assert_eq!(stats.dead_lettered.get(Reason::Overflow), 5);
    assert_eq!(letters.rows(), [1, 2, 3, 4, 5]);
    assert!(letters.seen().iter().all(|l| l.reason == "overflow"));
    let told: Vec<u64> = dropped
        .lock()
        .unwrap()
        .iter()
        .map(|(row, _)| *row)
        .collect();
    assert_eq!(told, [1, 2, 3, 4, 5], "each once");
}

/// A group that a worker gave back is older than what waits; making room for one record takes one
/// of it, not all.
#[tokio::test(start_paused = true)]
async fn making_room_for_one_takes_one() {
    let dropped = Dropped::default();
    let tell = Arc::clone(&dropped);
    let (sink, _) = FakeSink::new(|_| Act::Fail(mds_coordinator::ErrorKind::Environment, "down"));
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(10)
        .capacity(10)
        .circuit_breaker(mds_coordinator::CircuitBreaker::new(1, secs(60)))
        .overflow_strategy(OverflowStrategy::DropOldest)
        .drop_callback(move |row, reason| tell.lock().unwrap().push((*row, reason)))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(1)).await;
    submit_all(&coordinator, 10..20).await;
    // The probe of the first minute fails; its batch goes back and the other is taken.
    tokio::time::sleep(secs(61)).await;
    assert_eq!(coordinator.stats().in_flight, 10);
    coordinator.submit(20).await.unwrap();
    assert_eq!(*dropped.lock().unwrap(), [(0, Reason::Overflow)]);
    assert_eq!(coordinator.health().queue_size, 10);
    let mut rows: VecDeque<u64> = (21..24).collect();
    assert_eq!(coordinator.submit_many(&mut rows).await, Ok(3));
    let told: Vec<u64> = dropped
        .lock()
        .unwrap()
        .iter()
        .map(|(row, _)| *row)
        .collect();
    assert_eq!(told, [0, 1, 2, 3]);
    assert!(coordinator.stats().is_balanced());
}

#[tokio::test(start_paused = true)]
async fn bytes_bound_the_queue_before_records_do() {
    let set_up = |b: CoordinatorBuilder<u64, FakeSink>| b.max_bytes(800).size_of(|_| 100);
    let (sink, _) = FakeSink::new(|_| Act::Slow(10_000));
    let coordinator = set_up(builder(sink))
        .workers(1)
        .batch_size(1)
        .overflow_strategy(OverflowStrategy::Error)
        .start()
        .unwrap();
    coordinator.submit(0).await.unwrap();
    tokio::time::sleep(millis(1)).await;
    submit_all(&coordinator, 1..=8).await;
    assert_eq!(coordinator.stats().queued_bytes, 800);
    assert_eq!(
        coordinator.submit(9).await.unwrap_err().refusal,
        Refusal::QueueFull
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_the_bound_is_refused_at_once_by_every_strategy() {
    for strategy in [
        OverflowStrategy::Block,
        OverflowStrategy::DropOldest,
        OverflowStrategy::Error,
    ] {
        let (sink, _) = FakeSink::writing();
        let coordinator = builder(sink)
            .max_bytes(1_000)
            .size_of(|row| usize::try_from(*row).unwrap())
            .overflow_strategy(strategy)
            .start()
            .unwrap();
        let refusal = timeout(millis(1), coordinator.submit(1_001))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!((refusal.item, refusal.refusal), (1_001, Refusal::TooLarge));
        let mut rows: VecDeque<u64> = [1, 1_001, 2].into();
        let error = coordinator.submit_many(&mut rows).await.unwrap_err();
        assert_eq!(
            error,
            SubmitManyError {
                accepted: 1,
                refusal: Refusal::TooLarge
            }
        );
        assert_eq!(rows, [1_001, 2]);
        // Row 1,001 twice; row 2 is not too large, and may come again.
        assert_eq!(refused(&coordinator, Refusal::TooLarge), 2);
        assert_eq!(coordinator.stats().submitted, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn submit_many_takes_more_than_the_capacity() {
    let (sink, peek) = FakeSink::new(|_| Act::Slow(10));
    let coordinator = builder(sink).capacity(10).batch_size(5).start().unwrap();
    let mut rows: VecDeque<u64> = (0..1_000).collect();
    assert_eq!(
        timeout(secs(60), coordinator.submit_many(&mut rows))
            .await
            .unwrap(),
        Ok(1_000)
    );
    assert!(rows.is_empty());
    settled(&coordinator, secs(10)).await;
    assert_eq!(peek.rows(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_submit_many_leaves_exactly_what_was_not_accepted() {
    let (coordinator, _) = full(OverflowStrategy::Block, |b| b).await;
    let mut rows: VecDeque<u64> = (11..31).collect();
    // One worker frees a place at 10 s and then all at once.
    assert!(
        timeout(secs(5), coordinator.submit_many(&mut rows))
            .await
            .is_err()
    );
    assert_eq!((rows.len(), coordinator.stats().submitted), (20, 11));
    timeout(secs(60), coordinator.submit_many(&mut rows))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(coordinator.stats().submitted, 31);
}

#[tokio::test(start_paused = true)]
async fn a_memory_queue_says_that_it_cannot_make_a_record_durable() {
    let (sink, _) = FakeSink::writing();
    let coordinator = builder(sink).start().unwrap();
    let refusal = coordinator.submit_durable(5).await.unwrap_err();
    assert_eq!((refusal.item, refusal.refusal), (5, Refusal::NotDurable));
    assert_eq!(
        (
            coordinator.stats().submitted,
            refused(&coordinator, Refusal::NotDurable)
        ),
        (0, 1)
    );
}
