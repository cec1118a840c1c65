//! What a daemon says of itself and its store, as JSON.

use mds_coordinator::Stats;
use mds_core::Kind;
use mds_store::{Freshness, KindStats, StoreStats};
use serde_json::{Map, Value, json};

use crate::lane::{Lane, Lanes, MarketRecord, with_lane};

/// The counts of a coordinator by their names.
pub fn counts(stats: &Stats) -> [(&'static str, u64); 10] {
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

/// The counts as an object, and whether they balance.
pub fn books(stats: &Stats) -> Value {
    let mut books: Map<String, Value> = counts(stats)
        .into_iter()
        .map(|(name, rows)| (name.to_owned(), rows.into()))
        .collect();
    books.insert("balanced".to_owned(), stats.is_balanced().into());
    Value::Object(books)
}

/// The books of all kinds now.
pub(crate) fn books_of(lanes: &Lanes) -> Value {
    fn of<R: MarketRecord>(lane: &Lane<R>) -> Value {
        books(&lane.coordinator.stats())
    }
    let books = |kind: Kind| {
        let books = with_lane!(lanes, kind, lane => of(lane));
        (kind.as_str().to_owned(), books)
    };
    Value::Object(Kind::ALL.into_iter().map(books).collect())
}

/// What a store holds.
pub fn holdings(stats: &StoreStats, last_revision: i64) -> Map<String, Value> {
    let kind = |k: &KindStats| {
        json!({
            "kind": k.kind.as_str(), "rows": k.rows, "series": k.series,
            "earliest": k.earliest, "latest": k.latest,
        })
    };
    let freshness = |f: &Freshness| {
        json!({
            "kind": f.kind.as_str(), "tenant_id": f.tenant_id, "vendor": f.vendor,
            "timeframe": f.timeframe, "series": f.series, "latest": f.latest,
        })
    };
    let parts = [
        ("file_bytes", stats.file_bytes.into()),
        ("log_bytes", stats.log_bytes.into()),
        ("last_revision", last_revision.into()),
        ("kinds", stats.kinds.iter().map(kind).collect::<Value>()),
        (
            "freshness",
            stats.freshness.iter().map(freshness).collect::<Value>(),
        ),
    ];
    let named = parts.map(|(name, value)| (name.to_owned(), value));
    named.into_iter().collect()
}
