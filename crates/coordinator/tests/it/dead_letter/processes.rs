//! Several processes at once, and processes that are killed.

use std::collections::BTreeSet;
use std::fs;

use mds_coordinator::dead_letter::{DlqError, DlqOptions, Letter, LetterFilter};

use super::children::Helper;
use super::{Dlq, damaged, drafts, folder, names, number, numbers, open, rng, small_files};

#[test]
fn four_processes_append_while_files_rotate() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    let mut children: Vec<_> = (0..4)
        .map(|i| Helper::start("append", &path, i * 1_000))
        .collect();
    // Reading meanwhile must neither take a line that is being written for a damaged one nor miss
    // a file that is rotated.
    let mut before = 0;
    while children.iter_mut().any(Helper::is_running) {
        let seen = dlq.histogram(LetterFilter::default()).unwrap();
        assert_eq!(seen.damaged, 0);
        assert!(seen.letters >= before, "{} after {before}", seen.letters);
        before = seen.letters;
    }
    for child in children {
        child.join();
    }
    let mut found = numbers(&dlq);
    for i in 0..4 {
        let own: Vec<_> = found.iter().filter(|n| **n / 1_000 == i).collect();
        assert!(own.is_sorted(), "the letters of one process stay in order");
    }
    found.sort_unstable();
    let expected: Vec<_> = (0..4).flat_map(|i| i * 1_000..i * 1_000 + 300).collect();
    assert_eq!(found, expected);
    assert_eq!(damaged(&dlq), 0);
    assert!(dlq.letter_files().unwrap().len() > 50);
}

#[test]
fn letters_that_come_while_others_are_settled_are_never_removed_unseen() {
    let (dir, path) = folder();
    let dlq = Dlq::open(&path, small_files()).unwrap();
    let mut children: Vec<_> = (0..3)
        .map(|i| Helper::start("append", &path, i * 1_000))
        .collect();
    let mut seen = Vec::new();
    loop {
        let running = children.iter_mut().any(Helper::is_running);
        let mut replayer = dlq.replayer(LetterFilter::default()).unwrap();
        let batch = replayer.next_batch(1_000).unwrap();
        seen.extend(batch.iter().map(number));
        let keys: Vec<_> = batch.iter().map(Letter::key).collect();
        replayer.settle(&keys).unwrap();
        replayer.finish().unwrap();
        if !running {
            break;
        }
    }
    for child in children {
        child.join();
    }
    seen.sort_unstable();
    let expected: Vec<_> = (0..3).flat_map(|i| i * 1_000..i * 1_000 + 300).collect();
    assert_eq!(seen, expected, "each letter once");
    assert_eq!(names(&dir), [""; 0], "nothing is left to clean up");
}

#[test]
fn an_acknowledged_letter_survives_sigkill() {
    let mut rng = rng();
    let (_dir, path) = folder();
    let dlq = open(&path);
    let mut expected = Vec::new();
    for round in 0..20 {
        let from = round * 10_000;
        let mut child = Helper::start("append_without_end", &path, from);
        let mut acknowledged = from;
        for _ in 0..rng.u32(1..20) {
            acknowledged = child.hear().unwrap().parse().unwrap();
        }
        for said in child.kill() {
            acknowledged = said.parse().unwrap();
        }
        expected.extend(from..acknowledged);
    }
    let found: BTreeSet<_> = numbers(&dlq).into_iter().collect();
    assert!(expected.iter().all(|n| found.contains(n)));
}

#[test]
fn a_replay_killed_at_any_point_loses_no_letter_and_settles_none_unstored() {
    let mut rng = rng();
    let (dir, path) = folder();
    let dlq = Dlq::open(&path, small_files()).unwrap();
    let store = dir.path().join("store.txt");
    let stored = || -> BTreeSet<u64> {
        let text = fs::read_to_string(&store).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let mut total = 0;
    for _ in 0..100 {
        dlq.append(drafts(total..total + 7)).unwrap();
        total += 7;
        let mut child = Helper::start("replay", &path, 0);
        for _ in 0..rng.u32(0..16) {
            if child.hear().is_none_or(|said| said == "finished") {
                break;
            }
        }
        child.kill();
        let unsettled = numbers(&dlq);
        let distinct: BTreeSet<_> = unsettled.iter().copied().collect();
        assert_eq!(distinct.len(), unsettled.len(), "a letter is listed once");
        let accounted = stored().union(&distinct).count() as u64;
        assert_eq!(accounted, total, "every letter is unsettled or stored");
    }
    // A letter fails twice at most, and one that fails again is left for the next replay.
    for _ in 0..3 {
        Helper::start("replay", &path, 0).join();
    }
    assert_eq!(stored(), (0..total).collect());
    assert_eq!(names(&dir), ["store.txt"]);
}

#[test]
fn there_is_one_replayer_and_its_lock_dies_with_it() {
    let (_dir, path) = folder();
    let dlq = open(&path);
    dlq.append(drafts(0..2)).unwrap();
    let mut child = Helper::start("hold", &path, 0);
    assert_eq!(child.hear().unwrap(), "holding");
    let busy = |result: Result<_, DlqError>| match result {
        Err(DlqError::Busy { path: lock }) => {
            assert_eq!(lock, path.with_file_name("bars.ndjson.replay.lock"));
        }
        other => panic!("{other:?}"),
    };
    busy(dlq.replayer(LetterFilter::default()).map(drop));
    busy(dlq.purge(LetterFilter::default()).map(drop));
    // Appending and reading go on.
    dlq.append(drafts(2..3)).unwrap();
    assert_eq!(numbers(&dlq), [0, 1, 2]);

    child.kill();
    assert_eq!(dlq.purge(LetterFilter::default()).unwrap(), 3);
}

#[test]
fn a_write_that_stops_half_way_is_taken_back() {
    let (_dir, path) = folder();
    let child = Helper::start_with_small_disk("fill_disk", &path);
    let said = child.join().remove(0);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["kind"], "environment");
    assert_eq!(
        said["error"],
        format!("cannot append dead letters to {path:?}")
    );
    let kept = said["kept"].as_u64().unwrap();
    let dlq = Dlq::open(&path, DlqOptions::default()).unwrap();
    assert_eq!(numbers(&dlq), (0..kept).collect::<Vec<_>>());
    assert_eq!(damaged(&dlq), 0);
    assert!(fs::read_to_string(&path).unwrap().ends_with('\n'));
}
