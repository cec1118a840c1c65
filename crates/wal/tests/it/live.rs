//! Looking into a queue that is in use: what goes on in it is never taken for damage.

use std::sync::atomic::{AtomicBool, Ordering};

use mds_wal::{FileStorage, inspect, verify};

use crate::support::{folder, is_long, open};

#[test]
fn a_queue_that_is_written_read_and_settled_is_found_whole() {
    let dir = folder();
    let (queue, _) = open(dir.path());
    let is_over = AtomicBool::new(false);
    let looks = if is_long() { 3_000 } else { 150 };
    std::thread::scope(|scope| {
        for producer in 0..2 {
            let (queue, is_over) = (&queue, &is_over);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(producer);
                while !is_over.load(Ordering::Relaxed) {
                    let records: Vec<Vec<u8>> = (0..random.usize(1..20))
                        .map(|_| vec![random.u8(..); random.usize(0..3_000)])
                        .collect();
                    queue.append(records).unwrap().wait().unwrap();
                }
            });
        }
        let (queue, is_over) = (&queue, &is_over);
        scope.spawn(move || {
            let mut reader = queue.reader();
            let mut last = 1;
            while !is_over.load(Ordering::Relaxed) {
                for record in reader.read(100, 1 << 20).unwrap() {
                    // Every tenth stays for a while.
                    if record.seq % 10 != 0 {
                        queue.ack(record.seq..record.seq + 1, 0);
                    }
                    last = record.seq;
                }
                queue.ack(1..last.saturating_sub(200).max(1), 1);
                queue.checkpoint().unwrap();
            }
        });
        let storage = FileStorage::at(dir.path());
        let mut next = 1;
        for look in 0..looks {
            let found = verify(&storage).unwrap();
            let damages = &found.inspection.damages;
            let is_whole = found.inspection.is_whole();
            if !is_whole || found.inspection.next < next {
                is_over.store(true, Ordering::Relaxed);
            }
            assert!(is_whole, "look {look}: {damages:?}");
            assert!(found.inspection.next >= next, "look {look}");
            next = found.inspection.next;
            let found = inspect(&storage);
            is_over.fetch_or(found.is_err() || look + 1 == looks, Ordering::Relaxed);
            assert!(found.unwrap().is_whole(), "look {look}");
        }
    });
    let stats = queue.stats();
    assert_eq!((stats.damages, stats.failures), (0, 0));
    queue.close();
    let found = verify(&FileStorage::at(dir.path())).unwrap();
    assert_eq!(found.waiting, stats.backlog);
    assert!(found.inspection.damages.is_empty());
}
