//! `mds ingest` through the durable queue against `mds ingest` through memory, end to end in processes
//! of their own: what it costs that every row is synced twice.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mds_core::Bar;

use super::bars::Size;
use super::child::Ingest;
use super::measure::Took;
use super::place::{self, Place, Server};
use super::report::Report;
use super::{Bench, block_on, folder, remove};
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  mds bench queue
  mds bench queue --store postgres://postgres@localhost/postgres --symbols 1000 --minutes 500

Into a new SQLite database; with --store postgres://... into a database of its own on that server
instead, and with --sink postgres into one on the server of the settings, or on a private one. The
files of the rows, the database and the queue are made in the temporary folder (or --dir).";

/// Rows in a batch, as the other benchmarks of PostgreSQL have them.
const BATCH: usize = 5_000;

/// Arguments of `mds bench queue`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    size: Size,
    /// Where the rows go [default: sqlite; with a --store that is a PostgreSQL server, postgres]
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
}

/// One run of `mds ingest`.
struct Run<'a> {
    input: &'a Path,
    folder: &'a Path,
    rows: u64,
    bench: Bench<'a>,
}

impl Run<'_> {
    fn take(&self, store: &str, batch_size: usize, queue: &str) -> anyhow::Result<Took> {
        let ingest = Ingest {
            store,
            input: self.input,
            folder: self.folder,
            batch_size,
            args: &["--queue", queue],
        };
        Ok(ingest.run(self.rows, self.bench)?.0)
    }

    /// Memory, the disk, and what one is of the other; `anew` empties the store before each.
    async fn round(
        &self,
        report: &mut Report,
        store: &str,
        batch_size: usize,
        anew: &mut impl AsyncFnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let queue = self.folder.join("queue");
        anew().await?;
        let memory = self.take(store, batch_size, "memory")?;
        anew().await?;
        let disk = self.take(store, batch_size, &format!("disk:{}", queue.display()))?;
        std::fs::remove_dir_all(&queue)
            .with_context(|| format!("cannot remove {}", queue.display()))?;
        report.add_run("queue in memory", self.rows, memory);
        report.add_run("queue on the disk", self.rows, disk);
        report.add("ratio", "x", memory.seconds / disk.seconds);
        Ok(())
    }
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<Exit> {
    // A server is put under load only where the command line says so.
    let is_server = args
        .sink
        .map_or_else(|| place::is_given(bench), |sink| sink == Target::Postgres);
    let mut report = Report::new(
        if is_server { "queue-postgres" } else { "queue" },
        "`mds ingest` of a file with the queue on the disk, from the start of the process to its end, \
         against the same with the queue in memory; ratio: rate with the disk / rate with memory",
    );
    report.setting("rows", args.size.rows());
    report.setting("rounds", bench.rounds);
    report.setting("fsync", bench.context.settings.queue_fsync());
    let folder = folder(args.server.dir())?;
    let input = write(args.size.bars(), folder.path())?;
    let run = Run {
        input: &input,
        folder: folder.path(),
        rows: args.size.rows(),
        bench,
    };
    if is_server {
        return block_on(Place::with(&args.server, bench, async |place: &Place| {
            place.describe(&mut report);
            place.store().await?.close().await;
            let mut anew = async || Ok(place.scratch.reset().await?);
            for round in 0..bench.rounds {
                bench.note(format_args!("round {} of {}", round + 1, bench.rounds));
                let store = place.scratch.url();
                run.round(&mut report, store, BATCH, &mut anew).await?;
            }
            bench.tell(&report)
        }));
    }
    let database = folder.path().join("queue.db");
    let store = format!("sqlite:{}", database.display());
    let batch_size = bench.context.settings.coordinator().coordinator_batch_size;
    block_on(async {
        let mut anew = async || remove(&database);
        for round in 0..bench.rounds {
            bench.note(format_args!("round {} of {}", round + 1, bench.rounds));
            run.round(&mut report, &store, batch_size, &mut anew)
                .await?;
        }
        Ok(())
    })?;
    bench.tell(&report)?;
    Ok(Exit::Success)
}

/// Writes the rows into a file of lines of JSON.
fn write(bars: impl Iterator<Item = Bar>, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("bars-queue.ndjson");
    let failed = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(std::fs::File::create(&path).with_context(failed)?);
    for bar in bars {
        serde_json::to_writer(&mut out, &bar).with_context(failed)?;
        out.write_all(b"\n").with_context(failed)?;
    }
    out.flush().with_context(failed)?;
    Ok(path)
}
