//! Signals in the middle of a run.

use mds_core::Bar;

use super::outages::locked;
use super::{bars, letters};
use crate::data::{all, count};
use crate::run::{Outcome, Place};

/// Ends a long ingest from standard input, which is still open, with a signal.
fn stop(place: &Place, signal: &str) -> Outcome {
    let mut running = place.start(&["ingest", "bars", "-", "--json"]);
    running.write(&bars(10_000));
    running.wait_for("-: format csv: ");
    running.signal(signal);
    running.outcome()
}

#[test]
fn a_signal_drains_and_reports() {
    for (signal, code, name) in [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")] {
        let place = Place::new();
        let outcome = stop(&place, signal).code(code);
        let stored = count::<Bar>(&place);
        assert!(stored >= 1_000, "{stored}");
        assert_eq!(outcome.books(), format!("read {stored}, written {stored}"));
        // The header is line 1: whichever line is named, it is the one after the last that is in.
        let (taken, next) = (stored + 1, stored + 2);
        assert!(
            outcome
                .stderr
                .contains(&format!("the last line taken is -:{taken}\n"))
                || outcome
                    .stderr
                    .contains(&format!("the first line not taken is -:{next}\n")),
            "{stored}: {}",
            outcome.stderr
        );
        let closes: Vec<Option<f64>> = all::<Bar>(&place).iter().map(|b| b.close_price).collect();
        let expected: Vec<Option<f64>> = (0..u32::try_from(stored).unwrap())
            .map(|n| Some(n.into()))
            .collect();
        assert_eq!(closes, expected, "the rows that are in are the first ones");
        assert!(letters(&place, ".dlq/bars.ndjson").is_empty());
        outcome.errors(&[&format!("stopped by {name}")]);
    }
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let place = Place::new();
    let lock = locked(&place);
    let mut running = place.start(&["ingest", "bars", "-", "--json"]);
    running.write(&bars(10_000));
    running.wait_for("-: format csv: ");
    running.signal("INT");
    // The store is locked, so it cannot come to its end by itself.
    running.wait_for("stopping: what was accepted is settled first; a second SIGINT ends at once");
    running.signal("INT");
    let outcome = running.outcome().code(130);
    assert_eq!(outcome.stdout, "", "there was no time for a report");
    drop(lock);
    assert_eq!(count::<Bar>(&place), 0);
}

#[test]
fn a_run_that_is_killed_is_completed_by_the_next() {
    let place = Place::new();
    let total = 60_000;
    place.write("bars.csv", &bars(total));
    let mut running = place.start(&["ingest", "bars", "bars.csv", "--json"]);
    running.wait_for("bars.csv: format csv: ");
    running.signal("KILL");
    running.outcome().code(137);

    let stored = count::<Bar>(&place);
    let run = || place.run(&["ingest", "bars", "bars.csv", "--json"]).code(0);
    let mut expected = vec![format!("read {total}")];
    if stored < total {
        expected.push(format!("written {}", total - stored));
    }
    if stored > 0 {
        expected.push(format!("superseded {stored}"));
    }
    assert_eq!(run().books(), expected.join(", "));
    assert_eq!(count::<Bar>(&place), total);
    assert_eq!(run().books(), format!("read {total}, superseded {total}"));
    // Nothing of the killed run is left that would hold up the next one.
    place.run(&["health"]).code(0);
}
