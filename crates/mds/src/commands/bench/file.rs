//! `mds ingest` of a file, end to end in a process of its own, against the bare loop over the same
//! rows, already parsed.
//!
//! Counted against us and not against the loop: starting the program, making and migrating the
//! database, hashing and reading the file, decompressing, parsing, validating, the queue, answers
//! row by row, the dead letters, closing. So a ratio below 1 is what an honest loop would also
//! lose some of.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mds_core::{Bar, Record};
use mds_formats::{Limits, Options, Source, Verdict};
use serde_json::Value;

use super::measure::{Stopwatch, Took, peak_mib};
use super::report::Report;
use super::{Bench, remove, sqlite};

/// How often the memory of the child is looked at. What is read is the greatest so far, so only
/// growth in the last moment can be missed.
const LOOK: Duration = Duration::from_millis(5);

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
            let (ours, peak) = ingest(input, batch, rows, folder, bench)?;
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

/// Ingests in a process of its own; what it took, and its greatest memory in MiB.
fn ingest(
    input: &Path,
    batch_size: usize,
    rows: u64,
    folder: &Path,
    bench: Bench<'_>,
) -> anyhow::Result<(Took, Option<f64>)> {
    let database = folder.join("ingest.db");
    let program = std::env::current_exe().context("cannot find this program to start it anew")?;
    let mut command = Command::new(program);
    command
        .args(["ingest", "bars", "--json", "--quiet", "--store"])
        .arg(format!("sqlite:{}", database.display()))
        .arg("--dlq")
        .arg(folder.join("bars.ndjson"))
        .arg(input)
        .env("MDS_COORDINATOR_BATCH_SIZE", batch_size.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let watch = Stopwatch::of_children();
    let child = command.spawn().context("cannot start `mds ingest`")?;
    let (output, peak) = wait(child)?;
    let took = watch.stop();
    if output.code != Some(0) {
        bail!("`mds ingest` ended with {:?}", output.code);
    }
    let told: Value = serde_json::from_str(&output.stdout)
        .context("`mds ingest --json` printed something else")?;
    ensure!(
        told["read"] == told["written"] && told["written"].as_u64() == Some(rows),
        "`mds ingest` wrote other rows than were parsed: {told}"
    );
    bench.context.note(format_args!("{told}"));
    remove(&database)?;
    Ok((took, peak))
}

struct Output {
    code: Option<i32>,
    stdout: String,
}

/// Waits for a child while a thread follows its memory.
fn wait(child: Child) -> anyhow::Result<(Output, Option<f64>)> {
    let process = child.id();
    let (ended, watched) = channel::<()>();
    std::thread::scope(|threads| {
        let memory = threads.spawn(move || {
            let mut peak = None;
            while let Err(RecvTimeoutError::Timeout) = watched.recv_timeout(LOOK) {
                peak = peak_mib(process).or(peak);
            }
            peak
        });
        let output = child.wait_with_output();
        // Its end tells the thread that there is nothing left to follow.
        drop(ended);
        let peak = memory.join().unwrap_or(None);
        let output = output.context("cannot wait for `mds ingest`")?;
        let stdout = String::from_utf8(output.stdout)
            .context("`mds ingest --json` printed something else")?;
        let code = output.status.code();
        Ok((Output { code, stdout }, peak))
    })
}
