//! The same on a disk: what is on its way to it at the deadline is answered as the disk answers. The clock
//! is virtual, the threads of the disk are real: they are held and let go by a gate.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use mds_coordinator::{
    CoordinatorBuilder, OverflowStrategy, Reason, Refusal, SubmitManyError, WriteCoordinator,
};
use mds_wal::sim::SimStorage;
use mds_wal::{Storage, StorageFile};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::overflow::refused;
use crate::disk::{all_settled, held, queue, queue_of, queue_on};
use crate::support::{FakeLetters, FakeSink, Peek, builder, millis, secs};

/// Holds syncs of files while it is shut.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_shut: bool,
    waiting: usize,
    /// What those that wait answer, and those after them.
    fails: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap()
    }

    fn shut(&self) {
        self.lock().is_shut = true;
    }

    fn open(&self, fails: bool) {
        let mut state = self.lock();
        (state.is_shut, state.fails) = (false, fails);
        self.changed.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.waiting += 1;
        let mut state = self.changed.wait_while(state, |s| s.is_shut).unwrap();
        state.waiting -= 1;
        if state.fails {
            return Err(io::Error::other("the gate fails it"));
        }
        Ok(())
    }

    /// Waits until a sync is held.
    async fn holds_one(&self) {
        while self.lock().waiting == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A simulated disk behind a gate.
#[derive(Debug)]
struct Gated(SimStorage, Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Arc<dyn StorageFile>, Arc<Gate>);

impl Gated {
    fn file(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(GatedFile(file, Arc::clone(&self.1)))
    }
}

impl Storage for Gated {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        self.0.create(name, len).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.0.open(name).map(|file| self.file(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.0.lock()
    }
}

impl StorageFile for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.pass()?;
        self.0.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

type Answer = (Result<usize, SubmitManyError>, VecDeque<u64>);

/// A coordinator on a gated disk, with one record written, and a submit of a hundred whose commit the
/// gate holds; its deadline of a second is over.
struct UnderWay {
    coordinator: Arc<WriteCoordinator<u64>>,
    storage: SimStorage,
    gate: Arc<Gate>,
    peek: Peek,
    submit: JoinHandle<Answer>,
}

async fn under_way(seed: u64) -> UnderWay {
    let (storage, gate) = (SimStorage::new(seed), Arc::<Gate>::default());
    let gated = Gated(storage.clone(), Arc::clone(&gate));
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .durable_queue(queue_on(Arc::new(gated), 1 << 20))
        .start()
        .unwrap();
    coordinator.submit(7).await.unwrap();
    all_settled(&coordinator).await;
    let coordinator = Arc::new(coordinator);
    gate.shut();
    let submitting = Arc::clone(&coordinator);
    let submit = tokio::spawn(async move {
        let mut rows: VecDeque<u64> = (100..200).collect();
        let deadline = Instant::now() + secs(1);
        let submitted = submitting.submit_many_until(&mut rows, deadline).await;
        (submitted, rows)
    });
    tokio::task::yield_now().await;
    gate.holds_one().await;
    tokio::time::sleep(secs(10)).await;
    assert!(!submit.is_finished(), "nobody knows yet how it ends");
    assert_eq!(coordinator.stats().submitted, 1);
    UnderWay {
        coordinator,
        storage,
        gate,
        peek,
        submit,
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_under_way_at_the_deadline_is_waited_for() {
    let it = under_way(30).await;
    it.gate.open(false);
    assert_eq!(it.submit.await.unwrap(), (Ok(100), VecDeque::new()));
    all_settled(&it.coordinator).await;
    let stats = it.coordinator.stop(true, secs(10)).await.stats;
    assert_eq!((stats.submitted, stats.written), (101, 101));
    assert_eq!((stats.superseded, stats.refused_total()), (0, 0));
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(it.peek.rows(), 101);
    assert_eq!(queue(&it.storage.restart()).recovery().records, 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_after_the_deadline_gives_its_records_back() {
    let it = under_way(31).await;
    it.gate.open(true);
    let (submitted, mut rows) = it.submit.await.unwrap();
    let unknown = SubmitManyError {
        accepted: 0,
        refusal: Refusal::OutcomeUnknown,
    };
    assert_eq!(submitted, Err(unknown));
    assert_eq!(rows, (100..200).collect::<VecDeque<u64>>());
    assert_eq!(it.coordinator.stats().submitted, 1);
    assert_eq!(refused(&it.coordinator, Refusal::OutcomeUnknown), 100);
    it.gate.open(false);
    let deadline = Instant::now() + secs(60);
    let again = it.coordinator.submit_many_until(&mut rows, deadline).await;
    assert_eq!((again, rows.len()), (Ok(100), 0));
    all_settled(&it.coordinator).await;
    let stats = it.coordinator.stop(true, secs(10)).await.stats;
    assert_eq!((stats.submitted, stats.written), (101, 101));
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(it.peek.rows(), 101);
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_change_the_answer_of_a_commit_under_way() {
    let it = under_way(32).await;
    it.coordinator.close_intake();
    tokio::time::sleep(secs(1)).await;
    assert!(!it.submit.is_finished());
    it.gate.open(false);
    assert_eq!(it.submit.await.unwrap(), (Ok(100), VecDeque::new()));
    let stats = it.coordinator.stop(true, secs(10)).await.stats;
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(stats.submitted, 101);
    assert_eq!(stats.written + stats.queued, 101);
    let left = queue(&it.storage.restart()).recovery().records;
    assert_eq!(left, stats.queued);
}

/// Whoever cancels it all the same has lost the answer only.
#[tokio::test(start_paused = true)]
async fn a_cancelled_commit_is_in_all_the_same() {
    let it = under_way(33).await;
    it.submit.abort();
    assert!(it.submit.await.unwrap_err().is_cancelled());
    it.gate.open(false);
    let stats = it.coordinator.stop(true, secs(10)).await.stats;
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(stats.written + stats.queued, 101);
}

/// Fills the disk of a store that is away, with a deadline that is over.
async fn filled(strategy: OverflowStrategy, seed: u64) -> Filled {
    filled_with(strategy, seed, |b| b).await
}

type Filled = (
    WriteCoordinator<u64>,
    Peek,
    Arc<std::sync::atomic::AtomicBool>,
    VecDeque<u64>,
);

async fn filled_with(
    strategy: OverflowStrategy,
    seed: u64,
    set_up: impl FnOnce(CoordinatorBuilder<u64, FakeSink>) -> CoordinatorBuilder<u64, FakeSink>,
) -> Filled {
    let (sink, peek, is_free) = held();
    let coordinator = set_up(builder(sink))
        .overflow_strategy(strategy)
        .durable_queue(queue_of(&SimStorage::new(seed), 1 << 20))
        .start()
        .unwrap();
    let mut rows: VecDeque<u64> = (0..20_000).collect();
    let now = Instant::now();
    let error = coordinator.submit_many_until(&mut rows, now).await;
    let error = error.unwrap_err();
    assert_eq!(error.refusal, Refusal::QueueFull);
    assert!(error.accepted > 1_000, "{error}");
    let left: VecDeque<u64> = (error.accepted as u64..20_000).collect();
    assert_eq!(rows, left);
    let stats = coordinator.stats();
    assert_eq!(stats.submitted, error.accepted as u64);
    assert_eq!(stats.queued + stats.in_flight, stats.submitted);
    assert_eq!(refused(&coordinator, Refusal::QueueFull), left.len() as u64);
    (coordinator, peek, is_free, rows)
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for_until_the_deadline() {
    let (coordinator, peek, is_free, mut rows) = filled(OverflowStrategy::Block, 34).await;
    let left = rows.len();
    let started = Instant::now();
    let deadline = started + millis(5_250);
    let submitted = coordinator.submit_many_until(&mut rows, deadline).await;
    let error = submitted.unwrap_err();
    assert_eq!(error.refusal, Refusal::QueueFull);
    assert_eq!(started.elapsed(), millis(5_250));
    assert_eq!(error.accepted + rows.len(), left);
    // The store is back: all find room, none of them twice.
    is_free.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut refusals = 0;
    while !rows.is_empty() {
        let deadline = Instant::now() + secs(1);
        let submitted = coordinator.submit_many_until(&mut rows, deadline).await;
        refusals += u32::from(submitted.is_err());
    }
    println!("refused {refusals} times");
    all_settled(&coordinator).await;
    let stats = coordinator.stop(true, secs(60)).await.stats;
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.submitted, stats.superseded), (20_000, 0));
    assert_eq!((peek.rows(), stats.written), (20_000, 20_000));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_not_waited_for_by_error() {
    let (coordinator, _, _, mut rows) = filled(OverflowStrategy::Error, 35).await;
    let started = Instant::now();
    let deadline = started + secs(60);
    let submitted = coordinator.submit_many_until(&mut rows, deadline).await;
    assert_eq!(submitted.unwrap_err().refusal, Refusal::QueueFull);
    assert_eq!(started.elapsed(), secs(0));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_wait_for_the_disk() {
    let (coordinator, _, _, mut rows) = filled(OverflowStrategy::Block, 36).await;
    let before = (rows.clone(), coordinator.stats().submitted);
    let deadline = Instant::now() + secs(60);
    let (submitted, ()) = tokio::join!(coordinator.submit_many_until(&mut rows, deadline), async {
        tokio::time::sleep(secs(2)).await;
        coordinator.close_intake();
    });
    let closed = SubmitManyError {
        accepted: 0,
        refusal: Refusal::Closed,
    };
    assert_eq!(submitted, Err(closed));
    assert_eq!((rows, coordinator.stats().submitted), before);
}

/// With nothing left to wait for, the oldest are not given up for records that are refused.
#[tokio::test(flavor = "multi_thread")]
async fn drop_oldest_on_a_full_disk_gives_up_nothing_after_the_deadline() {
    let (coordinator, peek, is_free, mut rows) = filled(OverflowStrategy::DropOldest, 37).await;
    assert_eq!(coordinator.stats().dropped.total(), 0);
    let deadline = Instant::now() + secs(600);
    let left = rows.len();
    let submitted = coordinator.submit_many_until(&mut rows, deadline).await;
    assert_eq!((submitted, rows.len()), (Ok(left), 0));
    is_free.store(true, std::sync::atomic::Ordering::Relaxed);
    all_settled(&coordinator).await;
    let stats = coordinator.stats();
    let given_up = stats.dropped.get(Reason::Overflow);
    assert_eq!(stats.written + given_up, 20_000);
    assert!(given_up > 1_000 && peek.has(19_999), "{stats:?}");
}

/// The letters of the oldest cannot be written, so there is no room: the deadline counts.
#[tokio::test(start_paused = true)]
async fn drop_oldest_on_a_full_disk_does_not_wait_for_letters_beyond_the_deadline() {
    let letters = FakeLetters::failing(u32::MAX).place();
    let set_up = |b: CoordinatorBuilder<u64, FakeSink>| b.dead_letters(letters);
    let (coordinator, _, _, mut rows) = filled_with(OverflowStrategy::DropOldest, 38, set_up).await;
    let before = (rows.clone(), coordinator.stats().submitted);
    let started = Instant::now();
    let deadline = started + secs(30);
    let submitted = coordinator.submit_many_until(&mut rows, deadline).await;
    let error = submitted.unwrap_err();
    assert_eq!((error.accepted, error.refusal), (0, Refusal::QueueFull));
    assert_eq!(started.elapsed(), secs(30));
    let stats = coordinator.stats();
    assert_eq!((rows, stats.submitted), before);
    assert_eq!(stats.resolved(), 0);
    assert!(stats.is_balanced(), "{stats:?}");
}

/// Many producers, short deadlines, a small disk: each record is accepted once, or handed back.
#[tokio::test(flavor = "multi_thread")]
async fn many_producers_with_short_deadlines_lose_and_repeat_nothing() {
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .capacity(500)
        .durable_queue(queue_of(&SimStorage::new(39), 1 << 20))
        .start()
        .unwrap();
    let coordinator = Arc::new(coordinator);
    let producers = (0..4_u64).map(|producer| {
        let coordinator = Arc::clone(&coordinator);
        tokio::spawn(async move {
            let mut accepted = 0;
            for part in 0..6 {
                let first = producer * 3_000 + part * 500;
                let mut rows: VecDeque<u64> = (first..first + 500).collect();
                while !rows.is_empty() {
                    let before = rows.len();
                    let deadline = Instant::now() + millis(producer);
                    let now = match coordinator.submit_many_until(&mut rows, deadline).await {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            assert_eq!(error.refusal, Refusal::QueueFull);
                            error.accepted
                        }
                    };
                    assert_eq!(before - rows.len(), now);
                    accepted += now;
                }
            }
            accepted
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        assert_eq!(producer.await.unwrap(), 3_000);
    }
    all_settled(&coordinator).await;
    let stats = coordinator.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.submitted, stats.superseded), (12_000, 0));
    assert_eq!(peek.rows(), 12_000);
}
