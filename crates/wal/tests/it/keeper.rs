//! The thread that keeps what is settled: nobody has to ask it, whatever happened before.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mds_wal::sim::{Fault, SimStorage};
use mds_wal::{AppendError, FileStorage, Storage, WalOptions, WriteAheadQueue, inspect};

use crate::support::{folder, options, rest};

static RECORD: [u8; 20_000] = [1; 20_000];

fn small() -> WalOptions {
    WalOptions {
        max_bytes: 1 << 20,
        ..options()
    }
}

/// Appends until it is full.
fn fill(queue: &WriteAheadQueue) {
    loop {
        match queue.append([&RECORD]) {
            Ok(ticket) => drop(ticket.wait().unwrap()),
            Err(AppendError::Full { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until it takes records again, by itself.
fn takes_again(queue: &WriteAheadQueue) {
    while queue.append([&RECORD]).is_err() {
        std::thread::yield_now();
    }
}

/// Waits until the checkpoint on the disk says that everything below `floor` is settled.
fn is_kept(storage: &dyn Storage, floor: u64) {
    let kept = || inspect(storage).unwrap().checkpoint.map(|c| c.floor);
    while kept() != Some(floor) {
        std::thread::yield_now();
    }
}

fn segments(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "seg"));
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Killed after the checkpoints were written, before the files of the done segments were put away.
#[test]
fn segments_that_are_done_when_it_is_opened_make_room() {
    let dir = folder();
    let (queue, _) = WriteAheadQueue::open(dir.path(), small()).unwrap();
    fill(&queue);
    let before = segments(dir.path());
    queue.ack(1..queue.stats().next, 0);
    queue.close();
    drop(queue);
    for (path, _) in segments(dir.path()) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in before {
        fs::write(path, bytes).unwrap();
    }
    let (queue, recovery) = WriteAheadQueue::open(dir.path(), small()).unwrap();
    assert_eq!((recovery.records, recovery.damages.len()), (0, 0));
    takes_again(&queue);
}

/// Whatever settles records while nothing else happens: it is kept, and makes room.
#[test]
fn records_that_are_set_aside_make_room_and_are_kept() {
    let dir = folder();
    let (queue, _) = WriteAheadQueue::open(dir.path(), small()).unwrap();
    fill(&queue);
    let end = queue.stats().next;
    let storage = FileStorage::at(dir.path());
    while inspect(&storage).unwrap().checkpoint.unwrap().end < end {
        std::thread::yield_now();
    }
    for record in rest(&mut queue.reader()) {
        queue.set_aside(&record).unwrap();
    }
    is_kept(&storage, end);
    takes_again(&queue);
    assert_eq!(queue.stats().totals.damaged, end - 1);
}

/// A record is set aside while nobody asks for anything, and records are settled after it.
#[test]
fn what_is_settled_after_a_record_was_set_aside_is_kept_too() {
    let dir = folder();
    let (queue, _) = WriteAheadQueue::open(dir.path(), options()).unwrap();
    queue.append(["x"; 100]).unwrap().wait().unwrap();
    let storage = FileStorage::at(dir.path());
    while inspect(&storage).unwrap().checkpoint.unwrap().end < 101 {
        std::thread::yield_now();
    }
    let first = queue.reader().read(1, 1).unwrap().remove(0);
    queue.set_aside(&first).unwrap();
    is_kept(&storage, 2);
    for seq in 2..51 {
        queue.ack(seq..seq + 1, 0);
    }
    is_kept(&storage, 51);
}

/// A checkpoint that somebody asked for has failed; it is written all the same.
#[test]
fn a_checkpoint_that_was_asked_for_and_failed_is_tried_again_by_itself() {
    let storage = SimStorage::new(1);
    let (queue, _) = WriteAheadQueue::open_on(Arc::new(storage.clone()), options()).unwrap();
    queue.append(["one", "two"]).unwrap().wait().unwrap();
    while inspect(&storage).unwrap().checkpoint.unwrap().end < 3 {
        std::thread::yield_now();
    }
    queue.ack(1..2, 0);
    is_kept(&storage, 2);
    queue.ack(2..3, 0);
    storage.fail_at(storage.calls() + 1, Fault::Fails);
    // Whichever of the two it hits, the other one, or the next, succeeds.
    drop(queue.checkpoint());
    is_kept(&storage, 3);
}

/// More ranges than a checkpoint has room for: what is left out is not settled for the next start, so
/// its segments stay.
#[test]
fn records_whose_settlement_finds_no_room_come_back() {
    let dir = folder();
    let (queue, _) = WriteAheadQueue::open(dir.path(), options()).unwrap();
    for _ in 0..20 {
        queue
            .append(vec![[1_u8; 100]; 500])
            .unwrap()
            .wait()
            .unwrap();
    }
    for seq in (2..=10_000).step_by(2) {
        queue.ack(seq..seq + 1, 0);
    }
    for _ in 0..20 {
        queue
            .append(vec![[2_u8; 100]; 500])
            .unwrap()
            .wait()
            .unwrap();
    }
    queue.ack(10_001..20_001, 0);
    queue.close();
    drop(queue);
    let (queue, recovery) = WriteAheadQueue::open(dir.path(), options()).unwrap();
    assert_eq!((recovery.damaged, recovery.damages.len()), (0, 0));
    // 4,083 of the single ones are known to be settled.
    assert_eq!(recovery.records, 20_000 - 4_083);
    assert_eq!(rest(&mut queue.reader()).len(), 20_000 - 4_083);
}

/// A queue that was here before has set aside another record of the same number.
#[test]
fn a_copy_that_is_there_is_not_written_over() {
    let dir = folder();
    let (queue, _) = WriteAheadQueue::open(dir.path(), options()).unwrap();
    let older = "an older copy, the only one there is";
    fs::write(dir.path().join("record-1.damaged"), older).unwrap();
    queue.append(["short"]).unwrap().wait().unwrap();
    let record = queue.reader().read(1, 1).unwrap().remove(0);
    queue.set_aside(&record).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("record-1.damaged"), older);
    assert_eq!(read("record-1-2.damaged"), "short");
}

/// One group takes all the room that there is, in a segment of its own that is not full. Once all of it
/// is settled, its room is there again.
#[test]
fn a_segment_that_has_all_the_room_goes_when_it_is_wanted() {
    let storage = SimStorage::new(2);
    let (queue, _) = WriteAheadQueue::open_on(Arc::new(storage), small()).unwrap();
    let (used, limit) = queue.bytes_in_use();
    assert_eq!(used, 0);
    let records = vec![&RECORD[..]; usize::try_from(limit).unwrap() / 20_100];
    let range = queue.append(&records).unwrap().wait().unwrap();
    assert!(queue.append([&RECORD[..]; 2]).is_err());
    queue.ack(range, 0);
    takes_again(&queue);
}
