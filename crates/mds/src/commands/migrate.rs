//! `mds migrate`: brings the tables of the store up to date.

use std::io::Write as _;

use anyhow::Context as _;
use mds_store::{MigrationReport, OpenOptions, Store, StoreUrl};
use serde_json::json;

use crate::context::{Context, opening_failed};
use crate::exit::Exit;
use crate::output::{Out, table};
use crate::runtime::block_on;

const EXAMPLES: &str = "\
Examples:
  mds migrate --plan
  mds migrate
  mds migrate --store sqlite:market.db --json

`mds ingest` and `mds dlq replay` migrate by themselves; this does it beforehand, or only says what
is pending.";

/// Arguments of `mds migrate`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only say what would be done
    #[arg(long)]
    plan: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let url = context.store_url()?;
    let options = context.options(OpenOptions::default());
    let report = block_on(async {
        let report = Store::migrate(&url, options, args.plan).await;
        report.map_err(|error| opening_failed(&url, error))
    })?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&json_of(&report))?;
    } else {
        print(&mut out, &report)?;
    }
    out.finish()?;
    context.note(summary(&url, &report));
    Ok(if report.problems.is_empty() {
        Exit::Success
    } else {
        Exit::Failure
    })
}

fn print(out: &mut Out, report: &MigrationReport) -> anyhow::Result<()> {
    if !report.steps.is_empty() {
        let mut steps = table(&[">version", "what it does", "checksum"]);
        for step in &report.steps {
            let checksum = step.checksum.get(..12).unwrap_or(&step.checksum);
            steps.add_row([&step.version.to_string(), step.name, checksum]);
        }
        out.table(&steps)?;
    }
    let lines = [
        ("", &report.actions),
        ("note: ", &report.notes),
        ("in the way: ", &report.problems),
    ];
    for (label, lines) in lines {
        for line in lines {
            writeln!(out, "{label}{line}").context("cannot write to standard output")?;
        }
    }
    Ok(())
}

/// What the run comes to.
fn summary(url: &StoreUrl, report: &MigrationReport) -> String {
    let (from, to) = (report.from, report.to);
    let done = if report.applied {
        "was done"
    } else {
        "would be done"
    };
    if !report.problems.is_empty() {
        return format!("{url} would be left as it is: change what is in the way first");
    }
    match (report.steps.is_empty(), report.applied) {
        (true, _) if report.actions.is_empty() => format!("{url} is up to date at version {to}"),
        (true, _) => format!("{url} is at version {to}; what its settings ask for {done}"),
        (false, true) => format!("{url} went from version {from} to {to}"),
        (false, false) => format!("{url} would go from version {from} to {to}"),
    }
}

fn json_of(report: &MigrationReport) -> serde_json::Value {
    let steps = report.steps.iter().map(
        |step| json!({ "version": step.version, "name": step.name, "checksum": step.checksum }),
    );
    json!({
        "from": report.from,
        "to": report.to,
        "applied": report.applied,
        "steps": steps.collect::<serde_json::Value>(),
        "actions": report.actions,
        "notes": report.notes,
        "problems": report.problems,
    })
}
