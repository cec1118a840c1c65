//! `mds audit`: proves that nothing is missing.

use std::path::{Path, PathBuf};

use mds_coordinator::DurableTotals;
use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, LetterFilter};
use mds_core::settings::{QueueChoice, SettingFlag};
use mds_core::{Bar, Fundamentals, Kind, News, OptionSnap};
use mds_store::OpenOptions;
use mds_wal::{FileStorage, InspectError};
use serde_json::{Value, json};

use crate::commands::ingest::ReadingArgs;
use crate::commands::ingest::audit::{Found, audit};
use crate::context::Context;
use crate::exit::{Exit, Usage, told};
use crate::output::{Out, grouped, note, table};
use crate::runtime::block_on;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  mds audit --queue disk:queue
  mds audit --queue disk:queue --kind bars prices.csv
  mds audit --kind bars prices.csv --vendor acme --json

Without files: prints, for each durable queue, that every record it has ever taken is accounted for
(accepted = written + superseded + dead-lettered + dropped + damaged + queued), the dead letters that
wait, and the rows of the store. With files: looks for each row, in the store (as it is in the file, or
one that wins over it), in the queue, or in a letter, and names the lines that are nowhere. The files
are read as `mds ingest` reads them, with the same flags.

Exit code 0: all is there; 1: something is missing, or could not be looked at; 2: wrong usage.";

/// Arguments of `mds audit`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files whose rows are looked for
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files hold; without files: the queue of this kind only
    #[arg(long, value_parser = values::kind_parser())]
    kind: Option<Kind>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Where the durable queues are: disk:DIR
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The file of the dead letters [default: .dlq/KIND.ndjson]
    #[arg(long, value_name = "FILE")]
    dlq: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The flags that stand for settings and were given.
    pub(crate) fn setting_flags(&self) -> Vec<SettingFlag<'_>> {
        let flags = [
            ("--tenant", self.reading.tenant()),
            ("--queue", self.queue.as_deref()),
            ("--dlq", self.dlq.as_deref()),
        ];
        flags
            .into_iter()
            .filter_map(|(flag, value)| value.map(|value| SettingFlag { flag, value }))
            .collect()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    match (args.files.is_empty(), args.kind) {
        (true, kind) => books(args, kind, context),
        (false, Some(kind)) => files(args, kind, context),
        (false, None) => Err(Usage::new("say what the files hold: --kind bars").into()),
    }
}

/// What one queue says of itself.
struct Book {
    kind: Kind,
    totals: DurableTotals,
    /// Letters of the kind that wait.
    letters: u64,
    /// Rows of the kind in the store.
    stored: Option<u64>,
}

fn books(args: &Args, kind: Option<Kind>, context: &Context) -> anyhow::Result<Exit> {
    let QueueChoice::Disk(dir) = context.settings.queue() else {
        let what = "name the durable queue, such as --queue disk:queue, or files to look for";
        return Err(Usage::new(what).into());
    };
    let mut books = Vec::new();
    let mut exit = Exit::Success;
    for kind in Kind::ALL
        .into_iter()
        .filter(|k| kind.is_none_or(|one| one == *k))
    {
        match book(kind, &dir, context) {
            Ok(Some(book)) => books.push(book),
            Ok(None) => {}
            Err(error) => {
                note(format_args!("error: {}", told(&error)));
                exit = Exit::Failure;
            }
        }
    }
    if books.is_empty() && exit == Exit::Success {
        let what = format!("there is no durable queue in {}", dir.display());
        return Err(Usage::new(what).into());
    }
    if books
        .iter()
        .any(|b| !b.totals.is_balanced() || b.totals.damaged > 0)
    {
        exit = Exit::Failure;
    }
    tell_books(&books, args.json)?;
    Ok(exit)
}

fn book(kind: Kind, dir: &Path, context: &Context) -> anyhow::Result<Option<Book>> {
    let folder = dir.join(kind.as_str());
    let found = match mds_wal::inspect(&FileStorage::at(&folder)) {
        Ok(found) => found,
        Err(InspectError::NoQueue) => return Ok(None),
        Err(_) if !folder.exists() => return Ok(None),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(folder.display().to_string()));
        }
    };
    let settled = found.checkpoint.map(|c| c.totals).unwrap_or_default();
    let letters = DeadLetterQueue::<Value>::at(context.dlq_path(kind), DlqOptions::default())?;
    let of_kind = LetterFilter {
        coord_id: Some(kind.as_str().to_owned()),
        ..LetterFilter::default()
    };
    Ok(Some(Book {
        kind,
        totals: DurableTotals::new(&settled, found.next, found.waiting),
        letters: letters.histogram(of_kind)?.letters,
        stored: stored(kind, context)?,
    }))
}

/// Rows of a kind in the store.
fn stored(kind: Kind, context: &Context) -> anyhow::Result<Option<u64>> {
    let counted = block_on(async {
        let store = context.open_for_reading().await?;
        let stats = store.stats().await;
        store.close().await;
        Ok(stats?)
    });
    let stats = counted?;
    let of_kind = stats.kinds.iter().find(|stats| stats.kind == kind);
    Ok(of_kind.map(|of_kind| of_kind.rows))
}

fn tell_books(books: &[Book], is_json: bool) -> anyhow::Result<()> {
    let mut out = Out::stdout();
    if is_json {
        let object = |book: &Book| {
            let t = &book.totals;
            json!({
                "kind": book.kind.as_str(), "accepted": t.accepted, "written": t.written,
                "superseded": t.superseded, "dead_lettered": t.dead_lettered,
                "dropped": t.dropped, "damaged": t.damaged, "queued": t.queued,
                "balanced": t.is_balanced(), "letters_waiting": book.letters,
                "rows_stored": book.stored,
            })
        };
        out.json(&books.iter().map(object).collect())?;
        return out.finish();
    }
    let names = [
        "queue",
        "accepted",
        "=",
        "written",
        "+ superseded",
        "+ dead-lettered",
        "+ dropped",
        "+ damaged",
        "+ queued",
        "balanced",
        "letters waiting",
        "rows stored",
    ];
    let mut rows = table(&names);
    for book in books {
        let t = &book.totals;
        let yes = if t.is_balanced() { "yes" } else { "NO" };
        let stored = book.stored.map_or_else(|| "-".to_owned(), grouped);
        rows.add_row([
            book.kind.as_str().to_owned(),
            grouped(t.accepted),
            "=".to_owned(),
            grouped(t.written),
            grouped(t.superseded),
            grouped(t.dead_lettered),
            grouped(t.dropped),
            grouped(t.damaged),
            grouped(t.queued),
            yes.to_owned(),
            grouped(book.letters),
            stored,
        ]);
    }
    out.table(&rows)?;
    out.finish()
}

fn files(args: &Args, kind: Kind, context: &Context) -> anyhow::Result<Exit> {
    let found = block_on(async {
        let options = OpenOptions {
            create: false,
            migrate: false,
            ..OpenOptions::default()
        };
        let store = context.open(options).await?;
        let (files, reading) = (&args.files, &args.reading);
        let found = match kind {
            Kind::Bars => audit::<Bar>(files, reading, &store, context).await,
            Kind::Options => audit::<OptionSnap>(files, reading, &store, context).await,
            Kind::Fundamentals => audit::<Fundamentals>(files, reading, &store, context).await,
            Kind::News => audit::<News>(files, reading, &store, context).await,
        };
        store.close().await;
        found
    })?;
    tell_files(kind, &found, args.json)?;
    Ok(if found.missing() > 0 || !found.errors.is_empty() {
        Exit::Failure
    } else {
        Exit::Success
    })
}

fn tell_files(kind: Kind, found: &Found, is_json: bool) -> anyhow::Result<()> {
    for error in &found.errors {
        note(format_args!("error: {error}"));
    }
    for place in &found.nowhere {
        note(format_args!("missing: {place}"));
    }
    let told = found.nowhere.len() as u64;
    if found.missing() > told {
        let more = grouped(found.missing() - told);
        note(format_args!("missing: and {more} more"));
    }
    let mut out = Out::stdout();
    if is_json {
        out.json(&json!({
            "kind": kind.as_str(), "rows": found.rows, "in_store": found.in_store,
            "in_queue": found.in_queue, "in_letters": found.in_letters,
            "missing": found.missing(), "first_missing": found.nowhere,
        }))?;
    } else {
        let mut rows = table(&[
            "rows",
            "in the store",
            "in the queue",
            "in letters",
            "missing",
        ]);
        let figures = [
            found.rows,
            found.in_store,
            found.in_queue,
            found.in_letters,
            found.missing(),
        ];
        rows.add_row(figures.map(grouped));
        out.table(&rows)?;
    }
    out.finish()
}
