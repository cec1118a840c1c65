//! `mds wal inspect`: what a durable queue holds.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use mds_coordinator::{Fate, fate_of};
use mds_wal::{FileInfo, Inspection, SegmentInfo, Totals};
use serde_json::{Map, Value, json};

use super::{EXIT_CODES, Which, damage_table, exit_of, json_of_damages, records};
use crate::commands::stats::bytes;
use crate::durable::{PAST_LOST, is_past_lost};
use crate::exit::Exit;
use crate::output::{Out, table};

const EXAMPLES: &str = "\
Examples:
  mds wal inspect queue
  mds wal inspect queue/bars --json | jq .waiting

Of all segments but the last only the head is read; `mds wal verify` reads everything.";

/// Arguments of `mds wal inspect`.
#[derive(clap::Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut out = Out::stdout();
    let mut is_first = true;
    let exit = args.which.each(
        |storage| mds_wal::inspect(storage),
        |dir, found| {
            if args.which.json {
                out.json(&json_of(dir, &found))?;
            } else {
                if !is_first {
                    writeln!(out).context("cannot write to standard output")?;
                }
                print(dir, &found, &mut out)?;
                is_first = false;
            }
            Ok(exit_of(&found))
        },
    )?;
    out.finish()?;
    Ok(exit)
}

fn json_of(dir: &Path, found: &Inspection) -> Value {
    let segment = |s: &SegmentInfo| {
        json!({
            "file": s.file, "number": s.number, "first": s.first, "end": s.end,
            "bytes": s.bytes, "waiting": s.waiting, "settled": s.is_settled(),
        })
    };
    let files = |files: &[FileInfo]| -> Value {
        let one = |f: &FileInfo| json!({ "file": f.file, "bytes": f.bytes });
        files.iter().map(one).collect()
    };
    let checkpoint = found.checkpoint.map(|c| {
        json!({
            "generation": c.generation, "floor": c.floor, "end": c.end,
            "settled": json_of_settled(&c.totals), "damaged": c.totals.damaged, "void": c.totals.void,
        })
    });
    json!({
        "dir": dir.display().to_string(),
        "identity": found.identity,
        "salt": found.has_salt,
        "waiting": found.waiting,
        "next": found.next,
        "lost": found.lost(),
        "checkpoint": checkpoint,
        "past_lost": is_past_lost(found),
        "segments": found.segments.iter().map(segment).collect::<Value>(),
        "spares": files(&found.spares),
        "copies": files(&found.copies),
        "damages": json_of_damages(&found.damages),
    })
}

fn print(dir: &Path, found: &Inspection, out: &mut Out) -> anyhow::Result<()> {
    let mut facts = table(&["queue", &dir.display().to_string()]);
    let mut fact = |name: &str, value: String| {
        facts.add_row([name, &value]);
    };
    fact("made for", identity_of(found));
    fact("waiting", waiting(found));
    fact("next record", found.next.to_string());
    match found.checkpoint {
        Some(c) => {
            fact("settled", settled(&c.totals));
            let (floor, end, generation) = (c.floor, c.end, c.generation);
            let text = format!(
                "all below {floor} settled, all below {end} durable; written {generation} times"
            );
            fact("checkpoint", text);
        }
        None => fact("checkpoint", format!("none that is whole: {PAST_LOST}")),
    }
    let files = |files: &[FileInfo]| {
        let one = |f: &FileInfo| format!("{} ({})", f.file, bytes(f.bytes));
        files.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    if !found.spares.is_empty() {
        fact("made ahead", files(&found.spares));
    }
    if !found.copies.is_empty() {
        fact("set aside", files(&found.copies));
    }
    out.table(&facts)?;
    if !found.segments.is_empty() {
        writeln!(out).context("cannot write to standard output")?;
        out.table(&segment_table(&found.segments))?;
    }
    if !found.damages.is_empty() {
        writeln!(out).context("cannot write to standard output")?;
        out.table(&damage_table(&found.damages))?;
    }
    Ok(())
}

fn identity_of(found: &Inspection) -> String {
    match &found.identity {
        Some(identity) if identity.is_empty() => "nothing in particular".to_owned(),
        Some(identity) => identity.clone(),
        None => "not known: the header cannot be read".to_owned(),
    }
}

fn waiting(found: &Inspection) -> String {
    let Some(first) = found.segments.iter().find(|s| s.waiting > 0) else {
        return "none".to_owned();
    };
    let floor = found.checkpoint.map_or(1, |c| c.floor);
    let records = records(found.waiting);
    format!("{records}, from {} on", first.first.max(floor))
}

/// The numbers of settled records, each with its fate; `None` for a number that no fate has.
fn fates(totals: &Totals) -> impl Iterator<Item = (Option<Fate>, u64)> {
    (0..).map(fate_of).zip(totals.settled)
}

/// How many records were settled, by their fates.
fn json_of_settled(totals: &Totals) -> Value {
    let (mut settled, mut other) = (Map::new(), 0);
    let (mut dead_lettered, mut dropped) = (Map::new(), Map::new());
    for (fate, count) in fates(totals) {
        let (fates, name) = match fate {
            Some(Fate::Written) => (&mut settled, "written"),
            Some(Fate::Superseded) => (&mut settled, "superseded"),
            Some(Fate::DeadLettered(reason)) => (&mut dead_lettered, reason.as_str()),
            Some(Fate::Dropped(reason)) => (&mut dropped, reason.as_str()),
            None => {
                other += count;
                continue;
            }
        };
        fates.insert(name.to_owned(), count.into());
    }
    settled.insert("dead_lettered".to_owned(), dead_lettered.into());
    settled.insert("dropped".to_owned(), dropped.into());
    settled.insert("other".to_owned(), other.into());
    settled.into()
}

/// How many records were settled, by their fates.
fn settled(totals: &Totals) -> String {
    let mut parts: Vec<String> = fates(totals)
        .filter(|(_, count)| *count > 0)
        .map(|(fate, count)| match fate {
            Some(Fate::Written) => format!("{count} written"),
            Some(Fate::Superseded) => format!("{count} superseded"),
            Some(Fate::DeadLettered(reason)) => format!("{count} dead-lettered ({reason})"),
            Some(Fate::Dropped(reason)) => format!("{count} dropped ({reason})"),
            None => format!("{count} otherwise"),
        })
        .collect();
    if totals.damaged > 0 {
        parts.push(format!("{} damaged", totals.damaged));
    }
    if totals.void > 0 {
        parts.push(format!("{} numbers never durable", totals.void));
    }
    if parts.is_empty() {
        return "none".to_owned();
    }
    format!("{}: {}", totals.sum(), parts.join(", "))
}

fn segment_table(segments: &[SegmentInfo]) -> comfy_table::Table {
    let mut rows = table(&["segment", ">first", ">last", ">size", ">waiting"]);
    for segment in segments {
        let (first, last) = if segment.first < segment.end {
            (segment.first.to_string(), (segment.end - 1).to_string())
        } else {
            ("-".to_owned(), "-".to_owned())
        };
        rows.add_row([
            segment.file.clone(),
            first,
            last,
            bytes(segment.bytes),
            segment.waiting.to_string(),
        ]);
    }
    rows
}
