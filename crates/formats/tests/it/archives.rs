//! The entries of an archive after the first, and what is left out of it.

use mds_core::{Bar, Fundamentals};
use mds_formats::Options;

use crate::support::{Read, daily, format, mapped, read, refusal, told, zip_of};

const HEAD: &str = "ts,close_price\n";

fn entries(entries: &[(&str, &str)], options: &Options) -> Read<Bar> {
    let bytes: Vec<(&str, &[u8])> = entries.iter().map(|(n, t)| (*n, t.as_bytes())).collect();
    read::<Bar>("x.zip", zip_of(&bytes), options)
}

const SEPARATELY: &str = "nothing of it was taken: unpack the archive and ingest it separately";

#[test]
fn an_entry_without_the_header_ends_the_reading() {
    let first = format!("{HEAD}2024-01-02,1\n");
    let read = entries(
        &[("a.csv", &first), ("b.csv", "2024-01-03,2\n2024-01-04,3\n")],
        &daily(),
    );
    assert_eq!(read.counts(), (1, 0, 0));
    assert_eq!(
        told(&read),
        format!(
            "x.zip!b.csv: its first line is \"2024-01-03,2\", not \"ts,close_price\", the header of \
             the entry before it; {SEPARATELY}"
        )
    );
}

#[test]
fn an_entry_with_another_header_ends_the_reading() {
    let first = format!("{HEAD}2024-01-02,1\n");
    let read = entries(
        &[
            ("a.csv", &first),
            ("b.csv", "ts,close\n2024-01-03,2\n"),
            ("c.csv", &first),
        ],
        &daily(),
    );
    assert_eq!(read.counts(), (1, 0, 0));
    assert!(told(&read).starts_with("x.zip!b.csv: its first line is \"ts,close\""));

    let map = mapped(&["ts=Day", "close_price=Close"], "", daily());
    let read = entries(
        &[
            ("a.csv", "Day,Close\n2024-01-02,1\n"),
            ("b.csv", "Day,Close,Close\n2024-01-03,1,2\n"),
        ],
        &map,
    );
    assert_eq!(read.counts(), (1, 0, 0));
    assert!(told(&read).starts_with("x.zip!b.csv: its first line is \"Day,Close,Close\""));
}

#[test]
fn an_entry_of_another_format_ends_the_reading() {
    let first = format!("{HEAD}2024-01-02,1\n");
    let object = "{\"ts\":\"2024-01-03T00:00:00Z\",\"close_price\":1}\n";
    let csv_first = entries(&[("a.csv", &first), ("b.ndjson", object)], &daily());
    assert_eq!(csv_first.counts(), (1, 0, 0));
    assert!(told(&csv_first).starts_with("x.zip!b.ndjson: its first line is"));

    let ndjson_first = entries(&[("a.ndjson", object), ("b.csv", &first)], &daily());
    assert_eq!(ndjson_first.counts(), (1, 0, 0));
    assert_eq!(
        told(&ndjson_first),
        format!(
            "x.zip!b.csv: it is not in format ndjson as the entry before it: it starts with \
             \"ts,close_price\"; {SEPARATELY}"
        )
    );

    // Numbers instead of names: as many columns as the first entry, or none is taken.
    let numbers = mapped(&["ts=1", "close_price=2"], "", daily());
    let read = entries(
        &[("a.csv", "2024-01-02,1\n"), ("b.csv", "2024-01-03,1,2\n")],
        &numbers,
    );
    assert_eq!(read.counts(), (1, 0, 0));
    assert!(told(&read).starts_with("x.zip!b.csv: it is not in format csv"));
}

#[test]
fn entries_with_the_same_header_are_read_on() {
    let part = |day| format!("{HEAD}2024-01-0{day},1\n");
    let read = entries(
        &[("a.csv", &part(2)), ("b.csv", ""), ("c.csv", &part(3))],
        &daily(),
    );
    assert_eq!((read.counts(), told(&read)), ((2, 0, 0), String::new()));
    assert_eq!(
        read.notes
            .iter()
            .filter(|n| n.starts_with("format"))
            .count(),
        1
    );

    // An empty first entry says nothing about the others.
    let read = entries(&[("a.csv", "\n"), ("b.csv", &part(2))], &daily());
    assert_eq!((read.counts(), told(&read)), ((1, 0, 0), String::new()));
}

#[test]
fn a_company_without_facts_does_not_end_the_reading() {
    let whole = include_str!("../../testdata/sec/CIK0001234567.json");
    let none = r#"{"cik":7,"entityName":"None","facts":{}}"#;
    let alone = read::<Fundamentals>("a.json", whole, &Options::default());
    let bytes = zip_of(&[
        ("a.json", whole.as_bytes()),
        ("b.json", none.as_bytes()),
        ("c.json", whole.as_bytes()),
    ]);
    let read = read::<Fundamentals>("x.zip", bytes, &Options::default());
    assert!(alone.counts().0 > 0);
    assert_eq!(read.counts().0, 2 * alone.counts().0);
    assert!(read.error.is_none());
}

fn klines(from: u64) -> String {
    let line = |n: u64| {
        let open = 1_730_419_200_000 + (from + n) * 60_000;
        format!("{open},2,3,1,2.5,7,{},9,4,3,5,0\n", open + 59_999)
    };
    (0..3).map(line).collect()
}

#[test]
fn the_span_of_a_later_entry_is_compared_with_its_rows() {
    let (a, b, c) = (klines(0), klines(5), klines(9));
    let read = entries(
        &[
            ("BTCUSDT-1m-2024-11-01.csv", &a),
            ("ETHUSDT-1m-2024-11-01.csv", &b),
            ("LTCUSDT-5m-2024-11-01.csv", &c),
        ],
        &Options::default(),
    );
    assert_eq!((read.format, read.counts()), ("binance", (6, 0, 0)));
    assert_eq!(read.records()[3].symbol.as_str(), "ETHUSDT");
    assert_eq!(
        told(&read),
        "x.zip!LTCUSDT-5m-2024-11-01.csv: the entry cannot be read, and nothing of it was taken; \
         unpack the archive and ingest it separately: LTCUSDT-5m-2024-11-01.csv: --timeframe 5m: \
         open and close times of the rows are 1m apart"
    );
}

#[test]
fn what_is_no_data_by_its_name_is_left_out_with_its_whole_name() {
    let data = format!("{HEAD}2024-01-02,1\n");
    let others = [
        "docs/README.txt",
        "old.zip",
        "prices.xlsx",
        "prices.parquet",
        "chart.png",
        "scan.JPG",
        "notes.docx",
        "app.db",
        "app.sqlite",
        "all.7z",
        "all.tar.gz",
        "LICENSE",
    ];
    let mut parts: Vec<(&str, &str)> = others.iter().map(|name| (*name, "x")).collect();
    parts.insert(3, ("a.csv", &data));
    let read = entries(&parts, &daily());
    assert_eq!((read.counts(), told(&read)), ((1, 0, 0), String::new()));
    for name in others {
        let note = format!("left out {name}: no data by its name, beside the data of the archive");
        assert!(read.notes.contains(&note), "{name}: {:?}", read.notes);
    }
    // Without an entry that is data by its name, a text may be it.
    let read = entries(&[("a.txt", &data), ("b.pdf", "x")], &daily());
    assert_eq!((read.counts(), told(&read)), ((1, 0, 0), String::new()));
}

#[test]
fn archives_in_archives_and_spreadsheets_are_named() {
    let inner = zip_of(&[("a.csv", HEAD.as_bytes())]);
    assert_eq!(
        refusal::<Bar>("x.zip", zip_of(&[("a.zip", &inner)]), &daily()),
        "x.zip!a.zip is a zip archive within an archive; unpack it and pass the files in it"
    );
    let sheet = zip_of(&[
        ("[Content_Types].xml", b"<Types/>"),
        ("xl/workbook.xml", b"<x/>"),
    ]);
    for options in [daily(), format("csv")] {
        assert_eq!(
            refusal::<Bar>("x.xlsx", sheet.clone(), &options),
            "x.xlsx is an Office document (such as .xlsx); save its sheet as CSV first"
        );
    }
}
