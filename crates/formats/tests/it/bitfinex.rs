//! `bitfinex`.

use std::fmt::Write;

use mds_core::Bar;
use mds_formats::{OpenError, Options};

use crate::support::{read, series, try_bytes};

const ROWS: &str = "1388534520000,730.24,730.24,730.24,730.24,0.0105339\r\n\
                    1388534700000,730.51,730.89,730.89,730.24,1e-7\r\n";

#[test]
fn close_stands_before_high_and_low() {
    let read = read::<Bar>("merged.csv", ROWS, &series("btcusd", "1m"));
    assert_eq!(read.format, "bitfinex");
    let bar = read.records()[1];
    assert_eq!(
        serde_json::to_string(bar).unwrap(),
        r#"{"tenant_id":"00000000-0000-0000-0000-000000000001","vendor":"bitfinex","symbol":"BTCUSD","timeframe":"1m","ts":"2014-01-01T00:05:00Z","open_price":730.51,"high_price":730.89,"low_price":730.24,"close_price":730.89,"volume":1e-7,"provisional":false,"revision":0}"#
    );
    assert_eq!(read.lines(), [1, 2]);
}

#[test]
fn symbol_and_span_come_from_a_name_that_says_bitfinex() {
    let named = read::<Bar>(
        "bars-bitfinex-btcusd-1m-2014-2016.csv.gz",
        ROWS,
        &Options::default(),
    );
    assert_eq!(named.records()[0].symbol.as_str(), "BTCUSD");
    assert!(
        named
            .notes
            .contains(&"symbol BTCUSD: from the file name".to_owned())
    );

    assert_eq!(named.notes.len(), 3, "{:?}", named.notes);

    let error = try_bytes::<Bar>("merged.csv", ROWS, &Options::default()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Missing {
                flag: "--symbol",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_usage());
}

#[test]
fn the_usual_column_order_is_not_taken_for_it() {
    let usual = "1388534520000,730.24,731.5,729.1,730.3,0.01\n";
    let error = try_bytes::<Bar>("x.csv", usual, &series("btcusd", "1m")).unwrap_err();
    assert!(matches!(error, OpenError::NotRecognised { .. }), "{error}");
}

#[test]
fn one_bad_line_of_sixty_thousand_is_told_by_its_number() {
    let mut text = String::new();
    for i in 0..60_000_u64 {
        let close = if i == 48_212 { "x" } else { "2.5" };
        let time = 1_388_534_520_000 + i * 60_000;
        writeln!(text, "{time},2,{close},3,1,0.5").unwrap();
    }
    let read = read::<Bar>("bitfinex-btcusd-1m.csv", text, &Options::default());
    assert_eq!(read.counts(), (59_999, 1, 0));
    assert_eq!(read.faults(), [(48_213, "close_price", "malformed")]);
    assert_eq!(read.invalid()[0].raw, b"1391427240000,2,x,3,1,0.5");
    assert_eq!(read.invalid()[0].ordinal, 48_212);
}

#[test]
fn each_bad_row_is_told_and_costs_itself_alone() {
    let text = "1388534520000,2,2.5,3,1,0.5\r\n\
                1388534580000,2,NaN,3,1,0.5\r\n\
                1388534640000,2,2.5,inf,1,0.5\r\n\
                1388534700000,2,2.5,3,1\r\n\
                1388534760000,2,2.5,3,1,0.5,7\r\n\
                1388534820000,2,2.5,0.5,1,0.5\r\n\
                1388534880000,2,2.5,3,1,-1\r\n\
                yesterday,2,2.5,3,1,0.5\r\n\
                99999999999999999,2,2.5,3,1,0.5\r\n\
                \"1388534940000\",\"2\",2.5,3,1,0.5\r\n\
                1388535000000,2,\"2.5,3,1,0.5\r\n\
                1388535060000,2,,3,1,0.5\r\n\
                \r\n\
                1388535120000,2,2.5,3,1,0.5";
    let read = read::<Bar>("bitfinex-btcusd-1m.csv", text, &Options::default());
    assert_eq!(
        read.faults(),
        [
            (2, "close_price", "not_finite"),
            (3, "high_price", "not_finite"),
            (4, "line", "column_count"),
            (5, "line", "column_count"),
            (6, "high_price", "high_below_low"),
            (7, "volume", "negative"),
            (8, "ts", "malformed"),
            (9, "ts", "time_out_of_range"),
            (11, "line", "quoting"),
            (12, "close_price", "malformed"),
        ]
    );
    assert_eq!(read.lines(), [1, 10, 14]);
    assert_eq!(
        read.invalid()[2].rule,
        "a row must have 6 fields, this one has 5"
    );
}
