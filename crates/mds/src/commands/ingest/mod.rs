//! `mds ingest`: files into the store, every row accounted for.
//!
//! | module | holds |
//! |---|---|
//! | `input` | which files, and the revision that each begins with |
//! | `revision` | asks the store for that revision |
//! | `reading` | what the store remembers of how an input is read |
//! | `revise` | gives rows their revisions, and tells provisional bars |
//! | `read` | the thread that turns a file into chunks of records |
//! | `run` | the write path, from the first row to the report |
//! | `rows` | rows on their way from a reader into the write path |
//! | `stop` | reasons to stop early: a signal, an outage, too many bad rows |
//! | `watch` | looks out for signals and outages |
//! | `report` | what is told at the end |
//! | `dry_run` | reading without writing |
//! | `audit` | reading, to find each row again |
//! | `progress` | the bar on a terminal |

pub(crate) mod audit;
mod dry_run;
mod input;
mod progress;
mod read;
mod reading;
mod report;
mod revise;
mod revision;
mod rows;
mod run;
mod stop;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use mds_core::settings::SettingFlag;
use mds_core::{
    Bar, Fundamentals, Kind, News, OptionSnap, Symbol, TenantId, Timeframe, Timestamp, Vendor,
};
use mds_formats::{Format, Mapping, Options, TimeFormat, Zone};

pub(crate) use self::progress::Progress;
pub(crate) use self::run::serve_metrics;
pub(crate) use self::stop::Stop;
pub(crate) use self::watch::{Outages, Signals, stop_reason};
use crate::context::Context;
use crate::exit::Exit;
use crate::pipeline;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  mds ingest bars bitfinex-btcusd-1m.csv.gz
  mds ingest bars prices.csv --vendor acme --symbol AAPL --timeframe 1d \\
      --map ts=Date --map close_price=Close --time-format %Y-%m-%d --tz America/New_York
  mds ingest fundamentals companyfacts.json --symbol LPA
  zcat bars.ndjson.gz | mds ingest bars - --json

The same content again writes nothing, whatever the file is called, unless it is read by another
--format, --map, --tz or --time-format: then these rows win over those read before. Rows that cannot
be parsed, or that the store refuses, go to the dead letters with their file and line: `mds dlq list`
shows them.

Exit code 0: all rows are in; 3: some were dead-lettered, dropped, refused, or damaged in a durable
queue; 2: wrong usage or an input that is not recognised; 1: anything else, such as a truncated archive (the rows before the
damage are in); 130 or 143: stopped by a signal, after what was accepted was settled.";

/// Arguments of `mds ingest`.
#[expect(clippy::doc_markdown, reason = "clap prints these texts as they are")]
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What the input holds
    #[arg(value_parser = values::kind_parser())]
    kind: Kind,
    /// Files, folders (their files, by name), or - for standard input; none: only what waits in a
    /// durable queue is written
    #[arg(value_name = "FILE|FOLDER|-")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// The revision of the first row, as a time [default: the file's modification time; for
    /// standard input the start of the run]
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    revision: Option<Timestamp>,
    /// Where records wait: memory, or disk:DIR, which survives a kill: the same command goes on
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The file of the dead letters [default: .dlq/KIND.ndjson]
    #[arg(long, value_name = "FILE")]
    dlq: Option<String>,
    /// How many workers write; with a range, such as 1..8, as many as the store has use for
    #[arg(long, value_name = "N|N..M")]
    workers: Option<String>,
    /// How many files are read at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Stop after more than N bad rows, or more than P percent of the rows (from 1,000 rows on)
    #[arg(long, value_name = "N|P%")]
    max_bad: Option<stop::MaxBad>,
    /// Stop when the store is away for longer: 30s, 5m, 1h; 0 waits for ever
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = values::duration)]
    max_outage: Duration,
    /// Read and check only: write nothing
    #[arg(long)]
    dry_run: bool,
    /// Serve metrics for Prometheus meanwhile, at http://ADDR/metrics
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// Print one JSON object at the end instead of a table
    #[arg(long)]
    json: bool,
}

/// How inputs are read.
#[expect(clippy::doc_markdown, reason = "clap prints these texts as they are")]
#[derive(clap::Args, Debug)]
pub(crate) struct ReadingArgs {
    /// The format, or auto: told from the content
    #[arg(long, default_value = "auto", value_name = "FORMAT", value_parser = format)]
    format: FormatChoice,
    /// Which column holds which field: ts=Date, or ts=1 without a header; ts=Date+Time joins two
    #[arg(long, value_name = "FIELD=COLUMN")]
    map: Vec<Mapping>,
    /// How times are written: rfc3339, epoch_s, epoch_ms, epoch_us, epoch_ns or a strftime pattern
    #[arg(long, value_name = "FORMAT")]
    time_format: Option<TimeFormat>,
    /// The vendor, where the file does not say
    #[arg(long, value_parser = values::vendor)]
    vendor: Option<Vendor>,
    /// The symbol, where the file does not say
    #[arg(long, value_parser = values::symbol)]
    symbol: Option<Symbol>,
    /// The span of the bars, where the file does not say: 1m, 1h, 1d
    #[arg(long, value_name = "SPAN")]
    timeframe: Option<Timeframe>,
    /// The zone of times without an offset, such as America/New_York
    #[arg(long, value_name = "ZONE")]
    tz: Option<Zone>,
    /// When the news was published, for files that do not say
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    published_at: Option<Timestamp>,
    /// Whose data it is, where the file does not say
    #[arg(long, value_name = "UUID")]
    tenant: Option<String>,
}

/// The format that was asked for; clap needs a type of its own for "auto".
#[derive(Clone, Copy, Debug)]
struct FormatChoice(Option<&'static Format>);

fn format(text: &str) -> Result<FormatChoice, mds_formats::UnknownFormat> {
    if text == "auto" {
        Ok(FormatChoice(None))
    } else {
        text.parse().map(|f| FormatChoice(Some(f)))
    }
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        [
            ("--tenant", &self.reading.tenant),
            ("--queue", &self.queue),
            ("--dlq", &self.dlq),
            ("--workers", &self.workers),
            ("--metrics", &self.metrics),
        ]
        .into_iter()
        .filter_map(|(flag, value)| value.as_deref().map(|value| SettingFlag { flag, value }))
        .collect()
    }
}

impl ReadingArgs {
    /// The tenant that was given.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    pub(crate) fn options(&self, tenant: TenantId) -> Options {
        Options {
            format: self.format.0,
            vendor: self.vendor.clone(),
            symbol: self.symbol.clone(),
            timeframe: self.timeframe,
            tz: self.tz.clone(),
            tenant: Some(tenant),
            map: self.map.clone(),
            time_format: self.time_format.clone(),
            published_at: self.published_at,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let runtime = pipeline::runtime()?;
    let exit = runtime.block_on(async {
        match args.kind {
            Kind::Bars => run::ingest::<Bar>(args, context).await,
            Kind::Options => run::ingest::<OptionSnap>(args, context).await,
            Kind::Fundamentals => run::ingest::<Fundamentals>(args, context).await,
            Kind::News => run::ingest::<News>(args, context).await,
        }
    });
    // A read that hangs (a pipe that nobody closes) must not hold up the end of the program.
    runtime.shutdown_background();
    exit
}
