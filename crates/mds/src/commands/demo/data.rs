//! Made-up market data that looks like the real thing: a random walk per symbol, chains around the
//! spot, statements per quarter, headlines. The same seed makes the same data.

use std::collections::HashMap;

use fastrand::Rng;
use mds_core::{Bar, Date, Fundamentals, News, OptionSnap, OptionType, Record, Timestamp};

/// The vendor of every record that the demo makes.
pub(super) const VENDOR: &str = "demo";

/// The symbol whose records the store refuses in the demo.
pub(super) const POISON: &str = "POISON";

const SYMBOLS: [&str; 40] = [
    "AAPL", "MSFT", "NVDA", "AMZN", "GOOG", "META", "BRK.B", "TSLA", "JPM", "V", "WMT", "XOM",
    "UNH", "MA", "PG", "JNJ", "HD", "COST", "ORCL", "BAC", "KO", "PEP", "CSCO", "MCD", "ADBE",
    "CRM", "AMD", "NFLX", "INTC", "QCOM", "IBM", "GE", "CAT", "BA", "GS", "SPY", "QQQ", "BTCUSD",
    "ETHUSD", "SOLUSD",
];

const HEADLINES: [&str; 6] = [
    "beats estimates, raises outlook",
    "misses estimates as costs rise",
    "announces buyback",
    "under review by regulators",
    "unveils new product line",
    "names new chief financial officer",
];

/// The first minute of the demo's data: 2026-01-05, a Monday, 14:30 UTC.
const START: i64 = 1_767_623_400_000_000;
const MINUTE: i64 = 60_000_000;

/// All records of one kind in the order in which producers send them.
pub(super) struct Feed<R> {
    pub(super) records: Vec<R>,
    /// What the store must hold in the end: per key the record of highest rank.
    pub(super) expected: HashMap<String, R>,
    /// Records that the store will refuse.
    pub(super) poison: u64,
}

/// A record's natural key as text.
pub(super) fn key<R: Record>(record: &R) -> String {
    let is_key = |i: &usize| R::COLUMNS[*i].role == mds_core::ColumnRole::Key;
    let parts = (0..R::COLUMNS.len())
        .filter(is_key)
        .map(|i| record.value(i).to_string());
    parts.collect::<Vec<_>>().join("|")
}

fn symbol_of<R: Record>(record: &R) -> String {
    R::column("symbol").map_or_else(String::new, |i| record.value(i).to_string())
}

impl<R: Record> Feed<R> {
    /// Numbers the records with revisions, sends some twice and some corrected, and works out what
    /// must be left. `correct` changes a record as a vendor's correction would.
    fn new(made: Vec<R>, random: &mut Rng, correct: impl Fn(&mut R)) -> Self {
        let mut records: Vec<R> = Vec::with_capacity(made.len() + made.len() / 10);
        for (i, mut record) in (0_i64..).zip(made) {
            record.normalize();
            record.set_revision(START + i);
            match random.u8(..40) {
                // A producer that was restarted sends a record again, exactly as it was.
                0 => records.push(record.clone()),
                // A correction overtakes the record that it corrects.
                1 => {
                    let mut corrected = record.clone();
                    correct(&mut corrected);
                    corrected.set_revision(record.revision() + 1_000_000_000);
                    records.push(corrected);
                }
                _ => {}
            }
            records.push(record);
        }
        let mut expected: HashMap<String, R> = HashMap::with_capacity(records.len());
        let mut poison = 0;
        for record in &records {
            if symbol_of(record) == POISON {
                poison += 1;
                continue;
            }
            expected
                .entry(key(record))
                .and_modify(|kept| {
                    if record.rank_cmp(kept).is_gt() {
                        *kept = record.clone();
                    }
                })
                .or_insert_with(|| record.clone());
        }
        Self {
            records,
            expected,
            poison,
        }
    }
}

/// A price to the cent.
fn cents(price: f64) -> f64 {
    (price * 100.0).round() / 100.0
}

/// Minute bars of every symbol, in time order, as a live feed sends them.
pub(super) fn bars(random: &mut Rng, minutes: i64) -> Feed<Bar> {
    let mut prices: Vec<f64> = SYMBOLS
        .iter()
        .map(|_| 20.0 + random.f64() * 480.0)
        .collect();
    let mut made = Vec::new();
    for minute in 0..minutes {
        for (symbol, price) in SYMBOLS.iter().zip(&mut prices) {
            let open = *price;
            let close = open * (1.0 + (random.f64() - 0.5) * 0.004);
            let reach = open * random.f64() * 0.002;
            *price = close;
            made.push(Bar {
                vendor: VENDOR.into(),
                symbol: (*symbol).into(),
                ts: Timestamp::from_micros(START + minute * MINUTE),
                open_price: Some(cents(open)),
                high_price: Some(cents(open.max(close) + reach)),
                low_price: Some(cents(open.min(close) - reach)),
                close_price: Some(cents(close)),
                volume: Some(f64::from(random.u32(100..250_000))),
                ..Bar::default()
            });
        }
        if minute % 60 == 7 {
            made.push(Bar {
                vendor: VENDOR.into(),
                symbol: POISON.into(),
                ts: Timestamp::from_micros(START + minute * MINUTE),
                ..Bar::default()
            });
        }
    }
    Feed::new(made, random, |bar| {
        bar.volume = bar.volume.map(|v| v + 1_000.0);
    })
}

/// Snapshots of the chains of a few roots.
pub(super) fn options(random: &mut Rng, snapshots: i64) -> Feed<OptionSnap> {
    let mut made = Vec::new();
    for snapshot in 0..snapshots {
        for root in SYMBOLS.iter().take(12) {
            let spot = 100.0 + random.f64() * 20.0;
            for expiry in ["2026-01-16", "2026-02-20", "2026-06-19"] {
                for step in 0_i32..30 {
                    let strike = 70.0 + f64::from(step) * 2.5;
                    let kind = if step % 2 == 0 {
                        OptionType::Call
                    } else {
                        OptionType::Put
                    };
                    made.push(OptionSnap {
                        vendor: VENDOR.into(),
                        symbol: (*root).into(),
                        expiry: Date::parse(expiry).unwrap_or_default(),
                        option_type: kind,
                        strike,
                        ts: Timestamp::from_micros(START + snapshot * 15 * MINUTE),
                        iv: Some(0.2 + random.f64() * 0.4),
                        delta: Some(random.f64() * if step % 2 == 0 { 1.0 } else { -1.0 }),
                        gamma: Some(random.f64() * 0.1),
                        oi: Some(f64::from(random.u32(..20_000))),
                        volume: Some(f64::from(random.u32(..3_000))),
                        spot: Some(cents(spot)),
                        ..OptionSnap::default()
                    });
                }
            }
        }
    }
    Feed::new(made, random, |snap| snap.oi = snap.oi.map(|oi| oi + 1.0))
}

/// Five years of quarters.
pub(super) fn fundamentals(random: &mut Rng) -> Feed<Fundamentals> {
    let mut made = Vec::new();
    for symbol in SYMBOLS.iter().take(37) {
        for year in 2021_i16..2026 {
            for (period, month, day) in
                [("Q1", 3, 31), ("Q2", 6, 30), ("Q3", 9, 30), ("FY", 12, 31)]
            {
                let assets = 1e9 * (1.0 + random.f64() * 300.0);
                made.push(Fundamentals {
                    vendor: VENDOR.into(),
                    symbol: (*symbol).into(),
                    asof: Date::from_ymd(year, month, day)
                        .unwrap_or_default()
                        .midnight(),
                    period: period.into(),
                    total_assets: Some(assets.round()),
                    total_liabilities: Some((assets * random.f64()).round()),
                    net_income: Some((assets * (random.f64() - 0.2) * 0.1).round()),
                    eps: Some(cents(random.f64() * 9.0 - 1.0)),
                    ..Fundamentals::default()
                });
            }
        }
    }
    Feed::new(made, random, |f| f.eps = f.eps.map(|eps| cents(eps + 0.01)))
}

/// Headlines, some about several companies.
pub(super) fn news(random: &mut Rng, items: i64) -> Feed<News> {
    let made = (0..items)
        .map(|item| {
            let first = if item % 500 == 250 {
                POISON
            } else {
                SYMBOLS[random.usize(..37)]
            };
            let second = random.bool().then(|| SYMBOLS[random.usize(..37)]);
            let headline = HEADLINES[random.usize(..HEADLINES.len())];
            News {
                vendor: VENDOR.into(),
                published_at: Timestamp::from_micros(START + item * 20_000_000),
                symbols: [Some(first), second]
                    .into_iter()
                    .flatten()
                    .map(Into::into)
                    .collect(),
                title: Some(format!("{first} {headline}")),
                url: Some(format!("https://news.example/{item}")),
                sentiment_score: Some(cents(random.f64() * 2.0 - 1.0)),
                ..News::default()
            }
        })
        .collect();
    Feed::new(made, random, |news| news.sentiment_score = Some(0.0))
}
