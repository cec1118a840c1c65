//! A queue, and what its owner knows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::damage::DamageKind;
use crate::error::{CommitError, OpenError};
use crate::log::{Log, LogOptions};
use crate::open::{self, Recovery};
use crate::reader::Reader;
use crate::record::Group;
use crate::sim::SimStorage;
use crate::{Damage, SeqNo};

/// Four blocks: a segment is full after a few groups.
pub(super) const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 5 * 4096,
    max_record: 1 << 20,
    spares: 3,
};
pub(super) const IDENTITY: &str = "bars, version 1";

/// What was handed in, and what was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// All records that were ever handed in.
    pub(super) submitted: BTreeMap<SeqNo, Vec<u8>>,
    /// Those that were told to be durable.
    pub(super) durable: BTreeSet<SeqNo>,
    /// Those that were settled; after a crash they may come back.
    pub(super) settled: BTreeSet<SeqNo>,
    /// Segments whose files were one before.
    pub(super) reused: BTreeSet<u64>,
}

/// An open queue.
#[derive(Debug)]
pub(super) struct World {
    pub(super) log: Arc<Log>,
    pub(super) reader: Reader,
    /// The number of the next record.
    pub(super) next: SeqNo,
    /// Read and not settled.
    pub(super) held: Vec<SeqNo>,
}

pub(super) fn open(storage: &SimStorage) -> Result<(World, Recovery), OpenError> {
    open_with(storage, OPTIONS)
}

pub(super) fn open_with(
    storage: &SimStorage,
    options: LogOptions,
) -> Result<(World, Recovery), OpenError> {
    let (opened, recovery) = open::open(storage, options, IDENTITY)?;
    let log = Arc::new(Log::new(Arc::new(storage.clone()), options, opened, None));
    let world = World {
        reader: Reader::new(Arc::clone(&log), recovery.first),
        log,
        next: recovery.next,
        held: Vec::new(),
    };
    Ok((world, recovery))
}

pub(super) fn payload(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = match random.u8(0..10) {
        0 => 0,
        1..=7 => random.usize(1..200),
        8 => random.usize(200..4_000),
        _ => random.usize(4_000..9_000),
    };
    // Zeros are what a walk could take for filling.
    let is_dull = random.u8(0..4) == 0;
    std::iter::repeat_with(|| if is_dull { 0 } else { random.u8(..) })
        .take(length)
        .collect()
}

impl World {
    /// Hands in a group.
    pub(super) fn append(
        &mut self,
        known: &mut Known,
        payloads: Vec<Vec<u8>>,
    ) -> Result<(), CommitError> {
        let mut group = Group::new(self.next, Vec::new());
        for payload in payloads {
            known.submitted.insert(group.end(), payload.clone());
            group.push(&payload, self.log.salt);
        }
        self.next = group.end();
        let range = group.first()..group.end();
        self.log.commit(&mut group)?;
        known.durable.extend(range);
        Ok(())
    }

    /// Reads, and settles some of what was read, in any order.
    pub(super) fn consume(&mut self, known: &mut Known, random: &mut fastrand::Rng) {
        if let Ok(records) = self.reader.read(random.usize(1..8), 1 << 20) {
            for record in records {
                assert_eq!(known.submitted.get(&record.seq), Some(&record.payload));
                self.held.push(record.seq);
            }
        }
        for _ in 0..random.usize(0..8) {
            if self.held.is_empty() {
                break;
            }
            let seq = self.held.swap_remove(random.usize(0..self.held.len()));
            assert_eq!(self.log.ack(seq..seq + 1, 1).0, 1);
            known.settled.insert(seq);
        }
    }

    /// One step of a workload.
    pub(super) fn step(&mut self, known: &mut Known, random: &mut fastrand::Rng) {
        match random.u8(0..10) {
            0..=4 => {
                let count = random.usize(1..6);
                let payloads = (0..count).map(|_| payload(random)).collect();
                // Whether it went well is in what is known.
                drop(self.append(known, payloads));
            }
            5..=7 => self.consume(known, random),
            8 => drop(self.log.checkpoint()),
            _ => drop(self.log.prepare()),
        }
    }

    /// All that there is to read.
    pub(super) fn rest(&mut self) -> Vec<crate::Record> {
        let mut all = Vec::new();
        loop {
            let records = self.reader.read(7, 10_000).unwrap();
            if records.is_empty() {
                return all;
            }
            all.extend(records);
        }
    }
}

/// Opens what a crash has left, and checks that nothing is lost, doubled or made up; answers with
/// the open queue, nothing of it read.
pub(super) fn check(storage: &SimStorage, known: &Known, what: &str) -> World {
    let (mut world, recovery) = open(storage).unwrap_or_else(|error| panic!("{what}: {error}"));
    let records = world.rest();
    let delivered: BTreeSet<SeqNo> = records.iter().map(|r| r.seq).collect();
    assert_eq!(delivered.len(), records.len(), "{what}: delivered twice");
    for record in &records {
        let submitted = known.submitted.get(&record.seq);
        assert_eq!(submitted, Some(&record.payload), "{what}: {}", record.seq);
    }
    for seq in known.durable.difference(&known.settled) {
        assert!(delivered.contains(seq), "{what}: {seq} is lost");
    }
    // A power loss damages nothing that was durable, and is not told as if it had.
    let is_alarm = |damage: &&Damage| {
        damage.kind != DamageKind::Torn && damage.kind != DamageKind::Copy || damage.records > 0
    };
    let alarms: Vec<_> = recovery.damages.iter().filter(is_alarm).collect();
    assert!(alarms.is_empty(), "{what}: {alarms:?}");
    assert_eq!(recovery.records, records.len() as u64, "{what}");
    let last = known.submitted.keys().next_back().copied().unwrap_or(0);
    let last_durable = known.durable.last().copied().unwrap_or(0);
    assert!(
        (last_durable + 1..=last + 1).contains(&recovery.next),
        "{what}: {} after {last_durable} of {last}",
        recovery.next
    );
    drop(world);
    open(storage).unwrap().0
}
