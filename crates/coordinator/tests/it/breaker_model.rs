//! The circuit breaker against a second one, written to be read: thousands of random steps, and
//! 64 callers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mds_coordinator::{CircuitBreaker, CircuitState, Permit};
use tokio::time::Instant;

use crate::support::{millis, secs, seed};

const STEPS: usize = 10_000;
const THRESHOLD: u32 = 3;
const OPEN_FOR: Duration = secs(10);

/// What the breaker must do, in as few words as possible.
struct Model {
    state: CircuitState,
    failures: u32,
    since: Instant,
    probe: u64,
    opened: u64,
}

/// What a permit is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket {
    probe: Option<u64>,
}

impl Model {
    fn allow(&mut self) -> Option<Ticket> {
        match self.state {
            CircuitState::Closed => Some(Ticket { probe: None }),
            _ if self.since.elapsed() >= OPEN_FOR => {
                self.state = CircuitState::HalfOpen;
                self.since = Instant::now();
                self.probe += 1;
                Some(Ticket {
                    probe: Some(self.probe),
                })
            }
            _ => None,
        }
    }

    fn open(&mut self) {
        self.state = CircuitState::Open;
        self.since = Instant::now();
        self.failures = 0;
        self.opened += 1;
    }

    fn close(&mut self) {
        self.state = CircuitState::Closed;
        self.failures = 0;
    }

    fn fail(&mut self) {
        self.failures += 1;
        if self.failures == THRESHOLD {
            self.open();
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        match (self.state, ticket.probe, answer) {
            (CircuitState::Closed, None, Answer::Success) => self.failures = 0,
            (CircuitState::Closed, None, Answer::Failure) => self.fail(),
            (CircuitState::Closed, None, Answer::Fatal) => self.open(),
            (CircuitState::HalfOpen, Some(_), Answer::Success) => self.close(),
            (CircuitState::HalfOpen, Some(probe), _) if probe == self.probe => self.open(),
            _ => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Success,
    Failure,
    Fatal,
    Dropped,
}

fn tell(permit: Permit, answer: Answer) {
    match answer {
        Answer::Success => permit.success(),
        Answer::Failure => permit.failure(),
        Answer::Fatal => permit.fatal(),
        Answer::Dropped => drop(permit),
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_what_the_model_does_for_ten_thousand_steps() {
    let mut random = Rng::with_seed(seed());
    let breaker = CircuitBreaker::new(THRESHOLD, OPEN_FOR);
    let mut model = Model {
        state: CircuitState::Closed,
        failures: 0,
        since: Instant::now(),
        probe: 0,
        opened: 0,
    };
    let mut held: Vec<(Permit, Ticket)> = Vec::new();
    let mut states = [0; 3];
    for step in 0..STEPS {
        let mut what = String::new();
        match random.u8(..20) {
            0..=6 => {
                let (permit, ticket) = (breaker.allow(), model.allow());
                what = format!("allow: {permit:?}, expected {ticket:?}");
                match (permit, ticket) {
                    (Ok(permit), Some(ticket)) => {
                        assert_eq!(permit.is_probe(), ticket.probe.is_some(), "{step}: {what}");
                        held.push((permit, ticket));
                    }
                    (Err(error), None) => {
                        assert_eq!(error.state, model.state, "{step}: {what}");
                        assert_eq!(
                            error.retry_in,
                            OPEN_FOR.saturating_sub(model.since.elapsed()),
                            "{step}"
                        );
                    }
                    _ => panic!("{step}: {what}"),
                }
            }
            7..=15 if !held.is_empty() => {
                let (permit, ticket) = held.swap_remove(random.usize(..held.len()));
                let answers = [
                    Answer::Success,
                    Answer::Failure,
                    Answer::Failure,
                    Answer::Dropped,
                ];
                let answer = if random.u8(..20) == 0 {
                    Answer::Fatal
                } else {
                    answers[random.usize(..4)]
                };
                what = format!("{answer:?} of {ticket:?}");
                tell(permit, answer);
                model.answer(ticket, answer);
            }
            16 if random.u8(..10) == 0 => {
                breaker.trip();
                if model.state != CircuitState::Open {
                    model.open();
                }
            }
            _ => tokio::time::advance(millis(random.u64(..4_000))).await,
        }
        assert_eq!(breaker.state(), model.state, "step {step}: {what}");
        assert_eq!(breaker.opened_total(), model.opened, "step {step}: {what}");
        states[usize::try_from(model.state.as_gauge()).unwrap()] += 1;
    }
    println!(
        "steps in closed, open, half open: {states:?}; opened {} times",
        model.opened
    );
    assert!(states.iter().all(|steps| *steps > STEPS / 50), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn of_64_that_wait_one_passes_at_a_time() {
    let mut random = Rng::with_seed(seed());
    let breaker = CircuitBreaker::new(1, OPEN_FOR);
    breaker.on_failure();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let probes = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let mut random = random.fork();
            let (breaker, probes) = (breaker.clone(), Arc::clone(&probes));
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                for _ in 0..20 {
                    let permit = breaker.acquire().await;
                    assert!(permit.is_probe());
                    probes.fetch_add(1, Ordering::Relaxed);
                    let now = running.fetch_add(1, Ordering::Relaxed) + 1;
                    most.fetch_max(now, Ordering::Relaxed);
                    tokio::time::sleep(millis(random.u64(1..5_000))).await;
                    running.fetch_sub(1, Ordering::Relaxed);
                    if random.bool() {
                        permit.failure();
                    } else {
                        drop(permit);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        (most.load(Ordering::Relaxed), probes.load(Ordering::Relaxed)),
        (1, 1_280)
    );
}

#[tokio::test(start_paused = true)]
async fn when_it_closes_all_64_pass() {
    let breaker = CircuitBreaker::new(1, OPEN_FOR);
    breaker.on_failure();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let breaker = breaker.clone();
            tokio::spawn(async move {
                let permit = breaker.acquire().await;
                let at = Instant::now();
                tokio::time::sleep(secs(1)).await;
                permit.success();
                at
            })
        })
        .collect();
    let started = Instant::now();
    let mut times = Vec::new();
    for task in tasks {
        times.push((task.await.unwrap() - started).as_secs());
    }
    times.sort_unstable();
    assert_eq!((times[0], &times[1..]), (10, &[11; 63][..]));
}

/// A clock that is set forward or back changes nothing: only the monotonic one is asked. Virtual
/// time is that clock, and the wall clock has not moved while it ran for a day.
#[tokio::test(start_paused = true)]
async fn the_open_time_is_counted_on_the_monotonic_clock() {
    let breaker = CircuitBreaker::default();
    for _ in 0..5 {
        breaker.on_failure();
    }
    tokio::time::advance(millis(59_999)).await;
    assert_eq!(breaker.allow().unwrap_err().retry_in, millis(1));
    tokio::time::advance(millis(1)).await;
    assert!(breaker.allow().unwrap().is_probe());
}
