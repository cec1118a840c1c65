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
            .map(|(kind, stats)| (kind.as_str().to_owned(), mds_server::books(stats)))
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

fn text_of(stats: &Stats) -> String {
    let shown = mds_server::counts(stats)
        .into_iter()
        .filter(|(name, rows)| *rows > 0 || *name == "accepted" || *name == "written");
    let shown = shown.map(|(name, rows)| format!("{} {}", grouped(rows), name.replace('_', "-")));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if !stats.is_balanced() {
        text.push_str("; the books do not balance: this is a fault of mds");
    }
    text
}
