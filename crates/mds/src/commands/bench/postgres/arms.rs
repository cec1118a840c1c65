//! The arms, one round after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mds_core::{Bar, Batch, RowOutcome, Sink as _, Sourced, Timestamp};
use mds_formats::{RowFormat, RowWriter};
use mds_store::Store;
use mds_store::bench::Contents;
use tokio::task::JoinSet;

use super::{Args, Arm};
use crate::commands::bench::child::Ingest;
use crate::commands::bench::measure::{Stopwatch, Took};
use crate::commands::bench::place::{Load, Place};
use crate::commands::bench::report::Report;
use crate::commands::bench::{Bench, bars};
use crate::pipeline;

/// The revision of the first row, after the end of all bars.
const FIRST_REVISION: &str = "2025-06-01T00:00:00Z";
/// How much newer the newer rows are: more than there are rows.
const NEWER: i64 = 86_400_000_000;
/// Records in one `submit_many`.
const GROUP: usize = 500;

type Batches = Arc<Vec<Batch<Bar>>>;

/// What every round needs.
pub(super) struct Arms<'a> {
    bench: Bench<'a>,
    place: &'a Place,
    folder: &'a Path,
    args: &'a Args,
    fresh: Batches,
    newer: Batches,
    file: PathBuf,
    /// What the table must hold after the fresh rows, and after the newer ones.
    expected: (Contents, Contents),
    pub(super) report: Report,
}

impl<'a> Arms<'a> {
    pub(super) async fn prepare(
        args: &'a Args,
        bench: Bench<'a>,
        place: &'a Place,
        folder: &'a Path,
    ) -> anyhow::Result<Self> {
        let batch = args.batch as usize;
        let first = Timestamp::parse(FIRST_REVISION)?.micros();
        let fresh = batches(bars::minute_bars(args.rows, first, 0.0), batch);
        let newer = batches(bars::minute_bars(args.rows, first + NEWER, 0.125), batch);
        let file = folder.join("bars-bench.ndjson");
        if args.arms.contains(&Arm::Ingest) {
            write_file(&file, &fresh)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let of_newer = expected(place, &newer, args).await?;
        let of_fresh = expected(place, &fresh, args).await?;
        Ok(Self {
            bench,
            place,
            folder,
            args,
            fresh,
            newer,
            file,
            expected: (of_fresh, of_newer),
            report: report(args, bench, place),
        })
    }

    pub(super) async fn round(&mut self) -> anyhow::Result<()> {
        let bare = self.bare().await?;
        for arm in &self.args.arms {
            self.place.scratch.reset().await?;
            match arm {
                Arm::Sink => self.sinks(bare).await?,
                Arm::Coordinator => self.coordinator(bare).await?,
                Arm::Ingest => self.ingest(bare).await?,
            }
        }
        Ok(())
    }

    async fn sinks(&mut self, bare: Took) -> anyhow::Result<()> {
        let store = self.place.store().await?;
        let (fresh, newer) = (Arc::clone(&self.fresh), Arc::clone(&self.newer));
        let (first, second) = self.expected.clone();
        let mut of_fresh = None;
        for (name, batches, outcome, expected) in [
            ("sink, fresh", &fresh, RowOutcome::Written, &first),
            ("sink, replay", &fresh, RowOutcome::Same, &first),
            ("sink, newer", &newer, RowOutcome::Written, &second),
        ] {
            let took = self.sink(&store, name, batches, &outcome, bare).await?;
            let of_fresh = of_fresh.get_or_insert(took.seconds);
            self.report.add(name, "x fresh", *of_fresh / took.seconds);
            self.check(name, expected).await?;
        }
        store.close().await;
        Ok(())
    }

    async fn bare(&mut self) -> anyhow::Result<Took> {
        self.place.scratch.reset().await?;
        let before = self.place.load().await?;
        let watch = Stopwatch::start();
        let copied = self
            .place
            .scratch
            .bare_copy(&self.fresh, usize::from(self.args.connections));
        let seconds = copied.await?.as_secs_f64();
        let took = Took {
            // Connecting is left out; in the processor time it does not show.
            seconds,
            ..watch.stop()
        };
        self.place
            .add_run(&mut self.report, "bare COPY", self.args.rows, took, before)
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
    ) -> anyhow::Result<Took> {
        let before = self.place.load().await?;
        let watch = Stopwatch::start();
        write(store, batches, self.args.connections, outcome)
            .await
            .with_context(|| name.to_owned())?;
        let took = watch.stop();
        self.told(name, took, bare, before).await?;
        Ok(took)
    }

    async fn coordinator(&mut self, bare: Took) -> anyhow::Result<()> {
        const NAME: &str = "coordinator, fresh";
        let before = self.place.load().await?;
        let watch = Stopwatch::start();
        let store = self.place.store().await?;
        submit(&store, &self.fresh, self.args, self.bench).await?;
        store.close().await;
        let took = watch.stop();
        self.told(NAME, took, bare, before).await?;
        let expected = self.expected.0.clone();
        self.check(NAME, &expected).await
    }

    async fn ingest(&mut self, bare: Took) -> anyhow::Result<()> {
        const NAME: &str = "ingest, fresh";
        let workers = self.args.connections.to_string();
        let ingest = Ingest {
            store: self.place.scratch.url(),
            input: &self.file,
            folder: self.folder,
            batch_size: self.args.batch as usize,
            args: &["--workers", &workers, "--revision", FIRST_REVISION],
        };
        let before = self.place.load().await?;
        let (took, peak) = ingest.run(self.args.rows, self.bench)?;
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
        before: Load,
    ) -> anyhow::Result<()> {
        let report = &mut self.report;
        report.add(name, "x", bare.seconds / took.seconds);
        self.place
            .add_run(report, name, self.args.rows, took, before)
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

fn report(args: &Args, bench: Bench<'_>, place: &Place) -> Report {
    let mut report = Report::new(
        "postgres",
        "made-up bars in the order of time into a table that is truncated and checkpointed before \
         each arm, beside a bare binary COPY of the same rows into the same table; x: rate / rate \
         of the bare COPY of the round",
    );
    place.describe(&mut report);
    report.setting("rows", args.rows);
    report.setting("connections", args.connections);
    report.setting("batch", args.batch);
    report.setting("rounds", bench.rounds);
    report
}

/// What the bare COPY leaves is what every other arm must leave. It also warms the server up.
async fn expected(place: &Place, batches: &Batches, args: &Args) -> anyhow::Result<Contents> {
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
    Ok(contents)
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

/// Submits all rows to a coordinator with the settings of `mds ingest`, and stops it.
async fn submit(
    store: &Store,
    batches: &Batches,
    args: &Args,
    bench: Bench<'_>,
) -> anyhow::Result<()> {
    let settings = bench.context.settings.coordinator();
    let coordinator = pipeline::coordinator::<Bar, _>(&settings, store.sink::<Bar>())
        .workers(usize::from(args.connections))
        .workers_max(0)
        .batch_size(args.batch as usize)
        .start()?;
    let mut group = VecDeque::with_capacity(GROUP);
    let mut bars = batches.iter().flat_map(Batch::iter);
    loop {
        group.extend(bars.by_ref().take(GROUP).cloned().map(Sourced::from));
        if group.is_empty() {
            break;
        }
        coordinator.submit_many(&mut group).await?;
    }
    while coordinator.flush(pipeline::STOP_TIMEOUT).await.outstanding > 0 {}
    let books = coordinator.stop(true, pipeline::STOP_TIMEOUT).await.stats;
    ensure!(
        books.written == args.rows && books.is_balanced(),
        "the books are wrong: {} rows, {books:?}",
        args.rows
    );
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
