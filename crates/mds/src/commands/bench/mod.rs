//! `mds bench`: what this machine does, measured against yardsticks on the same machine.
//!
//! A figure of one machine says little about another, and one run says little on a machine that
//! does other things too. So every comparison is made in interleaved rounds (A, B, A, B, ...), and
//! what counts is the ratio within a round; medians, the least and the greatest are printed.
//!
//! | module | measures |
//! |---|---|
//! | `null` | the write path alone: a sink that only adds up |
//! | `file` | `mds ingest` of a file, against a bare loop of upserts |
//! | `sqlite` | made-up bars through the coordinator into SQLite, against the bare loop |
//! | `postgres` | into PostgreSQL, against a bare COPY: new rows, the same again, all newer |
//! | `reads` | queries of the store that `sqlite` has made |
//! | `latency` | from submit to commit, at a steady rate |
//! | `workers` | how a pool of workers follows the load, into PostgreSQL |
//! | `wal` | the durable queue, against bare writes and syncs |
//! | `idle` | the processor time of a coordinator that has nothing to do |
//! | `place`, `private` | a database to measure in, on a server that was named or is started |
//! | `child` | `mds ingest` in a process of its own |
//! | `measure`, `report`, `bars` | clocks and memory, printing, and the bars that are made up |

mod bars;
mod child;
mod file;
mod idle;
mod latency;
mod measure;
mod null;
mod place;
mod postgres;
mod private;
mod queue;
mod reads;
mod report;
mod sqlite;
mod wal;
mod workers;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mds_store::StoreUrl;
use tempfile::TempDir;

use self::report::Report;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::note;
use crate::pipeline;

const EXAMPLES: &str = "\
Examples:
  mds bench
  mds bench null --producers 1 --workers 1,2
  mds bench sqlite --file bitfinex-btcusd-1m.csv.gz
  mds bench sqlite --symbols 1000 --minutes 10080 --days 252 --keep bench.db
  mds bench reads --store sqlite:bench.db --symbols 1000 --minutes 10080 --days 252
  mds bench postgres --store postgres://postgres@localhost/postgres
  mds bench latency --rate 10000 --json

Compare ratios, not rates: the rounds of one run are interleaved, so that what else the machine
does meets both sides. Databases are made in the temporary folder (or --dir), or on the server that --store names, and
removed; nothing else there is touched.
Exit code 0: measured; 1: a count or a checksum was wrong, or it could not be measured.";

/// Arguments of `mds bench`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    which: Option<Which>,
    /// How often each thing is measured
    #[arg(long, global = true, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Print one JSON object a benchmark instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Which {
    /// The write path alone, into a sink that only adds up
    Null(null::Args),
    /// Into SQLite, against a bare loop of upserts
    Sqlite(sqlite::Args),
    /// Into PostgreSQL, against a bare COPY of the same rows
    Postgres(postgres::Args),
    /// Queries of the store that `bench sqlite --keep` has made
    Reads(reads::Args),
    /// From submit to commit, at a steady rate
    Latency(latency::Args),
    /// The durable queue, against bare writes and syncs
    Wal(wal::Args),
    /// `mds ingest` through the durable queue, against through memory
    Queue(queue::Args),
    /// How the number of workers follows the load, into PostgreSQL
    Workers(workers::Args),
    /// The processor time of a coordinator that has nothing to do
    Idle(idle::Args),
    /// All of them, in a few minutes
    All,
}

/// What every benchmark is given.
#[derive(Clone, Copy, Debug)]
struct Bench<'a> {
    rounds: u16,
    json: bool,
    context: &'a Context,
}

impl Bench<'_> {
    /// Prints a report at once: later ones may take long, or come from another process.
    fn tell(&self, report: &Report) -> anyhow::Result<()> {
        report.tell(self.json)
    }

    /// Says on standard error what is going on.
    fn note(&self, text: impl std::fmt::Display) {
        self.context.note(text);
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if cfg!(debug_assertions) {
        note("warning: this is a debug build; its figures mean nothing");
    }
    let bench = Bench {
        rounds: args.rounds,
        json: args.json,
        context,
    };
    match &args.which {
        Some(Which::Null(args)) => null::run(args, bench)?,
        Some(Which::Sqlite(args)) => sqlite::run(args, bench)?,
        Some(Which::Postgres(args)) => return postgres::run(args, bench),
        Some(Which::Reads(args)) => reads::run(args, bench)?,
        Some(Which::Latency(args)) => return latency::run(args, bench),
        Some(Which::Wal(args)) => wal::run(args, bench)?,
        Some(Which::Queue(args)) => return queue::run(args, bench),
        Some(Which::Workers(args)) => return workers::run(args, bench),
        Some(Which::Idle(args)) => idle::run(args, bench)?,
        None | Some(Which::All) => {
            null::run(&null::Args::default(), bench)?;
            sqlite::run(&sqlite::Args::default(), bench)?;
            let exit = latency::run(&latency::Args::default(), bench)?;
            if exit != Exit::Success {
                return Ok(exit);
            }
            wal::run(&wal::Args::default(), bench)?;
            idle::run(&idle::Args::default(), bench)?;
        }
    }
    Ok(Exit::Success)
}

/// Runs the work of a benchmark on the runtime that `mds ingest` would have.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    pipeline::runtime()?.block_on(work)
}

/// A folder for databases, removed with all that is in it at the end.
fn folder(within: Option<&Path>) -> anyhow::Result<TempDir> {
    let within = within.map_or_else(std::env::temp_dir, Path::to_path_buf);
    tempfile::Builder::new()
        .prefix("mds-bench-")
        .tempdir_in(&within)
        .with_context(|| format!("cannot make a folder in {}", within.display()))
}

/// Removes a database that is not needed any more; a later round must not find its pages in memory.
fn remove(database: &Path) -> anyhow::Result<()> {
    for end in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{end}", database.display()));
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The address of a database file.
fn url(database: &Path) -> StoreUrl {
    StoreUrl::Sqlite(database.to_path_buf())
}
