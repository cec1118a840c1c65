//! `mds delete`, `mds migrate` and `mds health`.

use std::fs;

use mds_core::{Bar, TenantId};
use serde_json::Value;

use crate::data::{bar, count, fill};
use crate::run::{Place, skip};

fn three_bars() -> Place {
    let place = Place::new();
    fill(
        &place,
        vec![bar("A", 0, 1.0), bar("A", 1, 2.0), bar("B", 0, 3.0)],
    );
    place
}

#[test]
fn a_deletion_says_what_goes_and_needs_a_yes() {
    let place = three_bars();
    let asked = place
        .run(&["delete", "bars", "--symbol", "A", "--timeframe", "1m"])
        .code(2);
    assert_eq!(
        asked.stderr,
        "error: this deletes 2 1m bars of A from sqlite:market.db; add --yes to do so\n"
    );
    assert_eq!(count::<Bar>(&place), 3);

    let end = "2024-11-01T00:01:00Z";
    let done = place
        .run(&["delete", "bars", "--symbol", "A", "--end", end, "--yes"])
        .code(0);
    assert_eq!(done.stderr, format!("deleted 1 bars of A before {end}\n"));
    assert_eq!(count::<Bar>(&place), 2);

    let none = place
        .run(&["delete", "bars", "--symbol", "C", "--yes"])
        .code(0);
    assert_eq!(none.stderr, "there are no bars of C\n");
    place.run(&["delete", "bars", "--all", "--yes"]).code(0);
    assert_eq!(count::<Bar>(&place), 0);
}

#[test]
fn a_deletion_without_a_choice_is_refused() {
    let place = three_bars();
    let outcome = place.run(&["delete", "bars", "--yes"]).code(2);
    assert_eq!(
        outcome.stderr,
        "error: say which bars to delete, such as --symbol SPY, or --all\n"
    );
    let outcome = place
        .run(&["delete", "bars", "--all", "--symbol", "A", "--yes"])
        .code(2);
    assert!(
        outcome.stderr.contains("--all deletes everything"),
        "{}",
        outcome.stderr
    );
    // A span restricts bars alone: for another kind it would delete more than it says.
    place
        .run(&["delete", "news", "--timeframe", "1m", "--yes"])
        .code(2);
    assert_eq!(count::<Bar>(&place), 3);
}

#[test]
fn a_deletion_keeps_to_its_tenant() {
    let place = Place::new();
    let other = TenantId::from_u128(7);
    fill(
        &place,
        vec![
            bar("A", 0, 1.0),
            Bar {
                tenant_id: other,
                ..bar("A", 0, 2.0)
            },
        ],
    );
    let tenant = other.to_string();
    let done = place
        .run(&["delete", "bars", "--all", "--tenant", &tenant, "--yes"])
        .code(0);
    assert_eq!(done.stderr, format!("deleted 1 bars of tenant {tenant}\n"));
    assert_eq!(count::<Bar>(&place), 1);
}

#[test]
fn a_migration_can_be_planned_and_done() {
    let place = Place::new();
    let plan = place.run(&["migrate", "--plan"]).code(0);
    assert!(
        plan.stderr
            .starts_with("sqlite:market.db would go from version 0 to "),
        "{plan:?}"
    );
    assert!(!place.path("market.db").exists(), "a plan makes nothing");

    let done = place.run(&["migrate"]).code(0);
    assert!(
        done.stderr
            .starts_with("sqlite:market.db went from version 0 to "),
        "{done:?}"
    );
    let again = place.run(&["migrate", "--json"]).code(0);
    assert!(
        again.stderr.starts_with("sqlite:market.db is up to date"),
        "{again:?}"
    );
    let report: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(report["from"], report["to"]);
    assert_eq!(report["steps"].as_array().unwrap().len(), 0);
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let place = Place::new();
    place.write(
        "market.db",
        "a file of somebody else, longer than a page header would be",
    );
    let outcome = place.run(&["migrate"]).code(1);
    assert!(
        outcome.stderr.starts_with("error: market.db: "),
        "{}",
        outcome.stderr
    );
    let text = fs::read_to_string(place.path("market.db")).unwrap();
    assert!(text.starts_with("a file of somebody else"));
}

#[test]
fn health_is_an_exit_code_and_a_table() {
    let place = three_bars();
    let outcome = place.run(&["health"]).code(0);
    assert_eq!(
        outcome.stdout,
        "check         status  detail\n\
         store         ok      sqlite:market.db\n\
         revisions     ok      not ahead of the clock\n\
         dead letters  ok      none wait\n"
    );
    assert_eq!(place.run(&["health", "--quiet"]).code(0).stdout, "");
}

#[test]
fn health_is_degraded_while_revisions_run_ahead() {
    let place = Place::new();
    // The year 2199.
    fill(
        &place,
        vec![Bar {
            revision: 7_258_000_000_000_000,
            ..bar("A", 0, 1.0)
        }],
    );
    let outcome = place.run(&["health", "--json"]).code(0);
    let health: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["store"]["status"], "ok");
    assert!(health["revisions"]["ahead_micros"].as_i64().unwrap() > 0);
}

#[test]
fn health_fails_where_the_store_cannot_be_written_to() {
    let place = Place::new();
    let outcome = place.run(&["health", "--json"]).code(1);
    let health: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&health["status"], &health["store"]["status"]),
        (&"failed".into(), &"failed".into())
    );
    assert!(
        health["store"]["detail"]
            .as_str()
            .unwrap()
            .contains("there is no store here")
    );
    assert!(!place.path("market.db").exists());

    let broken = place
        .run(&["health", "--store", "postgres://me:hunter2@127.0.0.1:1/d"])
        .code(1);
    assert!(!broken.stdout.contains("hunter2"), "{}", broken.stdout);
}

#[test]
fn a_folder_in_place_of_the_store_is_told_the_same_by_every_command() {
    let place = Place::new();
    fs::create_dir(place.path("market.db")).unwrap();
    let told = "cannot open the store sqlite:market.db: it must be a file, or a name for one in a \
                folder that can be written to";
    for args in [
        &["query", "bars"][..],
        &["latest"],
        &["stats"],
        &["export", "bars", "--out", "bars.csv"],
        &["delete", "bars", "--all", "--yes"],
        &["migrate"],
        &["migrate", "--plan"],
    ] {
        place.run(args).code(1).errors(&[told]);
    }
    let health = place.run(&["health", "--json"]).code(1);
    let health: Value = serde_json::from_str(&health.stdout).unwrap();
    assert_eq!(health["store"]["detail"], told);
}

#[test]
fn health_tells_what_sqlite_says_once() {
    let place = Place::new();
    place.write(
        "market.db",
        "a file of somebody else, longer than a page header would be",
    );
    let health = place.run(&["health", "--json"]).code(1);
    let health: Value = serde_json::from_str(&health.stdout).unwrap();
    assert_eq!(
        health["store"]["detail"],
        "market.db: cannot open the store (SQLITE_NOTADB): file is not a database"
    );
}

#[test]
fn what_reading_needs_is_told_where_the_folder_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = three_bars();
    fs::create_dir(place.path("shelf")).unwrap();
    fs::rename(place.path("market.db"), place.path("shelf/market.db")).unwrap();
    let mode = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(place.path("shelf"), permissions).unwrap();
    };
    mode(0o555);
    let binds = fs::File::create(place.path("shelf/probe")).is_err();
    let store = "sqlite:shelf/market.db";
    let outcome = binds.then(|| place.run(&["query", "bars", "--store", store]));
    mode(0o755);
    let Some(outcome) = outcome else {
        skip("permission bits do not bind this user");
        return;
    };
    outcome.code(1).errors(&[
        "shelf/market.db: cannot open the store (SQLITE_READONLY_DIRECTORY): attempt to write a \
         readonly database; the files -wal and -shm are kept beside it, also for reading: make its \
         folder writable, or copy the store into one that is",
    ]);
}
