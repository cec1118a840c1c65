//! Folders of earlier versions of the format are opened; the present one is written to the byte.
//!
//! A folder that was released is never made anew: `UPDATE_GOLDEN=1` only makes one that is not there.

use std::fs;
use std::path::{Path, PathBuf};

use mds_wal::{FileStorage, WalOptions, WriteAheadQueue, inspect, verify};

fn released(version: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.join("tests/data").join(version)
}

fn open(dir: &Path) -> WriteAheadQueue {
    let options = WalOptions {
        identity: "bars, version 1".to_owned(),
        segment_bytes: 64 << 10,
        ..WalOptions::default()
    };
    WriteAheadQueue::open(dir, options).unwrap().0
}

/// Nothing, zeros, more than a block, and what is no text.
fn records() -> Vec<Vec<u8>> {
    let long = (0..5_000_u32).map(|i| (i % 251) as u8).collect();
    let records = [&b"one"[..], b"", &[0; 300], b"\xff\xfe", b"five"];
    let mut records: Vec<Vec<u8>> = records.map(<[u8]>::to_vec).into();
    records.push(long);
    records
}

/// Two segments, three groups, three records that are settled.
fn fill(dir: &Path) {
    let all = records();
    let queue = open(dir);
    queue.append(&all[..3]).unwrap().wait().unwrap();
    queue.append(&all[3..]).unwrap().wait().unwrap();
    queue.ack(1..2, 0);
    queue.ack(4..6, 2);
    drop(queue);
    let queue = open(dir);
    queue.append(["seven", "eight"]).unwrap().wait().unwrap();
    drop(queue);
    // The room that was taken ahead says nothing.
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0);
        let blocks = used.map_or(0, |last| (last + 1).next_multiple_of(4_096));
        fs::write(path, &bytes[..blocks]).unwrap();
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

/// The queue that [`fill`] has made, by whatever version.
fn is_opened_and_whole(version: &str) {
    let dir = copy(&released(version));
    let found = verify(&FileStorage::at(dir.path())).unwrap();
    assert!(found.inspection.is_whole() && found.inspection.damages.is_empty());
    assert_eq!((found.records, found.settled, found.waiting), (8, 3, 5));
    let totals = found.inspection.checkpoint.unwrap().totals;
    assert_eq!(
        (totals.settled[0], totals.settled[2], totals.sum()),
        (1, 2, 3)
    );

    let queue = open(dir.path());
    let read = queue.reader().read(100, 1 << 20).unwrap();
    let read: Vec<(u64, &[u8])> = read.iter().map(|r| (r.seq, &r.payload[..])).collect();
    let all = records();
    let expected: [(u64, &[u8]); 5] = [
        (2, b""),
        (3, &all[2]),
        (6, &all[5]),
        (7, b"seven"),
        (8, b"eight"),
    ];
    assert_eq!(read, expected);
    assert_eq!(queue.append(["nine"]).unwrap().wait().unwrap(), 9..10);
    assert_eq!(queue.ack(1..10, 1), 6);
    drop(queue);
    assert_eq!(inspect(&FileStorage::at(dir.path())).unwrap().waiting, 0);
}

#[test]
fn version_1_is_opened_and_nothing_of_it_is_lost() {
    is_opened_and_whole("v1");
}

#[test]
fn version_2_is_opened_and_nothing_of_it_is_lost() {
    is_opened_and_whole("v2");
}

#[test]
fn version_2_is_written_to_the_byte() {
    let path = released("v2");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") && !path.exists() {
        fill(&path);
    }
    // With the header, the random number of a queue is given.
    let dir = tempfile::tempdir().unwrap();
    fs::copy(path.join("header"), dir.path().join("header")).unwrap();
    fill(dir.path());
    for name in ["header", "0000000000000001.seg", "0000000000000002.seg"] {
        let (expected, found) = (fs::read(path.join(name)), fs::read(dir.path().join(name)));
        assert!(
            expected.unwrap() == found.unwrap(),
            "{name} is written otherwise"
        );
    }
    let size: u64 = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 48 << 10, "{size}");
}
