//! From submit to commit, one record at a time at a steady rate.
//!
//! Every record carries the moment at which it was submitted and the moment at which it was due,
//! and the sink notes both when the store has committed it: exact times, no buckets. A generator
//! that falls behind does not hide it, since the time from due to committed goes on.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use mds_coordinator::{Batch, RowOutcome, Sink, SinkError, WriteCoordinator, WriteReport};
use mds_core::Bar;
use mds_store::{OpenOptions, Store};
use tokio::time::MissedTickBehavior;

use super::bars;
use super::measure::{Stopwatch, float, percentile_of_sorted};
use super::null::NullSink;
use super::place::{Place, Server};
use super::report::Report;
use super::{Bench, block_on, folder, remove, url};
use crate::exit::Exit;
use crate::pipeline;

/// How often the generator looks at the clock: the finest that the timer can.
const TICK: Duration = Duration::from_millis(1);

const EXAMPLES: &str = "\
Examples:
  mds bench latency
  mds bench latency --sink null --rate 100000
  mds bench latency --store postgres://postgres@localhost/postgres
  mds bench latency --sink postgres

PostgreSQL is measured in a database of its own, on the server of --store or on a private one.";

/// Arguments of `mds bench latency`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Records offered a second
    #[arg(long, value_name = "N", default_value_t = Self::default().rate, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// Seconds a round
    #[arg(long, value_name = "N", default_value_t = Self::default().seconds, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How long a record may wait for its batch to fill, in seconds
    #[arg(long, value_name = "N", default_value_t = Self::default().flush_interval)]
    flush_interval: f64,
    /// Where the records go [default: sqlite; with a --store that is a PostgreSQL server, postgres]
    #[arg(long, value_enum)]
    sink: Option<Target>,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// A new SQLite database
    Sqlite,
    /// A new database on a PostgreSQL server
    Postgres,
    /// Nowhere
    Null,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            rate: 10_000,
            seconds: 5,
            flush_interval: 0.0,
            sink: None,
            server: Server::default(),
        }
    }
}

/// A bar with its times.
#[derive(Debug)]
struct Stamped {
    bar: Bar,
    due: Instant,
    submitted: Instant,
}

impl Borrow<Bar> for Stamped {
    fn borrow(&self) -> &Bar {
        &self.bar
    }
}

/// Seconds from due and from submitted to committed.
type Times = Arc<Mutex<Vec<(f64, f64)>>>;

/// A sink that notes when its rows are committed.
struct Timed<S> {
    sink: S,
    times: Times,
}

impl<S: Sink<Stamped>> Sink<Stamped> for Timed<S> {
    fn name(&self) -> &str {
        self.sink.name()
    }

    async fn write(&self, batch: Batch<Stamped>) -> WriteReport {
        let report = self.sink.write(batch.clone()).await;
        let now = Instant::now();
        let since = |then: Instant| now.duration_since(then).as_secs_f64();
        let committed = batch
            .iter()
            .zip(&report.outcomes)
            .filter(|(_, outcome)| **outcome == RowOutcome::Written)
            .map(|(row, _)| (since(row.due), since(row.submitted)));
        self.times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(committed);
        report
    }

    async fn check(&self) -> Option<Result<(), SinkError>> {
        self.sink.check().await
    }
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<Exit> {
    let mut report = Report::new(
        "latency",
        "from submit to commit, records offered one at a time at a steady rate",
    );
    let sink = args.sink.unwrap_or_else(|| {
        // A server is put under load only where the command line names it.
        if super::place::is_given(bench) {
            Target::Postgres
        } else {
            Target::Sqlite
        }
    });
    let settings = bench.context.settings.coordinator();
    report.setting("sink", format!("{sink:?}").to_lowercase());
    report.setting("rate", args.rate);
    report.setting("seconds", args.seconds);
    report.setting("flush_interval", args.flush_interval);
    report.setting("workers", settings.coordinator_workers);
    report.setting("batch_size", settings.coordinator_batch_size);
    report.setting("rounds", bench.rounds);
    match sink {
        Target::Postgres => {
            let work = async |place: &Place| {
                postgres(args, bench, place, &mut report).await?;
                bench.tell(&report)
            };
            return block_on(Place::with(&args.server, bench, work));
        }
        Target::Sqlite => sqlite(args, bench, &mut report)?,
        Target::Null => block_on(async {
            for _ in 0..bench.rounds {
                round(args, bench, NullSink::default(), &mut report).await?;
            }
            Ok(())
        })?,
    }
    bench.tell(&report)?;
    Ok(Exit::Success)
}

fn sqlite(args: &Args, bench: Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let folder = folder(args.server.dir())?;
    let database = folder.path().join("latency.db");
    block_on(async {
        for _ in 0..bench.rounds {
            let store = Store::open(&url(&database), OpenOptions::default()).await?;
            round(args, bench, store.sink::<Bar>(), report).await?;
            store.close().await;
            remove(&database)?;
        }
        Ok(())
    })
}

async fn postgres(
    args: &Args,
    bench: Bench<'_>,
    place: &Place,
    report: &mut Report,
) -> anyhow::Result<()> {
    place.describe(report);
    for number in 0..bench.rounds {
        bench.note(format_args!("round {} of {}", number + 1, bench.rounds));
        place.scratch.reset().await?;
        let store = place.store().await?;
        let before = place.load().await?;
        let rows = round(args, bench, store.sink::<Bar>(), report).await?;
        place.add_load(report, "whole server", rows, before).await?;
        store.close().await;
        let stored = place.scratch.bars().await?.rows;
        ensure!(stored == rows, "{stored} of {rows} rows are stored");
    }
    Ok(())
}

/// One round; how many rows were written.
async fn round<S: Sink<Stamped>>(
    args: &Args,
    bench: Bench<'_>,
    sink: S,
    report: &mut Report,
) -> anyhow::Result<u64> {
    let settings = bench.context.settings.coordinator();
    let rows = u64::from(args.rate) * u64::from(args.seconds);
    let times = Times::default();
    let sink = Timed {
        sink,
        times: Arc::clone(&times),
    };
    let flush_interval = Duration::try_from_secs_f64(args.flush_interval)?;
    let coordinator = pipeline::builder::<Bar, Stamped, _>(&settings, sink)
        .flush_interval(flush_interval)
        .start()?;
    let watch = Stopwatch::start();
    offer(&coordinator, rows, args.rate).await?;
    let stopped = coordinator.stop(true, pipeline::STOP_TIMEOUT).await;
    let took = watch.stop();
    let times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    ensure!(
        stopped.stats.written == rows && times.len() as u64 == rows,
        "{} of {rows} records written, {} timed: {:?}",
        stopped.stats.written,
        times.len(),
        stopped.stats
    );
    let (due, submitted): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
    for (name, mut seconds) in [("submit to commit", submitted), ("due to commit", due)] {
        seconds.sort_unstable_by(f64::total_cmp);
        for (percent, part) in [(50.0, "p50"), (99.0, "p99"), (100.0, "greatest")] {
            let value = percentile_of_sorted(&seconds, percent) * 1e3;
            report.add(&format!("{name}, {part}"), "ms", value);
        }
    }
    report.add("reached", "rows/s", float(rows) / took.seconds);
    if let Some(cpu) = took.cpu_seconds {
        report.add("whole process", "% of a core", cpu / took.seconds * 100.0);
        report.add("whole process", "CPU s/M rows", cpu * 1e6 / float(rows));
    }
    Ok(rows)
}

/// Submits each record when it is due.
async fn offer(
    coordinator: &WriteCoordinator<Stamped>,
    rows: u64,
    rate: u32,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let started = Instant::now();
    let mut sent = 0;
    while sent < rows {
        tick.tick().await;
        loop {
            let due = started + Duration::from_secs(1).mul_f64(float(sent) / f64::from(rate));
            let submitted = Instant::now();
            if sent == rows || due > submitted {
                break;
            }
            let row = Stamped {
                bar: bars::minute_bar(sent),
                due,
                submitted,
            };
            coordinator.submit(row).await?;
            sent += 1;
        }
    }
    Ok(())
}
