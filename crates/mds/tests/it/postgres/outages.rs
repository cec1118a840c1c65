//! A server that is killed and started again and again, while producers hand in bars.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mds_coordinator::dead_letter::{DlqOptions, LetterFilter};
use mds_coordinator::{CircuitBreaker, DeadLetterQueue, Metrics, Stats, WriteCoordinator};
use mds_core::{Bar, Timestamp};
use mds_store::{OpenOptions, Store, StoreUrl};

use tokio::sync::watch;

use super::cluster::Cluster;
use super::proxy::Proxy;

/// Far longer than anything here takes.
const GUARD: Duration = Duration::from_secs(900);
/// 2024-11-01T00:00:00Z.
const START: i64 = 1_730_419_200_000_000;
const MINUTE: i64 = 60_000_000;
/// How long the server is at work between two outages, at least.
const AT_WORK: Duration = Duration::from_secs(1);
/// Over how long the rate after an outage is taken.
const WINDOW: Duration = Duration::from_millis(250);

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rows that are handed in at least: producers go on until the last outage is over.
    pub(crate) rows: u64,
    pub(crate) producers: u64,
    pub(crate) workers: usize,
    pub(crate) kills: u64,
    /// How long the server stays away, at least and at most, milliseconds.
    pub(crate) away_ms: (u64, u64),
    pub(crate) seed: u64,
}

/// What one outage did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// From the kill until the server took a connection again.
    pub(crate) away: Duration,
    /// Rows a second since the outage before.
    pub(crate) rate_before: f64,
    /// From the server's return until the rate was above 80 % of that.
    pub(crate) back_after: Duration,
    /// Connections attempted from the kill until then.
    pub(crate) attempts: usize,
}

/// Connections that an outage may cost: two for each worker and ten, and one for each second that
/// it lasts beyond five.
pub(crate) fn allowed(workers: usize, away: Duration) -> usize {
    let beyond = away.saturating_sub(Duration::from_secs(5)).as_secs();
    2 * workers + 10 + usize::try_from(beyond).unwrap()
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) stats: Stats,
    pub(crate) letters: usize,
    /// Rows in the table, and different keys among them.
    pub(crate) stored: (u64, u64),
}

impl Report {
    /// Whether every row that was handed in is stored, once, and counted as written.
    pub(crate) fn is_whole(&self) -> bool {
        let Stats {
            submitted, written, ..
        } = self.stats;
        self.stored == (submitted, submitted) && written == submitted && self.letters == 0
    }
}

/// How many rows were written at which moment.
struct Samples(VecDeque<(Instant, u64)>);

impl Samples {
    fn add(&mut self, written: u64) {
        let now = Instant::now();
        self.0.push_back((now, written));
        // One older than the window is kept, to measure from.
        while self.0.get(1).is_some_and(|(at, _)| now - *at > WINDOW) {
            self.0.pop_front();
        }
    }

    fn rate(&self) -> f64 {
        match (self.0.front(), self.0.back()) {
            (Some(first), Some(last)) if last.0 - first.0 >= WINDOW / 2 => {
                per_second(last.1 - first.1, last.0 - first.0)
            }
            _ => 0.0,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rows of one run")]
fn per_second(rows: u64, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64()
}

/// Runs the plan on a server of its own; tells of each outage when it is over.
pub(crate) async fn run(cluster: &Cluster, plan: Plan, mut tell: impl FnMut(Outage)) -> Report {
    let proxy = Proxy::start(cluster.address).await;
    let (_, admin) = cluster.is_back().await;
    let database = format!("outages_{}", plan.workers);
    let sql = format!("CREATE DATABASE {database}");
    admin.batch_execute(&sql).await.unwrap();
    let url = |address| format!("postgres://postgres@{address}/{database}?sslmode=disable");
    let store_url: StoreUrl = url(proxy.address).parse().unwrap();
    let store = Store::open(&store_url, OpenOptions::default())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters.ndjson");
    let letters = Arc::new(DeadLetterQueue::open(path, DlqOptions::default()).unwrap());
    let coordinator = WriteCoordinator::builder(store.sink::<Bar>())
        .coord_id("outages")
        .metrics(Metrics::new())
        .workers(plan.workers)
        .circuit_breaker(CircuitBreaker::default())
        .dead_letters(Arc::<DeadLetterQueue<Bar>>::clone(&letters))
        .start()
        .unwrap();
    let coordinator = Arc::new(coordinator);
    let (is_over, over) = watch::channel(false);
    let producers: Vec<_> = (0..plan.producers)
        .map(|number| {
            let (coordinator, over) = (Arc::clone(&coordinator), over.clone());
            tokio::spawn(produce(coordinator, plan, number, over))
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(plan.seed);
    for _ in 0..plan.kills {
        let more = plan.rows / (plan.kills + 1);
        let away = Duration::from_millis(random.u64(plan.away_ms.0..=plan.away_ms.1));
        tell(outage(cluster, &proxy, &coordinator, more, away).await);
    }
    is_over.send_replace(true);
    for producer in producers {
        producer.await.unwrap();
    }
    let flushed = coordinator.flush(GUARD).await;
    assert_eq!(flushed.outstanding, 0, "{:?}", coordinator.last_error());
    let stats = coordinator.stop(true, GUARD).await.stats;
    store.close().await;
    let (admin, connection) = tokio_postgres::connect(&url(cluster.address), tokio_postgres::NoTls)
        .await
        .unwrap();
    drop(tokio::spawn(connection));
    let sql = "SELECT count(*), count(DISTINCT (symbol, ts)) FROM bars";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let count = |index| u64::try_from(row.get::<_, i64>(index)).unwrap();
    Report {
        stats,
        letters: letters.list(LetterFilter::default()).unwrap().len(),
        stored: (count(0), count(1)),
    }
}

/// Hands in the bars of one producer, a thousand at a time.
async fn produce(
    coordinator: Arc<WriteCoordinator<Bar>>,
    plan: Plan,
    producer: u64,
    over: watch::Receiver<bool>,
) {
    let mut number = 0;
    while number < plan.rows / plan.producers || !*over.borrow() {
        let bar = |number: u64| Bar {
            vendor: "outages".into(),
            symbol: format!("P{producer}S{}", number % 50).as_str().into(),
            ts: Timestamp::from_micros(START + i64::try_from(number / 50).unwrap() * MINUTE),
            close_price: Some(f64::from(u32::try_from(number).unwrap())),
            revision: 1,
            ..Bar::default()
        };
        let mut rows: VecDeque<Bar> = (number..number + 1_000).map(bar).collect();
        coordinator.submit_many(&mut rows).await.unwrap();
        number += 1_000;
    }
}

/// Kills the server when so many more rows are written, and a second has gone by; starts it again.
async fn outage(
    cluster: &Cluster,
    proxy: &Proxy,
    coordinator: &WriteCoordinator<Bar>,
    more: u64,
    away: Duration,
) -> Outage {
    let mut samples = Samples(VecDeque::new());
    let mut look = || {
        let written = coordinator.stats().written;
        samples.add(written);
        (written, samples.rate())
    };
    let (begun, first) = (Instant::now(), coordinator.stats().written);
    let rate_before = loop {
        let (written, _) = look();
        if written >= first + more && begun.elapsed() >= AT_WORK {
            break per_second(written - first, begun.elapsed());
        }
        assert!(
            begun.elapsed() < GUARD,
            "nothing is written: {:?}",
            coordinator.last_error()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let attempts = proxy.accepted();
    let killed = Instant::now();
    cluster.kill();
    tokio::time::sleep(away).await;
    cluster.launch();
    let (returned, _admin) = cluster.is_back().await;
    loop {
        if look().1 >= 0.8 * rate_before {
            break;
        }
        assert!(
            returned.elapsed() < GUARD,
            "no recovery: {:?}",
            coordinator.last_error()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Outage {
        away: returned - killed,
        rate_before,
        back_after: returned.elapsed(),
        attempts: proxy.accepted() - attempts,
    }
}
