//! The rows and the header of delimited files: what is no row of the file is told, never taken.

use mds_core::Bar;
use mds_formats::Options;

use crate::support::{daily, format, mapped, read, refusal, series};

const NUMBERS: [&str; 4] = ["ts=1", "open_price=2", "high_price=3", "low_price=4"];

fn by_number(close: &str) -> Options {
    let map = [&NUMBERS[..], &[close]].concat();
    mapped(&map, "%Y%m%d", daily())
}

#[test]
fn without_a_header_rows_have_as_many_fields_as_the_first_line() {
    let text = "20240101,1,2,0.5,1.5\n20240103,1,2,0.5\n20240104,1,2,0.5,1.5,99\n";
    let read = read::<Bar>("x.csv", text, &by_number("close_price=5"));
    assert_eq!(read.lines(), [1]);
    assert_eq!(
        read.faults(),
        [(2, "line", "column_count"), (3, "line", "column_count")]
    );
}

#[test]
fn a_column_number_beyond_the_first_line_is_refused() {
    let text = "20240101,1,2,0.5,1.5\n20240103,1,2,0.5,1.5\n";
    assert_eq!(
        refusal::<Bar>("x.csv", text, &by_number("close_price=55")),
        "x.csv: --map 55: the first line has 5 columns"
    );
    let error = refusal::<Bar>("x.csv", text, &by_number("close_price=5+6"));
    assert_eq!(error, "x.csv: --map 5+6: the first line has 5 columns");
}

#[test]
fn a_first_row_that_cannot_be_split_is_one_bad_row() {
    let text = "20240101,1,2,0.5,\"x\"y\n20240103,1,2,0.5,1.5\n20240104,1\n";
    let read = read::<Bar>("x.csv", text, &by_number("close_price=5"));
    assert_eq!(read.lines(), [2]);
    assert_eq!(
        read.faults(),
        [(1, "line", "quoting"), (3, "line", "column_count")]
    );
}

#[test]
fn a_header_that_is_not_utf8_is_refused() {
    let text = b"\nts,close_price,Prix \xE9\n2024-01-02,1,2\n2024-01-03,1,2\n";
    let refused = "the header (line 2) is not UTF-8; convert it: iconv -f latin1 -t utf8";
    for options in [
        daily(),
        Options {
            format: format("csv").format,
            ..daily()
        },
    ] {
        let error = refusal::<Bar>("x.csv", text, &options);
        assert_eq!(error, format!("x.csv: {refused}"));
    }
    let text = b"Date,Open,High,Low,Close,Adj Close,Volume,\xE9\n2024-01-02,1,2,1,2,2,5,0\n";
    let error = refusal::<Bar>("SPY.csv", text, &series("spy", "1d"));
    assert!(
        error.starts_with("SPY.csv: the header (line 1) is not UTF-8"),
        "{error}"
    );
}

#[test]
fn lines_that_end_in_cr_are_refused() {
    let text = "ts,close_price\r2024-01-02,1\r2024-01-03,2\r";
    let objects = "{\"ts\":\"2024-01-02T00:00:00Z\"}\r{\"ts\":\"2024-01-03T00:00:00Z\"}\r";
    let refused = "x: lines end in CR; convert: tr '\\r' '\\n'";
    let csv = Options {
        format: format("csv").format,
        ..daily()
    };
    assert_eq!(refusal::<Bar>("x", text, &csv), refused);
    assert_eq!(refusal::<Bar>("x", text, &daily()), refused);
    assert_eq!(refusal::<Bar>("x", objects, &daily()), refused);

    // In a JSON array it is a blank like any other, and at the end of a line no line of its own.
    let array = "[\r{\"ts\":\"2024-01-02T00:00:00Z\",\"close_price\":1},\r{\"ts\":\"2024-01-03T00:00:00Z\",\"close_price\":1}\r]\r";
    assert_eq!(read::<Bar>("x", array, &daily()).counts(), (2, 0, 0));
    let text = "ts,close_price\r\r\n2024-01-02,1\r\r\n";
    assert_eq!(read::<Bar>("x", text, &daily()).counts(), (1, 0, 0));
    assert_eq!(
        read::<Bar>("x", "ts,close_price\r", &csv).counts(),
        (0, 0, 0)
    );
}

#[test]
fn lines_before_the_header_are_named() {
    for (text, line) in [
        (
            "sep=;\nts;close_price\n2024-01-02;1\n",
            "line 1 (\"sep=;\")",
        ),
        (
            "\n# made by hand\nts,close_price\n2024-01-02,1\n",
            "line 2 (\"# made by hand\")",
        ),
    ] {
        let refused = format!("{line} stands before the header; remove it");
        let error = refusal::<Bar>("x.csv", text, &daily());
        assert!(
            error.starts_with(&format!("x.csv is not recognised: {refused}")),
            "{error}"
        );
        let map = mapped(&["ts=ts", "close_price=close_price"], "", daily());
        assert_eq!(
            refusal::<Bar>("x.csv", text, &map),
            format!("x.csv: {refused}")
        );
    }
    // A header may start with that sign, too.
    let text = "#day,close_price\n2024-01-02,1\n";
    let read = read::<Bar>("x.csv", text, &mapped(&["ts=#day"], "", daily()));
    assert_eq!(read.counts(), (1, 0, 0));
}

#[test]
fn our_own_names_are_known_in_any_case_and_between_columns_without_a_name() {
    let text = "TS,Close_Price,Revision\n2024-01-02,1,7\n";
    let upper = read::<Bar>("x.csv", text, &daily());
    assert_eq!((upper.format, upper.counts()), ("csv", (1, 0, 0)));
    assert_eq!(upper.records()[0].close_price, Some(1.0));
    assert_eq!(upper.records()[0].revision, 7);

    let text = "ts,,close_price,,volume\n2024-01-02,a,1,b,5\n";
    let blank = read::<Bar>("x.csv", text, &daily());
    assert_eq!((blank.format, blank.counts()), ("csv", (1, 0, 0)));
    assert_eq!(blank.records()[0].volume, Some(5.0));
    let note = "columns left out: column 2 (no name), column 4 (no name)";
    assert!(blank.notes.iter().any(|n| n == note), "{:?}", blank.notes);
}

#[test]
fn an_empty_file_leaves_no_columns_out() {
    let read = read::<Bar>(
        "x.csv",
        "",
        &Options {
            format: format("csv").format,
            ..daily()
        },
    );
    assert_eq!(read.counts(), (0, 0, 0));
    assert_eq!(read.notes, ["format csv: as --format says"]);
}

#[test]
fn a_column_that_is_used_may_not_stand_twice() {
    let text = "ts,close_price,volume,note,note,Close_Price\n2024-01-02,1,5,a,b,2\n";
    assert_eq!(
        refusal::<Bar>("x.csv", text, &daily()),
        "x.csv: the column \"Close_Price\" stands twice in the header; rename one of them; it reads \
         \"ts,close_price,volume,note,note,Close_Price\""
    );
    let text = "day,Close,Close\n2024-01-02,1,2\n";
    let options = mapped(&["ts=day", "close_price=Close"], "", daily());
    let error = refusal::<Bar>("x.csv", text, &options);
    assert!(
        error.starts_with("x.csv: the column \"Close\" stands twice in the header"),
        "{error}"
    );
    // Columns that are not used may; so may one that the map leaves no doubt about.
    let text = "ts,close_price,volume,note,note,CLOSE\n2024-01-02,1,5,a,b,2\n";
    let csv = Options {
        format: format("csv").format,
        ..daily()
    };
    assert_eq!(read::<Bar>("x.csv", text, &csv).counts(), (1, 0, 0));
    let text = "ts,Close,CLOSE\n2024-01-02,1,2\n";
    let read = read::<Bar>("x.csv", text, &mapped(&["close_price=CLOSE"], "", daily()));
    assert_eq!(read.records()[0].close_price, Some(2.0));
}

#[test]
fn a_bad_value_is_told_as_it_stands_in_the_file() {
    let text = "ts,close_price,volume\n\
                2024-01-02,\"100,5\",1\n\
                2024-01-03,1e999,1\n\
                2024-01-04,nan,1\n\
                1776-07-04,1,1\n\
                2024-01-05,\"1,000,5\",1\n";
    let read = read::<Bar>("x.csv", text, &daily());
    let told: Vec<_> = read
        .invalid()
        .iter()
        .map(|row| (row.code, row.value.as_str(), row.rule.as_ref()))
        .collect();
    assert_eq!(
        told,
        [
            ("malformed", "100,5", "must be a number (a decimal comma?)"),
            ("not_finite", "1e999", "a number must be finite"),
            ("not_finite", "nan", "a number must be finite"),
            (
                "time_out_of_range",
                "1776-07-04",
                "a time must lie in the years 1900 to 2199"
            ),
            ("malformed", "1,000,5", "must be a number"),
        ]
    );
}

#[test]
fn a_bad_value_of_a_json_line_is_told_as_it_stands_too() {
    let text = "{\"ts\":\"2024-01-02T00:00:00Z\",\"close_price\":1e999}\n\
                {\"ts\":\"1776-07-04T00:00:00Z\",\"close_price\":1}\n\
                {\"ts\":\"2024-01-02T00:00:00Z\",\"close_price\":1\n";
    let read = read::<Bar>("x", text, &daily());
    let told: Vec<_> = read
        .invalid()
        .iter()
        .map(|row| (row.code, row.value.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("not_finite", "1e999"),
            ("time_out_of_range", "1776-07-04T00:00:00Z"),
            ("malformed", ""),
        ]
    );
    // The line is told beside; another number of a line would only confuse.
    let rule = read.invalid()[2].rule.as_ref();
    assert_eq!(rule, "EOF while parsing an object (column 44)");
}

#[test]
fn a_line_that_is_not_utf8_keeps_its_bytes() {
    let text = b"ts,close_price\n2024-01-02,\xE9\xFF1\n2024-01-03,2\n";
    let read = read::<Bar>("x.csv", text, &daily());
    assert_eq!(read.faults(), [(2, "line", "not_utf8")]);
    assert_eq!(read.invalid()[0].raw, b"2024-01-02,\xE9\xFF1");
    assert_eq!(read.lines(), [3]);
}

#[test]
fn a_long_bad_line_is_cut_between_characters() {
    let text = format!("ts,close_price\n2024-01-02,{}\n", "é".repeat(40_000));
    let read = read::<Bar>("x.csv", text, &daily());
    let bad = read.invalid()[0];
    assert!(bad.truncated);
    // 64 KiB would end in the middle of the last one.
    assert_eq!(bad.raw.len(), 65_535);
    assert!(String::from_utf8(bad.raw.clone()).is_ok());
}
