//! Which of two readings of a row wins: revisions by content, by `--map`, and by the file's time.

use std::fs::File;

use mds_core::Bar;

use super::{HEADER, bars, rows};
use crate::data::{all, time};
use crate::run::{Outcome, Place};

const PRICES: &str = "\
Ticker,Day,Open,High,Low,Close
SPY,2024-11-01,571.32,575.55,570.62,571.04
SPY,2024-11-04,571.18,572.50,567.89,569.81
SPY,2024-11-06,589.20,591.93,585.39,591.04
";
const RIGHT: [&str; 2] = ["open_price=Open", "close_price=Close"];
const SWAPPED: [&str; 2] = ["open_price=Close", "close_price=Open"];
const ANEW: &str = "prices.csv: read by another --format, --map, --tz or --time-format than before: \
                    revisions start anew at 20";

/// Ingests the prices by a mapping of open and close.
#[track_caller]
fn prices(place: &Place, map: [&str; 2], flags: &[&str]) -> Outcome {
    let mut args = vec!["ingest", "bars", "prices.csv", "--json"];
    args.extend(["--timeframe", "1d", "--time-format", "%Y-%m-%d"]);
    let fields = [
        "symbol=Ticker",
        "ts=Day",
        "high_price=High",
        "low_price=Low",
    ];
    for field in fields.into_iter().chain(map) {
        args.extend(["--map", field]);
    }
    args.extend(flags);
    place.run(&args).code(0)
}

fn acme(place: &Place, map: [&str; 2]) -> Outcome {
    prices(place, map, &["--vendor", "acme"])
}

/// Open and close of every bar.
fn opens(place: &Place) -> Vec<(f64, f64)> {
    let prices = |bar: &Bar| (bar.open_price.unwrap(), bar.close_price.unwrap());
    all::<Bar>(place).iter().map(prices).collect()
}

const OPENS: [(f64, f64); 3] = [(571.32, 571.04), (571.18, 569.81), (589.2, 591.04)];

/// Says that a file was last changed at `text`.
fn touch(place: &Place, name: &str, text: &str) {
    let micros = time(text).micros();
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_micros(micros.unsigned_abs());
    let file = File::options().append(true).open(place.path(name)).unwrap();
    file.set_modified(at).unwrap();
}

#[test]
fn a_corrected_map_wins_whatever_the_values_are() {
    let place = Place::new();
    place.write("prices.csv", PRICES);
    let wrong = acme(&place, SWAPPED);
    assert_eq!(wrong.books(), "read 3, written 3");
    assert!(!wrong.stderr.contains("revisions"), "{}", wrong.stderr);

    let right = acme(&place, RIGHT).says(ANEW);
    assert_eq!(right.books(), "read 3, written 3");
    assert_eq!(opens(&place), OPENS);

    let again = acme(&place, RIGHT).says("this content was seen before, with revisions from ");
    assert_eq!(again.books(), "read 3, superseded 3");
    touch(&place, "prices.csv", "2024-12-01T00:00:00Z");
    let touched = acme(&place, RIGHT);
    assert_eq!(touched.books(), "read 3, superseded 3");

    // Only the last reading is remembered.
    let back = acme(&place, SWAPPED).says(ANEW);
    assert_eq!(back.books(), "read 3, written 3");
    let forth = acme(&place, RIGHT).says(ANEW);
    assert_eq!(forth.books(), "read 3, written 3");
    assert_eq!(opens(&place), OPENS);
}

#[test]
fn the_order_of_mappings_is_no_other_reading() {
    let place = Place::new();
    place.write("prices.csv", PRICES);
    acme(&place, RIGHT);
    let turned = acme(&place, [RIGHT[1], RIGHT[0]]);
    assert_eq!(turned.books(), "read 3, superseded 3");
}

#[test]
fn a_corrected_map_wins_also_where_another_flag_was_added() {
    let place = Place::new();
    place.write("prices.csv", PRICES);
    acme(&place, SWAPPED);
    // The rows have their symbol: this one changes no key.
    let right = prices(&place, RIGHT, &["--vendor", "acme", "--symbol", "QQQ"]).says(ANEW);
    assert_eq!(right.books(), "read 3, written 3");
    assert_eq!(opens(&place), OPENS);
}

#[test]
fn a_corrected_zone_wins_where_the_times_overlap() {
    let place = Place::new();
    let text = "at,close\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n2024-01-01 02:00,3\n";
    place.write("hours.csv", text);
    let ingest = |zone: &str| {
        let args = "ingest bars hours.csv --json --vendor acme --symbol ABC --timeframe 1h \
                    --map ts=at --map close_price=close --tz";
        let mut args: Vec<&str> = args.split_whitespace().collect();
        args.extend([zone, "--time-format", "%Y-%m-%d %H:%M"]);
        place.run(&args).code(0).books()
    };
    assert_eq!(ingest("Europe/Paris"), "read 3, written 3");
    assert_eq!(ingest("Europe/London"), "read 3, written 3");
    assert_eq!(ingest("Europe/London"), "read 3, superseded 3");
    let found: Vec<_> = all::<Bar>(&place)
        .iter()
        .map(|bar| (bar.ts.to_string(), bar.close_price.unwrap()))
        .collect();
    let hour = |day: &str, close| (format!("{day}:00:00Z"), close);
    let expected = [
        hour("2023-12-31T23", 1.0),
        hour("2024-01-01T00", 1.0),
        hour("2024-01-01T01", 2.0),
        hour("2024-01-01T02", 3.0),
    ];
    assert_eq!(found, expected);
}

#[test]
fn one_content_for_two_vendors_is_remembered_for_each() {
    let place = Place::new();
    place.write("prices.csv", PRICES);
    for books in ["read 3, written 3", "read 3, superseded 3"] {
        for vendor in ["acme", "other"] {
            let outcome = prices(&place, RIGHT, &["--vendor", vendor]);
            assert_eq!(outcome.books(), books, "{vendor}");
            assert!(!outcome.stderr.contains("anew"), "{}", outcome.stderr);
        }
    }
}

#[test]
fn rows_of_equal_key_and_revision_with_other_values_are_told() {
    let place = Place::new();
    let bar = |close: u32, revision: i64| {
        format!("acme,ABC,1m,2024-11-01T00:00:00Z,{close},{revision}\n")
    };
    let header = HEADER.replace('\n', ",revision\n");
    let write = |text: String| place.write("bars.csv", &format!("{header}{text}"));
    let ingest = |flags: &[&str]| {
        let args = [&["ingest", "bars", "bars.csv"][..], flags].concat();
        place.run(&args).code(0)
    };
    write(bar(5, 1_730_500_000_000_000));
    let first = ingest(&[]);
    assert!(!first.stdout.contains("conflicts"), "{}", first.stdout);

    write(bar(4, 1_730_500_000_000_000));
    let table = ingest(&[]).stdout;
    let why = "met a row of equal key and revision with other values; the greater values are kept";
    assert!(
        table.ends_with(&format!("  conflicts                  1  {why}\n")),
        "{table}"
    );
    let json = ingest(&["--json"]).says(&format!("1 row {why}\n"));
    assert_eq!(json.books(), "read 1, superseded 1");
    assert_eq!(ingest(&["--json", "--quiet"]).stderr, "");
    assert_eq!(all::<Bar>(&place)[0].close_price, Some(5.0));
}

#[test]
fn a_time_before_the_rows_says_nothing_about_whether_bars_were_over() {
    let place = Place::new();
    place.write("bars.csv", &bars(5_000));
    touch(&place, "bars.csv", "1980-01-01T00:00:00Z");
    let args = ["ingest", "bars", "bars.csv", "--json"];
    let note = "bars.csv: last changed at 1980-01-01T00:00:00Z, before its bars begin: whether a \
                bar was over is judged by ";
    let outcome = place.run(&args).code(0).says(note);
    assert_eq!(outcome.stderr.matches("before its bars").count(), 1);
    assert_eq!(outcome.books(), "read 5000, written 5000");
    assert!(all::<Bar>(&place).iter().all(|bar| !bar.provisional));
    let again = place.run(&args).code(0).says(note);
    assert_eq!(again.books(), "read 5000, superseded 5000");

    let given = ["--revision", "1990-01-01", "--json"];
    let args = [&["ingest", "bars", "bars.csv"][..], &given].concat();
    place.run(&args).code(0).says(
        "bars.csv: --revision 1990-01-01T00:00:00Z, before its bars begin: whether a bar was over \
         is judged by ",
    );
    assert!(all::<Bar>(&place).iter().all(|bar| !bar.provisional));
}

#[test]
fn a_bar_that_was_under_way_when_the_file_was_written_is_provisional() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    // The last bar begins at 00:02.
    touch(&place, "bars.csv", "2024-01-01T00:02:30Z");
    let provisional = || -> Vec<bool> {
        let bars = all::<Bar>(&place);
        bars.iter().map(|bar| bar.provisional).collect()
    };
    let outcome = place.run(&["ingest", "bars", "bars.csv"]).code(0);
    assert!(
        !outcome.stderr.contains("before its bars"),
        "{}",
        outcome.stderr
    );
    assert_eq!(provisional(), [false, false, true]);
    // To read it in another way does not make the bar complete, and neither does a later time.
    touch(&place, "bars.csv", "2024-01-02T00:00:00Z");
    let args = ["ingest", "bars", "bars.csv", "--format", "csv", "--json"];
    assert_eq!(place.run(&args).code(0).books(), "read 3, written 3");
    assert_eq!(provisional(), [false, false, true]);
}

#[test]
fn corrected_content_that_claims_to_be_older_is_told_how_to_win() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    let args = ["ingest", "bars", "bars.csv", "--json"];
    place.run(&args).code(0);
    place.write("bars.csv", &bars(3).replace(",1\n", ",1.5\n"));
    touch(&place, "bars.csv", "2024-02-01T00:00:00Z");
    let outcome = place.run(&args).code(0).says(
        "nothing was written: the store has these rows already, at newer revisions than bars.csv \
         (last changed at 2024-02-01T00:00:00Z); to make it win, give --revision a later time, such \
         as the present: --revision 20",
    );
    assert_eq!(outcome.books(), "read 3, superseded 3");
    let (_, revision) = outcome
        .stderr
        .split_once("the present: --revision ")
        .unwrap();
    let (revision, _) = revision.split_once('\n').unwrap();
    let given = [&args[..], &["--revision", revision]].concat();
    assert_eq!(place.run(&given).code(0).books(), "read 3, written 3");
    assert_eq!(all::<Bar>(&place)[1].close_price, Some(1.5));

    // What is known, or written in part, needs no advice.
    let known = place.run(&args).code(0);
    assert!(
        !known.stderr.contains("nothing was written"),
        "{}",
        known.stderr
    );
    place.write("more.csv", &format!("{HEADER}{}", rows(2..5)));
    touch(&place, "more.csv", "2024-02-01T00:00:00Z");
    let part = place.run(&["ingest", "bars", "more.csv", "--json"]).code(0);
    assert_eq!(part.books(), "read 3, written 2, superseded 1");
    assert!(
        !part.stderr.contains("nothing was written"),
        "{}",
        part.stderr
    );
}

#[test]
fn several_older_files_are_told_together() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    place.run(&["ingest", "bars", "bars.csv"]).code(0);
    for (name, rows) in [
        ("a.csv", rows(0..1)),
        ("b.csv", rows(1..2)),
        ("c.csv", rows(2..3)),
    ] {
        place.write(name, &format!("{HEADER}{rows}"));
        touch(&place, name, "2024-02-01T00:00:00Z");
    }
    let of = |files: &[&str]| {
        let args = [&["ingest", "bars"][..], files].concat();
        place.run(&args).code(0)
    };
    of(&["a.csv", "b.csv", "c.csv"]).says(
        "than a.csv (last changed at 2024-02-01T00:00:00Z) and 2 other files; to make them win, ",
    );
}

#[test]
fn rows_that_bring_their_revision_are_not_told_to_take_another() {
    let place = Place::new();
    let bar = "acme,ABC,1m,2024-11-01T00:00:00Z,1,1730500000000000\n";
    let header = HEADER.replace('\n', ",revision\n");
    place.write("a.csv", &format!("{header}{bar}"));
    place.write("b.csv", &format!("{header}{bar}\n"));
    place.run(&["ingest", "bars", "a.csv"]).code(0);
    let same = place.run(&["ingest", "bars", "b.csv", "--json"]).code(0);
    assert_eq!(same.books(), "read 1, superseded 1");
    assert!(
        !same.stderr.contains("nothing was written"),
        "{}",
        same.stderr
    );
}

#[test]
fn a_full_queue_refuses_the_rest_of_a_chunk_at_once() {
    let place = Place::new();
    place.write("bars.csv", &bars(1_000));
    let env = [
        ("MDS_COORDINATOR_OVERFLOW_STRATEGY", "error"),
        ("MDS_COORDINATOR_CAPACITY", "10"),
    ];
    let args = ["ingest", "bars", "bars.csv", "--json"];
    let outcome = place.run_with_env(&args, &env).code(3).errors(&[
        "bars.csv:12 to bars.csv:1001, 990 rows: the queue is full; wait and submit again",
    ]);
    assert_eq!(outcome.books(), "read 1000, written 10, refused 990");
}

#[test]
fn a_record_that_is_too_large_costs_itself_only() {
    let place = Place::new();
    let long = "long ".repeat(400);
    let news = |id: u32, title: &str| format!("wire,2024-11-01T09:30:00Z,{id},{title}\n");
    let text = [news(1, "short"), news(2, &long), news(3, "short")].concat();
    place.write("news.csv", &format!("vendor,published_at,id,title\n{text}"));
    let env = [("MDS_COORDINATOR_MAX_BYTES", "1024")];
    let outcome = place
        .run_with_env(&["ingest", "news", "news.csv", "--json"], &env)
        .code(3)
        .errors(&["news.csv:3: the record is larger than max_bytes"]);
    assert_eq!(outcome.books(), "read 3, written 2, refused 1");
}

#[test]
fn a_run_that_did_not_know_the_format_leaves_the_revisions_alone() {
    let place = Place::new();
    place.write("prices.csv", PRICES);
    touch(&place, "prices.csv", "2024-11-07T00:00:00Z");
    place.run(&["ingest", "bars", "prices.csv"]).code(2);
    let right = acme(&place, RIGHT);
    assert_eq!(right.books(), "read 3, written 3");
    assert!(!right.stderr.contains("revisions"), "{}", right.stderr);
    let first = all::<Bar>(&place)[0].revision;
    assert_eq!(first, time("2024-11-07T00:00:00Z").micros());
}
