//! Who may use a folder.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use mds_wal::{OpenError, WalOptions, WriteAheadQueue};

use crate::support::{folder, open, options};

const DIR: &str = "MDS_TEST_HOLDER_DIR";

/// Not a test by itself: a process that has a queue open until it is told to end.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let (queue, _) = open(dir.as_ref());
    queue.append(["from the child"]).unwrap().wait().unwrap();
    println!("\nopen");
    // Ends when the other side does.
    drop(std::io::stdin().lines().next());
}

/// The child, and the rest of what it prints.
fn holder(dir: &std::path::Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sharing::child", "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = output.by_ref().lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line == "open"),
        "the child opened the queue"
    );
    (child, output)
}

fn refused(dir: &std::path::Path) -> OpenError {
    WriteAheadQueue::open(dir, options()).unwrap_err()
}

#[test]
fn a_second_one_in_this_process_is_refused() {
    let dir = folder();
    let (queue, _) = open(dir.path());
    assert!(matches!(refused(dir.path()), OpenError::InUse));
    queue.append(["still here"]).unwrap().wait().unwrap();
    // It is free once it is closed, whoever still reads.
    let reader = queue.reader();
    queue.close();
    assert_eq!(open(dir.path()).1.records, 1);
    drop((queue, reader));
}

#[test]
fn a_queue_that_was_closed_changes_nothing_that_the_next_one_has_written() {
    let dir = folder();
    let (old, _) = open(dir.path());
    old.append(["one", "two"]).unwrap().wait().unwrap();
    old.close();
    let (new, recovery) = open(dir.path());
    assert_eq!(recovery.records, 2);
    new.append(["three"]).unwrap().wait().unwrap();
    assert_eq!(new.ack(1..4, 0), 3);
    new.checkpoint().unwrap();
    // The old one does not know of these: its word would bring them back.
    old.ack(1..2, 0);
    let error = old.checkpoint().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write a checkpoint: the durable queue is closed"
    );
    drop((new, old));
    assert_eq!(open(dir.path()).1.records, 0);
}

#[test]
fn a_second_process_is_refused_until_the_first_has_ended_however() {
    let dir = folder();
    let (mut child, output) = holder(dir.path());
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::InUse));
    assert_eq!(
        error.to_string(),
        "the durable queue is open in another process; one process at a time may use it"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    drop(output);
    assert_eq!(open(dir.path()).1.records, 1);

    let (mut child, output) = holder(dir.path());
    assert!(matches!(refused(dir.path()), OpenError::InUse));
    child.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert!(child.wait().unwrap().success());
    drop(output);
    assert_eq!(open(dir.path()).1.records, 2);
}

#[test]
fn a_folder_of_something_else_is_refused_and_left_alone() {
    let dir = folder();
    drop(open(dir.path()));
    let before = listed(dir.path());
    let other = WalOptions {
        identity: "news".to_owned(),
        ..options()
    };
    let error = WriteAheadQueue::open(dir.path(), other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the durable queue was made for something else: it says \"a test\", and wanted is \"news\""
    );
    assert!(matches!(error, OpenError::Mismatch { .. }));
    assert_eq!(listed(dir.path()), before);
    drop(open(dir.path()));
}

fn listed(dir: &std::path::Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let files = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut all: Vec<_> = files
        .map(|file| (file.file_name(), std::fs::read(file.path()).unwrap()))
        .collect();
    all.sort();
    all
}

/// A header of another queue, or none, is told before anything is changed.
#[test]
fn a_header_that_was_exchanged_or_is_gone_is_told() {
    let (own, other) = (folder(), folder());
    for dir in [&own, &other] {
        let (queue, _) = open(dir.path());
        queue.append(["here"]).unwrap().wait().unwrap();
    }
    let header = |dir: &tempfile::TempDir| dir.path().join("header");
    let kept = std::fs::read(header(&own)).unwrap();
    std::fs::copy(header(&other), header(&own)).unwrap();
    let error = refused(own.path());
    assert!(matches!(error, OpenError::Mixed), "{error}");
    assert!(mds_wal::verify(&mds_wal::FileStorage::at(own.path())).is_err());
    std::fs::write(header(&own), kept).unwrap();
    assert_eq!(open(own.path()).1.records, 1);
    std::fs::remove_file(header(&own)).unwrap();
    let looked = mds_wal::verify(&mds_wal::FileStorage::at(own.path())).unwrap();
    assert!(!looked.inspection.is_whole());
    let (_, recovery) = open(own.path());
    assert_eq!((recovery.records, recovery.damages.len()), (1, 1));
    assert_eq!(recovery.damages[0].file, "header");
}

/// Whichever of the two checkpoints is lost, nothing is missed that was settled.
#[test]
fn one_of_two_checkpoints_that_is_gone_costs_nothing() {
    for gone in ["ack.0", "ack.1"] {
        let dir = folder();
        let small = WalOptions {
            max_bytes: 1 << 20,
            ..options()
        };
        let (queue, _) = WriteAheadQueue::open(dir.path(), small.clone()).unwrap();
        let mut end = 1;
        // More than one segment, the first of them settled and removed.
        for _ in 0..120 {
            end = queue.append([[7; 3_000]]).unwrap().wait().unwrap().end;
        }
        queue.ack(1..end - 1, 0);
        queue.checkpoint().unwrap();
        assert!(queue.stats().segments < 3);
        drop(queue);
        std::fs::remove_file(dir.path().join(gone)).unwrap();
        let (_, recovery) = WriteAheadQueue::open(dir.path(), small).unwrap();
        assert_eq!((recovery.damaged, recovery.records >= 1), (0, true));
    }
}
