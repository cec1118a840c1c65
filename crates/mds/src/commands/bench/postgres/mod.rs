//! Made-up bars into PostgreSQL, against a bare binary COPY of the same rows into the same table, as
//! the same role, over as many connections.
//!
//! | arm | is |
//! |---|---|
//! | bare COPY | what the server takes from a client that only copies |
//! | sink, fresh | the sink alone, rows that are new |
//! | sink, replay | the same rows again: nothing is to be written |
//! | sink, newer | newer revisions of all of them |
//! | coordinator | the same rows, in memory, through the coordinator as `mds ingest` has it |
//! | ingest | `mds ingest` of the same rows as NDJSON, from the start of its process to its end |
//!
//! Counted against ours and not against the COPY: sorting, ranking, an answer for every row; for
//! `mds ingest` also starting, hashing and reading the file, parsing, validating, the queue, the
//! books, closing. After every arm the rows that the table holds are compared with those that it
//! must hold.

mod arms;

use self::arms::Arms;
use super::place::{Place, Server};
use super::{Bench, block_on, folder};
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  mds bench postgres
  mds bench postgres --fsync off
  mds bench postgres --arms coordinator --connections 4 --batch 500
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
    /// What is measured beside the bare COPY
    #[arg(long, value_name = "ARM,...", value_enum, value_delimiter = ',', default_values_t = [Arm::Sink, Arm::Coordinator, Arm::Ingest])]
    arms: Vec<Arm>,
    #[command(flatten)]
    server: Server,
}

/// What is measured beside the bare COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Arm {
    /// The sink alone: fresh rows, the same again, all newer
    Sink,
    /// Rows in memory through the coordinator
    Coordinator,
    /// `mds ingest` of a file
    Ingest,
}

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
