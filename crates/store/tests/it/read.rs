//! What queries answer: ranges, order, limits, tenants, figures, deletion.

use mds_core::{Bar, Kind, OptionSnap, Record as _, TenantId, Timeframe, Timestamp};
use mds_store::{Freshness, Order, Query, Store};

use crate::support::{MINUTE, Place, START, all, bar, write_new};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

async fn minutes(store: &Store, query: Query) -> Vec<i64> {
    let rows = store.query::<Bar>(query).collect().await.unwrap();
    rows.iter()
        .map(|row| (row.ts.micros() - START).div_euclid(MINUTE))
        .collect()
}

async fn the_start_is_inclusive_and_the_end_exclusive(store: Store) {
    write_new(&store, (0..200).map(|i| bar(i, 1.0, 1)).collect()).await;
    let range = |start, end| Query {
        start: Some(at(START + start)),
        end: Some(at(START + end)),
        ..Query::default()
    };
    let got = minutes(&store, range(15 * MINUTE, 18 * MINUTE)).await;
    assert_eq!(got, [15, 16, 17]);
    let got = minutes(&store, range(15 * MINUTE + 1, 18 * MINUTE + 1)).await;
    assert_eq!(got, [16, 17, 18]);
    assert_eq!(minutes(&store, range(MINUTE, MINUTE)).await, []);
    assert_eq!(minutes(&store, range(2 * MINUTE, MINUTE)).await, []);
    assert_eq!(minutes(&store, range(-MINUTE, MINUTE)).await, [0]);
    let open = Query {
        start: Some(at(START + 198 * MINUTE)),
        ..Query::default()
    };
    assert_eq!(minutes(&store, open).await, [198, 199]);
}

async fn times_before_1970_and_odd_time_frames(store: Store) {
    let mut rows = Vec::new();
    for timeframe in ["1s", "7m", "90m", "1h", "1d", "7d", "45d", "1w", "1mo"] {
        for ts in [
            Timestamp::MIN_VALID.micros(),
            -86_400_000_000,
            -1,
            0,
            1,
            Timestamp::MAX_VALID.micros() - 1,
        ] {
            rows.push(Bar {
                timeframe: timeframe.parse().unwrap(),
                ts: Timestamp::from_micros(ts),
                ..bar(0, 1.0, 1)
            });
        }
    }
    write_new(&store, rows.clone()).await;
    rows.sort_by(Bar::key_cmp);
    assert_eq!(all::<Bar>(&store).await, rows);
    let around = Query {
        timeframe: "1w".parse().ok(),
        start: Some(at(-1)),
        end: Some(at(1)),
        ..Query::default()
    };
    let found = store.query::<Bar>(around.clone()).collect().await.unwrap();
    let times: Vec<_> = found.iter().map(|row| row.ts.micros()).collect();
    assert_eq!(times, [-1, 0]);
    assert_eq!(store.count::<Bar>(around).await.unwrap(), 2);
}

async fn the_order_is_by_time_over_all_series_in_both_directions(store: Store) {
    let mut rows = Vec::new();
    for symbol in ["A", "B", "C"] {
        for minute in 0..100 {
            for timeframe in [Timeframe::MINUTE, Timeframe::HOUR] {
                rows.push(Bar {
                    symbol: symbol.into(),
                    timeframe,
                    ..bar(minute * 60, 1.0, 1)
                });
            }
        }
    }
    write_new(&store, rows.clone()).await;
    rows.sort_by(Bar::key_cmp);
    assert_eq!(all::<Bar>(&store).await, rows);
    let newest = Query {
        order: Order::NewestFirst,
        limit: Some(7),
        ..Query::default()
    };
    let found = store.query::<Bar>(newest).collect().await.unwrap();
    let expected: Vec<_> = rows.iter().rev().take(7).cloned().collect();
    assert_eq!(found, expected);
    // A few of many series, named in any case and twice.
    let some = Query {
        symbols: vec!["c".into(), "a".into(), "C".into()],
        timeframe: Some(Timeframe::HOUR),
        ..Query::default()
    };
    let found = store.query::<Bar>(some).collect().await.unwrap();
    rows.retain(|row| row.symbol.as_str() != "B" && row.timeframe == Timeframe::HOUR);
    assert_eq!(found, rows);
}

async fn large_answers_come_in_chunks_of_one_moment(store: Store) {
    write_new(&store, (0..10_000).map(|i| bar(i, 1.0, 1)).collect()).await;
    let mut chunks = store.query::<Bar>(Query::default());
    let first = chunks.next().await.unwrap().unwrap();
    assert_eq!(first.len(), 1_000);
    // Written after the query began: not in its answer.
    write_new(&store, (0..10_000).map(|i| bar(i, 2.0, 2)).collect()).await;
    let rest = chunks.collect().await.unwrap();
    assert_eq!(rest.len(), 9_000);
    assert!(rest.iter().all(|row| row.revision == 1));
    // A query that nobody finishes does not keep its connection.
    for _ in 0..20 {
        let mut chunks = store.query::<Bar>(Query::default());
        chunks.next().await.unwrap().unwrap();
    }
    assert_eq!(all::<Bar>(&store).await.len(), 10_000);
}

async fn tenants_are_apart(store: Store) {
    let (a, b) = (TenantId::from_u128(10), TenantId::from_u128(11));
    let of = |tenant_id, close| Bar {
        tenant_id,
        ..bar(0, close, 1)
    };
    write_new(&store, vec![of(a, 1.0), of(b, 2.0)]).await;
    let query = |tenant| Query {
        tenant: Some(tenant),
        ..Query::default()
    };
    let found = store.query::<Bar>(query(a)).collect().await.unwrap();
    assert_eq!(found, [of(a, 1.0)]);
    let latest = store.latest(query(b)).await.unwrap();
    assert_eq!((latest.len(), latest[0].price), (1, 2.0));
    assert_eq!(store.delete::<Bar>(query(a)).await.unwrap(), 1);
    assert_eq!(all::<Bar>(&store).await, [of(b, 2.0)]);
}

async fn the_latest_price_is_of_the_latest_start_with_a_close(store: Store) {
    let day = Bar {
        timeframe: Timeframe::DAY,
        ..bar(0, 50.0, 1)
    };
    let absent = Bar {
        close_price: None,
        ..bar(10_000, 0.0, 1)
    };
    let other = Bar {
        vendor: "w".into(),
        ..bar(-10_000, 7.0, 1)
    };
    write_new(&store, vec![bar(0, 49.0, 1), day, absent, other]).await;
    let latest = |vendor: &str| Query {
        vendor: Some(vendor.into()),
        symbols: vec!["s".into(), "unknown".into()],
        ..Query::default()
    };
    let found = store.latest(latest("v")).await.unwrap();
    assert_eq!(found.len(), 1);
    // Of bars that start together the shortest.
    assert_eq!(found[0].price, 49.0);
    assert_eq!(found[0].price_timestamp.micros(), START);
    assert_eq!(store.latest(latest("w")).await.unwrap()[0].price, 7.0);
    assert_eq!(store.latest(Query::default()).await.unwrap().len(), 2);
    // A later one replaces it, an earlier one that comes late does not.
    write_new(&store, vec![bar(5, 51.0, 1), bar(-5, 1.0, 1)]).await;
    assert_eq!(store.latest(latest("v")).await.unwrap()[0].price, 51.0);
}

async fn figures_say_what_is_there(store: Store) {
    let empty = store.stats().await.unwrap();
    assert_eq!((empty.kinds[0].rows, empty.kinds[0].latest), (0, None));
    let day = Bar {
        symbol: "T".into(),
        ..bar(-5, 1.0, 1)
    };
    write_new(&store, vec![bar(0, 1.0, 1), bar(3_000, 1.0, 1), day]).await;
    let stats = store.stats().await.unwrap();
    let bars = &stats.kinds[0];
    assert_eq!((bars.kind, bars.rows, bars.series), (Kind::Bars, 3, 2));
    assert_eq!(bars.earliest, Some(at(START - 5 * MINUTE)));
    assert_eq!(bars.latest, Some(at(START + 3_000 * MINUTE)));
    assert!(stats.file_bytes > 0);
    let fresh = Freshness {
        kind: Kind::Bars,
        tenant_id: TenantId::DEFAULT,
        vendor: "v".into(),
        timeframe: Some(Timeframe::MINUTE),
        series: 2,
        latest: Timestamp::from_micros(START + 3_000 * MINUTE),
    };
    assert_eq!(stats.freshness, [fresh]);
}

async fn deletion_is_of_what_the_query_selects(store: Store) {
    let rows: Vec<_> = ["A", "B"]
        .into_iter()
        .flat_map(|symbol| {
            (0..30_000).map(move |i| Bar {
                symbol: symbol.into(),
                ..bar(i, 1.0, 1)
            })
        })
        .collect();
    write_new(&store, rows).await;
    let query = Query {
        symbols: vec!["A".into()],
        start: Some(at(START + 100 * MINUTE)),
        end: Some(at(START + 29_000 * MINUTE)),
        limit: Some(1),
        ..Query::default()
    };
    assert_eq!(store.delete::<Bar>(query.clone()).await.unwrap(), 28_900);
    assert_eq!(store.delete::<Bar>(query).await.unwrap(), 0);
    let count = |symbol: &str| Query {
        symbols: vec![symbol.into()],
        ..Query::default()
    };
    assert_eq!(store.count::<Bar>(count("A")).await.unwrap(), 1_100);
    assert_eq!(store.count::<Bar>(count("B")).await.unwrap(), 30_000);
    // What was deleted may come back.
    let again = Bar {
        symbol: "A".into(),
        ..bar(200, 1.0, 1)
    };
    write_new(&store, vec![again]).await;
    assert_eq!(store.count::<Bar>(count("A")).await.unwrap(), 1_101);
}

#[tokio::test]
async fn a_closed_store_is_one_file_that_holds_everything() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, (0..200).map(|i| bar(i, 1.0, 1)).collect()).await;
    assert_eq!(store.count::<Bar>(Query::default()).await.unwrap(), 200);
    store.close().await;
    let folder = place.path.parent().unwrap();
    let names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["market.db"]);
}

#[tokio::test]
async fn an_extent_beyond_all_buckets_disturbs_no_answer() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    for extent in [i64::MIN, i64::MAX] {
        let insert = "INSERT INTO mds_extents (series_id, extent) VALUES (1, ?1)";
        place.shell().execute(insert, [extent]).unwrap();
    }
    assert_eq!(all::<Bar>(&store).await, [bar(0, 1.0, 1)]);
    assert_eq!(store.latest(Query::default()).await.unwrap().len(), 1);
    assert_eq!(store.stats().await.unwrap().kinds[0].rows, 1);
    assert_eq!(store.delete::<Bar>(Query::default()).await.unwrap(), 1);
}

#[tokio::test]
async fn what_no_record_can_hold_is_an_error_and_no_default() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    let write_option = OptionSnap {
        vendor: "v".into(),
        symbol: "S".into(),
        strike: 5.0,
        ts: at(START),
        ..OptionSnap::default()
    };
    write_new(&store, vec![write_option]).await;
    place
        .shell()
        .execute_batch(
            "UPDATE mds_series SET timeframe = 'now and then' WHERE kind = 'bars'; \
             UPDATE options_snap_data SET option_type = 'STRADDLE'",
        )
        .unwrap();
    let bars = store.query::<Bar>(Query::default()).collect().await;
    let options = store.query::<OptionSnap>(Query::default()).collect().await;
    for error in [bars.unwrap_err(), options.unwrap_err()] {
        assert_eq!(error.code(), "STORED_ROW_UNREADABLE");
    }
}

on_every_store!(
    the_start_is_inclusive_and_the_end_exclusive,
    times_before_1970_and_odd_time_frames,
    the_order_is_by_time_over_all_series_in_both_directions,
    large_answers_come_in_chunks_of_one_moment,
    tenants_are_apart,
    the_latest_price_is_of_the_latest_start_with_a_close,
    figures_say_what_is_there,
    deletion_is_of_what_the_query_selects,
);
