//! `sec`.

use mds_core::Fundamentals;
use mds_formats::Options;

use crate::support::{Read, sample};

#[test]
fn facts_become_records_of_one_period_as_known_on_one_day() {
    let read: Read<Fundamentals> = sample("sec/CIK0001234567.json", &Options::default());
    let shown: Vec<String> = read
        .records()
        .iter()
        .map(|r| {
            let day = |micros| mds_core::Timestamp::from_micros(micros).date();
            format!(
                "{} {} filed {}: {:?} {:?} {:?} {:?}",
                r.asof.date(),
                r.period,
                day(r.revision),
                r.total_assets,
                r.total_liabilities,
                r.net_income,
                r.eps
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "2022-12-31 FY filed 2023-02-10: None None Some(-50.0) Some(-0.5)",
            "2022-12-31 instant filed 2023-02-10: Some(1000.0) Some(400.0) None None",
            // The later filing repeats the assets only; the liabilities stay known.
            "2022-12-31 instant filed 2024-02-09: Some(1001.0) Some(400.0) None None",
            "2023-03-31 Q1 filed 2023-05-01: None None Some(7.0) None",
            // The first quarter again, in the filing of the second.
            "2023-03-31 Q1 filed 2023-08-01: None None Some(7.5) None",
            "2023-06-30 H1 filed 2023-08-01: None None Some(15.0) None",
            "2023-06-30 Q2 filed 2023-08-01: None None Some(8.0) None",
            "2023-09-30 9M filed 2023-11-01: None None Some(24.0) None",
            // Net income wins over the profit that includes minority shares.
            "2023-12-31 FY filed 2024-02-09: None None Some(35.0) None",
            "2023-12-31 Q4 filed 2024-02-09: None None Some(11.0) None",
            "2023-12-31 instant filed 2024-02-09: Some(1200.0) None None None",
        ]
    );
    assert_eq!(read.records()[0].symbol.as_str(), "CIK0001234567");
    let mut skipped = read.skipped();
    skipped.sort_unstable();
    assert_eq!(
        skipped,
        [
            (5, "unmapped_concept"),
            (13, "other_unit"),
            (28, "other_period"),
            (31, "other_concept")
        ]
    );
    assert_eq!(read.faults(), [(17, "total_liabilities", "malformed")]);
}

#[test]
fn foreign_filers_have_another_taxonomy_and_currency() {
    let options = Options {
        symbol: Some("lpa".into()),
        ..Options::default()
    };
    let read: Read<Fundamentals> = sample("sec/ifrs.json", &options);
    let records = read.records();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].symbol.as_str(), "LPA");
    assert_eq!(
        (records[0].net_income, records[0].eps),
        (Some(3.0), Some(0.25))
    );
    assert_eq!(records[1].total_assets, Some(9.0));
    assert_eq!(read.skipped(), [(1, "other_unit")]);
    assert!(read.notes.contains(&"LPA: values in COP".to_owned()));
}

#[test]
fn a_document_that_is_cut_off_is_an_error_with_its_line() {
    let text = include_str!("../../testdata/sec/CIK0001234567.json");
    let read = crate::support::read::<Fundamentals>("x.json", &text[..3_000], &Options::default());
    assert_eq!(read.counts(), (0, 0, 0));
    let error = read.error.unwrap().to_string();
    assert!(error.starts_with("x.json, line "), "{error}");
}
