//! `mds dlq list`: letters, one a line, or how many there are.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use mds_coordinator::dead_letter::{Damaged, Entry, Histogram, Letter, LetterFilter};
use serde_json::{Value, json};

use super::{Letters, queues, time_of};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, table};

/// Letters that are listed without `--limit`.
const LETTERS: usize = 100;
/// How much of an error fits on the line of its letter on a terminal. Anything else has no width.
const ERROR_CHARS: usize = 72;

const EXAMPLES: &str = "\
Examples:
  mds dlq list
  mds dlq list --summary
  mds dlq list --kind bars --reason rejected_row --symbol SPY --limit 10
  mds dlq list --json | jq .error

Times are written as 2024-11-01 (midnight UTC) or 2024-11-01T09:30:00-05:00.";

/// Arguments of `mds dlq list`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// At most N letters of each file
    #[arg(long, short = 'n', value_name = "N", default_value_t = LETTERS)]
    limit: usize,
    /// Count the letters by reason, code and kind instead
    #[arg(long, conflicts_with = "limit")]
    summary: bool,
    /// Print JSON, one object a letter
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    letters: Letters,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if args.summary {
        summary(args, context)?;
    } else {
        list(args, context)?;
    }
    Ok(Exit::Success)
}

fn list(args: &Args, context: &Context) -> anyhow::Result<()> {
    let mut rows = table(&[
        "id", "given up", "kind", "reason", "code", ">replays", "from", "error",
    ]);
    let width = std::io::stdout().is_terminal().then_some(ERROR_CHARS);
    let mut out = Out::stdout();
    let (mut shown, mut is_cut) = (0_usize, false);
    for dlq in queues::<Value>(context)? {
        // One more than is shown tells whether there are more.
        let limit = Some(args.limit.saturating_add(1));
        let filter = LetterFilter {
            limit,
            ..args.letters.filter()
        };
        for (i, entry) in dlq.scan(filter)?.enumerate() {
            if i == args.limit {
                is_cut = true;
                break;
            }
            shown += 1;
            match entry? {
                Entry::Letter(letter) if args.json => out.json(&json_of(&letter))?,
                Entry::Damaged(damaged) if args.json => out.json(&json_of_damaged(&damaged))?,
                Entry::Letter(letter) => drop(rows.add_row(row(&letter, width))),
                Entry::Damaged(damaged) => drop(rows.add_row(damaged_row(&damaged, width))),
            }
        }
    }
    if !args.json && shown > 0 {
        out.table(&rows)?;
    }
    out.finish()?;
    if shown == 0 {
        context.note("no dead letters");
    } else if is_cut {
        context.note(format_args!(
            "there are more; --limit N shows more than {}",
            args.limit
        ));
    }
    Ok(())
}

fn row(letter: &Letter<Value>, width: Option<usize>) -> [String; 8] {
    let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
    [
        letter.id.to_string(),
        time_of(letter.ts),
        text(letter.kind()),
        text(letter.metadata.get("reason").and_then(Value::as_str)),
        text(letter.code()),
        letter.replays().to_string(),
        source_of(letter),
        one_line(&letter.error, width),
    ]
}

fn damaged_row(damaged: &Damaged, width: Option<usize>) -> [String; 8] {
    let place = format!("{}:{}", damaged.path.display(), damaged.line);
    let dash = || "-".to_owned();
    let problem = one_line(&damaged.problem, width);
    [
        dash(),
        dash(),
        dash(),
        "damaged".to_owned(),
        dash(),
        dash(),
        place,
        problem,
    ]
}

/// The file and line that the record came from, where the letter knows.
fn source_of(letter: &Letter<Value>) -> String {
    let path = letter.metadata.get("path").and_then(Value::as_str);
    let line = letter.metadata.get("line").and_then(Value::as_u64);
    match (path, line) {
        (Some(path), Some(line)) => format!("{path}:{line}"),
        (Some(path), None) => path.to_owned(),
        _ => "-".to_owned(),
    }
}

/// A text on one line, cut after `width` characters.
fn one_line(text: &str, width: Option<usize>) -> String {
    let one_line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let cut = width.and_then(|width| one_line.char_indices().nth(width));
    match cut {
        Some((end, _)) => format!("{}...", one_line.get(..end).unwrap_or(&one_line)),
        None => one_line,
    }
}

/// A letter as it stands in its file, with its id and place.
pub(super) fn json_of(letter: &Letter<Value>) -> Value {
    json!({
        "id": letter.id.to_string(),
        "ts": letter.ts,
        "error": letter.error,
        "metadata": letter.metadata,
        "items": letter.items.iter().map(|item| match item {
            mds_coordinator::dead_letter::Item::Record(value)
            | mds_coordinator::dead_letter::Item::Raw(value) => value.clone(),
        }).collect::<Vec<_>>(),
        "file": letter.path.display().to_string(),
        "line": letter.line,
    })
}

fn json_of_damaged(damaged: &Damaged) -> Value {
    json!({
        "damaged": damaged.problem,
        "preview": damaged.preview,
        "file": damaged.path.display().to_string(),
        "line": damaged.line,
    })
}

fn summary(args: &Args, context: &Context) -> anyhow::Result<()> {
    let mut sum = Histogram::default();
    for dlq in queues::<Value>(context)? {
        add(&mut sum, dlq.histogram(args.letters.filter())?);
    }
    let mut out = Out::stdout();
    if args.json {
        let time = |ts| Value::from(time_of(ts));
        out.json(&json!({
            "letters": sum.letters, "items": sum.items, "damaged": sum.damaged,
            "by_reason": sum.by_reason, "by_code": sum.by_code, "by_kind": sum.by_kind,
            "oldest": sum.written.map(|w| time(w.0)), "newest": sum.written.map(|w| time(w.1)),
        }))?;
    } else {
        let mut rows = table(&["", "", ">letters"]);
        for (what, counts) in [
            ("reason", &sum.by_reason),
            ("code", &sum.by_code),
            ("kind", &sum.by_kind),
        ] {
            for (name, count) in counts {
                let name = if name.is_empty() { "(none)" } else { name };
                rows.add_row([what, name, &count.to_string()]);
            }
        }
        if sum.damaged > 0 {
            rows.add_row(["damaged lines", "", &sum.damaged.to_string()]);
        }
        rows.add_row(["all", "", &sum.letters.to_string()]);
        out.table(&rows)?;
    }
    out.finish()
}

fn add(sum: &mut Histogram, part: Histogram) {
    fn merge(sum: &mut BTreeMap<String, u64>, part: BTreeMap<String, u64>) {
        for (name, count) in part {
            *sum.entry(name).or_default() += count;
        }
    }
    sum.letters += part.letters;
    sum.items += part.items;
    sum.damaged += part.damaged;
    merge(&mut sum.by_reason, part.by_reason);
    merge(&mut sum.by_code, part.by_code);
    merge(&mut sum.by_kind, part.by_kind);
    sum.written = match (sum.written, part.written) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cut_to_the_width_of_a_terminal() {
        assert_eq!(one_line("a\tb\nc", Some(5)), "a b c");
        assert_eq!(one_line("äöüß", Some(3)), "äöü...");
        assert_eq!(one_line("äöüß", Some(4)), "äöüß");
        assert_eq!(one_line(&"x".repeat(500), None), "x".repeat(500));
    }
}
