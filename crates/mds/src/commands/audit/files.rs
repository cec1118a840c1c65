//! `mds audit FILE...`: where each row of a file is.

use std::path::Path;

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
    let (found, lost) = block_on(async {
        let store = context.open_for_reading().await?;
        let found = look_for(args, kind, queue.as_deref(), &store, context).await;
        store.close().await;
        found
    })?;
    tell_files(kind, &found, lost, args.json)?;
    let is_whole = found.missing() == 0 && found.errors.is_empty();
    if let (Some(queue), Some(lost @ 1..)) = (queue, lost) {
        let all = if is_whole {
            "; every row of these files is there"
        } else {
            ""
        };
        context.note(format_args!(
            "the queue {} has lost {} to damage since it was made{all}",
            queue.display(),
            records(lost)
        ));
    }
    Ok(if is_whole {
        Exit::Success
    } else {
        Exit::Failure
    })
}

/// Looks for the rows, and for what the queue has lost since it was made.
async fn look_for(
    args: &Args,
    kind: Kind,
    queue: Option<&Path>,
    store: &Store,
    context: &Context,
) -> anyhow::Result<(Found, Option<u64>)> {
    let mut lost = None;
    if let Some(queue) = queue
        && let Some(inspection) = look(queue)?
    {
        check_store(kind, queue, &inspection, store.id())?;
        lost = durable::totals_of(&inspection).lost();
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
    Ok((found, lost))
}

fn tell_files(kind: Kind, found: &Found, lost: Option<u64>, is_json: bool) -> anyhow::Result<()> {
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
            "missing": found.missing(), "first_missing": found.nowhere, "queue_lost": lost,
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
