//! `ndjson`.

use mds_core::{Bar, News, OptionSnap};
use mds_formats::Options;

use crate::support::{format, read, series};

#[test]
fn records_are_normalized_and_say_where_they_stood() {
    let text = "\u{feff}{\"vendor\":\" Binance\",\"symbol\":\"btcusdt\",\"timeframe\":\"60s\",\"ts\":\"2024-11-01T02:00:00+02:00\",\"close_price\":0.1,\"revision\":17}\r\n\r\n{\"vendor\":\"binance\",\"symbol\":\"eth\",\"timeframe\":\"1m\",\"ts\":\"2024-11-01T00:00:00Z\",\"close_price\":null}";
    let read = read::<Bar>("x", text, &Options::default());
    assert_eq!(read.format, "ndjson");
    assert_eq!(read.lines(), [1, 3]);
    let bars = read.records();
    assert_eq!(bars[0].symbol.as_str(), "BTCUSDT");
    assert_eq!(bars[0].timeframe.to_string(), "1m");
    assert_eq!((bars[0].close_price, bars[0].revision), (Some(0.1), 17));
    assert_eq!(bars[1].symbol.as_str(), "ETH");
    assert_eq!((bars[1].close_price, bars[1].revision), (None, 0));
    assert_eq!(bars[0].ts, bars[1].ts);
}

#[test]
fn a_bad_line_names_its_fault() {
    let text = r#"{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z","close":1}
{"vendor":"v","timeframe":"1m","ts":"2024-11-01T00:00:00Z"}
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00"}
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z","close_price":"1"}
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z","high_price":1,"low_price":2}
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z","revision":1.5}
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z"
{"vendor":"v","vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z"}
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z","volume":1e999}
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z","volume":NaN}
[1]
{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z"}
"#;
    let read = read::<Bar>("x", text, &format("ndjson"));
    assert_eq!(
        read.faults(),
        [
            (1, "close", "unknown_field"),
            (2, "symbol", "missing_key"),
            (3, "ts", "malformed"),
            (4, "close_price", "malformed"),
            (5, "high_price", "high_below_low"),
            (6, "revision", "malformed"),
            (7, "line", "malformed"),
            (8, "vendor", "duplicate_field"),
            (9, "volume", "not_finite"),
            (10, "line", "malformed"),
            (11, "line", "malformed"),
        ]
    );
    assert_eq!(read.lines(), [12]);
}

#[test]
fn options_give_what_lines_leave_out_and_lines_win() {
    let text = r#"{"ts":"2024-11-01T00:00:00Z","close_price":1}
{"ts":"2024-11-01T00:00:00Z","symbol":"own","close_price":1}
{"ts":"2024-11-01T00:00:00Z","close_price":1}
"#;
    let options = Options {
        vendor: Some("acme".into()),
        tenant: Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap()),
        ..series("given", "1h")
    };
    let read = read::<Bar>("x", text, &options);
    let symbols: Vec<_> = read
        .records()
        .iter()
        .map(|b| b.symbol.to_string())
        .collect();
    assert_eq!(symbols, ["GIVEN", "OWN", "GIVEN"]);
    let bar = read.records()[2];
    assert_eq!(
        bar.tenant_id.to_string(),
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    );
    assert_eq!(
        (bar.vendor.as_str(), bar.timeframe.to_string().as_str()),
        ("acme", "1h")
    );
}

#[test]
fn a_line_never_keeps_the_symbol_of_the_line_before() {
    let text = r#"{"vendor":"v","symbol":"a","timeframe":"1m","ts":"2024-11-01T00:00:00Z"}
{"vendor":"v","timeframe":"1m","ts":"2024-11-01T00:00:00Z"}
"#;
    let read = read::<Bar>("x", text, &format("ndjson"));
    assert_eq!(read.faults(), [(2, "symbol", "missing_key")]);
}

#[test]
fn the_other_kinds_are_read_too() {
    let options = r#"{"vendor":"v","symbol":"ndxp","expiry":"2022-12-16","option_type":"put","strike":1,"ts":"2022-02-05T01:26:00Z","iv":0.29}"#;
    let read_options = read::<OptionSnap>("x", options, &Options::default());
    assert_eq!(read_options.format, "ndjson");
    assert_eq!(read_options.records()[0].expiry.to_string(), "2022-12-16");

    let news = r#"{"vendor":"v","published_at":"2024-01-01T00:00:00Z","title":"\u00dcber \"x\"","symbols":["a","b"],"sentiment_score":-0.5}"#;
    let read_news = read::<News>("x", news, &Options::default());
    let article = read_news.records()[0];
    assert_eq!(article.title.as_deref(), Some("Über \"x\""));
    assert_eq!((article.symbols.len(), article.id.len()), (2, 36));
}

#[test]
fn prices_come_back_exactly() {
    for text in [
        "0.1",
        "1e-7",
        "123456789.123456789",
        "5e-324",
        "1.7976931348623157e308",
    ] {
        let line = format!(
            r#"{{"vendor":"v","symbol":"s","timeframe":"1m","ts":"2024-11-01T00:00:00Z","close_price":{text}}}"#
        );
        let read = read::<Bar>("x", line, &Options::default());
        let price: f64 = text.parse().unwrap();
        assert_eq!(
            read.records()[0].close_price.map(f64::to_bits),
            Some(price.to_bits())
        );
    }
}
