//! `mds audit` without files: the books of durable queues.

use std::path::Path;

use mds_coordinator::DurableTotals;
use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, LetterFilter};
use mds_core::Kind;
use mds_core::settings::QueueChoice;
use serde_json::{Value, json};

use super::{Args, check_store, look, records};
use crate::context::Context;
use crate::durable::{self, PAST_LOST};
use crate::exit::{Exit, Usage, told};
use crate::lost::{Accepted, is_settled};
use crate::output::{Out, grouped, note, table};
use crate::runtime::block_on;

/// What one queue says of itself.
struct Book {
    kind: Kind,
    totals: DurableTotals,
    /// Nothing says any more what became of its records.
    is_past_lost: bool,
    /// What a person has said of its damage.
    accepted: Option<Accepted>,
    /// Letters of the kind that wait.
    letters: u64,
    /// Rows of the kind in the store.
    stored: Option<u64>,
}

pub(super) fn run(args: &Args, kind: Option<Kind>, context: &Context) -> anyhow::Result<Exit> {
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
            Err(error) if error.is::<Usage>() => return Err(error),
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
    if !books.iter().all(Book::is_settled) {
        exit = Exit::Failure;
    }
    tell_books(&books, args.json)?;
    for book in &books {
        tell_of_damage(book, &dir, context);
    }
    Ok(exit)
}

fn book(kind: Kind, dir: &Path, context: &Context) -> anyhow::Result<Option<Book>> {
    let folder = dir.join(kind.as_str());
    let Some(found) = look(&folder)? else {
        return Ok(None);
    };
    let totals = durable::totals_of(&found);
    let (store, stored) = stored(kind, context)?;
    check_store(kind, &folder, &found, &store)?;
    let letters = DeadLetterQueue::<Value>::at(context.dlq_path(kind), DlqOptions::default())?;
    let of_kind = LetterFilter {
        coord_id: Some(kind.as_str().to_owned()),
        ..LetterFilter::default()
    };
    Ok(Some(Book {
        kind,
        accepted: Accepted::read(&folder, &totals)?,
        totals,
        is_past_lost: durable::is_past_lost(&found),
        letters: letters.histogram(of_kind)?.letters,
        stored,
    }))
}

impl Book {
    /// Whether each record that was accepted has its fate, or a person has said that it needs none.
    fn is_settled(&self) -> bool {
        !self.is_past_lost && is_settled(&self.totals, self.accepted.as_ref())
    }

    /// Records that are accepted as lost.
    fn lost_accepted(&self) -> u64 {
        self.accepted
            .as_ref()
            .map_or(0, |accepted| accepted.records)
    }

    /// Records beyond what is accepted: those that were damaged, and those whose fate nobody knows.
    fn newly_lost(&self) -> (u64, u64) {
        let unknown_accepted = self.accepted.as_ref().map_or(0, |a| a.unknown);
        let damaged_accepted = self.lost_accepted().saturating_sub(unknown_accepted);
        let unknown = self.totals.unknown().unwrap_or(0);
        (
            self.totals.damaged.saturating_sub(damaged_accepted),
            unknown.saturating_sub(unknown_accepted),
        )
    }

    /// Whether the equation holds, and what there is to say to it.
    fn verdict(&self) -> &'static str {
        if self.is_past_lost {
            return "NO, past lost";
        }
        let has_lost = self.totals.lost() != Some(0);
        match (self.totals.is_balanced(), has_lost, self.is_settled()) {
            (true, false, _) => "yes",
            (true, true, true) => "yes, damage accepted",
            (true, true, false) => "yes, DAMAGED",
            (false, _, true) => "NO, accepted",
            (false, _, false) => "NO",
        }
    }
}

/// Says what is lost and accepted, and what can be done about what is not.
fn tell_of_damage(book: &Book, dir: &Path, context: &Context) {
    let folder = dir.join(book.kind.as_str());
    let queue = folder.display();
    if let Some(accepted) = &book.accepted {
        tell_accepted(accepted, &queue.to_string(), context);
    }
    if book.is_past_lost {
        return note(format_args!(
            "{queue}: {PAST_LOST}. `mds audit FILE...` tells whether the rows of their files are in; \
             ingest what is missing again"
        ));
    }
    let Some(lost) = book.totals.lost() else {
        note(format_args!(
            "{queue}: more records have a fate than were ever taken; is it a copy of an older one?"
        ));
        return;
    };
    if lost <= book.lost_accepted() {
        return;
    }
    let (damaged, unknown) = book.newly_lost();
    if damaged > 0 {
        let (was, _) = verbs(damaged);
        note(format_args!(
            "{} of {queue} {was} damaged",
            records(damaged)
        ));
    }
    if unknown > 0 {
        note(format_args!(
            "what became of {} of {queue} is not known: the checkpoints that said it are lost",
            records(unknown)
        ));
    }
    note(format_args!(
        "`mds audit FILE...` tells whether the rows of their files are in; ingest what is missing \
         again, and then `mds wal accept-damage {queue}` settles it"
    ));
}

/// Says what a person has accepted.
fn tell_accepted(accepted: &Accepted, queue: &str, context: &Context) {
    let (at, unknown) = (&accepted.at, accepted.unknown);
    let reason = accepted.reason.as_deref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let damaged = accepted.records.saturating_sub(unknown);
    if damaged > 0 {
        let (was, is) = verbs(damaged);
        context.note(format_args!(
            "{} of {queue} {was} damaged and {is} accepted as lost since {at}{reason}",
            records(damaged)
        ));
    }
    if unknown > 0 {
        context.note(format_args!(
            "what became of {} of {queue} is not known, which is accepted since {at}{reason}",
            records(unknown)
        ));
    }
}

fn verbs(count: u64) -> (&'static str, &'static str) {
    if count == 1 {
        ("was", "is")
    } else {
        ("were", "are")
    }
}

/// The id of the store, and the rows of a kind in it.
fn stored(kind: Kind, context: &Context) -> anyhow::Result<(String, Option<u64>)> {
    let (id, stats) = block_on(async {
        let store = context.open_for_reading().await?;
        let (id, stats) = (store.id().to_owned(), store.stats().await);
        store.close().await;
        anyhow::Ok((id, stats?))
    })?;
    let of_kind = stats.kinds.iter().find(|stats| stats.kind == kind);
    Ok((id, of_kind.map(|of_kind| of_kind.rows)))
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
                "balanced": t.is_balanced(), "lost": t.lost(), "unknown": t.unknown(),
                "lost_accepted": book.lost_accepted(), "letters_waiting": book.letters,
                "rows_stored": book.stored, "past_lost": book.is_past_lost,
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
            book.verdict().to_owned(),
            grouped(book.letters),
            stored,
        ]);
    }
    out.table(&rows)?;
    out.finish()
}
