//! What a person with the `sqlite3` shell sees.

use mds_core::{Bar, Fundamentals, News, OptionSnap, Record, Timestamp};
use mds_store::Query;
use rusqlite::Connection;

use crate::support::{MINUTE, Place, START, bar, write_new};

/// The rows of a statement, each value as text, columns parted by `|`.
fn shell(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement
        .query_map([], |row| {
            let values: Vec<_> = (0..columns)
                .map(|i| match row.get_unwrap::<_, rusqlite::types::Value>(i) {
                    rusqlite::types::Value::Null => String::new(),
                    rusqlite::types::Value::Integer(v) => v.to_string(),
                    rusqlite::types::Value::Real(v) => format!("{v:?}"),
                    rusqlite::types::Value::Text(v) => v,
                    rusqlite::types::Value::Blob(v) => format!("{v:?}"),
                })
                .collect();
            Ok(values.join("|"))
        })
        .unwrap();
    rows.map(Result::unwrap).collect()
}

fn columns(conn: &Connection, table: &str) -> String {
    let statement = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
    statement.column_names().collect::<Vec<_>>().join(" ")
}

fn expected<R: Record>() -> String {
    let names: Vec<_> = R::COLUMNS.iter().map(|c| c.name).collect();
    names.join(" ") + " revision"
}

#[tokio::test]
async fn every_table_of_the_contract_is_there_with_its_columns() {
    let place = Place::new();
    place.open().await.close().await;
    let conn = place.shell();
    assert_eq!(columns(&conn, "bars"), expected::<Bar>());
    assert_eq!(columns(&conn, "options_snap"), expected::<OptionSnap>());
    assert_eq!(columns(&conn, "fundamentals"), expected::<Fundamentals>());
    assert_eq!(columns(&conn, "news"), expected::<News>());
    assert_eq!(columns(&conn, "tenants"), "tenant_id created_at");
    assert_eq!(
        columns(&conn, "latest_prices"),
        "tenant_id vendor symbol price price_timestamp"
    );
    assert_eq!(
        columns(&conn, "data_freshness"),
        "kind tenant_id vendor symbol timeframe latest"
    );
}

#[tokio::test]
async fn bars_are_readable_as_text() {
    let place = Place::new();
    let store = place.open().await;
    let rows = [0, -1, 500_000, -86_400_000_000, START, START + 120_000]
        .into_iter()
        .map(|ts| Bar {
            symbol: "BTCUSD".into(),
            ts: Timestamp::from_micros(ts),
            volume: Some(0.5),
            ..bar(0, 4.0, 9)
        })
        .collect();
    write_new(&store, rows).await;
    let conn = place.shell();
    assert_eq!(
        shell(
            &conn,
            "SELECT ts FROM bars WHERE symbol = 'BTCUSD' ORDER BY ts"
        ),
        [
            "1969-12-31T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00.5Z",
            "1970-01-01T00:00:00Z",
            "2024-11-01T00:00:00.12Z",
            "2024-11-01T00:00:00Z",
        ]
    );
    assert_eq!(
        shell(
            &conn,
            "SELECT * FROM bars WHERE symbol = 'BTCUSD' AND ts = '2024-11-01T00:00:00Z'"
        ),
        ["00000000-0000-0000-0000-000000000001|v|BTCUSD|1m|2024-11-01T00:00:00Z||||4.0|0.5|0|9"]
    );
    assert_eq!(
        shell(&conn, "SELECT tenant_id FROM tenants"),
        ["00000000-0000-0000-0000-000000000001"]
    );
    assert_eq!(
        shell(&conn, "SELECT * FROM data_freshness"),
        ["bars|00000000-0000-0000-0000-000000000001|v|BTCUSD|1m|2024-11-01T00:00:00.12Z"]
    );
}

#[tokio::test]
async fn other_kinds_are_readable_as_text() {
    let place = Place::new();
    let store = place.open().await;
    let option = OptionSnap {
        vendor: "cboe".into(),
        symbol: "NDXP".into(),
        expiry: mds_core::Date::parse("2022-02-07").unwrap(),
        strike: 14_700.0,
        ts: Timestamp::from_micros(START),
        iv: Some(0.5),
        revision: 1,
        ..OptionSnap::default()
    };
    write_new(&store, vec![option]).await;
    let news = News {
        vendor: "x".into(),
        published_at: Timestamp::from_micros(START),
        id: "7".into(),
        symbol: Some("A".into()),
        symbols: vec!["A".into(), "B".into()],
        revision: 2,
        ..News::default()
    };
    write_new(&store, vec![news]).await;
    let statement = Fundamentals {
        vendor: "sec".into(),
        symbol: "LPA".into(),
        asof: Timestamp::from_micros(START),
        period: "FY".into(),
        eps: Some(1.5),
        revision: 3,
        ..Fundamentals::default()
    };
    write_new(&store, vec![statement]).await;
    let conn = place.shell();
    let tenant = "00000000-0000-0000-0000-000000000001";
    assert_eq!(
        shell(&conn, "SELECT * FROM options_snap"),
        [format!(
            "{tenant}|cboe|NDXP|2022-02-07|C|14700.0|2024-11-01T00:00:00Z|0.5||||||1"
        )]
    );
    assert_eq!(
        shell(&conn, "SELECT * FROM news"),
        [format!("{tenant}|x|2024-11-01T00:00:00Z|7|A|A,B||||2")]
    );
    assert_eq!(
        shell(&conn, "SELECT * FROM fundamentals"),
        [format!("{tenant}|sec|LPA|2024-11-01T00:00:00Z|FY||||1.5|3")]
    );
}

#[tokio::test]
async fn the_view_of_latest_prices_says_the_same_as_the_store() {
    let place = Place::new();
    let store = place.open().await;
    let mut random = fastrand::Rng::with_seed(crate::support::seed());
    let mut rows = Vec::new();
    for symbol in 0..20 {
        for timeframe in ["1m", "1d"] {
            let minute = random.i64(0..10_000);
            rows.push(Bar {
                symbol: format!("S{symbol:02}").as_str().into(),
                timeframe: timeframe.parse().unwrap(),
                close_price: random.bool().then_some(f64::from(symbol)),
                ..bar(minute, 0.0, 1)
            });
        }
    }
    write_new(&store, rows).await;
    let expected: Vec<_> = store
        .latest(Query::default())
        .await
        .unwrap()
        .iter()
        .map(|p| format!("{}|{:?}|{}", p.symbol, p.price, p.price_timestamp))
        .collect();
    assert!(!expected.is_empty());
    let conn = place.shell();
    let found = shell(
        &conn,
        "SELECT symbol, price, price_timestamp FROM latest_prices ORDER BY symbol",
    );
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_symbol_is_looked_up_and_not_searched_for() {
    let place = Place::new();
    let store = place.open().await;
    write_new(&store, (0..100).map(|i| bar(i, 1.0, 1)).collect()).await;
    let conn = place.shell();
    let plan = |sql: &str| {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = statement
            .query_map([], |row| row.get::<_, String>(3))
            .unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let steps = plan("SELECT * FROM bars WHERE symbol = 'S'");
    assert!(steps.contains("SEARCH s USING COVERING INDEX"), "{steps}");
    assert!(
        steps.contains("SEARCH d USING PRIMARY KEY (bucket=? AND series_id=?)"),
        "{steps}"
    );
    // Without a sort, the newest row of a series is found by going backwards.
    let steps = plan("SELECT price FROM latest_prices WHERE symbol = 'S'");
    assert!(!steps.contains("TEMP B-TREE FOR LAST TERM"), "{steps}");
    assert_eq!(
        shell(
            &conn,
            &format!(
                "SELECT count(*) FROM bars WHERE ts < '{}'",
                Timestamp::from_micros(START + 10 * MINUTE)
            )
        ),
        ["10"]
    );
}
