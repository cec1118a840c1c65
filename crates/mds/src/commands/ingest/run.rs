//! The write path of one run, from the first row to the report.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{LetterDraft, LetterItem};
use mds_coordinator::{DeadLetterQueue, Metrics, Reason, Refusal, WriteCoordinator};
use mds_core::{Record, Sourced};
use mds_formats::{InvalidRow, Options};
use mds_store::Store;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;

use super::Args;
use super::input::{self, Input};
use super::progress::Progress;
use super::read::{self, Chunk, Said};
use super::report::{self, Tally};
use super::watch::{self, FIRST_ROWS, Stop};
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::pipeline::{self, MarketRecord};

/// What the parts of a run share.
struct Run<R: MarketRecord> {
    inputs: Vec<Input>,
    next: AtomicUsize,
    options: Options,
    revision: Option<mds_core::Timestamp>,
    max_bad: Option<watch::MaxBad>,
    store: Store,
    letters: Arc<DeadLetterQueue<Sourced<R>>>,
    coordinator: WriteCoordinator<Sourced<R>>,
    tally: Mutex<Tally>,
    stop: Sender<Option<Stop>>,
    progress: Progress,
    quiet: bool,
}

/// Runs `mds ingest` for one kind.
pub(super) async fn ingest<R>(args: &Args, context: &Context) -> anyhow::Result<Exit>
where
    R: MarketRecord,
{
    let inputs = input::expand(&args.inputs)?;
    if inputs.is_empty() {
        return Err(Usage::new("there are no files in what was given; name one").into());
    }
    let options = args.options(context.settings.tenant_id());
    if args.dry_run {
        return report::dry_run::<R>(&inputs, &options, args, context).await;
    }
    // All of this fails before the first row, or not at all.
    let store = pipeline::open_store(&context.settings).await?;
    let dlq = context.dlq_path(R::KIND);
    let letters = pipeline::open_letters::<R>(&dlq)?;
    let coordinator =
        pipeline::coordinator::<R, _>(&context.settings.coordinator(), store.sink::<R>())
            .dead_letters(Arc::<DeadLetterQueue<Sourced<R>>>::clone(&letters))
            .start()?;
    let metrics = match args.metrics {
        None => None,
        Some(address) => Some(serve_metrics(address, context).await?),
    };
    let run = Arc::new(Run {
        progress: Progress::new(length(&inputs), context.quiet),
        inputs,
        next: AtomicUsize::new(0),
        options,
        revision: args.revision,
        max_bad: args.max_bad,
        store,
        letters,
        coordinator,
        tally: Mutex::default(),
        stop: Sender::new(None),
        quiet: context.quiet,
    });
    let started = std::time::Instant::now();
    run.all(args.jobs, args.max_outage).await;
    let stopped = run.coordinator.stop(true, pipeline::STOP_TIMEOUT).await;
    run.store.close().await;
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut tally = run
        .tally
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    tally.stop.clone_from(&run.stop.borrow());
    report::tell(R::KIND, &tally, &stopped.stats, seconds, &dlq, args.json)
}

/// Serves metrics until it is aborted.
pub(crate) async fn serve_metrics(
    address: std::net::SocketAddr,
    context: &Context,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot serve metrics on {address}; choose another port"))?;
    context.note(format_args!(
        "metrics: http://{}/metrics",
        listener.local_addr()?
    ));
    Ok(tokio::spawn(async move {
        let never = std::future::pending();
        if let Err(error) =
            mds_server::metrics::serve(listener, Metrics::global().clone(), never).await
        {
            tracing::error!(%error, "serving metrics ended");
        }
    }))
}

/// Bytes of all inputs; `None` where one has no length.
fn length(inputs: &[Input]) -> Option<u64> {
    inputs
        .iter()
        .map(|input| match input {
            Input::File(path) => std::fs::metadata(path).ok().map(|m| m.len()),
            Input::Stdin => None,
        })
        .sum()
}

impl<R> Run<R>
where
    R: MarketRecord,
{
    /// Reads all inputs and waits until everything accepted has its fate, or there is a reason to
    /// stop.
    async fn all(self: &Arc<Self>, jobs: u16, max_outage: Duration) {
        let mut tasks = JoinSet::new();
        for _ in 0..jobs {
            let run = Arc::clone(self);
            tasks.spawn(async move { run.job().await });
        }
        let stop = {
            let work = async {
                while let Some(ended) = tasks.join_next().await {
                    if let Err(error) = ended {
                        // A fault of this program; what was accepted is settled all the same.
                        self.tally().errors.push((Exit::Failure, error.to_string()));
                    }
                }
                while self
                    .coordinator
                    .flush(Duration::from_secs(1))
                    .await
                    .outstanding
                    > 0
                {}
            };
            tokio::select! {
                () = work => None,
                stop = watch::stop_reason(&self.coordinator, max_outage) => Some(stop),
                stop = self.stopped() => Some(stop),
                () = self.progress.follow(|| self.message()) => None,
            }
        };
        if let Some(stop) = stop {
            self.stop_for(stop);
        }
        // The readers see the stop and end; what they hold was not taken.
        while tasks.join_next().await.is_some() {}
    }

    fn message(&self) -> String {
        let stats = self.coordinator.stats();
        let waits = match self.coordinator.degraded().first() {
            None => String::new(),
            Some(reason) => format!("  waiting: {reason:?}"),
        };
        let bad = self.tally().invalid;
        format!(
            "{} rows in, {bad} bad, {} queued{waits}",
            stats.resolved(),
            stats.queued
        )
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a reason to stop.
    async fn stopped(&self) -> Stop {
        let mut stop: Receiver<Option<Stop>> = self.stop.subscribe();
        let reason = stop
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    fn stop_for(&self, reason: Stop) {
        self.stop.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(reason);
            first
        });
    }

    /// Takes one input after the other.
    async fn job(&self) {
        while self.stop.borrow().is_none() {
            let Some(input) = self.inputs.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = self.input(input).await {
                self.tally()
                    .errors
                    .push((Exit::Failure, format!("{error:#}")));
            }
        }
    }

    async fn input(&self, input: &Input) -> anyhow::Result<()> {
        let (base, note) = input::base_revision(input, R::KIND, self.revision, &self.store).await?;
        let name = input.name();
        self.notes(&name, note.as_slice());
        let position = Arc::clone(&self.progress.position);
        let mut said = read::start::<R>(input.clone(), self.options.clone(), base, position)
            .context("cannot start the thread that reads")?;
        let mut seen = (0, 0);
        loop {
            let next = tokio::select! {
                biased;
                _ = self.stopped() => return Ok(()),
                next = said.recv() => next,
            };
            match next {
                Some(Said::Chunk(chunk)) => {
                    if !self.chunk(chunk, &mut seen).await {
                        return Ok(());
                    }
                }
                Some(Said::Ended { notes }) => {
                    self.notes(&name, &notes);
                    return Ok(());
                }
                Some(Said::Failed { error, notes }) => {
                    self.notes(&name, &notes);
                    let exit = if error.is_usage() {
                        Exit::Usage
                    } else {
                        Exit::Failure
                    };
                    let text = format!("{:#}", anyhow::Error::new(error));
                    self.tally().errors.push((exit, text));
                    return Ok(());
                }
                None => anyhow::bail!("{name}: the thread that reads ended without a word"),
            }
        }
    }

    fn notes(&self, name: &str, notes: &[String]) {
        if !self.quiet {
            for note in notes {
                self.progress.println(&format!("{name}: {note}"));
            }
        }
    }

    /// Takes a chunk; `false` if the run stops. `seen` counts (rows, records) of this input.
    async fn chunk(&self, chunk: Chunk<R>, seen: &mut (u64, u64)) -> bool {
        let Chunk {
            mut records,
            invalid,
            skipped,
        } = chunk;
        let bad = invalid.len() as u64;
        seen.0 += bad + records.len() as u64;
        seen.1 += records.len() as u64;
        if let Err(error) = self.letters_of(invalid).await {
            let mut tally = self.tally();
            tally.refused += bad;
            tally.note_not_taken(&records);
            drop(tally);
            self.stop_for(Stop::Letters { error });
            return false;
        }
        {
            let mut tally = self.tally();
            tally.invalid += bad;
            for (reason, rows) in skipped {
                *tally.skipped.entry(reason).or_insert(0) += rows;
            }
        }
        if !self.submit(&mut records).await {
            self.tally().note_not_taken(&records);
            return false;
        }
        self.judge(*seen)
    }

    /// Stops the run where too many rows are bad.
    fn judge(&self, seen: (u64, u64)) -> bool {
        let tally = self.tally();
        let (bad, read) = (tally.invalid, tally.read());
        drop(tally);
        if seen.0 >= FIRST_ROWS && seen.1 == 0 {
            self.stop_for(Stop::AllBad);
            return false;
        }
        if self.max_bad.is_some_and(|most| most.is_exceeded(bad, read)) {
            self.stop_for(Stop::TooManyBad { bad, read });
            return false;
        }
        true
    }

    /// Submits records; `false` if the run stops before all are accepted or refused.
    async fn submit(&self, records: &mut VecDeque<Sourced<R>>) -> bool {
        while !records.is_empty() {
            let before = records.len();
            let result = tokio::select! {
                biased;
                result = self.coordinator.submit_many(records) => Some(result),
                _ = self.stopped() => None,
            };
            self.tally().accepted += (before - records.len()) as u64;
            match result {
                None => return false,
                Some(Ok(_)) => {}
                Some(Err(error)) if error.refusal == Refusal::Closed => return false,
                Some(Err(error)) => {
                    // One record that cannot be taken costs itself only.
                    let Some(record) = records.pop_front() else {
                        continue;
                    };
                    let mut tally = self.tally();
                    tally.refused += 1;
                    tally.note_refused(&record, error.refusal);
                }
            }
        }
        true
    }

    /// Writes the letters of rows that are no records.
    async fn letters_of(&self, invalid: Vec<InvalidRow>) -> Result<(), String> {
        if invalid.is_empty() {
            return Ok(());
        }
        let letters = Arc::clone(&self.letters);
        let write = tokio::task::spawn_blocking(move || {
            letters.append(invalid.iter().map(invalid_letter::<R>).collect())
        });
        match write.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::new(error))),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn invalid_letter<R: Record>(row: &InvalidRow) -> LetterDraft {
    let error = if row.value.is_empty() {
        format!("{}: {}", row.field, row.rule)
    } else {
        format!("{} = {:?}: {}", row.field, row.value, row.rule)
    };
    let item = LetterItem::line(row.raw.as_bytes());
    let mut letter = LetterDraft::new(R::KIND.as_str(), Reason::Invalid, error, "invalid", item);
    letter.kind = Some(R::KIND.as_str().to_owned());
    letter.code = Some(row.code.to_owned());
    let mut set = |key: &str, value: serde_json::Value| {
        letter.metadata.insert(key.to_owned(), value);
    };
    set("path", row.origin.path.as_ref().into());
    set("line", row.origin.line.into());
    set("field", row.field.as_ref().into());
    if row.truncated {
        set("truncated", true.into());
    }
    letter
}
