//! The write path alone: records go through queue, workers and books into a sink that adds up
//! their prices.
//!
//! What is counted against it: making the records (each a copy of a template), taking them in,
//! batching, settling, observing metrics, dropping them. The sum over all prices proves that
//! every record reached the sink, the books that each was counted once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use mds_coordinator::{Batch, Sink, WriteCoordinator, WriteReport};
use mds_core::{Bar, Sourced};
use tokio::task::JoinSet;

use super::bars;
use super::measure::{Stopwatch, Took};
use super::report::Report;
use super::{Bench, block_on};
use crate::pipeline;

/// Records in one `submit_many`.
const GROUP: u64 = 500;

const EXAMPLES: &str = "\
Examples:
  mds bench null
  mds bench null --producers 1 --workers 4 --rows 10000000";

/// Arguments of `mds bench null`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Records a run, rounded up so that every producer has whole groups of 500
    #[arg(long, value_name = "N", default_value_t = Self::default().rows)]
    rows: u64,
    /// Tasks that submit
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = Self::default().producers, value_parser = clap::value_parser!(u16).range(1..=64))]
    producers: Vec<u16>,
    /// Workers that write
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = Self::default().workers, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Vec<u16>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            rows: 3_000_000,
            producers: vec![1, 2, 4],
            workers: vec![1, 2, 4],
        }
    }
}

/// How records are handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    SubmitMany,
    Submit,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::SubmitMany => "submit_many",
            Self::Submit => "submit",
        }
    }
}

/// Adds up prices. They are whole numbers, so the sum does not depend on the order.
#[derive(Debug, Default)]
pub(super) struct NullSink {
    sum: AtomicU64,
}

impl NullSink {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "prices of this benchmark are whole numbers from 0 to 499"
    )]
    fn add(&self, price: f64) {
        self.sum.fetch_add(price as u64, Ordering::Relaxed);
    }
}

impl<T: std::borrow::Borrow<Bar> + Send + Sync + 'static> Sink<T> for NullSink {
    fn name(&self) -> &'static str {
        "null"
    }

    async fn write(&self, batch: Batch<T>) -> WriteReport {
        let prices = batch.iter().map(|row| row.borrow().close_price);
        self.add(prices.map(Option::unwrap_or_default).sum());
        WriteReport::written(batch.len())
    }
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<()> {
    let settings = bench.context.settings.coordinator();
    let mut report = Report::new(
        "null",
        "bars as `mds ingest` wraps them through the coordinator into a sink that adds up prices",
    );
    report.setting("rows", args.rows);
    report.setting("rounds", bench.rounds);
    report.setting("capacity", settings.coordinator_capacity);
    report.setting("batch_size", settings.coordinator_batch_size);
    report.setting("flush_interval", settings.coordinator_flush_interval);
    report.setting("group", GROUP);
    block_on(async {
        for _ in 0..bench.rounds {
            for mode in [Mode::SubmitMany, Mode::Submit] {
                for &producers in &args.producers {
                    for &workers in &args.workers {
                        let producers_name = count(producers, "producer");
                        let workers_name = count(workers, "worker");
                        let name = format!("{}, {producers_name}, {workers_name}", mode.name());
                        let case = Case {
                            mode,
                            producers,
                            workers,
                        };
                        let (rows, took) = case.measure(args.rows, bench).await?;
                        report.add_run(&name, rows, took);
                    }
                }
            }
        }
        Ok(())
    })?;
    for mode in [Mode::SubmitMany, Mode::Submit] {
        report.add_fastest(&format!("{},", mode.name()));
    }
    bench.tell(&report)
}

fn count(number: u16, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

struct Case {
    mode: Mode,
    producers: u16,
    workers: u16,
}

impl Case {
    /// One run: how many records, and what it took.
    async fn measure(&self, rows: u64, bench: Bench<'_>) -> anyhow::Result<(u64, Took)> {
        let settings = bench.context.settings.coordinator();
        let sink = Arc::new(NullSink::default());
        let coordinator = pipeline::coordinator::<Bar, _>(&settings, Arc::clone(&sink))
            .workers(usize::from(self.workers))
            .workers_max(0)
            .start()?;
        let coordinator = Arc::new(coordinator);
        let groups = rows.div_ceil(GROUP * u64::from(self.producers));
        let template: Arc<[Sourced<Bar>]> = template().into();
        let watch = Stopwatch::start();
        let mut tasks = JoinSet::new();
        for _ in 0..self.producers {
            tasks.spawn(produce(
                self.mode,
                Arc::clone(&coordinator),
                Arc::clone(&template),
                groups,
            ));
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let stopped = coordinator.stop(true, pipeline::STOP_TIMEOUT).await;
        let took = watch.stop();
        let rows = groups * GROUP * u64::from(self.producers);
        let books = stopped.stats;
        ensure!(
            books.written == rows && books.submitted == rows && books.is_balanced(),
            "the books are wrong: {rows} records, {books:?}"
        );
        let sum = sink.sum.load(Ordering::Relaxed);
        let expected = rows / GROUP * (0..GROUP).sum::<u64>();
        ensure!(
            sum == expected,
            "the sink added up {sum} instead of {expected}"
        );
        Ok((rows, took))
    }
}

/// A group of bars, priced 0 to 499.
fn template() -> Vec<Sourced<Bar>> {
    (0..GROUP)
        .map(|number| {
            let mut bar = bars::minute_bar(number);
            bar.close_price = u32::try_from(number).ok().map(f64::from);
            Sourced::from(bar)
        })
        .collect()
}

async fn produce(
    mode: Mode,
    coordinator: Arc<WriteCoordinator<Sourced<Bar>>>,
    template: Arc<[Sourced<Bar>]>,
    groups: u64,
) -> anyhow::Result<()> {
    let mut group = VecDeque::with_capacity(template.len());
    for _ in 0..groups {
        match mode {
            Mode::SubmitMany => {
                group.extend(template.iter().cloned());
                coordinator.submit_many(&mut group).await?;
            }
            Mode::Submit => {
                for row in template.iter() {
                    coordinator.submit(row.clone()).await?;
                }
            }
        }
    }
    Ok(())
}
