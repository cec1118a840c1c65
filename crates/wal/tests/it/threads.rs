//! Many producers, many consumers, and how they hear of what became of their records.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mds_wal::{AppendError, FsyncPolicy, WalOptions, WriteAheadQueue};

use crate::support::{folder, open, options, rest};

const PRODUCERS: u64 = 4;
const CONSUMERS: usize = 3;

/// Appends by several threads: what each record that is durable holds.
fn produce(queue: &WriteAheadQueue, round: u64, appends: u64) -> BTreeMap<u64, String> {
    let all = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let all = &all;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(round * 100 + producer);
                for number in 0..appends {
                    let count = random.u64(1..8);
                    let text = |i| format!("{round} {producer} {number} {i}").repeat(1 + i);
                    let texts: Vec<String> =
                        (0..usize::try_from(count).unwrap()).map(text).collect();
                    let range = queue.append(&texts).unwrap().wait().unwrap();
                    all.lock().unwrap().extend(range.zip(texts));
                }
            });
        }
    });
    all.into_inner().unwrap()
}

/// Reads by one thread, which hands out; several threads settle in any order, and keep some.
fn consume(
    queue: &WriteAheadQueue,
    seed: u64,
    is_over: &AtomicBool,
) -> (BTreeMap<u64, String>, BTreeSet<u64>) {
    let (read, settled) = (Mutex::new(BTreeMap::new()), Mutex::new(BTreeSet::new()));
    let reader = Mutex::new(queue.reader());
    std::thread::scope(|scope| {
        for consumer in 0..CONSUMERS {
            let (read, settled, reader) = (&read, &settled, &reader);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + consumer as u64);
                let mut held = Vec::new();
                loop {
                    // Looked at before reading: what is durable by then is read.
                    let was_over = is_over.load(Ordering::Acquire);
                    let records = reader
                        .lock()
                        .unwrap()
                        .read(random.usize(1..20), 4_000)
                        .unwrap();
                    if records.is_empty() && was_over {
                        break;
                    }
                    for record in records {
                        let text = String::from_utf8(record.payload).unwrap();
                        let before = read.lock().unwrap().insert(record.seq, text);
                        assert_eq!(before, None, "record {} was delivered twice", record.seq);
                        held.push(record.seq);
                    }
                    while held.len() > 10 {
                        let seq = held.swap_remove(random.usize(0..held.len()));
                        assert_eq!(queue.ack(seq..seq + 1, 1), 1);
                        settled.lock().unwrap().insert(seq);
                    }
                }
            });
        }
    });
    (read.into_inner().unwrap(), settled.into_inner().unwrap())
}

#[test]
fn every_record_is_delivered_once_and_comes_back_until_it_is_settled() {
    let dir = folder();
    let mut waiting: BTreeMap<u64, String> = BTreeMap::new();
    for round in 0..4 {
        let (queue, recovery) = open(dir.path());
        assert_eq!(recovery.records, waiting.len() as u64, "round {round}");
        assert!(recovery.damages.is_empty(), "round {round}");
        let is_over = AtomicBool::new(false);
        let (read, settled) = std::thread::scope(|scope| {
            let consumers = scope.spawn(|| consume(&queue, round, &is_over));
            waiting.extend(produce(&queue, round, 60));
            is_over.store(true, Ordering::Release);
            consumers.join().unwrap()
        });
        assert_eq!(read, waiting, "round {round}");
        let last = *waiting.keys().next_back().unwrap();
        waiting.retain(|seq, _| !settled.contains(seq));
        let stats = queue.stats();
        assert_eq!(stats.backlog, waiting.len() as u64);
        assert_eq!(stats.next, last + 1);
        drop(queue);
    }
    let (queue, _) = open(dir.path());
    let left: Vec<u64> = rest(&mut queue.reader()).iter().map(|r| r.seq).collect();
    assert_eq!(left, waiting.keys().copied().collect::<Vec<_>>());
}

#[test]
fn with_always_each_append_has_a_sync_of_its_own() {
    let dir = folder();
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&syncs);
    let options = WalOptions {
        fsync: FsyncPolicy::Always,
        on_sync: Some(Arc::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        })),
        ..options()
    };
    let (queue, _) = WriteAheadQueue::open(dir.path(), options).unwrap();
    let all = produce(&queue, 0, 25);
    assert_eq!(queue.stats().groups, PRODUCERS * 25);
    assert_eq!(syncs.load(Ordering::Relaxed), PRODUCERS * 25);
    assert_eq!(rest(&mut queue.reader()).len(), all.len());
}

/// A storage is not needed to see that groups form: while one is told, others gather.
#[test]
fn with_group_what_gathers_meanwhile_shares_a_sync() {
    let dir = folder();
    let (first, gate) = (AtomicBool::new(true), Arc::new(Mutex::new(())));
    let held = gate.lock().unwrap();
    let waits = Arc::clone(&gate);
    let told: Arc<Mutex<Vec<Range<u64>>>> = Arc::default();
    let tells = Arc::clone(&told);
    let options = WalOptions {
        on_commit: Some(Arc::new(move |range, result| {
            assert!(result.is_ok());
            if first.swap(false, Ordering::Relaxed) {
                drop(waits.lock().unwrap());
            }
            tells.lock().unwrap().push(range);
        })),
        ..options()
    };
    let (queue, _) = WriteAheadQueue::open(dir.path(), options).unwrap();
    let one = queue.append(["one"]).unwrap();
    // The writer has the first record, or will take it alone or with others: wait until it has.
    while queue.stats().groups == 0 {
        std::thread::yield_now();
    }
    let others: Vec<_> = (0..50)
        .map(|i| queue.append([format!("{i}")]).unwrap())
        .collect();
    drop(held);
    assert_eq!(one.wait().unwrap(), 1..2);
    for (place, ticket) in others.into_iter().enumerate() {
        let seq = place as u64 + 2;
        assert_eq!(ticket.wait().unwrap(), seq..seq + 1);
    }
    assert_eq!(*told.lock().unwrap(), [1..2, 2..52]);
    assert_eq!(queue.stats().groups, 2);
}

#[test]
fn groups_are_told_in_order_and_before_those_who_wait() {
    let dir = folder();
    let told: Arc<Mutex<Vec<Range<u64>>>> = Arc::default();
    let tells = Arc::clone(&told);
    let options = WalOptions {
        on_commit: Some(Arc::new(move |range, _| tells.lock().unwrap().push(range))),
        ..options()
    };
    let (queue, _) = WriteAheadQueue::open(dir.path(), options).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            let (queue, told) = (&queue, &told);
            scope.spawn(move || {
                for _ in 0..100 {
                    let range = queue.append(["a", "b"]).unwrap().wait().unwrap();
                    let told = told.lock().unwrap();
                    assert!(told.last().is_some_and(|last| last.end >= range.end));
                }
            });
        }
    });
    let told = told.lock().unwrap();
    assert_eq!(told[0].start, 1);
    assert!(told.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert_eq!(told.last().unwrap().end, PRODUCERS * 200 + 1);
}

#[test]
fn an_answer_that_nobody_waits_for_loses_nothing() {
    let dir = folder();
    let (queue, _) = open(dir.path());
    for number in 0..100 {
        drop(queue.append([format!("{number}")]).unwrap());
    }
    assert_eq!(
        queue.append(Vec::<&str>::new()).unwrap().wait().unwrap(),
        101..101
    );
    drop(queue);
    let (queue, recovery) = open(dir.path());
    assert_eq!(
        (recovery.records, recovery.first, recovery.next),
        (100, 1, 101)
    );
    let records = rest(&mut queue.reader());
    let expected: Vec<_> = (0..100).map(|n| format!("{n}").into_bytes()).collect();
    let found: Vec<_> = records.into_iter().map(|r| r.payload).collect();
    assert_eq!(found, expected);
}

/// Closing while others append: each of them hears that it is durable or that it was refused, and
/// what was told to be durable is there, nothing else.
#[test]
fn closing_while_others_append_splits_them_cleanly() {
    for round in 0..20 {
        let dir = folder();
        let (queue, _) = open(dir.path());
        let (durable, appended) = (Mutex::new(BTreeMap::new()), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (queue, durable, appended) = (&queue, &durable, &appended);
                scope.spawn(move || {
                    for number in 0.. {
                        let text = format!("{producer} {number}");
                        match queue.append([&text]) {
                            Ok(ticket) => {
                                let range = ticket.wait().unwrap();
                                durable.lock().unwrap().insert(range.start, text);
                                appended.fetch_add(1, Ordering::Release);
                            }
                            Err(AppendError::Closed) => return,
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
            while appended.load(Ordering::Acquire) < 5 * round {
                std::thread::yield_now();
            }
            queue.close();
        });
        let durable = durable.into_inner().unwrap();
        assert!(matches!(queue.append(["late"]), Err(AppendError::Closed)));
        drop(queue);
        assert_eq!(delivered(dir.path()), durable, "round {round}");
    }
}

fn delivered(dir: &Path) -> BTreeMap<u64, String> {
    let (queue, _) = open(dir);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let records = rest(&mut queue.reader()).into_iter();
    records.map(|r| (r.seq, text(r.payload))).collect()
}
