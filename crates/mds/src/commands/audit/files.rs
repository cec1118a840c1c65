//! `mds audit FILE...`: where each row of a file is.

use std::path::Path;

use mds_coordinator::DurableTotals;
use mds_core::{Bar, Fundamentals, Kind, News, OptionSnap};
use mds_store::Store;
use serde_json::json;

use super::{Args, check_store, look, records};
use crate::commands::ingest::audit::{Found, audit};
use crate::context::Context;
use crate::durable::{self, PAST_LOST};
use crate::exit::Exit;
use crate::output::{Out, grouped, note, table};
use crate::runtime::block_on;

/// Runs the command.
pub(super) fn run(args: &Args, kind: Kind, context: &Context) -> anyhow::Result<Exit> {
    let queue = durable::dir(context).map(|dir| dir.join(kind.as_str()));
    let (found, totals) = block_on(async {
        let store = context.open_for_reading().await?;
        let found = look_for(args, kind, queue.as_deref(), &store, context).await;
        store.close().await;
        found
    })?;
    tell_files(kind, &found, totals.as_ref(), args.json)?;
    if found.missing() > 0 {
        tell_letters(&context.dlq_path(kind));
    }
    let is_whole = found.missing() == 0 && found.errors.is_empty();
    if let Some((queue, totals)) = queue.zip(totals) {
        tell_lost(&queue, &totals, is_whole, context);
    }
    Ok(if is_whole {
        Exit::Success
    } else {
        Exit::Failure
    })
}

/// Says where letters were looked for: from another folder, it is another file.
fn tell_letters(path: &Path) {
    let file = path.display();
    if path.exists() {
        note(format_args!("the dead letters were looked for in {file}"));
    } else {
        note(format_args!(
            "there are no dead letters in {file}; give --dlq if they are elsewhere"
        ));
    }
}

/// Says what the queue has lost since it was made.
fn tell_lost(queue: &Path, totals: &DurableTotals, is_whole: bool, context: &Context) {
    let all = if is_whole {
        "; every row of these files is there"
    } else {
        ""
    };
    let queue = queue.display();
    let unknown = totals.unknown().unwrap_or(0);
    let damaged = totals.lost().unwrap_or(0) - unknown;
    if damaged > 0 {
        context.note(format_args!(
            "the queue {queue} has lost {} to damage since it was made{all}",
            records(damaged)
        ));
    }
    if unknown > 0 {
        context.note(format_args!(
            "what became of {} of the queue {queue} is not known: the checkpoints that said it are \
             lost{all}",
            records(unknown)
        ));
    }
}

/// Looks for the rows, and for what the queue has lost since it was made.
async fn look_for(
    args: &Args,
    kind: Kind,
    queue: Option<&Path>,
    store: &Store,
    context: &Context,
) -> anyhow::Result<(Found, Option<DurableTotals>)> {
    let mut totals = None;
    if let Some(queue) = queue
        && let Some(inspection) = look(queue)?
    {
        check_store(kind, queue, &inspection, store.id())?;
        totals = Some(durable::totals_of(&inspection));
        if durable::is_past_lost(&inspection) {
            note(format_args!("{}: {PAST_LOST}", queue.display()));
        }
    }
    let (files, reading) = (&args.files, &args.reading);
    let found = match kind {
        Kind::Bars => audit::<Bar>(files, reading, store, context).await?,
        Kind::Options => audit::<OptionSnap>(files, reading, store, context).await?,
        Kind::Fundamentals => audit::<Fundamentals>(files, reading, store, context).await?,
        Kind::News => audit::<News>(files, reading, store, context).await?,
    };
    Ok((found, totals))
}

fn tell_files(
    kind: Kind,
    found: &Found,
    totals: Option<&DurableTotals>,
    is_json: bool,
) -> anyhow::Result<()> {
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
            "missing": found.missing(), "first_missing": found.nowhere, "queue_lost": totals.and_then(DurableTotals::lost),
            "queue_unknown": totals.and_then(DurableTotals::unknown),
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
