//! `mds ingest` of a file, end to end in a process of its own, against the bare loop over the same
//! rows, already parsed.
//!
//! Counted against us and not against the loop: starting the program, making and migrating the
//! database, hashing and reading the file, decompressing, parsing, validating, the queue, answers
//! row by row, the dead letters, closing. So a ratio below 1 is what an honest loop would also
//! lose some of.

use std::path::Path;

use anyhow::ensure;
use mds_core::{Bar, Record};
use mds_formats::{Limits, Options, Source, Verdict};

use super::child::Ingest;
use super::report::Report;
use super::{Bench, remove, sqlite};

/// Verdicts in a chunk.
const CHUNK: usize = 4_096;

/// Runs it.
pub(super) fn run(
    input: &Path,
    batch_sizes: &[usize],
    folder: &Path,
    bench: Bench<'_>,
) -> anyhow::Result<()> {
    let mut report = Report::new(
        "file",
        "`mds ingest` of a file into a new database, from the start of the process to its end, \
         against a bare loop of prepared upserts over the same rows, already parsed; ratio: \
         ingest / bare loop",
    );
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    report.setting("file", name.as_ref());
    let bars = parse(input)?;
    report.setting("rows", bars.len());
    report.setting("rounds", bench.rounds);
    let rows = bars.len() as u64;
    for round in 0..bench.rounds {
        bench.note(format_args!("round {} of {}", round + 1, bench.rounds));
        for &batch in batch_sizes {
            let database = folder.join("ingest.db");
            let ingest = Ingest {
                store: &format!("sqlite:{}", database.display()),
                input,
                folder,
                batch_size: batch,
                args: &[],
            };
            let (ours, peak) = ingest.run(rows, bench)?;
            remove(&database)?;
            report.add_run(&format!("ingest, batches of {batch}"), rows, ours);
            if let Some(peak) = peak {
                report.add(
                    &format!("ingest, batches of {batch}, peak memory"),
                    "MiB",
                    peak,
                );
            }
            let looped = sqlite::bare_loop(&bars, batch, &folder.join("bare.db"), &mut report)?;
            report.add_run(&format!("bare loop, {batch} a transaction"), rows, looped);
            let ratio = looped.seconds / ours.seconds;
            report.add(&format!("ratio, {batch}"), "x", ratio);
        }
    }
    bench.tell(&report)
}

/// The rows of the file as `mds ingest` would write them.
fn parse(input: &Path) -> anyhow::Result<Vec<Bar>> {
    let source = Source::open(input, Limits::default())?;
    let mut reader = mds_formats::reader::<Bar>(source, &Options::default())?;
    let mut verdicts = Vec::with_capacity(CHUNK);
    let mut bars = Vec::new();
    while reader.next_chunk(&mut verdicts, CHUNK)? > 0 {
        for verdict in verdicts.drain(..) {
            let Verdict::Record(row) = verdict else {
                continue;
            };
            let mut bar = row.sourced.record;
            bar.set_revision(1 + i64::try_from(row.ordinal).unwrap_or(i64::MAX - 1));
            bars.push(bar);
        }
    }
    ensure!(!bars.is_empty(), "{} has no bars", input.display());
    Ok(bars)
}
