//! `mds selftest`: tries on the user's own disk to make the durable queue lose something.
//!
//! | module | is |
//! |---|---|
//! | `kills` | the outside producer: kills a process that takes rows, again and again, and compares |
//! | `life`, `child` | one life of that process, from outside and from inside |
//! | `witness` | looks into the store with plain SQL, and locks it |
//! | `rows` | the rows, made of numbers |
//! | `corruption` | damages files of a queue, and judges what is delivered |
//! | `sync_errors` | a simulated disk whose calls fail |
//! | `report` | what was tried and what was lost |

mod child;
mod corruption;
mod kills;
mod life;
mod report;
mod rows;
mod sync_errors;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::report::Report;
use crate::context::Context;
use crate::exit::Exit;
use crate::runtime::{block_on, stop_requested};
use crate::values;

const EXAMPLES: &str = "\
Examples:
  mds selftest
  mds selftest --dir /var/lib/mds --kills 1000
  mds selftest --chaos 60s --json
  mds selftest --queue memory

A process takes rows and acknowledges them, into a store in SQLite, and is killed (SIGKILL) at random
moments; files of a queue are damaged; calls of a simulated disk fail. Everything is made in a
temporary folder in --dir, so that it is on the disk that is meant, and is removed at the end. The
memory queue must lose rows: it shows that the test would notice. A seed repeats what was tried, not
the moments at which the machine did it.

Exit code 0: nothing was lost; 1: something was lost, doubled or changed, or it could not run.";

/// Arguments of `mds selftest`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder whose disk is tested
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How many times the process is killed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Go on in rounds with new seeds until TIME is over, such as 60s or 5m; the first is whole
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    chaos: Option<Duration>,
    /// Where the process keeps the rows that it has acknowledged
    #[arg(long, value_enum, default_value_t)]
    queue: Queue,
    /// Repeat what an earlier run tried
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    // How this program starts itself: the process that is killed, and how slow its store is.
    #[arg(long, hide = true)]
    child: bool,
    #[arg(long, hide = true, value_name = "TIME", default_value = "0", value_parser = values::duration)]
    delay: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Queue {
    // Plain comments: documentation would make the help three lines long.
    // Acknowledged means synced.
    #[default]
    Disk,
    // Acknowledged means held in memory.
    Memory,
}

impl Queue {
    fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }
}

impl Args {
    /// Whether it makes faults itself; the process that it kills only meets them.
    pub(super) fn makes_faults(&self) -> bool {
        !self.child
    }
}

/// What the parts of the test are given.
#[derive(Clone, Debug)]
struct Trial {
    queue: Queue,
    kills: u32,
    seed: u64,
    /// Set by a signal.
    is_stopped: Arc<AtomicBool>,
    until: Option<Instant>,
}

impl Trial {
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Whether there is a limit that is over, or a signal came.
    fn is_over(&self) -> bool {
        self.is_stopped() || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if args.child {
        return block_on(child::run(args.delay, context));
    }
    let started = Instant::now();
    let trial = Trial {
        queue: args.queue,
        kills: args.kills,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
        is_stopped: Arc::default(),
        until: args.chaos.map(|chaos| started + chaos),
    };
    let dir = tempfile::Builder::new()
        .prefix("mds-selftest-")
        .tempdir_in(&args.dir)
        .with_context(|| format!("cannot make a folder in {}", args.dir.display()))?;
    // The process that is killed works in the folder: its name must not hang on ours.
    let path = dir.path().canonicalize();
    let path = path.with_context(|| format!("cannot find {}", dir.path().display()))?;
    let (report, signal) = block_on(watched(trial, path))?;
    dir.close().context("cannot remove the temporary folder")?;
    if let Some(exit) = signal {
        return Ok(exit);
    }
    report.tell(&args.dir, started.elapsed(), args.json)
}

/// Runs the test; a signal lets it end where it is.
async fn watched(trial: Trial, dir: PathBuf) -> anyhow::Result<(Report, Option<Exit>)> {
    let is_stopped = Arc::clone(&trial.is_stopped);
    let mut work = tokio::task::spawn_blocking(move || rounds(&trial, &dir));
    let signal = tokio::select! {
        done = &mut work => {
            let report = done.context("the test has failed")??;
            return Ok((report, None));
        }
        signal = stop_requested() => signal.context("cannot listen to signals")?,
    };
    is_stopped.store(true, Ordering::Relaxed);
    // What a test that was interrupted has found out, or why it could not go on, is no result.
    let report = Report::default();
    drop(work.await);
    Ok((report, Some(signal)))
}

fn rounds(trial: &Trial, dir: &Path) -> anyhow::Result<Report> {
    let mut report = Report::new(trial);
    loop {
        let this = Trial {
            seed: trial.seed.wrapping_add(report.rounds),
            // The first one is always whole.
            until: trial.until.filter(|_| report.rounds > 0),
            ..trial.clone()
        };
        let folder = dir.join(format!("round-{}", report.rounds + 1));
        round(&this, &folder, &mut report)?;
        report.rounds += 1;
        let removed = std::fs::remove_dir_all(&folder);
        removed.with_context(|| format!("cannot remove {}", folder.display()))?;
        if trial.until.is_none() || trial.is_over() {
            return Ok(report);
        }
    }
}

fn round(trial: &Trial, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    let folder = |name: &str| -> anyhow::Result<PathBuf> {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    };
    kills::run(trial, &folder("kills")?, &mut report.kills)?;
    // Of the disk alone.
    if trial.queue == Queue::Disk {
        corruption::run(trial, &folder("corruption")?, &mut report.corruption)?;
        sync_errors::run(trial, &mut report.sync_errors)?;
    }
    Ok(())
}
