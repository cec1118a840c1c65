//! Choosing letters, and counting them.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::letter::Wire;
use super::reason::Reason;

/// Which letters to list, replay or purge; the default selects all of them.
///
/// Every criterion that is set must hold.
///
/// ```
/// use mds_coordinator::dead_letter::{LetterFilter, Reason};
///
/// let filter = LetterFilter {
///     reason: Some(Reason::RejectedRow),
///     symbol: Some("SPY".to_owned()),
///     limit: Some(100),
///     ..LetterFilter::default()
/// };
/// assert!(!filter.selects_everything());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LetterFilter {
    /// The ids to select; empty selects any.
    pub ids: Vec<Uuid>,
    /// Why the record was given up.
    pub reason: Option<Reason>,
    /// The store's own short code, or the broken rule's.
    pub code: Option<String>,
    /// The kind of record.
    pub kind: Option<String>,
    /// The coordinator.
    pub coord_id: Option<String>,
    /// A symbol that one of the items has, in any case; of a raw line, one of its fields.
    pub symbol: Option<String>,
    /// The earliest time of writing, seconds since the epoch, inclusive.
    pub from: Option<f64>,
    /// The time of writing before which letters are selected, seconds since the epoch.
    pub until: Option<f64>,
    /// At most that many.
    pub limit: Option<usize>,
}

impl LetterFilter {
    /// Whether only `limit` is set, if anything.
    pub fn selects_everything(&self) -> bool {
        let all = Self {
            limit: self.limit,
            ..Self::default()
        };
        *self == all
    }

    pub(super) fn selects_wire(&self, id: Uuid, letter: &Wire) -> bool {
        let is = |key: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| letter.text(key) == Some(wanted))
        };
        (self.ids.is_empty() || self.ids.contains(&id))
            && is("reason", self.reason.map(Reason::as_str))
            && is("code", self.code.as_deref())
            && is("kind", self.kind.as_deref())
            && is("coord_id", self.coord_id.as_deref())
            && self.from.is_none_or(|from| letter.ts() >= from)
            && self.until.is_none_or(|until| letter.ts() < until)
            && self.symbol.as_deref().is_none_or(|symbol| {
                letter
                    .items
                    .iter()
                    .any(|item| mentions(item, symbol.trim()))
            })
    }
}

fn mentions(item: &Value, symbol: &str) -> bool {
    let same = |text: &str| text.trim().to_uppercase() == symbol.to_uppercase();
    match item {
        Value::Object(fields) => {
            let one = fields.get("symbol").and_then(Value::as_str);
            let many = fields.get("symbols").and_then(Value::as_array);
            one.is_some_and(same)
                || many.is_some_and(|all| all.iter().filter_map(Value::as_str).any(same))
        }
        Value::String(line) => line
            .split(|c: char| c.is_whitespace() || ",;|\"'".contains(c))
            .any(same),
        _ => false,
    }
}

/// How many letters there are, by what happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Letters.
    pub letters: u64,
    /// Items in them.
    pub items: u64,
    /// Lines that are no letters.
    pub damaged: u64,
    /// Letters by reason; those without one under the empty text, as below.
    pub by_reason: BTreeMap<String, u64>,
    /// Letters by code.
    pub by_code: BTreeMap<String, u64>,
    /// Letters by kind.
    pub by_kind: BTreeMap<String, u64>,
    /// When the oldest and the newest were written: seconds since the epoch.
    pub written: Option<(f64, f64)>,
}

impl Histogram {
    pub(super) fn add(&mut self, letter: &super::Letter<Value>) {
        let count = |counts: &mut BTreeMap<String, u64>, key: &str| {
            let value = letter.metadata.get(key).and_then(Value::as_str);
            *counts
                .entry(value.unwrap_or_default().to_owned())
                .or_default() += 1;
        };
        self.letters += 1;
        self.items += letter.items.len() as u64;
        count(&mut self.by_reason, "reason");
        count(&mut self.by_code, "code");
        count(&mut self.by_kind, "kind");
        let (oldest, newest) = self.written.unwrap_or((letter.ts, letter.ts));
        self.written = Some((oldest.min(letter.ts), newest.max(letter.ts)));
    }
}
