//! `mds dlq replay`: letters back into the store.
//!
//! Letters go in batches: a batch is submitted, every record of it gets its fate, and only then
//! are its letters settled. A record that fails again has by then a new letter, which replaces the
//! old one and counts one replay more. So a run that is killed at any point leaves each letter
//! either settled, after its record is in the store or in a newer letter, or as it was; and since a
//! record that is in the store already writes nothing, replaying twice is harmless.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqOptions, Letter, LetterFilter, LetterKey, Replayer,
};
use mds_coordinator::{StopReport, WriteCoordinator};
use mds_core::{Kind, Origin, Sourced};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::Letters;
use crate::commands::ingest::grouped;
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

Records keep their revisions, so a letter never overwrites newer data. What fails again comes back
as a letter with a higher count of replays. Lines that could not be parsed are not replayed: mend
the file and ingest it again, then `mds dlq purge --reason invalid`.

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
    let mut total = table(&[
        "kind",
        ">letters",
        ">written",
        ">superseded",
        ">failed again",
        ">not replayable",
    ]);
    let mut exit = Exit::Success;
    for kind in Kind::ALL {
        if args.letters.kind.is_some_and(|only| only != kind) {
            continue;
        }
        let counts = with_record!(kind, R => replay_kind::<R>(args, context).await)?;
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
    if total.row_count() == 0 {
        context.note("there are no such letters");
        return Ok(Exit::Success);
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

async fn replay_kind<R: MarketRecord>(args: &Args, context: &Context) -> anyhow::Result<Counts> {
    let path = context.dlq_path(R::KIND);
    let letters = DeadLetterQueue::<R>::at(&path, DlqOptions::default())?;
    if letters.letter_files()?.is_empty() {
        return Ok(Counts::default());
    }
    let filter = LetterFilter {
        kind: Some(R::KIND.to_string()),
        limit: args.limit,
        ..args.letters.filter()
    };
    if args.dry_run {
        let letters = letters.histogram(filter)?.letters;
        return Ok(Counts {
            letters,
            ..Counts::default()
        });
    }
    // One replayer at a time, in any process; the lock goes with this one's end.
    let mut replayer = letters
        .replayer(filter)
        .with_context(|| format!("cannot replay the letters in {}", path.display()))?;
    let store = pipeline::open_store(&context.settings).await?;
    let settings = context.settings.coordinator();
    let coordinator = pipeline::builder::<R, Replayed<R>, _>(&settings, store.sink::<R>())
        .size_of(|r: &Replayed<R>| r.row.record.bytes())
        .dead_letters(Arc::new(letters.with_items::<Replayed<R>>()))
        .describe_letter(|replayed, letter| {
            pipeline::describe(&replayed.row, letter);
            letter.replaces = Some(replayed.letter);
            letter.replays = replayed.replays.saturating_add(1);
        })
        .start()?;
    let mut counts = Counts::default();
    let result = batches(&mut replayer, &coordinator, args.max_outage, &mut counts).await;
    let stopped: StopReport<_> = coordinator.stop(true, pipeline::STOP_TIMEOUT).await;
    store.close().await;
    counts.written = stopped.stats.written;
    counts.superseded = stopped.stats.superseded;
    counts.failed_again = stopped.stats.dead_lettered.total() + stopped.stats.dropped.total();
    let settled = match result {
        Ok(()) => Ok(()),
        // What the stop could not write has a new letter now, unless that failed too.
        Err(Interrupted { keys, error }) if stopped.stats.dropped.total() == 0 => {
            replayer.settle(&keys)?;
            Err(error)
        }
        Err(Interrupted { error, .. }) => Err(error),
    };
    replayer.finish()?;
    settled?;
    Ok(counts)
}

/// A batch that was not finished.
struct Interrupted {
    keys: Vec<LetterKey>,
    error: anyhow::Error,
}

async fn batches<R: MarketRecord>(
    replayer: &mut Replayer<R>,
    coordinator: &WriteCoordinator<Replayed<R>>,
    max_outage: Duration,
    counts: &mut Counts,
) -> Result<(), Interrupted> {
    let failed = |error: anyhow::Error| Interrupted {
        keys: Vec::new(),
        error,
    };
    loop {
        let batch = replayer.next_batch(BATCH).map_err(|e| failed(e.into()))?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut rows = VecDeque::new();
        let mut keys = Vec::new();
        for letter in &batch {
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
        let write = async {
            coordinator
                .submit_many(&mut rows)
                .await
                .context("the records were refused")?;
            while coordinator.flush(Duration::from_secs(1)).await.outstanding > 0 {}
            anyhow::Ok(())
        };
        let result = tokio::select! {
            result = write => result,
            stop = crate::commands::ingest::stop_reason(coordinator, max_outage) => {
                Err(anyhow::anyhow!("{stop}; the rest of the letters is as it was"))
            }
        };
        // What was not even submitted keeps its letters as they are.
        let unsent: Vec<Uuid> = rows.iter().map(|row| row.letter).collect();
        keys.retain(|key| !unsent.contains(&key.id()));
        if let Err(error) = result {
            return Err(Interrupted { keys, error });
        }
        replayer.settle(&keys).map_err(|e| failed(e.into()))?;
    }
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
                .and_then(serde_json::Value::as_u64)
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
                replays: letter.replays(),
            })
        })
        .collect()
}
