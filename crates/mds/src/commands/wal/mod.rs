//! `mds wal`: looks into the folder of a durable queue, whether a process uses it or not, and keeps what
//! a person says of its damage.

mod accept;
mod inspect;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use mds_wal::{Damage, FileStorage, InspectError, Inspection};
use serde_json::{Value, json};

use crate::context::Context;
use crate::durable::is_past_lost;
use crate::exit::{Exit, Usage, told};
use crate::output::{note, table};

const EXAMPLES: &str = "\
Examples:
  mds wal inspect queue
  mds wal verify queue/bars
  mds wal verify queue --json | jq .waiting
  mds wal accept-damage queue/bars

inspect and verify change nothing and lock nothing: the process that uses the queue may run
meanwhile.";

/// How the commands end, for their help.
const EXIT_CODES: &str = "\
Exit code 0: whole; 3: records or bytes that were durable are damaged, or both checkpoints are lost,
and with them what became of the records; 1: it cannot be read; 2: there is no durable queue. What a power loss has left of a write that nobody was told to be
durable (torn) is no damage, and neither is one of two copies (copy).";

/// Arguments of `mds wal`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what a durable queue holds
    Inspect(inspect::Args),
    /// Read a durable queue from beginning to end, and show every part that is damaged
    Verify(verify::Args),
    /// Say that what a durable queue has lost is known and settled, so that only new damage is told
    AcceptDamage(accept::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    match &args.what {
        What::Inspect(args) => inspect::run(args),
        What::Verify(args) => verify::run(args, context),
        What::AcceptDamage(args) => accept::run(args, context),
    }
}

/// Which queues, and how to show them.
#[derive(clap::Args, Debug)]
struct Which {
    /// The folder of a queue, or one whose subfolders are queues, one a coordinator
    dir: PathBuf,
    /// Print one JSON object a queue instead of tables
    #[arg(long)]
    json: bool,
}

impl Which {
    /// Looks at each queue and tells what was found. One that cannot be read keeps no other from
    /// being told. Answers with the worst end.
    fn each<T>(
        &self,
        look: impl Fn(&FileStorage) -> Result<T, InspectError>,
        mut tell: impl FnMut(&Path, T) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        let mut worst = Exit::Success;
        for dir in self.queues()? {
            let exit = match look(&FileStorage::at(&dir)) {
                Ok(found) => tell(&dir, found)?,
                Err(error) => {
                    let error = anyhow::Error::new(error).context(dir.display().to_string());
                    note(format_args!("error: {}", told(&error)));
                    Exit::Failure
                }
            };
            worst = worst.worst(exit);
        }
        Ok(worst)
    }

    /// The folders of queues: the one that was named, or those in it.
    fn queues(&self) -> anyhow::Result<Vec<PathBuf>> {
        if is_queue(&self.dir)? {
            return Ok(vec![self.dir.clone()]);
        }
        let mut queues = Vec::new();
        for entry in std::fs::read_dir(&self.dir).with_context(|| cannot_read(&self.dir))? {
            let path = entry.with_context(|| cannot_read(&self.dir))?.path();
            if path.is_dir() && is_queue(&path)? {
                queues.push(path);
            }
        }
        queues.sort();
        if queues.is_empty() {
            let dir = self.dir.display();
            let message = format!("{dir}: there is no durable queue in it, nor in its subfolders");
            return Err(Usage::new(message).into());
        }
        Ok(queues)
    }
}

fn cannot_read(dir: &Path) -> String {
    format!("{}: cannot read the folder", dir.display())
}

fn is_queue(dir: &Path) -> anyhow::Result<bool> {
    mds_wal::is_queue(&FileStorage::at(dir)).with_context(|| cannot_read(dir))
}

/// The damaged parts of files, one a line.
fn damage_table(damages: &[Damage]) -> comfy_table::Table {
    let columns = [
        "damage",
        "file",
        ">from byte",
        ">to byte",
        ">records lost",
        ">first",
    ];
    let mut rows = table(&columns);
    for damage in damages {
        let first = match damage.records {
            0 => "-".to_owned(),
            _ => damage.first.to_string(),
        };
        rows.add_row([
            damage.kind.as_str(),
            &damage.file,
            &damage.bytes.start.to_string(),
            &damage.bytes.end.to_string(),
            &damage.records.to_string(),
            &first,
        ]);
    }
    rows
}

fn json_of_damages(damages: &[Damage]) -> Value {
    let one = |damage: &Damage| {
        json!({
            "kind": damage.kind.as_str(), "file": damage.file,
            "from": damage.bytes.start, "to": damage.bytes.end,
            "records": damage.records,
            "first": (damage.records > 0).then_some(damage.first),
        })
    };
    damages.iter().map(one).collect()
}

/// Whether nothing is lost that was durable, what is known of the records included.
fn is_whole(found: &Inspection) -> bool {
    found.is_whole() && !is_past_lost(found)
}

fn exit_of(found: &Inspection) -> Exit {
    if is_whole(found) {
        Exit::Success
    } else {
        Exit::Incomplete
    }
}

fn records(count: u64) -> String {
    match count {
        1 => "1 record".to_owned(),
        n => format!("{n} records"),
    }
}
