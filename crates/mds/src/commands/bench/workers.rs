//! What a pool of workers between two bounds does against a real server: a load, ten times as much,
//! and the load again.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::ensure;
use mds_coordinator::WriteCoordinator;
use mds_core::{Bar, Sourced};
use tokio::time::{Instant, MissedTickBehavior};

use super::measure::{Stopwatch, float};
use super::place::{Place, Server};
use super::report::Report;
use super::{Bench, bars, block_on};
use crate::exit::Exit;
use crate::pipeline;

/// How often records are offered, and the limit is looked at.
const TICK: Duration = Duration::from_millis(20);
/// What a step offers at most beyond its rate, to catch up after it had to wait.
const CATCH_UP: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  mds bench workers
  mds bench workers --store postgres://postgres@localhost/postgres --rate 50000 --most 16";

/// Arguments of `mds bench workers`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Records offered a second in the first and the last step; ten times as many in between
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Seconds of the first step; the others last twice as long
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Workers at least
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    least: u16,
    /// Workers at most
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    most: u16,
    #[command(flatten)]
    server: Server,
}

/// A step of the load.
#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    rate: u32,
    length: Duration,
}

impl Args {
    fn steps(&self) -> [Step; 3] {
        let length = Duration::from_secs(u64::from(self.seconds));
        [
            Step {
                name: "1x",
                rate: self.rate,
                length,
            },
            Step {
                name: "10x",
                rate: self.rate.saturating_mul(10),
                length: length * 2,
            },
            Step {
                name: "1x again",
                rate: self.rate,
                length: length * 2,
            },
        ]
    }
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<Exit> {
    ensure!(
        args.least <= args.most,
        "--least {} is more than --most {}",
        args.least,
        args.most
    );
    block_on(Place::with(&args.server, bench, async |place: &Place| {
        let settings = bench.context.settings.coordinator();
        let mut report = Report::new(
            "workers",
            "a pool of workers while a load is offered, ten times as much, and the load again; \
             turns: how often the number of workers changed its direction in a step",
        );
        place.describe(&mut report);
        report.setting("rate", args.rate);
        report.setting("seconds", args.seconds);
        report.setting("workers", format!("{}..{}", args.least, args.most));
        report.setting("batch_size", settings.coordinator_batch_size);
        report.setting("rounds", bench.rounds);
        for number in 0..bench.rounds {
            bench.note(format_args!("round {} of {}", number + 1, bench.rounds));
            round(args, bench, place, &mut report).await?;
        }
        bench.tell(&report)
    }))
}

async fn round(
    args: &Args,
    bench: Bench<'_>,
    place: &Place,
    report: &mut Report,
) -> anyhow::Result<()> {
    place.scratch.reset().await?;
    let store = place.store().await?;
    let settings = bench.context.settings.coordinator();
    let coordinator = pipeline::coordinator::<Bar, _>(&settings, store.sink::<Bar>())
        .workers(usize::from(args.least))
        .workers_max(usize::from(args.most))
        .start()?;
    let mut offered = Offered {
        coordinator: &coordinator,
        number: 0,
        moves: Vec::new(),
    };
    for step in args.steps() {
        let before = place.load().await?;
        let watch = Stopwatch::start();
        let (written, limits) = offered.step(step).await?;
        let took = watch.stop();
        place
            .add_run(report, step.name, written, took, before)
            .await?;
        let count = |workers: usize| float(workers as u64);
        let at = |of: Option<&usize>| count(of.copied().unwrap_or_default());
        report.add(step.name, "workers at least", at(limits.iter().min()));
        report.add(step.name, "workers at most", at(limits.iter().max()));
        report.add(step.name, "workers at the end", at(limits.last()));
        report.add(step.name, "turns", count(turns(&limits)));
    }
    let moves = std::mem::take(&mut offered.moves).join(", ");
    let number = offered.number;
    report.note(format!("moves: {moves}"));
    while coordinator.flush(pipeline::STOP_TIMEOUT).await.outstanding > 0 {}
    let books = coordinator.stop(true, pipeline::STOP_TIMEOUT).await.stats;
    store.close().await;
    let stored = place.scratch.bars().await?.rows;
    ensure!(
        books.written == stored && books.submitted == stored && stored <= number,
        "{stored} rows are stored of {number} that were offered: {books:?}"
    );
    Ok(())
}

/// Records on their way into a coordinator.
struct Offered<'a> {
    coordinator: &'a WriteCoordinator<Sourced<Bar>>,
    number: u64,
    moves: Vec<String>,
}

impl Offered<'_> {
    /// Offers records for the length of a step, no faster than its rate and as fast as they are
    /// taken; how many were written meanwhile, and the limit at each look.
    async fn step(&mut self, step: Step) -> anyhow::Result<(u64, Vec<usize>)> {
        let before = self.coordinator.stats().written;
        let begun = Instant::now();
        let end = begun + step.length;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut limits = vec![self.coordinator.worker_limit()];
        let mut last = begun;
        while Instant::now() < end {
            tick.tick().await;
            let since = last.elapsed().min(CATCH_UP);
            last = Instant::now();
            let due = since.as_secs_f64() * f64::from(step.rate);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "records of a fifth of a second"
            )]
            let mut rows: VecDeque<_> = (self.number..self.number + due as u64)
                .map(|number| Sourced::from(bars::minute_bar(number)))
                .collect();
            self.number += rows.len() as u64;
            // A full queue makes the producer wait; at the end of the step it offers no more.
            let submit = self.coordinator.submit_many(&mut rows);
            if let Ok(submitted) = tokio::time::timeout_at(end, submit).await {
                submitted?;
            }
            self.look(step, begun, &mut limits);
        }
        Ok((self.coordinator.stats().written - before, limits))
    }

    fn look(&mut self, step: Step, begun: Instant, limits: &mut Vec<usize>) {
        let limit = self.coordinator.worker_limit();
        let before = limits.last().copied().unwrap_or(limit);
        limits.push(limit);
        if limit != before {
            let reason = self.coordinator.worker_limit_reason();
            let seconds = begun.elapsed().as_secs_f64();
            let text = format!(
                "{} +{seconds:.1} s {before} to {limit} ({})",
                step.name,
                reason.as_str()
            );
            self.moves.push(text);
        }
    }
}

/// How often the direction of a move changes.
fn turns(limits: &[usize]) -> usize {
    let mut last = None;
    let mut turns = 0;
    for (before, after) in limits.iter().zip(limits.iter().skip(1)) {
        if before != after {
            let is_up = after > before;
            turns += usize::from(last.is_some_and(|last| last != is_up));
            last = Some(is_up);
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_a_move_against_the_last_one() {
        assert_eq!(turns(&[1, 1, 2, 2, 3]), 0);
        assert_eq!(turns(&[1, 2, 3, 2, 2, 1]), 1);
        assert_eq!(turns(&[1, 2, 1, 2]), 2);
        assert_eq!(turns(&[]), 0);
    }
}
