//! What is told at the end: one table or one JSON object, and the exit code.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use mds_coordinator::{Reason, Refusal, Stats};
use mds_core::{Kind, Origin, Sourced, Timestamp};
use serde::Serialize;

use super::stop::Stop;
use crate::exit::Exit;
use crate::output::{Out, grouped, note, unless_closed};

/// What is counted beside the coordinator's books.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Records that the coordinator accepted.
    pub(super) accepted: u64,
    /// Records that were handed in, and on which the disk of the queue has not answered before the end.
    pub(super) unanswered: u64,
    /// Rows that are no records; each has its letter.
    pub(super) invalid: u64,
    /// Records that were not accepted.
    pub(super) refused: u64,
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// What went wrong with an input, or with one record.
    pub(super) errors: Vec<(Exit, String)>,
    /// The inputs, by their place on the command line, that a stop has left unread.
    pub(super) unread: BTreeMap<usize, Unread>,
    /// The revision that standard input began with.
    pub(super) stdin_base: Option<i64>,
    /// Files whose content the store had not seen before, with the time of their last change.
    pub(super) new_files: Vec<(String, Timestamp)>,
}

/// From where on an input was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// From this line on.
    From(String),
    /// From somewhere after this line on.
    After(String),
    /// All of it, or nobody knows.
    Unknown,
}

impl Unread {
    pub(super) fn before(first: &Origin) -> Self {
        Self::From(format!("{}:{}", first.path, first.line))
    }

    pub(super) fn after(last: Option<&Origin>) -> Self {
        last.map_or(Self::Unknown, |last| {
            Self::After(format!("{}:{}", last.path, last.line))
        })
    }
}

impl Tally {
    /// Records that the inputs held, as far as they were taken.
    pub(super) const fn read(&self) -> u64 {
        self.accepted + self.invalid + self.refused
    }

    /// Counts what has become of the records without an answer, by what the coordinator says to have
    /// accepted. What it has not is not taken.
    pub(super) fn answer(&mut self, submitted: u64) {
        let most = self.accepted + std::mem::take(&mut self.unanswered);
        self.accepted = submitted.clamp(self.accepted, most);
    }

    /// Counts records that were not accepted, and notes where they stand; they follow each other.
    pub(super) fn note_refused<R>(&mut self, records: &[Sourced<R>], refusal: Refusal) {
        /// Refusals that are told one by one.
        const TOLD: usize = 20;
        let rows = records.len() as u64;
        self.refused += rows;
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return;
        };
        if self.errors.len() < TOLD {
            let place = match rows {
                1 => place(first),
                _ => format!(
                    "{} to {}, {} rows",
                    place(first),
                    place(last),
                    grouped(rows)
                ),
            };
            self.errors
                .push((Exit::Incomplete, format!("{place}: {refusal}")));
        }
    }
}

fn place<R>(record: &Sourced<R>) -> String {
    record
        .origin
        .as_ref()
        .map_or_else(|| "record".to_owned(), |o| format!("{}:{}", o.path, o.line))
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
    /// In a durable queue: records that wait there for the next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u64>,
    /// In a durable queue: records that were damaged on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<u64>,
}

impl Totals {
    fn new(tally: &Tally, stats: &Stats, is_durable: bool, seconds: f64) -> Self {
        Self {
            queued: is_durable.then_some(stats.queued + stats.in_flight),
            damaged: is_durable.then_some(stats.damaged),
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
        let on_disk = self.queued.unwrap_or(0) + self.damaged.unwrap_or(0);
        let settled = self.written + self.superseded + self.dead_lettered + self.dropped;
        self.read + self.recovered == settled + self.refused + on_disk
    }

    fn text(&self, kind: Kind, tally: &Tally, conflicts: u64) -> String {
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
        if self.recovered > 0 {
            line("recovered", self.recovered, "of an earlier run");
        }
        line("written", self.written, "");
        line("superseded", self.superseded, "");
        line("dead-lettered", self.dead_lettered, "");
        line("dropped", self.dropped, "");
        line("refused", self.refused, "");
        for (name, rows) in [("queued", self.queued), ("damaged", self.damaged)] {
            if rows.is_some_and(|rows| rows > 0) {
                line(name, rows.unwrap_or(0), "");
            }
        }
        if self.skipped > 0 {
            line("skipped", self.skipped, &skipped.join(", "));
        }
        if conflicts > 0 {
            line("conflicts", conflicts, CONFLICT);
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

/// What a conflict is.
const CONFLICT: &str =
    "met a row of equal key and revision with other values; the greater values are kept";

#[expect(clippy::cast_precision_loss, reason = "rows per second, for people")]
pub(super) fn rate(rows: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        (rows as f64 / seconds).round()
    } else {
        0.0
    }
}

/// How a run went.
pub(super) struct Report {
    pub(super) kind: Kind,
    pub(super) tally: Tally,
    pub(super) stats: Stats,
    pub(super) stop: Option<Stop>,
    /// The revision that the user gave.
    pub(super) revision: Option<Timestamp>,
    pub(super) seconds: f64,
    pub(super) dlq: PathBuf,
    /// The folder of the durable queue, where there is one.
    pub(super) queue: Option<PathBuf>,
    /// Whether only errors are told.
    pub(super) quiet: bool,
}

impl Report {
    /// Tells it, and answers with the exit code.
    pub(super) fn tell(&self, json: bool) -> anyhow::Result<Exit> {
        let is_durable = self.queue.is_some();
        let totals = Totals::new(&self.tally, &self.stats, is_durable, self.seconds);
        let mut exit = Exit::Success;
        let damaged = totals.damaged.unwrap_or(0);
        if totals.dead_lettered + totals.dropped + totals.refused + damaged > 0 {
            exit = exit.worst(Exit::Incomplete);
        }
        for (code, error) in &self.tally.errors {
            note(format_args!("error: {error}"));
            exit = exit.worst(*code);
        }
        if let Some(stop) = &self.stop {
            note(format_args!("error: {stop}"));
            self.tell_where();
            if stop.can_be_resumed() {
                self.tell_how_to_resume();
            }
            exit = exit.worst(stop.exit());
        }
        if !totals.is_balanced() || self.refused() != totals.refused {
            note(
                "error: the books do not balance; this is a fault of the program, please report it",
            );
            exit = exit.worst(Exit::Failure);
        }
        if totals.dropped > 0 {
            note(format_args!(
                "{} rows are in neither the store nor the dead letters",
                totals.dropped
            ));
        }
        if !self.quiet {
            self.tell_of_conflicts(json);
            self.tell_how_to_win();
        }
        if totals.dead_lettered > 0 && !self.quiet {
            let dlq = self.dlq.display();
            note(format_args!(
                "dead letters are in {dlq}; `mds dlq list --dlq {dlq}` shows them"
            ));
        }
        // The rows are where they are, whether or not somebody reads the report.
        unless_closed(self.print(&totals, json))?;
        Ok(exit)
    }

    fn print(&self, totals: &Totals, json: bool) -> anyhow::Result<()> {
        let failed = "cannot print the report";
        let mut out = Out::stdout();
        if json {
            let line = serde_json::to_string(totals).context(failed)?;
            writeln!(out, "{line}").context(failed)?;
        } else {
            writeln!(
                out,
                "{}",
                totals.text(self.kind, &self.tally, self.stats.conflicts)
            )
            .context(failed)?;
        }
        out.flush().context(failed)
    }

    /// Records that the coordinator counts as refused, without those that came after its end: they
    /// were not taken.
    fn refused(&self) -> u64 {
        let rows = Refusal::ALL.iter().zip(self.stats.refused);
        // Those that the disk of a queue did not take were handed in again.
        let is_for_good = |refusal: Refusal| {
            !matches!(
                refusal,
                Refusal::Closed | Refusal::DiskFailed | Refusal::OutcomeUnknown
            )
        };
        rows.filter(|(refusal, _)| is_for_good(**refusal))
            .map(|(_, rows)| rows)
            .sum()
    }

    /// The table has a line for conflicts; the keys of the JSON object are fixed.
    fn tell_of_conflicts(&self, json: bool) {
        match self.stats.conflicts {
            rows if rows == 0 || !json => {}
            1 => note(format_args!("1 row {CONFLICT}")),
            rows => note(format_args!("{} rows {CONFLICT}", grouped(rows))),
        }
    }

    /// Where files are new and yet nothing of them was, their times are older than what they may be
    /// meant to correct: a download or a copy keeps the times of the original.
    fn tell_how_to_win(&self) {
        let Some((first, modified)) = self.tally.new_files.first() else {
            return;
        };
        if self.stats.written > 0 || self.stats.superseded == 0 {
            return;
        }
        let (more, them) = match self.tally.new_files.len() - 1 {
            0 => (String::new(), "it"),
            1 => (" and another file".to_owned(), "them"),
            more => (format!(" and {more} other files"), "them"),
        };
        let now = super::input::now();
        note(format_args!(
            "nothing was written: the store has these rows already, at newer revisions than \
             {first} (last changed at {modified}){more}; to make {them} win, give --revision a \
             later time, such as the present: --revision {now}"
        ));
    }

    /// Says from which lines on nothing was taken.
    fn tell_where(&self) {
        let (mut from, mut after) = (Vec::new(), Vec::new());
        for unread in self.tally.unread.values() {
            match unread {
                Unread::From(line) => from.push(line.as_str()),
                Unread::After(line) => after.push(line.as_str()),
                Unread::Unknown => {}
            }
        }
        for (lines, one, many) in [
            (
                from,
                "the first line not taken is",
                "the first lines not taken are",
            ),
            (after, "the last line taken is", "the last lines taken are"),
        ] {
            match lines.as_slice() {
                [] => {}
                [line] => note(format_args!("{one} {line}")),
                lines => note(format_args!("{many} {}", lines.join(", "))),
            }
        }
    }

    fn tell_how_to_resume(&self) {
        if let Some(queue) = &self.queue
            && self.stats.queued > 0
        {
            note(format_args!(
                "{} accepted rows are in the queue {}; the next run with it writes them first",
                grouped(self.stats.queued),
                queue.display()
            ));
        }
        if self.stats.dead_lettered.get(Reason::Shutdown) > 0 {
            note(format_args!(
                "what was accepted and not written is in the dead letters; `mds dlq replay --dlq \
                 {}` writes it and settles the letters, after resuming too",
                self.dlq.display()
            ));
        }
        let again = match (self.tally.stdin_base, self.revision) {
            (None, _) => "run the same command again".to_owned(),
            (Some(_), Some(_)) => {
                "give it the same input again, with the same --revision".to_owned()
            }
            (Some(base), None) => format!(
                "give it the same input again with --revision {}",
                Timestamp::from_micros(base)
            ),
        };
        note(format_args!(
            "to resume, {again}: rows that are in already write nothing"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_an_answer_are_taken_as_far_as_the_coordinator_says_so() {
        let read = |submitted| {
            let mut tally = Tally {
                accepted: 100,
                unanswered: 50,
                ..Tally::default()
            };
            tally.answer(submitted);
            tally.read()
        };
        assert_eq!([100, 120, 150].map(read), [100, 120, 150]);
        // Books that do not balance stay so.
        assert_eq!([99, 151].map(read), [100, 150]);
    }
}
