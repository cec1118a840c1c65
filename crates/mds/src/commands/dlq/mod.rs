//! `mds dlq`: the records that were given up.

mod list;
mod purge;
mod replay;
mod show;

use std::path::PathBuf;

use clap::Subcommand;
use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, LetterFilter, Reason};
use mds_core::settings::SettingFlag;
use mds_core::{Kind, Symbol, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::context::Context;
use crate::exit::Exit;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  mds dlq list
  mds dlq show 1f0c2b9e-6a53-5d5e-9d1c-0b1d3c1a7f10
  mds dlq replay --dry-run
  mds dlq purge --reason invalid

Letters are read from .dlq/bars.ndjson, options.ndjson, fundamentals.ndjson and news.ndjson, or
from the one file that --dlq or MDS_DLQ_PATH names.";

/// Arguments of `mds dlq`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// The file of letters
    #[arg(long, value_name = "FILE", global = true)]
    dlq: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List letters, oldest first, or count them
    List(list::Args),
    /// Print letters whole
    Show(show::Args),
    /// Put letters back into the store
    Replay(replay::Args),
    /// Give letters up for good
    Purge(purge::Args),
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        let workers = match &self.what {
            What::Replay(args) => args.workers.as_deref(),
            _ => None,
        };
        [("--dlq", self.dlq.as_deref()), ("--workers", workers)]
            .into_iter()
            .filter_map(|(flag, value)| value.map(|value| SettingFlag { flag, value }))
            .collect()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if args.dlq.is_some() {
        refuse_missing(context)?;
    }
    match &args.what {
        What::List(args) => list::run(args, context),
        What::Show(args) => show::run(args, context),
        What::Replay(args) => replay::run(args, context),
        What::Purge(args) => purge::run(args, context),
    }
}

/// Which letters.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Which letters")]
struct Letters {
    /// With this id; may be given several times
    #[arg(long = "id", value_name = "UUID")]
    ids: Vec<Uuid>,
    /// Of this kind of record
    #[arg(long, value_name = "KIND", value_parser = values::kind_parser())]
    kind: Option<Kind>,
    /// Given up for this reason, such as invalid or overflow
    #[arg(long, value_name = "REASON")]
    reason: Option<Reason>,
    /// With this code of the store or of the broken rule
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// About this instrument
    #[arg(long, short, value_name = "SYMBOL", value_parser = values::symbol)]
    symbol: Option<Symbol>,
    /// Given up at this time or later
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    from: Option<Timestamp>,
    /// Given up before this time
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    until: Option<Timestamp>,
}

impl Letters {
    fn filter(&self) -> LetterFilter {
        LetterFilter {
            ids: self.ids.clone(),
            reason: self.reason,
            code: self.code.clone(),
            kind: self.kind.map(|kind| kind.to_string()),
            coord_id: None,
            symbol: self.symbol.as_ref().map(Symbol::to_string),
            from: self.from.map(epoch_seconds),
            until: self.until.map(epoch_seconds),
            limit: None,
        }
    }
}

/// The files of letters that the settings name, oldest kind first. They need not exist.
fn queues<T>(context: &Context) -> anyhow::Result<Vec<DeadLetterQueue<T>>> {
    let mut paths: Vec<PathBuf> = Kind::ALL.map(|kind| context.dlq_path(kind)).into();
    paths.dedup();
    let open = |path| Ok(DeadLetterQueue::at(path, DlqOptions::default())?);
    paths.into_iter().map(open).collect()
}

/// Refuses a file that was named on the command line and of which there is nothing: its name is
/// misspelt. Where letters lie by the settings, there need not be any.
fn refuse_missing(context: &Context) -> anyhow::Result<()> {
    let Some(path) = context.settings.dlq_path() else {
        return Ok(());
    };
    let beside = ["", ".settled", ".lock", ".replay.lock"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    });
    let dlq = DeadLetterQueue::<Value>::at(path, DlqOptions::default())?;
    if beside.iter().any(|file| file.exists()) || !dlq.letter_files()?.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "{}: there is no such file, nor one that belongs to it; a file of dead letters is there \
         while letters are in it",
        path.display()
    )
}

fn epoch_seconds(time: Timestamp) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "letters hold their time in milliseconds"
    )]
    let micros = time.micros() as f64;
    micros / 1e6
}

/// The time of a letter, which may be anything that another program wrote.
fn time_of(ts: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
    let millis = (ts * 1e3).round() as i64;
    Timestamp::from_millis(millis).map_or_else(|| ts.to_string(), |time| time.to_string())
}
