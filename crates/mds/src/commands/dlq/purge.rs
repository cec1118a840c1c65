//! `mds dlq purge`: gives letters up for good.

use mds_coordinator::dead_letter::LetterFilter;
use serde_json::Value;

use super::{Letters, queues};
use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::{Exit, Usage};

const EXAMPLES: &str = "\
Examples:
  mds dlq purge --reason invalid --until 2024-11-01
  mds dlq purge --id 1f0c2b9e-6a53-5d5e-9d1c-0b1d3c1a7f10 --yes
  mds dlq purge --damaged --yes
  mds dlq purge --all --yes

Says how many letters it will give up and asks; where nobody can answer, it needs --yes.
Times are written as 2024-11-01 (midnight UTC) or 2024-11-01T09:30:00-05:00.";

/// Arguments of `mds dlq purge`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    letters: Letters,
    /// Every letter
    #[arg(long, help_heading = "Which letters")]
    all: bool,
    /// The lines that are no letters
    #[arg(long, help_heading = "Which letters")]
    damaged: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let filter = args.letters.filter();
    let with_letters = args.all || !filter.selects_everything();
    if !with_letters && !args.damaged {
        let what = "say which letters to give up, such as --reason invalid, or --all";
        return Err(Usage::new(what).into());
    }
    if args.all && !filter.selects_everything() {
        return Err(Usage::new("--all is every letter; leave it out to give up a part").into());
    }
    let (letters, damaged) = count(args, with_letters, context)?;
    if letters + damaged == 0 {
        context.note("there are no such letters");
        return Ok(Exit::Success);
    }
    let mut what = Vec::new();
    if letters > 0 {
        what.push(format!("{letters} dead letters"));
    }
    if damaged > 0 {
        what.push(format!("{damaged} damaged lines"));
    }
    let what = what.join(" and ");
    if !confirm(&format!("this gives up {what} for good"), args.yes)? {
        context.note("nothing was given up");
        return Ok(Exit::Success);
    }
    for dlq in queues::<Value>(context)? {
        // The library makes lock files beside the letters, so that it is not asked about nothing.
        if dlq.letter_files()?.is_empty() {
            continue;
        }
        if with_letters {
            dlq.purge(filter.clone())?;
        }
        if args.damaged {
            dlq.purge_damaged()?;
        }
    }
    context.note(format_args!("gave up {what}"));
    Ok(Exit::Success)
}

/// Letters and damaged lines that would go.
fn count(args: &Args, with_letters: bool, context: &Context) -> anyhow::Result<(u64, u64)> {
    let (mut letters, mut damaged) = (0, 0);
    for dlq in queues::<Value>(context)? {
        if with_letters {
            letters += dlq.histogram(args.letters.filter())?.letters;
        }
        if args.damaged {
            damaged += dlq.histogram(LetterFilter::default())?.damaged;
        }
    }
    Ok((letters, damaged))
}
