//! A submit that waits for room until a deadline: it ends in time, and what it accepted is exactly what
//! is gone from its queue.

use std::collections::VecDeque;

use mds_coordinator::{OverflowStrategy, Refusal, SubmitManyError, WriteCoordinator};
use tokio::time::{Instant, timeout};

use super::overflow::{full, refused};
use crate::support::{Act, FakeLetters, FakeSink, builder, millis, secs, settled};

const fn full_after(accepted: usize) -> Result<usize, SubmitManyError> {
    Err(SubmitManyError {
        accepted,
        refusal: Refusal::QueueFull,
    })
}

/// Submits with a deadline so many seconds away; with how long it took.
async fn submit_within(
    coordinator: &WriteCoordinator<u64>,
    rows: &mut VecDeque<u64>,
    seconds: u64,
) -> (Result<usize, SubmitManyError>, std::time::Duration) {
    let started = Instant::now();
    let deadline = started + secs(seconds);
    let submitted = coordinator.submit_many_until(rows, deadline).await;
    (submitted, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn block_waits_until_the_deadline_and_no_longer() {
    let (coordinator, dropped) = full(OverflowStrategy::Block, |b| b).await;
    let mut rows: VecDeque<u64> = (11..31).collect();
    let (submitted, took) = submit_within(&coordinator, &mut rows, 5).await;
    assert_eq!((submitted, took), (full_after(0), secs(5)));
    assert_eq!(rows, (11..31).collect::<VecDeque<u64>>());
    let stats = coordinator.stats();
    assert_eq!((stats.submitted, stats.queued), (11, 10));
    // Each record once, however often there was a look for room.
    assert_eq!(refused(&coordinator, Refusal::QueueFull), 20);
    // The worker comes back after ten seconds.
    let (submitted, took) = submit_within(&coordinator, &mut rows, 60).await;
    assert_eq!(submitted, Ok(20));
    assert!(took < secs(6) && rows.is_empty(), "{took:?}");
    settled(&coordinator, secs(1)).await;
    let stats = coordinator.stats();
    assert_eq!((stats.submitted, stats.written), (31, 31));
    assert_eq!(refused(&coordinator, Refusal::QueueFull), 20);
    assert_eq!(dropped.lock().unwrap().len(), 0);
}

/// A batch of two each second: what had room until the deadline is in, and the rest comes again.
#[tokio::test(start_paused = true)]
async fn what_had_room_until_the_deadline_is_accepted() {
    let (sink, peek) = FakeSink::new(|_| Act::Slow(1_000));
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(2)
        .capacity(4)
        .start()
        .unwrap();
    let mut rows: VecDeque<u64> = (0..100).collect();
    let started = Instant::now();
    let deadline = started + millis(3_500);
    let submitted = coordinator.submit_many_until(&mut rows, deadline).await;
    // Four at once, two for those that the worker took, and two after each of three seconds.
    assert_eq!(submitted, full_after(12));
    assert_eq!(started.elapsed(), millis(3_500));
    assert_eq!(rows, (12..100).collect::<VecDeque<u64>>());
    assert_eq!(coordinator.stats().submitted, 12);
    assert_eq!(refused(&coordinator, Refusal::QueueFull), 88);
    assert_eq!(coordinator.submit_many(&mut rows).await, Ok(88));
    settled(&coordinator, secs(60)).await;
    assert_eq!((peek.rows(), coordinator.stats().written), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_means_what_has_room_now() {
    let (sink, _) = FakeSink::new(|_| Act::Hang);
    let coordinator = builder(sink).capacity(10).start().unwrap();
    let mut rows: VecDeque<u64> = (0..25).collect();
    let (submitted, took) = submit_within(&coordinator, &mut rows, 0).await;
    assert_eq!((submitted, took), (full_after(10), secs(0)));
    assert_eq!(rows, (10..25).collect::<VecDeque<u64>>());
    let nothing = submit_within(&coordinator, &mut VecDeque::new(), 0).await;
    assert_eq!(nothing, (Ok(0), secs(0)));
}

#[tokio::test(start_paused = true)]
async fn error_does_not_wait_for_a_deadline() {
    let (coordinator, _) = full(OverflowStrategy::Error, |b| b).await;
    let mut rows: VecDeque<u64> = (11..14).collect();
    let (submitted, took) = submit_within(&coordinator, &mut rows, 60).await;
    assert_eq!((submitted, took), (full_after(0), secs(0)));
    assert_eq!(rows, [11, 12, 13]);
    assert_eq!(refused(&coordinator, Refusal::QueueFull), 3);
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_makes_room_whatever_the_deadline() {
    let (coordinator, dropped) = full(OverflowStrategy::DropOldest, |b| b).await;
    let mut rows: VecDeque<u64> = (11..14).collect();
    let (submitted, took) = submit_within(&coordinator, &mut rows, 0).await;
    assert_eq!((submitted, took, rows.len()), (Ok(3), secs(0), 0));
    assert_eq!(dropped.lock().unwrap().len(), 3);
    let stats = coordinator.stats();
    assert_eq!((stats.submitted, stats.queued), (14, 10));
    assert!(stats.is_balanced(), "{stats:?}");
}

/// The letters of what has to go cannot be written: when as many wait as may, the deadline counts.
#[tokio::test(start_paused = true)]
async fn drop_oldest_does_not_wait_for_dead_letters_beyond_the_deadline() {
    let letters = FakeLetters::down_for(100).place();
    let (coordinator, _) = full(OverflowStrategy::DropOldest, |b| b.dead_letters(letters)).await;
    let (mut accepted, mut next) = (0, 11);
    let mut rest = loop {
        let mut rows = VecDeque::from([next]);
        let (submitted, took) = submit_within(&coordinator, &mut rows, 7).await;
        match submitted {
            Ok(rows) => accepted += rows as u64,
            Err(error) => {
                assert_eq!((Err(error), took), (full_after(0), secs(7)));
                break rows;
            }
        }
        next += 1;
    };
    assert_eq!(rest, [next]);
    let stats = coordinator.stats();
    assert_eq!(stats.submitted, 11 + accepted);
    assert!(accepted > 10 && stats.is_balanced(), "{stats:?}");
    assert_eq!(refused(&coordinator, Refusal::QueueFull), 1);
    // The letters are back, and so is the room.
    let (submitted, _) = submit_within(&coordinator, &mut rest, 200).await;
    assert_eq!(submitted, Ok(1));
    settled(&coordinator, secs(60)).await;
    let stats = coordinator.stats();
    let given_up = stats.dead_lettered.get(mds_coordinator::Reason::Overflow);
    assert_eq!(stats.written + given_up, 12 + accepted);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_wait_before_the_deadline() {
    let (coordinator, _) = full(OverflowStrategy::Block, |b| b).await;
    let closing = std::sync::Arc::clone(&coordinator);
    let close = tokio::spawn(async move {
        tokio::time::sleep(secs(2)).await;
        closing.close_intake();
    });
    let mut rows: VecDeque<u64> = (11..14).collect();
    let (submitted, took) = submit_within(&coordinator, &mut rows, 5).await;
    let closed = SubmitManyError {
        accepted: 0,
        refusal: Refusal::Closed,
    };
    assert_eq!((submitted, took), (Err(closed), secs(2)));
    assert_eq!(rows, [11, 12, 13]);
    assert_eq!(refused(&coordinator, Refusal::Closed), 3);
    close.await.unwrap();
    let again = submit_within(&coordinator, &mut rows, 5).await;
    assert_eq!(again, (Err(closed), secs(0)));
}

#[tokio::test(start_paused = true)]
async fn cancelled_before_its_deadline_it_has_left_what_was_not_accepted() {
    let (coordinator, _) = full(OverflowStrategy::Block, |b| b).await;
    let mut rows: VecDeque<u64> = (11..31).collect();
    let deadline = Instant::now() + secs(8);
    let submit = coordinator.submit_many_until(&mut rows, deadline);
    assert!(timeout(secs(5), submit).await.is_err());
    assert_eq!((rows.len(), coordinator.stats().submitted), (20, 11));
    assert_eq!(refused(&coordinator, Refusal::QueueFull), 0);
}
