//! Made-up bars through the coordinator into SQLite, against the bare loop over the same bars; or
//! a file, see `file`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use mds_core::{Bar, Sourced};
use mds_store::{OpenOptions, Query, Store};

use super::bars::Size;
use super::measure::{Stopwatch, Took, float};
use super::report::Report;
use super::{Bench, block_on, file, folder, remove, url};
use crate::pipeline;

/// Records in one `submit_many`.
const GROUP: usize = 500;

const EXAMPLES: &str = "\
Examples:
  mds bench sqlite
  mds bench sqlite --file bitfinex-btcusd-1m.csv.gz --batch-sizes 500
  mds bench sqlite --symbols 1000 --minutes 10080 --days 252 --keep bench.db";

/// Arguments of `mds bench sqlite`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Ingest this file of bars instead of made-up ones
    #[arg(long, value_name = "FILE", conflicts_with_all = ["symbols", "minutes", "days", "keep"])]
    file: Option<PathBuf>,
    /// Records in a batch, and in a transaction of the bare loop [default: 500; with --file 500,5000]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    batch_sizes: Vec<usize>,
    #[command(flatten)]
    size: Size,
    /// Where the databases are made
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Keep the last database under this name
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<()> {
    let folder = folder(args.dir.as_deref())?;
    let sizes = |usual: &[usize]| match args.batch_sizes.as_slice() {
        [] => usual.to_vec(),
        given => given.to_vec(),
    };
    if let Some(input) = &args.file {
        return file::run(input, &sizes(&[500, 5_000]), folder.path(), bench);
    }
    if let Some(keep) = &args.keep {
        ensure!(
            !keep.exists(),
            "{} is there already; move it away or choose another name",
            keep.display()
        );
    }
    let database = folder.path().join("coordinator.db");
    generated(args, &sizes(&[500]), folder.path(), &database, bench)?;
    reads(&database, args.size, bench)?;
    if let Some(keep) = &args.keep {
        std::fs::rename(&database, keep)
            .or_else(|_| std::fs::copy(&database, keep).map(drop))
            .with_context(|| format!("cannot keep the database as {}", keep.display()))?;
    }
    Ok(())
}

/// Measures, and leaves the database of the last round.
fn generated(
    args: &Args,
    batch_sizes: &[usize],
    folder: &Path,
    database: &Path,
    bench: Bench<'_>,
) -> anyhow::Result<()> {
    let mut report = Report::new(
        "sqlite",
        "made-up bars in the order of time through the coordinator into a new database, against a \
         bare loop of prepared upserts over the same bars; ratio: coordinator / bare loop",
    );
    let settings = bench.context.settings.coordinator();
    report.setting("symbols", args.size.symbols);
    report.setting("minutes", args.size.minutes);
    report.setting("days", args.size.days);
    report.setting("rows", args.size.rows());
    report.setting("workers", settings.coordinator_workers);
    report.setting("rounds", bench.rounds);
    let bars: Vec<Bar> = args.size.bars().collect();
    let other = folder.join("bare.db");
    for round in 0..bench.rounds {
        for &batch in batch_sizes {
            bench.note(format_args!("round {} of {}", round + 1, bench.rounds));
            remove(database)?;
            let rows = args.size.rows();
            let ours = coordinator(&bars, batch, database, bench)?;
            report.add_run(&format!("coordinator, batches of {batch}"), rows, ours);
            let looped = bare_loop(&bars, batch, &other, &mut report)?;
            report.add_run(&format!("bare loop, {batch} a transaction"), rows, looped);
            let ratio = looped.seconds / ours.seconds;
            report.add(&format!("ratio, {batch}"), "x", ratio);
            // Batches that wait for each other are committed together; this is the yardstick for
            // transactions of that size.
            let together = batch * settings.coordinator_workers;
            let looped = bare_loop(&bars, together, &other, &mut report)?;
            report.add_run(
                &format!("bare loop, {together} a transaction"),
                rows,
                looped,
            );
            let ratio = looped.seconds / ours.seconds;
            report.add(&format!("ratio, {batch} to {together}"), "x", ratio);
        }
    }
    let bytes = std::fs::metadata(database).map_or(0, |m| m.len());
    report.add("size", "B/row", float(bytes) / float(args.size.rows()));
    bench.tell(&report)
}

/// All bars through a coordinator with the settings of `mds ingest`, from the first submit until
/// the store is closed.
fn coordinator(
    bars: &[Bar],
    batch_size: usize,
    database: &Path,
    bench: Bench<'_>,
) -> anyhow::Result<Took> {
    block_on(async {
        let store = Store::open(&url(database), OpenOptions::default()).await?;
        let settings = bench.context.settings.coordinator();
        let coordinator = pipeline::coordinator::<Bar, _>(&settings, store.sink::<Bar>())
            .batch_size(batch_size)
            .start()?;
        let watch = Stopwatch::start();
        let mut group = VecDeque::with_capacity(GROUP);
        for part in bars.chunks(GROUP) {
            group.extend(part.iter().cloned().map(Sourced::from));
            coordinator.submit_many(&mut group).await?;
        }
        while coordinator.flush(pipeline::STOP_TIMEOUT).await.outstanding > 0 {}
        let books = coordinator.stop(true, pipeline::STOP_TIMEOUT).await.stats;
        store.close().await;
        let took = watch.stop();
        let rows = bars.len() as u64;
        ensure!(
            books.written == rows && books.is_balanced(),
            "the books are wrong: {rows} rows, {books:?}"
        );
        let store = Store::open(&url(database), OpenOptions::read_only()).await?;
        let stored = store.count::<Bar>(Query::default()).await?;
        ensure!(stored == rows, "{stored} of {rows} rows stored");
        Ok(took)
    })
}

/// The bare loop over the same rows, into a database that is new before and gone afterwards.
pub(super) fn bare_loop(
    bars: &[Bar],
    rows_per_transaction: usize,
    database: &Path,
    report: &mut Report,
) -> anyhow::Result<Took> {
    block_on(async {
        let store = Store::open(&url(database), OpenOptions::default()).await?;
        store.close().await;
        Ok(())
    })?;
    let watch = Stopwatch::start();
    let looped = mds_store::bench::bare_loop(database, bars, rows_per_transaction)?;
    let took = Took {
        // The loop alone; its processor time has the closing of the database in it.
        seconds: looped.took.as_secs_f64(),
        ..watch.stop()
    };
    report.setting("journal_mode", looped.journal_mode);
    report.setting("synchronous", looped.synchronous);
    remove(database)?;
    Ok(took)
}

/// `mds bench reads` of a database, in a new process that prints its own report.
fn reads(database: &Path, size: Size, bench: Bench<'_>) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program to start it anew")?;
    let mut command = Command::new(program);
    command
        .args(["bench", "reads", "--store"])
        .arg(format!("sqlite:{}", database.display()));
    for (flag, value) in [
        ("--symbols", size.symbols),
        ("--minutes", size.minutes),
        ("--days", size.days),
        ("--rounds", u32::from(bench.rounds)),
    ] {
        command.args([flag, &value.to_string()]);
    }
    if bench.json {
        command.arg("--json");
    }
    let status = command.status().context("cannot start `mds bench reads`")?;
    ensure!(status.success(), "`mds bench reads` failed: {status}");
    Ok(())
}
