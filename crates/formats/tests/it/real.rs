//! Files as vendors emit them, where they are at hand.
//!
//! They are not part of the project. `MDS_TEST_DATA` names their folder; without it they are looked
//! for beside the checkout.

use std::path::PathBuf;

use mds_core::{Bar, Fundamentals, News, OptionSnap};
use mds_formats::{Limits, OpenError, Options, Readable, Source, detect, reader};

use crate::support::{Read, drain, series};

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder = std::env::var_os("MDS_TEST_DATA").map_or_else(|| beside.into(), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no vendor files at {}", folder.display());
    None
}

fn read_file<R: Readable>(path: PathBuf, options: &Options) -> Read<R> {
    drain(reader(Source::open(path, Limits::default()).unwrap(), options).unwrap())
}

#[test]
fn whole_files_are_read_to_the_last_row() {
    let Some(folder) = folder() else { return };
    let count = |file: &str, options: &Options| {
        let read: Read<Bar> = read_file(folder.join(file), options);
        (read.format, read.counts(), read.error.is_none())
    };
    let none = Options::default();
    assert_eq!(
        count("bars-bitfinex-btcusd-1m-2014-2016.csv.gz", &none),
        ("bitfinex", (943_727, 0, 0), true)
    );
    assert_eq!(
        count("bars-binance-futures-nearusdt-1m-2024-11.csv.gz", &none),
        ("binance", (43_200, 0, 0), true)
    );
    assert_eq!(
        count("bars-yahoo-BRK-A.csv", &none),
        ("yahoo", (1_258, 0, 0), true)
    );
    assert_eq!(
        count("bars-stooq-wig20_d.csv", &none),
        ("stooq", (1_035, 0, 0), true)
    );
    assert_eq!(
        count(
            "small/bars-binance-spot-klines-btcusdt-1m.json",
            &series("btcusdt", "1m")
        ),
        ("binance", (10, 0, 0), true)
    );
    assert_eq!(
        count(
            "set-b/bars-yfinance-4063.T-1d-bad-split.csv",
            &series("4063.T", "1d")
        ),
        ("yahoo", (22, 0, 0), true)
    );
}

#[test]
fn company_facts_are_assembled() {
    let Some(folder) = folder() else { return };
    let file = folder.join("fundamentals-sec-companyfacts-LPA.json");
    let read: Read<Fundamentals> = read_file(file, &Options::default());
    // 20 mapped facts of 768: six years' results and four balances, each as filed.
    assert_eq!(read.counts(), (10, 0, 748));
    let first = read.records()[0];
    assert_eq!(first.symbol.as_str(), "CIK0001997711");
    assert_eq!(
        (first.net_income, first.eps),
        (Some(8_669_385.0), Some(0.025))
    );
    assert_eq!(first.revision, 1_714_089_600_000_000);
}

#[test]
fn files_of_other_families_are_not_taken_for_these() {
    let Some(folder) = folder() else { return };
    let known = [
        "binance",
        "bitfinex",
        "yahoo-BRK",
        "yfinance",
        "stooq",
        "sec-company",
    ];
    let mut looked_at = 0;
    for part in ["", "set-b", "small"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let ours = known.iter().any(|k| name.contains(k)) && !name.contains("cryptodata");
            if path.is_dir() || name == "README.md" || ours {
                continue;
            }
            looked_at += 1;
            let mut source = Source::open(&path, Limits::default()).unwrap();
            let error = detect(&mut source, &Options::default(), None).unwrap_err();
            assert!(
                matches!(error, OpenError::NotRecognised { .. }),
                "{name}: {error}"
            );
        }
    }
    assert!(looked_at >= 20, "only {looked_at} files");
}

#[test]
fn other_families_can_be_mapped() {
    let Some(folder) = folder() else { return };
    let mapped = |map: &[&str], time_format: &str, tz: &str, symbol: &str, span: &str| Options {
        map: map.iter().map(|m| m.parse().unwrap()).collect(),
        time_format: (!time_format.is_empty()).then(|| time_format.parse().unwrap()),
        tz: (!tz.is_empty()).then(|| tz.parse().unwrap()),
        vendor: Some("v".into()),
        symbol: (!symbol.is_empty()).then(|| symbol.into()),
        timeframe: (!span.is_empty()).then(|| span.parse().unwrap()),
        ..Options::default()
    };
    let names = [
        "ts=date",
        "open_price=open",
        "high_price=high",
        "low_price=low",
        "close_price=close",
    ];
    let read: Read<Bar> = read_file(
        folder.join("bars-tiingo-multi-symbol-daily-2017.csv"),
        &mapped(&names, "", "", "", "1d"),
    );
    assert_eq!(read.counts(), (1_056, 0, 0));

    let places = [
        "ts=1",
        "open_price=2",
        "high_price=3",
        "low_price=4",
        "close_price=5",
        "volume=6",
    ];
    let read: Read<Bar> = read_file(
        folder.join("set-b/bars-histdata-USDJPY-M1-2018.zip"),
        &mapped(&places, "%Y%m%d %H%M%S", "America/New_York", "usdjpy", "1m"),
    );
    assert_eq!(read.counts(), (371_800, 0, 0));
    assert_eq!(read.records()[0].ts.to_string(), "2018-01-01T22:00:00Z");

    let strikes = [
        "expiry=#expiry",
        "option_type=right",
        "oi=open_interest",
        "iv=implied_volatility",
    ];
    let mut options = mapped(&strikes, "", "", "aapl", "");
    options.map.push("ts=#expiry".parse().unwrap());
    options.time_format = Some("%Y%m%d".parse().unwrap());
    let read: Read<OptionSnap> = read_file(
        folder.join("options-lean-universe-aapl-20140609.csv"),
        &options,
    );
    assert_eq!(read.counts(), (4_360, 1, 0));
    assert_eq!(read.faults(), [(2, "expiry", "missing_key")]);

    let mut options = mapped(&["id=S No.", "title=Title"], "", "", "", "");
    options.published_at = Some("2020-01-01T00:00:00Z".parse().unwrap());
    let read: Read<News> = read_file(folder.join("news-sentfin-headlines.csv"), &options);
    assert_eq!(read.counts(), (10_753, 0, 0));
}
