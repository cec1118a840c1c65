//! The write coordinator with all its parts: metrics, settings from the environment, dead letters,
//! retries, a circuit breaker, backpressure and health.
//!
//! ```text
//! cargo run --release --example advanced
//! MDS_COORDINATOR_WORKERS=2 MDS_STORE=sqlite:other.db cargo run --release --example advanced
//! curl -s localhost:8000/metrics | grep production      # while it runs
//! ```
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mds_coordinator::dead_letter::DlqOptions;
use mds_coordinator::{CircuitBreaker, DeadLetterQueue, Metrics, RetryPolicy, WriteCoordinator};
use mds_core::settings::{CoordinatorRuntimeSettings, SettingSources, Settings};
use mds_core::{Bar, Timestamp};
use mds_store::{OpenOptions, Query, Store, StoreUrl};
use serde_json::Map;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const BARS: i64 = 10_000;
const MINUTE: i64 = 60_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // 1. Expose metrics.
    let listener = TcpListener::bind("127.0.0.1:8000")
        .await
        .context("port 8000 is taken; stop what listens there")?;
    let (stop_server, stopped) = oneshot::channel::<()>();
    let until = async { stopped.await.unwrap_or_default() };
    let server = tokio::spawn(mds_server::metrics::serve(
        listener,
        Metrics::global().clone(),
        until,
    ));

    // 2. Load settings from the environment.
    let env: Vec<_> = std::env::vars()
        .filter(|(name, _)| name.starts_with("MDS_"))
        .collect();
    let settings = Settings::load(&SettingSources {
        env: &env,
        ..SettingSources::default()
    })?
    .settings;
    let cfg = settings.coordinator();

    // 3. Create the dead letter queue.
    let dlq = DeadLetterQueue::<Bar>::open(".dlq/advanced.ndjson", DlqOptions::default())?;

    // 4. Open the store; its sink writes bars.
    let url: StoreUrl = settings.store().expose().parse()?;
    let store = Store::open(&url, OpenOptions::default()).await?;

    // 5. to 7. Create the coordinator with retries and a circuit breaker.
    let coordinator = coordinator(&cfg, &store, &dlq)?;

    // 8. Submit. An error hands the record back: it was not accepted, and is ours to keep.
    let mut unsubmitted = 0;
    for minute in 0..BARS {
        if let Err(refused) = coordinator.submit(bar(minute)).await {
            let metadata: Map<_, _> = [("stage".to_owned(), "submit".into())]
                .into_iter()
                .collect();
            dlq.save(&[refused.item], &refused.refusal, &metadata)
                .await?;
            unsubmitted += 1;
        }
    }

    // 9. Check health.
    let health = coordinator.health();
    println!(
        "health: {} workers, {}/{} in the queue, circuit {}",
        health.workers_alive, health.queue_size, health.capacity, health.circuit_state
    );

    // 10. Stop: everything that was accepted gets its fate.
    let report = coordinator.stop(true, Duration::from_secs(10)).await;
    let books = &report.stats;
    println!(
        "submitted {} = written {} + superseded {} + dead-lettered {} + dropped {}",
        books.submitted,
        books.written,
        books.superseded,
        books.dead_lettered.total(),
        books.dropped.total()
    );
    ensure!(books.is_balanced(), "the books do not balance");
    ensure!(books.submitted + unsubmitted == BARS.unsigned_abs());

    // 11. Look at the dead letters and at the store.
    println!(
        "dead letters: {} of the first 10",
        dlq.replay(10).await?.len()
    );
    let series = Query {
        symbols: vec!["EXAMPLE".into()],
        ..Query::default()
    };
    println!("the store holds {} bars", store.count::<Bar>(series).await?);

    store.close().await;
    // The server waits for nothing but this; that it has gone already is no error.
    stop_server.send(()).unwrap_or_default();
    server.await??;
    Ok(())
}

fn coordinator(
    cfg: &CoordinatorRuntimeSettings,
    store: &Store,
    dlq: &DeadLetterQueue<Bar>,
) -> anyhow::Result<WriteCoordinator<Bar>> {
    let retry = RetryPolicy {
        max_attempts: cfg.retry_max_attempts,
        initial_backoff_ms: cfg.retry_initial_backoff_ms,
        max_backoff_ms: cfg.retry_max_backoff_ms,
        ..RetryPolicy::default()
    };
    let breaker = CircuitBreaker::new(cfg.cb_failure_threshold, cfg.half_open_after());
    let started = WriteCoordinator::builder(store.sink::<Bar>())
        .coord_id("production")
        .capacity(cfg.coordinator_capacity)
        .workers(cfg.coordinator_workers)
        .batch_size(cfg.coordinator_batch_size)
        .flush_interval(cfg.flush_interval())
        .retry_policy(retry)
        .circuit_breaker(breaker)
        .dead_letters(Arc::new(dlq.clone()))
        .on_backpressure_high(|event| {
            println!("the queue is {:.0} % full", event.utilization * 100.0);
        })
        .drop_callback(|bar: &Bar, reason| println!("gave up {} {reason}", bar.symbol))
        .metrics_poll_sec(cfg.metrics_queue_poll_sec)
        .start()?;
    Ok(started)
}

#[expect(clippy::cast_precision_loss, reason = "a small made-up price")]
fn bar(minute: i64) -> Bar {
    let price = 100.0 + (minute % 390) as f64 / 100.0;
    Bar {
        vendor: "example".into(),
        symbol: "EXAMPLE".into(),
        ts: Timestamp::from_micros(1_760_534_400_000_000 + minute * MINUTE),
        open_price: Some(price),
        high_price: Some(price + 0.5),
        low_price: Some(price - 0.5),
        close_price: Some(price + 0.25),
        volume: Some(1_000.0),
        revision: 1,
        ..Bar::default()
    }
}
