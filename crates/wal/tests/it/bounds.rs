//! A queue that is full, records that are too large, and what a long backlog costs.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use mds_wal::{AppendError, OpenError, WalOptions, WriteAheadQueue};

use crate::support::{folder, is_long, options, rest};

/// Counts how often it was woken.
#[derive(Default)]
struct Bell {
    rung: AtomicU64,
    sleeper: std::sync::Mutex<Option<std::thread::Thread>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::Release);
        if let Some(sleeper) = self.sleeper.lock().unwrap().take() {
            sleeper.unpark();
        }
    }
}

impl Bell {
    /// Returns once it was woken.
    fn wait(&self) {
        *self.sleeper.lock().unwrap() = Some(std::thread::current());
        while self.rung.load(Ordering::Acquire) == 0 {
            std::thread::park();
        }
    }
}

fn small(dir: &std::path::Path) -> WriteAheadQueue {
    let options = WalOptions {
        max_bytes: 512 << 10,
        ..options()
    };
    WriteAheadQueue::open(dir, options).unwrap().0
}

/// Appends until the queue is full; answers with how many records are in it.
fn fill(queue: &WriteAheadQueue) -> u64 {
    for count in 0.. {
        match queue.append([[7; 5_000]]) {
            Ok(ticket) => {
                ticket.wait().unwrap();
            }
            Err(AppendError::Full { used, limit }) => {
                assert!(used <= limit && used + 16_384 > limit, "{used} of {limit}");
                return count;
            }
            Err(other) => panic!("{other}"),
        }
    }
    0
}

fn size(dir: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    let of = |file: std::io::Result<std::fs::DirEntry>| file.unwrap().metadata().unwrap().len();
    files.map(of).sum()
}

#[test]
fn a_full_queue_refuses_and_tells_when_there_is_room() {
    let dir = folder();
    let queue = small(dir.path());
    let count = fill(&queue);
    assert!(count >= 30, "{count}");
    // Segments, two checkpoints and a header.
    assert!(size(dir.path()) <= (512 << 10) + (128 << 10) + 4_096);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let mut room = Box::pin(queue.room());
    assert!(room.as_mut().poll(&mut context).is_pending());
    // Settling all of it but the last record frees all segments but the last.
    assert_eq!(queue.ack(1..count, 0), count - 1);
    bell.wait();
    assert_eq!(room.as_mut().poll(&mut context), Poll::Ready(()));
    assert!(fill(&queue) >= count - 15);
}

#[test]
fn those_who_wait_for_room_hear_that_the_queue_is_closed() {
    let dir = folder();
    let queue = small(dir.path());
    fill(&queue);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let mut room = Box::pin(queue.room());
    assert!(room.as_mut().poll(&mut context).is_pending());
    queue.close();
    bell.wait();
    assert_eq!(room.as_mut().poll(&mut context), Poll::Ready(()));
}

#[test]
fn a_full_queue_is_opened_and_drained() {
    let dir = folder();
    let queue = small(dir.path());
    let count = fill(&queue);
    drop(queue);
    let queue = small(dir.path());
    assert_eq!(queue.stats().backlog, count);
    assert!(matches!(
        queue.append([[7; 5_000]]),
        Err(AppendError::Full { .. })
    ));
    let read = rest(&mut queue.reader());
    assert_eq!(read.len() as u64, count);
    queue.ack(1..count + 1, 0);
    queue.checkpoint().unwrap();
    assert!(fill(&queue) >= count - 15);
}

#[test]
fn what_is_too_large_is_refused_whole() {
    let dir = folder();
    let options = WalOptions {
        max_record: 1_000,
        ..options()
    };
    let (queue, _) = WriteAheadQueue::open(dir.path(), options).unwrap();
    let error = queue.append([vec![1; 10], vec![1; 1_001]]).unwrap_err();
    assert!(matches!(
        error,
        AppendError::TooLarge {
            bytes: 1_001,
            limit: 1_000
        }
    ));
    assert_eq!(
        queue.append([vec![1; 1_000]]).unwrap().wait().unwrap(),
        1..2
    );
}

#[test]
fn options_that_cannot_be_are_refused() {
    let dir = folder();
    let refused = |options| WriteAheadQueue::open(dir.path(), options).unwrap_err();
    let tiny = WalOptions {
        max_bytes: 100_000,
        ..WalOptions::default()
    };
    assert!(matches!(refused(tiny), OpenError::Options(_)));
    let wordy = WalOptions {
        identity: "x".repeat(2_100),
        ..WalOptions::default()
    };
    assert!(matches!(refused(wordy), OpenError::Options(_)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Files that this process has open in a folder.
fn open_files(dir: &std::path::Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

/// The memory of this process, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

const CHILD: &str = "MDS_TEST_BACKLOG";

/// Descriptors stay the same however long the backlog is; memory is that of a few segments, where
/// the backlog is hundreds of them. In a process of its own: memory belongs to all that runs in one.
#[test]
fn descriptors_and_memory_do_not_grow_with_the_backlog() {
    if !cfg!(target_os = "linux") {
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        measure();
        return;
    }
    let name = "bounds::descriptors_and_memory_do_not_grow_with_the_backlog";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn measure() {
    let dir = folder();
    let (queue, _) = WriteAheadQueue::open(dir.path(), options()).unwrap();
    let append = |records: u64| {
        for number in 0..records {
            let record = vec![u8::try_from(number % 251).unwrap(); 60_000];
            queue.append([record]).unwrap().wait().unwrap();
        }
    };
    append(20);
    let mut reader = queue.reader();
    assert_eq!(reader.read(20, 2 << 20).unwrap().len(), 20);
    let (files, before) = (open_files(dir.path()), memory());
    let records = if is_long() { 20_000 } else { 1_000 };
    append(records);
    assert_eq!(queue.stats().segments as u64, records + 20);
    // Some are settled, so that segments go and others stay, and all are read.
    let mut seen = 0;
    loop {
        let read = reader.read(10, 1 << 20).unwrap();
        if read.is_empty() {
            break;
        }
        for record in read {
            seen += 1;
            if record.seq % 3 == 0 {
                queue.ack(record.seq..record.seq + 1, 0);
            }
        }
    }
    assert_eq!(seen, records);
    queue.checkpoint().unwrap();
    let grown = memory().saturating_sub(before);
    // Three files may be ready now, and another one be read.
    let now = open_files(dir.path());
    assert!(now <= files + 3 && now <= 9, "{now}, before {files}");
    assert!(grown < 8 << 10, "{grown} KiB more for {records} records");
}

/// What is settled is kept after a failure, and room is made, although nobody asks for it again.
#[test]
fn a_checkpoint_that_failed_is_tried_again_by_itself() {
    for call in 1..6 {
        let storage = mds_wal::sim::SimStorage::new(call);
        let options = WalOptions {
            max_bytes: 1 << 20,
            ..WalOptions::default()
        };
        let (queue, _) = WriteAheadQueue::open_on(Arc::new(storage.clone()), options).unwrap();
        let mut end = 1;
        while let Ok(ticket) = queue.append([[7; 3_000]]) {
            end = ticket.wait().unwrap().end;
        }
        storage.fail_at(storage.calls() + call, mds_wal::sim::Fault::Fails);
        assert_eq!(queue.ack(1..end, 0), end - 1);
        // It is full until then.
        while queue.append([[7; 3_000]]).is_err() {
            std::thread::yield_now();
        }
    }
}
