//! `mds wal inspect` and `mds wal verify`.

use std::fs;
use std::path::Path;

use mds_wal::{FileStorage, WalOptions, WriteAheadQueue};
use serde_json::{Value, json};

use crate::run::Place;

const SEGMENT: &str = "0000000000000001.seg";

/// A queue of four records, the first of them settled, and closed.
fn queue(place: &Place, dir: &str) {
    open(place, dir);
}

fn open(place: &Place, dir: &str) -> WriteAheadQueue {
    let options = WalOptions {
        identity: "bars, version 1".to_owned(),
        segment_bytes: 64 << 10,
        ..WalOptions::default()
    };
    let (queue, _) = WriteAheadQueue::open(&place.path(dir), options).unwrap();
    let records = ["one", "two", "three", "four"];
    queue.append(records).unwrap().wait().unwrap();
    queue.ack(1..2, 3);
    // The queue keeps it by itself.
    let storage = FileStorage::at(&place.path(dir));
    let floor = || {
        mds_wal::inspect(&storage)
            .unwrap()
            .checkpoint
            .map(|c| c.floor)
    };
    while floor() != Some(2) {
        std::thread::yield_now();
    }
    queue
}

/// All files of a folder with their bytes.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut content: Vec<_> = files
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        .collect();
    content.sort();
    content
}

/// Flips a bit of the third record's payload.
fn damage(place: &Place, dir: &str) {
    let path = place.path(dir).join(SEGMENT);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4_096 + 19 + 19 + 16] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_queue_is_shown_while_a_process_uses_it_and_after() {
    let place = Place::new();
    let running = open(&place, "q");
    let before = content(&place.path("q"));
    // When it was opened, and when it was used: in one or in two.
    let found = mds_wal::inspect(&FileStorage::at(&place.path("q"))).unwrap();
    let written = found.checkpoint.unwrap().generation;
    assert!((2..=3).contains(&written), "{written}");
    let expected = "\
queue        q
made for     bars, version 1
waiting      3 records, from 2 on
next record  5
settled      1: 1 dead-lettered (retries_exhausted)
checkpoint   all below 2 settled, all below 5 durable; written N times

segment               first  last      size  waiting
0000000000000001.seg      1     4  64.0 KiB        3
";
    let outcome = place.run(&["wal", "inspect", "q"]).code(0);
    let expected = expected.replace("N times", &format!("{written} times"));
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        (expected.as_str(), "")
    );
    let outcome = place.run(&["wal", "verify", "q"]).code(0);
    assert_eq!(
        outcome.stdout,
        "q: 4 records in 1 segment whole, 1 settled and 3 waiting; nothing is damaged\n"
    );
    assert!(
        content(&place.path("q")) == before,
        "looking has changed something"
    );
    // And nobody is kept out, then or later.
    drop(running);
    place.run(&["wal", "verify", "q"]).code(0);
    drop(open(&place, "q"));
}

#[test]
fn what_is_damaged_is_told_exactly() {
    let place = Place::new();
    queue(&place, "q");
    damage(&place, "q");
    let before = content(&place.path("q"));
    let expected = "\
q: 3 records in 1 segment whole, 1 settled and 2 waiting; 1 record lost
damage   file                  from byte  to byte  records lost  first
damaged  0000000000000001.seg       4134     4155             1      3
";
    let outcome = place.run(&["wal", "verify", "q"]).code(3);
    assert_eq!(outcome.stdout, expected);
    let outcome = outcome.says("set aside, told and passed over when the queue is opened");
    assert_eq!(outcome.stderr.lines().count(), 1);
    let outcome = place.run(&["wal", "verify", "q", "--json"]).code(3);
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let damage = json!({
        "kind": "damaged", "file": SEGMENT, "from": 4_134, "to": 4_155, "records": 1, "first": 3,
    });
    let expected = json!({
        "dir": "q", "identity": "bars, version 1", "segments": 1, "records": 3, "settled": 1,
        "waiting": 2, "lost": 1, "past_lost": false, "whole": false, "damages": [damage],
    });
    assert_eq!(found, expected);
    assert!(
        content(&place.path("q")) == before,
        "looking has changed something"
    );
    // The queue opens, delivers the others, and keeps the bytes aside.
    drop(open(&place, "q"));
    let outcome = place.run(&["wal", "inspect", "q"]);
    assert!(
        outcome
            .stdout
            .contains("\nset aside    0000000000000001.seg.4134-4155.damaged (21 B)\n")
    );
}

#[test]
fn one_copy_of_the_header_that_is_damaged_costs_nothing_and_both_are_told() {
    let place = Place::new();
    queue(&place, "q");
    let path = place.path("q").join("header");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let outcome = place.run(&["wal", "inspect", "q"]).code(0);
    assert!(
        outcome
            .stdout
            .contains("\ncopy    header          0     4096"),
        "{outcome:?}"
    );
    bytes[3_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let outcome = place.run(&["wal", "inspect", "q"]).code(3);
    let says = "made for     not known: the header cannot be read\n";
    assert!(outcome.stdout.contains(says), "{outcome:?}");
}

#[test]
fn all_queues_of_a_folder_are_shown() {
    let place = Place::new();
    queue(&place, "queues/bars");
    queue(&place, "queues/news");
    place.write("queues/notes.txt", "not a queue");
    fs::create_dir(place.path("queues/other")).unwrap();
    let lines = |args: &[&str], code| -> Vec<Value> {
        let outcome = place.run(args).code(code);
        let lines = outcome.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let found = lines(&["wal", "inspect", "queues", "--json"], 0);
    let dirs: Vec<_> = found.iter().map(|f| f["dir"].as_str().unwrap()).collect();
    assert_eq!(dirs, ["queues/bars", "queues/news"]);
    let first = &found[0];
    assert_eq!((&first["waiting"], &first["next"]), (&json!(3), &json!(5)));
    assert_eq!(
        (&first["salt"], &first["damages"]),
        (&json!(true), &json!([]))
    );
    let settled = &first["checkpoint"]["settled"];
    assert_eq!(
        (
            &settled["written"],
            &settled["dead_lettered"]["retries_exhausted"]
        ),
        (&json!(0), &json!(1))
    );
    let reasons = |fate: &str| settled[fate].as_object().unwrap().len();
    assert_eq!((reasons("dead_lettered"), reasons("dropped")), (6, 6));
    let segment = json!({
        "file": SEGMENT, "number": 1, "first": 1, "end": 5, "bytes": 65_536, "waiting": 3,
        "settled": false,
    });
    assert_eq!(first["segments"], json!([segment]));

    // One that is damaged decides how it ends, and the other is told all the same.
    damage(&place, "queues/bars");
    let found = lines(&["wal", "verify", "queues", "--json"], 3);
    assert_eq!(
        (&found[0]["lost"], &found[1]["lost"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn damage_of_a_queue_that_is_in_use_is_not_accepted() {
    let place = Place::new();
    let running = open(&place, "q");
    let accept = ["wal", "accept-damage", "q", "--yes"];
    let outcome = place.run(&accept).code(1);
    outcome.errors(&["q: the queue is open in another process; stop it first"]);
    drop(running);
    damage(&place, "q");
    let outcome = place.run(&[&accept[..], &["--json"]].concat()).code(0);
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let expected = json!({ "dir": "q", "lost": 1, "lost_accepted": 1 });
    assert_eq!(found, expected);
    // The file beside the queue is none of its parts.
    let outcome = place.run(&["wal", "verify", "q"]).code(3);
    assert!(outcome.stdout.contains("; 1 record lost\n"), "{outcome:?}");
    drop(open(&place, "q"));
    place.run(&["wal", "accept-damage", "gone"]).code(1);
}

#[test]
fn what_is_no_queue_is_said_to_be_none() {
    let place = Place::new();
    let cause = "gone: cannot read the folder: cannot list the folder: No such file or directory";
    place.run(&["wal", "inspect", "gone"]).code(1).says(cause);
    fs::create_dir(place.path("empty")).unwrap();
    let outcome = place.run(&["wal", "verify", "empty"]).code(2);
    outcome.errors(&["empty: there is no durable queue in it, nor in its subfolders"]);
    place.run(&["wal", "verify"]).code(2).says("<DIR>");
}

#[test]
fn a_queue_of_a_later_version_is_not_guessed_at() {
    let place = Place::new();
    queue(&place, "queues/bars");
    queue(&place, "queues/news");
    // A header that says version 2, twice, with the right checksum.
    let mut copy = vec![0; 2_048];
    copy[4..8].copy_from_slice(&18_u32.to_le_bytes());
    copy[8..18].copy_from_slice(b"MDSWALQH\x02\x00");
    let crc = crc32(&copy[4..]);
    copy[..4].copy_from_slice(&crc.to_le_bytes());
    fs::write(place.path("queues/bars/header"), copy.repeat(2)).unwrap();
    let outcome = place.run(&["wal", "verify", "queues"]).code(1);
    assert!(
        outcome.stdout.starts_with("queues/news: 4 records"),
        "{outcome:?}"
    );
    outcome
        .errors(&["queues/bars: the durable queue has format 2, and this program knows up to 1"]);
}

/// The checksum of the format, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}
