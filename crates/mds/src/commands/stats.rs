//! `mds stats`: what the store holds.

use std::io::Write as _;

use anyhow::Context as _;
use mds_core::Timestamp;
use mds_store::{Freshness, StoreStats};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, table};
use crate::runtime::block_on;

const EXAMPLES: &str = "\
Examples:
  mds stats
  mds stats --json
  mds stats --store sqlite:demo.db";

/// Arguments of `mds stats`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let (stats, revision) = block_on(async {
        let store = context.open_for_reading().await?;
        let stats = store.stats().await?;
        let revision = store.last_revision().await?;
        store.close().await;
        anyhow::Ok((stats, revision))
    })?;
    let store = context.settings.store().to_string();
    let mut out = Out::stdout();
    if args.json {
        let mut holdings = mds_server::holdings(&stats, revision);
        holdings.insert("store".to_owned(), store.into());
        out.json(&holdings.into())?;
    } else {
        print(&stats, &store, revision, &mut out)?;
    }
    out.finish()?;
    Ok(Exit::Success)
}

fn print(stats: &StoreStats, store: &str, revision: i64, out: &mut Out) -> anyhow::Result<()> {
    let shown = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |t| t.to_string());
    let mut kinds = table(&["kind", ">rows", ">series", "earliest", "latest"]);
    for k in &stats.kinds {
        kinds.add_row([
            k.kind.to_string(),
            k.rows.to_string(),
            k.series.to_string(),
            shown(k.earliest),
            shown(k.latest),
        ]);
    }
    out.table(&kinds)?;
    if !stats.freshness.is_empty() {
        writeln!(out).context("cannot write to standard output")?;
        out.table(&freshness_table(&stats.freshness))?;
    }
    let last = match revision {
        0 => "none".to_owned(),
        micros => Timestamp::from_micros(micros).to_string(),
    };
    let (file, log) = (bytes(stats.file_bytes), bytes(stats.log_bytes));
    writeln!(out, "\n{store}: {file}, log {log}, last revision {last}")
        .context("cannot write to standard output")
}

fn freshness_table(freshness: &[Freshness]) -> comfy_table::Table {
    let one_tenant = freshness
        .windows(2)
        .all(|pair| pair[0].tenant_id == pair[1].tenant_id);
    let tenant = (!one_tenant).then_some("tenant_id");
    let columns: Vec<&str> = ["kind"]
        .into_iter()
        .chain(tenant)
        .chain(["vendor", "timeframe", ">series", "latest"])
        .collect();
    let mut rows = table(&columns);
    for f in freshness {
        let span = f
            .timeframe
            .map_or_else(|| "-".to_owned(), |t| t.to_string());
        let tenant = (!one_tenant).then(|| f.tenant_id.to_string());
        let values = [
            f.vendor.to_string(),
            span,
            f.series.to_string(),
            f.latest.to_string(),
        ];
        rows.add_row([f.kind.to_string()].into_iter().chain(tenant).chain(values));
    }
    rows
}

/// A size for people: three digits and a binary unit.
pub(crate) fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut size = count as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1_024.0 {
            break;
        }
        size /= 1_024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{size:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
    }
}
