//! How fast bars go into PostgreSQL, beside a bare binary COPY of the same rows into the same
//! table: fresh rows, the same again, all newer.
//!
//! ```text
//! cargo run --release -p mds-store --example postgres_speed -- postgres://postgres@localhost/postgres 1000000 5000 2
//! ```
#![expect(
    clippy::print_stdout,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "a program that prints a table of made-up rows"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use mds_core::{Bar, Batch, RowOutcome, Sink as _, Timestamp};
use mds_store::bench::Scratch;
use mds_store::{OpenOptions, Store};

fn bars(rows: usize, revision: i64) -> Vec<Bar> {
    let symbols: Vec<mds_core::Symbol> = (0..1_000)
        .map(|i| format!("SYM{i:04}").as_str().into())
        .collect();
    (0..rows)
        .map(|i| Bar {
            vendor: "bench".into(),
            symbol: symbols[i % 1_000].clone(),
            ts: Timestamp::from_micros(1_730_419_200_000_000 + (i / 1_000) as i64 * 60_000_000),
            open_price: Some(i as f64),
            high_price: Some(i as f64 + 1.5),
            low_price: Some(i as f64 - 1.5),
            close_price: Some(i as f64 + revision as f64),
            volume: Some(1_000.0),
            revision,
            ..Bar::default()
        })
        .collect()
}

async fn write(
    store: &Store,
    batches: &Arc<Vec<Batch<Bar>>>,
    writers: usize,
    wanted: &RowOutcome,
) -> f64 {
    let started = Instant::now();
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let (sink, batches, wanted) = (store.sink::<Bar>(), Arc::clone(batches), wanted.clone());
        tasks.push(tokio::spawn(async move {
            for batch in batches.iter().skip(writer).step_by(writers) {
                let report = sink.write(batch.clone()).await;
                assert!(report.error.is_none(), "{:?}", report.error);
                assert!(report.outcomes.iter().all(|o| *o == wanted));
            }
        }));
    }
    for task in tasks {
        task.await.expect("a writer");
    }
    started.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // In a database of its own; nothing else on the server is touched.
    let scratch = Scratch::create(&args[0], OpenOptions::default()).await?;
    let (rows, batch, writers): (usize, usize, usize) =
        (args[1].parse()?, args[2].parse()?, args[3].parse()?);
    let batches = |revision| -> Arc<Vec<Batch<Bar>>> {
        Arc::new(
            bars(rows, revision)
                .chunks(batch)
                .map(|c| Batch::from(c.to_vec()))
                .collect(),
        )
    };
    let store = Store::open(&scratch.url().parse()?, OpenOptions::default()).await?;
    let (first, second) = (batches(1), batches(2));
    let per_second = |seconds: f64| rows as f64 / seconds;
    for _ in 0..3 {
        scratch.reset().await?;
        let bare = scratch.bare_copy(&first, writers).await?.as_secs_f64();
        scratch.reset().await?;
        let fresh = write(&store, &first, writers, &RowOutcome::Written).await;
        let replay = write(&store, &first, writers, &RowOutcome::Same).await;
        let newer = write(&store, &second, writers, &RowOutcome::Written).await;
        println!(
            "bare {:.0} fresh {:.0} ({:.2} x) replay {:.0} ({:.2} x) newer {:.0} ({:.2} x)",
            per_second(bare),
            per_second(fresh),
            bare / fresh,
            per_second(replay),
            bare / replay,
            per_second(newer),
            bare / newer
        );
    }
    scratch.remove().await?;
    Ok(())
}
