//! What `--help` says: one golden file a command.

use crate::run::{Place, golden};

/// Every command and subcommand, as words to type.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["ingest"],
    &["query"],
    &["latest"],
    &["stats"],
    &["export"],
    &["delete"],
    &["dlq"],
    &["dlq", "list"],
    &["dlq", "show"],
    &["dlq", "purge"],
    &["dlq", "replay"],
    &["audit"],
    &["wal"],
    &["wal", "inspect"],
    &["wal", "verify"],
    &["wal", "accept-damage"],
    &["selftest"],
    &["migrate"],
    &["health"],
    &["demo"],
    &["config"],
    &["config", "show"],
    &["config", "check"],
    &["bench"],
    &["bench", "null"],
    &["bench", "sqlite"],
    &["bench", "postgres"],
    &["bench", "reads"],
    &["bench", "latency"],
    &["bench", "queue"],
    &["bench", "workers"],
    &["bench", "idle"],
    &["bench", "wal"],
];

#[test]
fn every_command_explains_itself() {
    let place = Place::new();
    for words in COMMANDS {
        let mut args = words.to_vec();
        args.push("--help");
        let outcome = place.run(&args).code(0);
        assert_eq!(outcome.stderr, "", "{words:?}");
        let name = if words.is_empty() {
            "mds".to_owned()
        } else {
            words.join("-")
        };
        golden(&format!("help/{name}.txt"), &outcome.stdout);
        if !words.is_empty() {
            assert!(
                outcome.stdout.contains("Examples:\n  mds "),
                "{words:?} has no example"
            );
        }
    }
}

#[test]
fn without_a_command_the_help_is_shown_as_an_error() {
    let outcome = Place::new().run(&[]).code(2);
    assert!(outcome.stderr.contains("Usage: mds"), "{}", outcome.stderr);
}

#[test]
fn a_mistyped_command_gets_a_suggestion() {
    let outcome = Place::new().run(&["confg"]).code(2);
    assert!(outcome.stderr.contains("'config'"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
}

#[test]
fn the_version_is_printed() {
    let outcome = Place::new().run(&["--version"]).code(0);
    assert_eq!(
        outcome.stdout,
        format!("mds {}\n", env!("CARGO_PKG_VERSION"))
    );
}
