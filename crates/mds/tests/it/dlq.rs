//! `mds dlq list`, `show` and `purge`.

use std::fs;

use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, LetterDraft, LetterItem, Reason};
use mds_core::Bar;
use serde_json::Value;

use crate::data::bar;
use crate::run::Place;

pub(crate) const BARS: &str = ".dlq/bars.ndjson";

/// A letter about a bar that the store refused.
pub(crate) fn letter(bar: &Bar, reason: Reason) -> LetterDraft {
    let origin = [("path", Value::from("in.csv")), ("line", Value::from(3))];
    LetterDraft {
        kind: Some("bars".to_owned()),
        code: Some("CHECK".to_owned()),
        metadata: origin.map(|(k, v)| (k.to_owned(), v)).into_iter().collect(),
        ..LetterDraft::new(
            "bars",
            reason,
            "the store said no",
            "rejected",
            LetterItem::record(bar).unwrap(),
        )
    }
}

pub(crate) fn append(place: &Place, file: &str, letters: Vec<LetterDraft>) {
    let dlq = DeadLetterQueue::<Value>::open(place.path(file), DlqOptions::default()).unwrap();
    dlq.append(letters).unwrap();
}

fn two_letters() -> Place {
    let place = Place::new();
    append(
        &place,
        BARS,
        vec![letter(&bar("A", 0, 1.0), Reason::RejectedRow)],
    );
    append(
        &place,
        BARS,
        vec![letter(&bar("B", 0, 2.0), Reason::Overflow)],
    );
    place
}

#[test]
fn nothing_given_up_is_told_so() {
    let place = Place::new();
    let outcome = place.run(&["dlq", "list"]).code(0);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("", "no dead letters\n")
    );
    assert_eq!(
        place.run(&["dlq", "purge", "--all"]).code(0).stderr,
        "there are no such letters\n"
    );
    assert!(!place.path(".dlq").exists(), "looking makes nothing");
}

#[test]
fn letters_are_listed_and_filtered() {
    let place = two_letters();
    let all = place.run(&["dlq", "list"]).code(0);
    let lines: Vec<&str> = all.stdout.lines().collect();
    assert_eq!(lines.len(), 3);
    for part in [
        "bars",
        "rejected_row",
        "CHECK",
        "in.csv:3",
        "the store said no",
    ] {
        assert!(lines[1].contains(part), "{}", lines[1]);
    }
    let rows = |args: &[&str]| {
        let outcome = place
            .run(&[&["dlq", "list", "--json"][..], args].concat())
            .code(0);
        outcome.stdout.lines().count()
    };
    assert_eq!(rows(&[]), 2);
    assert_eq!(rows(&["--symbol", "b"]), 1);
    assert_eq!(rows(&["--reason", "overflow"]), 1);
    assert_eq!(rows(&["--reason", "expired"]), 0);
    assert_eq!(rows(&["--kind", "news"]), 0);
    assert_eq!(rows(&["--until", "2020-01-01"]), 0);
    let cut = place.run(&["dlq", "list", "-n", "1"]).code(0);
    assert!(cut.stderr.starts_with("there are more"), "{}", cut.stderr);

    let bad = place.run(&["dlq", "list", "--reason", "because"]).code(2);
    assert!(
        bad.stderr.contains("the reasons are rejected_row, "),
        "{}",
        bad.stderr
    );
}

#[test]
fn letters_are_counted() {
    let place = two_letters();
    fs::write(place.path(".dlq/news.ndjson"), "{\"no\": \"letter\"}\n").unwrap();
    let table = place.run(&["dlq", "list", "--summary"]).code(0);
    let words: Vec<Vec<&str>> = table
        .stdout
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        words,
        [
            vec!["reason", "overflow", "1"],
            vec!["reason", "rejected_row", "1"],
            vec!["code", "CHECK", "2"],
            vec!["kind", "bars", "2"],
            vec!["damaged", "lines", "1"],
            vec!["all", "2"],
        ]
    );
    let json = place.run(&["dlq", "list", "--summary", "--json"]).code(0);
    let sum: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&sum["letters"], &sum["damaged"]), (&2.into(), &1.into()));

    let health = place.run(&["health"]).stdout;
    assert!(health.contains("2 wait and 1 damaged lines"), "{health}");
}

#[test]
fn a_letter_is_shown_whole() {
    let place = two_letters();
    let id = letter(&bar("A", 0, 1.0), Reason::RejectedRow)
        .id()
        .to_string();
    let outcome = place.run(&["dlq", "show", &id]).code(0);
    let shown: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(shown["id"], id);
    assert_eq!(shown["metadata"]["path"], "in.csv");
    let item: Bar = serde_json::from_value(shown["items"][0].clone()).unwrap();
    assert_eq!(item, bar("A", 0, 1.0));

    let missing = "00000000-0000-0000-0000-00000000dead";
    let outcome = place.run(&["dlq", "show", &id, missing]).code(1);
    assert!(outcome.stdout.contains(&id));
    assert!(
        outcome
            .stderr
            .contains(&format!("no dead letter {missing}")),
        "{}",
        outcome.stderr
    );
    place.run(&["dlq", "show", "not-an-id"]).code(2);
    place.run(&["dlq", "show"]).code(2);
}

#[test]
fn letters_are_purged_only_when_named_and_confirmed() {
    let place = two_letters();
    let none = place.run(&["dlq", "purge", "--yes"]).code(2);
    assert!(none.stderr.contains("say which letters"), "{}", none.stderr);
    let asked = place.run(&["dlq", "purge", "--reason", "overflow"]).code(2);
    assert_eq!(
        asked.stderr,
        "error: this gives up 1 dead letters for good; add --yes to do so\n"
    );
    let done = place
        .run(&["dlq", "purge", "--reason", "overflow", "--yes"])
        .code(0);
    assert_eq!(done.stderr, "gave up 1 dead letters\n");
    let left = place.run(&["dlq", "list", "--json"]).code(0);
    assert!(left.stdout.contains("rejected_row") && left.stdout.lines().count() == 1);

    place.run(&["dlq", "purge", "--all", "--yes"]).code(0);
    assert!(
        !place.path(BARS).exists(),
        "a file without letters is removed"
    );
}

#[test]
fn damaged_lines_are_listed_and_purged_by_name() {
    let place = two_letters();
    let text = fs::read_to_string(place.path(BARS)).unwrap();
    fs::write(place.path(BARS), format!("{text}garbage\n")).unwrap();
    let listed = place.run(&["dlq", "list"]).code(0);
    assert!(
        listed.stdout.contains(".dlq/bars.ndjson:3"),
        "{}",
        listed.stdout
    );
    place.run(&["dlq", "purge", "--all", "--yes"]).code(0);
    assert!(place.path(BARS).exists(), "a line that is no letter stays");
    let done = place.run(&["dlq", "purge", "--damaged", "--yes"]).code(0);
    assert_eq!(done.stderr, "gave up 1 damaged lines\n");
    assert!(!place.path(BARS).exists());
}

#[test]
fn another_file_can_be_named() {
    let place = Place::new();
    append(
        &place,
        "my.ndjson",
        vec![letter(&bar("A", 0, 1.0), Reason::Overflow)],
    );
    for args in [
        &["dlq", "list", "--json", "--dlq", "my.ndjson"][..],
        &["dlq", "--dlq", "my.ndjson", "list", "--json"],
    ] {
        assert_eq!(
            place.run(args).code(0).stdout.lines().count(),
            1,
            "{args:?}"
        );
    }
    let env = place.run_with_env(&["dlq", "list", "--json"], &[("MDS_DLQ_PATH", "my.ndjson")]);
    assert_eq!(env.code(0).stdout.lines().count(), 1);
}

#[test]
fn a_file_that_was_named_and_is_not_there_is_an_error() {
    let place = two_letters();
    let told = "typo.ndjson: there is no such file, nor one that belongs to it; a file of dead \
                letters is there while letters are in it";
    for args in [
        &["dlq", "list", "--dlq", "typo.ndjson"][..],
        &["dlq", "list", "--summary", "--dlq", "typo.ndjson"],
        &["dlq", "purge", "--all", "--dlq", "typo.ndjson"],
        &["dlq", "replay", "--dlq", "typo.ndjson"],
        &[
            "dlq",
            "show",
            "00000000-0000-0000-0000-00000000dead",
            "--dlq",
            "typo.ndjson",
        ],
    ] {
        place.run(args).code(1).errors(&[told]);
    }
    place
        .run_with_env(&["dlq", "list"], &[("MDS_DLQ_PATH", "typo.ndjson")])
        .code(0);
    // Its full files, or what was noted about it, are enough.
    for beside in [
        "typo.000001.ndjson",
        "typo.ndjson.settled",
        "typo.ndjson.lock",
    ] {
        place.write(beside, "");
        let listed = place.run(&["dlq", "list", "--dlq", "typo.ndjson"]).code(0);
        assert_eq!(listed.stderr, "no dead letters\n", "{beside}");
        fs::remove_file(place.path(beside)).unwrap();
    }
}

#[test]
fn errors_are_whole_where_they_do_not_go_to_a_terminal() {
    let place = Place::new();
    let long = format!("the store said {} and then\nno", "no ".repeat(100));
    let draft = LetterDraft {
        error: long.clone(),
        ..letter(&bar("A", 0, 1.0), Reason::RejectedRow)
    };
    append(&place, BARS, vec![draft]);
    let listed = place.run(&["dlq", "list"]).code(0);
    let shown = long.replace('\n', " ");
    assert!(
        listed.stdout.ends_with(&format!("{shown}\n")),
        "{}",
        listed.stdout
    );
    assert_eq!(listed.stdout.lines().count(), 2);
}
