//! The queue against a plain list, thousands of random steps; and with real threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use mds_coordinator::{
    BoundedQueue, Fate, Lease, OverflowStrategy, QueueOptions, Reason, Refusal, Stats,
};
use tokio::time::timeout;

use crate::support::{millis, secs, seed};

/// Steps of each queue, and queues of different shapes.
const STEPS: usize = 500;
const SHAPES: usize = 100;

/// Where the model believes each record to be.
#[derive(Default)]
struct Model {
    fresh: VecDeque<u64>,
    /// Groups that were given back, the next to go first.
    returned: VecDeque<Vec<u64>>,
    leased: usize,
    submitted: u64,
    refused: u64,
    dropped: u64,
    written: u64,
    closed: bool,
}

impl Model {
    fn size(&self) -> usize {
        self.fresh.len() + self.returned.iter().map(Vec::len).sum::<usize>()
    }

    /// The record that must go for another.
    fn evict(&mut self) {
        match self.returned.front_mut() {
            Some(group) => {
                group.remove(0);
                if group.is_empty() {
                    self.returned.pop_front();
                }
            }
            None => drop(self.fresh.pop_front()),
        }
        self.dropped += 1;
    }

    fn check(&self, stats: &Stats, what: &str) {
        assert!(stats.is_balanced(), "{what}: {stats:?}");
        let books = (
            stats.submitted,
            stats.queued,
            stats.in_flight,
            stats.written,
        );
        let expected = (
            self.submitted,
            self.size() as u64,
            self.leased as u64,
            self.written,
        );
        assert_eq!(
            books, expected,
            "{what}: submitted, queued, in flight, written"
        );
        assert_eq!(stats.dropped.get(Reason::Overflow), self.dropped, "{what}");
        assert_eq!(stats.refused_total(), self.refused, "{what}");
        assert_eq!(stats.queued_bytes, 8 * self.size() as u64, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_what_the_model_does() {
    let mut random = Rng::with_seed(seed());
    for _ in 0..SHAPES {
        run(&mut random).await;
    }
}

async fn run(random: &mut Rng) {
    let strategies = [
        OverflowStrategy::Block,
        OverflowStrategy::DropOldest,
        OverflowStrategy::Error,
    ];
    let strategy = strategies[random.usize(..3)];
    let (capacity, batch_size) = (random.usize(1..40), random.usize(1..12));
    let queue = BoundedQueue::new(QueueOptions {
        capacity,
        batch_size,
        overflow_strategy: strategy,
        ..QueueOptions::default()
    });
    let mut model = Model::default();
    let mut leases: Vec<Lease<u64>> = Vec::new();
    for (step, next) in (0..STEPS).zip(0_u64..) {
        let what = format!("{strategy}, capacity {capacity}, batch {batch_size}, step {step}");
        let before = queue.size();
        let mut gave_back = false;
        match random.u8(..100) {
            0..50 => put(&queue, &mut model, strategy, next, random.bool(), &what).await,
            50..75 => take(&queue, &mut model, batch_size, &mut leases, &what),
            75..90 if !leases.is_empty() => {
                let lease = leases.swap_remove(random.usize(..leases.len()));
                let rows = lease.batch().len();
                model.leased -= rows;
                model.written += rows as u64;
                lease.settle(Fate::Written);
            }
            90..99 if !leases.is_empty() => {
                let lease = leases.swap_remove(random.usize(..leases.len()));
                let rows: Vec<u64> = lease.batch().iter().copied().collect();
                model.leased -= rows.len();
                model.returned.push_front(rows);
                drop(lease);
                gave_back = true;
            }
            99 if step > STEPS / 2 => {
                queue.close();
                model.closed = true;
            }
            _ => {}
        }
        model.check(&queue.stats(), &what);
        // Only what comes back may exceed the capacity.
        assert!(
            gave_back || queue.size() <= capacity.max(before),
            "{what}: {before} before"
        );
        assert_eq!(queue.size(), model.size(), "{what}");
    }
}

async fn put(
    queue: &BoundedQueue<u64>,
    model: &mut Model,
    strategy: OverflowStrategy,
    row: u64,
    may_wait: bool,
    what: &str,
) {
    let full = model.size() >= queue.capacity();
    let answer = if may_wait {
        // Without a taker there is no room in this time.
        let Ok(answer) = timeout(millis(1), queue.put(row)).await else {
            assert!(
                full && strategy == OverflowStrategy::Block,
                "{what}: waited"
            );
            return;
        };
        answer
    } else {
        queue.try_put(row)
    };
    match answer {
        Ok(()) => {
            assert!(!model.closed, "{what}: accepted after close");
            while model.size() >= queue.capacity() {
                assert_eq!(
                    strategy,
                    OverflowStrategy::DropOldest,
                    "{what}: over capacity"
                );
                model.evict();
            }
            model.fresh.push_back(row);
            model.submitted += 1;
            assert!(queue.size() <= queue.capacity(), "{what}: above capacity");
        }
        Err(refused) => {
            let why = if model.closed {
                Refusal::Closed
            } else {
                Refusal::QueueFull
            };
            assert_eq!((refused.item, refused.refusal), (row, why), "{what}");
            assert!(model.closed || full, "{what}: refused with room");
            model.refused += 1;
        }
    }
}

fn take(
    queue: &BoundedQueue<u64>,
    model: &mut Model,
    batch_size: usize,
    leases: &mut Vec<Lease<u64>>,
    what: &str,
) {
    let Some(lease) = queue.try_take() else {
        assert_eq!(
            model.size(),
            0,
            "{what}: nothing taken though something waits"
        );
        return;
    };
    let rows: Vec<u64> = lease.batch().iter().copied().collect();
    // The lanes take turns; within each the order is kept.
    if model.returned.front() == Some(&rows) {
        model.returned.pop_front();
    } else {
        let expected: Vec<u64> = model.fresh.iter().take(batch_size).copied().collect();
        assert_eq!(rows, expected, "{what}");
        model.fresh.drain(..rows.len());
    }
    model.leased += rows.len();
    leases.push(lease);
}

#[tokio::test(start_paused = true)]
async fn takers_end_when_it_is_closed_and_every_record_has_its_fate() {
    let queue = BoundedQueue::new(QueueOptions::default());
    queue.put(1_u64).await.unwrap();
    queue.close();
    let lease = queue.take().await.unwrap();
    let other = queue.clone();
    let taker = tokio::spawn(async move { other.take().await.is_none() });
    tokio::time::sleep(secs(60)).await;
    assert!(!taker.is_finished(), "the record may come back yet");
    lease.settle(Fate::Written);
    assert!(timeout(secs(1), taker).await.unwrap().unwrap());
}

const PRODUCERS: u64 = 8;
const CONSUMERS: usize = 4;
const EACH: u64 = 25_000;

/// Every record comes out once, whatever the threads do; a lost wake-up would hang this for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_between_threads() {
    let queue = BoundedQueue::<u64>::new(QueueOptions {
        capacity: 300,
        batch_size: 50,
        flush_interval: millis(1),
        ..QueueOptions::default()
    });
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|n| tokio::spawn(consume(queue.clone(), n)))
        .collect();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for row in 0..EACH {
                    queue.put(producer * EACH + row).await.unwrap();
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    queue.close();
    let mut rows: BTreeMap<u64, u32> = BTreeMap::new();
    for consumer in consumers {
        for row in consumer.await.unwrap() {
            *rows.entry(row).or_default() += 1;
        }
    }
    assert_eq!(rows.len() as u64, PRODUCERS * EACH);
    assert!(rows.values().all(|times| *times == 1));
    let stats = queue.stats();
    assert_eq!((stats.submitted, stats.written), (200_000, 200_000));
    assert_eq!((stats.queued, stats.in_flight), (0, 0));
}

async fn consume(queue: BoundedQueue<u64>, number: usize) -> Vec<u64> {
    let mut random = Rng::with_seed(number as u64);
    let mut rows = Vec::new();
    while let Some(lease) = queue.take().await {
        match random.u8(..10) {
            // One in ten leases ends without an answer and comes back.
            0 => drop(lease),
            1 => {
                tokio::task::yield_now().await;
                rows.extend(lease.batch().iter().copied());
                lease.settle(Fate::Written);
            }
            _ => {
                rows.extend(lease.batch().iter().copied());
                lease.settle(Fate::Written);
            }
        }
    }
    rows
}

/// `drop_oldest` from many threads: the queue never grows beyond its capacity, and each record is
/// taken or dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drop_oldest_from_many_threads_keeps_the_bound_and_the_books() {
    let queue = Arc::new(BoundedQueue::<u64>::new(QueueOptions {
        capacity: 10,
        overflow_strategy: OverflowStrategy::DropOldest,
        ..QueueOptions::default()
    }));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                for row in 0..EACH {
                    queue.put(row).await.unwrap();
                    assert!(queue.size() <= 10);
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    let stats = queue.stats();
    assert_eq!((stats.submitted, stats.queued), (200_000, 10));
    assert_eq!(stats.dropped.get(Reason::Overflow), 199_990);
}
