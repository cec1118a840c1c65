//! `mds audit`: proves that nothing is missing.

mod books;
mod files;

use std::path::{Path, PathBuf};

use mds_core::Kind;
use mds_core::settings::SettingFlag;
use mds_wal::{FileStorage, InspectError, Inspection};

use crate::commands::ingest::ReadingArgs;
use crate::context::Context;
use crate::durable;
use crate::exit::{Exit, Usage};
use crate::output::{grouped, note};
use crate::values;

const EXAMPLES: &str = "\
Examples:
  mds audit --queue disk:queue
  mds audit --queue disk:queue --kind bars prices.csv
  mds audit --kind bars prices.csv --vendor acme --json

Without files: prints, for each durable queue, that every record it has ever taken is accounted for
(accepted = written + superseded + dead-lettered + dropped + damaged + queued), the dead letters that
wait, and the rows of the store. With files: looks for each row, in the store (as it is in the file, or
one that wins over it), in the queue, or in a letter, and names the lines that are nowhere. The files
are read as `mds ingest` reads them, with the same flags.

What was damaged on the disk is counted for ever. A file whose rows are all there is whole all the
same; for the books of a queue, `mds wal accept-damage` says that the damage is settled.

Exit code 0: all is there; 1: something is missing or damaged, or could not be looked at; 2: wrong
usage.";

/// Arguments of `mds audit`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files whose rows are looked for
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files hold; without files: the queue of this kind only
    #[arg(long, value_parser = values::kind_parser())]
    kind: Option<Kind>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Where the durable queues are: disk:DIR
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The file of the dead letters [default: .dlq/KIND.ndjson]
    #[arg(long, value_name = "FILE")]
    dlq: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        let flags = [
            ("--tenant", self.reading.tenant()),
            ("--queue", self.queue.as_deref()),
            ("--dlq", self.dlq.as_deref()),
        ];
        flags
            .into_iter()
            .filter_map(|(flag, value)| value.map(|value| SettingFlag { flag, value }))
            .collect()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    durable::check_dir(context)?;
    match (args.files.is_empty(), args.kind) {
        (true, kind) => books::run(args, kind, context),
        (false, Some(kind)) => files::run(args, kind, context),
        (false, None) => Err(Usage::new("say what the files hold: --kind bars").into()),
    }
}

/// Looks into the folder of a queue; `None` where there is none.
fn look(folder: &Path) -> anyhow::Result<Option<Inspection>> {
    match mds_wal::inspect(&FileStorage::at(folder)) {
        Ok(found) => Ok(Some(found)),
        Err(InspectError::NoQueue) => Ok(None),
        Err(_) if !folder.exists() => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context(folder.display().to_string())),
    }
}

/// Refuses to look for the records of a queue in a store that they were never meant for.
fn check_store(kind: Kind, folder: &Path, found: &Inspection, store: &str) -> anyhow::Result<()> {
    let queue = folder.display();
    let wanted = durable::identity(kind, store);
    let what = match (found.is_for(&wanted), &found.identity) {
        (Some(true), _) => return Ok(()),
        (None, _) => {
            note(format_args!(
                "warning: nothing in {queue} says any more which store the queue is for: whether it \
                 is this one cannot be told"
            ));
            return Ok(());
        }
        (Some(false), Some(identity)) => {
            let other = durable::difference(identity, &wanted);
            format!("{other} ({identity}) than this one ({wanted})")
        }
        (Some(false), None) => {
            format!(
                "something else than this one ({wanted}): its header is gone, its segments say so"
            )
        }
    };
    let what = format!(
        "the queue {queue} was made for {what}; give --store, or --queue, that belong together"
    );
    Err(Usage::new(what).into())
}

fn records(count: u64) -> String {
    match count {
        1 => "1 record".to_owned(),
        n => format!("{} records", grouped(n)),
    }
}
