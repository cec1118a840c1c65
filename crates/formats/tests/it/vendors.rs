//! `binance`, `yahoo` and `stooq`.

use mds_core::Bar;
use mds_formats::{OpenError, Options};

use crate::support::{Read, format, read, sample, series, try_bytes};

fn times(read: &Read<Bar>) -> Vec<String> {
    read.records().iter().map(|b| b.ts.to_string()).collect()
}

fn spot(file: &str) -> Read<Bar> {
    sample(&format!("binance/{file}"), &Options::default())
}

#[test]
fn binance_spot_files_have_no_header_and_say_the_series_in_their_name() {
    let read = spot("BTCUSDT-1m-2024-11-01.csv");
    assert_eq!(read.format, "binance");
    assert_eq!(
        times(&read),
        ["2024-11-01T00:00:00Z", "2024-11-01T00:01:00Z"]
    );
    let bar = read.records()[0];
    assert_eq!(
        (bar.vendor.as_str(), bar.symbol.as_str()),
        ("binance", "BTCUSDT")
    );
    assert_eq!(
        (bar.open_price, bar.close_price),
        (Some(70_292.01), Some(70_320.0))
    );
    assert_eq!(bar.timeframe.to_string(), "1m");
    assert!(
        read.notes
            .contains(&"timeframe 1m: from the file name".to_owned())
    );
}

#[test]
fn binance_spot_times_are_microseconds_since_2025() {
    let read = spot("BTCUSDT-1m-2025-01-01.csv");
    assert_eq!(
        times(&read),
        ["2025-01-01T00:00:00Z", "2025-01-01T00:01:00Z"]
    );
}

#[test]
fn binance_futures_files_have_a_header_and_any_prefix() {
    let read = spot("prefix-futures-nearusdt-1m-2024-11.csv");
    assert_eq!(read.lines(), [2, 3]);
    assert_eq!(read.records()[1].symbol.as_str(), "NEARUSDT");
    assert_eq!(read.records()[1].volume, Some(25_373.0));
}

#[test]
fn binance_answers_are_arrays_with_texts() {
    let read: Read<Bar> = sample(
        "binance/klines.json",
        &Options {
            timeframe: None,
            ..series("btcusdt", "1m")
        },
    );
    assert_eq!(read.format, "binance");
    assert_eq!(read.lines(), [2, 31]);
    assert_eq!(
        read.faults(),
        [
            (16, "high_price", "malformed"),
            (30, "line", "column_count")
        ]
    );
    assert_eq!(read.records()[0].volume, Some(21.632_72));
    assert!(
        read.notes
            .iter()
            .any(|n| n.starts_with("timeframe 1m: from the times"))
    );
}

#[test]
fn binance_without_a_symbol_or_with_the_wrong_span_is_refused() {
    let text = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/testdata/binance/BTCUSDT-1m-2024-11-01.csv"
    ))
    .unwrap();
    let error = try_bytes::<Bar>("klines.csv", text.clone(), &Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "klines.csv: binance needs the symbol: the file does not say it, and its name is not of the shape SYMBOL-SPAN-YYYY-MM[-DD]; pass --symbol"
    );
    let error = try_bytes::<Bar>("klines.csv", text, &series("btcusdt", "1h")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "klines.csv: --timeframe 1h: open and close times of the rows are 1m apart"
    );
}

#[test]
fn yahoo_rows_of_null_are_no_trading_days() {
    let read: Read<Bar> = sample("yahoo/BRK-A.csv", &Options::default());
    assert_eq!(read.format, "yahoo");
    assert_eq!(
        times(&read),
        ["2012-09-04T00:00:00Z", "2012-09-06T00:00:00Z"]
    );
    assert_eq!(read.skipped(), [(3, "no_trade")]);
    assert_eq!(
        read.faults(),
        [
            (5, "line", "column_count"),
            (6, "close_price", "not_finite")
        ]
    );
    let bar = read.records()[1];
    assert_eq!((bar.symbol.as_str(), bar.volume), ("BRK-A", None));
    assert_eq!(bar.timeframe.to_string(), "1d");
}

#[test]
fn yfinance_dates_are_the_exchanges_days_and_datetimes_instants() {
    let read: Read<Bar> = sample("yahoo/yfinance-4063.T.csv", &Options::default());
    assert_eq!(
        times(&read),
        ["2023-04-14T00:00:00Z", "2023-04-13T00:00:00Z"]
    );
    assert_eq!(read.records()[0].symbol.as_str(), "4063.T");

    let read: Read<Bar> = sample("yahoo/intraday.csv", &series("aapl", "1m"));
    assert_eq!(
        times(&read),
        ["2024-11-01T13:30:00Z", "2024-11-01T13:31:00Z"]
    );
}

#[test]
fn yfinance_headers_of_three_lines_name_the_ticker() {
    let read: Read<Bar> = sample("yahoo/stacked.csv", &Options::default());
    assert_eq!((read.format, read.counts()), ("yahoo", (2, 0, 0)));
    let bar = read.records()[0];
    assert_eq!(
        (bar.symbol.as_str(), bar.open_price),
        ("BRK-B", Some(356.3))
    );
    assert_eq!(read.lines(), [4, 5]);

    let several = "Price,Close,High,Low,Open,Volume\nTicker,A,B,A,B,A\nDate,,,,,\n";
    let error = try_bytes::<Bar>("x.csv", several, &series("a", "1d")).unwrap_err();
    assert!(error.to_string().contains("several tickers"), "{error}");
}

#[test]
fn stooq_pages_are_known_by_the_polish_header_or_the_file_name() {
    let read: Read<Bar> = sample("stooq/wig20_d.csv", &Options::default());
    assert_eq!((read.format, read.records().len()), ("stooq", 2));
    assert_eq!(read.records()[0].symbol.as_str(), "WIG20");
    assert_eq!(times(&read)[1], "2018-02-05T00:00:00Z");

    let read: Read<Bar> = sample("stooq/eurusd_w.csv", &Options::default());
    let bar = read.records()[0];
    assert_eq!(
        (bar.timeframe.to_string().as_str(), bar.volume),
        ("1w", None)
    );
}

#[test]
fn stooq_bulk_rows_name_their_symbol_and_span() {
    let read: Read<Bar> = sample("stooq/aapl.us.txt", &Options::default());
    assert_eq!(read.records()[0].symbol.as_str(), "AAPL.US");
    assert_eq!(
        times(&read),
        ["2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"]
    );
    assert_eq!(read.records()[1].volume, Some(58_414_460.0));

    let options = Options {
        tz: Some("Europe/Warsaw".parse().unwrap()),
        ..Options::default()
    };
    let read: Read<Bar> = sample("stooq/aapl.us.5min.txt", &options);
    assert_eq!(
        times(&read),
        ["2024-01-02T14:30:00Z", "2024-01-02T08:05:00Z"]
    );
    assert_eq!(read.records()[0].timeframe.to_string(), "5m");
    assert_eq!(read.faults(), [(4, "timeframe", "malformed")]);

    let text = include_str!("../../testdata/stooq/aapl.us.5min.txt");
    let error = try_bytes::<Bar>("aapl.us.txt", text, &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::NoTimeZone { .. }), "{error}");
}

#[test]
fn a_header_that_several_vendors_write_is_not_guessed() {
    let text = "Date,Open,High,Low,Close,Volume\n2024-01-02,1,2,1,2,5\n2024-01-03,1,2,1,2,5\n";
    let error = try_bytes::<Bar>("prices.csv", text, &series("x", "1d")).unwrap_err();
    let OpenError::NotRecognised { candidates, .. } = &error else {
        panic!("{error}")
    };
    let names: Vec<_> = candidates.iter().map(|c| c.format).collect();
    assert_eq!(names, ["stooq", "yahoo"]);
    assert!(
        error
            .to_string()
            .contains("it might be: --format stooq (a header of"),
        "{error}"
    );

    let told = Options {
        symbol: Some("x".into()),
        ..format("yahoo")
    };
    assert_eq!(read::<Bar>("prices.csv", text, &told).records().len(), 2);

    // The name has the shape of one vendor and the word of the other.
    let error = try_bytes::<Bar>("yahoo-x_d.csv", text, &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Ambiguous { .. }), "{error}");
}

#[test]
fn a_file_of_another_kind_is_named() {
    let text = include_str!("../../testdata/yahoo/BRK-A.csv");
    let error = try_bytes::<mds_core::News>("x.csv", text, &Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "x.csv is in format yahoo, which holds bars, not news"
    );
}
