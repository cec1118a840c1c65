//! What a coordinator costs that has nothing to do, and that it still works afterwards.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use mds_core::{Bar, Sourced};

use super::bars;
use super::measure::Stopwatch;
use super::null::NullSink;
use super::report::Report;
use super::{Bench, block_on};
use crate::pipeline;

const EXAMPLES: &str = "\
Examples:
  mds bench idle --seconds 60 --rounds 1";

/// Arguments of `mds bench idle`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How long nothing happens, in seconds a round
    #[arg(long, value_name = "N", default_value_t = Self::default().seconds)]
    seconds: f64,
    /// Workers that wait
    #[arg(long, value_name = "N", default_value_t = Self::default().workers)]
    workers: usize,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            seconds: 10.0,
            workers: 4,
        }
    }
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<()> {
    let mut report = Report::new(
        "idle",
        "the processor time of a coordinator without work, after it had some, and before it gets \
         some more, which it must write",
    );
    report.setting("seconds", args.seconds);
    report.setting("workers", args.workers);
    report.setting("rounds", bench.rounds);
    let silence = Duration::try_from_secs_f64(args.seconds)?;
    block_on(async {
        let settings = bench.context.settings.coordinator();
        for _ in 0..bench.rounds {
            let coordinator =
                pipeline::coordinator::<Bar, _>(&settings, Arc::new(NullSink::default()))
                    .workers(args.workers)
                    .workers_max(0)
                    .start()?;
            let mut submitted = 0;
            for rows in [1_000, 1] {
                for number in 0..rows {
                    coordinator
                        .submit(Sourced::from(bars::minute_bar(number)))
                        .await?;
                }
                submitted += rows;
                coordinator.flush(pipeline::STOP_TIMEOUT).await;
                let written = coordinator.stats().written;
                ensure!(
                    written == submitted,
                    "{written} of {submitted} records written"
                );
                if rows > 1 {
                    let watch = Stopwatch::start();
                    tokio::time::sleep(silence).await;
                    let took = watch.stop();
                    if let Some(cpu) = took.cpu_seconds {
                        report.add("idle", "% of a core", cpu / took.seconds * 100.0);
                    }
                }
            }
            coordinator.stop(true, pipeline::STOP_TIMEOUT).await;
        }
        Ok(())
    })?;
    bench.tell(&report)
}
