//! `mds query`, `mds latest` and `mds stats`.

use mds_core::{Bar, TenantId};

use crate::data::{article, bar, fill, option};
use crate::run::{Place, golden};

fn market() -> Place {
    let place = Place::new();
    fill(
        &place,
        vec![
            bar("BTCUSDT", 0, 70_000.5),
            bar("BTCUSDT", 1, 70_001.25),
            bar("ETHUSDT", 0, 2_500.0),
        ],
    );
    fill(&place, vec![article("a1", "Up, \"again\"\nand\x1b[31m on")]);
    fill(&place, vec![option(14_700.0)]);
    place
}

#[test]
fn a_table_for_people() {
    let place = market();
    let outcome = place.run(&["query", "bars"]).code(0);
    assert_eq!(outcome.stderr, "");
    golden("query-table.txt", &outcome.stdout);

    let one = place
        .run(&[
            "query",
            "bars",
            "-s",
            "btcusdt",
            "--newest-first",
            "-n",
            "1",
        ])
        .code(0);
    assert_eq!(one.stdout.lines().count(), 2);
    assert!(
        one.stdout.contains("2024-11-01T00:01:00Z"),
        "{}",
        one.stdout
    );

    let news = place.run(&["query", "news"]).code(0);
    assert_eq!(
        news.stdout.lines().count(),
        2,
        "a title with a line break is one row"
    );
    assert!(
        !news.stdout.contains('\x1b'),
        "a title cannot command the terminal"
    );
}

#[test]
fn csv_and_ndjson_for_programs() {
    let place = market();
    let bars = ["query", "bars", "--symbol", "ETHUSDT", "--output"];
    let csv = place
        .run(&[&bars[..], &["csv", "--with-revision"]].concat())
        .code(0);
    assert_eq!(
        csv.stdout,
        "tenant_id,vendor,symbol,timeframe,ts,open_price,high_price,low_price,close_price,volume,\
         provisional,revision\n\
         00000000-0000-0000-0000-000000000001,binance,ETHUSDT,1m,2024-11-01T00:00:00Z,2500,,,2500,\
         1.5,false,1730500000000000\n"
    );
    let json = place.run(&[&bars[..], &["ndjson"]].concat()).code(0);
    let read: Bar = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        read,
        Bar {
            revision: 0,
            ..bar("ETHUSDT", 0, 2_500.0)
        }
    );
    // Nothing found is an empty answer, not a failure.
    let none = place.run(&["query", "bars", "--symbol", "NONE"]).code(0);
    assert_eq!(
        (none.stdout.as_str(), none.stderr.as_str()),
        ("", "no bars match\n")
    );
}

#[test]
fn times_select_from_the_start_up_to_the_end() {
    let place = market();
    let rows = |args: &[&str]| {
        let args = [
            &["query", "bars", "-s", "BTCUSDT", "-o", "ndjson"][..],
            args,
        ]
        .concat();
        place.run(&args).code(0).stdout.lines().count()
    };
    assert_eq!(rows(&["--start", "2024-11-01"]), 2);
    assert_eq!(rows(&["--start", "2024-11-01T00:01:00Z"]), 1);
    assert_eq!(rows(&["--end", "2024-11-01T00:01:00Z"]), 1);
    assert_eq!(rows(&["--end", "2024-11-01T01:00:00+01:00"]), 0);
    assert_eq!(rows(&["--vendor", "Binance", "--timeframe", "60s"]), 2);
    assert_eq!(rows(&["--timeframe", "1h"]), 0);
}

#[test]
fn a_tenant_sees_its_own_records() {
    let place = Place::new();
    let other = TenantId::from_u128(7);
    fill(
        &place,
        vec![
            bar("A", 0, 1.0),
            Bar {
                tenant_id: other,
                ..bar("B", 0, 2.0)
            },
        ],
    );
    let symbols = |args: &[&str]| {
        let out = place
            .run(&[&["query", "bars", "-o", "csv"][..], args].concat())
            .code(0)
            .stdout;
        let symbol = |line: &str| line.split(',').nth(2).unwrap().to_owned();
        out.lines().skip(1).map(symbol).collect::<Vec<_>>()
    };
    assert_eq!(symbols(&[]), ["A"]);
    assert_eq!(symbols(&["--tenant", &other.to_string()]), ["B"]);
    assert_eq!(symbols(&["--all-tenants"]), ["A", "B"]);
    let bad = place.run(&["query", "bars", "--tenant", "me"]).code(2);
    assert!(
        bad.stderr
            .contains("tenant_id = \"me\" (flag --tenant) is not a UUID"),
        "{bad:?}"
    );
}

#[test]
fn mistakes_are_told_and_nothing_is_read() {
    let place = market();
    for (args, message) in [
        (&["query", "bar"][..], "invalid value 'bar' for '<KIND>'"),
        (
            &["query", "news", "--timeframe", "1m"],
            "--timeframe is for bars; news have no span",
        ),
        (
            &["query", "bars", "--timeframe", "1y"],
            "is not a time frame",
        ),
        (
            &["query", "bars", "--start", "today"],
            "write a date in UTC, such as 2024-11-01",
        ),
        (
            &[
                "query",
                "bars",
                "--start",
                "2024-11-02",
                "--end",
                "2024-11-02",
            ],
            "no time lies between",
        ),
        (&["query", "bars", "--symbol", ""], "give a symbol"),
        (&["query", "bars", "--limit=-1"], "invalid digit"),
        (
            &["query", "bars", "--store", "market.db"],
            "store = \"market.db\" (flag --store)",
        ),
    ] {
        let outcome = place.run(args).code(2);
        assert!(
            outcome.stderr.contains(message),
            "{args:?}: {}",
            outcome.stderr
        );
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn a_store_that_is_not_there_is_an_error_and_is_not_made() {
    let place = Place::new();
    for command in [
        &["query", "bars"][..],
        &["latest"],
        &["stats"],
        &["export", "bars", "-o", "-"],
    ] {
        let outcome = place.run(command).code(1);
        assert!(
            outcome
                .stderr
                .starts_with("error: market.db: there is no store here"),
            "{command:?}: {}",
            outcome.stderr
        );
    }
    assert!(!place.path("market.db").exists());

    // Nobody listens on port 1.
    let url = "postgres://me:hunter2@127.0.0.1:1/market";
    let outcome = place.run(&["stats", "--store", url]).code(1);
    let told = "error: postgres://me:***@127.0.0.1:1/market: cannot open the store (CONNECTION): ";
    assert!(outcome.stderr.starts_with(told), "{}", outcome.stderr);
}

#[test]
fn a_long_table_is_cut_and_says_so() {
    let place = Place::new();
    fill(&place, (0..1_001).map(|i| bar("A", i, 1.0)).collect());
    let cut = place.run(&["query", "bars"]).code(0);
    assert_eq!(cut.stdout.lines().count(), 1 + 1_000);
    assert!(
        cut.stderr.starts_with("only the first 1000 records"),
        "{}",
        cut.stderr
    );
    let whole = place.run(&["query", "bars", "--limit", "5000"]).code(0);
    assert_eq!(
        (whole.stdout.lines().count(), whole.stderr.as_str()),
        (1 + 1_001, "")
    );
    let csv = place.run(&["query", "bars", "--output", "csv"]).code(0);
    assert_eq!(csv.stdout.lines().count(), 1 + 1_001);
}

#[test]
fn the_latest_price_of_each_instrument() {
    let place = market();
    let outcome = place.run(&["latest"]).code(0);
    assert_eq!(
        outcome.stdout,
        "vendor   symbol      price  price_timestamp\n\
         binance  BTCUSDT  70001.25  2024-11-01T00:01:00Z\n\
         binance  ETHUSDT      2500  2024-11-01T00:00:00Z\n"
    );
    let some = place
        .run(&["latest", "ethusdt", "spy", "--output", "csv"])
        .code(0);
    assert_eq!(
        some.stdout,
        "tenant_id,vendor,symbol,price,price_timestamp\n\
         00000000-0000-0000-0000-000000000001,binance,ETHUSDT,2500,2024-11-01T00:00:00Z\n"
    );
    assert_eq!(some.stderr, "no price of SPY\n");
    let json = place.run(&["latest", "ETHUSDT", "-o", "ndjson"]).code(0);
    let price: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(price["price"], 2500.0);
}

#[test]
fn stats_count_what_is_there() {
    let place = market();
    let outcome = place.run(&["stats"]).code(0);
    let start: Vec<Vec<&str>> = outcome
        .stdout
        .lines()
        .take(5)
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        start,
        [
            vec!["kind", "rows", "series", "earliest", "latest"],
            vec![
                "bars",
                "3",
                "2",
                "2024-11-01T00:00:00Z",
                "2024-11-01T00:01:00Z"
            ],
            vec![
                "options",
                "1",
                "1",
                "2024-11-01T15:00:00Z",
                "2024-11-01T15:00:00Z"
            ],
            vec!["fundamentals", "0", "0", "-", "-"],
            vec![
                "news",
                "1",
                "1",
                "2024-11-01T09:30:00Z",
                "2024-11-01T09:30:00Z"
            ],
        ]
    );
    let json = place.run(&["stats", "--json"]).code(0);
    let stats: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(stats["kinds"][0]["rows"], 3);
    assert_eq!(stats["store"], "sqlite:market.db");
    assert_eq!(stats["last_revision"], 1_730_500_000_000_001_i64);
    assert_eq!(stats["freshness"][0]["timeframe"], "1m");
}
