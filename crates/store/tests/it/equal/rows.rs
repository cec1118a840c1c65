//! Rows at random, in normal form, with everything in them that a store might get wrong.

use fastrand::Rng;
use mds_core::{
    Bar, Date, Fundamentals, News, OptionSnap, OptionType, Symbol, TenantId, Timeframe, Timestamp,
    Vendor,
};
use mds_store::{Query, StoredRecord};

/// A record that can be made at random.
pub(crate) trait Random: StoredRecord {
    /// One of about `keys` keys, with any values.
    fn random(random: &mut Rng, keys: u32) -> Self;

    /// A query that may find some of them.
    fn query(random: &mut Rng) -> Query {
        Query {
            tenant: random.bool().then(|| tenant(random)),
            vendor: (random.u8(..4) == 0).then(|| vendor(random)),
            symbols: (0..random.usize(..3)).map(|_| symbol(random)).collect(),
            timeframe: (random.u8(..4) == 0).then(|| timeframe(random)),
            ..Query::default()
        }
    }
}

const NUMBERS: [f64; 22] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    0.3,
    4.051,
    -37.63,
    5e-324,
    -1e-320,
    2.225_073_858_507_201e-308,
    f64::MIN_POSITIVE,
    1e-300,
    1e308,
    f64::MAX,
    f64::MIN,
    9_007_199_254_740_993.0,
    123_456_789.123_456_79,
    1e15,
    1e16,
    1e22,
    70_000.5,
];

const TEXTS: [&str; 14] = [
    "",
    " ",
    "a",
    "B",
    "Up, \"and\" away\u{2026}",
    "\u{e4}",
    "a\u{308}",
    "\u{65e5}\u{672c}",
    "\u{1f4c8}\u{200d}\u{1f680}",
    "\u{ffff}\u{10ffff}",
    "\u{5d0}\u{202e}b",
    "line\nbreak\ttab\\N\\.",
    "'; DROP TABLE news; --",
    "{\"a\": [1, null]}",
];

fn number(random: &mut Rng) -> Option<f64> {
    match random.u8(..8) {
        0 => None,
        1 => {
            let any = f64::from_bits(random.u64(..));
            Some(if any.is_finite() { any } else { 0.5 })
        }
        2 => Some(random.f64()),
        _ => random.choice(&NUMBERS).copied(),
    }
}

fn text(random: &mut Rng) -> String {
    let parts = 0..random.usize(1..3);
    parts.map(|_| *random.choice(&TEXTS).unwrap()).collect()
}

fn tenant(random: &mut Rng) -> TenantId {
    TenantId::from_u128([1, 2, u128::MAX][random.usize(..3)])
}

fn vendor(random: &mut Rng) -> Vendor {
    ["v", "b\u{f6}rse"][random.usize(..2)].into()
}

fn symbol(random: &mut Rng) -> Symbol {
    ["A", "B", "BRK.B", "\u{c4}", "\u{65e5}", "Z Z"][random.usize(..6)].into()
}

fn timeframe(random: &mut Rng) -> Timeframe {
    let text = ["1s", "1m", "7m", "1h", "1d", "1w", "1mo"][random.usize(..7)];
    text.parse().unwrap()
}

/// One of so many times, some of them long ago or far away.
fn time(random: &mut Rng, times: u32) -> Timestamp {
    let edges = [
        Timestamp::MIN_VALID.micros(),
        -1,
        0,
        1,
        Timestamp::MAX_VALID.micros() - 1,
    ];
    let number = random.u32(..times.max(1));
    let edge = usize::try_from(number).ok().and_then(|n| edges.get(n));
    let minute = i64::from(number) * 60_000_000;
    Timestamp::from_micros(edge.copied().unwrap_or(crate::support::START + minute))
}

/// Few revisions, so that many are equal.
fn revision(random: &mut Rng) -> i64 {
    [0, 1, 2, 3, i64::MAX / 2][random.usize(..5)]
}

fn normal<R: StoredRecord>(mut row: R) -> R {
    row.normalize();
    row
}

impl Random for Bar {
    fn random(random: &mut Rng, keys: u32) -> Self {
        let few = keys < 10;
        normal(Self {
            tenant_id: if few {
                TenantId::DEFAULT
            } else {
                tenant(random)
            },
            vendor: vendor(random),
            symbol: if few { "A".into() } else { symbol(random) },
            timeframe: if few {
                Timeframe::MINUTE
            } else {
                timeframe(random)
            },
            ts: time(random, keys / 10 + 1),
            open_price: number(random),
            high_price: number(random),
            low_price: number(random),
            close_price: number(random),
            volume: number(random),
            provisional: random.bool(),
            revision: revision(random),
        })
    }
}

impl Random for OptionSnap {
    fn random(random: &mut Rng, keys: u32) -> Self {
        let few = keys < 10;
        let strikes = [1.0, 14_700.5, 5e-324, 1e300];
        normal(Self {
            tenant_id: if few {
                TenantId::DEFAULT
            } else {
                tenant(random)
            },
            vendor: "v".into(),
            symbol: if few { "A".into() } else { symbol(random) },
            expiry: Date::from_days(random.i32(..) % 2 + 19_000),
            option_type: [OptionType::Call, OptionType::Put][random.usize(..2)],
            strike: strikes[random.usize(..4)],
            ts: time(random, keys / 50 + 1),
            iv: number(random),
            delta: number(random),
            gamma: number(random),
            oi: number(random),
            volume: number(random),
            spot: number(random),
            revision: revision(random),
        })
    }
}

impl Random for Fundamentals {
    fn random(random: &mut Rng, keys: u32) -> Self {
        let few = keys < 10;
        normal(Self {
            tenant_id: if few {
                TenantId::DEFAULT
            } else {
                tenant(random)
            },
            vendor: vendor(random),
            symbol: symbol(random),
            asof: time(random, keys / 20 + 1),
            period: ["", "FY", "Q1", "instant"][random.usize(..4)].into(),
            total_assets: number(random),
            total_liabilities: number(random),
            net_income: number(random),
            eps: number(random),
            revision: revision(random),
        })
    }
}

impl Random for News {
    fn random(random: &mut Rng, keys: u32) -> Self {
        let few = keys < 10;
        let id = ["1", "2", "\u{e4}", "a b"][random.usize(..4)];
        normal(Self {
            tenant_id: if few {
                TenantId::DEFAULT
            } else {
                tenant(random)
            },
            vendor: vendor(random),
            published_at: time(random, keys / 10 + 1),
            id: id.into(),
            symbol: random.bool().then(|| symbol(random)),
            symbols: (0..random.usize(..4)).map(|_| symbol(random)).collect(),
            title: random.bool().then(|| text(random)),
            url: random.bool().then(|| text(random)),
            sentiment_score: number(random),
            revision: revision(random),
        })
    }
}
