//! `mds selftest`: finds nothing on the disk, and finds what the memory queue loses.

use serde_json::{Value, json};

use crate::run::{Outcome, Place};

fn told(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn the_disk_queue_loses_nothing() {
    let place = Place::new();
    let outcome = place
        .run(&["selftest", "--kills", "5", "--seed", "7", "--json"])
        .code(0);
    assert_eq!(outcome.stderr, "");
    let told = told(&outcome);
    assert_eq!(
        (&told["queue"], &told["seed"], &told["good"]),
        (&json!("disk"), &json!(7), &json!(true))
    );
    let kills = &told["kills"];
    assert_eq!(
        (&kills["killed"], &kills["between"]),
        (&json!(5), &json!(5))
    );
    assert_eq!(kills["failed_starts"], 0);
    // Everything that was handed in was acknowledged in the end, and is there once.
    assert_eq!(kills["stored"], kills["acknowledged"]);
    assert!(kills["stored"].as_u64().unwrap() >= 4_000, "{told}");
    let files = &told["corruption"];
    assert_eq!(files["damaged"], 200);
    assert!(
        files["hit"].as_u64() > Some(50) && files["noticed"].as_u64() > Some(100),
        "{told}"
    );
    let disks = &told["simulated_sync_errors"];
    assert_eq!(
        (&disks["disks"], &disks["power_losses"]),
        (&json!(100), &json!(400))
    );
    assert!(disks["refused"].as_u64() > Some(100), "{told}");
    for (part, name) in [
        (kills, "missing"),
        (kills, "doubled"),
        (kills, "changed"),
        (files, "missing"),
        (files, "untold"),
        (files, "wrong"),
        (disks, "missing"),
        (disks, "alarms"),
        (disks, "stuck"),
    ] {
        assert_eq!(part[name], 0, "{name}: {told}");
    }
    assert!(is_empty(&place), "something was left behind");
}

/// The same kills where acknowledged means held in memory: the test notices.
#[test]
fn the_memory_queue_loses_rows() {
    let place = Place::new();
    let outcome = place
        .run(&["selftest", "--kills", "5", "--queue", "memory", "--json"])
        .code(1);
    let told = told(&outcome);
    let kills = &told["kills"];
    assert!(kills["missing"].as_u64() > Some(0), "{told}");
    let (stored, missing) = (&kills["stored"], &kills["missing"]);
    assert_eq!(
        stored.as_u64().unwrap() + missing.as_u64().unwrap(),
        kills["acknowledged"].as_u64().unwrap()
    );
    assert_eq!(told["corruption"], Value::Null);
    let outcome = place
        .run(&["selftest", "--kills", "5", "--queue", "memory"])
        .code(1);
    assert!(
        outcome
            .stdout
            .ends_with("rows were lost: acknowledged by the memory queue means held in memory\n"),
        "{outcome:?}"
    );
    assert!(is_empty(&place), "something was left behind");
}

/// Rounds go on until the time is over; one is always finished.
#[test]
fn chaos_ends_when_its_time_is_over() {
    let place = Place::new();
    let outcome = place
        .run(&["selftest", "--kills", "1", "--chaos", "1ms"])
        .code(0);
    assert!(
        outcome
            .stdout
            .starts_with("1 round in ., queue disk, seed "),
        "{outcome:?}"
    );
    assert!(
        outcome.stdout.contains("\nnot proven\n  power loss: "),
        "{outcome:?}"
    );
    assert!(
        outcome
            .stdout
            .ends_with("\nnothing was lost, doubled or changed\n"),
        "{outcome:?}"
    );
}

#[test]
fn settings_of_the_user_and_a_folder_that_is_not_there_change_nothing() {
    let place = Place::new();
    let missing = place.run(&["selftest", "--dir", "gone"]).code(1);
    assert!(
        missing
            .stderr
            .starts_with("error: cannot make a folder in gone: "),
        "{missing:?}"
    );
    place.write("mds.toml", "store = \"sqlite:other.db\"\n");
    let env = [
        ("MDS_QUEUE", "disk:elsewhere"),
        ("MDS_STORE", "sqlite:own.db"),
    ];
    let args = ["selftest", "--kills", "1", "--queue", "memory", "--json"];
    let told = told(&place.run_with_env(&args, &env));
    assert_eq!(told["kills"]["killed"], 1, "{told}");
    for name in ["elsewhere", "own.db", "other.db"] {
        assert!(!place.path(name).exists(), "{name} was made");
    }
}

fn is_empty(place: &Place) -> bool {
    std::fs::read_dir(place.path(".")).unwrap().next().is_none()
}
