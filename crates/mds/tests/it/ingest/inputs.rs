//! Which inputs are taken: standard input, folders, archives, several files at once.

use std::fs;

use mds_core::Bar;

use super::{HEADER, bars, gzip, letters, places, rows, zip};
use crate::data::{all, count};
use crate::run::{Outcome, Place};

/// Ingests what is handed to standard input.
fn pipe(place: &Place, text: &str, flags: &[&str]) -> Outcome {
    let mut args = vec!["ingest", "bars", "-", "--json"];
    args.extend(flags);
    let mut running = place.start(&args);
    running.write(text);
    running.close_stdin();
    running.outcome()
}

#[test]
fn standard_input_with_a_revision_writes_once() {
    let place = Place::new();
    let revision = ["--revision", "2024-11-02T00:00:00Z"];
    let first = pipe(&place, &bars(3), &revision).code(0);
    assert_eq!(first.books(), "read 3, written 3");
    assert!(
        !first.stderr.contains("revisions start"),
        "{}",
        first.stderr
    );
    let revisions: Vec<i64> = all::<Bar>(&place).iter().map(|bar| bar.revision).collect();
    let base = 1_730_505_600_000_000;
    assert_eq!(revisions, [base, base + 1, base + 2]);
    let again = pipe(&place, &bars(3), &revision).code(0);
    assert_eq!(again.books(), "read 3, superseded 3");
    // An older revision changes nothing, a newer one everything.
    let older = pipe(&place, &bars(3), &["--revision", "2024-11-01"]).code(0);
    assert_eq!(older.books(), "read 3, superseded 3");
    let newer = pipe(&place, &bars(3), &["--revision", "2024-11-03"]).code(0);
    assert_eq!(newer.books(), "read 3, written 3");
}

#[test]
fn standard_input_without_a_revision_takes_the_start_of_the_run_and_says_so() {
    let place = Place::new();
    let first = pipe(&place, &bars(3), &[])
        .code(0)
        .says("-: revisions start at ")
        .says(", the start of the run; --revision sets them");
    assert_eq!(first.books(), "read 3, written 3");
    let again = pipe(&place, &bars(3), &[]).code(0);
    assert_eq!(
        again.books(),
        "read 3, written 3",
        "newer revisions of the same rows"
    );
    assert_eq!(count::<Bar>(&place), 3);
}

#[test]
fn bad_rows_of_standard_input_have_their_line() {
    let place = Place::new();
    let outcome = pipe(&place, &format!("{HEADER}acme,ABC,1m,never,1\n"), &[]).code(3);
    assert_eq!(outcome.books(), "read 1, dead_lettered 1");
    assert_eq!(places(&letters(&place, ".dlq/bars.ndjson")), ["-:2"]);
    let empty = pipe(&place, "", &[]).code(2);
    empty.errors(&[
        "- is not recognised: it is empty; pass --format, or --map field=column for a delimited \
         file (docs/formats.md lists both)",
    ]);
}

#[test]
fn a_folder_stands_for_its_files() {
    let place = Place::new();
    fs::create_dir_all(place.path("in/2024")).unwrap();
    place.write("in/b.csv", &format!("{HEADER}{}", rows(0..2)));
    place.write(
        "in/2024/a.csv",
        &format!("{HEADER}{}acme,ABC,1m,never,1\n", rows(2..4)),
    );
    place.write("in/c.csv", &format!("{HEADER}acme,ABC,1m,never,1\n"));
    place.write("in/.hidden.csv", "no bars");
    let outcome = place.run(&["ingest", "bars", "in", "--json"]).code(3);
    assert_eq!(outcome.books(), "read 6, written 4, dead_lettered 2");
    assert_eq!(
        places(&letters(&place, ".dlq/bars.ndjson")),
        ["in/2024/a.csv:4", "in/c.csv:2"]
    );
    fs::create_dir(place.path("empty")).unwrap();
    place
        .run(&["ingest", "bars", "empty"])
        .code(2)
        .errors(&["there are no files in what was given; name one"]);
}

#[test]
fn the_store_is_no_input_of_the_folder_that_it_is_in() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    for books in ["read 3, written 3", "read 3, superseded 3"] {
        let outcome = place
            .run(&["ingest", "bars", ".", "--json", "--dlq", "bad.ndjson"])
            .code(0);
        assert_eq!(outcome.books(), books);
    }
}

#[test]
fn several_files_are_taken_and_the_worst_end_counts() {
    let place = Place::new();
    place.write("good.csv", &bars(3));
    place.write(
        "bad.csv",
        &format!("{HEADER}{}acme,ABC,1m,never,1\n", rows(3..5)),
    );
    place.write("strange.bin", "\u{0}\u{1}\u{2}");
    let run = |files: &[&str]| {
        let mut args = vec!["ingest", "bars", "--json"];
        args.extend(files);
        place.run(&args)
    };
    let one = run(&["bad.csv", "good.csv"]).code(3);
    assert_eq!(one.books(), "read 6, written 5, dead_lettered 1");
    let two = run(&["strange.bin", "bad.csv", "good.csv"]).code(2);
    assert_eq!(two.books(), "read 6, superseded 5, dead_lettered 1");
    let three = run(&["missing.csv", "strange.bin", "bad.csv", "good.csv"]).code(1);
    assert_eq!(three.books(), "read 6, superseded 5, dead_lettered 1");
    three.errors(&[
        "cannot open missing.csv: No such file or directory (os error 2)",
        "strange.bin is not recognised: it is not text; pass --format, or --map field=column for \
         a delimited file (docs/formats.md lists both)",
    ]);
}

#[test]
fn several_files_can_be_read_at_the_same_time() {
    let place = Place::new();
    let mut args = vec!["ingest", "bars", "--json", "--jobs", "4"];
    let names: Vec<String> = (0..10).map(|n| format!("{n}.csv")).collect();
    for (n, name) in (0..).zip(&names) {
        place.write(name, &format!("{HEADER}{}", rows(n * 500..(n + 1) * 500)));
        args.push(name);
    }
    let outcome = place.run(&args).code(0);
    assert_eq!(outcome.books(), "read 5000, written 5000");
    assert_eq!(count::<Bar>(&place), 5_000);
}

#[test]
fn gzip_and_zip_are_known_by_their_content() {
    let place = Place::new();
    let parts = [0..2, 2..4, 4..6].map(|part| format!("{HEADER}{}", rows(part)));
    // Two members, as `cat a.gz b.gz` makes them, are one file; the header stands once.
    let mut twice = gzip(&parts[0]);
    twice.extend(gzip(&rows(2..4)));
    fs::write(place.path("bars.csv"), twice).unwrap();
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(0);
    assert_eq!(outcome.books(), "read 4, written 4");

    let entries = [
        ("__MACOSX/._a.csv", "junk"),
        ("b/2.csv", parts[1].as_str()),
        ("a/1.csv", parts[2].as_str()),
        ("readme.txt", "not bars"),
    ];
    fs::write(place.path("bars.dat"), zip(&entries)).unwrap();
    let outcome = place.run(&["ingest", "bars", "bars.dat", "--json"]).code(0);
    assert_eq!(outcome.books(), "read 4, written 4", "two newer, two new");
    assert_eq!(count::<Bar>(&place), 6);
    // Entries of one archive go on counting: later entries are newer.
    let bars = all::<Bar>(&place);
    let of = |close: f64| {
        bars.iter()
            .find(|b| b.close_price == Some(close))
            .unwrap()
            .revision
    };
    assert_eq!(of(4.0) - of(2.0), 2);
}

#[test]
fn a_range_of_workers_writes_every_row_once() {
    let place = Place::new();
    place.write("bars.csv", &bars(7_000));
    let ingest = |workers| {
        let args = ["ingest", "bars", "bars.csv", "--json", "--workers", workers];
        place.run(&args)
    };
    assert_eq!(ingest("1..8").code(0).books(), "read 7000, written 7000");
    assert_eq!(ingest("2..3").code(0).books(), "read 7000, superseded 7000");
    ingest("8..1").code(2).errors(&[
        "coordinator_workers = 8 (flag --workers) must be at most coordinator_workers_max = 1 \
         (flag --workers)",
    ]);
    assert_eq!(count::<Bar>(&place), 7_000);
}
