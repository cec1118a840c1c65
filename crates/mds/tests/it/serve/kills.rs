//! A daemon that is killed again and again under load, by producers who send again what was not
//! acknowledged: each acknowledged row is in the store, once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::daemon::{Daemon, ask};
use crate::run::Place;

const PRODUCERS: u64 = 4;
/// Rows of a request.
const ROWS: u64 = 50;

/// What the producers and the one who kills share.
#[derive(Default)]
struct Shared {
    address: Mutex<Option<SocketAddr>>,
    /// Numbers of acknowledged rows; their first is a multiple of [`ROWS`].
    acknowledged: Mutex<Vec<u64>>,
    answers: AtomicU64,
    next: AtomicU64,
    is_over: AtomicBool,
}

impl Shared {
    fn acknowledged(&self) -> Vec<u64> {
        let requests = self
            .acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        requests
            .iter()
            .flat_map(|first| *first..first + ROWS)
            .collect()
    }
}

/// The row of a number.
fn row(number: u64) -> String {
    let (day, minute) = (1 + number / 1_440 % 28, number % 1_440);
    format!(
        "{{\"vendor\":\"x\",\"symbol\":\"S{}\",\"timeframe\":\"1m\",\
         \"ts\":\"2024-11-{day:02}T{:02}:{:02}:00Z\",\"close_price\":{number}}}\n",
        number / 40_320,
        minute / 60,
        minute % 60
    )
}

/// Sends requests until it is over; each one until it is acknowledged.
fn produce(shared: &Shared, ack: &str) {
    while !shared.is_over.load(Ordering::Acquire) {
        let first = shared.next.fetch_add(ROWS, Ordering::Relaxed);
        let body: String = (first..first + ROWS).map(row).collect();
        loop {
            let address = *shared.address.lock().unwrap();
            let path = format!("/v1/bars?ack={ack}");
            let reply = address.and_then(|a| ask(a, "POST", &path, &[], body.as_bytes()));
            if reply.is_some_and(|reply| reply.status < 300) {
                shared.acknowledged.lock().unwrap().push(first);
                shared.answers.fetch_add(1, Ordering::Release);
                break;
            }
            std::thread::yield_now();
        }
    }
}

/// How often each number is in the store.
fn stored(place: &Place) -> BTreeMap<u64, u32> {
    let store = Connection::open(place.path("market.db")).unwrap();
    let mut rows = store.prepare("SELECT close_price FROM bars_data").unwrap();
    let mut times = BTreeMap::new();
    let numbers = rows.query_map([], |row| row.get::<_, f64>(0)).unwrap();
    for number in numbers.map(Result::unwrap) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a row's number"
        )]
        let number = number as u64;
        *times.entry(number).or_insert(0) += 1;
    }
    times
}

struct Killed {
    acknowledged: usize,
    missing: usize,
    doubled: usize,
    with_backlog: u32,
}

fn kill(kills: u32, queue: &str, ack: &str) -> Killed {
    let seed = std::env::var("MDS_SEED").map_or(3, |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let (place, shared) = (Place::new(), Shared::default());
    let args = ["--queue", queue];
    Daemon::start(&place, &args).terminate().code(143);
    let mut with_backlog = 0;
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| produce(&shared, ack));
        }
        for _ in 0..kills {
            let lock = (random.u8(0..3) == 0).then(|| {
                let lock = Connection::open(place.path("market.db")).unwrap();
                lock.busy_timeout(std::time::Duration::from_secs(60))
                    .unwrap();
                lock.execute_batch("BEGIN IMMEDIATE").unwrap();
                lock
            });
            let daemon = Daemon::start(&place, &args);
            let until = shared.answers.load(Ordering::Acquire) + random.u64(1..40);
            *shared.address.lock().unwrap() = Some(daemon.address);
            while shared.answers.load(Ordering::Acquire) < until {
                std::thread::yield_now();
            }
            assert_eq!(daemon.kill().code, 137);
            *shared.address.lock().unwrap() = None;
            drop(lock);
            let stored = stored(&place);
            let is_there = |number: &u64| stored.contains_key(number);
            with_backlog += u32::from(!shared.acknowledged().iter().all(is_there));
        }
        let daemon = Daemon::start(&place, &args);
        *shared.address.lock().unwrap() = Some(daemon.address);
        shared.is_over.store(true, Ordering::Release);
        // All requests that were begun are answered by it.
        let all = shared.next.load(Ordering::Acquire) / ROWS;
        while (shared.acknowledged.lock().unwrap().len() as u64) < all {
            std::thread::yield_now();
        }
        daemon.terminate().code(143);
    });
    let (acknowledged, stored) = (shared.acknowledged(), stored(&place));
    Killed {
        acknowledged: acknowledged.len(),
        missing: acknowledged
            .iter()
            .filter(|n| !stored.contains_key(n))
            .count(),
        doubled: stored.values().filter(|times| **times > 1).count(),
        with_backlog,
    }
}

fn kills() -> u32 {
    if std::env::var_os("MDS_LONG").is_some() {
        200
    } else {
        20
    }
}

#[test]
fn kills_lose_no_row_that_was_acknowledged() {
    let killed = kill(kills(), "disk:q", "durable");
    eprintln!(
        "{} kills, {} with a backlog: {} rows acknowledged, {} missing, {} doubled",
        kills(),
        killed.with_backlog,
        killed.acknowledged,
        killed.missing,
        killed.doubled
    );
    assert_eq!((killed.missing, killed.doubled), (0, 0));
    assert!(
        killed.with_backlog >= kills() * 3 / 10,
        "{}",
        killed.with_backlog
    );
}

/// The same with a queue in memory must lose some: it would be seen.
#[test]
fn kills_of_a_queue_in_memory_lose_rows() {
    let killed = kill(10, "memory", "accepted");
    assert!(killed.missing > 0, "of {}", killed.acknowledged);
    assert_eq!(killed.doubled, 0);
}
