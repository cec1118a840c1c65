//! What is told at the end: one table or one JSON object, and the exit code.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use mds_coordinator::{Refusal, Stats};
use mds_core::{Kind, Sourced};
use mds_formats::{InvalidRow, Options};
use serde::Serialize;

use super::Args;
use super::input::Input;
use super::read::{self, Said};
use super::watch::Stop;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, note};
use crate::pipeline::MarketRecord;

/// Bad rows that a dry run shows.
const SHOWN: usize = 10;

/// What is counted beside the coordinator's books.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Records that the coordinator accepted.
    pub(super) accepted: u64,
    /// Rows that are no records; each has its letter.
    pub(super) invalid: u64,
    /// Records that were not accepted, and rows whose letter could not be written.
    pub(super) refused: u64,
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// What went wrong with an input, or with one record.
    pub(super) errors: Vec<(Exit, String)>,
    /// The first line that was read and not taken.
    pub(super) not_taken: Option<String>,
    pub(super) stop: Option<Stop>,
}

impl Tally {
    /// Records that the inputs held, as far as they were taken.
    pub(super) const fn read(&self) -> u64 {
        self.accepted + self.invalid + self.refused
    }

    pub(super) fn note_not_taken<R>(&mut self, records: &VecDeque<Sourced<R>>) {
        if let Some(origin) = records.front().and_then(|r| r.origin.as_ref()) {
            self.not_taken
                .get_or_insert_with(|| format!("{}:{}", origin.path, origin.line));
        }
    }

    pub(super) fn note_refused<R>(&mut self, record: &Sourced<R>, refusal: Refusal) {
        /// Refused records that are told one by one.
        const TOLD: usize = 20;
        if self.errors.len() < TOLD {
            let place = record
                .origin
                .as_ref()
                .map_or_else(|| "record".to_owned(), |o| format!("{}:{}", o.path, o.line));
            self.errors
                .push((Exit::Incomplete, format!("{place}: {refusal}")));
        }
    }
}

/// The numbers of a run, as `--json` names them, in its order.
#[derive(Serialize)]
struct Totals {
    read: u64,
    written: u64,
    superseded: u64,
    dead_lettered: u64,
    dropped: u64,
    refused: u64,
    recovered: u64,
    skipped: u64,
    seconds: f64,
    rows_per_second: f64,
}

impl Totals {
    fn new(tally: &Tally, stats: &Stats, seconds: f64) -> Self {
        Self {
            read: tally.read(),
            written: stats.written,
            superseded: stats.superseded,
            dead_lettered: stats.dead_lettered.total() + tally.invalid,
            dropped: stats.dropped.total(),
            refused: tally.refused,
            recovered: stats.recovered,
            skipped: tally.skipped.values().sum(),
            seconds: (seconds * 1_000.0).round() / 1_000.0,
            rows_per_second: rate(tally.read(), seconds),
        }
    }

    fn is_balanced(&self) -> bool {
        self.read
            == self.written + self.superseded + self.dead_lettered + self.dropped + self.refused
    }

    fn text(&self, kind: Kind, tally: &Tally) -> String {
        let mut lines = Vec::new();
        let mut line = |name: &str, rows: u64, why: &str| {
            let text = format!("  {name:<14}{:>14}  {why}", grouped(rows));
            lines.push(text.trim_end().to_owned());
        };
        let skipped: Vec<String> = tally
            .skipped
            .iter()
            .map(|(why, rows)| format!("{why} {}", grouped(*rows)))
            .collect();
        line("read", self.read, "");
        line("written", self.written, "");
        line("superseded", self.superseded, "");
        line("dead-lettered", self.dead_lettered, "");
        line("dropped", self.dropped, "");
        line("refused", self.refused, "");
        if self.skipped > 0 {
            line("skipped", self.skipped, &skipped.join(", "));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for people"
        )]
        let rate = self.rows_per_second as u64;
        format!(
            "{kind}: {:.2} s, {} rows/s\n{}",
            self.seconds,
            grouped(rate),
            lines.join("\n")
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "rows per second, for people")]
fn rate(rows: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        (rows as f64 / seconds).round()
    } else {
        0.0
    }
}

/// A number with a comma between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Tells how the run went, and answers with its exit code.
pub(super) fn tell(
    kind: Kind,
    tally: &Tally,
    stats: &Stats,
    seconds: f64,
    dlq: &Path,
    json: bool,
) -> anyhow::Result<Exit> {
    let totals = Totals::new(tally, stats, seconds);
    let mut exit = Exit::Success;
    if totals.dead_lettered + totals.dropped + totals.refused > 0 {
        exit = exit.worst(Exit::Incomplete);
    }
    for (code, error) in &tally.errors {
        note(format_args!("error: {error}"));
        exit = exit.worst(*code);
    }
    if let Some(stop) = &tally.stop {
        note(format_args!("error: {stop}"));
        if let Some(line) = &tally.not_taken {
            note(format_args!("the first line not taken is {line}"));
        }
        note("to resume, run the same command again: rows that are in already write nothing");
        exit = exit.worst(stop.exit());
    }
    if !totals.is_balanced() {
        note("error: the books do not balance; this is a fault of the program, please report it");
        exit = exit.worst(Exit::Failure);
    }
    let mut out = Out::stdout();
    if !json {
        writeln!(out, "{}", totals.text(kind, tally)).context("cannot print the report")?;
    }
    if totals.dead_lettered > 0 {
        note(format_args!(
            "dead letters are in {}; `mds dlq list --dlq {}` shows them",
            dlq.display(),
            dlq.display()
        ));
    }
    if json {
        let line = serde_json::to_string(&totals).context("cannot print the report")?;
        writeln!(out, "{line}").context("cannot print the report")?;
    }
    out.finish()?;
    Ok(exit)
}

/// `--dry-run`: reads and checks, and writes nothing.
pub(super) async fn dry_run<R: MarketRecord>(
    inputs: &[Input],
    options: &Options,
    args: &Args,
    context: &Context,
) -> anyhow::Result<Exit> {
    let mut tally = Tally::default();
    let started = std::time::Instant::now();
    for input in inputs {
        let base = args.revision.unwrap_or_else(super::input::now).micros();
        let mut said = read::start::<R>(input.clone(), options.clone(), base, Arc::default())
            .context("cannot start the thread that reads")?;
        while let Some(next) = said.recv().await {
            match next {
                Said::Chunk(chunk) => {
                    tally.accepted += chunk.records.len() as u64;
                    for (reason, rows) in chunk.skipped {
                        *tally.skipped.entry(reason).or_insert(0) += rows;
                    }
                    show(&chunk.invalid, tally.invalid);
                    tally.invalid += chunk.invalid.len() as u64;
                }
                Said::Ended { notes } => {
                    for n in notes {
                        context.note(format_args!("{}: {n}", input.name()));
                    }
                }
                Said::Failed { error, .. } => {
                    let exit = if error.is_usage() {
                        Exit::Usage
                    } else {
                        Exit::Failure
                    };
                    tally
                        .errors
                        .push((exit, format!("{:#}", anyhow::Error::new(error))));
                }
            }
        }
    }
    tell_dry(R::KIND, &tally, started.elapsed().as_secs_f64(), args.json)
}

fn show(invalid: &[InvalidRow], before: u64) {
    let left = SHOWN.saturating_sub(usize::try_from(before).unwrap_or(usize::MAX));
    for row in invalid.iter().take(left) {
        note(format_args!(
            "{}:{}: {} = {:?}: {}",
            row.origin.path, row.origin.line, row.field, row.value, row.rule
        ));
    }
}

fn tell_dry(kind: Kind, tally: &Tally, seconds: f64, json: bool) -> anyhow::Result<Exit> {
    let mut exit = if tally.invalid > 0 {
        Exit::Incomplete
    } else {
        Exit::Success
    };
    for (code, error) in &tally.errors {
        note(format_args!("error: {error}"));
        exit = exit.worst(*code);
    }
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
    out.finish()?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(943_727), "943,727");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
