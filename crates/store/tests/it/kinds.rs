//! Every kind goes in and comes out as it was.

use mds_core::{Bar, Date, Fundamentals, News, OptionSnap, OptionType, RowOutcome, Timestamp};
use mds_store::{Query, Store, StoredRecord};

use crate::support::{START, all, bar, seed, write, write_new};

async fn numbers_come_back_bit_for_bit(store: Store) {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut number = || loop {
        let value = f64::from_bits(random.u64(..));
        // Negative zero has no normal form of its own.
        if value.is_finite() && value.to_bits() != (-0.0_f64).to_bits() {
            return Some(value);
        }
    };
    let edges = [
        0.0,
        f64::MIN_POSITIVE,
        5e-324,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_993.0,
        1e300,
        0.1 + 0.2,
        4.051,
    ];
    let rows: Vec<_> = (0..25_000)
        .map(|i| Bar {
            open_price: number(),
            high_price: number(),
            low_price: number(),
            volume: number(),
            close_price: usize::try_from(i).ok().and_then(|i| edges.get(i).copied()),
            ..bar(i, 0.0, 1)
        })
        .collect();
    write_new(&store, rows.clone()).await;
    let bits = |row: &Bar| {
        [
            row.open_price,
            row.high_price,
            row.low_price,
            row.close_price,
            row.volume,
        ]
        .map(|v| v.map(f64::to_bits))
    };
    let back = all::<Bar>(&store).await;
    assert_eq!(back.len(), rows.len());
    for (row, back) in rows.iter().zip(&back) {
        assert_eq!(bits(row), bits(back));
    }
    let report = write(&store, rows).await;
    assert!(report.outcomes.iter().all(|o| *o == RowOutcome::Same));
}

fn option(strike: f64, option_type: OptionType, revision: i64) -> OptionSnap {
    OptionSnap {
        vendor: "cboe".into(),
        symbol: "NDXP".into(),
        expiry: Date::parse("2022-02-07").unwrap(),
        option_type,
        strike,
        ts: Timestamp::from_micros(START),
        iv: Some(0.29),
        oi: Some(12.0),
        revision,
        ..OptionSnap::default()
    }
}

fn fundamentals(period: &str, asof: i64, revision: i64) -> Fundamentals {
    Fundamentals {
        vendor: "sec".into(),
        symbol: "LPA".into(),
        asof: Timestamp::from_micros(asof),
        period: period.into(),
        eps: Some(-0.12),
        total_assets: Some(1e9),
        revision,
        ..Fundamentals::default()
    }
}

fn news(id: &str, symbols: &[&str], revision: i64) -> News {
    News {
        vendor: "benzinga".into(),
        published_at: Timestamp::from_micros(START),
        id: id.into(),
        symbol: symbols.first().map(|s| (*s).into()),
        symbols: symbols.iter().map(|s| (*s).into()).collect(),
        title: Some("Up, \"and\" away\u{2026}".to_owned()),
        sentiment_score: Some(-0.5),
        revision,
        ..News::default()
    }
}

async fn goes_in_and_out<R: StoredRecord>(store: &Store, rows: Vec<R>, newer: R) {
    write_new(store, rows.clone()).await;
    assert_eq!(all::<R>(store).await, rows);
    let report = write(store, rows.clone()).await;
    assert!(report.outcomes.iter().all(|o| *o == RowOutcome::Same));
    write_new(store, vec![newer.clone()]).await;
    let mut expected = rows;
    let place = expected
        .iter()
        .position(|r| r.key_cmp(&newer).is_eq())
        .unwrap();
    expected[place] = newer;
    assert_eq!(all::<R>(store).await, expected);
    assert_eq!(store.count::<R>(Query::default()).await.unwrap(), 3);
    assert_eq!(store.delete::<R>(Query::default()).await.unwrap(), 3);
    assert_eq!(all::<R>(store).await, []);
}

async fn options(store: Store) {
    let rows = vec![
        option(14_700.0, OptionType::Call, 1),
        option(14_700.5, OptionType::Call, 1),
        option(14_700.0, OptionType::Put, 1),
    ];
    let newer = OptionSnap {
        delta: Some(0.5),
        ..option(14_700.0, OptionType::Put, 2)
    };
    goes_in_and_out(&store, rows, newer).await;
}

async fn fundamentals_of_any_year(store: Store) {
    let rows = vec![
        fundamentals("FY", Timestamp::MIN_VALID.micros(), 1),
        fundamentals("", START, 1),
        fundamentals("Q1", START, 1),
    ];
    let newer = Fundamentals {
        net_income: Some(3.5),
        ..fundamentals("", START, 2)
    };
    goes_in_and_out(&store, rows, newer).await;
}

async fn headlines(store: Store) {
    let rows = vec![
        news("1", &["AAPL", "MSFT"], 1),
        news("2", &[], 1),
        news("3", &["MSFT"], 1),
    ];
    write_new(&store, rows.clone()).await;
    let about = Query {
        symbols: vec!["MSFT".into()],
        ..Query::default()
    };
    let found = store.query::<News>(about.clone()).collect().await.unwrap();
    assert_eq!(found, [rows[0].clone(), rows[2].clone()]);
    assert_eq!(store.delete::<News>(about).await.unwrap(), 2);
    assert_eq!(all::<News>(&store).await, [rows[1].clone()]);
    store.delete::<News>(Query::default()).await.unwrap();
    let newer = News {
        url: Some("https://example.com".to_owned()),
        ..news("3", &["MSFT", "AAPL"], 2)
    };
    goes_in_and_out(&store, rows, newer).await;
}

on_every_store!(
    numbers_come_back_bit_for_bit,
    options,
    fundamentals_of_any_year,
    headlines,
);
