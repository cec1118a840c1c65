//! Stores and dead letters that cannot be written: one clear error before the first row, or an end
//! that loses nothing.

use std::fs;

use mds_core::Bar;

use super::{bars, rows};
use crate::data::count;
use crate::run::{Outcome, Place, skip};

fn ingest(place: &Place, args: &[&str]) -> Outcome {
    place.run(&[&["ingest", "bars"][..], args].concat())
}

#[test]
fn stores_that_cannot_be_opened() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    let open = |store: &str| ingest(&place, &["bars.csv", "--store", store]).code(1);
    open("sqlite:no/such/folder/x.db").errors(&[
        "cannot open the store sqlite:no/such/folder/x.db: there is no folder no/such/folder; \
         create it, or choose another path",
    ]);
    open("sqlite:bars.csv").says("error: bars.csv: cannot open the store (SQLITE_NOTADB): ");
    assert_eq!(fs::read_to_string(place.path("bars.csv")).unwrap(), bars(3));
    fs::create_dir(place.path("folder")).unwrap();
    let what = "it must be a file, or a name for one in a folder that can be written to";
    open("sqlite:folder").errors(&[&format!("cannot open the store sqlite:folder: {what}")]);
    if place.path("/proc/self").exists() {
        open("sqlite:/proc/x.db")
            .errors(&[&format!("cannot open the store sqlite:/proc/x.db: {what}")]);
    }
    assert!(!place.path(".dlq").exists(), "nothing was begun");
}

#[test]
fn a_port_for_metrics_that_is_taken() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    ingest(&place, &["bars.csv", "--metrics", &address])
        .code(1)
        .says(&format!(
            "error: cannot serve metrics on {address}; choose another port: "
        ));
    assert_eq!(count::<Bar>(&place), 0);
}

#[test]
fn metrics_are_served_where_the_settings_say() {
    let place = Place::new();
    place.write("bars.csv", &bars(1));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let outcome = place.run_with_env(&["ingest", "bars", "bars.csv"], &[("MDS_LISTEN", &address)]);
    assert!(
        outcome
            .stderr
            .contains(&format!("cannot serve metrics on {address}")),
        "{outcome:#?}"
    );
    outcome.code(1);
}

#[test]
fn a_store_that_may_only_be_read() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    place.write("bars.csv", &bars(3));
    fs::create_dir(place.path("store")).unwrap();
    let store = "sqlite:store/market.db";
    ingest(&place, &["bars.csv", "--store", store]).code(0);
    let mode = |path: &str, mode| {
        fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("store/market.db", 0o444);
    mode("store", 0o555);
    let binds = fs::File::create(place.path("store/probe")).is_err();
    let outcome = binds.then(|| ingest(&place, &["bars.csv", "--store", store]));
    mode("store", 0o755);
    match outcome {
        Some(outcome) => drop(outcome.code(1).says("error: ")),
        None => skip("permission bits do not bind this user"),
    }
}

#[test]
fn dead_letters_that_cannot_be_written() {
    let place = Place::new();
    place.write("bars.csv", &bars(3));
    fs::create_dir(place.path("folder")).unwrap();
    for (dlq, told) in [
        ("folder", "error: cannot open the dead letters folder: "),
        (
            "bars.csv/x.ndjson",
            "error: cannot open the dead letters bars.csv/x.ndjson: ",
        ),
        (
            "/proc/none/x.ndjson",
            "error: cannot open the dead letters /proc/none/x.ndjson: ",
        ),
    ] {
        ingest(&place, &["bars.csv", "--dlq", dlq])
            .code(1)
            .says(told);
    }
    // It is known before the first row.
    assert_eq!(count::<Bar>(&place), 0);
}

#[test]
fn dead_letters_never_go_into_a_file_that_is_something_else() {
    let place = Place::new();
    place.write("bars.csv", &format!("{}acme,ABC,1m,never,1\n", bars(3)));
    std::os::unix::fs::symlink("bars.csv", place.path("link.csv")).unwrap();
    for (dlq, what) in [
        ("market.db", "the store"),
        ("./market.db", "the store"),
        ("bars.csv", "an input"),
        ("link.csv", "an input"),
    ] {
        place.run(&["migrate"]).code(0);
        ingest(&place, &["bars.csv", "--dlq", dlq])
            .code(2)
            .errors(&[&format!(
                "dead letters cannot go to {dlq}, which is {what}; choose another --dlq"
            )]);
    }
    assert_eq!(count::<Bar>(&place), 0);
    assert_eq!(
        fs::read_to_string(place.path("bars.csv"))
            .unwrap()
            .lines()
            .count(),
        5
    );
}

#[test]
fn dead_letters_on_a_full_disk_stop_the_run() {
    if !std::path::Path::new("/dev/full").exists() {
        skip("there is no /dev/full");
        return;
    }
    let place = Place::new();
    std::os::unix::fs::symlink("/dev/full", place.path("full.ndjson")).unwrap();
    place.write(
        "bars.csv",
        &format!(
            "{}acme,ABC,1m,never,1\n{}",
            bars(5_000),
            rows(5_000..10_000)
        ),
    );
    let run = |dlq: &str| ingest(&place, &["bars.csv", "--json", "--dlq", dlq]);
    let outcome = run("full.ndjson")
        .code(1)
        .says("the first line not taken is bars.csv:")
        .says("to resume, run the same command again: rows that are in already write nothing\n");
    let stored = count::<Bar>(&place);
    // What was taken is in the store, to the row.
    assert!(
        outcome.books().contains(&format!("written {stored}")),
        "{}",
        outcome.books()
    );
    assert!((2_000..10_000).contains(&stored), "{stored}");
    outcome.errors(&[
        "the dead letters cannot be written: cannot append dead letters to \"full.ndjson\": No \
         space left on device (os error 28)",
    ]);
    let rest = 10_000 - stored;
    let resumed = run("room.ndjson").code(3);
    assert_eq!(
        resumed.books(),
        format!("read 10001, written {rest}, superseded {stored}, dead_lettered 1")
    );
}
