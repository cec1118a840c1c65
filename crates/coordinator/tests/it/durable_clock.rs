//! Revisions never go back: not over a restart, a clock that is set back, a kill or a loss of power
//! at any moment, a damaged file or a lost one.

use std::sync::Arc;

use mds_coordinator::{ClockError, ClockStart, Codec, DurableClock, DurableOptions, DurableQueue};
use mds_core::Timestamp;
use mds_wal::sim::{Fault, SimStorage};

/// 2024-11-02T09:30:00Z.
const NOW: i64 = 1_730_539_800_000_000;
const HOUR: i64 = 3_600_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

#[test]
fn a_clock_that_is_set_back_gives_higher_revisions_all_the_same() {
    let storage = SimStorage::new(1);
    let clock = DurableClock::open_on(&storage).unwrap();
    assert_eq!(clock.start(), ClockStart::New);
    assert_eq!(clock.take(at(NOW), 100).unwrap(), NOW..NOW + 100);
    assert_eq!(clock.next(at(NOW - HOUR)).unwrap(), NOW + 100);
    assert_eq!(clock.ahead_of(at(NOW - HOUR)), HOUR + 100);
    drop(clock);
    let clock = DurableClock::open_on(&storage.restart()).unwrap();
    assert_eq!(clock.start(), ClockStart::Kept);
    let next = clock.next(at(NOW - HOUR)).unwrap();
    // Above what was given, and not by more than a second.
    assert!((NOW + 101..=NOW + 1_000_101).contains(&next), "{next}");
    // The clock of the machine is ahead again: that is what counts.
    assert_eq!(clock.next(at(NOW + HOUR)).unwrap(), NOW + HOUR);
}

#[test]
fn a_million_revisions_cost_a_few_calls_of_the_disk() {
    let storage = SimStorage::new(2);
    let clock = DurableClock::open_on(&storage).unwrap();
    let before = storage.calls();
    for step in 0..1_000_000 {
        clock.next(at(NOW + step)).unwrap();
    }
    // Two copies of a bound, each written and synced.
    assert_eq!(storage.calls() - before, 4);
    clock.next(at(NOW + 1_000_001)).unwrap();
    assert_eq!(storage.calls() - before, 8);
}

/// Each call of the disk fails, or is the last one before a kill or a loss of power, or both; then the clock
/// goes on above all that was given, on a machine whose clock was set back.
#[test]
fn it_goes_on_above_whatever_happens_at_any_moment() {
    let mut moments = 0;
    for fault in [Fault::Gone, Fault::Fails, Fault::Full] {
        for call in 1..40 {
            for seed in 0..16 {
                let storage = SimStorage::new(seed);
                storage.fail_at(call, fault);
                let mut given = 0;
                if let Ok(clock) = DurableClock::open_on(&storage) {
                    for step in 0..8 {
                        let now = at(NOW + step * 700_000);
                        let Ok(revisions) = clock.take(now, 10) else {
                            // One that has failed, and soon after it the end.
                            storage.fail_at(storage.calls() + 1 + seed % 5, Fault::Gone);
                            continue;
                        };
                        assert!(revisions.start > given, "{fault:?} {call} {seed}");
                        given = revisions.end - 1;
                    }
                }
                for after in [storage.restart(), storage.crash(seed)] {
                    let clock = DurableClock::open_on(&after).unwrap();
                    let next = clock.next(at(NOW - HOUR)).unwrap();
                    assert!(
                        next > given,
                        "{fault:?} at {call}, seed {seed}: {next} {given}"
                    );
                    moments += 1;
                }
            }
        }
    }
    assert_eq!(moments, 3 * 39 * 16 * 2);
}

/// A revision is given after its bound is durable, or not at all.
#[test]
fn a_disk_that_fails_gives_no_revision_and_the_next_call_tries_again() {
    let storage = SimStorage::new(3);
    let clock = DurableClock::open_on(&storage).unwrap();
    clock.next(at(NOW)).unwrap();
    storage.fail_at(storage.calls() + 2, Fault::Fails);
    let error = clock.next(at(NOW + HOUR)).unwrap_err();
    assert!(matches!(error, ClockError::Storage(_)), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "cannot sync revision: I/O error");
    assert_eq!(clock.last(), NOW);
    assert_eq!(clock.next(at(NOW + HOUR)).unwrap(), NOW + HOUR);
    // A full disk has room for it.
    storage.set_capacity(0);
    assert_eq!(clock.next(at(NOW + 2 * HOUR)).unwrap(), NOW + 2 * HOUR);
}

/// Any bit of the file is flipped: the other copy stands for it, and it is written anew.
#[test]
fn one_damaged_copy_costs_nothing() {
    for bit in (0..22 * 8).chain(4_096 * 8..(4_096 + 22) * 8) {
        let storage = SimStorage::new(4);
        let clock = DurableClock::open_on(&storage).unwrap();
        let given = clock.next(at(NOW)).unwrap();
        drop(clock);
        storage.flip("revision", bit);
        let clock = DurableClock::open_on(&storage).unwrap();
        assert_eq!(clock.start(), ClockStart::Kept);
        assert!(clock.next(at(0)).unwrap() > given, "bit {bit}");
        drop(clock);
        // Mended: the other copy may go now.
        storage.flip("revision", (bit + 4_096 * 8) % (8_192 * 8));
        let clock = DurableClock::open_on(&storage).unwrap();
        assert_eq!(clock.start(), ClockStart::Kept);
        assert!(clock.next(at(0)).unwrap() > given, "bit {bit}");
    }
}

struct Revisions;

impl Codec<i64> for Revisions {
    fn encode(&self, item: &i64, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&item.to_le_bytes());
    }

    fn decode(&self, bytes: &[u8]) -> Result<i64, String> {
        let bytes = bytes.try_into().map_err(|_| "no revision")?;
        Ok(i64::from_le_bytes(bytes))
    }
}

/// The file is gone, or none of it can be read: the records that wait and the store say where to go on.
#[tokio::test]
async fn without_its_file_it_goes_on_above_the_records_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = DurableOptions::default();
        DurableQueue::open(dir.path(), options, Arc::new(Revisions)).unwrap()
    };
    let coordinator = mds_coordinator::WriteCoordinator::builder(Away)
        .metrics(mds_coordinator::Metrics::new())
        .durable_queue(open())
        .start()
        .unwrap();
    let clock = DurableClock::open(dir.path()).unwrap();
    for _ in 0..10 {
        let revision = clock.next(at(NOW)).unwrap();
        coordinator.submit(revision).await.unwrap();
    }
    drop((clock, coordinator));
    let file = dir.path().join("revision");
    for is_damaged in [false, true] {
        let start = if is_damaged {
            std::fs::write(&file, [7; 8_192]).unwrap();
            ClockStart::Damaged
        } else {
            std::fs::remove_file(&file).unwrap();
            ClockStart::New
        };
        let queue = open();
        assert_eq!(queue.recovery().records, 10);
        let clock = DurableClock::open(dir.path()).unwrap();
        assert_eq!(clock.start(), start);
        clock
            .observe_waiting(dir.path(), &Revisions, |revision| *revision)
            .unwrap();
        assert_eq!(clock.last(), NOW + 9);
        assert_eq!(clock.next(at(NOW - HOUR)).unwrap(), NOW + 10);
        // What the store has counts as well, and is kept.
        clock.observe(NOW + HOUR).unwrap();
        drop((clock, queue));
        let clock = DurableClock::open(dir.path()).unwrap();
        assert!(clock.next(at(NOW)).unwrap() > NOW + HOUR);
    }
    // A folder without a queue has no records.
    let other = tempfile::tempdir().unwrap();
    let clock = DurableClock::open(other.path()).unwrap();
    clock
        .observe_waiting(other.path(), &Revisions, |revision| *revision)
        .unwrap();
    assert_eq!(clock.last(), 0);
}

/// A store that is away for good.
struct Away;

impl mds_coordinator::Sink<i64> for Away {
    fn name(&self) -> &'static str {
        "away"
    }

    async fn write(&self, _: mds_coordinator::Batch<i64>) -> mds_coordinator::WriteReport {
        std::future::pending().await
    }
}
