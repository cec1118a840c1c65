//! Where a page has ended: the key of its last row, as text that is good for the same query only.
//!
//! A key, not a count: rows that come or go between two pages neither shift nor hide others. The text is
//! a digest of the query and the key, then the key; nobody is to read it or make one.

use std::fmt::Write as _;

use mds_core::{ColumnRole, ENCODING, Record, Symbol};
use mds_store::{Order, Query};
use sha2::{Digest as _, Sha256};

use crate::problem::{Code, Problem};

/// Changes with what is digested.
const VERSION: u8 = 1;
/// Bytes of the digest that are kept: enough to tell a mistake, and nobody gains by a forgery.
const SEAL_BYTES: usize = 8;

/// A record that has the key of another, and nothing else.
pub(super) fn key_of<R: Record>(record: &R) -> R {
    let mut key = R::default();
    for (index, column) in R::COLUMNS.iter().enumerate() {
        if column.role == ColumnRole::Key {
            // What a record says of itself it can be told.
            let told = key.set(index, &record.value(index).to_string());
            debug_assert_eq!(told, Ok(()));
        }
    }
    key
}

/// The cursor behind the row with the key `key`.
pub(super) fn write<R: Record>(query: &Query, key: &R) -> String {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    let seal = seal::<R>(query, &bytes);
    let mut text = String::with_capacity(2 * (SEAL_BYTES + bytes.len()));
    for byte in seal.iter().chain(&bytes) {
        // Writing into memory cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}

/// The key that a cursor of the same query holds.
pub(super) fn read<R: Record>(query: &Query, text: &str) -> Result<R, Problem> {
    parse(query, text).ok_or_else(|| {
        let detail = "the cursor is not one of this query; follow the one of the page before with the \
                      same symbols, vendor, timeframe, start, end and order";
        Problem::new(Code::BadCursor, detail).with("parameter", "cursor")
    })
}

fn parse<R: Record>(query: &Query, text: &str) -> Option<R> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    let bytes: Vec<u8> = text.as_bytes().chunks(2).map(pair).collect::<Option<_>>()?;
    let (sealed, mut key) = bytes.split_at_checked(SEAL_BYTES)?;
    if sealed != seal::<R>(query, key) {
        return None;
    }
    let record = R::decode(&mut key)?;
    key.is_empty().then_some(record)
}

fn seal<R: Record>(query: &Query, key: &[u8]) -> [u8; SEAL_BYTES] {
    let mut symbols: Vec<&str> = query.symbols.iter().map(Symbol::as_str).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let or_empty = |value: Option<String>| value.unwrap_or_default();
    let parts = [
        VERSION.to_string(),
        ENCODING.to_string(),
        R::KIND.to_string(),
        or_empty(query.tenant.map(|v| v.to_string())),
        symbols.join(","),
        or_empty(query.vendor.as_ref().map(ToString::to_string)),
        or_empty(query.timeframe.map(|v| v.to_string())),
        or_empty(query.start.map(|v| v.micros().to_string())),
        or_empty(query.end.map(|v| v.micros().to_string())),
        match query.order {
            Order::OldestFirst => "asc".to_owned(),
            Order::NewestFirst => "desc".to_owned(),
        },
    ];
    let mut digest = Sha256::new();
    for part in parts {
        // No part contains it, so that none can stand for two.
        digest.update(part);
        digest.update([0x1F]);
    }
    digest.update(key);
    let digest = digest.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use mds_core::{News, OptionSnap, Timestamp};

    use super::*;

    fn option() -> OptionSnap {
        OptionSnap {
            vendor: "cboe".into(),
            symbol: "NDXP".into(),
            expiry: "2024-12-20".parse().unwrap(),
            strike: 14_700.1,
            ts: Timestamp::from_micros(1_730_419_200_000_001),
            iv: Some(0.2),
            revision: 7,
            ..OptionSnap::default()
        }
    }

    #[test]
    fn a_cursor_is_the_key_and_nothing_else() {
        let query = Query::default();
        let read: OptionSnap = read(&query, &write(&query, &key_of(&option()))).unwrap();
        assert!(read.key_cmp(&option()).is_eq());
        assert_eq!((read.iv, read.revision), (None, 0));
    }

    #[test]
    fn a_cursor_of_another_query_or_a_damaged_one_is_refused() {
        let query = Query {
            symbols: vec!["B".into(), "A".into()],
            ..Query::default()
        };
        let good = write(&query, &key_of(&option()));
        let same = Query {
            symbols: vec!["a".into(), "b".into(), "a".into()],
            limit: Some(7),
            ..Query::default()
        };
        assert!(read::<OptionSnap>(&same, &good).is_ok());
        let at = Some(Timestamp::from_micros(0));
        let others = [
            Query::default(),
            Query {
                symbols: vec!["A".into()],
                ..query.clone()
            },
            Query {
                vendor: Some("x".into()),
                ..query.clone()
            },
            Query {
                start: at,
                ..query.clone()
            },
            Query {
                end: at,
                ..query.clone()
            },
            Query {
                order: Order::NewestFirst,
                ..query.clone()
            },
            Query {
                tenant: Some(mds_core::TenantId::DEFAULT),
                ..query.clone()
            },
        ];
        for other in others {
            assert!(read::<OptionSnap>(&other, &good).is_err(), "{other:?}");
        }
        assert!(read::<News>(&query, &good).is_err());
        for cut in 0..good.len() {
            assert!(read::<OptionSnap>(&query, &good[..cut]).is_err(), "{cut}");
        }
        for place in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[place] = if bad[place] == b'0' { b'1' } else { b'0' };
            let bad = String::from_utf8(bad).unwrap();
            assert!(read::<OptionSnap>(&query, &bad).is_err(), "{place}");
        }
        for bad in ["", "é", "+1", "zz", &format!("{good}00")] {
            assert!(read::<OptionSnap>(&query, bad).is_err(), "{bad}");
        }
    }
}
