//! Conservation, over random schedules of everything that can go wrong, in virtual time.
//!
//! Each seed makes a coordinator of random shape, producers that submit one by one and in groups
//! and are cancelled at random, a sink that fails, panics, hangs, loses answers and refuses poison,
//! dead letters that cannot be written for a while, and a stop at a random moment. Afterwards each
//! record must have exactly one fate. `MDS_SEED=n` runs one seed, `MDS_LONG=1` runs 10,000.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use mds_coordinator::{
    CircuitBreaker, ErrorKind, Fate, OverflowStrategy, RetryPolicy, StopReport, WriteCoordinator,
};

use crate::support::{Act, FakeLetters, FakeSink, Peek, Poison, builder};

const SEEDS: u64 = 2_000;
const LONG_SEEDS: u64 = 10_000;

#[test]
fn every_record_has_exactly_one_fate() {
    if let Some(seed) = env_number("MDS_SEED") {
        println!("{:#?}", simulate(seed));
        return;
    }
    let long = std::env::var("MDS_LONG").is_ok_and(|v| v == "1");
    let seeds = if long { LONG_SEEDS } else { SEEDS };
    let mut total = Seen::default();
    for seed in 0..seeds {
        // The seed is the last line of the output if this one fails.
        println!("MDS_SEED={seed}");
        total.add(&simulate(seed));
    }
    println!("{seeds} seeds: {total:?}");
    // The schedules must have exercised what they are for.
    for (what, count) in [
        ("written", total.written),
        ("superseded", total.superseded),
        ("letters", total.letters),
        ("dropped", total.dropped),
        ("refused", total.refused),
        ("cancelled", total.cancelled),
        ("handed back", total.handed_back),
        ("timed out", total.timed_out),
    ] {
        assert!(count > seeds / 20, "only {count} {what} in {seeds} seeds");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..50 {
        assert_eq!(simulate(seed), simulate(seed), "MDS_SEED={seed}");
    }
}

fn env_number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What a run has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    written: u64,
    superseded: u64,
    letters: u64,
    dropped: u64,
    refused: u64,
    cancelled: u64,
    handed_back: u64,
    timed_out: u64,
    attempts: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.superseded += other.superseded;
        self.letters += other.letters;
        self.dropped += other.dropped;
        self.refused += other.refused;
        self.cancelled += other.cancelled;
        self.handed_back += other.handed_back;
        self.timed_out += other.timed_out;
        self.attempts += other.attempts;
    }
}

fn simulate(seed: u64) -> Seen {
    // Jitter inside the coordinator draws from the thread's generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(Run::new(seed).go())
}

/// The seven ways in which an attempt can go, weighted by how sick the store is just now.
fn act(random: &mut Rng, sick: bool) -> Act {
    if !sick {
        return if random.u8(..10) == 0 {
            Act::Slow(random.u64(..500))
        } else {
            Act::Write
        };
    }
    let kinds = [
        (ErrorKind::Environment, "connection refused"),
        (ErrorKind::Transient, "deadlock"),
        (ErrorKind::Unknown, "timeout"),
        (ErrorKind::Unknown, "no such thing"),
        (ErrorKind::Fatal, "no such table"),
    ];
    let (kind, text) = kinds[random.usize(..kinds.len())];
    match random.u8(..12) {
        0..=4 => Act::Fail(kind, text),
        5 | 6 => Act::WriteAndFail(kind, text),
        7 => Act::Half(kind, text),
        8 => Act::Panic,
        9 => Act::Hang,
        10 => Act::Slow(random.u64(..3_000)),
        _ => Act::Write,
    }
}

struct Run {
    seed: u64,
    random: Rng,
    letters: Option<Arc<FakeLetters>>,
    dropped: Arc<Mutex<Vec<u64>>>,
    fates: Arc<Mutex<Vec<(u64, Fate)>>>,
    accepted: Arc<Mutex<Vec<u64>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let letters = match random.u8(..4) {
            0 => None,
            1 => Some(FakeLetters::failing(random.u32(1..30))),
            _ => Some(FakeLetters::new()),
        };
        Self {
            seed,
            random,
            letters,
            dropped: Arc::default(),
            fates: Arc::default(),
            accepted: Arc::default(),
            seen: Arc::default(),
        }
    }

    fn start(&mut self) -> (WriteCoordinator<u64>, Peek) {
        let random = &mut self.random;
        let poison = [Poison::Named, Poison::Batch, Poison::Unknown][random.usize(..3)];
        let has_check = random.bool();
        let mut sink_random = random.fork();
        let mut phase = (0, false);
        let (sink, peek) = FakeSink::new(move |_| {
            // The store is sick and well by turns, a few attempts each.
            if phase.0 == 0 {
                phase = (sink_random.u32(1..20), !phase.1 && sink_random.bool());
            }
            phase.0 -= 1;
            act(&mut sink_random, phase.1)
        });
        let mut sink = sink.poison(poison, |row| row % 37 == 5);
        if has_check {
            sink = sink.check(|| true);
        }
        let strategies = [
            OverflowStrategy::Block,
            OverflowStrategy::DropOldest,
            OverflowStrategy::Error,
        ];
        let (dropped, fates) = (Arc::clone(&self.dropped), Arc::clone(&self.fates));
        let breaker = random.bool().then(|| {
            CircuitBreaker::new(
                random.u32(1..6),
                Duration::from_millis(random.u64(100..20_000)),
            )
        });
        let capacity = random.usize(1..200);
        let mut builder = builder(sink)
            .capacity(capacity)
            .max_bytes(if random.bool() {
                64 << 20
            } else {
                random.usize(8..1_600)
            })
            .workers(random.usize(1..6))
            .workers_max(random.usize(6..9))
            .batch_size(random.usize(1..50))
            .flush_interval(Duration::from_millis(random.u64(..300)))
            .overflow_strategy(strategies[random.usize(..3)])
            .write_timeout(Duration::from_secs(random.u64(1..5)))
            .max_age(
                random
                    .bool()
                    .then(|| Duration::from_secs(random.u64(1..60))),
            )
            .circuit_breaker(breaker)
            .retry_policy(RetryPolicy {
                max_attempts: random.u32(1..6),
                ..RetryPolicy::default()
            })
            .on_fate(move |row, fate| fates.lock().unwrap().push((*row, fate)))
            .drop_callback(move |row, _| dropped.lock().unwrap().push(*row));
        if let Some(letters) = &self.letters {
            builder = builder.dead_letters(Arc::<FakeLetters>::clone(letters));
        }
        (builder.start().unwrap(), peek)
    }

    async fn go(mut self) -> Seen {
        let (coordinator, peek) = self.start();
        let coordinator = Arc::new(coordinator);
        let producers = self.random.u64(1..5);
        let each = self.random.u64(1..150);
        let mut tasks = Vec::new();
        for producer in 0..producers {
            let first = producer * 1_000_000;
            tasks.push(tokio::spawn(produce(
                Arc::clone(&coordinator),
                first..first + each,
                self.random.fork(),
                Arc::clone(&self.accepted),
                Arc::clone(&self.seen),
            )));
        }
        self.watch(&coordinator).await;
        let drain = self.random.u8(..4) > 0;
        let timeout = Duration::from_millis(self.random.u64(..60_000));
        let started = tokio::time::Instant::now();
        let report = coordinator.stop(drain, timeout).await;
        assert!(
            started.elapsed() <= timeout + Duration::from_secs(1),
            "MDS_SEED={}: stop took {:?} with a timeout of {timeout:?}",
            self.seed,
            started.elapsed()
        );
        for task in tasks {
            task.await.unwrap();
        }
        let again = coordinator.stop(true, Duration::from_secs(1)).await;
        assert!(again.handed_back.is_empty());
        self.check(&report, &again, &peek)
    }

    /// Looks at the books at random moments until the stop is due.
    async fn watch(&mut self, coordinator: &WriteCoordinator<u64>) {
        for _ in 0..self.random.u32(1..40) {
            tokio::time::sleep(Duration::from_millis(self.random.u64(..2_000))).await;
            let stats = coordinator.stats();
            assert!(stats.is_balanced(), "MDS_SEED={}: {stats:?}", self.seed);
            if self.random.u8(..10) == 0 {
                let timeout = Duration::from_millis(self.random.u64(..1_000));
                let before = tokio::time::Instant::now();
                coordinator.flush(timeout).await;
                assert!(
                    before.elapsed() <= timeout,
                    "MDS_SEED={}: flush hung",
                    self.seed
                );
            }
        }
    }

    fn check(self, first: &StopReport<u64>, last: &StopReport<u64>, peek: &Peek) -> Seen {
        let seed = self.seed;
        let stats = last.stats;
        assert!(stats.is_balanced(), "MDS_SEED={seed}: {stats:?}");
        assert_eq!(
            (stats.queued, stats.in_flight),
            (0, 0),
            "MDS_SEED={seed}: {stats:?}"
        );
        let accepted = self.accepted.lock().unwrap().clone();
        assert_eq!(
            stats.submitted,
            accepted.len() as u64,
            "MDS_SEED={seed}: {stats:?}"
        );
        let letters = self.letters.as_ref().map(|l| l.seen()).unwrap_or_default();
        let dropped = self.dropped.lock().unwrap().clone();
        let mut handed_back = first.handed_back.clone();
        handed_back.extend(
            first
                .handed_back_shared
                .iter()
                .flat_map(|b| b.iter().copied()),
        );
        self.check_fates(last, accepted.clone());
        self.check_counts(first, &letters, &dropped, &handed_back);
        let in_letters: BTreeSet<u64> = letters.iter().map(|l| l.row).collect();
        let gone: BTreeSet<u64> = dropped.iter().copied().collect();
        for row in &accepted {
            let kept = peek.has(*row) || in_letters.contains(row) || gone.contains(row);
            assert!(kept, "MDS_SEED={seed}: row {row} is nowhere; {stats:?}");
        }
        let mut times: HashMap<u64, usize> = HashMap::new();
        for row in &accepted {
            *times.entry(*row).or_default() += 1;
        }
        for (row, count) in letters_by_row(&letters) {
            assert!(
                count <= times[&row],
                "MDS_SEED={seed}: row {row} has {count} letters"
            );
        }
        for letter in letters.iter().filter(|l| times[&l.row] == 1) {
            // A row is in the store and in the letters only where its outcome was not known.
            let doubled = peek.has(letter.row) && !letter.outcome_unknown;
            assert!(!doubled, "MDS_SEED={seed}: {letter:?} is in the store too");
        }
        let mut total = self.seen.lock().unwrap().clone();
        total.written = stats.written;
        total.superseded = stats.superseded;
        total.letters = letters.len() as u64;
        total.dropped = stats.dropped.total();
        total.refused += stats.refused_total();
        total.handed_back = handed_back.len() as u64;
        total.timed_out = u64::from(first.timed_out);
        total.attempts = peek.attempts();
        total
    }

    /// Each accepted record was told its fate once, and of each fate as many as the books say.
    fn check_fates(&self, last: &StopReport<u64>, mut accepted: Vec<u64>) {
        let (seed, stats) = (self.seed, last.stats);
        let fates = self.fates.lock().unwrap().clone();
        let mut told: Vec<u64> = fates.iter().map(|(row, _)| *row).collect();
        told.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(told, accepted, "MDS_SEED={seed}: {stats:?}");
        let count = |fate| fates.iter().filter(|(_, f)| *f == fate).count() as u64;
        assert_eq!(
            (count(Fate::Written), count(Fate::Superseded)),
            (stats.written, stats.superseded),
            "MDS_SEED={seed}"
        );
        for (reason, rows) in stats.dead_lettered.iter() {
            assert_eq!(count(Fate::DeadLettered(reason)), rows, "MDS_SEED={seed}");
        }
        for (reason, rows) in stats.dropped.iter() {
            assert_eq!(count(Fate::Dropped(reason)), rows, "MDS_SEED={seed}");
        }
    }

    fn check_counts(
        &self,
        report: &StopReport<u64>,
        letters: &[crate::support::Seen],
        dropped: &[u64],
        handed_back: &[u64],
    ) {
        let seed = self.seed;
        let stats = report.stats;
        assert_eq!(
            stats.dead_lettered.total(),
            letters.len() as u64,
            "MDS_SEED={seed}: {stats:?}"
        );
        let overflow = mds_coordinator::Reason::Overflow;
        let told = stats.dropped.total()
            + if self.letters.is_some() {
                stats.dead_lettered.get(overflow)
            } else {
                0
            };
        assert_eq!(
            dropped.len() as u64,
            told,
            "MDS_SEED={seed}: drop callbacks; {stats:?}"
        );
        let shutdown = stats.dropped.get(mds_coordinator::Reason::Shutdown);
        // What was pushed out and had no letter yet comes back too.
        let back = handed_back.len() as u64;
        assert!(
            (shutdown..=stats.dropped.total()).contains(&back),
            "MDS_SEED={seed}: {stats:?}"
        );
    }
}

fn letters_by_row(letters: &[crate::support::Seen]) -> HashMap<u64, usize> {
    let mut by_row = HashMap::new();
    for letter in letters {
        *by_row.entry(letter.row).or_insert(0) += 1;
    }
    by_row
}

/// Submits rows in every way there is, until they are through or the coordinator is stopping.
async fn produce(
    coordinator: Arc<WriteCoordinator<u64>>,
    rows: std::ops::Range<u64>,
    mut random: Rng,
    accepted: Arc<Mutex<Vec<u64>>>,
    seen: Arc<Mutex<Seen>>,
) {
    let (first, each) = (rows.start, rows.end - rows.start);
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        if random.u8(..3) == 0 {
            tokio::time::sleep(Duration::from_millis(random.u64(..1_500))).await;
        }
        let patience = Duration::from_millis(random.u64(1..3_000));
        if random.u8(..8) == 0 {
            // A row that came before comes again.
            let row = first + random.u64(..each);
            if coordinator.try_submit(row).is_ok() {
                accepted.lock().unwrap().push(row);
            }
        }
        match random.u8(..4) {
            0 => {
                let Some(row) = rows.next() else { return };
                if coordinator.try_submit(row).is_ok() {
                    accepted.lock().unwrap().push(row);
                }
            }
            1 => {
                let mut group: VecDeque<u64> = rows.by_ref().take(random.usize(1..400)).collect();
                let before = group.clone();
                // Cancelled or not: what is gone from the group was accepted.
                let submit = coordinator.submit_many(&mut group);
                if tokio::time::timeout(patience, submit).await.is_err() {
                    seen.lock().unwrap().cancelled += 1;
                }
                let taken = before.len() - group.len();
                accepted.lock().unwrap().extend(before.iter().take(taken));
            }
            _ => {
                let Some(row) = rows.next() else { return };
                match tokio::time::timeout(patience, coordinator.submit(row)).await {
                    Ok(Ok(())) => accepted.lock().unwrap().push(row),
                    Ok(Err(refused)) => assert_eq!(refused.item, row),
                    Err(_) => seen.lock().unwrap().cancelled += 1,
                }
            }
        }
    }
}
