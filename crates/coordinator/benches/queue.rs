//! Records a second through the queue alone: push, lease, ack.
//!
//! `one thread` is the cost of the moves themselves: nobody else wants the lock, nobody waits.
//! `producers` adds what a coordinator has: tasks that push and wait for room, and one that leases
//! and acks, on the threads of a runtime. What a sink, workers and metrics cost on top is measured
//! by `mds bench null`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mds_coordinator::{BoundedQueue, Fate, QueueOptions};
use mds_core::{Bar, Sourced, Symbol};
use tokio::runtime::Runtime;

/// Records of one measurement, in whole batches for every producer.
const ROWS: u64 = 100_000;
const PRODUCERS: [u64; 2] = [1, 4];
const BATCH_SIZES: [usize; 2] = [1, 500];

/// What `mds ingest` puts in.
fn row() -> Sourced<Bar> {
    Sourced::from(Bar {
        vendor: "bench".into(),
        symbol: Symbol::new("BTCUSD"),
        close_price: Some(1.0),
        ..Bar::default()
    })
}

fn queue(batch_size: usize) -> BoundedQueue<Sourced<Bar>> {
    BoundedQueue::new(QueueOptions {
        batch_size,
        ..QueueOptions::default()
    })
}

/// Pushes, leases and acks batch by batch, without ever waiting.
fn one_thread(batch_size: usize) {
    let (queue, row) = (queue(batch_size), row());
    for number in 0..ROWS {
        queue
            .try_put(row.clone())
            .expect("a batch is smaller than the queue");
        if (number + 1) % batch_size as u64 == 0 {
            let lease = queue.try_take().expect("a batch was just put in");
            black_box(lease.batch());
            lease.settle(Fate::Written);
        }
    }
    assert_eq!(queue.stats().written, ROWS);
}

/// The same with tasks that wait for each other.
async fn producers(producers: u64, batch_size: usize) {
    let queue = queue(batch_size);
    let pushing: Vec<_> = (0..producers)
        .map(|_| {
            let (queue, row) = (queue.clone(), row());
            tokio::spawn(async move {
                for _ in 0..ROWS / producers {
                    queue.put(row.clone()).await.expect("the queue is open");
                }
            })
        })
        .collect();
    let taking = tokio::spawn({
        let queue = queue.clone();
        async move {
            while let Some(lease) = queue.take().await {
                black_box(lease.batch());
                lease.settle(Fate::Written);
            }
        }
    });
    for task in pushing {
        task.await.expect("a producer only pushes");
    }
    queue.close();
    taking.await.expect("the consumer only leases and acks");
    assert_eq!(queue.stats().written, ROWS);
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("this machine can start threads");
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(ROWS)).sample_size(20);
    for batch_size in BATCH_SIZES {
        let id = BenchmarkId::new("one thread", format!("batch {batch_size}"));
        group.bench_function(id, |b| b.iter(|| one_thread(batch_size)));
    }
    for number in PRODUCERS {
        for batch_size in BATCH_SIZES {
            let name = format!("producers {number}");
            let id = BenchmarkId::new(name, format!("batch {batch_size}"));
            group.bench_function(id, |b| {
                b.iter(|| runtime.block_on(producers(number, batch_size)));
            });
        }
    }
    group.finish();
}

criterion_group!(queue_benches, benches);
criterion_main!(queue_benches);
