//! Queries of a store that `mds bench sqlite --keep` has made, in a process that did not write it.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use mds_core::{Bar, Timeframe};
use mds_store::{Query, Store};

use super::bars::{self, Size};
use super::measure::percentile;
use super::report::Report;
use super::{Bench, block_on};

const EXAMPLES: &str = "\
Examples:
  mds bench reads --store sqlite:bench.db --symbols 1000 --minutes 10080 --days 252";

/// Arguments of `mds bench reads`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    size: Size,
    /// Queries of each kind a round
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    reads: u32,
    /// The seed of the choice of symbols
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<()> {
    let mut report = Report::new(
        "reads",
        "queries of one random symbol, and the latest price of every symbol, within this process \
         and as a command; the first round finds a cold page cache in the process, and what the \
         system has of the file",
    );
    report.setting("symbols", args.size.symbols);
    report.setting("minutes", args.size.minutes);
    report.setting("days", args.size.days);
    report.setting("reads", args.reads);
    report.setting("seed", args.seed);
    report.setting("rounds", bench.rounds);
    block_on(async {
        let store = bench.context.open_for_reading().await?;
        let mut random = fastrand::Rng::with_seed(args.seed);
        for _ in 0..bench.rounds {
            round(args, &store, &mut random, &mut report).await?;
            latest_command(args, bench, &mut report)?;
        }
        store.close().await;
        Ok(())
    })?;
    bench.tell(&report)
}

async fn round(
    args: &Args,
    store: &Store,
    random: &mut fastrand::Rng,
    report: &mut Report,
) -> anyhow::Result<()> {
    let size = args.size;
    for (name, timeframe, expected) in [
        ("all minutes of a symbol", Timeframe::MINUTE, size.minutes),
        ("all days of a symbol", Timeframe::DAY, size.days),
    ] {
        let mut took = Vec::new();
        for _ in 0..args.reads {
            let query = Query {
                symbols: vec![bars::symbol(random.u32(0..size.symbols))],
                timeframe: Some(timeframe),
                ..Query::default()
            };
            let started = Instant::now();
            let rows = store.query::<Bar>(query).collect().await?.len();
            took.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(
                rows as u64 == u64::from(expected),
                "{name}: {rows} rows instead of {expected}"
            );
        }
        report.add(&format!("{name}, p50"), "ms", percentile(&took, 50.0));
        report.add(&format!("{name}, p95"), "ms", percentile(&took, 95.0));
    }
    let query = Query {
        symbols: (0..size.symbols).map(bars::symbol).collect(),
        ..Query::default()
    };
    let started = Instant::now();
    let latest = store.latest(query).await?.len();
    let name = format!("latest price of {} symbols", size.symbols);
    report.add(&name, "ms", started.elapsed().as_secs_f64() * 1e3);
    ensure!(
        latest as u64 == u64::from(size.symbols),
        "{latest} latest prices instead of {}",
        size.symbols
    );
    Ok(())
}

/// `mds latest` for all symbols, from the start of its process to its end.
fn latest_command(args: &Args, bench: Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program to start it anew")?;
    let mut command = Command::new(program);
    command
        .args(["latest", "--output", "ndjson"])
        // Not on the command line, where everybody on the machine could read a password in it.
        .env("MDS_STORE", bench.context.settings.store().expose())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let started = Instant::now();
    let output = command.output().context("cannot start `mds latest`")?;
    let took = started.elapsed();
    ensure!(
        output.status.success(),
        "`mds latest` failed: {}",
        output.status
    );
    let lines = std::io::BufRead::lines(output.stdout.as_slice()).count();
    ensure!(
        lines as u64 == u64::from(args.size.symbols),
        "`mds latest` printed {lines} prices instead of {}",
        args.size.symbols
    );
    report.add(
        "`mds latest`, whole process",
        "ms",
        took.as_secs_f64() * 1e3,
    );
    Ok(())
}
