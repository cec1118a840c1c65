//! `mds dlq replay`: letters back into the store.
//!
//! Letters go in batches: a batch is submitted, every record of it gets its fate, and only then
//! are its letters settled. A record that fails again has by then a new letter, which replaces the
//! old one and counts one replay more. So a run that is killed or stopped at any point leaves each
//! letter either settled, after its record is in the store or in a newer letter, or as it was; and
//! since a record that is in the store already writes nothing, replaying twice is harmless.
//!
//! A letter of several records (another program wrote it) that fails again becomes a letter for
//! each record that failed: one id for all of them would make all but one disappear.

mod rows;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqError, DlqOptions, Entry, Letter, LetterDraft, LetterFilter, LetterItem,
    Reason, Replayer,
};
use mds_coordinator::{DeadLetters, OverflowStrategy, StopReport, WriteCoordinator};
use mds_core::Kind;
use mds_store::Store;
use serde_json::Value;

use self::rows::{Replayed, rows_of, take_rows};
use super::Letters;
use crate::commands::ingest::{self, Outages, Signals, Stop};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, grouped, note, table, unless_closed};
use crate::pipeline::{self, MarketRecord};
use crate::values::{self, with_record};

const EXAMPLES: &str = "\
Examples:
  mds dlq replay --dry-run
  mds dlq replay --reason retries_exhausted
  mds dlq replay --kind bars --symbol SPY --limit 1000

Letters that do not say their kind, as other programs write them, are taken to be of the kind that
their file is for, or that --kind says. Records keep their revisions, so a letter never overwrites
newer data. What fails again comes back as a letter with a higher count of replays. Lines that
could not be parsed are not replayed: mend the file and ingest it again, then `mds dlq purge
--reason invalid`.

Exit code 0: every letter that was chosen is settled; 3: some failed again, or cannot be replayed.";

/// Letters that are submitted and settled together.
const BATCH: usize = 500;

/// Arguments of `mds dlq replay`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    letters: Letters,
    /// At most so many letters of each kind
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How many workers write; with a range, such as 1..8, as many as the store has use for
    #[arg(long, value_name = "N|N..M")]
    pub(super) workers: Option<String>,
    /// Say what would be replayed, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop when the store is away for longer: 30s, 5m; 0 waits for ever
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = values::duration)]
    max_outage: Duration,
}

/// How much is replayed.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Letters of a kind.
    letters: Option<usize>,
    /// Bytes of one record.
    max_bytes: usize,
}

/// What became of the letters of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    letters: u64,
    written: u64,
    superseded: u64,
    failed_again: u64,
    /// Raw lines, and records that are no market facts or too large.
    left: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let runtime = pipeline::runtime()?;
    let exit = runtime.block_on(replay(args, context));
    runtime.shutdown_background();
    exit
}

async fn replay(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let columns = [
        "kind",
        ">letters",
        ">written",
        ">superseded",
        ">failed again",
        ">not replayable",
    ];
    let mut total = table(&columns);
    let mut exit = Exit::Success;
    let signals = Signals::listen();
    for kind in Kind::ALL {
        if exit >= Exit::Failure || args.letters.kind.is_some_and(|only| only != kind) {
            continue;
        }
        let (counts, stop) =
            with_record!(kind, R => replay_kind::<R>(args, context, &signals).await)?;
        if let Some(stop) = stop {
            note(format_args!(
                "error: {stop}; the letters that were not replayed are as they were"
            ));
            exit = exit.worst(stop.exit());
        }
        if counts.letters == 0 {
            continue;
        }
        if counts.failed_again + counts.left > 0 && !args.dry_run {
            exit = exit.worst(Exit::Incomplete);
        }
        total.add_row([
            kind.to_string(),
            grouped(counts.letters),
            grouped(counts.written),
            grouped(counts.superseded),
            grouped(counts.failed_again),
            grouped(counts.left),
        ]);
    }
    if tell_of_no_kind(args, context)? {
        exit = exit.worst(Exit::Incomplete);
    } else if total.row_count() == 0 && exit == Exit::Success {
        context.note("there are no such letters");
    }
    if total.row_count() > 0 {
        let mut out = Out::stdout();
        unless_closed(out.table(&total).and_then(|()| out.finish()))?;
    }
    if args.dry_run {
        context.note("dry run: nothing was replayed");
    }
    Ok(exit)
}

/// Whether letters that do not say their kind are taken to be of the kind at hand: their file is
/// for that kind, or the user says so.
fn takes_no_kind(args: &Args, context: &Context) -> bool {
    context.settings.dlq_path().is_none() || args.letters.kind.is_some()
}

/// Whether there are letters in one file for all kinds that nobody said the kind of; says so.
fn tell_of_no_kind(args: &Args, context: &Context) -> anyhow::Result<bool> {
    let Some(path) = context.settings.dlq_path() else {
        return Ok(false);
    };
    if takes_no_kind(args, context) {
        return Ok(false);
    }
    let letters = DeadLetterQueue::<Value>::at(path, DlqOptions::default())?;
    let by_kind = letters.histogram(args.letters.filter())?.by_kind;
    let Some(count) = by_kind.get("") else {
        return Ok(false);
    };
    let path = path.display();
    note(format_args!(
        "{count} letters in {path} do not say their kind; replay with --kind"
    ));
    Ok(true)
}

async fn replay_kind<R: MarketRecord>(
    args: &Args,
    context: &Context,
    signals: &Signals,
) -> anyhow::Result<(Counts, Option<Stop>)> {
    let mut counts = Counts::default();
    let path = context.dlq_path(R::KIND);
    let letters = DeadLetterQueue::<R>::at(&path, DlqOptions::default())?;
    if letters.letter_files()?.is_empty() {
        return Ok((counts, None));
    }
    let kind = (!takes_no_kind(args, context)).then(|| R::KIND.to_string());
    let filter = LetterFilter {
        kind,
        ..args.letters.filter()
    };
    let max_bytes = context.settings.coordinator().coordinator_max_bytes;
    if args.dry_run {
        for entry in letters.scan(filter)? {
            let Entry::Letter(letter) = entry? else {
                continue;
            };
            if is_of_kind(&letter) && args.limit.is_none_or(|most| counts.letters < most as u64) {
                counts.letters += 1;
                counts.left += u64::from(rows_of(&letter, max_bytes).is_err());
            }
        }
        return Ok((counts, None));
    }
    // One replayer at a time, in any process; the lock goes with this one's end.
    let mut replayer = letters
        .replayer(filter)
        .with_context(|| format!("cannot replay the letters in {}", path.display()))?;
    let first = replayer.next_batch(BATCH)?;
    // A store is neither opened nor made for nothing.
    if !first.iter().any(is_of_kind) && first.len() < BATCH {
        replayer.finish()?;
        return Ok((counts, None));
    }
    let store = pipeline::open_store(context, args.max_outage).await?;
    let coordinator = coordinator(context, &store, &letters)?;
    let outages = Outages::new(args.max_outage, |text: &str| context.note(text));
    let stop_reason = ingest::stop_reason(&coordinator, &outages, signals);
    let limits = Limits {
        letters: args.limit,
        max_bytes,
    };
    let batches = batches(&mut replayer, first, &coordinator, limits, &mut counts);
    let result = tokio::select! {
        result = batches => {
            outages.over();
            result.map(|()| None)
        }
        stop = stop_reason => Ok(Some(stop)),
    };
    let grace = match &result {
        Ok(Some(stop)) => stop.grace(),
        _ => pipeline::STOP_TIMEOUT,
    };
    let stopped: StopReport<_> = coordinator.stop(true, grace).await;
    pipeline::close_store(&store, stopped.timed_out).await;
    let stats = stopped.stats;
    counts.written = stats.written;
    counts.superseded = stats.superseded;
    counts.failed_again = stats.dead_lettered.total() + stats.dropped.total()
        - stats.dead_lettered.get(Reason::Shutdown);
    let stop = result?;
    replayer.finish()?;
    Ok((counts, stop))
}

fn coordinator<R: MarketRecord>(
    context: &Context,
    store: &Store,
    letters: &DeadLetterQueue<R>,
) -> anyhow::Result<WriteCoordinator<Replayed<R>>> {
    let settings = context.settings.coordinator();
    let coordinator = pipeline::builder::<R, Replayed<R>, _>(&settings, store.sink::<R>())
        // A letter has a place already: it can wait.
        .overflow_strategy(OverflowStrategy::Block)
        .size_of(|r: &Replayed<R>| r.row.record.bytes())
        .dead_letters(Arc::new(Failures(letters.with_items())))
        .describe_letter(|replayed, letter| {
            pipeline::describe(&replayed.row, letter);
            letter.replaces = replayed.is_alone.then_some(replayed.letter);
            letter.replays = replayed.replays.saturating_add(1);
        })
        .start()?;
    Ok(coordinator)
}

/// The letters of records that failed again. What a stop leaves unwritten has not failed: its
/// letter stays as it was.
struct Failures<R>(DeadLetterQueue<Replayed<R>>);

impl<R: MarketRecord> DeadLetters<Replayed<R>> for Failures<R> {
    fn item(&self, item: &Replayed<R>) -> LetterItem {
        self.0.item(item)
    }

    fn append(&self, mut letters: Vec<LetterDraft>) -> Result<(), DlqError> {
        letters.retain(|letter| letter.reason != Reason::Shutdown);
        self.0.append(letters).map(drop)
    }

    fn bytes(&self) -> u64 {
        DeadLetters::bytes(&self.0)
    }
}

/// Whether a letter is about records of this kind, or does not say of which.
fn is_of_kind<R: MarketRecord>(letter: &Letter<R>) -> bool {
    letter.kind().is_none_or(|kind| kind == R::KIND.as_str())
}

/// Replays and settles batch after batch. Dropped in the middle of one, it leaves the letters of
/// that batch as they were.
async fn batches<R: MarketRecord>(
    replayer: &mut Replayer<R>,
    first: Vec<Letter<R>>,
    coordinator: &WriteCoordinator<Replayed<R>>,
    limits: Limits,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let mut remaining = limits.letters.unwrap_or(usize::MAX);
    let mut batch = first;
    while remaining > 0 && !batch.is_empty() {
        let ours = batch.iter().filter(|letter| is_of_kind(letter));
        let chosen: Vec<&Letter<R>> = ours.take(remaining).collect();
        remaining -= chosen.len();
        let (mut rows, keys) = take_rows(&chosen, limits.max_bytes, counts);
        coordinator
            .submit_many(&mut rows)
            .await
            .context("the records were refused")?;
        let second = Duration::from_secs(1);
        while coordinator.flush(second).await.outstanding > 0 {}
        replayer.settle(&keys)?;
        batch = replayer.next_batch(BATCH)?;
    }
    Ok(())
}
