//! Calls that fail, and a disk that is full.

use crate::error::CommitError;
use crate::sim::{Fault, SimStorage};

use super::world::{Known, check, open};

const STEPS: usize = 120;

/// An error at every call: none is told as a success, nothing is lost, and it goes on.
#[test]
fn an_error_at_every_call_is_survived() {
    let seed = 11;
    let whole = SimStorage::new(seed);
    let (mut world, _) = open(&whole).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut known = Known::default();
    for _ in 0..STEPS {
        world.step(&mut known, &mut random);
    }
    let calls = whole.calls();
    let (mut unknown, mut refused) = (0, 0);
    for call in 1..=calls {
        let storage = SimStorage::new(seed);
        storage.fail_at(call, Fault::Fails);
        let mut known = Known::default();
        let mut random = fastrand::Rng::with_seed(seed);
        // The one that fails may be the first opening: the next one succeeds.
        let (mut world, _) = open(&storage).or_else(|_| open(&storage)).unwrap();
        for _ in 0..STEPS {
            world.step(&mut known, &mut random);
        }
        let failures = world
            .log
            .counters
            .failures
            .load(std::sync::atomic::Ordering::Relaxed);
        // After it, everything works.
        let before = known.durable.len();
        world.append(&mut known, vec![b"after".to_vec()]).unwrap();
        assert_eq!(known.durable.len(), before + 1);
        world.log.checkpoint().unwrap();
        match failures {
            0 => {}
            1 if known.submitted.len() == known.durable.len() => refused += 1,
            _ => unknown += 1,
        }
        // What is in this process is complete, too: all that is durable can be read.
        let read = world.rest().len() + known.settled.len() + world.held.len();
        assert_eq!(read, known.durable.len(), "call {call}");
        drop(world);
        for image in 0..5 {
            let what = format!("call {call}, image {image}");
            check(&storage.crash(call * 10 + image), &known, &what);
        }
    }
    assert!(
        unknown > 50,
        "{unknown} unknown, {refused} refused of {calls}"
    );
}

/// A sync that failed is not believed when it succeeds the next time.
#[test]
fn a_failed_sync_retires_its_segment() {
    let storage = SimStorage::new(3);
    let mut known = Known::default();
    let (mut world, _) = open(&storage).unwrap();
    world.append(&mut known, vec![b"one".to_vec()]).unwrap();
    // The next calls are its write and its sync.
    storage.fail_at(storage.calls() + 2, Fault::Fails);
    let error = world.append(&mut known, vec![b"two".to_vec()]).unwrap_err();
    assert!(matches!(
        error,
        CommitError::OutcomeUnknown {
            first: 2,
            last: 2,
            ..
        }
    ));
    assert_eq!(
        error.to_string(),
        "it is not known whether records 2 to 2 are in the durable queue: cannot sync \
         0000000000000001.seg: I/O error"
    );
    world.append(&mut known, vec![b"three".to_vec()]).unwrap();
    let state = world.log.state();
    let numbers: Vec<_> = state.segments.iter().map(|s| (s.number, s.first)).collect();
    assert_eq!(numbers, [(1, 1), (2, 3)]);
    drop(state);
    for image in 0..100 {
        check(&storage.crash(image), &known, &format!("image {image}"));
    }
}

/// A full disk refuses records, lets those that are there go, and takes some again when it has room.
#[test]
fn a_full_disk_refuses_and_drains_and_resumes() {
    for room in (0..60).map(|blocks| blocks * 2_048) {
        let storage = SimStorage::new(room);
        let mut known = Known::default();
        let mut random = fastrand::Rng::with_seed(room);
        let (mut world, _) = open(&storage).unwrap();
        storage.set_capacity(storage.used() + room);
        let error = loop {
            if let Err(error) = world.append(&mut known, vec![vec![1; 900]]) {
                break error;
            }
        };
        assert!(
            matches!(error, CommitError::Refused { is_full: true, .. }),
            "{error}"
        );
        let refused = *known.submitted.keys().next_back().unwrap();
        known.submitted.remove(&refused);
        // Draining goes on, and makes room by itself.
        while world.log.state().backlog() > 0 {
            world.consume(&mut known, &mut random);
        }
        world.log.checkpoint().unwrap();
        if room > 40_000 {
            let resumed = world.append(&mut known, vec![vec![2; 900]]);
            resumed.unwrap_or_else(|error| panic!("{room}: {error}"));
        }
        storage.free();
        world.append(&mut known, vec![vec![3; 900]]).unwrap();
        drop(world);
        for image in 0..3 {
            check(&storage.crash(image), &known, &format!("room {room}"));
        }
    }
}

/// The first write fails and nothing of it arrives; power is lost before a checkpoint has its numbers.
/// Nobody was told that they are durable, and so they are not told to be lost.
#[test]
fn a_first_write_that_fails_is_no_loss() {
    for call in 1..=4 {
        let storage = SimStorage::new(call);
        let mut known = Known::default();
        let (mut world, _) = open(&storage).unwrap();
        storage.fail_at(storage.calls() + call, Fault::Fails);
        let first = world.append(&mut known, vec![b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(first.is_err(), known.durable.is_empty());
        world.append(&mut known, vec![b"three".to_vec()]).unwrap();
        for image in 0..100 {
            let what = format!("call {call}, image {image}");
            check(&storage.crash(image), &known, &what);
        }
    }
}

/// A process that is killed again and again while nothing is settled: each life leaves what it has
/// written, and not the room that was made for more.
#[test]
fn kills_leave_no_empty_room_behind() {
    let mut storage = SimStorage::new(1);
    let mut known = Known::default();
    let (world, _) = open(&storage).unwrap();
    drop(world);
    let before = storage.used();
    for _ in 0..100 {
        storage = storage.restart();
        let (mut world, _) = open(&storage).unwrap();
        world.append(&mut known, vec![b"one".to_vec()]).unwrap();
    }
    // A head and a block each, and the file of the last life as it was made.
    assert_eq!(storage.used() - before, 99 * 2 * 4_096 + 5 * 4_096);
    drop(check(&storage.restart(), &known, "after all of them"));
}
