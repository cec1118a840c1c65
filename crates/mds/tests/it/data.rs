//! Records to put into stores, and stores with records in them.

use mds_core::{Bar, Batch, News, OptionSnap, OptionType, RowOutcome, Sink, Timestamp};
use mds_store::{OpenOptions, Store, StoreUrl, StoredRecord};

use crate::run::Place;

/// The name of the store in every test; also the default of the program.
pub(crate) const STORE: &str = "market.db";

pub(crate) fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// A minute bar of 2024-11-01, `minute` minutes after midnight.
pub(crate) fn bar(symbol: &str, minute: i64, close: f64) -> Bar {
    let start = time("2024-11-01T00:00:00Z").micros() + minute * 60_000_000;
    Bar {
        vendor: "binance".into(),
        symbol: symbol.into(),
        ts: Timestamp::from_micros(start),
        open_price: Some(close),
        close_price: Some(close),
        volume: Some(1.5),
        revision: 1_730_500_000_000_000 + minute,
        ..Bar::default()
    }
}

pub(crate) fn article(id: &str, title: &str) -> News {
    News {
        vendor: "wire".into(),
        published_at: time("2024-11-01T09:30:00Z"),
        id: id.into(),
        symbol: Some("SPY".into()),
        symbols: vec!["SPY".into(), "QQQ".into()],
        title: Some(title.to_owned()),
        sentiment_score: Some(-0.25),
        revision: 1_730_500_000_000_000,
        ..News::default()
    }
}

pub(crate) fn option(strike: f64) -> OptionSnap {
    OptionSnap {
        vendor: "cboe".into(),
        symbol: "NDXP".into(),
        expiry: mds_core::Date::parse("2024-11-15").unwrap(),
        option_type: OptionType::Put,
        strike,
        ts: time("2024-11-01T15:00:00Z"),
        iv: Some(0.2345),
        revision: 1_730_500_000_000_000,
        ..OptionSnap::default()
    }
}

/// Puts records into the store of a place.
pub(crate) fn fill<R: StoredRecord>(place: &Place, records: Vec<R>) {
    block_on(async {
        let store = open(place).await;
        let rows = records.len();
        let report = store.sink::<R>().write(Batch::from(records)).await;
        assert_eq!(
            report.outcomes,
            vec![RowOutcome::Written; rows],
            "{:?}",
            report.error
        );
        store.close().await;
    });
}

/// How many records of a kind the store of a place has.
pub(crate) fn count<R: StoredRecord>(place: &Place) -> u64 {
    block_on(async {
        let store = open(place).await;
        let count = store.count::<R>(mds_store::Query::default()).await.unwrap();
        store.close().await;
        count
    })
}

/// Every record of a kind in the store of a place.
pub(crate) fn all<R: StoredRecord>(place: &Place) -> Vec<R> {
    block_on(async {
        let store = open(place).await;
        let records = store
            .query::<R>(mds_store::Query::default())
            .collect()
            .await
            .unwrap();
        store.close().await;
        records
    })
}

async fn open(place: &Place) -> Store {
    let url: StoreUrl = format!("sqlite:{}", place.path(STORE).display())
        .parse()
        .unwrap();
    Store::open(&url, OpenOptions::default()).await.unwrap()
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
