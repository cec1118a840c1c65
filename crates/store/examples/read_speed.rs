//! Loads 1,000 symbols with a week of minutes and a year of days, or measures reads of that store
//! in a new process.
//!
//! ```sh
//! cargo run --release -p mds-store --example read_speed -- load market.db
//! cargo run --release -p mds-store --example read_speed -- read market.db
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::time::Instant;

use mds_core::{Bar, Batch, Sink, Symbol, Timeframe, Timestamp};
use mds_store::{OpenOptions, Query, Store, StoreUrl};

type Failure = Box<dyn std::error::Error>;

const SYMBOLS: i64 = 1_000;
const MINUTES: i64 = 10_080;
const DAYS: i64 = 252;
const WORKERS: usize = 4;
const BATCH: usize = 500;
const READS: usize = 200;
const MINUTE: i64 = 60_000_000;
const FIRST: i64 = 1_730_419_200_000_000;

fn symbol(i: i64) -> Symbol {
    Symbol::new(&format!("SYM{i:04}"))
}

#[expect(clippy::cast_precision_loss, reason = "made-up prices")]
fn bar(i: i64, timeframe: Timeframe, ts: i64) -> Bar {
    let close = 100.0 + ((i * 7_919 + ts / MINUTE * 104_729) % 10_007) as f64 / 10_007.0;
    Bar {
        vendor: "bench".into(),
        symbol: symbol(i),
        timeframe,
        ts: Timestamp::from_micros(ts),
        open_price: Some(close - 0.25),
        high_price: Some(close + 0.5),
        low_price: Some(close - 0.5),
        close_price: Some(close),
        volume: Some(1_234.0),
        revision: ts,
        ..Bar::default()
    }
}

async fn load(store: &Store) -> Result<(), Failure> {
    let started = Instant::now();
    let (batches, mut tasks) = (
        std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0)),
        Vec::new(),
    );
    let total = SYMBOLS * (MINUTES + DAYS);
    let size = i64::try_from(BATCH)?;
    for _ in 0..WORKERS {
        let (sink, batches) = (store.sink::<Bar>(), std::sync::Arc::clone(&batches));
        tasks.push(tokio::spawn(async move {
            loop {
                let first = batches.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * size;
                if first >= total {
                    return;
                }
                let rows: Vec<Bar> = (first..total.min(first + size))
                    .map(|n| match n / SYMBOLS {
                        day if day < DAYS => {
                            let ts = FIRST - (DAYS - day) * 1_440 * MINUTE;
                            bar(n % SYMBOLS, Timeframe::DAY, ts)
                        }
                        slot => {
                            let ts = FIRST + (slot - DAYS) * MINUTE;
                            bar(n % SYMBOLS, Timeframe::MINUTE, ts)
                        }
                    })
                    .collect();
                let report = sink.write(Batch::from(rows)).await;
                assert!(report.error.is_none(), "{:?}", report.error);
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    println!(
        "loaded {total} bars in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn read(store: &Store) -> Result<(), Failure> {
    let random = &mut fastrand::Rng::with_seed(7);
    for (name, timeframe, expected) in [
        ("a week of minutes", Timeframe::MINUTE, MINUTES),
        ("a year of days", Timeframe::DAY, DAYS),
    ] {
        let mut took = Vec::new();
        for _ in 0..READS {
            let query = Query {
                symbols: vec![symbol(random.i64(0..SYMBOLS))],
                timeframe: Some(timeframe),
                ..Query::default()
            };
            let started = Instant::now();
            let rows = store.query::<Bar>(query).collect().await?;
            assert_eq!(i64::try_from(rows.len())?, expected);
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        println!(
            "{name}: p50 {:.2} ms, p95 {:.2} ms",
            took[READS / 2],
            took[READS * 95 / 100]
        );
    }
    let symbols = (0..SYMBOLS).map(symbol).collect();
    let started = Instant::now();
    let latest = store
        .latest(Query {
            symbols,
            ..Query::default()
        })
        .await?;
    println!(
        "latest prices of {} symbols: {:.1} ms",
        latest.len(),
        started.elapsed().as_secs_f64() * 1e3
    );
    let started = Instant::now();
    let stats = store.stats().await?;
    println!(
        "figures of {} rows, {} bytes: {:.0} ms",
        stats.kinds[0].rows,
        stats.file_bytes,
        started.elapsed().as_secs_f64() * 1e3
    );
    let started = Instant::now();
    let mut chunks = store.query::<Bar>(Query::default());
    let mut rows = 0;
    while let Some(chunk) = chunks.next().await {
        rows += chunk?.len();
    }
    println!(
        "all {rows} bars in order: {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: read_speed load|read PATH";
    let (Some(mode), Some(path)) = (args.next(), args.next()) else {
        return Err(usage.into());
    };
    let url = StoreUrl::Sqlite(path.into());
    match mode.as_str() {
        "load" => {
            let store = Store::open(&url, OpenOptions::default()).await?;
            load(&store).await?;
            store.close().await;
        }
        "read" => read(&Store::open(&url, OpenOptions::read_only()).await?).await?,
        _ => return Err(usage.into()),
    }
    Ok(())
}
