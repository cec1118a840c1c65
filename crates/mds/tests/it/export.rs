//! `mds export`: what is written, and that it reads back.

use std::fs;
use std::io::Read as _;

use mds_core::{Bar, News, OptionSnap, Record};
use mds_formats::{Options, Readable, Source, Verdict, reader};

use crate::data::{all, article, bar, fill, option};
use crate::run::Place;

/// The records that the reader of files finds in one.
fn read<R: Readable>(place: &Place, name: &str) -> Vec<R> {
    let source = Source::open(place.path(name), mds_formats::Limits::default()).unwrap();
    let mut reader = reader::<R>(source, &Options::default()).unwrap();
    let mut verdicts = Vec::new();
    while reader.next_chunk(&mut verdicts, 1_000).unwrap() > 0 {}
    let record = |verdict| match verdict {
        Verdict::Record(row) => row.sourced.record,
        other => panic!("{other:?}"),
    };
    verdicts.into_iter().map(record).collect()
}

fn without_revision<R: Record>(mut records: Vec<R>) -> Vec<R> {
    for record in &mut records {
        record.set_revision(0);
    }
    records
}

#[test]
fn what_is_exported_reads_back_equal() {
    let place = Place::new();
    fill(
        &place,
        (0..2_500)
            .map(|i| bar("A", i, f64::from(i32::try_from(i).unwrap()) / 3.0))
            .collect(),
    );
    fill(
        &place,
        vec![
            article("a1", " Up, \"again\"\nand ümläut "),
            article("a2", "x"),
        ],
    );
    fill(&place, vec![option(14_700.0), option(14_700.5)]);
    for name in ["out.ndjson", "out.ndjson.gz", "out.csv", "out.csv.gz"] {
        for revision in [true, false] {
            let flag: &[&str] = if revision { &["--with-revision"] } else { &[] };
            for kind in ["bars", "news", "options"] {
                let file = format!("{kind}-{revision}-{name}");
                let outcome = place
                    .run(&[&["export", kind, "--out", &file][..], flag].concat())
                    .code(0);
                let count = if kind == "bars" { 2_500 } else { 2 };
                assert_eq!(
                    outcome.stderr,
                    format!("exported {count} {kind} to {file}\n")
                );
                match kind {
                    "bars" => check::<Bar>(&place, &file, revision),
                    "news" => check::<News>(&place, &file, revision),
                    _ => check::<OptionSnap>(&place, &file, revision),
                }
            }
        }
    }
}

fn check<R: Readable + mds_store::StoredRecord>(place: &Place, file: &str, revision: bool) {
    let stored = all::<R>(place);
    let expected = if revision {
        stored
    } else {
        without_revision(stored)
    };
    assert_eq!(read::<R>(place, file), expected, "{file}");
}

#[test]
fn standard_output_takes_it_too() {
    let place = Place::new();
    fill(&place, vec![bar("A", 0, 1.0), bar("B", 0, 2.0)]);
    let json = place
        .run(&["export", "bars", "--out", "-", "-s", "B"])
        .code(0);
    assert!(json.stdout.starts_with("{\"tenant_id\"") && json.stdout.contains("\"B\""));
    assert_eq!(json.stdout.lines().count(), 1);
    let csv = place
        .run(&["export", "bars", "--out", "-", "--format", "csv", "-q"])
        .code(0);
    assert_eq!((csv.stdout.lines().count(), csv.stderr.as_str()), (3, ""));
}

#[test]
fn a_file_is_replaced_only_by_a_whole_one() {
    let place = Place::new();
    place.write("out.csv", "old");
    // The store is missing: the old file stays and nothing else is left behind.
    place.run(&["export", "bars", "--out", "out.csv"]).code(1);
    assert_eq!(fs::read_to_string(place.path("out.csv")).unwrap(), "old");
    assert_eq!(fs::read_dir(place.path(".")).unwrap().count(), 1);

    fill::<Bar>(&place, vec![bar("A", 0, 1.0)]);
    place.run(&["export", "bars", "--out", "out.csv"]).code(0);
    assert_eq!(
        fs::read_to_string(place.path("out.csv"))
            .unwrap()
            .lines()
            .count(),
        2
    );
    let files = fs::read_dir(place.path(".")).unwrap();
    let temporary = files.filter(|e| {
        e.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|x| x == "tmp")
    });
    assert_eq!(temporary.count(), 0);
}

#[test]
fn gzip_is_what_other_programs_read() {
    let place = Place::new();
    fill(&place, vec![bar("A", 0, 1.0)]);
    place
        .run(&["export", "bars", "--out", "out.ndjson.gz"])
        .code(0);
    let mut text = String::new();
    let file = fs::File::open(place.path("out.ndjson.gz")).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let place = Place::new();
    fill(&place, vec![bar("A", 0, 1.0)]);
    for (args, message) in [
        (&["export", "bars"][..], "--out <FILE>"),
        (
            &["export", "bars", "--out", "bars"],
            "bars does not say its form; end the name in .csv",
        ),
        (
            &["export", "bars", "--out", "b.parquet"],
            "parquet is not in this build",
        ),
        (&["export", "bars", "--out", "."], ". does not say its form"),
    ] {
        let outcome = place.run(args).code(2);
        assert!(
            outcome.stderr.contains(message),
            "{args:?}: {}",
            outcome.stderr
        );
    }
    let outcome = place
        .run(&["export", "bars", "--out", "missing/b.csv"])
        .code(1);
    assert!(
        outcome.stderr.contains("cannot create a file in missing"),
        "{}",
        outcome.stderr
    );
    let outcome = place
        .run(&["export", "bars", "--out", "/dev/null", "--format", "csv"])
        .code(2);
    assert!(
        outcome.stderr.contains("/dev/null is not a regular file"),
        "{}",
        outcome.stderr
    );
}
