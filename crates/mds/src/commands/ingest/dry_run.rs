//! `--dry-run`: reads and checks, and writes nothing.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use mds_core::Kind;
use mds_formats::{InvalidRow, Options};

use super::Args;
use super::input::{self, Input};
use super::read::{self, Said};
use super::report::Tally;
use super::revise::Revisions;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, grouped, note, unless_closed};
use crate::pipeline::MarketRecord;

/// Bad rows that are shown.
const SHOWN: usize = 10;

/// Reads all inputs.
pub(super) async fn run<R: MarketRecord>(
    inputs: &[Input],
    options: &Options,
    args: &Args,
    context: &Context,
) -> anyhow::Result<Exit> {
    let mut tally = Tally::default();
    let started = std::time::Instant::now();
    for input in inputs {
        let base = args.revision.unwrap_or_else(input::now);
        let revisions = Revisions::from(base, "--revision");
        let mut said =
            read::start::<R>(input.clone(), options.clone(), revisions, 0, Arc::default())
                .context("cannot start the thread that reads")?;
        while let Some(next) = said.recv().await {
            match next {
                Said::Notes(notes) => {
                    for note in notes {
                        context.note(format_args!("{}: {note}", input.name()));
                    }
                }
                Said::Chunk(chunk) => {
                    tally.accepted += chunk.records.len() as u64;
                    for (reason, rows) in chunk.skipped {
                        *tally.skipped.entry(reason).or_insert(0) += rows;
                    }
                    show(&chunk.invalid, tally.invalid);
                    tally.invalid += chunk.invalid.len() as u64;
                }
                Said::Ended => {}
                Said::Failed(error) => tally.errors.push((error.exit(), error.told())),
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    tell(R::KIND, &tally, seconds, args.json)
}

fn show(invalid: &[InvalidRow], before: u64) {
    let left = SHOWN.saturating_sub(usize::try_from(before).unwrap_or(usize::MAX));
    for row in invalid.iter().take(left) {
        let (path, line, rule) = (&row.origin.path, row.origin.line, &row.rule);
        if row.value.is_empty() {
            note(format_args!("{path}:{line}: {}: {rule}", row.field));
        } else {
            let (field, value) = (&row.field, &row.value);
            note(format_args!("{path}:{line}: {field} = {value:?}: {rule}"));
        }
    }
}

fn tell(kind: Kind, tally: &Tally, seconds: f64, json: bool) -> anyhow::Result<Exit> {
    let mut exit = if tally.invalid > 0 {
        Exit::Incomplete
    } else {
        Exit::Success
    };
    for (code, error) in &tally.errors {
        note(format_args!("error: {error}"));
        exit = exit.worst(*code);
    }
    unless_closed(print(kind, tally, seconds, json))?;
    Ok(exit)
}

fn print(kind: Kind, tally: &Tally, seconds: f64, json: bool) -> anyhow::Result<()> {
    let skipped: u64 = tally.skipped.values().sum();
    let mut out = Out::stdout();
    if json {
        out.json(&serde_json::json!({
            "dry_run": true,
            "read": tally.read(),
            "valid": tally.accepted,
            "invalid": tally.invalid,
            "skipped": skipped,
            "seconds": (seconds * 1_000.0).round() / 1_000.0,
        }))?;
    } else {
        writeln!(
            out,
            "{kind}, dry run: {} rows read, {} valid, {} invalid, {} skipped; nothing was written",
            grouped(tally.read()),
            grouped(tally.accepted),
            grouped(tally.invalid),
            grouped(skipped)
        )
        .context("cannot print the report")?;
    }
    out.finish()
}
