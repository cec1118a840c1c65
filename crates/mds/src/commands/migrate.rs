//! `mds migrate`: brings the tables of the store up to date.

use mds_store::{MigrationReport, OpenOptions, Store};
use serde_json::json;

use crate::context::{Context, opening_failed, with_passwords};
use crate::exit::Exit;
use crate::output::{Out, table};
use crate::runtime::block_on;

const EXAMPLES: &str = "\
Examples:
  mds migrate --plan
  mds migrate
  mds migrate --store sqlite:market.db --json

Commands that write migrate by themselves; this does it beforehand, or only says what is pending.";

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
    let report = block_on(async {
        let report = Store::migrate(&url, with_passwords(OpenOptions::default()), args.plan).await;
        report.map_err(|error| opening_failed(&url, error))
    })?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&json_of(&report))?;
    } else if !report.steps.is_empty() {
        let mut steps = table(&[">version", "what it does", "checksum"]);
        for step in &report.steps {
            let checksum = step.checksum.get(..12).unwrap_or(&step.checksum);
            steps.add_row([&step.version.to_string(), step.name, checksum]);
        }
        out.table(&steps)?;
    }
    out.finish()?;
    let MigrationReport { from, to, .. } = report;
    context.note(match (report.steps.is_empty(), report.applied) {
        (true, _) => format!("{url} is up to date at version {to}"),
        (false, true) => format!("{url} went from version {from} to {to}"),
        (false, false) => format!("{url} would go from version {from} to {to}"),
    });
    Ok(Exit::Success)
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
    })
}
