//! A file of each format that can be read; the same content again writes nothing.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use mds_core::{Bar, Date, Fundamentals, News, OptionSnap, OptionType};

use crate::data::{all, time};
use crate::run::Place;

/// Ingests a file, then the same content twice more: touched, and under another name. `books` are
/// those of the first time; of the records, none is written again.
#[track_caller]
fn ingest(kind: &str, name: &str, text: &str, flags: &[&str], books: &str) -> Place {
    let place = Place::new();
    place.write(name, text);
    let run = |name: &str| {
        let mut args = vec!["ingest", kind, name, "--json"];
        args.extend(flags);
        place.run(&args).code(0)
    };
    assert_eq!(run(name).books(), books);
    let again = books
        .split(", ")
        .filter(|count| !count.starts_with("superseded"))
        .map(|count| match count.strip_prefix("read ") {
            Some(read) => format!("read {read}, superseded {read}"),
            None => count.to_owned(),
        })
        .filter(|count| !count.starts_with("written"))
        .collect::<Vec<_>>()
        .join(", ");
    assert_eq!(run(name).books(), again, "the same file");

    let touched = SystemTime::now() - Duration::from_secs(86_400);
    let file = File::options().write(true).open(place.path(name)).unwrap();
    file.set_modified(touched).unwrap();
    let outcome = run(name).says("this content was seen before, with revisions from ");
    assert_eq!(outcome.books(), again, "the same file, touched");

    fs::create_dir(place.path("copy")).unwrap();
    fs::copy(place.path(name), place.path("copy").join(name)).unwrap();
    let outcome = run(&format!("copy/{name}"));
    assert_eq!(outcome.books(), again, "a copy");
    place
}

fn closes(place: &Place) -> Vec<(String, String, Option<f64>)> {
    let bars = all::<Bar>(place);
    let close = |bar: Bar| (bar.symbol.to_string(), bar.ts.to_string(), bar.close_price);
    bars.into_iter().map(close).collect()
}

#[test]
fn bars_as_ndjson() {
    let place = ingest(
        "bars",
        "bars.ndjson",
        "{\"vendor\":\"Acme\",\"symbol\":\"abc\",\"timeframe\":\"1m\",\"ts\":\"2024-11-01T09:30:00-04:00\",\
         \"open_price\":1.5,\"high_price\":2,\"low_price\":1,\"close_price\":1.9999999999999998,\"volume\":1e-7}\n\
         \n\
         {\"symbol\":\"XYZ\",\"vendor\":\"acme\",\"ts\":\"2024-11-01T00:00:00Z\",\"timeframe\":\"1d\",\"close_price\":null}\n",
        &[],
        "read 2, written 2",
    );
    let bars = all::<Bar>(&place);
    assert_eq!(bars.len(), 2);
    let abc = bars
        .iter()
        .find(|bar| bar.symbol.as_str() == "ABC")
        .unwrap();
    assert_eq!(
        (abc.vendor.as_str(), abc.ts),
        ("acme", time("2024-11-01T13:30:00Z"))
    );
    assert_eq!(
        (abc.close_price, abc.volume, abc.provisional),
        (Some(1.999_999_999_999_999_8), Some(1e-7), false)
    );
    let xyz = bars
        .iter()
        .find(|bar| bar.symbol.as_str() == "XYZ")
        .unwrap();
    assert_eq!(
        (xyz.timeframe.to_string().as_str(), xyz.close_price),
        ("1d", None)
    );
}

#[test]
fn options_as_ndjson() {
    let place = ingest(
        "options",
        "chain.ndjson",
        "{\"vendor\":\"cboe\",\"symbol\":\"NDXP\",\"expiry\":\"2024-11-15\",\"option_type\":\"P\",\
         \"strike\":14700.5,\"ts\":\"2024-11-01T15:00:00Z\",\"iv\":0.2345,\"oi\":17}\n",
        &[],
        "read 1, written 1",
    );
    let snaps = all::<OptionSnap>(&place);
    assert_eq!(snaps.len(), 1);
    let snap = &snaps[0];
    assert_eq!(snap.expiry, Date::parse("2024-11-15").unwrap());
    assert_eq!((snap.option_type, snap.strike), (OptionType::Put, 14_700.5));
    assert_eq!(
        (snap.iv, snap.oi, snap.delta),
        (Some(0.2345), Some(17.0), None)
    );
}

#[test]
fn fundamentals_as_csv() {
    let place = ingest(
        "fundamentals",
        "facts.csv",
        "vendor,symbol,asof,period,net_income,eps\n\
         acme,ABC,2024-09-30,Q3,-1200.5,1.25\n\
         acme,ABC,2023-12-31,FY,,4.5\n",
        &[],
        "read 2, written 2",
    );
    let facts: Vec<_> = all::<Fundamentals>(&place)
        .into_iter()
        .map(|f| {
            (
                f.asof.to_string(),
                f.period.to_string(),
                f.net_income,
                f.eps,
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            (
                "2023-12-31T00:00:00Z".to_owned(),
                "FY".to_owned(),
                None,
                Some(4.5)
            ),
            (
                "2024-09-30T00:00:00Z".to_owned(),
                "Q3".to_owned(),
                Some(-1_200.5),
                Some(1.25)
            ),
        ]
    );
}

#[test]
fn news_as_json() {
    let place = ingest(
        "news",
        "news.json",
        "[{\"vendor\":\"wire\",\"published_at\":\"2024-11-01T09:30:00Z\",\"title\":\"A, \\\"quoted\\\" one\",\
         \"symbols\":[\"spy\",\"QQQ\"],\"sentiment_score\":-0.25},\n\
         {\"vendor\":\"wire\",\"published_at\":\"2024-11-01T09:31:00Z\",\"url\":\"https://news.example/1\"}]",
        &[],
        "read 2, written 2",
    );
    let news = all::<News>(&place);
    assert_eq!(news.len(), 2);
    assert_eq!(news[0].title.as_deref(), Some("A, \"quoted\" one"));
    assert_eq!(
        news[0]
            .symbols
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["SPY", "QQQ"]
    );
    // An article without an id has one that its address, vendor and time always give.
    assert_eq!((news[1].id.len(), news[1].id.as_bytes()[14]), (36, b'5'));
}

#[test]
fn bars_as_csv_of_other_names() {
    let place = ingest(
        "bars",
        "prices.csv",
        "Day;Ticker;Last\n05/11/2024;abc;10.5\n06/11/2024;abc;11\n",
        &[
            "--vendor",
            "acme",
            "--timeframe",
            "1d",
            "--map",
            "ts=Day",
            "--map",
            "symbol=Ticker",
            "--map",
            "close_price=Last",
            "--time-format",
            "%d/%m/%Y",
        ],
        "read 2, written 2",
    );
    assert_eq!(
        closes(&place),
        [
            (
                "ABC".to_owned(),
                "2024-11-05T00:00:00Z".to_owned(),
                Some(10.5)
            ),
            (
                "ABC".to_owned(),
                "2024-11-06T00:00:00Z".to_owned(),
                Some(11.0)
            ),
        ]
    );
}

#[test]
fn bitfinex_candles() {
    let place = ingest(
        "bars",
        "bitfinex-BTCUSD-1m.csv",
        "1388534520000,730.24,730.5,731,730,0.0105339\n1388534700000,730.51,730.89,730.9,730.24,1e-7\n",
        &[],
        "read 2, written 2",
    );
    let bars = all::<Bar>(&place);
    // Close comes before high and low in these files.
    assert_eq!(
        (
            bars[0].open_price,
            bars[0].close_price,
            bars[0].high_price,
            bars[0].low_price
        ),
        (Some(730.24), Some(730.5), Some(731.0), Some(730.0))
    );
    assert_eq!(
        (
            bars[0].vendor.as_str(),
            bars[0].symbol.as_str(),
            bars[1].volume
        ),
        ("bitfinex", "BTCUSD", Some(1e-7))
    );
}

#[test]
fn binance_klines() {
    let place = ingest(
        "bars",
        "BTCUSDT-1m-2024-11-01.csv",
        "1730419200000,70292.01,70360.00,70265.10,70320.00,34.75,1730419259999,2443851.1,5210,20.1,1414000.1,0\n\
         1730419260000,70320.00,70330.50,70300.00,70300.01,12.00,1730419319999,843900.5,2210,5.5,386700.0,0\n",
        &[],
        "read 2, written 2",
    );
    assert_eq!(
        closes(&place),
        [
            (
                "BTCUSDT".to_owned(),
                "2024-11-01T00:00:00Z".to_owned(),
                Some(70_320.0)
            ),
            (
                "BTCUSDT".to_owned(),
                "2024-11-01T00:01:00Z".to_owned(),
                Some(70_300.01)
            ),
        ]
    );
}

#[test]
fn yahoo_days() {
    let place = ingest(
        "bars",
        "BRK-A.csv",
        "Date,Open,High,Low,Close,Adj Close,Volume\n\
         2012-09-04,126340,126654,126077,126279,126279,24300\n\
         2012-09-05,null,null,null,null,null,null\n\
         2012-09-06,128050,129597,128050,129597,129597,null\n",
        &[],
        "read 2, written 2, skipped 1",
    );
    assert_eq!(
        closes(&place),
        [
            (
                "BRK-A".to_owned(),
                "2012-09-04T00:00:00Z".to_owned(),
                Some(126_279.0)
            ),
            (
                "BRK-A".to_owned(),
                "2012-09-06T00:00:00Z".to_owned(),
                Some(129_597.0)
            ),
        ]
    );
}

#[test]
fn stooq_days() {
    let place = ingest(
        "bars",
        "wig20_d.csv",
        "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen\n\
         2018-02-02,2526.55,2530.02,2502.95,2507.24,17744079\n",
        &[],
        "read 1, written 1",
    );
    assert_eq!(
        closes(&place),
        [(
            "WIG20".to_owned(),
            "2018-02-02T00:00:00Z".to_owned(),
            Some(2_507.24)
        )]
    );
}

#[test]
fn company_facts_of_the_sec() {
    let fact = |end: &str, value: u32, filed: &str| {
        format!(
            "{{\"end\":\"{end}\",\"val\":{value},\"accn\":\"0000000001-24-000001\",\"fy\":2023,\
             \"fp\":\"FY\",\"form\":\"10-K\",\"filed\":\"{filed}\"}}"
        )
    };
    let text = format!(
        "{{\"cik\":1234567,\"entityName\":\"Sample Corp\",\"facts\":{{\"us-gaap\":{{\
         \"Assets\":{{\"label\":\"\",\"description\":\"\",\"units\":{{\"USD\":[{},{}]}}}},\
         \"Goodwill\":{{\"label\":\"\",\"description\":\"\",\"units\":{{\"USD\":[{}]}}}}}}}}}}",
        fact("2022-12-31", 1_000, "2023-02-10"),
        fact("2022-12-31", 1_001, "2024-02-09"),
        fact("2022-12-31", 7, "2024-02-09"),
    );
    // The restated value is a newer revision of the same record.
    let place = ingest(
        "fundamentals",
        "facts.json",
        &text,
        &["--symbol", "smpl"],
        "read 2, written 1, superseded 1, skipped 1",
    );
    let facts = all::<Fundamentals>(&place);
    assert_eq!(facts.len(), 1);
    assert_eq!(
        (facts[0].symbol.as_str(), facts[0].total_assets),
        ("SMPL", Some(1_001.0))
    );
    assert_eq!(facts[0].revision, time("2024-02-09T00:00:00Z").micros());
}
