//! How times of our own formats are read.

use mds_core::Bar;
use mds_formats::{Options, TimeFormat};

use crate::support::{daily, mapped, read, refusal, series};

const CUT: &str = "times are kept to the microsecond: what some have beyond it is left out";

#[test]
fn a_leap_second_is_invalid_and_leaves_the_second_before_it_alone() {
    let header = "ts,close_price\n";
    let rows = "2016-12-31T23:59:59Z,1\n2016-12-31T23:59:60Z,2\n2016-12-31 23:59:60.5+00:00,3\n\
                1960-01-01T00:60:00Z,4\n1960-06-01T16:00:59.600060600Z,5\n";
    let csv = read::<Bar>("x.csv", format!("{header}{rows}"), &options("1m"));
    assert_eq!(csv.lines(), [2, 6]);
    let faults = [
        (3, "ts", "malformed"),
        (4, "ts", "malformed"),
        (5, "ts", "malformed"),
    ];
    assert_eq!(csv.faults(), faults);
    assert_eq!(
        csv.invalid()[0].rule,
        "the second must be 00 to 59: a leap second has no time of its own"
    );

    let line = |ts: &str| format!("{{\"ts\":\"{ts}\",\"close_price\":1}}\n");
    let text = line("2016-12-31T23:59:59Z") + &line("2016-12-31T23:59:60Z");
    let json = read::<Bar>("x", text, &options("1m"));
    assert_eq!(
        (json.lines(), json.faults()),
        (vec![1], vec![(2, "ts", "malformed")])
    );

    let pattern = mapped(&["ts=1", "close_price=2"], "%d.%m.%Y %H%M%S", options("1m"));
    let text = "31.12.2016 235960,1\n31.12.1960 006059,2\n";
    let read = read::<Bar>(
        "x.csv",
        text,
        &Options {
            tz: "UTC".parse().ok(),
            ..pattern
        },
    );
    assert_eq!(read.lines(), Vec::<u64>::new());
    assert_eq!(
        read.faults(),
        [(1, "ts", "malformed"), (2, "ts", "malformed")]
    );
}

fn options(timeframe: &str) -> Options {
    Options {
        vendor: Some("acme".into()),
        ..series("spy", timeframe)
    }
}

#[test]
fn a_date_alone_is_the_day_where_the_row_says_that_its_bar_is_one() {
    let text = "ts,timeframe,close_price\n2024-01-02,1d,1\n2024-01-02,1w,1\n2024-01-02,,1\n";
    let own = Options {
        timeframe: None,
        ..daily()
    };
    let times = |options: &Options| {
        let read = read::<Bar>("x.csv", text, options);
        let times = read.records().into_iter().map(|b| b.ts.to_string());
        (times.collect::<Vec<_>>(), read.faults().len())
    };
    let midnight = "2024-01-02T00:00:00Z".to_owned();
    assert_eq!(times(&own), (vec![midnight.clone(); 2], 1));
    let zoned = Options {
        tz: Some("America/New_York".parse().unwrap()),
        ..own.clone()
    };
    assert_eq!(times(&zoned), (vec![midnight.clone(); 2], 1));
    let hourly = Options {
        timeframe: Some("1h".parse().unwrap()),
        ..zoned
    };
    let local = "2024-01-02T05:00:00Z".to_owned();
    assert_eq!(times(&hourly), (vec![midnight.clone(), midnight, local], 0));

    // The column of the span may as well follow after that of the time.
    let text = "ts,close_price,timeframe\n2024-01-02,1,1h\n";
    let error = refusal::<Bar>("x.csv", text, &own);
    assert!(error.contains("has no offset; pass --tz"), "{error}");
    let text = "ts,close_price,timeframe\n2024-01-02,1,1d\n";
    assert_eq!(read::<Bar>("x.csv", text, &own).counts(), (1, 0, 0));
}

#[test]
fn digits_beyond_the_microsecond_are_left_out_with_a_note() {
    let notes = |text: &str, options: &Options| {
        let read = read::<Bar>("x", text, options);
        assert_eq!(read.counts(), (2, 0, 0), "{text}");
        assert_eq!(
            read.records()[1].ts.to_string(),
            "2024-01-02T00:00:00.123456Z"
        );
        read.notes.iter().filter(|note| *note == CUT).count()
    };
    let minutes = options("1m");
    let json = |a: &str, b: &str| {
        format!("{{\"ts\":\"{a}\",\"close_price\":1}}\n{{\"ts\":\"{b}\",\"close_price\":1}}\n")
    };
    let csv = |a: &str, b: &str| format!("ts,close_price\n{a},1\n{b},1\n");
    let (cut, whole) = (
        "2024-01-02T00:00:00.123456789Z",
        "2024-01-02T00:00:00.123456000Z",
    );
    assert_eq!(notes(&json(cut, cut), &minutes), 1);
    assert_eq!(notes(&csv(cut, cut), &minutes), 1);
    assert_eq!(notes(&json(whole, whole), &minutes), 0);
    assert_eq!(notes(&csv(whole, whole), &minutes), 0);
    let nanos = mapped(&["ts=1", "close_price=2"], "epoch_ns", minutes.clone());
    assert_eq!(
        notes("1704153600000000000,1\n1704153600123456789,1\n", &nanos),
        1
    );
    assert_eq!(
        notes("1704153600000000000,1\n1704153600123456000,1\n", &nanos),
        0
    );
    let seconds = mapped(&["ts=1", "close_price=2"], "epoch_s", minutes);
    assert_eq!(notes("1704153600.0,1\n1704153600.1234561,1\n", &seconds), 1);
}

#[test]
fn a_time_that_is_written_otherwise_is_told_with_the_format_that_may_be_meant() {
    let rule = |format: &str, time: &str| {
        let options = mapped(&["ts=t", "close_price=c"], format, options("1m"));
        let read = read::<Bar>("x.csv", format!("t,c\n{time},1\n"), &options);
        read.invalid()[0].rule.clone()
    };
    let text = "must be a time, such as 2024-11-01T00:00:00Z";
    for (time, hint) in [
        ("1730419200", "--time-format epoch_s?"),
        ("1730419200.5", "--time-format epoch_s?"),
        ("1730419200000", "--time-format epoch_ms?"),
        ("1730419200000000", "--time-format epoch_us?"),
        ("1730419200000000000", "--time-format epoch_ns?"),
        ("11/01/2024", "another --time-format?"),
        ("20241101093000", "another --time-format?"),
    ] {
        assert_eq!(rule("", time), format!("{text} ({hint})"), "{time}");
    }
    let range = "a time must lie in the years 1900 to 2199";
    let millis = rule("epoch_s", "1730419200000");
    assert_eq!(millis, format!("{range} (--time-format epoch_ms?)"));
    assert_eq!(rule("epoch_s", "99999999999999"), range);
}

#[test]
fn a_pattern_that_reads_no_time_is_refused_at_once() {
    for pattern in [
        "%Q",
        "%Y-%m-%d %Q",
        "%Y-%m-%d %!",
        "%H:%M",
        "%Y-%m",
        "%Y-%m-%d %Z",
        "%",
    ] {
        assert!(pattern.parse::<TimeFormat>().is_err(), "{pattern}");
    }
    for pattern in [
        "%Y%m%d",
        "%Y-%m-%d %H:%M:%S%.f",
        "%d/%m/%y %I:%M %p",
        "%b %d, %Y",
        "%Y-%m-%dT%H:%M:%S%z",
        "%s",
        "%F %T",
        "%Y%m%d 100%%",
    ] {
        assert!(pattern.parse::<TimeFormat>().is_ok(), "{pattern}");
    }
}
