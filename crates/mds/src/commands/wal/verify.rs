//! `mds wal verify`: reads a durable queue from beginning to end.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use mds_wal::Verification;
use serde_json::{Value, json};

use super::{EXIT_CODES, Which, damage_table, exit_of, is_whole, json_of_damages, records};
use crate::context::Context;
use crate::durable::{PAST_LOST, is_past_lost};
use crate::exit::Exit;
use crate::output::Out;

const EXAMPLES: &str = "\
Examples:
  mds wal verify queue
  mds wal verify queue/bars --json | jq '.damages[]'
";

/// Arguments of `mds wal verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut out = Out::stdout();
    let exit = args.which.each(
        |storage| mds_wal::verify(storage),
        |dir, found| {
            if args.which.json {
                out.json(&json_of(dir, &found))?;
            } else {
                print(dir, &found, &mut out)?;
            }
            Ok(exit_of(&found.inspection))
        },
    )?;
    out.finish()?;
    if exit == Exit::Incomplete {
        context.note(
            "what is damaged is set aside, told and passed over when the queue is opened; \
             everything else in it is delivered",
        );
    }
    Ok(exit)
}

fn json_of(dir: &Path, found: &Verification) -> Value {
    json!({
        "dir": dir.display().to_string(),
        "identity": found.inspection.identity,
        "segments": found.inspection.segments.len(),
        "records": found.records,
        "settled": found.settled,
        "waiting": found.waiting,
        "lost": found.inspection.lost(),
        "whole": is_whole(&found.inspection),
        "past_lost": is_past_lost(&found.inspection),
        "damages": json_of_damages(&found.inspection.damages),
    })
}

fn print(dir: &Path, found: &Verification, out: &mut Out) -> anyhow::Result<()> {
    let inspection = &found.inspection;
    let verdict = match inspection.lost() {
        0 if inspection.is_whole() => "nothing is damaged".to_owned(),
        0 => "there is damage, no record that waits is known to be lost".to_owned(),
        n => format!("{} lost", records(n)),
    };
    writeln!(
        out,
        "{}: {} in {} whole, {} settled and {} waiting; {verdict}",
        dir.display(),
        records(found.records),
        segments(inspection.segments.len()),
        found.settled,
        found.waiting,
    )
    .context("cannot write to standard output")?;
    if is_past_lost(inspection) {
        writeln!(out, "{}: {PAST_LOST}", dir.display())
            .context("cannot write to standard output")?;
    }
    if !inspection.damages.is_empty() {
        out.table(&damage_table(&inspection.damages))?;
    }
    Ok(())
}

fn segments(count: usize) -> String {
    match count {
        1 => "1 segment".to_owned(),
        n => format!("{n} segments"),
    }
}
