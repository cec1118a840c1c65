//! The write path of one run, from the first row to the report.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::{DeadLetterQueue, DurableQueue, Metrics, WriteCoordinator};
use mds_core::{Sourced, Timestamp};
use mds_formats::Options;
use mds_store::Store;
use tokio::sync::mpsc;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;

use super::Args;
use super::dry_run;
use super::input::{self, Input};
use super::progress::Progress;
use super::read::{self, Said};
use super::report::{Report, Tally, Unread};
use super::rows::Seen;
use super::stop::{MaxBad, Stop};
use super::watch::{self, Outages, Signals};
use crate::context::Context;
use crate::durable;
use crate::exit::{Exit, Usage};
use crate::marks::{Marks, Standing};
use crate::output::grouped;
use crate::pipeline::{self, MarketRecord};

/// How long a file's reader may take to say what comes next, once the run has stopped.
const NEXT_CHUNK: Duration = Duration::from_secs(2);

/// What the parts of a run share.
pub(super) struct Run<R: MarketRecord> {
    inputs: Vec<Input>,
    next: AtomicUsize,
    pub(super) options: Options,
    pub(super) revision: Option<Timestamp>,
    pub(super) max_outage: Duration,
    pub(super) max_bad: Option<MaxBad>,
    pub(super) store: Store,
    pub(super) letters: Arc<DeadLetterQueue<Sourced<R>>>,
    pub(super) coordinator: WriteCoordinator<Sourced<R>>,
    /// Where the queue is durable.
    pub(super) marks: Option<Marks>,
    /// Records of the queue that were found damaged before the first row was read.
    known_damaged: u64,
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
    let store_url = context.store_url()?;
    durable::check_dir(context)?;
    let inputs = input::expand(&args.inputs, &store_url, durable::dir(context).as_deref())?;
    let drains = args.inputs.is_empty() && durable::folder_of::<R>(context).is_some();
    if args.inputs.is_empty() && !drains {
        let what =
            "name a FILE, a FOLDER or -; without any, --queue disk:DIR writes what waits there";
        return Err(Usage::new(what).into());
    }
    if inputs.is_empty() && !drains {
        return Err(Usage::new("there are no files in what was given; name one").into());
    }
    input::check_revision(args.revision)?;
    let dlq = context.dlq_path(R::KIND);
    input::check_dlq(&dlq, &inputs, &store_url)?;
    let options = args.reading.options(context.settings.tenant_id());
    if args.dry_run {
        return dry_run::run::<R>(&inputs, &options, args, context).await;
    }
    // All of this fails before the first row, or not at all.
    let store = pipeline::open_store(context, args.max_outage).await?;
    let letters = pipeline::open_letters::<R>(&dlq)?;
    let queue = durable::open_queue::<R>(context, &store)?;
    let (marks, known_damaged) = past_of::<R>(queue.as_ref(), context);
    let mut builder =
        pipeline::coordinator::<R, _>(&context.settings.coordinator(), store.sink::<R>())
            .dead_letters(Arc::<DeadLetterQueue<Sourced<R>>>::clone(&letters));
    if let Some(queue) = queue {
        builder = builder.durable_queue(queue);
    }
    let coordinator = builder.start()?;
    let metrics = match context.settings.listen() {
        None => None,
        Some(address) => Some(serve_metrics(address, context).await?),
    };
    let run = Arc::new(Run {
        progress: Progress::new(length(&inputs), context.quiet),
        inputs,
        next: AtomicUsize::new(0),
        options,
        revision: args.revision,
        max_outage: args.max_outage,
        max_bad: args.max_bad,
        store,
        letters,
        coordinator,
        marks,
        known_damaged,
        tally: Mutex::default(),
        stop: Sender::new(None),
        quiet: context.quiet,
    });
    let started = std::time::Instant::now();
    run.all(args.jobs).await;
    let stop = run.stop.borrow().clone();
    let grace = stop.as_ref().map_or(pipeline::STOP_TIMEOUT, Stop::grace);
    let stopped = run.coordinator.stop(true, grace).await;
    run.settle_marks(stop.as_ref());
    run.tell_of_damage(stopped.stats.damaged);
    run.save_marks().await;
    pipeline::close_store(&run.store, stopped.timed_out).await;
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    let mut tally = run.tally().clone();
    tally.answer(stopped.stats.submitted);
    let report = Report {
        kind: R::KIND,
        tally,
        stats: stopped.stats,
        stop,
        revision: args.revision,
        seconds: started.elapsed().as_secs_f64(),
        dlq,
        queue: durable::folder_of::<R>(context),
        quiet: context.quiet,
    };
    run.progress.finish();
    report.tell(args.json)
}

/// How far files were taken into the queue by earlier runs, and how many records of it are known to be
/// damaged.
fn past_of<R: MarketRecord>(
    queue: Option<&DurableQueue<Sourced<R>>>,
    context: &Context,
) -> (Option<Marks>, u64) {
    let Some((queue, folder)) = queue.zip(durable::folder_of::<R>(context)) else {
        return (None, 0);
    };
    let marks = Marks::read(&folder, &Standing::of(queue));
    (Some(marks), queue.recovery().damaged)
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
    async fn all(self: &Arc<Self>, jobs: u16) {
        let mut tasks = JoinSet::new();
        for _ in 0..jobs {
            let run = Arc::clone(self);
            tasks.spawn(async move { run.job().await });
        }
        let signals = Signals::listen();
        let outages = Outages::new(self.max_outage, |text: &str| self.say(text));
        let stop = {
            let work = async {
                while let Some(ended) = tasks.join_next().await {
                    if let Err(error) = ended {
                        // A fault of this program; what was accepted is settled all the same.
                        self.tally().errors.push((Exit::Failure, error.to_string()));
                    }
                }
                let second = Duration::from_secs(1);
                while self.coordinator.flush(second).await.outstanding > 0 {}
            };
            tokio::select! {
                () = work => {
                    outages.over();
                    None
                }
                stop = watch::stop_reason(&self.coordinator, &outages, &signals) => Some(stop),
                stop = self.stopped() => Some(stop),
                () = self.progress.follow(|| self.message()) => None,
            }
        };
        if let Some(stop) = stop {
            if matches!(stop, Stop::Interrupted | Stop::Terminated) {
                self.say(
                    "stopping: what was accepted is settled first; a second SIGINT ends at once",
                );
            }
            self.stop_for(stop);
        }
        // The readers see the stop and end; what they hold was not taken.
        while tasks.join_next().await.is_some() {}
    }

    fn message(&self) -> String {
        let stats = self.coordinator.stats();
        let mut parts = vec![self.progress.rows(stats.resolved())];
        let bad = self.tally().invalid;
        for (rows, what) in [(bad, "bad"), (stats.queued + stats.in_flight, "queued")] {
            if rows > 0 {
                parts.push(format!("{} {what}", grouped(rows)));
            }
        }
        if let Some(time) = self.coordinator.failing_for() {
            let seconds = time.as_secs();
            parts.push(format!("waiting for the store since {seconds} s"));
        }
        parts.join(", ")
    }

    pub(super) fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a reason to stop.
    pub(super) async fn stopped(&self) -> Stop {
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

    pub(super) fn stop_for(&self, reason: Stop) {
        self.stop.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(reason);
            first
        });
    }

    fn is_stopped(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Tells something about the run, unless only errors are told.
    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            self.progress.println(text);
        }
    }

    /// Takes one input after the other.
    async fn job(self: &Arc<Self>) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(input) = self.inputs.get(index) else {
                return;
            };
            if self.is_stopped() {
                // That those after an input that was begun are unread goes without saying.
                let mut tally = self.tally();
                if tally.unread.is_empty() {
                    let first = Unread::From(format!("{}:1", input.name()));
                    tally.unread.insert(index, first);
                }
                return;
            }
            if let Err(error) = self.input(index, input).await {
                let failed = error.downcast_ref::<read::Failed>();
                let exit = failed.map_or(Exit::Failure, read::Failed::exit);
                let error = crate::exit::told(&error);
                self.tally().errors.push((exit, error));
            }
        }
    }

    fn unread(&self, index: usize, unread: Unread) {
        self.tally().unread.insert(index, unread);
    }

    async fn input(self: &Arc<Self>, index: usize, input: &Input) -> anyhow::Result<()> {
        let name = input.name();
        let Some(begin) = self.base_revision(input).await? else {
            self.unread(index, Unread::From(format!("{name}:1")));
            return Ok(());
        };
        let mut seen = Seen::of(begin.content.as_deref());
        let Some(taken) = self.taken(&name, &seen, begin.is_known) else {
            return Ok(());
        };
        let position = Arc::clone(&self.progress.position);
        let (options, revisions) = (self.options.clone(), begin.revisions);
        let mut said = read::start::<R>(input.clone(), options, revisions, taken, position)
            .context("cannot start the thread that reads")?;
        seen.acknowledged = taken;
        loop {
            let next = tokio::select! {
                biased;
                _ = self.stopped() => break,
                next = said.recv() => next,
            };
            match next {
                Some(Said::Notes(notes)) => self.notes(&name, &notes),
                Some(Said::Chunk(chunk)) => {
                    let taken = self.chunk(chunk, &mut seen).await;
                    if taken.is_ok() {
                        self.mark(&name, &seen, false);
                        self.save_due_marks().await;
                    }
                    if let Err(first) = taken {
                        let first = first.as_ref().map(Unread::before);
                        self.unread(
                            index,
                            first.unwrap_or_else(|| Unread::after(seen.last.as_ref())),
                        );
                        return Ok(());
                    }
                }
                Some(Said::Ended) => {
                    // What its rows bring themselves, no option changes.
                    if let Some(modified) = begin.is_new.filter(|_| seen.given > 0) {
                        self.tally().new_files.push((name.clone(), modified));
                    }
                    self.mark(&name, &seen, !seen.has_refused);
                    if self.marks.is_some() {
                        self.save_marks().await;
                    }
                    return Ok(());
                }
                Some(Said::Failed(error)) => {
                    let exit = error.exit();
                    self.tally().errors.push((exit, error.told()));
                    return Ok(());
                }
                None => anyhow::bail!("{name}: the thread that reads ended without a word"),
            }
        }
        if let Some(unread) = rest(said, input, seen).await {
            self.unread(index, unread);
        }
        Ok(())
    }

    /// How many rows of an input an earlier run has taken; `None` if that is all of it.
    fn taken(&self, name: &str, seen: &Seen, is_known: bool) -> Option<u64> {
        let marks = self.marks.as_ref().zip(seen.content.as_deref());
        let mark = marks.and_then(|(marks, content)| marks.get(content));
        // A store that was put back to an earlier state knows nothing of what was in it later.
        let Some(mark) = mark.filter(|_| is_known) else {
            return Some(0);
        };
        let rows = grouped(mark.rows);
        if mark.is_whole {
            let all = format!("all {rows} rows were taken by an earlier run");
            self.notes(name, &[all]);
            return None;
        }
        if mark.rows > 0 {
            let some = format!("{rows} rows were taken by an earlier run; it goes on behind them");
            self.notes(name, &[some]);
        }
        Some(mark.rows)
    }

    /// Notes how far an input is acknowledged.
    fn mark(&self, name: &str, seen: &Seen, is_whole: bool) {
        if let Some((marks, content)) = self.marks.as_ref().zip(seen.content.as_deref()) {
            marks.set(content, name, seen.acknowledged, is_whole);
        }
    }

    /// What becomes of the marks when the run ends.
    fn settle_marks(&self, stop: Option<&Stop>) {
        let is_over = stop.is_none_or(|stop| !stop.can_be_resumed());
        if let Some(marks) = self.marks.as_ref().filter(|_| is_over) {
            marks.forget_own();
        }
    }

    /// Says how rows of the queue that were damaged come in again.
    fn tell_of_damage(&self, damaged: u64) {
        let what = if damaged == 0 {
            return;
        } else if self.inputs.is_empty() {
            "ingest the files that they came from again; `mds audit FILE...` tells whether rows are \
             missing"
        } else if damaged > self.known_damaged {
            "run the same command once more, which reads its files anew"
        } else {
            // It was known when the first row was read.
            "the files of this run were read anew; if rows of others were in the queue, ingest these \
             again"
        };
        self.say(&format!("rows of the queue were damaged: {what}"));
    }

    async fn save_due_marks(self: &Arc<Self>) {
        if self.marks.as_ref().is_some_and(Marks::is_due) {
            self.save_marks().await;
        }
    }

    /// Makes durable how far the inputs are acknowledged.
    async fn save_marks(self: &Arc<Self>) {
        let run = Arc::clone(self);
        let save = move || {
            let stats = || run.coordinator.durable_stats();
            let next = || stats().map_or(0, |stats| stats.durable);
            run.marks.as_ref().map_or(Ok(()), |marks| marks.save(next))
        };
        let saved = tokio::task::spawn_blocking(save).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(
                error = format!("{error:#}"),
                "after a kill, more is read again"
            );
        }
    }

    pub(super) fn notes(&self, name: &str, notes: &[String]) {
        for note in notes {
            self.say(&format!("{name}: {note}"));
        }
    }
}

/// What an input holds beyond what was taken, after the run has stopped; `None` where it is taken
/// to its end.
async fn rest<R: MarketRecord>(
    mut said: mpsc::Receiver<Said<R>>,
    input: &Input,
    seen: Seen,
) -> Option<Unread> {
    loop {
        let next = match input {
            Input::File(_) => tokio::time::timeout(NEXT_CHUNK, said.recv()).await.ok(),
            // Nobody knows when a producer says more.
            Input::Stdin => said.try_recv().ok().map(Some),
        };
        match next {
            Some(Some(Said::Notes(_))) => {}
            Some(Some(Said::Chunk(chunk))) => {
                if let Some(first) = &chunk.first {
                    return Some(Unread::before(first));
                }
            }
            Some(Some(Said::Ended)) => return None,
            Some(Some(Said::Failed(_)) | None) | None => {
                return Some(Unread::after(seen.last.as_ref()));
            }
        }
    }
}
