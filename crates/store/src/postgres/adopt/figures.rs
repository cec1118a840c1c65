//! What the rows of a table hold that matters when they become ours: counts, and keys.

use std::fmt::Write as _;

use mds_core::TenantId;
use tokio_postgres::{Client, Error, Row};

use super::catalog::{Shape, quoted};
use super::wanted::{self, Wanted, WantedType};

/// Keys that are told one by one.
const TOLD: usize = 3;
/// The times that a record may have, and those that a table may hold beyond them.
const TIMES: [&str; 2] = ["1900-01-01", "2200-01-01"];

pub(super) fn rows_of(count: i64) -> String {
    format!("{count} {}", if count == 1 { "row" } else { "rows" })
}

pub(super) fn have(count: i64) -> String {
    format!(
        "{} {}",
        rows_of(count),
        if count == 1 { "has" } else { "have" }
    )
}

/// Counts over a table.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) without_tenant: i64,
    /// Columns with values that are not finite.
    pub(super) not_finite: Vec<&'static str>,
    /// What is told of numbers that change in the last digits.
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<String>,
}

/// One count over a table, and what it means if it is not 0.
struct Count {
    column: &'static str,
    condition: String,
    meaning: Meaning,
}

enum Meaning {
    WithoutTenant,
    NotFinite,
    Inexact,
    /// No record can have it.
    Problem(&'static str),
}

const OUTSIDE: Meaning = Meaning::Problem("with one outside the years 1900 to 2199");

/// What has to be counted in one column of ours, and what it means.
fn of_column(want: &Wanted, shape: &Shape) -> Vec<(String, Meaning)> {
    let Some(column) = shape.column(want.name) else {
        return Vec::new();
    };
    let name = quoted(want.name);
    let mut counts = Vec::new();
    if want.ty == WantedType::Uuid && !column.is_not_null {
        counts.push((format!("{name} IS NULL"), Meaning::WithoutTenant));
    } else if want.is_key && !column.is_not_null && want.default.is_none() {
        let what = "without it, and it is part of the key";
        counts.push((format!("{name} IS NULL"), Meaning::Problem(what)));
    }
    let [first, end] = TIMES;
    match want.ty {
        WantedType::Timestamp => counts.push((
            format!("({name} < '{first} 00:00:00Z' OR {name} >= '{end} 00:00:00Z')"),
            OUTSIDE,
        )),
        WantedType::Date => counts.push((
            format!("({name} < '{first}' OR {name} >= '{end}')"),
            OUTSIDE,
        )),
        WantedType::Float => {
            let has_odd = matches!(column.base.as_str(), "numeric" | "float4" | "float8");
            let odd = format!("{name} IN ('NaN', 'Infinity', '-Infinity')");
            let odd = if has_odd { odd } else { "false".to_owned() };
            counts.push(if want.is_key {
                let what = Meaning::Problem("with one that is not above 0");
                (format!("({name} <= 0 OR {odd})"), what)
            } else {
                (odd, Meaning::NotFinite)
            });
            counts.extend(wanted::inexact(column).map(|c| (c, Meaning::Inexact)));
        }
        _ => {}
    }
    counts
}

/// Counts what has to be known of the rows, in one pass.
pub(super) async fn figures(
    client: &Client,
    shape: &Shape,
    wanted: &[Wanted],
) -> Result<Figures, Error> {
    let mut counts = Vec::new();
    for want in wanted {
        let column = want.name;
        let of_column = of_column(want, shape).into_iter();
        counts.extend(of_column.map(|(condition, meaning)| Count {
            column,
            condition,
            meaning,
        }));
    }
    let mut sql = "SELECT 0".to_owned();
    for Count {
        column, condition, ..
    } in &counts
    {
        // Writing into memory cannot fail.
        _ = write!(
            sql,
            ", count(*) FILTER (WHERE {condition}), min({}::text) FILTER (WHERE {condition})",
            quoted(column)
        );
    }
    _ = write!(sql, " FROM {}", shape.name);
    let row = client
        .query_typed_one(&format!("{sql} HAVING true"), &[])
        .await?;
    let mut figures = Figures::default();
    for (place, count) in counts.iter().enumerate() {
        figures.take(&shape.name, count, &row, place)?;
    }
    Ok(figures)
}

impl Figures {
    fn take(&mut self, table: &str, count: &Count, row: &Row, place: usize) -> Result<(), Error> {
        let found: i64 = row.try_get(1 + 2 * place)?;
        if found == 0 {
            return Ok(());
        }
        let example: Option<String> = row.try_get(2 + 2 * place)?;
        let example = example.unwrap_or_default();
        let column = count.column;
        match count.meaning {
            Meaning::WithoutTenant => self.without_tenant = found,
            Meaning::NotFinite => {
                self.not_finite.push(column);
                self.notes.push(format!(
                    "{table}: {} in {column} a value that is no number, such as {example}; it \
                     becomes absent",
                    have(found)
                ));
            }
            Meaning::Inexact => {
                let kept: f64 = example.parse().unwrap_or(f64::NAN);
                self.notes.push(format!(
                    "{table}: {} in {column} more digits than a double holds, such as {example}, \
                     which becomes {kept}",
                    have(found)
                ));
            }
            Meaning::Problem(what) => {
                let such = if example.is_empty() { "" } else { ", such as " };
                self.problems.push(format!(
                    "{table}: {} in {column} {what}{such}{example}; change or delete them",
                    rows_of(found)
                ));
            }
        }
        Ok(())
    }
}

/// The keys that more than one row would have, in words.
pub(super) async fn collisions(
    client: &Client,
    shape: &Shape,
    key: &[(&str, String)],
    tenant: TenantId,
) -> Result<Vec<String>, Error> {
    let found = client.query_typed(&shared_keys(shape, key), &[]).await?;
    let Some(first) = found.first() else {
        return Ok(Vec::new());
    };
    let (keys, rows): (i64, i64) = (first.try_get(0)?, first.try_get(1)?);
    let table = &shape.name;
    let names: Vec<_> = key.iter().map(|(name, _)| *name).collect();
    let mut told = vec![format!(
        "{table}: {} would share {keys} {} ({}), in our spelling and with {tenant} for an absent \
         tenant; keep one row of each",
        rows_of(rows),
        if keys == 1 { "key" } else { "keys" },
        names.join(", ")
    )];
    for row in &found {
        let (a, b): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        told.push(if a == b {
            format!("{table}: for instance twice {a}")
        } else {
            format!("{table}: for instance {a} and {b}")
        });
    }
    Ok(told)
}

/// The query for keys that rows share, as they would be: how many, how many rows, two of them.
fn shared_keys(shape: &Shape, key: &[(&str, String)]) -> String {
    let found: Vec<_> = key
        .iter()
        .filter(|(name, _)| shape.column(name).is_some())
        .map(|(name, _)| format!("coalesce({}::text, '(none)')", quoted(name)))
        .collect();
    let parts: Vec<_> = key
        .iter()
        .map(|(name, value)| format!("{value} AS {}", quoted(name)))
        .collect();
    let names: Vec<_> = key.iter().map(|(name, _)| quoted(name)).collect();
    format!(
        "WITH keys AS MATERIALIZED (\
         SELECT count(*) AS rows, min(found COLLATE \"C\") AS a, max(found COLLATE \"C\") AS b \
         FROM (SELECT {}, concat_ws(' ', {}) AS found FROM {}) AS n \
         GROUP BY {} HAVING count(*) > 1) \
         SELECT (SELECT count(*) FROM keys), (SELECT sum(rows)::int8 FROM keys), a, b \
         FROM keys ORDER BY a, b LIMIT {TOLD}",
        parts.join(", "),
        found.join(", "),
        shape.name,
        names.join(", ")
    )
}
