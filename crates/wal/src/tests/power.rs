//! Power is lost at every call of a workload, and again while the queue recovers.

use crate::sim::{Fault, SimStorage};

use super::world::{Known, World, check, open, payload};

/// Steps of the workload.
const STEPS: usize = 200;

fn run(storage: &SimStorage, seed: u64, steps: usize) -> (Known, Option<World>) {
    let mut known = Known::default();
    let mut random = fastrand::Rng::with_seed(seed);
    let Ok((mut world, _)) = open(storage) else {
        return (known, None);
    };
    for _ in 0..steps {
        world.step(&mut known, &mut random);
        let state = world.log.state();
        known.reused.extend(
            state
                .segments
                .iter()
                .filter(|s| s.is_reused)
                .map(|s| s.number),
        );
    }
    (known, Some(world))
}

/// How many times as many seeds and images as usual.
fn scale() -> u64 {
    if std::env::var_os("MDS_LONG").is_some() {
        10
    } else {
        1
    }
}

#[test]
fn power_loss_at_every_call_loses_nothing_that_was_told_to_be_durable() {
    let seed = std::env::var("MDS_SEED").map_or(7, |seed| seed.parse().unwrap());
    let whole = SimStorage::new(seed);
    let (known, world) = run(&whole, seed, STEPS);
    assert!(world.is_some() && known.durable.len() > 250 && known.settled.len() > 50);
    // Some of it is in files that were segments before.
    assert!(known.reused.len() > 10, "{}", known.reused.len());
    let calls = whole.calls();
    let images = 50 * scale();
    let (mut points, mut torn) = (0_u64, 0_u64);
    for call in 1..=calls {
        let storage = SimStorage::new(seed);
        storage.fail_at(call, Fault::Gone);
        let (known, _) = run(&storage, seed, STEPS);
        for image in 0..images {
            let what = format!("MDS_SEED={seed}, call {call}, image {image}");
            let after = storage.crash(call * 1_000 + image);
            let world = check(&after, &known, &what);
            torn +=
                u64::from(world.log.state().durable > known.durable.last().map_or(1, |s| s + 1));
            points += 1;
        }
    }
    assert!(points >= 20_000, "{points} points of {calls} calls");
    // It bites: in some of them records came back whose write was under way.
    assert!(torn > 100, "{torn}");
    eprintln!("{points} crash points at {calls} calls, {torn} with records that were under way");
}

/// Each recovery is cut off as well, and the queue is used in between: a model of what is known, with
/// crashes in it. Seed 8 has found that a killed process leaves writes that can be read and are not
/// durable, and the next one took them for durable.
#[test]
fn power_loss_during_recovery_and_use_again_and_again() {
    for seed in 0..60 * scale() {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut storage = SimStorage::new(seed);
        let mut known = Known::default();
        for life in 0..12 {
            let what = format!("seed {seed}, life {life}");
            storage.fail_at(random.u64(1..120), Fault::Gone);
            if let Ok((mut world, recovery)) = open(&storage) {
                // Numbers that were on their way and did not arrive are given anew.
                known.submitted.retain(|seq, _| *seq < recovery.next);
                for _ in 0..random.usize(0..40) {
                    world.step(&mut known, &mut random);
                }
            }
            storage = if random.u8(0..3) == 0 {
                storage.restart()
            } else {
                storage.crash(random.u64(..))
            };
            let world = check(&storage, &known, &what);
            // What came back is durable from now on.
            let state = world.log.state();
            for seq in known.submitted.keys().copied() {
                if seq < state.durable && !state.acks.contains(seq) {
                    known.durable.insert(seq);
                    known.settled.remove(&seq);
                }
            }
            let durable = state.durable;
            drop(state);
            drop(world);
            known.submitted.retain(|seq, _| *seq < durable);
            storage = storage.restart();
        }
    }
}

#[test]
fn records_larger_than_a_segment_get_one_of_their_own() {
    let storage = SimStorage::new(1);
    let mut known = Known::default();
    let (mut world, _) = open(&storage).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..5 {
        world.append(&mut known, vec![vec![7; 100_000]]).unwrap();
        let small = vec![payload(&mut random), payload(&mut random)];
        world.append(&mut known, small).unwrap();
    }
    drop(world);
    check(&storage.crash(1), &known, "large records");
}
