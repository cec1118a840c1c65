//! `mds dlq replay`: letters back into the store.
//!
//! Letters go in batches: a batch is submitted, every record of it gets its fate, and only then
//! are its letters settled. A record that fails again has by then a new letter, which replaces the
//! old one and counts one replay more. So a run that is killed at any point leaves each letter
//! either settled, after its record is in the store or in a newer letter, or as it was; and since a
//! record that is in the store already writes nothing, replaying twice is harmless.
//!
//! A letter of several records (another program wrote it) that fails again becomes a letter for
//! each record that failed: one id for all of them would make all but one disappear.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqOptions, Letter, LetterFilter, LetterKey, Replayer,
};
use mds_coordinator::{OverflowStrategy, StopReport, WriteCoordinator};
use mds_core::{Kind, Origin, Sourced};
use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::Letters;
use crate::commands::ingest::{Stop, grouped, stop_reason};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{note, table};
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
    /// Say what would be replayed, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop when the store is away for longer: 30s, 5m; 0 waits for ever
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = values::duration)]
    max_outage: Duration,
}

/// A record on its way back, with the letter that it comes from.
#[derive(Debug)]
struct Replayed<R> {
    row: Sourced<R>,
    letter: Uuid,
    /// Whether the letter holds this record alone, so that a new letter can take its place.
    is_alone: bool,
    replays: u32,
}

impl<R> Borrow<R> for Replayed<R> {
    fn borrow(&self) -> &R {
        &self.row.record
    }
}

impl<R: Serialize> Serialize for Replayed<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.row.serialize(serializer)
    }
}

/// What became of the letters of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    letters: u64,
    written: u64,
    superseded: u64,
    failed_again: u64,
    /// Raw lines, and records that are no market facts.
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
    for kind in Kind::ALL {
        if exit >= Exit::Failure || args.letters.kind.is_some_and(|only| only != kind) {
            continue;
        }
        let (counts, stop) = with_record!(kind, R => replay_kind::<R>(args, context).await)?;
        if let Some(stop) = stop {
            note(format_args!(
                "error: {stop}; the rest of the letters is as it was"
            ));
            exit = exit.worst(stop.exit());
        }
        if counts.letters == 0 {
            continue;
        }
        if counts.failed_again + counts.left > 0 {
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
    tell_of_no_kind(args, context)?;
    if total.row_count() == 0 {
        context.note("there are no such letters");
        return Ok(exit);
    }
    let mut out = crate::output::Out::stdout();
    out.table(&total)?;
    out.finish()?;
    if args.dry_run {
        context.note("dry run: nothing was replayed");
        return Ok(Exit::Success);
    }
    Ok(exit)
}

/// Whether letters that do not say their kind are taken to be of the kind at hand: their file is
/// for that kind, or the user says so.
fn takes_no_kind(args: &Args, context: &Context) -> bool {
    context.settings.dlq_path().is_none() || args.letters.kind.is_some()
}

/// Letters of one file for all kinds that nobody said the kind of.
fn tell_of_no_kind(args: &Args, context: &Context) -> anyhow::Result<()> {
    let Some(path) = context.settings.dlq_path() else {
        return Ok(());
    };
    if takes_no_kind(args, context) {
        return Ok(());
    }
    let letters = DeadLetterQueue::<Value>::at(path, DlqOptions::default())?;
    let by_kind = letters.histogram(args.letters.filter())?.by_kind;
    if let Some(count) = by_kind.get("") {
        let path = path.display();
        note(format_args!(
            "{count} letters in {path} do not say their kind; replay with --kind"
        ));
    }
    Ok(())
}

async fn replay_kind<R: MarketRecord>(
    args: &Args,
    context: &Context,
) -> anyhow::Result<(Counts, Option<Stop>)> {
    let path = context.dlq_path(R::KIND);
    let letters = DeadLetterQueue::<R>::at(&path, DlqOptions::default())?;
    if letters.letter_files()?.is_empty() {
        return Ok((Counts::default(), None));
    }
    let kind = (!takes_no_kind(args, context)).then(|| R::KIND.to_string());
    let filter = LetterFilter {
        kind,
        ..args.letters.filter()
    };
    if args.dry_run {
        let by_kind = letters.histogram(filter)?.by_kind;
        let known = |kind: &str| by_kind.get(kind).copied().unwrap_or(0);
        let found = known(R::KIND.as_str()) + known("");
        let letters = args.limit.map_or(found, |limit| found.min(limit as u64));
        return Ok((
            Counts {
                letters,
                ..Counts::default()
            },
            None,
        ));
    }
    // One replayer at a time, in any process; the lock goes with this one's end.
    let mut replayer = letters
        .replayer(filter)
        .with_context(|| format!("cannot replay the letters in {}", path.display()))?;
    let store = pipeline::open_store(&context.settings).await?;
    let settings = context.settings.coordinator();
    let coordinator = pipeline::builder::<R, Replayed<R>, _>(&settings, store.sink::<R>())
        // A letter has a place already: it can wait.
        .overflow_strategy(OverflowStrategy::Block)
        .size_of(|r: &Replayed<R>| r.row.record.bytes())
        .dead_letters(Arc::new(letters.with_items::<Replayed<R>>()))
        .describe_letter(|replayed, letter| {
            pipeline::describe(&replayed.row, letter);
            letter.replaces = replayed.is_alone.then_some(replayed.letter);
            letter.replays = replayed.replays.saturating_add(1);
        })
        .start()?;
    let mut counts = Counts::default();
    let result = batches(&mut replayer, &coordinator, args, &mut counts).await;
    let stopped: StopReport<_> = coordinator.stop(true, pipeline::STOP_TIMEOUT).await;
    store.close().await;
    counts.written = stopped.stats.written;
    counts.superseded = stopped.stats.superseded;
    counts.failed_again = stopped.stats.dead_lettered.total() + stopped.stats.dropped.total();
    let stop = match result {
        Ok(()) => None,
        Err(Unfinished::Stopped { keys, stop }) => {
            // What the stop could not write has a new letter now, unless that failed too.
            if stopped.stats.dropped.total() == 0 {
                replayer.settle(&keys)?;
            }
            Some(stop)
        }
        Err(Unfinished::Failed(error)) => return Err(error),
    };
    replayer.finish()?;
    Ok((counts, stop))
}

/// Why not every letter was replayed.
enum Unfinished {
    /// A signal, or the store. The letters of `keys` were submitted.
    Stopped { keys: Vec<LetterKey>, stop: Stop },
    /// The letters could not be read or settled.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Unfinished {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn batches<R: MarketRecord>(
    replayer: &mut Replayer<R>,
    coordinator: &WriteCoordinator<Replayed<R>>,
    args: &Args,
    counts: &mut Counts,
) -> Result<(), Unfinished> {
    let mut remaining = args.limit.unwrap_or(usize::MAX);
    while remaining > 0 {
        let batch = replayer.next_batch(BATCH)?;
        if batch.is_empty() {
            break;
        }
        let is_ours = |letter: &&Letter<R>| letter.kind().is_none_or(|k| k == R::KIND.as_str());
        let chosen: Vec<&Letter<R>> = batch.iter().filter(is_ours).take(remaining).collect();
        remaining -= chosen.len();
        let (mut rows, mut keys) = take_rows(&chosen, counts);
        let write = async {
            coordinator
                .submit_many(&mut rows)
                .await
                .context("the records were refused")?;
            while coordinator.flush(Duration::from_secs(1)).await.outstanding > 0 {}
            anyhow::Ok(())
        };
        let stop = tokio::select! {
            result = write => {
                result?;
                None
            }
            stop = stop_reason(coordinator, args.max_outage) => Some(stop),
        };
        if let Some(stop) = stop {
            // What was not even submitted keeps its letters as they are.
            let unsent: Vec<Uuid> = rows.iter().map(|row| row.letter).collect();
            keys.retain(|key| !unsent.contains(&key.id()));
            return Err(Unfinished::Stopped { keys, stop });
        }
        replayer.settle(&keys)?;
    }
    Ok(())
}

/// The records of letters, and what settles the letters; tells of those that stay as they are.
fn take_rows<R: MarketRecord>(
    letters: &[&Letter<R>],
    counts: &mut Counts,
) -> (VecDeque<Replayed<R>>, Vec<LetterKey>) {
    let (mut rows, mut keys) = (VecDeque::new(), Vec::new());
    for letter in letters {
        counts.letters += 1;
        match rows_of(letter) {
            Ok(found) => {
                rows.extend(found);
                keys.push(letter.key());
            }
            Err(why) => {
                counts.left += 1;
                note(format_args!("letter {} is not replayed: {why}", letter.id));
            }
        }
    }
    (rows, keys)
}

/// The records of a letter; an error says why it stays.
fn rows_of<R: MarketRecord>(letter: &Letter<R>) -> Result<Vec<Replayed<R>>, String> {
    let origin = letter
        .metadata
        .get("path")
        .and_then(|p| p.as_str())
        .map(|path| Origin {
            path: path.into(),
            line: letter
                .metadata
                .get("line")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        });
    letter
        .items
        .iter()
        .map(|item| {
            let record = item.record().ok_or("it holds a line that is no record")?;
            let mut record = record.clone();
            record.normalize();
            record.validate().map_err(|invalid| invalid.to_string())?;
            Ok(Replayed {
                row: Sourced {
                    record,
                    origin: origin.clone(),
                },
                letter: letter.id,
                is_alone: letter.items.len() == 1,
                replays: letter.replays(),
            })
        })
        .collect()
}
