//! Medians of interleaved rounds: rows a second through the sink, and through the bare loop.
//!
//! ```sh
//! cargo run --release -p mds-store --example write_speed -- [DIR]
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mds_core::{Bar, Batch, RowOutcome, Sink, Timeframe, Timestamp};
use mds_store::{OpenOptions, Store, StoreUrl, bench};

type Failure = Box<dyn std::error::Error>;

const SYMBOLS: usize = 1_000;
const ROUNDS: usize = 5;

/// Minute bars of many symbols in the order of time, as a live feed brings them.
fn bars(rows: usize, revision: i64) -> Vec<Bar> {
    let random = &mut fastrand::Rng::with_seed(1);
    (0..rows)
        .map(|i| {
            let close = 100.0 + random.f64();
            let minute = i64::try_from(i / SYMBOLS).unwrap_or(0);
            Bar {
                vendor: "bench".into(),
                symbol: format!("SYM{:04}", i % SYMBOLS).as_str().into(),
                timeframe: Timeframe::MINUTE,
                ts: Timestamp::from_micros(1_730_419_200_000_000 + minute * 60_000_000),
                open_price: Some(close - 0.25),
                high_price: Some(close + 0.5),
                low_price: Some(close - 0.5),
                close_price: Some(close),
                volume: Some((random.f64() * 1e6).round()),
                revision: revision + i64::try_from(i).unwrap_or(0),
                ..Bar::default()
            }
        })
        .collect()
}

async fn fresh_store(dir: &Path) -> Result<(Store, PathBuf), Failure> {
    let path = dir.join(format!("speed-{}.db", fastrand::u64(..)));
    let url = StoreUrl::Sqlite(path.clone());
    let store = Store::open(&url, OpenOptions::default()).await?;
    Ok((store, path))
}

fn remove(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{suffix}", path.display()));
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// All rows through `callers` tasks, each of which waits for its answer before its next batch.
async fn through_sink(
    store: &Store,
    rows: &[Bar],
    batch: usize,
    callers: usize,
    expected: RowOutcome,
) -> Result<Duration, Failure> {
    let mut tasks = Vec::new();
    let batches: Vec<Batch<Bar>> = rows
        .chunks(batch)
        .map(|part| Batch::from(part.to_vec()))
        .collect();
    let started = Instant::now();
    for caller in 0..callers {
        let sink = store.sink::<Bar>();
        let expected = expected.clone();
        let mine: Vec<_> = batches
            .iter()
            .skip(caller)
            .step_by(callers)
            .cloned()
            .collect();
        tasks.push(tokio::spawn(async move {
            for batch in mine {
                let report = sink.write(batch).await;
                assert!(report.error.is_none(), "{:?}", report.error);
                assert!(report.outcomes.iter().all(|o| *o == expected));
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    Ok(started.elapsed())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a rate for display")]
fn rate(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    println!(
        "batch callers      bare   sink fresh  ratio  sink replay   (rows/s, medians of {ROUNDS})"
    );
    for (batch, callers, count) in [
        (500, 1, 300_000),
        (500, 4, 300_000),
        (5_000, 1, 1_000_000),
        (5_000, 4, 1_000_000),
    ] {
        let rows = bars(count, 1);
        let (mut bare, mut fresh, mut replay) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (store, path) = fresh_store(&dir).await?;
            bare.push(rate(count, bench::bare_loop(&path, &rows, batch)?.took));
            store.close().await;
            remove(&path)?;
            let (store, path) = fresh_store(&dir).await?;
            let took = through_sink(&store, &rows, batch, callers, RowOutcome::Written).await?;
            fresh.push(rate(count, took));
            let took = through_sink(&store, &rows, batch, callers, RowOutcome::Same).await?;
            replay.push(rate(count, took));
            store.close().await;
            remove(&path)?;
        }
        let (bare, fresh, replay) = (median(bare), median(fresh), median(replay));
        println!(
            "{batch:5} {callers:7} {bare:9.0} {fresh:12.0} {:6.2} {replay:12.0}",
            fresh / bare
        );
    }
    Ok(())
}
