//! Rank, validation and normal forms of the four kinds.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::time::Date;

fn bar(revision: i64, close: f64) -> Bar {
    Bar {
        vendor: "v".into(),
        symbol: "S".into(),
        close_price: Some(close),
        revision,
        ..Bar::default()
    }
}

#[test]
fn the_newer_revision_wins_whatever_its_values() {
    assert_eq!(bar(2, 1.0).rank_cmp(&bar(1, 9.0)), Ordering::Greater);
}

#[test]
fn a_settled_bar_outranks_a_newer_provisional_one() {
    let settled = bar(1, 1.0);
    let provisional = Bar {
        provisional: true,
        ..bar(2, 1.0)
    };
    assert_eq!(settled.rank_cmp(&provisional), Ordering::Greater);
}

#[test]
fn at_equal_revision_values_decide_and_absent_is_lowest() {
    let absent = Bar {
        close_price: None,
        ..bar(1, 0.0)
    };
    let negative = bar(1, -5.0);
    assert_eq!(negative.rank_cmp(&absent), Ordering::Greater);
    assert_eq!(bar(1, 2.0).rank_cmp(&negative), Ordering::Greater);
    assert_eq!(bar(1, 2.0).rank_cmp(&bar(1, 2.0)), Ordering::Equal);
}

#[test]
fn a_bar_that_was_not_over_at_its_revision_is_provisional() {
    let mut b = bar(0, 1.0);
    b.mark_provisional(Timestamp::from_micros(59_999_999));
    assert!(b.provisional);
    let mut b = bar(0, 1.0);
    b.mark_provisional(Timestamp::from_micros(60_000_000));
    assert!(!b.provisional);
}

#[test]
fn validation_names_field_value_and_rule() {
    type Spoil = fn(&mut Bar);
    let good = Bar {
        open_price: Some(2.0),
        high_price: Some(3.0),
        low_price: Some(1.0),
        volume: Some(0.5),
        ..bar(1, 2.5)
    };
    good.validate().unwrap();
    let spoils: [(&str, &str, Spoil); 10] = [
        ("vendor", "missing_key", |b| b.vendor = "".into()),
        ("symbol", "missing_key", |b| b.symbol = "".into()),
        ("symbol", "control_character", |b| {
            b.symbol = "S\u{1b}[31m".into();
        }),
        ("vendor", "control_character", |b| b.vendor = "v\0v".into()),
        ("high_price", "high_below_low", |b| b.high_price = Some(0.5)),
        ("open_price", "outside_range", |b| b.open_price = Some(3.1)),
        ("close_price", "outside_range", |b| {
            b.close_price = Some(0.9);
        }),
        ("volume", "negative", |b| b.volume = Some(-1.0)),
        ("close_price", "not_finite", |b| {
            b.close_price = Some(f64::NAN);
        }),
        ("ts", "time_out_of_range", |b| b.ts = Timestamp::MAX_VALID),
    ];
    for (field, code, spoil) in spoils {
        let mut bar = good.clone();
        spoil(&mut bar);
        let invalid = bar.validate().unwrap_err();
        assert_eq!((invalid.field, invalid.code), (field, code), "{invalid}");
    }
    // Rounding of a vendor's 32-bit floats is no error.
    Bar {
        close_price: Some(3.000_000_1),
        ..good.clone()
    }
    .validate()
    .unwrap();
    // Negative prices are legal: oil did it.
    Bar {
        low_price: Some(-37.63),
        ..good
    }
    .validate()
    .unwrap();
}

#[test]
fn options_and_news_have_rules_of_their_own() {
    let option = OptionSnap {
        vendor: "v".into(),
        symbol: "NDXP".into(),
        expiry: Date::parse("2022-12-16").unwrap(),
        strike: 1.0,
        ..OptionSnap::default()
    };
    option.validate().unwrap();
    let bad = OptionSnap {
        strike: 0.0,
        ..option
    };
    assert_eq!(bad.validate().unwrap_err().code, "strike_not_positive");
    let news = News {
        vendor: "v".into(),
        id: "1".into(),
        ..News::default()
    };
    news.validate().unwrap();
    let bad = News {
        sentiment_score: Some(1.1),
        ..news.clone()
    };
    assert_eq!(bad.validate().unwrap_err().code, "sentiment_out_of_range");
    let bad = News {
        sentiment_score: Some(f64::NAN),
        ..news
    };
    assert_eq!(bad.validate().unwrap_err().code, "sentiment_out_of_range");
}

#[test]
fn a_news_id_is_made_from_the_article_and_stays() {
    let mut news = News {
        vendor: "Benzinga".into(),
        published_at: Timestamp::parse("2022-02-22T20:33:00Z").unwrap(),
        url: Some("https://example.com/a".into()),
        ..News::default()
    };
    news.normalize();
    assert_eq!(news.id, "7b1a2598-a7dd-56b4-b637-d5f754aaada5");
}

#[test]
fn an_empty_text_of_news_is_absent() {
    // As `"url": ""` comes from a vendor; else all articles of a moment would have one id.
    let article = |title: &str| {
        let mut news = News {
            vendor: "v".into(),
            title: Some(title.to_owned()),
            url: Some(String::new()),
            ..News::default()
        };
        news.normalize();
        news
    };
    assert_eq!(article("Up").url, None);
    assert_eq!(article("").title, None);
    assert_ne!(article("Up").id, article("Down").id);
    assert_eq!(article("").id, "", "nothing to make one from");
}

#[test]
fn a_blank_symbol_of_news_is_none() {
    let mut news: News = serde_json::from_str(
        r#"{"vendor":"v","published_at":"2022-02-22T20:33:00Z","symbol":" ","title":"Up"}"#,
    )
    .unwrap();
    news.normalize();
    assert_eq!((news.symbol, news.symbols), (None, vec![]));
}

#[test]
fn unknown_json_fields_are_refused() {
    let err = serde_json::from_str::<Bar>(r#"{"vendor":"v","close":1.0}"#).unwrap_err();
    assert!(err.to_string().contains("unknown field `close`"), "{err}");
}

#[test]
fn columns_are_those_of_the_contract() {
    let names = |columns: &[Column], role| {
        let of_role = columns.iter().filter(|c| c.role == role).map(|c| c.name);
        of_role.collect::<Vec<_>>().join(" ")
    };
    for (columns, key, values) in [
        (
            Bar::COLUMNS,
            "tenant_id vendor symbol timeframe ts",
            "open_price high_price low_price close_price volume provisional",
        ),
        (
            OptionSnap::COLUMNS,
            "tenant_id vendor symbol expiry option_type strike ts",
            "iv delta gamma oi volume spot",
        ),
        (
            Fundamentals::COLUMNS,
            "tenant_id vendor symbol asof period",
            "total_assets total_liabilities net_income eps",
        ),
        (
            News::COLUMNS,
            "tenant_id vendor published_at id",
            "symbol symbols title url sentiment_score",
        ),
    ] {
        assert_eq!(names(columns, ColumnRole::Key), key);
        assert_eq!(names(columns, ColumnRole::Value), values);
    }
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |v| v.is_finite())
}

fn any_bar() -> impl Strategy<Value = Bar> {
    let price = || proptest::option::of(finite());
    (
        any::<i64>(),
        price(),
        price(),
        price(),
        price(),
        price(),
        any::<bool>(),
    )
        .prop_map(
            |(revision, open_price, high_price, low_price, close_price, volume, provisional)| Bar {
                vendor: "v".into(),
                symbol: "S".into(),
                open_price,
                high_price,
                low_price,
                close_price,
                volume,
                provisional,
                revision,
                ..Bar::default()
            },
        )
}

proptest! {
    #[test]
    fn rank_is_a_total_order(a in any_bar(), b in any_bar(), c in any_bar()) {
        prop_assert_eq!(a.rank_cmp(&b), b.rank_cmp(&a).reverse());
        if a.rank_cmp(&b).is_le() && b.rank_cmp(&c).is_le() {
            prop_assert!(a.rank_cmp(&c).is_le());
        }
        prop_assert_eq!(a.rank_cmp(&a), Ordering::Equal);
    }

    #[test]
    fn json_reads_back_equal(bar in any_bar()) {
        let text = serde_json::to_string(&bar).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bar>(&text).unwrap(), bar);
    }

    #[test]
    fn text_columns_read_back_equal(bar in any_bar()) {
        let mut back = Bar { revision: bar.revision, ..Bar::default() };
        for column in 0..Bar::COLUMNS.len() {
            back.set(column, &bar.value(column).to_string()).unwrap();
        }
        prop_assert_eq!(back, bar);
    }
}

/// What a queue on the disk gives back is equal to the bit, and no cut or longer text is taken for it.
fn goes_through_bytes<R: Record>(record: R) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.extend_from_slice(b"rest");
    let mut rest = bytes.as_slice();
    assert_eq!(R::decode(&mut rest), Some(record));
    assert_eq!(rest, b"rest");
    for cut in 0..bytes.len() - 4 {
        assert_eq!(R::decode(&mut &bytes[..cut]), None, "{cut}");
    }
}

#[test]
fn records_go_through_bytes() {
    goes_through_bytes(Bar::default());
    goes_through_bytes(Bar {
        tenant_id: TenantId::from_u128(7),
        timeframe: "5m".parse().unwrap(),
        ts: Timestamp::from_micros(-1),
        open_price: Some(5e-324),
        high_price: Some(f64::MAX),
        volume: Some(0.1),
        provisional: true,
        ..bar(i64::MIN, -4.5)
    });
    goes_through_bytes(OptionSnap {
        expiry: Date::from_days(-400),
        option_type: OptionType::Put,
        strike: 1.5,
        gamma: Some(1.0),
        ..OptionSnap::default()
    });
    goes_through_bytes(Fundamentals {
        period: "FY".into(),
        eps: Some(-0.1),
        ..Fundamentals::default()
    });
    goes_through_bytes(News {
        id: "x".into(),
        symbol: Some("A".into()),
        symbols: vec!["A".into(), "B".into()],
        title: Some("Up, \"and\" away …".repeat(100)),
        url: Some(String::new()),
        ..News::default()
    });
}
