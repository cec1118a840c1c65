//! `mds wal accept-damage`: a person's word that what was lost is settled.

use std::path::Path;

use anyhow::Context as _;
use mds_coordinator::DurableTotals;
use mds_wal::{FileStorage, Storage as _};
use serde_json::json;

use super::{Which, records};
use crate::confirm::confirm;
use crate::context::{Context, now};
use crate::durable;
use crate::exit::Exit;
use crate::lost::{Accepted, is_settled};
use crate::output::{Out, grouped, note};

const EXAMPLES: &str = "\
Examples:
  mds audit --queue disk:queue --kind bars prices.csv
  mds wal accept-damage queue/bars --reason 'prices.csv was ingested again'
  mds wal accept-damage queue --yes

The totals of a queue count for ever what was damaged on the disk, and `mds audit` fails because of
it. Once the rows are in again, or given up, this says so: `mds audit` tells of what was accepted,
and fails again when more is lost. What is accepted is kept in the folder of the queue, in
accepted-damage.json. No process may use the queue meanwhile.

Exit code 0: what is lost is accepted; 1: a queue is in use, cannot be read, or holds more than it
has taken; 2: there is no durable queue, or nobody has said yes.";

/// Arguments of `mds wal accept-damage`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Why it is no loss; `mds audit` shows it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut out = Out::stdout();
    let exit = args
        .which
        .each(|_| Ok(()), |dir, ()| accept(args, dir, &mut out, context))?;
    out.finish()?;
    Ok(exit)
}

fn accept(args: &Args, dir: &Path, out: &mut Out, context: &Context) -> anyhow::Result<Exit> {
    let queue = dir.display();
    // What is counted while records come and go may be wrong by some of them.
    let storage = FileStorage::at(dir);
    let failed = || format!("{queue}: cannot use the queue");
    let Some(_alone) = storage.lock().with_context(failed)? else {
        note(format_args!(
            "error: {queue}: the queue is open in another process; stop it first"
        ));
        return Ok(Exit::Failure);
    };
    let found = mds_wal::inspect(&storage).with_context(failed)?;
    let totals = durable::totals_of(&found);
    let Some(lost) = totals.lost() else {
        note(format_args!(
            "error: {queue}: more records have a fate than were ever taken; make a new queue"
        ));
        return Ok(Exit::Failure);
    };
    let before = Accepted::read(dir, &totals)?;
    let accepted = if is_settled(&totals, before.as_ref()) {
        context.note(format_args!(
            "{queue}: nothing is lost that is not accepted"
        ));
        before.map_or(0, |before| before.records)
    } else {
        if !confirm(
            &format!("this accepts {}", whole(&totals, lost, dir)),
            args.yes,
        )? {
            context.note("nothing was accepted");
            return Ok(Exit::Failure);
        }
        let unknown = save(args, dir, &totals, lost)?;
        let damaged = lost - unknown;
        if damaged > 0 {
            let are = if damaged == 1 { "is" } else { "are" };
            context.note(format_args!(
                "{queue}: {} {are} accepted as lost",
                records(damaged)
            ));
        }
        if unknown > 0 {
            context.note(format_args!(
                "{queue}: it is accepted that nobody knows what became of {}",
                records(unknown)
            ));
        }
        lost
    };
    if args.which.json {
        let dir = queue.to_string();
        out.json(&json!({ "dir": dir, "lost": lost, "lost_accepted": accepted }))?;
    }
    Ok(Exit::Success)
}

/// What is to be accepted.
fn whole(totals: &DurableTotals, lost: u64, dir: &Path) -> String {
    let (all, queue) = (grouped(totals.accepted), dir.display());
    let unknown = totals.unknown().unwrap_or(0);
    let damaged = lost - unknown;
    let are = if damaged == 1 { "is" } else { "are" };
    let damaged_of = grouped(damaged);
    match (damaged, unknown) {
        (_, 0) => format!("that {damaged_of} of {all} records of {queue} {are} lost"),
        (0, n) => format!(
            "that nobody knows what became of {} of {all} records of {queue}",
            grouped(n)
        ),
        (_, n) => format!(
            "that {damaged_of} of {all} records of {queue} {are} lost, and that nobody knows what \
             became of {} more",
            grouped(n)
        ),
    }
}

/// Keeps it; answers how many of the records were not damaged.
fn save(args: &Args, dir: &Path, totals: &DurableTotals, lost: u64) -> anyhow::Result<u64> {
    let unknown = totals.unknown().unwrap_or(0);
    let accepted = Accepted {
        records: lost,
        unknown,
        of: totals.accepted,
        at: now().to_string(),
        reason: args.reason.clone(),
    };
    accepted.save(dir)?;
    Ok(unknown)
}
