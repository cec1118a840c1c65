//! The formats in our own field names, for all four kinds.

pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod ndjson;
mod object;
mod template;

use mds_core::{Bar, ColumnRole, Fundamentals, Kind, News, OptionSnap, Record};

/// The kinds that a set of field names belongs to: the time of the natural key is there, a value or
/// another key part beside it, and at most one name in three is foreign.
fn kinds_with(names: &[&str]) -> Vec<Kind> {
    [
        fits::<Bar>(names),
        fits::<OptionSnap>(names),
        fits::<Fundamentals>(names),
        fits::<News>(names),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn fits<R: Record>(names: &[&str]) -> Option<Kind> {
    let own = |name: &&&str| R::column(name).is_some() || **name == "revision";
    let known = names.iter().filter(own).count();
    let time = match R::KIND {
        Kind::Bars | Kind::Options => "ts",
        Kind::Fundamentals => "asof",
        Kind::News => "published_at",
    };
    let has_time = names.contains(&time);
    // `expiry` or `strike` tell options from bars; the names of prices tell bars.
    let has_value = R::COLUMNS
        .iter()
        .any(|c| c.role == ColumnRole::Value && c.name != "volume" && names.contains(&c.name));
    let own_key = match R::KIND {
        Kind::Bars => names.contains(&"timeframe"),
        Kind::Options => names.contains(&"expiry"),
        Kind::Fundamentals => names.contains(&"period"),
        Kind::News => names.contains(&"id"),
    };
    let foreign = names.len() - known;
    (has_time && (has_value || own_key) && foreign * 3 <= names.len()).then_some(R::KIND)
}
