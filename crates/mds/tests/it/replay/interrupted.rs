//! Replays that are kept from their work, and the next one that does it.

use std::fs;

use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, LetterFilter, Reason};
use mds_core::Bar;
use serde_json::Value;

use super::{expect, listed, ten_letters};
use crate::data::{bar, count};
use crate::dlq::{BARS, append, letter};
use crate::ingest::bars;
use crate::run::Place;

#[test]
fn only_one_replays_at_a_time() {
    let place = Place::new();
    ten_letters(&place);
    let letters = DeadLetterQueue::<Value>::at(place.path(BARS), DlqOptions::default()).unwrap();
    let other = letters.replayer(LetterFilter::default()).unwrap();
    let outcome = place.run(&["dlq", "replay"]).code(1);
    outcome.errors(&[
        "cannot replay the letters in .dlq/bars.ndjson: dead letters are being replayed or purged \
         elsewhere (it holds \".dlq/bars.ndjson.replay.lock\"); wait for it",
    ]);
    assert_eq!(listed(&place, &[]).len(), 10);
    drop(other);
    expect(&place.run(&["dlq", "replay"]).code(0), "bars 10 10 0 0 0");
}

#[test]
fn a_store_that_is_away_leaves_the_letters_as_they_are() {
    let place = Place::new();
    ten_letters(&place);
    let before = listed(&place, &[]);
    let lock = crate::ingest::locked(&place);
    let outcome = place
        .run(&["dlq", "replay", "--max-outage", "1s"])
        .code(1)
        .says("waiting for the store (at most 1s): market.db: ");
    outcome.errors(&[
        "the store was away for longer than --max-outage (1s): market.db: cannot write: database \
         is locked (environment, SQLITE_BUSY); the letters that were not replayed are as they were",
    ]);
    // Whatever was not tried has not failed again.
    assert_eq!(listed(&place, &[]), before);
    drop(lock);
    expect(&place.run(&["dlq", "replay"]).code(0), "bars 10 10 0 0 0");

    let outcome = place.run(&["dlq", "replay", "--store", "sqlite:no/folder/x.db"]);
    assert_eq!(outcome.code(0).stderr, "there are no such letters\n");
    ten_letters(&place);
    let outcome = place
        .run(&["dlq", "replay", "--store", "sqlite:no/folder/x.db"])
        .code(1);
    outcome.errors(&[
        "cannot open the store sqlite:no/folder/x.db: there is no folder no/folder; create it, or \
         choose another path",
    ]);
    assert_eq!(listed(&place, &[]).len(), 10);
}

#[test]
fn a_replay_that_is_interrupted_is_completed_by_the_next() {
    let place = Place::new();
    let drafts = (0..5_000)
        .map(|n| letter(&bar("A", n, 1.0), Reason::Overflow))
        .collect();
    append(&place, BARS, drafts);
    let lock = crate::ingest::locked(&place);
    let mut running = place.start(&["dlq", "replay"]);
    running.wait_for("waiting for the store (at most 1m): ");
    running.signal("KILL");
    running.outcome().code(137);
    drop(lock);
    assert_eq!(listed(&place, &[]).len(), 5_000);
    expect(
        &place.run(&["dlq", "replay"]).code(0),
        "bars 5,000 5,000 0 0 0",
    );
    assert_eq!(count::<Bar>(&place), 5_000);
}

#[test]
fn records_of_a_stopped_run_are_written_once() {
    let place = Place::new();
    let lock = crate::ingest::locked(&place);
    let args = ["ingest", "bars", "-", "--max-outage", "1s"];
    let mut running = place.start(&args);
    running.write(&bars(3_000));
    running.close_stdin();
    running.outcome().code(1);
    drop(lock);
    assert_eq!(listed(&place, &["--reason", "shutdown"]).len(), 3_000);

    let copy = fs::read(place.path(BARS)).unwrap();
    expect(
        &place.run(&["dlq", "replay"]).code(0),
        "bars 3,000 3,000 0 0 0",
    );
    assert_eq!(count::<Bar>(&place), 3_000);
    // The same letters once more, as after a kill before they were settled.
    fs::write(place.path(BARS), copy).unwrap();
    expect(
        &place.run(&["dlq", "replay"]).code(0),
        "bars 3,000 0 3,000 0 0",
    );
    assert_eq!(count::<Bar>(&place), 3_000);
}
