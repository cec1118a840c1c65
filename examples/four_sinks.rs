//! Bars, options, fundamentals and news: a sink and a coordinator each, one store.
//!
//! ```text
//! cargo run --release --example four_sinks
//! ```
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mds_coordinator::{CircuitBreaker, WriteCoordinator};
use mds_core::{Bar, Date, Fundamentals, News, OptionSnap, OptionType, Timestamp};
use mds_store::{OpenOptions, Query, Store, StoreUrl, StoredRecord};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("four_sinks.db");
    let url: StoreUrl = format!("sqlite:{}", path.display()).parse()?;
    let store = Store::open(&url, OpenOptions::default()).await?;

    let noon = Timestamp::parse("2025-10-15T12:00:00Z").context("a time")?;
    write(
        &store,
        Bar {
            vendor: "example".into(),
            symbol: "SPY".into(),
            ts: noon,
            close_price: Some(663.4),
            volume: Some(1_200.0),
            revision: 1,
            ..Bar::default()
        },
    )
    .await?;
    write(
        &store,
        OptionSnap {
            vendor: "example".into(),
            symbol: "SPXW".into(),
            expiry: Date::parse("2025-10-17").context("a date")?,
            option_type: OptionType::Call,
            strike: 6_650.0,
            ts: noon,
            iv: Some(0.162),
            revision: 1,
            ..OptionSnap::default()
        },
    )
    .await?;
    write(
        &store,
        Fundamentals {
            vendor: "example".into(),
            symbol: "IBM".into(),
            asof: Timestamp::parse("2025-06-30T00:00:00Z").context("a date")?,
            period: "Q2".into(),
            net_income: Some(2_194_000_000.0),
            revision: 1,
            ..Fundamentals::default()
        },
    )
    .await?;
    write(
        &store,
        News {
            vendor: "example".into(),
            published_at: noon,
            symbol: Some("SPY".into()),
            title: Some("Stocks little changed at noon".into()),
            revision: 1,
            ..News::default()
        },
    )
    .await?;
    store.close().await;
    Ok(())
}

/// One record through a coordinator of its kind, and back from the store.
async fn write<R: StoredRecord>(store: &Store, mut record: R) -> anyhow::Result<()> {
    // Normal forms, and for news a deterministic id.
    record.normalize();
    record.validate()?;
    let coordinator = WriteCoordinator::builder(store.sink::<R>())
        .circuit_breaker(CircuitBreaker::default())
        .coord_id(R::KIND.as_str())
        .start()?;
    coordinator
        .submit(record)
        .await
        .map_err(|refused| anyhow::anyhow!("refused: {}", refused.refusal))?;
    let books = coordinator.stop(true, Duration::from_secs(10)).await.stats;
    let stored = store.count::<R>(Query::default()).await?;
    println!("{}: written {}, stored {stored}", R::KIND, books.written);
    ensure!(books.is_balanced() && books.written == 1 && stored == 1);
    Ok(())
}
