//! `mds demo`: the whole write path on made-up data, with faults, and books that balance.
//!
//! Records of all four kinds go through one coordinator each into a new `demo.db`, while the
//! store goes away, deadlocks, loses answers, hangs and refuses rows. Then the database is read
//! back and compared row by row with what must be in it.

mod data;
mod faults;
mod live;
mod report;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::{StopReport, WriteCoordinator};
use mds_core::Sourced;
use mds_store::{OpenOptions, Query, Store, StoreUrl};

use self::data::Feed;
use self::faults::{Faults, FaultySink};
use self::live::Live;
use self::report::KindReport;
use crate::commands::ingest::{self, Progress};
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::output::note;
use crate::pipeline::{self, MarketRecord};
use crate::runtime::stop_requested;

const EXAMPLES: &str = "\
Examples:
  mds demo
  mds demo --seconds 30 --metrics 127.0.0.1:9000

Makes demo.db and the dead letters in .dlq/demo-*.ndjson anew, in the working directory. A database
with anything else than the records of a demo is left alone.
Exit code 0: every row is accounted for; 1: it is not, which would be a fault of this program.";

/// How long a row that a write never answers for is waited for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Arguments of `mds demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How long records are sent, in seconds
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(2..=60))]
    seconds: u64,
    /// Where metrics are served meanwhile
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    metrics: SocketAddr,
    /// The database to make anew; only one that a demo made is replaced
    #[arg(long, value_name = "FILE", default_value = "demo.db")]
    database: PathBuf,
    /// The seed of the data
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    // The demo's own panics are part of the show; their backtraces are not.
    quiet_panics();
    let runtime = pipeline::runtime()?;
    let exit = runtime.block_on(demo(args, context));
    // A write that never answers must not hold up the end of the program.
    runtime.shutdown_background();
    exit
}

fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info
            .payload()
            .downcast_ref::<&str>()
            .copied()
            .unwrap_or_default();
        if !text.contains("on purpose") {
            usual(info);
        }
    }));
}

async fn demo(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let url: StoreUrl = format!("sqlite:{}", args.database.display()).parse()?;
    remove_old(&url, &args.database).await?;
    let store = Store::open(&url, OpenOptions::default())
        .await
        .with_context(|| format!("cannot make {}", args.database.display()))?;
    // A busy port is no reason not to show the rest.
    let metrics = match ingest::serve_metrics(args.metrics, context).await {
        Ok(server) => Some(server),
        Err(error) => {
            note(format_args!("warning: {error:#}"));
            None
        }
    };
    let length = Duration::from_secs(args.seconds);
    let mut random = fastrand::Rng::with_seed(args.seed);
    let seconds = i64::try_from(args.seconds).unwrap_or(i64::MAX);
    let bars = data::bars(&mut random.fork(), 390 * seconds);
    let options = data::options(&mut random.fork(), 4 * seconds);
    let fundamentals = data::fundamentals(&mut random.fork());
    let news = data::news(&mut random.fork(), 500 * seconds);
    let rows = bars.records.len()
        + options.records.len()
        + fundamentals.records.len()
        + news.records.len();
    let stage = Stage {
        store: &store,
        faults: Faults::new(length),
        length,
        folder: Path::new(".dlq"),
        context,
        live: Live::default(),
    };
    let progress = Progress::new(u64::try_from(rows).ok(), context.quiet);
    let kinds = async {
        tokio::join!(
            stage.kind(bars),
            stage.kind(options),
            stage.kind(fundamentals),
            stage.kind(news),
        )
    };
    let show = async {
        let message = || stage.live.message(&progress);
        tokio::join!(
            report::announce(length, context, &progress),
            progress.follow(message)
        )
    };
    let ended = tokio::select! {
        biased;
        // What a script starts in the background would not be ended by SIGINT otherwise.
        stopped = stop_requested() => {
            progress.finish();
            return stopped.context("cannot listen for signals");
        }
        kinds = kinds => Some(kinds),
        _ = show => None,
    };
    progress.finish();
    let (bars, options, fundamentals, news) = ended.context("the demo ended early")?;
    store.close().await;
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    let reports = [bars?, options?, fundamentals?, news?];
    report::tell(&reports, &stage.faults, &args.database)
}

/// Removes the database of an earlier demo; refuses anything else.
async fn remove_old(url: &StoreUrl, path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let shown = path.display();
    let others = other_vendors(url).await.map_err(|error| {
        let what = "is in the way and cannot be read as a store of the demo; name another file";
        error.context(Usage::new(format!("{shown} {what} with --database")))
    })?;
    if !others.is_empty() {
        let others = Vec::from_iter(others).join(", ");
        return Err(Usage::new(format!(
            "{shown} holds records that the demo did not make (vendor {others}); name another \
             file with --database"
        ))
        .into());
    }
    for end in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{end}", path.display()));
        match std::fs::remove_file(&file) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(e).with_context(|| format!("cannot remove {}", file.display()));
            }
        }
    }
    Ok(())
}

/// The vendors in a store whose records no demo has made.
async fn other_vendors(url: &StoreUrl) -> anyhow::Result<BTreeSet<String>> {
    let store = Store::open(url, OpenOptions::read_only()).await?;
    let stats = store.stats().await;
    store.close().await;
    let vendors = stats?.freshness.into_iter().map(|f| f.vendor.to_string());
    Ok(vendors.filter(|vendor| vendor != data::VENDOR).collect())
}

/// Removes the letters of an earlier demo.
fn remove_letters(folder: &Path, name: &str) -> anyhow::Result<()> {
    let start = format!("{name}.");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .trim_start_matches('.')
            .starts_with(&start)
        {
            std::fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// What the kinds share.
struct Stage<'a> {
    store: &'a Store,
    faults: Arc<Faults>,
    length: Duration,
    /// Where the letters go.
    folder: &'a Path,
    context: &'a Context,
    live: Live,
}

impl Stage<'_> {
    /// Sends the records of one kind, evenly over the length of the demo, and checks what became of
    /// them.
    async fn kind<R: MarketRecord>(&self, feed: Feed<R>) -> anyhow::Result<KindReport> {
        let name = format!("demo-{}", R::KIND);
        remove_letters(self.folder, &name)?;
        let dlq = self.folder.join(format!("{name}.ndjson"));
        let letters = pipeline::open_letters::<R>(&dlq)?;
        let sink = FaultySink {
            sink: self.store.sink::<R>(),
            faults: Arc::clone(&self.faults),
        };
        let coordinator = pipeline::coordinator::<R, _>(&self.context.settings.coordinator(), sink)
            .write_timeout(WRITE_TIMEOUT)
            .dead_letters(letters)
            .start()?;
        let coordinator = Arc::new(coordinator);
        self.live.watch(&coordinator);
        let sent = feed.records.len() as u64;
        send(&coordinator, feed.records, self.length).await?;
        let second = Duration::from_secs(1);
        while coordinator.flush(second).await.outstanding > 0 {}
        let stopped: StopReport<_> = coordinator.stop(true, pipeline::STOP_TIMEOUT).await;
        let mut stored = 0;
        let mut wrong = 0;
        let mut chunks = self.store.query::<R>(Query::default());
        while let Some(chunk) = chunks.next().await {
            for record in chunk? {
                stored += 1;
                wrong += u64::from(feed.expected.get(&data::key(&record)) != Some(&record));
            }
        }
        Ok(KindReport {
            kind: R::KIND,
            sent,
            stats: stopped.stats,
            poison: feed.poison,
            expected: feed.expected.len() as u64,
            stored,
            wrong,
            dlq,
        })
    }
}

async fn send<R>(
    coordinator: &WriteCoordinator<Sourced<R>>,
    records: Vec<R>,
    length: Duration,
) -> anyhow::Result<()>
where
    R: MarketRecord,
{
    const STEPS: usize = 200;
    let step = records.len().div_ceil(STEPS).max(1);
    let mut pace = tokio::time::interval(length / u32::try_from(STEPS).unwrap_or(1));
    let mut rows: VecDeque<Sourced<R>> = records.into_iter().map(Sourced::from).collect();
    while !rows.is_empty() {
        pace.tick().await;
        let mut part: VecDeque<_> = rows.drain(..step.min(rows.len())).collect();
        coordinator
            .submit_many(&mut part)
            .await
            .context("the demo's coordinator refused rows")?;
    }
    Ok(())
}

impl Faults {
    /// Each fault with the number of writes that it struck.
    fn struck(&self) -> [(&'static str, u64); 5] {
        let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
        [
            ("writes refused by an absent store", count(&self.outages)),
            ("deadlocks", count(&self.deadlocks)),
            ("answers lost after the commit", count(&self.lost_answers)),
            ("panics of the sink", count(&self.panics)),
            ("writes that never answered", count(&self.hangs)),
        ]
    }
}
