//! Durable queues of numbers on a simulated disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mds_coordinator::{
    Codec, DurableOptions, DurableQueue, DurableTotals, ErrorKind, WriteCoordinator,
};
use mds_wal::Storage;
use mds_wal::sim::SimStorage;

use crate::support::{Act, FakeSink, Peek, secs};

/// A number that the codec does not know.
pub(crate) const UNKNOWN: u64 = u64::MAX;
/// One at which it panics.
pub(crate) const PANICS: u64 = u64::MAX - 1;
/// One of 200,000 bytes.
pub(crate) const LARGE: u64 = u64::MAX - 2;

pub(crate) struct Numbers;

impl Codec<u64> for Numbers {
    fn encode(&self, item: &u64, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&item.to_le_bytes());
        // As long as a bar.
        let rest = if *item == LARGE { 199_992 } else { 92 };
        bytes.resize(bytes.len() + rest, 7);
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, String> {
        let number = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
        match number {
            Some(UNKNOWN) | None => Err("that number is not known".to_owned()),
            Some(PANICS) => panic!("that number is too much"),
            Some(number) => Ok(number),
        }
    }
}

pub(crate) fn queue(storage: &SimStorage) -> DurableQueue<u64> {
    queue_of(storage, 64 << 20)
}

pub(crate) fn queue_of(storage: &SimStorage, max_bytes: u64) -> DurableQueue<u64> {
    queue_on(Arc::new(storage.clone()), max_bytes)
}

pub(crate) fn queue_on(storage: Arc<dyn Storage>, max_bytes: u64) -> DurableQueue<u64> {
    let options = DurableOptions {
        identity: "numbers".to_owned(),
        max_bytes,
        ..DurableOptions::default()
    };
    DurableQueue::open_on(storage, options, Arc::new(Numbers)).unwrap()
}

/// A sink that fails until it is let go.
pub(crate) fn held() -> (FakeSink, Peek, Arc<AtomicBool>) {
    let is_free = Arc::new(AtomicBool::new(false));
    let look = Arc::clone(&is_free);
    let (sink, peek) = FakeSink::new(move |_| {
        if look.load(Ordering::Relaxed) {
            Act::Write
        } else {
            Act::Fail(ErrorKind::Environment, "down")
        }
    });
    let check = Arc::clone(&is_free);
    let sink = sink.check(move || check.load(Ordering::Relaxed));
    (sink, peek, is_free)
}

pub(crate) async fn submit(coordinator: &WriteCoordinator<u64>, rows: std::ops::Range<u64>) {
    let mut rows: VecDeque<u64> = rows.collect();
    coordinator.submit_many(&mut rows).await.unwrap();
}

/// Waits until everything has its fate.
pub(crate) async fn all_settled(coordinator: &WriteCoordinator<u64>) {
    while coordinator.flush(secs(1)).await.outstanding > 0 {
        assert!(coordinator.stats().is_balanced());
    }
}

/// The totals on the disk.
pub(crate) fn totals(storage: &SimStorage) -> DurableTotals {
    let queue = queue(&storage.restart());
    let stats = queue.stats();
    DurableTotals::new(&stats.totals, stats.next, stats.backlog)
}
