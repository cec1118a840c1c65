//! Calls of the disk that fail, below a coordinator. A real disk cannot be made to fail without
//! privileges, so the disk is simulated: one whose failed sync forgets any part of what was not
//! durable, as Linux does. After the failures power is lost as well, and what is acknowledged must
//! still be delivered.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mds_coordinator::{Codec, DurableOptions, DurableQueue, WriteCoordinator};
use mds_core::{Batch, Sink, WriteReport};
use mds_wal::sim::{Fault, SimStorage};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::Trial;
use super::report::SyncErrors;

/// Simulated disks in a round.
const DISKS: u64 = 100;
/// Failures of each, and rows that are handed in around one.
const FAILURES: u64 = 3;
const ROWS: u64 = 20;
/// A failure meets one of so many calls.
const CALLS: u64 = 12;
/// How long a queue may take to give what it has.
const LIMIT: Duration = Duration::from_secs(60);

struct Numbers;

impl Codec<u64> for Numbers {
    fn encode(&self, item: &u64, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&item.to_le_bytes());
        bytes.resize(bytes.len() + 92, 7);
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, String> {
        let number = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
        number.ok_or_else(|| "it is too short".to_owned())
    }
}

/// A store that never answers: everything stays in the queue.
struct Never;

impl Sink<u64> for Never {
    fn name(&self) -> &'static str {
        "never"
    }

    async fn write(&self, _: Batch<u64>) -> WriteReport {
        pending().await
    }
}

/// A store that keeps what it gets.
#[derive(Clone, Default)]
struct Keeps(Arc<Mutex<Vec<u64>>>);

impl Sink<u64> for Keeps {
    fn name(&self) -> &'static str {
        "keeps"
    }

    async fn write(&self, batch: Batch<u64>) -> WriteReport {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(batch.iter());
        WriteReport::written(batch.len())
    }
}

/// What a producer knows.
#[derive(Default)]
struct Known {
    submitted: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

/// Tries disk after disk.
pub(super) fn run(trial: &Trial, report: &mut SyncErrors) -> anyhow::Result<()> {
    for disk in 0..DISKS {
        if trial.is_over() {
            return Ok(());
        }
        let seed = trial.seed.wrapping_mul(DISKS).wrapping_add(disk);
        Handle::current().block_on(one(seed, report))?;
        report.disks += 1;
    }
    Ok(())
}

fn open(storage: &SimStorage) -> anyhow::Result<DurableQueue<u64>> {
    let options = DurableOptions {
        identity: "selftest".to_owned(),
        max_bytes: 16 << 20,
        ..DurableOptions::default()
    };
    DurableQueue::open_on(Arc::new(storage.clone()), options, Arc::new(Numbers))
        .context("cannot open a queue on a simulated disk")
}

async fn one(seed: u64, report: &mut SyncErrors) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let storage = SimStorage::new(seed);
    let mut known = Known::default();
    let coordinator = WriteCoordinator::builder(Never)
        .durable_queue(open(&storage)?)
        .start()?;
    let coordinator = Arc::new(coordinator);
    for _ in 0..FAILURES {
        let fault = if random.u8(0..4) == 0 {
            Fault::Full
        } else {
            Fault::Fails
        };
        let at = storage.calls() + random.u64(1..=CALLS);
        storage.fail_at(at, fault);
        report.refused += submit(&coordinator, &mut known).await?;
        report.failures += u64::from(storage.calls() >= at);
        after_power_loss(&storage.crash(random.u64(..)), &known, report).await?;
        storage.free();
    }
    // Nothing fails any more, and so nothing may be refused.
    report.stuck += submit(&coordinator, &mut known).await?;
    let image = storage.crash(random.u64(..));
    drop(coordinator);
    after_power_loss(&image, &known, report).await
}

/// Hands in rows, many at once, and notes which were acknowledged; answers how many were not.
async fn submit(
    coordinator: &Arc<WriteCoordinator<u64>>,
    known: &mut Known,
) -> anyhow::Result<u64> {
    let first = known.submitted.len() as u64;
    let (mut tasks, mut refused) = (JoinSet::new(), 0);
    for number in first..first + ROWS {
        known.submitted.insert(number);
        let coordinator = Arc::clone(coordinator);
        tasks.spawn(async move { (number, coordinator.submit(number).await.is_ok()) });
        // In several groups.
        if number % 4 == 3 {
            refused += answers(&mut tasks, known).await?;
        }
    }
    Ok(refused + answers(&mut tasks, known).await?)
}

async fn answers(tasks: &mut JoinSet<(u64, bool)>, known: &mut Known) -> anyhow::Result<u64> {
    let mut refused = 0;
    while let Some(answer) = tasks.join_next().await {
        let (number, is_acknowledged) = answer.context("a submit has failed")?;
        if is_acknowledged {
            known.acknowledged.insert(number);
        } else {
            refused += 1;
        }
    }
    Ok(refused)
}

/// Starts anew on what a power loss has left, and compares what is delivered.
async fn after_power_loss(
    image: &SimStorage,
    known: &Known,
    report: &mut SyncErrors,
) -> anyhow::Result<()> {
    let sink = Keeps::default();
    let queue = open(image)?;
    let damages = &queue.recovery().damages;
    report.alarms += damages.iter().filter(|damage| damage.is_loss()).count() as u64;
    let coordinator = WriteCoordinator::builder(sink.clone())
        .flush_interval(Duration::ZERO)
        .durable_queue(queue)
        .start()?;
    let flushed = coordinator.flush(LIMIT).await;
    let rest = flushed.outstanding;
    ensure!(rest == 0, "{rest} rows of a queue are never delivered");
    coordinator.stop(true, LIMIT).await;
    let kept = sink.0.lock().unwrap_or_else(PoisonError::into_inner);
    let delivered: BTreeSet<u64> = kept.iter().copied().collect();
    report.power_losses += 1;
    report.acknowledged += known.acknowledged.len() as u64;
    report.missing += known.acknowledged.difference(&delivered).count() as u64;
    report.doubled += (kept.len() - delivered.len()) as u64;
    report.strange += delivered.difference(&known.submitted).count() as u64;
    Ok(())
}
