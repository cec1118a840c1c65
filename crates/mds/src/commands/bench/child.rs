//! `mds ingest` in a process of its own, from its start to its end.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::Bench;
use super::measure::{Stopwatch, Took, peak_mib};

/// How often the memory of the child is looked at. What is read is the greatest so far, so only
/// growth in the last moment can be missed.
const LOOK: Duration = Duration::from_millis(5);

/// One run of `mds ingest bars`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingest<'a> {
    /// The address of the store; it is handed over where nobody else can read it.
    pub(super) store: &'a str,
    pub(super) input: &'a Path,
    /// A folder for the dead letters, which there should not be.
    pub(super) folder: &'a Path,
    pub(super) batch_size: usize,
    /// More of the command line.
    pub(super) args: &'a [&'a str],
}

impl Ingest<'_> {
    /// Runs it; what it took, and its greatest memory in MiB. An error unless it wrote `rows` rows.
    pub(super) fn run(&self, rows: u64, bench: Bench<'_>) -> anyhow::Result<(Took, Option<f64>)> {
        let program =
            std::env::current_exe().context("cannot find this program to start it anew")?;
        let mut command = Command::new(program);
        command
            .args(["ingest", "bars", "--json", "--quiet", "--dlq"])
            .arg(self.folder.join("bars.ndjson"))
            .args(self.args)
            .arg(self.input)
            .env("MDS_STORE", self.store)
            .env("MDS_COORDINATOR_BATCH_SIZE", self.batch_size.to_string())
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
            "`mds ingest` wrote other rows than there are: {told}"
        );
        bench.context.note(format_args!("{told}"));
        Ok((took, peak))
    }
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
