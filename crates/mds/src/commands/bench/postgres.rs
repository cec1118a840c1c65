//! Made-up bars into PostgreSQL, against a bare binary COPY of the same rows into the same table, as
//! the same role, over as many connections.
//!
//! | arm | is |
//! |---|---|
//! | bare COPY | what the server takes from a client that only copies |
//! | sink, fresh | the sink alone, rows that are new |
//! | sink, replay | the same rows again: nothing is to be written |
//! | sink, newer | newer revisions of all of them |
//! | ingest | `mds ingest` of the same rows as NDJSON, from the start of its process to its end |
//!
//! Counted against ours and not against the COPY: sorting, ranking, an answer for every row; for
//! `mds ingest` also starting, hashing and reading the file, parsing, validating, the queue, the
//! books, closing. After every arm the rows that the table holds are compared with those that it
//! must hold.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mds_core::{Bar, Batch, RowOutcome, Sink as _, Timestamp};
use mds_store::Store;
use mds_store::bench::Contents;
use tokio::task::JoinSet;

use super::child::Ingest;
use super::measure::{Stopwatch, Took};
use super::place::{Place, Server};
use super::report::Report;
use super::{Bench, bars, block_on, folder};
use crate::exit::Exit;
use crate::rows::{RowFormat, RowWriter};

/// The revision of the first row, after the end of all bars.
const FIRST_REVISION: &str = "2026-01-01T00:00:00Z";
/// How much newer the newer rows are: more than there are rows.
const NEWER: i64 = 86_400_000_000;

const EXAMPLES: &str = "\
Examples:
  mds bench postgres
  mds bench postgres --fsync off
  mds bench postgres --store postgres://postgres@localhost/postgres --rows 300000

Without --store a private server is started, where PostgreSQL's programs are on the machine. The
role of --store needs the right to make databases, and to checkpoint (pg_checkpoint).";

/// Arguments of `mds bench postgres`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Bars: one a minute for each of 1,000 instruments, in the order of time
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rows: u64,
    /// Connections that write at the same time, and workers of `mds ingest`
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    connections: u16,
    /// Rows in a batch, and in a COPY
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    #[command(flatten)]
    server: Server,
}

type Batches = Arc<Vec<Batch<Bar>>>;

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<Exit> {
    let folder = folder(args.server.dir())?;
    block_on(Place::with(&args.server, bench, async |place: &Place| {
        let mut arms = Arms::prepare(args, bench, place, folder.path()).await?;
        for round in 0..bench.rounds {
            bench.note(format_args!("round {} of {}", round + 1, bench.rounds));
            arms.round().await?;
        }
        bench.tell(&arms.report)
    }))
}

/// What every round needs.
struct Arms<'a> {
    bench: Bench<'a>,
    place: &'a Place,
    folder: &'a Path,
    rows: u64,
    connections: u16,
    batch: usize,
    fresh: Batches,
    newer: Batches,
    file: PathBuf,
    /// What the table must hold after the fresh rows, and after the newer ones.
    expected: (Contents, Contents),
    report: Report,
}

impl<'a> Arms<'a> {
    async fn prepare(
        args: &Args,
        bench: Bench<'a>,
        place: &'a Place,
        folder: &'a Path,
    ) -> anyhow::Result<Self> {
        let mut report = Report::new(
            "postgres",
            "made-up bars in the order of time into a table that is truncated and checkpointed \
             before each arm, beside a bare binary COPY of the same rows into the same table; x: \
             rate / rate of the bare COPY of the round",
        );
        place.describe(&mut report);
        report.setting("rows", args.rows);
        report.setting("connections", args.connections);
        report.setting("batch", args.batch);
        report.setting("rounds", bench.rounds);
        let batch = args.batch as usize;
        let first = Timestamp::parse(FIRST_REVISION)?.micros();
        let fresh = batches(bars::minute_bars(args.rows, first, 0.0), batch);
        let newer = batches(bars::minute_bars(args.rows, first + NEWER, 0.125), batch);
        let file = folder.join("bars-bench.ndjson");
        write_file(&file, &fresh).with_context(|| format!("cannot write {}", file.display()))?;
        // What the bare COPY leaves is what every other arm must leave. It also warms the server up.
        let mut expected = Vec::new();
        for batches in [&newer, &fresh] {
            place.scratch.reset().await?;
            let writers = usize::from(args.connections);
            place.scratch.bare_copy(batches, writers).await?;
            let contents = place.scratch.bars().await?;
            ensure!(
                contents.rows == args.rows,
                "the bare COPY left {} of {} rows",
                contents.rows,
                args.rows
            );
            expected.push(contents);
        }
        let expected = (expected.remove(1), expected.remove(0));
        Ok(Self {
            bench,
            place,
            folder,
            rows: args.rows,
            connections: args.connections,
            batch,
            fresh,
            newer,
            file,
            expected,
            report,
        })
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let bare = self.bare().await?;
        self.place.scratch.reset().await?;
        let store = self.place.store().await?;
        let (fresh, newer) = (Arc::clone(&self.fresh), Arc::clone(&self.newer));
        let (first, second) = self.expected.clone();
        for (name, batches, outcome, expected) in [
            ("sink, fresh", &fresh, RowOutcome::Written, &first),
            ("sink, replay", &fresh, RowOutcome::Same, &first),
            ("sink, newer", &newer, RowOutcome::Written, &second),
        ] {
            self.sink(&store, name, batches, &outcome, bare).await?;
            self.check(name, expected).await?;
        }
        store.close().await;
        self.ingest(bare).await
    }

    async fn bare(&mut self) -> anyhow::Result<Took> {
        self.place.scratch.reset().await?;
        let before = self.place.load().await?;
        let watch = Stopwatch::start();
        let copied = self
            .place
            .scratch
            .bare_copy(&self.fresh, usize::from(self.connections));
        let seconds = copied.await?.as_secs_f64();
        let took = Took {
            // Connecting is left out; in the processor time it does not show.
            seconds,
            ..watch.stop()
        };
        self.place
            .add_run(&mut self.report, "bare COPY", self.rows, took, before)
            .await?;
        let expected = self.expected.0.clone();
        self.check("bare COPY", &expected).await?;
        Ok(took)
    }

    async fn sink(
        &mut self,
        store: &Store,
        name: &str,
        batches: &Batches,
        outcome: &RowOutcome,
        bare: Took,
    ) -> anyhow::Result<()> {
        let before = self.place.load().await?;
        let watch = Stopwatch::start();
        write(store, batches, self.connections, outcome)
            .await
            .with_context(|| name.to_owned())?;
        let took = watch.stop();
        self.told(name, took, bare, before).await
    }

    async fn ingest(&mut self, bare: Took) -> anyhow::Result<()> {
        const NAME: &str = "ingest, fresh";
        self.place.scratch.reset().await?;
        let workers = self.connections.to_string();
        let ingest = Ingest {
            store: self.place.scratch.url(),
            input: &self.file,
            folder: self.folder,
            batch_size: self.batch,
            args: &["--workers", &workers, "--revision", FIRST_REVISION],
        };
        let before = self.place.load().await?;
        let (took, peak) = ingest.run(self.rows, self.bench)?;
        self.told(NAME, took, bare, before).await?;
        if let Some(peak) = peak {
            self.report.add(NAME, "MiB at most", peak);
        }
        let expected = self.expected.0.clone();
        self.check(NAME, &expected).await
    }

    async fn told(
        &mut self,
        name: &str,
        took: Took,
        bare: Took,
        before: super::place::Load,
    ) -> anyhow::Result<()> {
        let report = &mut self.report;
        report.add(name, "x", bare.seconds / took.seconds);
        self.place
            .add_run(report, name, self.rows, took, before)
            .await
    }

    async fn check(&self, name: &str, expected: &Contents) -> anyhow::Result<()> {
        let found = self.place.scratch.bars().await?;
        ensure!(
            found == *expected,
            "{name}: the table holds {found:?} instead of {expected:?}"
        );
        Ok(())
    }
}

/// Writes batches by a few tasks, as the workers of a coordinator do; every row must get `outcome`.
async fn write(
    store: &Store,
    batches: &Batches,
    writers: u16,
    outcome: &RowOutcome,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let share = batches.iter().skip(usize::from(writer));
        let share: Vec<_> = share.step_by(usize::from(writers)).cloned().collect();
        let (sink, outcome) = (store.sink::<Bar>(), outcome.clone());
        tasks.spawn(async move {
            for batch in share {
                let report = sink.write(batch).await;
                if let Some(error) = report.error {
                    return Err(anyhow::Error::new(error));
                }
                let other = report.outcomes.iter().find(|found| **found != outcome);
                ensure!(other.is_none(), "{other:?} instead of {outcome:?}");
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

fn batches(bars: impl Iterator<Item = Bar>, size: usize) -> Batches {
    let mut batches = Vec::new();
    let mut bars = bars.peekable();
    while bars.peek().is_some() {
        let batch: Vec<Bar> = bars.by_ref().take(size).collect();
        batches.push(Batch::from(batch));
    }
    Arc::new(batches)
}

fn write_file(path: &Path, batches: &Batches) -> anyhow::Result<()> {
    let out = BufWriter::new(File::create(path)?);
    let mut writer = RowWriter::new::<Bar>(RowFormat::Ndjson, false, out)?;
    for bar in batches.iter().flat_map(Batch::iter) {
        writer.write(bar)?;
    }
    writer.into_inner()?.flush()?;
    Ok(())
}
