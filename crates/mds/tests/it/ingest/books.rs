//! Every row of an input is accounted for: the books, the letters, the limits on bad rows.

use mds_core::Bar;
use serde_json::Value;

use super::{HEADER, bars, gzip, letters, places, rows, zip};
use crate::data::{all, count};
use crate::run::Place;

#[test]
fn the_table_for_people() {
    let place = Place::new();
    place.write("bars.csv", &format!("{}acme,ABC,1m,never,1\n", bars(1_234)));
    let outcome = place
        .run(&["ingest", "bars", "bars.csv", "--workers", "1"])
        .code(3);
    let (head, table) = outcome.stdout.split_once('\n').unwrap();
    assert!(
        head.starts_with("bars: ") && head.ends_with(" rows/s"),
        "{head}"
    );
    assert_eq!(
        table,
        "  read                   1,235\n\
         \x20 written                1,234\n\
         \x20 superseded                 0\n\
         \x20 dead-lettered              1\n\
         \x20 dropped                    0\n\
         \x20 refused                    0\n"
    );
    assert_eq!(
        outcome.stderr,
        "bars.csv: format csv: the header has our own field names\n\
         dead letters are in .dlq/bars.ndjson; `mds dlq list --dlq .dlq/bars.ndjson` shows them\n"
    );
}

#[test]
fn quiet_tells_of_errors_only() {
    let place = Place::new();
    place.write("bars.csv", &bars(2));
    let outcome = place
        .run(&["ingest", "bars", "bars.csv", "--quiet"])
        .code(0);
    assert_eq!(outcome.stderr, "");
    place.write("bad.csv", &format!("{}acme,ABC,1m,never,1\n", bars(2)));
    let outcome = place.run(&["ingest", "bars", "bad.csv", "-q"]).code(3);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_bad_row_becomes_a_letter_with_its_file_and_line() {
    let place = Place::new();
    let text = format!(
        "{HEADER}{}acme,ABC,1m,2024-02-01T00:00:00Z,x\n\n{}acme,,1m,2024-02-01T00:01:00Z,1\nshort\n",
        rows(0..2),
        rows(2..4)
    );
    place.write("bars.csv", &text);
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(3);
    assert_eq!(outcome.books(), "read 7, written 4, dead_lettered 3");

    let letters = letters(&place, ".dlq/bars.ndjson");
    // The header is line 1, and the blank line 5 counts as a line, though it is no row.
    assert_eq!(places(&letters), ["bars.csv:4", "bars.csv:8", "bars.csv:9"]);
    let told: Vec<(&str, &Value, &Value)> = letters
        .iter()
        .map(|l| {
            (
                l["error"].as_str().unwrap(),
                &l["metadata"]["code"],
                &l["items"][0],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "close_price = \"x\": must be a number",
                &"malformed".into(),
                &"acme,ABC,1m,2024-02-01T00:00:00Z,x".into()
            ),
            (
                "symbol: a key part must be present",
                &"missing_key".into(),
                &"acme,,1m,2024-02-01T00:01:00Z,1".into()
            ),
            (
                "line: a row must have 5 fields, this one has 1",
                &"column_count".into(),
                &"short".into()
            ),
        ]
    );
    for letter in &letters {
        assert_eq!(letter["metadata"]["reason"], "invalid");
        assert_eq!(letter["metadata"]["kind"], "bars");
    }

    // The same file again has the same letters: they are listed once.
    let again = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(3);
    assert_eq!(again.books(), "read 7, superseded 4, dead_lettered 3");
    let listed = place.run(&["dlq", "list", "--json"]).code(0);
    assert_eq!(listed.stdout.lines().count(), 3);
}

#[test]
fn what_cannot_be_a_market_fact_is_a_bad_row() {
    let place = Place::new();
    let bar = |fields: &str| {
        format!(
            "{{\"vendor\":\"acme\",\"symbol\":\"ABC\",\"timeframe\":\"1m\",\
             \"ts\":\"2024-11-01T00:00:00Z\",{fields}}}\n"
        )
    };
    let text = [
        bar("\"high_price\":1,\"low_price\":2"),
        bar("\"volume\":-1"),
        bar("\"close_price\":1e999"),
        bar("\"price\":1"),
        bar("\"close_price\":1,\"close_price\":2"),
        bar("\"close_price\":-37.63"),
    ];
    place.write("bars.ndjson", &text.concat());
    let outcome = place
        .run(&["ingest", "bars", "bars.ndjson", "--json"])
        .code(3);
    assert_eq!(outcome.books(), "read 6, written 1, dead_lettered 5");
    let letters = letters(&place, ".dlq/bars.ndjson");
    let fields: Vec<&str> = letters
        .iter()
        .map(|l| l["metadata"]["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "high_price",
            "volume",
            "close_price",
            "price",
            "close_price"
        ]
    );
    // Oil has been sold for less than nothing.
    assert_eq!(all::<Bar>(&place)[0].close_price, Some(-37.63));
}

#[test]
fn lines_count_anew_in_each_file_of_an_archive() {
    let place = Place::new();
    let bad = "acme,ABC,1m,never,1\n";
    let first = format!("{HEADER}{}{bad}", rows(0..3));
    let second = format!("{HEADER}{bad}{}", rows(3..5));
    std::fs::write(
        place.path("b.zip"),
        zip(&[("one.csv", &first), ("two.csv", &second)]),
    )
    .unwrap();
    std::fs::write(place.path("b.csv.gz"), gzip(&first)).unwrap();
    let outcome = place
        .run(&["ingest", "bars", "b.zip", "b.csv.gz", "--json"])
        .code(3);
    assert_eq!(
        outcome.books(),
        "read 11, written 5, superseded 3, dead_lettered 3"
    );
    assert_eq!(
        places(&letters(&place, ".dlq/bars.ndjson")),
        ["b.zip!one.csv:5", "b.zip!two.csv:2", "b.csv.gz:5"]
    );
}

#[test]
fn of_two_rows_with_one_key_the_later_line_wins() {
    let place = Place::new();
    place.write(
        "bars.csv",
        &format!(
            "{HEADER}acme,ABC,1m,2024-11-01T00:00:00Z,9\nacme,abc,1m,2024-11-01T00:00:00Z,1\n"
        ),
    );
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(0);
    assert_eq!(outcome.books(), "read 2, written 1, superseded 1");
    assert_eq!(all::<Bar>(&place)[0].close_price, Some(1.0));
}

#[test]
fn a_row_with_a_revision_of_the_future_is_a_bad_row() {
    let place = Place::new();
    place.write(
        "bars.csv",
        "vendor,symbol,timeframe,ts,close_price,revision\n\
         acme,ABC,1m,2024-11-01T00:00:00Z,1,1730500000000000\n\
         acme,ABC,1m,2024-11-01T00:01:00Z,2,7258000000000000\n",
    );
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(3);
    assert_eq!(outcome.books(), "read 2, written 1, dead_lettered 1");
    assert_eq!(all::<Bar>(&place)[0].revision, 1_730_500_000_000_000);
    let letters = letters(&place, ".dlq/bars.ndjson");
    assert_eq!(places(&letters), ["bars.csv:3"]);
    assert_eq!(
        letters[0]["error"],
        "revision = \"7258000000000000\": a revision cannot be more than 5 minutes ahead of the clock"
    );
}

#[test]
fn a_run_stops_beyond_so_many_bad_rows() {
    let place = Place::new();
    let bad = "acme,ABC,1m,never,1\n".repeat(3);
    place.write("bars.csv", &format!("{}{bad}", bars(7)));
    let run = |most: &str| place.run(&["ingest", "bars", "bars.csv", "--json", "--max-bad", most]);
    run("3").code(3).errors(&[]);
    let stopped = run("2").code(1);
    assert_eq!(stopped.books(), "read 10, superseded 7, dead_lettered 3");
    stopped.errors(&["3 of 10 rows are bad, more than --max-bad allows"]);
    run("0").code(1);
}

#[test]
fn a_run_stops_beyond_a_share_of_bad_rows() {
    let place = Place::new();
    let bad = "acme,ABC,1m,never,1\n".repeat(10);
    let run =
        |name: &str, most: &str| place.run(&["ingest", "bars", name, "--json", "--max-bad", most]);
    place.write("bars.csv", &format!("{}{bad}", bars(990)));
    run("bars.csv", "1%").code(3).errors(&[]);
    let stopped = run("bars.csv", "0.9%").code(1);
    assert_eq!(
        stopped.books(),
        "read 1000, superseded 990, dead_lettered 10"
    );
    stopped.errors(&["10 of 1000 rows are bad, more than --max-bad allows"]);
    // A share of a few rows says nothing.
    place.write("few.csv", &format!("{}{bad}", bars(980)));
    run("few.csv", "0.9%").code(3).errors(&[]);
}

#[test]
fn a_thousand_bad_rows_first_are_taken_for_a_wrong_map() {
    let place = Place::new();
    let bad = "acme,ABC,1m,1/11/2024,1\n".repeat(1_000);
    place.write("bars.csv", &format!("{HEADER}{bad}{}", rows(0..5_000)));
    let outcome = place.run(&["ingest", "bars", "bars.csv", "--json"]).code(2);
    assert_eq!(outcome.books(), "read 1000, dead_lettered 1000");
    assert_eq!(count::<Bar>(&place), 0);
    outcome
        .says("the first line not taken is bars.csv:1002\n")
        .errors(&[
            "the first 1000 rows are all bad: the format, --map or --time-format is probably \
             wrong; `mds dlq list` shows the rows",
        ]);
    // One good row among them, and it is a file with bad rows.
    let other = Place::new();
    let bad = "acme,ABC,1m,1/11/2024,1\n".repeat(999);
    other.write("bars.csv", &format!("{HEADER}{bad}{}", rows(0..5_000)));
    let outcome = other.run(&["ingest", "bars", "bars.csv", "--json"]).code(3);
    assert_eq!(
        outcome.books(),
        "read 5999, written 5000, dead_lettered 999"
    );
}

#[test]
fn dead_letters_go_where_they_are_told_to() {
    let place = Place::new();
    place.write("bars.csv", &format!("{HEADER}acme,ABC,1m,never,1\n"));
    let flag = ["ingest", "bars", "bars.csv", "--dlq", "bad/rows.ndjson"];
    place
        .run(&flag)
        .code(3)
        .says("dead letters are in bad/rows.ndjson");
    assert_eq!(places(&letters(&place, "bad/rows.ndjson")), ["bars.csv:2"]);
    let env = [("MDS_DLQ_PATH", "env.ndjson")];
    place
        .run_with_env(&["ingest", "bars", "bars.csv"], &env)
        .code(3);
    assert_eq!(places(&letters(&place, "env.ndjson")), ["bars.csv:2"]);
    assert!(!place.path(".dlq").exists());
}

#[test]
fn a_dry_run_reads_and_writes_nothing() {
    let place = Place::new();
    place.write("bars.csv", &format!("{}acme,ABC,1m,never,1\n", bars(3)));
    let outcome = place
        .run(&["ingest", "bars", "bars.csv", "--dry-run"])
        .code(3);
    assert_eq!(
        outcome.stdout,
        "bars, dry run: 4 rows read, 3 valid, 1 invalid, 0 skipped; nothing was written\n"
    );
    let outcome = outcome.says("bars.csv:5: ts = \"never\": ");
    drop(outcome);
    let json = place
        .run(&["ingest", "bars", "bars.csv", "--dry-run", "--json"])
        .code(3);
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (
            &told["dry_run"],
            &told["read"],
            &told["valid"],
            &told["invalid"],
            &told["skipped"]
        ),
        (&true.into(), &4.into(), &3.into(), &1.into(), &0.into())
    );
    place.write("good.csv", &bars(3));
    place
        .run(&["ingest", "bars", "good.csv", "--dry-run"])
        .code(0);
    place
        .run(&["ingest", "bars", "none.csv", "--dry-run"])
        .code(1);
    assert_eq!(
        super::files(place.path("").as_path()).len(),
        2,
        "neither a store nor letters nor a lock"
    );
}
