//! What is listed is documented.

use mds_formats::{Format, formats};

#[test]
fn every_format_has_its_row_and_its_example_names_it_or_a_file() {
    let page = include_str!("../../../../docs/formats.md");
    for format in formats() {
        assert!(
            page.contains(&format!("| `{}` |", format.name)),
            "{}",
            format.name
        );
        assert!(format.example.starts_with("mds ingest "), "{}", format.name);
        assert!(!format.about.is_empty() && format.kinds().count() > 0);
    }
    let error = "bitfinnex".parse::<&'static Format>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"bitfinnex\" is not a format; the formats are ndjson, json, csv, binance, bitfinex, sec, stooq, yahoo"
    );
}
