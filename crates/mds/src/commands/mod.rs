//! The commands: one file each, with its arguments and a `run(args, &Context) -> Result<Exit>`.
//!
//! A new command is a file here, a variant of [`Command`] and an arm in [`Command::run`]; if some
//! of its flags stand for settings, also an arm in [`Command::setting_flags`].

mod audit;
mod bench;
mod config;
mod delete;
mod demo;
mod dlq;
mod export;
mod health;
mod ingest;
mod latest;
mod migrate;
mod query;
mod selftest;
mod serve;
mod stats;
mod wal;

use clap::Subcommand;
use mds_core::settings::SettingFlag;

use crate::context::Context;
use crate::exit::Exit;

/// What `mds` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the write path on made-up data, with faults
    Demo(demo::Args),
    /// Take files into the store
    Ingest(Box<ingest::Args>),
    /// Take rows over HTTP, and answer what became of each
    Serve(serve::Args),
    /// Print records
    Query(query::Args),
    /// Print the last price of each instrument
    Latest(latest::Args),
    /// Print what the store holds
    Stats(stats::Args),
    /// Write records to a file
    Export(export::Args),
    /// Delete records
    Delete(delete::Args),
    /// Look at the records that were given up, or give them up for good
    Dlq(dlq::Args),
    /// Look into a durable queue
    Wal(wal::Args),
    /// Prove that nothing is missing: the books of durable queues, and files row by row
    Audit(Box<audit::Args>),
    /// Try to make the durable queue lose something, on your own disk
    Selftest(selftest::Args),
    /// Bring the tables of the store up to date
    Migrate(migrate::Args),
    /// Check that the store can be written to
    Health(health::Args),
    /// Show or check the settings
    Config(config::Args),
    /// Measure the write path on this machine
    Bench(bench::Args),
}

impl Command {
    /// The flags of the command that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        match self {
            Self::Ingest(args) => args.setting_flags(),
            Self::Serve(args) => args.setting_flags(),
            Self::Query(args) => args.setting_flags(),
            Self::Latest(args) => args.setting_flags(),
            Self::Export(args) => args.setting_flags(),
            Self::Delete(args) => args.setting_flags(),
            Self::Dlq(args) => args.setting_flags(),
            Self::Audit(args) => args.setting_flags(),
            Self::Demo(_)
            | Self::Stats(_)
            | Self::Wal(_)
            | Self::Selftest(_)
            | Self::Migrate(_)
            | Self::Health(_)
            | Self::Config(_)
            | Self::Bench(_) => Vec::new(),
        }
    }

    /// Whether it makes faults on purpose, which are no news in a log.
    pub(crate) fn makes_faults(&self) -> bool {
        match self {
            Self::Demo(_) => true,
            Self::Selftest(args) => args.makes_faults(),
            _ => false,
        }
    }

    /// Does it.
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Demo(args) => demo::run(&args, context),
            Self::Ingest(args) => ingest::run(&args, context),
            Self::Serve(args) => serve::run(&args, context),
            Self::Query(args) => query::run(&args, context),
            Self::Latest(args) => latest::run(&args, context),
            Self::Stats(args) => stats::run(&args, context),
            Self::Export(args) => export::run(&args, context),
            Self::Delete(args) => delete::run(&args, context),
            Self::Dlq(args) => dlq::run(&args, context),
            Self::Wal(args) => wal::run(&args, context),
            Self::Audit(args) => audit::run(&args, context),
            Self::Selftest(args) => selftest::run(&args, context),
            Self::Migrate(args) => migrate::run(&args, context),
            Self::Health(args) => health::run(&args, context),
            Self::Config(args) => config::run(&args, context),
            Self::Bench(args) => bench::run(&args, context),
        }
    }
}
