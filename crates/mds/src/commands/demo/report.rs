//! What the demo tells: the time table while it runs, the books at the end.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::Stats;
use mds_core::Kind;

use super::faults::Faults;
use crate::commands::ingest::Progress;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, grouped, table, unless_closed};

/// What became of the records of one kind.
pub(super) struct KindReport {
    pub(super) kind: Kind,
    pub(super) sent: u64,
    pub(super) stats: Stats,
    /// Records that the store had to refuse.
    pub(super) poison: u64,
    /// Rows that the store must hold.
    pub(super) expected: u64,
    /// Rows that it holds.
    pub(super) stored: u64,
    /// Rows that it holds and that are not as they must be.
    pub(super) wrong: u64,
    pub(super) dlq: PathBuf,
}

impl KindReport {
    fn is_balanced(&self) -> bool {
        let stats = &self.stats;
        stats.is_balanced()
            && stats.queued + stats.in_flight == 0
            && stats.submitted == self.sent
            && stats.dead_lettered.total() == self.poison
            && stats.dropped.total() == 0
            && self.stored == self.expected
            && self.wrong == 0
    }
}

/// Says what happens, as it happens.
pub(super) async fn announce(length: Duration, context: &Context, progress: &Progress) {
    let began = tokio::time::Instant::now();
    for (percent, what) in [
        (
            0,
            "records of four kinds flow; every 25th write meets a deadlock",
        ),
        (20, "the store goes away"),
        (40, "the store is back"),
        (50, "commits succeed, their answers are lost"),
        (62, "the sink panics"),
        (75, "one write never answers"),
        (100, "all records are sent; what is queued is written"),
    ] {
        let at = length * percent / 100;
        tokio::time::sleep_until(began + at).await;
        if !context.quiet {
            progress.println(&format!("{:>5.1} s  {what}", at.as_secs_f64()));
        }
    }
}

/// Prints the books, and answers with the exit code.
pub(super) fn tell(
    reports: &[KindReport],
    faults: &Faults,
    database: &Path,
) -> anyhow::Result<Exit> {
    let balanced = reports.iter().all(KindReport::is_balanced);
    unless_closed(print(reports, faults, database, balanced))?;
    Ok(if balanced {
        Exit::Success
    } else {
        Exit::Failure
    })
}

fn print(
    reports: &[KindReport],
    faults: &Faults,
    database: &Path,
    balanced: bool,
) -> anyhow::Result<()> {
    let mut out = Out::stdout();
    let failed = "cannot print the report";
    writeln!(out, "\nFaults injected:").context(failed)?;
    for (what, count) in faults.struck() {
        writeln!(out, "  {:>7}  {what}", grouped(count)).context(failed)?;
    }
    writeln!(out, "\nEvery row accounted for:\n").context(failed)?;
    let mut books = table(&[
        "kind",
        ">submitted",
        ">written",
        ">superseded",
        ">dead-lettered",
        ">dropped",
        ">rows in store",
        ">expected",
        "books",
    ]);
    for report in reports {
        let stats = &report.stats;
        let verdict = if report.is_balanced() {
            "balanced"
        } else {
            "NOT BALANCED"
        };
        books.add_row([
            report.kind.to_string(),
            grouped(stats.submitted),
            grouped(stats.written),
            grouped(stats.superseded),
            grouped(stats.dead_lettered.total()),
            grouped(stats.dropped.total()),
            grouped(report.stored),
            grouped(report.expected),
            verdict.to_owned(),
        ]);
    }
    out.table(&books)?;
    let all = if balanced {
        "submitted = written + superseded + dead-lettered + dropped, and each row in the store was\n\
         compared with the one that must be there: all equal."
    } else {
        "The books do not balance. That is a fault of this program; please report it."
    };
    writeln!(out, "\n{all}\n").context(failed)?;
    let letters = reports
        .first()
        .map(|r| r.dlq.display().to_string())
        .unwrap_or_default();
    writeln!(
        out,
        "Next (mds is `cargo run --release --` here):\n\
         \x20 mds query bars --symbol AAPL --limit 5 --store sqlite:{db}\n\
         \x20 mds stats --store sqlite:{db}\n\
         \x20 mds dlq list --dlq {letters}\n\
         \x20 mds ingest bars YOUR-FILE.csv --store sqlite:market.db",
        db = database.display()
    )
    .context(failed)?;
    out.finish()
}
