//! `mds dlq show`: letters whole.

use std::io::Write as _;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{Entry, LetterFilter};
use serde_json::Value;
use uuid::Uuid;

use super::list::json_of;
use super::queues;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Out;

const EXAMPLES: &str = "\
Examples:
  mds dlq show 1f0c2b9e-6a53-5d5e-9d1c-0b1d3c1a7f10

`mds dlq list` prints the ids.";

/// Arguments of `mds dlq show`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The ids of the letters
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Uuid>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut missing = args.ids.clone();
    let mut out = Out::stdout();
    for dlq in queues::<Value>(context)? {
        let filter = LetterFilter {
            ids: args.ids.clone(),
            ..LetterFilter::default()
        };
        for entry in dlq.scan(filter)? {
            let Entry::Letter(letter) = entry? else {
                continue;
            };
            missing.retain(|id| *id != letter.id);
            writeln!(out, "{:#}", json_of(&letter)).context("cannot write to standard output")?;
        }
    }
    out.finish()?;
    if missing.is_empty() {
        return Ok(Exit::Success);
    }
    let ids: Vec<String> = missing.iter().map(Uuid::to_string).collect();
    anyhow::bail!(
        "there is no dead letter {}; `mds dlq list` prints the ids",
        ids.join(", ")
    )
}
