//! Wrong words, and input that cannot be read: one clear error, and the right code.

use std::fs;

use mds_core::Bar;

use super::{HEADER, bars, gzip};
use crate::data::count;
use crate::run::{Outcome, Place, skip};

fn ingest(place: &Place, args: &[&str]) -> Outcome {
    place.run(&[&["ingest", "bars"][..], args].concat())
}

#[test]
fn a_truncated_gzip_file_gives_the_rows_before_the_damage() {
    let place = Place::new();
    // Numbers without a pattern, so that a part of the packed file holds a part of the rows.
    let mixed = (0_u64..20_000)
        .map(|n| {
            let ts = super::minute(n);
            let price = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n) >> 20;
            format!("acme,ABC,1m,{ts},{price}\n")
        })
        .collect::<Vec<_>>()
        .concat();
    let whole = gzip(&format!("{HEADER}{mixed}"));
    fs::write(place.path("bars.csv.gz"), &whole[..whole.len() / 2]).unwrap();
    let outcome = ingest(&place, &["bars.csv.gz", "--json"]).code(1);
    let stored = count::<Bar>(&place);
    assert!((5_000..15_000).contains(&stored), "{stored}");
    assert_eq!(outcome.books(), format!("read {stored}, written {stored}"));
    // The header is line 1.
    let last = stored + 1;
    let error = format!("cannot read bars.csv.gz after line {last}: incomplete deflate stream");
    outcome.errors(&[&error]);

    // The whole file afterwards completes them.
    fs::write(place.path("bars.csv.gz"), &whole).unwrap();
    ingest(&place, &["bars.csv.gz"]).code(0);
    assert_eq!(count::<Bar>(&place), 20_000);
}

#[test]
fn a_damaged_gzip_file_is_no_end_of_file() {
    let place = Place::new();
    let mut packed = gzip(&bars(100));
    let checksum = packed.len() - 8;
    packed[checksum] ^= 1;
    fs::write(place.path("bars.csv.gz"), packed).unwrap();
    let outcome = ingest(&place, &["bars.csv.gz", "--json"]).code(1);
    assert_eq!(outcome.books(), "read 100, written 100");
    assert!(
        outcome
            .stderr
            .contains("error: cannot read bars.csv.gz after line 101: ")
    );
}

#[test]
fn a_damaged_zip_archive() {
    let place = Place::new();
    let archive = super::zip(&[("a.csv", &bars(3))]);
    fs::write(place.path("cut.zip"), &archive[..archive.len() - 30]).unwrap();
    let outcome = ingest(&place, &["cut.zip", "--json"]).code(1);
    assert_eq!(outcome.books(), "");
    assert!(
        outcome
            .stderr
            .contains("error: cannot read the table of contents of cut.zip: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn binary_junk_is_not_recognised() {
    let place = Place::new();
    let junk: Vec<u8> = (0_u32..20_000)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(place.path("junk.csv"), junk).unwrap();
    ingest(&place, &["junk.csv"]).code(2).errors(&[
        "junk.csv is not recognised: it is not text; pass --format, or --map field=column for a \
         delimited file (docs/formats.md lists both)",
    ]);
    // Where it is said what it is, all of its lines are bad.
    let outcome = ingest(&place, &["junk.csv", "--format", "ndjson", "--json"]).code(3);
    let books = outcome.books();
    assert!(
        books.starts_with("read ") && books.contains(", dead_lettered "),
        "{books}"
    );
    assert_eq!(count::<Bar>(&place), 0);
}

#[test]
fn a_file_of_another_kind() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    place
        .run(&["ingest", "news", "bars.csv"])
        .code(2)
        .says("error: bars.csv is in format csv, and its fields are those of bars, not of news\n");
    place.write(
        "x.csv",
        "Date,Open,High,Low,Close\n2024-01-07,1,2,1,2\n2024-01-14,1,2,1,2\n",
    );
    // A header that several vendors write is refused, with the candidates.
    ingest(&place, &["x.csv"])
        .code(2)
        .says("it might be: --format ");
}

#[test]
fn what_the_file_does_not_say_must_be_said() {
    let place = Place::new();
    place.write("bars.csv", "ts,close_price\n2024-11-01T00:00:00Z,1\n");
    let missing = |args: &[&str], field: &str, flag: &str| {
        let outcome = ingest(&place, args).code(2);
        let (start, end) = (
            format!("error: bars.csv: csv needs the {field}: "),
            format!("; pass {flag}\n"),
        );
        assert!(
            outcome.stderr.contains(&start) && outcome.stderr.contains(&end),
            "{outcome:#?}"
        );
    };
    missing(&["bars.csv"], "vendor", "--vendor");
    missing(&["bars.csv", "--vendor", "acme"], "symbol", "--symbol");
    missing(
        &["bars.csv", "--vendor", "acme", "--symbol", "ABC"],
        "timeframe",
        "--timeframe",
    );
    ingest(
        &place,
        &[
            "bars.csv",
            "--vendor",
            "acme",
            "--symbol",
            "ABC",
            "--timeframe",
            "1m",
        ],
    )
    .code(0);

    place.write(
        "candles.csv",
        "1388534520000,730.24,730.5,731,730,0.01\n1388534580000,730.24,730.5,731,730,0.01\n",
    );
    ingest(&place, &["candles.csv"])
        .code(2)
        .says("error: candles.csv: bitfinex needs the symbol: ");
    let said = [
        "candles.csv",
        "--symbol",
        "BTCUSD",
        "--timeframe",
        "1m",
        "--json",
    ];
    assert_eq!(ingest(&place, &said).code(0).books(), "read 2, written 2");

    place.write(
        "local.csv",
        "vendor,symbol,timeframe,ts\nacme,ABC,1m,2024-11-01 09:30:00\n",
    );
    ingest(&place, &["local.csv"])
        .code(2)
        .says("has no offset; pass --tz");
}

#[test]
fn a_wrong_map_is_wrong_usage() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    ingest(&place, &["bars.csv", "--map", "ts=Day"])
        .code(2)
        .errors(&[
            "bars.csv: --map Day: the header has no such column; it reads \
         \"vendor,symbol,timeframe,ts,close_price\"",
        ]);
    ingest(&place, &["bars.csv", "--map", "price=close_price"])
        .code(2)
        .says(
            "error: bars.csv: --map price=close_price: bars have no such field, only tenant_id, ",
        );
    ingest(&place, &["bars.csv", "--map", "ts"])
        .code(2)
        .says("\"ts\" is not a mapping, such as close_price=Close");
    assert_eq!(count::<Bar>(&place), 0);
}

#[test]
fn wrong_words_are_told_before_anything_is_made() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    for (args, told) in [
        (&["--frobnicate"][..], "unexpected argument '--frobnicate'"),
        (
            &["--format", "xml"],
            "\"xml\" is not a format; the formats are ndjson, json, csv",
        ),
        (
            &["--max-bad", "5.5"],
            "\"5.5\" is neither a number of rows nor a percentage, such as 5%",
        ),
        (
            &["--max-outage", "soon"],
            "\"soon\" is not a length of time, such as 30s, 5m or 1h",
        ),
        (&["--jobs", "0"], "0 is not in 1..=64"),
        (
            &["--workers", "none"],
            "coordinator_workers = \"none\" (flag --workers)",
        ),
        (
            &["--queue", "disc:q"],
            "queue = \"disc:q\" (flag --queue) is not a kind of queue; use memory or disk:DIR",
        ),
        (
            &["--tenant", "me"],
            "tenant_id = \"me\" (flag --tenant) is not a UUID",
        ),
        (
            &["--tz", "Mars/Olympus"],
            "\"Mars/Olympus\" is not a time zone",
        ),
        (
            &["--revision", "2199-01-01"],
            "--revision 2199-01-01T00:00:00Z is more than 5 minutes ahead of the clock",
        ),
        (&["--symbol", ""], "give a symbol, such as SPY"),
        (&["--vendor", " "], "give a vendor, such as binance"),
        (&["-", "-"], "standard input (-) can be given once only"),
        (
            &["--revision", "newest"],
            "write a date in UTC, such as 2024-11-01",
        ),
        (&["--timeframe", "7x"], "\"7x\" is not a time frame"),
        (
            &["--store", "mysql://h/d"],
            "store = \"mysql://h/d\" (flag --store) is not a URL of a known kind; use sqlite:PATH",
        ),
        (
            &["--store", "postgres://me:hunter2@h/d?sslmode=maybe"],
            "sslmode=maybe is not one of disable",
        ),
        (
            &["--store", "market.db"],
            "store = \"market.db\" (flag --store) is not a URL of a known kind; use sqlite:PATH",
        ),
    ] {
        let outcome = ingest(&place, &[&["bars.csv"][..], args].concat())
            .code(2)
            .says(told);
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    }
    place
        .run(&["ingest", "stocks", "bars.csv"])
        .code(2)
        .says("[possible values: bars, options, fundamentals, news]");
    place
        .run(&["ingest", "bars"])
        .code(2)
        .says("name a FILE, a FOLDER or -");
    assert_eq!(
        super::files(&place.path("")).len(),
        1,
        "only the input is there"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    std::os::unix::fs::symlink("nowhere", place.path("dangling.csv")).unwrap();
    let gone = "No such file or directory (os error 2)";
    ingest(&place, &["missing.csv"])
        .code(1)
        .errors(&[&format!("cannot open missing.csv: {gone}")]);
    ingest(&place, &["dangling.csv"])
        .code(1)
        .errors(&[&format!("cannot open dangling.csv: {gone}")]);
    ingest(&place, &["bars.csv/x.csv"])
        .code(1)
        .errors(&["cannot open bars.csv/x.csv: Not a directory (os error 20)"]);
    ingest(&place, &["missing.csv", "--dry-run"])
        .code(1)
        .errors(&[&format!("cannot open missing.csv: {gone}")]);
}

#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    place.write("bars.csv", &bars(3));
    fs::set_permissions(place.path("bars.csv"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(place.path("bars.csv")).is_ok() {
        skip("permission bits do not bind this user");
        return;
    }
    ingest(&place, &["bars.csv"])
        .code(1)
        .errors(&["cannot open bars.csv: Permission denied (os error 13)"]);
}
