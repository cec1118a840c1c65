//! One bad row costs one row, and how much work finding it takes is bounded.

use std::time::Duration;

use mds_coordinator::{CircuitBreaker, WriteCoordinator};

use crate::support::{FakeLetters, FakeSink, Peek, Poison, builder, secs, settled};
use std::sync::Arc;

const ROWS: u64 = 100_000;
const BATCH: u64 = 500;

type Which = fn(u64) -> bool;

/// How many bad rows, and which ones.
const BAD: [(u64, Which); 3] = [
    (1, |row| row == 71_234),
    (10, |row| row % 10_000 == 4_321),
    (1_000, |row| row % 100 == 33),
];

async fn isolate(
    how: Poison,
    which: Which,
    check: bool,
) -> (WriteCoordinator<u64>, Peek, Arc<FakeLetters>, Duration) {
    let (sink, peek) = FakeSink::writing();
    let mut sink = sink.poison(how, which);
    if check {
        sink = sink.check(|| true);
    }
    let letters = FakeLetters::new();
    let coordinator = builder(sink).dead_letters(letters.place()).start().unwrap();
    let mut rows = (0..ROWS).collect();
    coordinator.submit_many(&mut rows).await.unwrap();
    let took = settled(&coordinator, secs(1_000_000)).await;
    (coordinator, peek, letters, took)
}

fn check(k: u64, which: Which, coordinator: &WriteCoordinator<u64>, letters: &FakeLetters) {
    let bad: Vec<u64> = (0..ROWS).filter(|row| which(*row)).collect();
    assert_eq!(bad.len() as u64, k);
    assert_eq!(letters.rows(), bad);
    let stats = coordinator.stats();
    assert_eq!((stats.written, stats.dead_lettered.total()), (ROWS - k, k));
    assert_eq!(coordinator.health().workers_alive, 4);
}

#[tokio::test(start_paused = true)]
async fn rows_refused_by_name_cost_no_further_statement() {
    for (k, which) in BAD {
        let (coordinator, peek, letters, _) = isolate(Poison::Named, which, false).await;
        check(k, which, &coordinator, &letters);
        assert_eq!(peek.attempts(), ROWS / BATCH);
        let letter = &letters.seen()[0];
        assert_eq!((letter.reason, letter.attempts), ("rejected_row", 1));
        assert_eq!(letter.code.as_deref(), Some("poison"));
    }
}

#[tokio::test(start_paused = true)]
async fn refused_batches_are_halved_until_the_row_is_found() {
    for (k, which) in BAD {
        let (coordinator, peek, letters, _) = isolate(Poison::Batch, which, false).await;
        check(k, which, &coordinator, &letters);
        // Halving asks both halves of each refused part: two statements a level of 9.
        let most = 2 * k * 9 + ROWS / BATCH;
        assert!(
            peek.attempts() <= most,
            "{} statements for {k} bad rows",
            peek.attempts()
        );
        assert_eq!(letters.seen()[0].reason, "rejected_row");
        assert_eq!(coordinator.health().circuit_state.as_str(), "closed");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_fail_for_unknown_reasons_are_found_too() {
    for (k, which) in BAD {
        for has_check in [true, false] {
            let (coordinator, peek, letters, took) =
                isolate(Poison::Unknown, which, has_check).await;
            check(k, which, &coordinator, &letters);
            assert_eq!(letters.seen()[0].reason, "retries_exhausted");
            println!(
                "{k} rows, check {has_check}: {} statements, {took:?}",
                peek.attempts()
            );
        }
    }
}

/// Fifty neighbours of the only bad row, and nothing else ever comes: the circuit's own probes
/// have to do for proof.
#[tokio::test(start_paused = true)]
async fn a_last_bad_row_is_given_up_after_as_many_probes_as_attempts() {
    let (sink, peek) = FakeSink::writing();
    let letters = FakeLetters::new();
    let coordinator = builder(sink.poison(Poison::Unknown, |row| row == 50))
        .circuit_breaker(CircuitBreaker::new(5, secs(60)))
        .dead_letters(letters.place())
        .start()
        .unwrap();
    let mut rows = (0..51).collect();
    coordinator.submit_many(&mut rows).await.unwrap();
    let took = settled(&coordinator, secs(1_000)).await;
    assert_eq!((letters.rows(), peek.rows()), (vec![50], 50));
    // Five probes, a minute apart.
    assert!(took >= secs(240) && took <= secs(310), "took {took:?}");
}
