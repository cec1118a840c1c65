//! What a daemon says when it ends: what became of all rows.

use mds_coordinator::Stats;
use serde_json::{Map, Value, json};

use super::lanes::Ended;
use crate::output::{Out, grouped, note};

/// Prints the books; those of kinds that had no rows are left out of the text.
pub(super) fn tell(ended: &Ended, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let books: Map<String, Value> = ended
            .books
            .iter()
            .map(|(kind, stats)| (kind.as_str().to_owned(), json_of(stats)))
            .collect();
        let mut out = Out::stdout();
        out.json(&json!({ "books": books, "timed_out": ended.timed_out }))?;
        return out.finish();
    }
    for (kind, stats) in &ended.books {
        if stats.submitted + stats.recovered + stats.refused_total() > 0 {
            note(format_args!("{kind}: {}", text_of(stats)));
        }
    }
    Ok(())
}

fn parts(stats: &Stats) -> [(&'static str, u64); 10] {
    [
        ("accepted", stats.submitted),
        ("recovered", stats.recovered),
        ("written", stats.written),
        ("superseded", stats.superseded),
        ("dead_lettered", stats.dead_lettered.total()),
        ("dropped", stats.dropped.total()),
        ("damaged", stats.damaged),
        ("queued", stats.queued),
        ("in_flight", stats.in_flight),
        ("refused", stats.refused_total()),
    ]
}

fn json_of(stats: &Stats) -> Value {
    let mut books: Map<String, Value> = parts(stats)
        .into_iter()
        .map(|(name, rows)| (name.to_owned(), rows.into()))
        .collect();
    books.insert("balanced".to_owned(), stats.is_balanced().into());
    Value::Object(books)
}

fn text_of(stats: &Stats) -> String {
    let shown = parts(stats)
        .into_iter()
        .filter(|(name, rows)| *rows > 0 || *name == "accepted" || *name == "written");
    let shown = shown.map(|(name, rows)| format!("{} {}", grouped(rows), name.replace('_', "-")));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if !stats.is_balanced() {
        text.push_str("; the books do not balance: this is a fault of mds");
    }
    text
}
