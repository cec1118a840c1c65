//! Letters that another program wrote: without an id, a kind or a reason.

use std::fs;

use mds_core::{Bar, News};
use serde_json::{Value, json};

use super::{execute, expect, listed, refused};
use crate::data::{all, article, bar, count};
use crate::dlq::BARS;
use crate::run::Place;

/// A letter as another program writes it: without an id, a kind or a reason.
fn foreign(items: &[Value]) -> String {
    json!({"ts": 1_760_534_400.123, "error": "timeout", "metadata": {"stage": "write"}, "items": items})
        .to_string()
        + "\n"
}

fn record(bar: &Bar) -> Value {
    serde_json::to_value(bar).unwrap()
}

#[test]
fn letters_of_another_program_are_of_the_kind_that_their_file_is_for() {
    let place = Place::new();
    fs::create_dir(place.path(".dlq")).unwrap();
    let items = [record(&bar("A", 0, 1.0)), record(&bar("B", 0, 2.0))];
    place.write(BARS, &foreign(&items));
    // One letter of two records.
    expect(&place.run(&["dlq", "replay"]).code(0), "bars 1 2 0 0 0");
    assert_eq!(count::<Bar>(&place), 2);
}

#[test]
fn letters_of_another_program_in_a_file_for_all_kinds_need_their_kind() {
    let place = Place::new();
    let news = serde_json::to_value(article("1", "A")).unwrap();
    place.write("all.ndjson", &foreign(&[news]));
    let unsaid = place.run(&["dlq", "--dlq", "all.ndjson", "replay"]).code(3);
    assert_eq!(
        unsaid.stderr,
        "1 letters in all.ndjson do not say their kind; replay with --kind\n"
    );
    let said = place
        .run(&["dlq", "--dlq", "all.ndjson", "replay", "--kind", "news"])
        .code(0);
    expect(&said, "news 1 1 0 0 0");
    assert_eq!(all::<News>(&place)[0].title.as_deref(), Some("A"));
}

#[test]
fn a_letter_of_several_records_becomes_one_for_each_that_fails() {
    let place = refused();
    fs::remove_file(place.path(BARS)).unwrap();
    let thirteen = |symbol: &str| record(&bar(symbol, 0, 13.0));
    place.write(
        BARS,
        &foreign(&[thirteen("X"), record(&bar("Y", 0, 1.0)), thirteen("Z")]),
    );
    expect(&place.run(&["dlq", "replay"]).code(3), "bars 1 1 0 2 0");
    let letters = listed(&place, &[]);
    let left: Vec<(&Value, &Value, usize)> = letters
        .iter()
        .map(|l| {
            (
                &l["items"][0]["symbol"],
                &l["metadata"]["replays"],
                l["items"].as_array().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(
        left,
        [(&"X".into(), &1.into(), 1), (&"Z".into(), &1.into(), 1)]
    );
    execute(&place, "DROP TRIGGER no_thirteen");
    expect(&place.run(&["dlq", "replay"]).code(0), "bars 2 2 0 0 0");
}
