//! Rows a second of the readers that large files go through.
//!
//! Each input is in memory and plain, so that what is measured is the reader alone.

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mds_core::Bar;
use mds_formats::{Limits, Options, Source, reader};

const ROWS: u64 = 200_000;

/// One text of `ROWS` lines, with prices and volumes of varying length.
fn text(header: &str, line: impl Fn(u64, f64, f64) -> String) -> Arc<[u8]> {
    let mut text = header.to_owned();
    for i in 0..ROWS {
        let price = 730.0 + f64::from(u32::try_from(i % 10_007).unwrap_or_default()) / 100.0;
        let volume = f64::from(u32::try_from(i * 7_919 % 1_000_003).unwrap_or_default()) / 1e4;
        text.push_str(&line(1_388_534_520_000 + i * 60_000, price, volume));
    }
    text.into_bytes().into()
}

fn read(name: &'static str, text: &Arc<[u8]>, options: &Options) {
    let bytes = Cursor::new(Arc::clone(text));
    let source =
        Source::from_reader(name, bytes, Limits::default()).expect("a text in memory opens");
    let mut reader = reader::<Bar>(source, options).expect("the text is in the format");
    let mut verdicts = Vec::with_capacity(4_096);
    let mut rows = 0;
    while reader
        .next_chunk(&mut verdicts, 4_096)
        .expect("the text is whole")
        > 0
    {
        rows += verdicts.len() as u64;
        black_box(&verdicts);
        verdicts.clear();
    }
    assert_eq!(rows, ROWS);
}

fn parsers(criterion: &mut Criterion) {
    let none = Options::default();
    let ndjson = text("", |time, price, volume| {
        let ts = mds_core::Timestamp::from_millis(i64::try_from(time).unwrap_or_default());
        let ts = ts.unwrap_or_default();
        let high = price + 0.5;
        format!(
            r#"{{"vendor":"bitfinex","symbol":"BTCUSD","timeframe":"1m","ts":"{ts}","open_price":{price},"high_price":{high},"low_price":{price},"close_price":{high},"volume":{volume}}}"#
        ) + "\n"
    });
    let bitfinex = text("", |time, price, volume| {
        let high = price + 0.5;
        format!("{time},{price},{high},{high},{price},{volume}\r\n")
    });
    let header = "open_time,open,high,low,close,volume,close_time,quote_volume,count,\
                  taker_buy_volume,taker_buy_quote_volume,ignore\n";
    let binance = text(header, |time, price, volume| {
        let (high, close_time) = (price + 0.5, time + 59_999);
        format!(
            "{time},{price},{high},{price},{high},{volume},{close_time},122385.507,320,17083,69179.545,0\n"
        )
    });
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS)).sample_size(20);
    group.bench_function("ndjson", |b| b.iter(|| read("bars.ndjson", &ndjson, &none)));
    group.bench_function("bitfinex", |b| {
        b.iter(|| read("bitfinex-btcusd-1m.csv", &bitfinex, &none));
    });
    group.bench_function("binance", |b| {
        b.iter(|| read("NEARUSDT-1m-2024-11.csv", &binance, &none));
    });
    group.finish();
}

criterion_group!(benches, parsers);
criterion_main!(benches);
