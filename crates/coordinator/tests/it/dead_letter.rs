//! Dead letters, on real files and with real processes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a step that fails ends its test; children and seeds speak on standard output"
)]

mod children;
mod faults;
mod processes;
mod reading;
mod replaying;
mod spec;

use std::path::{Path, PathBuf};

use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqOptions, Entry, Letter, LetterDraft, LetterFilter, LetterItem, Reason,
};
use serde_json::{Value, json};
use tempfile::TempDir;

type Dlq = DeadLetterQueue<Value>;

/// A folder that goes away with the test, and the path of a queue in it.
fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bars.ndjson");
    (dir, path)
}

fn open(path: &Path) -> Dlq {
    Dlq::open(path, DlqOptions::default()).unwrap()
}

/// Options under which a file takes a few letters.
fn small_files() -> DlqOptions {
    DlqOptions {
        max_file_bytes: 1_000,
        ..DlqOptions::default()
    }
}

fn draft(number: u64) -> LetterDraft {
    let item = json!({"symbol": format!("S{}", number % 3), "number": number});
    LetterDraft {
        kind: Some("bars".to_owned()),
        code: Some(format!("2351{}", number % 2)),
        attempts: 1,
        worker_id: Some(2),
        ..LetterDraft::new(
            "prod",
            Reason::RejectedRow,
            "violates a check",
            "rejected",
            item.into(),
        )
    }
}

fn drafts(numbers: std::ops::Range<u64>) -> Vec<LetterDraft> {
    numbers.map(draft).collect()
}

fn letters<T: serde::de::DeserializeOwned>(dlq: &DeadLetterQueue<T>) -> Vec<Letter<T>> {
    let entries = dlq.list(LetterFilter::default()).unwrap();
    entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Letter(letter) => Some(letter),
            Entry::Damaged(_) => None,
        })
        .collect()
}

/// The numbers of the letters, in the order in which they are read.
fn numbers(dlq: &Dlq) -> Vec<u64> {
    letters(dlq).iter().map(number).collect()
}

fn number(letter: &Letter<Value>) -> u64 {
    letter.items[0].record().unwrap()["number"]
        .as_u64()
        .unwrap()
}

fn damaged(dlq: &Dlq) -> u64 {
    dlq.histogram(LetterFilter::default()).unwrap().damaged
}

/// The names in the folder of the queue, sorted.
fn names(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Random numbers from `MDS_SEED`, or from a seed that a failed test shows.
fn rng() -> fastrand::Rng {
    let seed = std::env::var("MDS_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("MDS_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn line_item(line: &str) -> LetterItem {
    LetterItem::line(line.as_bytes())
}
