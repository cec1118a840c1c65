//! `csv` and `json` in our own names, and `csv` with `--map`.

use mds_core::{Bar, Fundamentals, News, OptionSnap};
use mds_formats::{OpenError, Options};
use proptest::prelude::*;

use crate::support::{format, mapped, read, sample, series, try_bytes};

#[test]
fn the_header_names_our_fields() {
    let read = sample::<Bar>("own/bars.csv", &Options::default());
    assert_eq!(read.format, "csv");
    assert_eq!(read.lines(), [2, 6]);
    assert_eq!(
        read.faults(),
        [
            (3, "close_price", "malformed"),
            (4, "line", "column_count"),
            (5, "symbol", "missing_key")
        ]
    );
    assert_eq!(read.records()[0].revision, 17);
    assert_eq!(read.records()[1].symbol.as_str(), "XYZ");
    assert!(read.notes.contains(&"columns left out: note".to_owned()));
}

#[test]
fn a_header_alone_holds_no_rows() {
    let read = read::<Bar>(
        "x",
        "vendor,symbol,timeframe,ts,close_price\r\n",
        &Options::default(),
    );
    assert_eq!((read.format, read.counts()), ("csv", (0, 0, 0)));
}

#[test]
fn quoted_fields_may_hold_line_ends_and_a_stray_quote_costs_one_line() {
    let text = "vendor,published_at,title\n\
                v,2024-01-01T00:00:00Z,\"two\nlines, \"\"one\"\" title\"\n\
                v,2024-01-02T00:00:00Z,\"never closed\n\
                v,2024-01-03T00:00:00Z,plain\n\
                v,2024-01-04T00:00:00Z,a 5\" disk\n\
                v,2024-01-05T00:00:00Z,\"closed\"\n";
    let read = read::<News>("x", text, &Options::default());
    assert_eq!(read.faults(), [(4, "line", "quoting")]);
    assert_eq!(read.lines(), [2, 5, 6, 7]);
    let titles: Vec<_> = read
        .records()
        .iter()
        .filter_map(|n| n.title.as_deref())
        .collect();
    assert_eq!(
        titles,
        ["two\nlines, \"one\" title", "plain", "a 5\" disk", "closed"]
    );
}

#[test]
fn columns_are_mapped_by_name() {
    let text = "symbol,date,close,high,low,open,volume\nVOO,2017-01-03,206.74,207.33,205.56,206.68,4750181\n";
    let map = [
        "ts=date",
        "open_price=open",
        "high_price=high",
        "low_price=low",
        "close_price=Close",
    ];
    let options = mapped(
        &map,
        "",
        Options {
            symbol: None,
            ..series("", "1d")
        },
    );
    let read = read::<Bar>("x.csv", text, &options);
    let bar = read.records()[0];
    assert_eq!(
        (bar.symbol.as_str(), bar.ts.to_string().as_str()),
        ("VOO", "2017-01-03T00:00:00Z")
    );
    assert_eq!(
        (bar.close_price, bar.volume),
        (Some(206.74), Some(4_750_181.0))
    );
}

#[test]
fn columns_without_a_header_are_mapped_by_number_and_times_need_a_zone() {
    let text = "20180101 170000;112.645;112.65;112.6;112.61;0\n20180701 170100;112.6;112.6;112.6;112.6;0\n";
    let map = [
        "ts=1",
        "open_price=2",
        "high_price=3",
        "low_price=4",
        "close_price=5",
        "volume=6",
    ];
    let options = mapped(&map, "%Y%m%d %H%M%S", series("usdjpy", "1m"));
    let error = try_bytes::<Bar>("x.csv", text, &options).unwrap_err();
    assert!(matches!(error, OpenError::NoTimeZone { .. }), "{error}");

    let options = Options {
        tz: Some("America/New_York".parse().unwrap()),
        ..options
    };
    let read = read::<Bar>("x.csv", text, &options);
    let times: Vec<_> = read.records().iter().map(|b| b.ts.to_string()).collect();
    assert_eq!(times, ["2018-01-01T22:00:00Z", "2018-07-01T21:01:00Z"]);
    assert_eq!(read.lines(), [1, 2]);
}

#[test]
fn a_time_that_the_clocks_skip_is_invalid_and_a_repeated_one_is_the_first() {
    let text = "2024-03-10 02:30:00,1\n2024-11-03 01:30:00,1\n";
    let options = Options {
        tz: Some("America/New_York".parse().unwrap()),
        ..mapped(&["ts=1", "close_price=2"], "", series("x", "1m"))
    };
    let read = read::<Bar>("x.csv", text, &options);
    assert_eq!(read.faults(), [(1, "ts", "no_such_time")]);
    assert_eq!(read.records()[0].ts.to_string(), "2024-11-03T05:30:00Z");
}

#[test]
fn epochs_are_read_in_every_unit() {
    for (unit, text) in [
        ("epoch_s", "1600498800"),
        ("epoch_s", "1600498800.0"),
        ("epoch_ms", "1600498800000"),
        ("epoch_us", "1600498800000000"),
        ("epoch_ns", "1600498800000000999"),
    ] {
        let options = mapped(&["ts=1", "close_price=2"], unit, series("x", "1h"));
        let read = read::<Bar>("x.csv", format!("{text},1\n"), &options);
        assert_eq!(
            read.records()[0].ts.to_string(),
            "2020-09-19T07:00:00Z",
            "{unit}"
        );
    }
    let options = mapped(&["ts=1", "close_price=2"], "epoch_s", series("x", "1h"));
    let read = read::<Bar>("x.csv", "1600498800000,1\n9e99,1\nsoon,1\n", &options);
    let codes: Vec<_> = read.invalid().iter().map(|i| i.code).collect();
    assert_eq!(
        codes,
        ["time_out_of_range", "time_out_of_range", "malformed"]
    );
}

#[test]
fn date_and_time_may_stand_in_two_columns() {
    let text = "day\tclock\tclose_price\n2024.01.02\t17:05\t1.5\n";
    let options = Options {
        tz: Some("UTC".parse().unwrap()),
        ..mapped(&["ts=day+clock"], "%Y.%m.%d %H:%M", series("x", "1m"))
    };
    let read = read::<Bar>("x.csv", text, &options);
    assert_eq!(read.records()[0].ts.to_string(), "2024-01-02T17:05:00Z");
}

#[test]
fn a_wrong_map_is_refused_before_the_first_row() {
    let text = "day,close\n2024-01-02,1.5\n";
    let refused = |map: &[&str]| {
        let options = mapped(map, "", series("x", "1d"));
        try_bytes::<Bar>("x.csv", text, &options)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(&["ts=date"]),
        "x.csv: --map date: the header has no such column; it reads \"day,close\""
    );
    assert!(
        refused(&["closing=close"]).contains("bars have no such field, only tenant_id, vendor")
    );
    assert_eq!(
        refused(&["close_price=close"]),
        "x.csv: csv needs the ts: no column is mapped to it; pass --map ts=COLUMN"
    );
}

#[test]
fn news_without_a_time_takes_the_one_given() {
    let text = "S No.,Title\n1,\"Mid-cap funds, say experts\"\n";
    let options = mapped(&["id=S No.", "title=Title"], "", Options::default());
    let error = try_bytes::<News>("x.csv", text, &options).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Missing {
                field: "published_at",
                ..
            }
        ),
        "{error}"
    );
    let options = Options {
        published_at: Some("2020-01-01T00:00:00Z".parse().unwrap()),
        ..options
    };
    let read = read::<News>("x.csv", text, &options);
    assert_eq!(
        read.records()[0].title.as_deref(),
        Some("Mid-cap funds, say experts")
    );
}

#[test]
fn options_and_fundamentals_have_their_headers_too() {
    let text = "vendor,symbol,expiry,option_type,strike,ts,iv\nv,spxw,20241220,Call,5000,2024-11-01T20:00:00Z,0.2\n";
    let read_options = read::<OptionSnap>("x", text, &Options::default());
    assert_eq!(read_options.records()[0].expiry.to_string(), "2024-12-20");
    let text = "vendor,symbol,asof,period,eps\nv,ibm,2023-12-31,fy,9.1\n";
    let read_figures = read::<Fundamentals>("x", text, &Options::default());
    assert_eq!(read_figures.records()[0].period, "FY");
    assert_eq!(
        read_figures.records()[0].asof.to_string(),
        "2023-12-31T00:00:00Z"
    );
}

#[test]
fn json_tells_the_line_where_an_object_starts() {
    let text = "[\n  {\"vendor\":\"v\",\"symbol\":\"a\",\"timeframe\":\"1m\",\n   \"ts\":\"2024-11-01T00:00:00Z\"},\n\n  {\"vendor\":\"v\", \"ts\":1},\n  7, {\"vendor\":\"v\",\"symbol\":\"b\",\"timeframe\":\"1m\",\"ts\":\"2024-11-01T00:00:00Z\"}\n]\n";
    let whole = read::<Bar>("x.json", text, &Options::default());
    assert_eq!(whole.format, "json");
    assert_eq!(whole.lines(), [2, 6]);
    assert_eq!(
        whole.faults(),
        [(5, "ts", "malformed"), (6, "line", "malformed")]
    );

    let cut = read::<Bar>("x.json", &text.as_bytes()[..100], &Options::default());
    assert_eq!(cut.lines(), [2]);
    assert_eq!(
        cut.error.map(|e| e.to_string()).as_deref(),
        Some("x.json, line 5: the JSON document cannot be read on")
    );
}

proptest! {
    /// What the `csv` crate finds in well-formed text is what is found here.
    #[test]
    fn fields_are_those_of_the_csv_crate(
        rows in proptest::collection::vec(proptest::collection::vec("[a-c\",;\n ]{0,6}", 3), 1..8)
    ) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["id", "title", "url"]).unwrap();
        for (i, row) in rows.iter().enumerate() {
            writer.write_record([&format!("{i}"), &row[1], &row[2]]).unwrap();
        }
        let options = Options {
            vendor: Some("v".into()),
            published_at: Some("2020-01-01T00:00:00Z".parse().unwrap()),
            ..format("csv")
        };
        let read = read::<News>("x", writer.into_inner().unwrap(), &options);
        prop_assert_eq!(read.faults(), []);
        for (news, row) in read.records().iter().zip(&rows) {
            let expect = |text: &String| Some(text.clone()).filter(|t| !t.trim().is_empty());
            prop_assert_eq!(&news.title, &expect(&row[1]));
            prop_assert_eq!(&news.url, &expect(&row[2]));
        }
        prop_assert_eq!(read.records().len(), rows.len());
    }
}
