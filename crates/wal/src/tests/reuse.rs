//! Files that become segments again: what was in them before is nobody's record.

use std::collections::BTreeSet;

use crate::damage::DamageKind;
use crate::error::OpenError;
use crate::log::LogOptions;
use crate::segment;
use crate::sim::{Fault, SimStorage};
use crate::storage::Storage as _;
use crate::{inspect, open as opening, verify};

use super::world::{IDENTITY, Known, OPTIONS, World, check, open, open_with, payload};

const LARGE: LogOptions = LogOptions {
    segment_bytes: 64 << 10,
    ..OPTIONS
};

fn segments(storage: &SimStorage) -> Vec<String> {
    let files = storage.list().unwrap().into_iter().map(|(name, _)| name);
    files
        .filter(|name| segment::number(name).is_some())
        .collect()
}

/// Settles all that there is, and puts away what is done.
fn settle_all(world: &World, known: &mut Known) {
    let durable = world.log.state().durable;
    world.log.ack(1..durable, 0);
    known.settled.extend(known.durable.iter().copied());
    world.log.checkpoint().unwrap();
}

/// A queue whose last segment is one of before, with remains behind its records.
fn reused(storage: &SimStorage, options: LogOptions) -> (World, Known) {
    let (mut world, mut known) = (open_with(storage, options).unwrap().0, Known::default());
    let mut random = fastrand::Rng::with_seed(3);
    let is_reused = |world: &World| {
        world
            .log
            .state()
            .segments
            .back()
            .is_some_and(|s| s.is_reused)
    };
    while !is_reused(&world) {
        let payloads = (0..random.usize(1..9)).map(|_| payload(&mut random));
        let payloads = payloads.collect();
        world.append(&mut known, payloads).unwrap();
        settle_all(&world, &mut known);
    }
    for text in ["one", "two", "three"] {
        let payloads = vec![text.into(), vec![7; 300], payload(&mut random)];
        world.append(&mut known, payloads).unwrap();
    }
    (world, known)
}

#[test]
fn a_queue_that_is_read_as_fast_as_it_is_written_makes_no_new_files() {
    let storage = SimStorage::new(1);
    let (mut world, mut known) = (open(&storage).unwrap().0, Known::default());
    let mut used = BTreeSet::new();
    for round in 0..300 {
        world.append(&mut known, vec![vec![1; 3_000]; 3]).unwrap();
        settle_all(&world, &mut known);
        if round >= 10 {
            used.insert(storage.used());
        }
    }
    // 300 groups of three blocks, one to a segment: 300 segments, and two files.
    assert_eq!((used.len(), segments(&storage).len()), (1, 2));
    assert_eq!(segments(&storage).last().unwrap(), "0000000000000301.seg");
    let found = verify(&storage).unwrap();
    assert_eq!((found.waiting, found.inspection.damages.len()), (0, 0));
    assert_eq!(found.inspection.spares.len(), 1);
    // Its room, and what is left of the last segment, is given back by the next start.
    let before = storage.used();
    let world = check(&storage.restart(), &known, "after it");
    assert_eq!(world.log.state().backlog(), 0);
    let restarted = storage.restart();
    drop(open(&restarted).unwrap());
    assert_eq!(before - restarted.used(), 5 * 4_096 + 4_096);
}

#[test]
fn remains_are_no_records_and_no_damage() {
    let storage = SimStorage::new(2);
    let (world, known) = reused(&storage, LARGE);
    let last = segments(&storage);
    let last = world
        .log
        .state()
        .segments
        .back()
        .copied()
        .map(|s| (segment::name(s.number), last));
    let (name, _) = last.unwrap();
    let content = storage.content(&name).unwrap();
    let used = usize::try_from(world.log.state().segments.back().unwrap().data_end).unwrap();
    assert!(content[used..].iter().filter(|byte| **byte != 0).count() > 10_000);
    let found = verify(&storage).unwrap();
    assert_eq!((found.waiting, found.inspection.damages.len()), (9, 0));
    drop(world);
    for image in 0..200 {
        let after = storage.crash(image);
        let world = check(&after, &known, &format!("image {image}"));
        assert_eq!(world.log.state().damages.count(), 0, "image {image}");
    }
}

/// Any bit of a segment with remains: what is hit is told, and what is hit of the remains is nothing.
#[test]
fn a_flipped_bit_costs_its_record_at_most() {
    let storage = SimStorage::new(3);
    let (world, known) = reused(&storage, LARGE);
    world.log.checkpoint().unwrap();
    let last = *world.log.state().segments.back().unwrap();
    drop(world);
    let name = segment::name(last.number);
    let open_records: BTreeSet<u64> = known.durable.difference(&known.settled).copied().collect();
    let stride = if std::env::var_os("MDS_LONG").is_some() {
        1
    } else {
        61
    };
    let bits = usize::try_from(last.len).unwrap() * 8;
    let (mut gone, mut flagged) = (0, 0);
    for bit in (0..bits).step_by(stride) {
        let storage = storage.restart();
        storage.flip(&name, bit);
        let (mut world, _) = open_with(&storage, LARGE).unwrap();
        let records = world.rest();
        for record in &records {
            assert_eq!(
                known.submitted.get(&record.seq),
                Some(&record.payload),
                "bit {bit}"
            );
        }
        let missing = open_records.len() - records.len();
        assert!(missing <= 1, "bit {bit}: {missing}");
        let state = world.log.state();
        assert_eq!(state.acks.totals().damaged, missing as u64, "bit {bit}");
        let is_remains = bit as u64 / 8 >= last.data_end;
        assert!(
            !is_remains || state.damages.count() == 0,
            "bit {bit} of the remains was told"
        );
        let is_head = bit < 8 * 4_096;
        assert!(
            !is_head || state.damages.count() == 1,
            "bit {bit} of the head was not told"
        );
        gone += missing;
        flagged += usize::from(state.damages.count() > 0);
    }
    assert!(gone > 50 && flagged > gone, "{gone} lost, {flagged} told");
}

/// Both copies of the head are gone, of a segment with remains and of a file that waits.
#[test]
fn a_head_that_is_gone_brings_nothing_of_before_back() {
    let storage = SimStorage::new(4);
    let (world, known) = reused(&storage, LARGE);
    world.log.checkpoint().unwrap();
    drop(world);
    for name in segments(&storage) {
        let storage = storage.restart();
        storage
            .open(&name)
            .unwrap()
            .write_all_at(&[0xee; 4_096], 0)
            .unwrap();
        let (mut world, _) = open_with(&storage, LARGE).unwrap();
        let records = world.rest();
        let read: BTreeSet<u64> = records.iter().map(|record| record.seq).collect();
        let wanted = known.durable.difference(&known.settled).copied().collect();
        assert_eq!(read, wanted, "{name}");
        let state = world.log.state();
        let kinds: Vec<_> = state.damages.kept().map(|d| d.kind.as_str()).collect();
        assert_eq!(kinds[0], "copy", "{name}");
        assert!(
            kinds.iter().all(|kind| *kind == "copy"),
            "{name}: {kinds:?}"
        );
    }
}

/// Somebody is still reading a segment when all of it was settled by others, and its file becomes
/// another one.
#[test]
fn whoever_reads_a_segment_that_is_used_again_is_told_no_damage() {
    for held in 0..9 {
        let storage = SimStorage::new(held);
        let (mut world, mut known) = (open(&storage).unwrap().0, Known::default());
        for _ in 0..2 {
            world.append(&mut known, vec![vec![1; 900]; 9]).unwrap();
        }
        let read = usize::try_from(held).unwrap() + 1;
        let first = world.reader.read(read, 1 << 20).unwrap();
        assert_eq!(first.len(), read);
        settle_all(&world, &mut known);
        for byte in 2..8 {
            world
                .append(&mut known, vec![vec![byte; 1_100]; 7])
                .unwrap();
        }
        let file = segments(&storage);
        let is_reused = world.log.state().segments.iter().any(|s| s.is_reused);
        assert!(is_reused, "{file:?}");
        let rest = world.rest();
        let read: BTreeSet<u64> = rest.iter().map(|record| record.seq).collect();
        let wanted = known.durable.difference(&known.settled).copied().collect();
        assert_eq!(read, wanted, "{held}");
        assert_eq!(world.log.state().damages.count(), 0, "{held}");
    }
}

#[test]
fn a_queue_whose_header_is_gone_is_not_opened_for_something_else() {
    let storage = SimStorage::new(5);
    let (world, known) = reused(&storage, OPTIONS);
    drop(world);
    storage.remove("header").unwrap();
    let found = inspect(&storage).unwrap();
    assert_eq!(found.identity, None);
    assert_eq!(
        (found.is_for(IDENTITY), found.is_for("another store")),
        (Some(true), Some(false))
    );
    let error = opening::open(&storage, OPTIONS, "another store")
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Mismatch { .. }));
    assert_eq!(
        error.to_string(),
        "the durable queue was made for something else: it says \"something else (its header is \
         gone)\", and wanted is \"another store\""
    );
    let (mut world, recovery) = open(&storage).unwrap();
    let waiting = known.durable.difference(&known.settled).count();
    assert_eq!(world.rest().len(), waiting);
    assert_eq!(recovery.damages[0].kind, DamageKind::Missing);
}

#[test]
fn checkpoints_that_are_gone_are_told() {
    let storage = SimStorage::new(6);
    let (world, known) = reused(&storage, OPTIONS);
    drop(world);
    let told = |storage: &SimStorage| {
        let damages = inspect(storage).unwrap().damages;
        damages.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    storage.remove("ack.1").unwrap();
    let copy = "ack.1, one of two copies, cannot be used, no record is known to be lost";
    assert_eq!(told(&storage), [copy]);
    storage.remove("ack.0").unwrap();
    let gone =
        ["ack.0", "ack.1"].map(|name| format!("{name} is missing, no record is known to be lost"));
    assert_eq!(told(&storage), gone);
    // Those that are there and hold nothing are as good as gone.
    let emptied = storage.restart();
    for name in ["ack.0", "ack.1"] {
        emptied.create(name, 65_536).unwrap();
    }
    assert_eq!(told(&emptied), gone);
    // What was settled comes again, and nothing is lost.
    let (mut world, recovery) = open(&storage).unwrap();
    assert!(!recovery.is_continued);
    let read: BTreeSet<u64> = world.rest().iter().map(|record| record.seq).collect();
    let wanted: BTreeSet<u64> = known.durable.difference(&known.settled).copied().collect();
    assert!(read.is_superset(&wanted));
}

/// A checkpoint of a later version is not a damaged one, and a flipped bit is not a later version.
#[test]
fn a_checkpoint_of_a_later_version_is_refused() {
    let storage = SimStorage::new(7);
    let (world, _) = reused(&storage, OPTIONS);
    drop(world);
    let mut content = storage.content("ack.1").unwrap();
    content[8] = 2;
    let length = u32::from_le_bytes(content[10..14].try_into().unwrap());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&content[18..usize::try_from(length).unwrap()]);
    hasher.update(&content[..14]);
    let crc = hasher.finalize();
    let file = storage.open("ack.1").unwrap();
    file.write_all_at(&content, 0).unwrap();
    let kind = inspect(&storage).unwrap().damages[0].kind;
    assert_eq!(kind, DamageKind::Copy);
    content[14..18].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&content, 0).unwrap();
    let error = inspect(&storage).unwrap_err().to_string();
    let newer = "the durable queue has format 2, and this program knows up to 1";
    assert_eq!(error, newer);
}

/// The number in the head of a record is hit that nothing follows in a file with remains.
#[test]
fn a_last_record_that_is_hit_is_told_with_its_bytes() {
    let storage = SimStorage::new(8);
    let (mut world, mut known) = reused(&storage, LARGE);
    let last = *world.log.state().segments.back().unwrap();
    while world.log.state().segments.back().unwrap().data_end < last.len - 14_000 {
        world.append(&mut known, vec![vec![8; 3_000]]).unwrap();
    }
    // A write of more than is left: the segment ends before its file does.
    let large = vec![vec![9; 50_000]];
    world.append(&mut known, large).unwrap();
    let sealed = world
        .log
        .state()
        .segments
        .iter()
        .find(|s| s.number == last.number)
        .copied();
    let sealed = sealed.unwrap();
    assert!(sealed.is_reused && sealed.data_end < sealed.len);
    world.log.checkpoint().unwrap();
    drop(world);
    let name = segment::name(last.number);
    let content = storage.content(&name).unwrap();
    let number = u32::try_from(sealed.end - 1).unwrap().to_le_bytes();
    let head = content.windows(4).rposition(|word| word == number).unwrap() - 8;
    storage.flip(&name, (head + 8) * 8 + 6);
    let (mut world, _) = open_with(&storage, LARGE).unwrap();
    let read: BTreeSet<u64> = world.rest().iter().map(|record| record.seq).collect();
    let mut wanted: BTreeSet<u64> = known.durable.difference(&known.settled).copied().collect();
    assert!(wanted.remove(&(sealed.end - 1)));
    assert_eq!(read, wanted);
    let state = world.log.state();
    let damage = state.damages.kept().next().unwrap();
    assert_eq!((damage.kind, damage.records), (DamageKind::Damaged, 1));
    assert!(damage.bytes.contains(&(head as u64)), "{damage}");
    assert!(storage.content(damage.copy.as_ref().unwrap()).is_some());
}

/// A file whose sync has failed is never written again, nor is one of another process.
#[test]
fn files_that_have_failed_or_are_of_before_are_not_used_again() {
    let storage = SimStorage::new(9);
    let (mut world, mut known) = (open(&storage).unwrap().0, Known::default());
    for _ in 0..3 {
        world.append(&mut known, vec![vec![1; 3_000]]).unwrap();
    }
    storage.fail_at(storage.calls() + 2, Fault::Fails);
    world.append(&mut known, vec![vec![2; 3_000]]).unwrap_err();
    world.append(&mut known, vec![vec![3; 3_000]]).unwrap();
    settle_all(&world, &mut known);
    // Removed, although it was nearly full: the one that waits is none.
    assert_eq!(segments(&storage), ["0000000000000002.seg"]);
    drop(world);
    let storage = storage.restart();
    let (world, _) = open(&storage).unwrap();
    world.log.checkpoint().unwrap();
    assert_eq!(segments(&storage), [""; 0]);
}

/// Payloads that are nothing but beginnings of records, behind a first block that is gone: what they
/// cost is bounded, and what is whole is found.
#[test]
fn content_that_resembles_records_costs_little_and_hides_none() {
    let storage = SimStorage::new(10);
    let options = LogOptions {
        segment_bytes: 8 << 20,
        ..OPTIONS
    };
    let (mut world, mut known) = (open_with(&storage, options).unwrap().0, Known::default());
    let dull = |bytes: usize| {
        [0, 0, 8, 0]
            .into_iter()
            .cycle()
            .take(bytes)
            .collect::<Vec<u8>>()
    };
    for _ in 0..3 {
        let payloads = vec![dull(1 << 20), b"between".to_vec()];
        world.append(&mut known, payloads).unwrap();
    }
    world.log.checkpoint().unwrap();
    drop(world);
    let name = segment::name(1);
    let file = storage.open(&name).unwrap();
    // The first block, and the head of the first record.
    file.write_all_at(&[0xee; 4_200], 0).unwrap();
    let (mut world, _) = open_with(&storage, options).unwrap();
    let read: Vec<u64> = world.rest().iter().map(|record| record.seq).collect();
    assert_eq!(read, [2, 3, 4, 5, 6]);
}
