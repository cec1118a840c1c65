//! Looking into a folder says what opening it and reading all of it would find, and changes nothing.

use std::collections::BTreeSet;

use crate::damage::{Damage, DamageKind};
use crate::log::LogOptions;
use crate::sim::SimStorage;
use crate::storage::Storage as _;
use crate::{WalOptions, WriteAheadQueue, inspect, verify};

use super::world::{IDENTITY, Known, OPTIONS, World, open, open_with, payload};

/// All files with their bytes.
fn content(storage: &SimStorage) -> Vec<(String, Vec<u8>)> {
    let names = storage.list().unwrap().into_iter().map(|(name, _)| name);
    names
        .map(|name| (name.clone(), storage.content(&name).unwrap()))
        .collect()
}

/// What damage is told by, apart from where its bytes are kept now.
fn places<'a>(damages: impl IntoIterator<Item = &'a Damage>) -> BTreeSet<String> {
    let place = |damage: &Damage| {
        let damage = Damage {
            copy: None,
            ..damage.clone()
        };
        damage.to_string()
    };
    damages.into_iter().map(place).collect()
}

/// Some full segments and the beginning of another, nothing settled.
fn filled(segment_bytes: u64) -> (SimStorage, World, Known) {
    let storage = SimStorage::new(8);
    let options = LogOptions {
        segment_bytes,
        ..OPTIONS
    };
    let (mut world, mut known) = (open_with(&storage, options).unwrap().0, Known::default());
    let mut random = fastrand::Rng::with_seed(8);
    while world.log.state().segments.len() < 4 {
        let count = random.usize(1..6);
        let payloads = (0..count).map(|_| payload(&mut random)).collect();
        world.append(&mut known, payloads).unwrap();
    }
    (storage, world, known)
}

#[test]
fn a_folder_is_told_as_it_is_and_left_as_it_is() {
    let storage = SimStorage::new(1);
    let (mut world, _) = open(&storage).unwrap();
    let mut known = Known::default();
    for text in ["one", "two", "three"] {
        let large = vec![text.as_bytes()[0]; 9_000];
        world.append(&mut known, vec![text.into(), large]).unwrap();
    }
    world.log.ack(1..4, 2);
    world.log.checkpoint().unwrap();
    world.log.prepare().unwrap();
    let before = content(&storage);

    let found = inspect(&storage).unwrap();
    assert_eq!(found.identity.as_deref(), Some(IDENTITY));
    assert!(found.has_salt && found.is_whole());
    let checkpoint = found.checkpoint.unwrap();
    assert_eq!((checkpoint.floor, checkpoint.end), (4, 7));
    // One when it was opened, and one in each file before a segment went.
    assert_eq!(checkpoint.generation, 3);
    assert_eq!(checkpoint.totals.settled[2], 3);
    assert_eq!((found.waiting, found.next, found.lost()), (3, 7, 0));
    let segments: Vec<_> = found
        .segments
        .iter()
        .map(|s| (s.number, s.first, s.end))
        .collect();
    // The first one went with its records.
    assert_eq!(segments, [(2, 3, 5), (3, 5, 7)]);
    let waiting: Vec<_> = found.segments.iter().map(|s| s.waiting).collect();
    assert_eq!(waiting, [1, 2]);
    assert_eq!(found.segments[1].bytes, 20_480);
    assert_eq!(found.spares[0].file, "0000000000000004.seg");
    assert_eq!((found.copies.len(), found.damages.len()), (0, 0));

    let all = verify(&storage).unwrap();
    assert_eq!(all.inspection, found);
    assert_eq!((all.records, all.settled, all.waiting), (4, 1, 3));
    assert!(content(&storage) == before, "looking has changed something");
    assert_eq!(world.rest().len(), 3);
}

#[test]
fn a_folder_without_a_queue_is_none() {
    let storage = SimStorage::new(1);
    let error = inspect(&storage).unwrap_err().to_string();
    assert_eq!(error, "there is no durable queue");
    storage.create("notes.txt", 10).unwrap();
    assert!(verify(&storage).is_err());
}

/// Whatever bit is flipped: the same damage is found as by opening the queue and reading it.
#[test]
fn damage_is_judged_as_opening_judges_it() {
    let (storage, world, _) = filled(OPTIONS.segment_bytes);
    world.log.checkpoint().unwrap();
    drop(world);
    let names: Vec<String> = storage
        .list()
        .unwrap()
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    let mut kinds = BTreeSet::new();
    for name in &names {
        let bits = storage.content(name).unwrap().len() * 8;
        for bit in (0..bits).step_by(487) {
            let what = format!("{name}, bit {bit}");
            let storage = storage.restart();
            storage.flip(name, bit);
            let before = content(&storage);
            let found = verify(&storage).unwrap();
            assert!(content(&storage) == before, "{what}: it was changed");

            let (mut world, _) = open(&storage).unwrap();
            let records = world.rest().len() as u64;
            assert_eq!(found.waiting, records, "{what}");
            let state = world.log.state();
            let damages = &found.inspection.damages;
            let told: Vec<Damage> = state.damages.kept().cloned().collect();
            // Bytes behind the last record of a segment need not be looked at to read it.
            let is_torn = |d: &&Damage| d.kind == DamageKind::Torn && d.records == 0;
            let found_torn = places(damages.iter().filter(is_torn));
            assert!(
                found_torn.is_superset(&places(told.iter().filter(is_torn))),
                "{what}"
            );
            let others = |all: &[Damage]| places(all.iter().filter(|d| !is_torn(d)));
            assert_eq!(others(damages), others(&told), "{what}");
            assert_eq!(
                found.inspection.lost(),
                state.acks.totals().damaged,
                "{what}"
            );
            kinds.extend(damages.iter().map(|damage| damage.kind.as_str()));
        }
    }
    let all: BTreeSet<_> = ["copy", "damaged", "torn"].into();
    assert_eq!(kinds, all);
}

/// What a power loss leaves is no damage, before it is opened and after.
#[test]
fn what_a_power_loss_leaves_costs_nothing() {
    let mut torn = 0;
    for seed in 0..300 {
        let storage = SimStorage::new(seed);
        let (mut world, mut known) = (open(&storage).unwrap().0, Known::default());
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..40 {
            world.step(&mut known, &mut random);
        }
        // The last write is under way.
        storage.fail_at(storage.calls() + 2, crate::sim::Fault::Gone);
        world
            .append(&mut known, vec![vec![1; 3_000]; 3])
            .unwrap_err();
        let after = storage.crash(seed);
        let found = verify(&after).unwrap();
        assert!(found.inspection.is_whole(), "{seed}: {found:?}");
        let (mut world, recovery) = open(&after).unwrap();
        assert_eq!(found.waiting, recovery.records, "{seed}");
        torn += u64::from(recovery.damages.iter().any(|d| d.kind == DamageKind::Torn));
        // What comes goes into a new segment, and what was torn stays before it.
        let mut known = Known::default();
        world.append(&mut known, vec![b"after".to_vec()]).unwrap();
        let found = verify(&after).unwrap();
        assert!(found.inspection.is_whole(), "{seed}: {found:?}");
        let records = world.rest().len() as u64;
        assert_eq!(found.waiting, records, "{seed}");
        let alarms: Vec<_> = world
            .log
            .state()
            .damages
            .kept()
            .filter(|d| d.is_loss())
            .cloned()
            .collect();
        assert!(alarms.is_empty(), "{seed}: {alarms:?}");
    }
    assert!(torn > 20, "{torn}");
}

/// Records whose bytes have become zeros look like the filling behind a group.
#[test]
fn records_that_are_zeros_now_are_told_with_their_exact_place() {
    let storage = SimStorage::new(2);
    let (mut world, _) = open(&storage).unwrap();
    let mut known = Known::default();
    let payloads = (0..6).map(|_| vec![7; 1_000]).collect();
    world.append(&mut known, payloads).unwrap();
    world.append(&mut known, vec![b"next".to_vec()]).unwrap();
    drop(world);
    // Four records of 1,016 bytes, and the beginning of a fifth.
    let name = "0000000000000001.seg";
    let file = storage.open(name).unwrap();
    file.write_all_at(&[0; 4_096], 4_096).unwrap();
    let found = verify(&storage).unwrap();
    let told = places(&found.inspection.damages);
    let damage =
        "0000000000000001.seg: bytes 4096 to 9176 are damaged, 5 records from 1 on are lost";
    assert_eq!(told, BTreeSet::from([damage.to_owned()]));
    assert_eq!((found.records, found.waiting), (2, 2));

    let storage = SimStorage::new(2);
    let (mut world, _) = open(&storage).unwrap();
    world.append(&mut known, vec![vec![7; 1_000]; 4]).unwrap();
    drop(world);
    let (mut world, _) = open(&storage).unwrap();
    world.append(&mut known, vec![b"next".to_vec()]).unwrap();
    drop(world);
    // Nothing but zeros is left of the second and the third, in a segment that is not the last.
    let file = storage.open(name).unwrap();
    file.write_all_at(&[0; 2 * 1_016], 4_096 + 1_016).unwrap();
    let found = verify(&storage).unwrap();
    let damage =
        "0000000000000001.seg: bytes 5112 to 7144 are damaged, 2 records from 2 on are lost";
    let expected = BTreeSet::from([damage.to_owned()]);
    assert_eq!(places(&found.inspection.damages), expected);
    let (mut world, _) = open(&storage).unwrap();
    assert_eq!(world.rest().len(), 3);
    assert_eq!(places(world.log.state().damages.kept()), expected);
}

#[test]
fn a_segment_that_somebody_took_away_is_missed() {
    let (storage, world, known) = filled(OPTIONS.segment_bytes);
    world.log.checkpoint().unwrap();
    let second = world.log.state().segments[1];
    drop(world);
    storage
        .remove(&crate::segment::name(second.number))
        .unwrap();
    let found = verify(&storage).unwrap();
    let lost = second.end - second.first;
    assert_eq!(found.inspection.lost(), lost);
    assert_eq!(found.waiting, known.durable.len() as u64 - lost);
    let damages = &found.inspection.damages;
    assert_eq!(damages.len(), 1);
    let (kind, first) = (damages[0].kind, damages[0].first);
    assert_eq!((kind, first), (DamageKind::Missing, second.first));
    let (mut world, _) = open(&storage).unwrap();
    assert_eq!(world.rest().len() as u64, found.waiting);
}

/// A queue that was closed has said up to where it was durable: its last records cannot be taken
/// for a write that was under way.
#[test]
fn damage_to_the_last_records_of_a_closed_queue_is_damage() {
    let storage = SimStorage::new(4);
    let options = || WalOptions {
        segment_bytes: 64 << 10,
        ..WalOptions::default()
    };
    let (queue, _) =
        WriteAheadQueue::open_on(std::sync::Arc::new(storage.clone()), options()).unwrap();
    queue.append(["first", "last"]).unwrap().wait().unwrap();
    queue.close();
    drop(queue);
    // The payload of the second record.
    storage.flip("0000000000000001.seg", (4_096 + 16 + 5 + 16) * 8);
    let found = verify(&storage).unwrap();
    assert_eq!((found.waiting, found.inspection.lost()), (1, 1));
    let (queue, recovery) =
        WriteAheadQueue::open_on(std::sync::Arc::new(storage.clone()), options()).unwrap();
    assert_eq!((recovery.records, recovery.damaged), (2, 1));
    let damage = recovery.damages[0].clone();
    assert_eq!(
        (damage.kind, damage.first, damage.bytes),
        (DamageKind::Damaged, 2, 4_117..4_137)
    );
    assert_eq!(queue.reader().read(10, 1 << 20).unwrap().len(), 1);
}

/// A running queue says so within a quarter of a second, although nobody settles anything.
#[test]
fn what_was_durable_for_a_while_is_proven_so() {
    let storage = SimStorage::new(5);
    let options = || WalOptions {
        segment_bytes: 64 << 10,
        ..WalOptions::default()
    };
    let open = |storage: &SimStorage| {
        WriteAheadQueue::open_on(std::sync::Arc::new(storage.clone()), options()).unwrap()
    };
    let (queue, _) = open(&storage);
    queue.append(["first", "last"]).unwrap().wait().unwrap();
    while inspect(&storage).unwrap().checkpoint.unwrap().end < 3 {
        std::thread::yield_now();
    }
    // The process is killed, and the payload of the second record is hit.
    let after = storage.restart();
    after.flip("0000000000000001.seg", (4_096 + 16 + 5 + 16) * 8);
    let (_queue, recovery) = open(&after);
    assert_eq!((recovery.records, recovery.damaged), (2, 1));
    assert_eq!(recovery.damages[0].kind, DamageKind::Damaged);
}
