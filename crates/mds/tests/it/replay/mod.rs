//! `mds dlq replay`.

mod foreign;
mod interrupted;

use std::fs;

use mds_coordinator::dead_letter::{LetterDraft, Reason};
use mds_core::{Bar, News};
use rusqlite::Connection;
use serde_json::Value;

use crate::data::{STORE, all, article, bar, count, fill};
use crate::dlq::{BARS, append, letter};
use crate::ingest::bars;
use crate::run::{Outcome, Place};

/// The lines of the table, as words.
fn table(outcome: &Outcome) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    outcome.stdout.lines().map(words).collect()
}

/// Expects one line below the head: kind, letters, written, superseded, failed again, not
/// replayable.
#[track_caller]
fn expect(outcome: &Outcome, line: &str) {
    let head = "kind letters written superseded failed again not replayable";
    assert_eq!(table(outcome), [head, line], "{outcome:#?}");
}

fn listed(place: &Place, flags: &[&str]) -> Vec<Value> {
    let args = [&["dlq", "list", "--json", "-n", "100000"][..], flags].concat();
    let outcome = place.run(&args).code(0);
    let lines = outcome.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A place with a store that refuses bars that close at 13, and the letter of one.
fn refused() -> Place {
    let place = Place::new();
    place.run(&["migrate"]).code(0);
    execute(
        &place,
        "CREATE TRIGGER no_thirteen BEFORE INSERT ON bars_data WHEN NEW.close_price = 13 \
         BEGIN SELECT RAISE(ABORT, 'thirteen brings bad luck'); END",
    );
    place.write("bars.csv", &bars(20));
    place.run(&["ingest", "bars", "bars.csv"]).code(3);
    place
}

fn execute(place: &Place, sql: &str) {
    Connection::open(place.path(STORE))
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

#[test]
fn nothing_to_replay_makes_nothing() {
    let place = Place::new();
    let outcome = place.run(&["dlq", "replay"]).code(0);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("", "there are no such letters\n")
    );
    assert!(!place.path(STORE).exists() && !place.path(".dlq").exists());
}

#[test]
fn a_refused_row_comes_back_until_the_store_takes_it() {
    let place = refused();
    let first = listed(&place, &[]);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["metadata"]["replays"], 0);

    for replays in 1..=2 {
        let again = place.run(&["dlq", "replay"]).code(3);
        expect(&again, "bars 1 0 0 1 0");
        let letters = listed(&place, &[]);
        assert_eq!(
            letters.len(),
            1,
            "the new letter stands in place of the old one"
        );
        assert_eq!(letters[0]["id"], first[0]["id"]);
        assert_eq!(letters[0]["metadata"]["replays"], replays);
        assert_eq!(letters[0]["metadata"]["reason"], "rejected_row");
        assert_eq!(
            (
                &letters[0]["metadata"]["path"],
                &letters[0]["metadata"]["line"]
            ),
            (&"bars.csv".into(), &15.into())
        );
        assert_eq!(letters[0]["items"], first[0]["items"]);
    }

    execute(&place, "DROP TRIGGER no_thirteen");
    expect(&place.run(&["dlq", "replay"]).code(0), "bars 1 1 0 0 0");
    assert_eq!(count::<Bar>(&place), 20);
    assert!(
        !place.path(BARS).exists(),
        "a file without letters is removed"
    );
    let nothing = place.run(&["dlq", "replay"]).code(0);
    assert_eq!(nothing.stderr, "there are no such letters\n");
    // The record came back with its revision: the file again writes nothing.
    let again = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(0);
    assert_eq!(again.books(), "read 20, superseded 20");
}

#[test]
fn a_letter_never_overwrites_newer_data() {
    let place = Place::new();
    let newer = Bar {
        revision: bar("A", 0, 2.0).revision + 1,
        ..bar("A", 0, 2.0)
    };
    fill(&place, vec![newer]);
    append(
        &place,
        BARS,
        vec![letter(&bar("A", 0, 1.0), Reason::Overflow)],
    );
    expect(&place.run(&["dlq", "replay"]).code(0), "bars 1 0 1 0 0");
    assert_eq!(all::<Bar>(&place)[0].close_price, Some(2.0));
}

/// Ten letters: the even ones overflowed, the odd ones were refused.
fn ten_letters(place: &Place) {
    for n in 0..10_i32 {
        let reason = if n % 2 == 0 {
            Reason::Overflow
        } else {
            Reason::RejectedRow
        };
        let bar = bar(&format!("S{n}"), 0, f64::from(n));
        append(place, BARS, vec![letter(&bar, reason)]);
    }
}

#[test]
fn a_part_of_the_letters_can_be_chosen() {
    let place = Place::new();
    ten_letters(&place);
    expect(
        &place
            .run(&["dlq", "replay", "--reason", "overflow", "--limit", "2"])
            .code(0),
        "bars 2 2 0 0 0",
    );
    let stored = |place: &Place| -> Vec<String> {
        let mut symbols: Vec<_> = all::<Bar>(place)
            .iter()
            .map(|b| b.symbol.to_string())
            .collect();
        symbols.sort();
        symbols
    };
    assert_eq!(stored(&place), ["S0", "S2"], "the oldest first");
    expect(
        &place.run(&["dlq", "replay", "--symbol", "s5"]).code(0),
        "bars 1 1 0 0 0",
    );
    let id = listed(&place, &["--symbol", "S7"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    expect(
        &place.run(&["dlq", "replay", "--id", &id]).code(0),
        "bars 1 1 0 0 0",
    );
    assert_eq!(stored(&place), ["S0", "S2", "S5", "S7"]);
    let none = place.run(&["dlq", "replay", "--kind", "news"]).code(0);
    assert_eq!(none.stderr, "there are no such letters\n");
    let none = place
        .run(&["dlq", "replay", "--until", "2020-01-01"])
        .code(0);
    assert_eq!(none.stderr, "there are no such letters\n");
    assert_eq!(listed(&place, &[]).len(), 6);
    expect(
        &place.run(&["dlq", "replay", "--kind", "bars"]).code(0),
        "bars 6 6 0 0 0",
    );
    assert_eq!(count::<Bar>(&place), 10);
    place.run(&["dlq", "replay", "--reason", "because"]).code(2);
    place.run(&["dlq", "replay", "--limit", "few"]).code(2);
}

#[test]
fn a_dry_run_says_what_would_be_replayed() {
    let place = Place::new();
    ten_letters(&place);
    place.write("bad.csv", "vendor,symbol,timeframe,ts\nacme,ABC,1m,never\n");
    place.run(&["ingest", "bars", "bad.csv"]).code(3);
    fs::remove_file(place.path(STORE)).unwrap();
    let before = fs::read(place.path(BARS)).unwrap();
    let outcome = place
        .run(&["dlq", "replay", "--dry-run"])
        .code(0)
        .says("dry run: nothing was replayed");
    expect(&outcome, "bars 11 0 0 0 1");
    let outcome = place
        .run(&["dlq", "replay", "--dry-run", "--limit", "4"])
        .code(0);
    expect(&outcome, "bars 4 0 0 0 0");
    assert_eq!(fs::read(place.path(BARS)).unwrap(), before);
    assert!(!place.path(STORE).exists());
}

#[test]
fn a_line_that_is_no_record_stays_where_it_is() {
    let place = Place::new();
    place.write("bad.csv", "vendor,symbol,timeframe,ts\nacme,ABC,1m,never\n");
    place.run(&["ingest", "bars", "bad.csv"]).code(3);
    append(
        &place,
        BARS,
        vec![letter(&bar("A", 0, 1.0), Reason::Overflow)],
    );
    let outcome = place
        .run(&["dlq", "replay"])
        .code(3)
        .says(" is not replayed: it holds a line that is no record\n");
    expect(&outcome, "bars 2 1 0 0 1");
    let left = listed(&place, &[]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["reason"], "invalid");
    assert_eq!(left[0]["metadata"]["replays"], 0);
}

#[test]
fn a_record_that_is_no_market_fact_stays_where_it_is() {
    let place = Place::new();
    let bad = Bar {
        high_price: Some(1.0),
        low_price: Some(2.0),
        ..bar("A", 0, 1.5)
    };
    append(&place, BARS, vec![letter(&bad, Reason::RejectedRow)]);
    let outcome = place
        .run(&["dlq", "replay"])
        .code(3)
        .says(" is not replayed: high_price");
    expect(&outcome, "bars 1 0 0 0 1");
    assert_eq!(listed(&place, &[]).len(), 1);
}

#[test]
fn a_record_that_is_too_large_stays_where_it_is() {
    let place = Place::new();
    let news = |id: &str, title: &str| LetterDraft {
        kind: Some("news".to_owned()),
        item: serde_json::to_value(article(id, title)).unwrap().into(),
        ..letter(&bar("A", 0, 1.0), Reason::Overflow)
    };
    let letters = vec![
        news("1", "short"),
        news("2", &"long ".repeat(400)),
        news("3", "short too"),
    ];
    append(&place, "all.ndjson", letters);
    let replay = |flags: &[&str], code| {
        let args = [&["dlq", "replay", "--dlq", "all.ndjson"][..], flags].concat();
        let env = [("MDS_COORDINATOR_MAX_BYTES", "1024")];
        place.run_with_env(&args, &env).code(code)
    };
    expect(&replay(&["--dry-run"], 0), "news 3 0 0 0 1");
    let outcome = replay(&[], 3)
        .errors(&[])
        .says(" is not replayed: a record takes ")
        .says(" bytes, more than coordinator_max_bytes (1024) allows\n");
    expect(&outcome, "news 3 2 0 0 1");
    assert_eq!(count::<News>(&place), 2);
    let left = listed(&place, &["--dlq", "all.ndjson"]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["replays"], 0);
    // With room for it, it is replayed.
    let all = place.run(&["dlq", "replay", "--dlq", "all.ndjson"]).code(0);
    expect(&all, "news 1 1 0 0 0");
}

#[test]
fn each_kind_has_its_line() {
    let place = Place::new();
    append(
        &place,
        "all.ndjson",
        vec![letter(&bar("A", 0, 1.0), Reason::Overflow)],
    );
    let news = serde_json::to_value(article("1", "A")).unwrap();
    let mut draft = letter(&bar("B", 0, 1.0), Reason::Overflow);
    draft.kind = Some("news".to_owned());
    draft.item = news.into();
    append(&place, "all.ndjson", vec![draft]);
    let outcome = place.run(&["dlq", "replay", "--dlq", "all.ndjson"]).code(0);
    assert_eq!(
        table(&outcome)[1..],
        ["bars 1 1 0 0 0".to_owned(), "news 1 1 0 0 0".to_owned()]
    );
    assert_eq!((count::<Bar>(&place), count::<News>(&place)), (1, 1));
}
