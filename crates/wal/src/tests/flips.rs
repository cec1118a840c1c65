//! Bits that flip on the disk: nothing wrong is delivered, what is hit is told, the rest is there.

use std::collections::BTreeSet;

use crate::SeqNo;
use crate::damage::DamageKind;
use crate::log::LogOptions;
use crate::sim::SimStorage;

use super::world::{Known, open_with, payload};

/// Each bit, or one of so many.
fn stride() -> usize {
    if std::env::var_os("MDS_LONG").is_some() {
        1
    } else {
        101
    }
}

struct Before {
    storage: SimStorage,
    known: Known,
}

const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 64 << 10,
    max_record: 1 << 20,
    spares: 3,
};

/// A full segment of 64 KiB and the beginning of another, some of their records settled.
fn before() -> Before {
    let storage = SimStorage::new(5);
    let mut known = Known::default();
    let mut random = fastrand::Rng::with_seed(5);
    let (mut world, _) = open_with(&storage, OPTIONS).unwrap();
    while world.log.state().segments.len() < 2 {
        let count = random.usize(1..12);
        let payloads = (0..count).map(|_| payload(&mut random)).collect();
        world.append(&mut known, payloads).unwrap();
    }
    for record in world.reader.read(3, 1 << 20).unwrap() {
        world.log.ack(record.seq..record.seq + 1, 0);
        known.settled.insert(record.seq);
    }
    world.log.checkpoint().unwrap();
    drop(world);
    Before { storage, known }
}

/// What is there after a bit was flipped: which records were missing.
fn after(before: &Before, file: &str, bit: usize) -> (BTreeSet<SeqNo>, bool) {
    let storage = before.storage.restart();
    storage.flip(file, bit);
    let what = format!("{file}, bit {bit}");
    let (mut world, recovery) =
        open_with(&storage, OPTIONS).unwrap_or_else(|error| panic!("{what}: {error}"));
    let records = world.rest();
    let mut missing: BTreeSet<SeqNo> = before
        .known
        .durable
        .difference(&before.known.settled)
        .copied()
        .collect();
    for record in &records {
        let submitted = before.known.submitted.get(&record.seq);
        assert_eq!(submitted, Some(&record.payload), "{what}");
        assert!(
            missing.remove(&record.seq) || before.known.settled.contains(&record.seq),
            "{what}: {} twice",
            record.seq
        );
    }
    let state = world.log.state();
    let is_told = state.damages.count() > 0;
    let told: u64 = state.damages.kept().map(|d| d.records).sum();
    assert_eq!(told, missing.len() as u64, "{what}: {recovery:?}");
    assert_eq!(state.acks.totals().damaged, told, "{what}");
    for damage in state.damages.kept() {
        if damage.kind == DamageKind::Damaged {
            let inside = damage.bytes.start <= bit as u64 / 8 && bit as u64 / 8 < damage.bytes.end;
            assert!(
                inside && damage.bytes.end - damage.bytes.start <= 13_000,
                "{what}: {damage}"
            );
            let copy = storage.content(damage.copy.as_ref().unwrap()).unwrap();
            assert_eq!(copy.len() as u64, damage.bytes.end - damage.bytes.start);
        }
    }
    (missing, is_told)
}

#[test]
fn a_flipped_bit_in_a_segment_costs_its_record_at_most() {
    let before = before();
    let names: Vec<String> = {
        use crate::storage::Storage as _;
        let list = before.storage.list().unwrap();
        list.into_iter()
            .map(|(name, _)| name)
            .filter(|name| crate::segment::number(name).is_some())
            .collect()
    };
    assert_eq!(names.len(), 2, "{names:?}");
    let (mut flips, mut lost) = (0, 0);
    for name in &names {
        let bits = before.storage.content(name).unwrap().len() * 8;
        for bit in (0..bits).step_by(stride()) {
            let (missing, _) = after(&before, name, bit);
            assert!(missing.len() <= 1, "{name}, bit {bit}: {missing:?}");
            flips += 1;
            lost += missing.len();
        }
    }
    // The rest are in the filling behind groups, in settled records, in one of two copies.
    assert!(flips > 5_000 && lost > flips / 3, "{lost} of {flips}");
}

/// A byte of a record's head that becomes zero, in front of a payload of zeros: what is told to be
/// damaged has to reach that far all the same.
#[test]
fn a_record_of_zeros_is_told_to_its_end() {
    let before = before();
    let (missing, is_told) = after(&before, "0000000000000001.seg", 65_760);
    assert_eq!((missing, is_told), (BTreeSet::from([4]), true));
}

#[test]
fn a_flipped_bit_in_the_header_or_a_checkpoint_costs_nothing() {
    let before = before();
    for name in ["header", "ack.0", "ack.1"] {
        let content = before.storage.content(name).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for bit in 0..used * 8 {
            let (missing, is_told) = after(&before, name, bit);
            assert!(missing.is_empty(), "{name}, bit {bit}: {missing:?}");
            assert!(is_told, "{name}, bit {bit} was not told");
        }
    }
}
