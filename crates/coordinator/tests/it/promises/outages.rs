//! An outage of the store costs no rows, whatever the store says while it is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mds_coordinator::{CircuitBreaker, CircuitState, ErrorKind, RetryPolicy};
use tokio::time::Instant;

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, settled, submit_all,
};

/// What a store that is down does to a write.
const DOWN: [Act; 7] = [
    Act::Fail(ErrorKind::Environment, "connection refused"),
    Act::Fail(ErrorKind::Transient, "deadlock detected"),
    Act::Fail(ErrorKind::Unknown, "timeout"),
    Act::Fail(ErrorKind::Unknown, "connection refused"),
    Act::Fail(ErrorKind::Fatal, "no such table"),
    Act::Hang,
    Act::Panic,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    down: Act,
    workers: usize,
    batch_size: usize,
    max_attempts: u32,
    has_check: bool,
}

/// The store is down for the first minute. Answers how long all took.
async fn ride_out(case: Case) -> std::time::Duration {
    let up = Instant::now() + secs(60);
    let (mut sink, peek) = FakeSink::new(move |_| {
        if Instant::now() < up {
            case.down
        } else {
            Act::Write
        }
    });
    if case.has_check {
        sink = sink.check(move || Instant::now() >= up);
    }
    let letters = FakeLetters::new();
    let coordinator = builder(sink)
        .workers(case.workers)
        .batch_size(case.batch_size)
        .retry_policy(RetryPolicy {
            max_attempts: case.max_attempts,
            ..RetryPolicy::default()
        })
        .circuit_breaker(CircuitBreaker::new(5, secs(60)))
        .write_timeout(secs(5))
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..300).await;
    let took = settled(&coordinator, secs(600)).await;
    let stats = coordinator.stats();
    assert_eq!(letters.rows(), Vec::<u64>::new(), "{case:?}");
    assert_eq!(
        (stats.written, peek.rows()),
        (300, 300),
        "{case:?}: {stats:?}"
    );
    assert_eq!(coordinator.health().workers_alive, case.workers, "{case:?}");
    took
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_any_outage_costs_no_row() {
    let mut cases = 0;
    for down in DOWN {
        for workers in [1, 4, 64] {
            for batch_size in [1, 50] {
                for max_attempts in [2, 5] {
                    for has_check in [false, true] {
                        let case = Case {
                            down,
                            workers,
                            batch_size,
                            max_attempts,
                            has_check,
                        };
                        let took = ride_out(case).await;
                        // A sink that hangs is noticed after the write timeout of 5 s.
                        let slack = if down == Act::Hang { secs(10) } else { secs(4) };
                        let limit = if has_check {
                            secs(60)
                        } else {
                            secs(60) + secs(60)
                        };
                        assert!(took >= secs(60), "{case:?} took {took:?}");
                        assert!(took <= limit + slack, "{case:?} took {took:?}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 168);
}

/// Writes that began before the outage and end in it succeed; that says nothing about the store
/// now, and must not be taken as proof that a row which fails in the outage is to blame.
#[tokio::test(start_paused = true)]
async fn late_successes_at_the_beginning_of_an_outage_prove_nothing() {
    for (kind, text) in [
        (ErrorKind::Unknown, "connection refused"),
        (ErrorKind::Transient, "deadlock detected"),
        (ErrorKind::Environment, "connection refused"),
    ] {
        let (from, until) = (Instant::now() + secs(10), Instant::now() + secs(220));
        let (sink, peek) = FakeSink::new(move |_| match Instant::now() {
            now if now < from => Act::Slow(700),
            now if now < until => Act::Fail(kind, text),
            _ => Act::Write,
        });
        let letters = FakeLetters::new();
        let coordinator = builder(sink)
            .workers(8)
            .batch_size(1)
            .retry_policy(RetryPolicy {
                max_attempts: 2,
                ..RetryPolicy::default()
            })
            .dead_letters(letters.place())
            .start()
            .unwrap();
        for row in 0..1_000 {
            coordinator.submit(row).await.unwrap();
            tokio::time::sleep(millis(97)).await;
        }
        settled(&coordinator, secs(1_000)).await;
        assert_eq!(letters.rows(), Vec::<u64>::new(), "{kind}");
        assert_eq!(peek.rows(), 1_000, "{kind}");
    }
}

/// An outage begins while a batch is being taken apart because of one bad row in it: its innocent
/// neighbours fail alone now, though other batches were written since the batch first failed.
#[tokio::test(start_paused = true)]
async fn an_outage_while_a_batch_is_taken_apart_costs_its_neighbours_nothing() {
    for first_down in 1..40 {
        let mut attempts = 0;
        let mut until = None;
        let (sink, peek) = FakeSink::new(move |_| {
            attempts += 1;
            if attempts == first_down {
                until = Some(Instant::now() + secs(200));
            }
            match until {
                Some(until) if Instant::now() < until => {
                    Act::Fail(ErrorKind::Unknown, "connection refused")
                }
                _ => Act::Write,
            }
        });
        let letters = FakeLetters::new();
        let coordinator = builder(sink.poison(Poison::Unknown, |row| row % 16 == 5))
            .workers(2)
            .batch_size(8)
            .dead_letters(letters.place())
            .start()
            .unwrap();
        submit_all(&coordinator, 0..64).await;
        settled(&coordinator, secs(10_000)).await;
        assert_eq!(
            letters.rows(),
            [5, 21, 37, 53],
            "the outage began at attempt {first_down}"
        );
        assert_eq!(peek.rows(), 60, "the outage began at attempt {first_down}");
    }
}

/// While the store's own check says that it is down, no row is to blame, however often it failed.
#[tokio::test(start_paused = true)]
async fn a_check_that_says_no_keeps_every_row() {
    let up = Instant::now() + secs(3_600);
    let (sink, peek) = FakeSink::new(move |_| {
        let down = Instant::now() < up;
        if down {
            Act::Fail(ErrorKind::Unknown, "connection refused")
        } else {
            Act::Write
        }
    });
    let letters = FakeLetters::new();
    let coordinator = builder(sink.check(move || Instant::now() >= up))
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..3).await;
    settled(&coordinator, secs(3_700)).await;
    assert_eq!((letters.rows(), peek.rows()), (vec![], 3));
}

/// A store that takes longer for a write than the open time: its success counts all the same.
#[tokio::test(start_paused = true)]
async fn a_probe_slower_than_the_open_time_closes_the_circuit() {
    let up = Instant::now() + secs(10);
    let (sink, _) = FakeSink::new(move |_| {
        let down = Instant::now() < up;
        if down {
            Act::Fail(ErrorKind::Environment, "refused")
        } else {
            Act::Slow(3_000)
        }
    });
    let breaker = CircuitBreaker::new(1, secs(1));
    let coordinator = builder(sink)
        .circuit_breaker(breaker)
        .batch_size(1)
        .start()
        .unwrap();
    submit_all(&coordinator, 0..100).await;
    tokio::time::sleep(secs(16)).await;
    assert_eq!(coordinator.health().circuit_state.as_str(), "closed");
    settled(&coordinator, secs(200)).await;
}

/// A check that always says yes while every write fails must not turn into a storm of probes.
#[tokio::test(start_paused = true)]
async fn probes_of_a_store_that_stays_broken_grow_rare() {
    let (sink, peek) = FakeSink::new(|_| Act::Fail(ErrorKind::Fatal, "no such table"));
    let coordinator = builder(sink.check(|| true)).workers(1).start().unwrap();
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(600)).await;
    // At most one a second: 2 s, shortened by half at most.
    assert!(
        peek.attempts() <= 610,
        "{} attempts in 600 s",
        peek.attempts()
    );
    assert!(
        peek.attempts() >= 290,
        "{} attempts in 600 s",
        peek.attempts()
    );
    coordinator.stop(false, secs(1)).await;
}

/// The check is asked again after every probe that failed, also when the probe was so quick that
/// nobody saw the circuit half open.
#[tokio::test(start_paused = true)]
async fn a_quick_probe_does_not_stop_the_checks() {
    let up = Instant::now() + secs(30);
    let (sink, _) = FakeSink::new(move |_| {
        let down = Instant::now() < up;
        if down {
            Act::Fail(ErrorKind::Environment, "refused")
        } else {
            Act::Write
        }
    });
    let breaker = CircuitBreaker::new(1, secs(3_600));
    let coordinator = builder(sink.check(|| true))
        .circuit_breaker(breaker.clone())
        .start()
        .unwrap();
    breaker.trip();
    // Takes the probe that the check brought, and lets it fail, between two looks of anybody.
    loop {
        tokio::time::sleep(millis(1)).await;
        if let Ok(probe) = breaker.allow() {
            probe.failure();
            break;
        }
    }
    coordinator.submit(1).await.unwrap();
    let took = settled(&coordinator, secs(4_000)).await;
    assert!(took <= secs(34), "took {took:?}");
}

/// Half open means one write at a time, however many workers wait.
#[tokio::test(start_paused = true)]
async fn half_open_never_has_more_than_one_probe_in_flight() {
    let up = Instant::now() + secs(300);
    let (sink, peek) = FakeSink::new(move |_| {
        let down = Instant::now() < up;
        if down {
            Act::Fail(ErrorKind::Environment, "refused")
        } else {
            Act::Slow(2_000)
        }
    });
    let coordinator = builder(sink)
        .workers(64)
        .batch_size(1)
        .circuit_breaker(CircuitBreaker::new(5, secs(10)))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..1_000).await;
    // The first round of failures is over, the circuit is open.
    tokio::time::sleep(secs(5)).await;
    let before = peek.attempts();
    peek.reset_most_running();
    let mut half_open = 0;
    loop {
        tokio::time::sleep(millis(100)).await;
        match coordinator.health().circuit_state {
            CircuitState::Closed => break,
            CircuitState::HalfOpen => half_open += 1,
            CircuitState::Open => {}
        }
        assert!(
            peek.most_running() <= 1,
            "{} probes at once",
            peek.most_running()
        );
    }
    assert!(
        (15..=25).contains(&half_open),
        "half open at {half_open} looks of 100 ms"
    );
    // One probe each 10 s of the 300 s, give or take the first and the last.
    let probes = peek.attempts() - before;
    assert!((29..=95).contains(&probes), "{probes} probes");
    settled(&coordinator, secs(600)).await;
    assert_eq!(peek.rows(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn failing_is_told_from_its_first_failure_even_while_the_check_says_yes() {
    let up = Instant::now() + secs(30);
    let (sink, peek) = FakeSink::new(move |_| {
        if Instant::now() < up {
            Act::Fail(ErrorKind::Environment, "no space left on device")
        } else {
            Act::Write
        }
    });
    // As on a full disk: a probe fits, a batch does not, and the circuit opens and closes.
    let sink = sink.check(|| true).poison(Poison::Named, |row| row == 5);
    let coordinator = builder(sink).start().unwrap();
    assert_eq!(coordinator.failing_for(), None);
    submit_all(&coordinator, 0..10).await;
    tokio::time::sleep(secs(20)).await;
    let failing = coordinator.failing_for().unwrap();
    assert!((secs(19)..=secs(20)).contains(&failing), "{failing:?}");
    settled(&coordinator, secs(100)).await;
    // The refusal of row 5 was an answer too.
    assert_eq!((coordinator.failing_for(), peek.rows()), (None, 9));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_now_and_then_costs_no_innocent_row() {
    let mut left = 7;
    let (sink, peek) = FakeSink::new(move |batch| {
        if left > 0 && batch.iter().any(|row| *row == 7) {
            left -= 1;
            return Act::Panic;
        }
        Act::Write
    });
    let letters = FakeLetters::new();
    let coordinator = builder(sink.check(|| true))
        .batch_size(10)
        .dead_letters(letters.place())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..100).await;
    settled(&coordinator, secs(600)).await;
    assert_eq!((peek.rows(), letters.rows()), (100, vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_wrote_a_part_of_its_rows_opens_no_circuit() {
    // Some rows have to wait (an old part of a table is locked), the others go in.
    let (sink, peek) = FakeSink::new(|batch| {
        if batch.len() > 1 {
            Act::Half(ErrorKind::Transient, "lock not available")
        } else {
            Act::Write
        }
    });
    let coordinator = builder(sink)
        .workers(1)
        .batch_size(16)
        .circuit_breaker(CircuitBreaker::new(1, secs(60)))
        .start()
        .unwrap();
    submit_all(&coordinator, 0..16).await;
    let took = settled(&coordinator, secs(600)).await;
    assert_eq!((coordinator.stats().written, peek.rows()), (16, 16));
    assert!(took < secs(10), "{took:?}");
}

/// Whoever is sent away is told when to come back: as the clock goes, through the probe, until the store
/// answers.
#[tokio::test(start_paused = true)]
async fn an_open_circuit_says_how_long_it_stays_open() {
    let is_back = Arc::new(AtomicBool::new(false));
    let look = Arc::clone(&is_back);
    let (sink, _) = FakeSink::new(move |_| {
        if look.load(Ordering::Relaxed) {
            Act::Slow(5_000)
        } else {
            Act::Fail(ErrorKind::Environment, "down")
        }
    });
    let coordinator = builder(sink)
        .workers(1)
        .flush_interval(secs(0))
        .circuit_breaker(CircuitBreaker::new(1, secs(30)))
        .start()
        .unwrap();
    assert_eq!(coordinator.circuit_retry_in(), None);
    coordinator.submit(1).await.unwrap();
    tokio::time::sleep(millis(1)).await;
    assert_eq!(coordinator.circuit_retry_in(), Some(millis(29_999)));
    tokio::time::sleep(secs(29)).await;
    assert_eq!(coordinator.circuit_retry_in(), Some(millis(999)));
    // The probe fails, and it is open for as long again.
    tokio::time::sleep(secs(1)).await;
    assert_eq!(coordinator.circuit_retry_in(), Some(millis(29_999)));
    is_back.store(true, Ordering::Relaxed);
    // The probe is under way: it lapses in 30 s, and answers in 5.
    tokio::time::sleep(secs(31)).await;
    assert_eq!(coordinator.circuit_retry_in(), Some(millis(28_999)));
    tokio::time::sleep(secs(5)).await;
    assert_eq!(coordinator.circuit_retry_in(), None);

    let (sink, _) = FakeSink::new(|_| Act::Fail(ErrorKind::Environment, "down"));
    let without = builder(sink).circuit_breaker(None).start().unwrap();
    without.submit(1).await.unwrap();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(without.circuit_retry_in(), None);
}
