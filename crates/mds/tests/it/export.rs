//! `mds export`: what is written, and that it reads back.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

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

/// The bytes of a file, to see that nothing touched it.
fn bytes(place: &Place, name: &str) -> Vec<u8> {
    fs::read(place.path(name)).unwrap()
}

#[test]
fn an_export_never_replaces_the_store() {
    let place = Place::new();
    fill(&place, vec![bar("A", 0, 1.0)]);
    let before = bytes(&place, "market.db");
    fs::hard_link(place.path("market.db"), place.path("hard.csv")).unwrap();
    std::os::unix::fs::symlink("market.db", place.path("soft.csv")).unwrap();
    fs::create_dir(place.path("sub")).unwrap();
    for (out, told) in [
        ("market.db", "is the store"),
        ("./market.db", "is the store"),
        ("sub/../market.db", "is the store"),
        ("hard.csv", "is the store"),
        ("soft.csv", "is the store"),
        ("market.db-wal", "belongs to the store"),
        ("market.db-shm", "belongs to the store"),
        ("market.db-journal", "belongs to the store"),
    ] {
        place
            .run(&["export", "bars", "--out", out, "--format", "csv"])
            .code(2)
            .errors(&[&format!("{out} {told}; write to another file")]);
    }
    assert_eq!(bytes(&place, "market.db"), before);
    assert!(!place.path("market.db-journal").exists());
    assert_eq!(all::<Bar>(&place).len(), 1);
}

#[test]
fn an_export_never_replaces_another_database() {
    let place = Place::new();
    fill(&place, vec![bar("A", 0, 1.0)]);
    fs::copy(place.path("market.db"), place.path("copy.csv")).unwrap();
    place
        .run(&["export", "bars", "--out", "copy.csv"])
        .code(2)
        .errors(&["copy.csv is a SQLite database; write to another file"]);
    place
        .run(&["export", "bars", "--out", "copy.csv-wal", "--format", "csv"])
        .code(2)
        .errors(&["copy.csv-wal belongs to a SQLite database; write to another file"]);
    assert_eq!(bytes(&place, "copy.csv"), bytes(&place, "market.db"));
}

#[test]
fn an_export_never_replaces_dead_letters() {
    let place = Place::new();
    fill(&place, vec![bar("A", 0, 1.0)]);
    let refused = |out: &str, env: &[(&str, &str)]| {
        let args = ["export", "bars", "--out", out, "--format", "ndjson"];
        place
            .run_with_env(&args, env)
            .code(2)
            .errors(&[&format!("{out} is for dead letters; write to another file")]);
    };
    // Whether it is there yet or not.
    refused(".dlq/news.ndjson", &[]);
    fs::create_dir(place.path(".dlq")).unwrap();
    place.write(".dlq/bars.ndjson", "{}\n");
    fs::hard_link(place.path(".dlq/bars.ndjson"), place.path("link.ndjson")).unwrap();
    for out in [
        ".dlq/bars.ndjson",
        ".dlq/bars.000001.ndjson",
        ".dlq/bars.ndjson.settled",
        ".dlq/bars.ndjson.lock",
        ".dlq/bars.ndjson.replay.lock",
        "link.ndjson",
    ] {
        refused(out, &[]);
    }
    refused("my.ndjson", &[("MDS_DLQ_PATH", "my.ndjson")]);
    assert_eq!(bytes(&place, ".dlq/bars.ndjson"), b"{}\n");
    // A name that only looks alike is free.
    place
        .run(&["export", "bars", "--out", ".dlq/bars.1.ndjson"])
        .code(0);
}

#[test]
fn the_mode_of_a_replaced_file_is_kept() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    fill(&place, vec![bar("A", 0, 1.0)]);
    let mode = |name: &str| {
        let metadata = fs::metadata(place.path(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    for wanted in [0o600, 0o664, 0o640] {
        place.write("out.csv", "old");
        let permissions = fs::Permissions::from_mode(wanted);
        fs::set_permissions(place.path("out.csv"), permissions).unwrap();
        place.run(&["export", "bars", "--out", "out.csv"]).code(0);
        assert_eq!(mode("out.csv"), wanted, "{:o}", mode("out.csv"));
        assert_ne!(bytes(&place, "out.csv"), b"old");
    }
    place.write("plain", "");
    place.run(&["export", "bars", "--out", "new.csv"]).code(0);
    assert_eq!(mode("new.csv"), mode("plain"), "what the umask leaves");
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let place = Place::new();
    fill(&place, (0..20_000).map(|i| bar("A", i, 1.0)).collect());
    for format in ["csv", "ndjson"] {
        for args in [
            &["export", "bars", "--out", "-", "--format", format][..],
            &["query", "bars", "--output", format],
        ] {
            let mut child = place
                .command(args)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            // Far more than a pipe holds is still to come when it is closed.
            BufReader::new(child.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(
                (output.status.code(), told.as_str()),
                (Some(0), ""),
                "{args:?}"
            );
        }
    }
}
