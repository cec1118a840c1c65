//! Which row an error of the server is probably about.
//!
//! It is a guess, never a verdict: whoever is suspected is tried alone.

use mds_core::{ColumnRole, Record, Timestamp, Value};
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use super::failure;

/// Characters of a value that the server shows before it cuts it.
const SHOWN: usize = 60;
/// The code of a number that its column cannot hold.
const OUT_OF_RANGE: &str = "22003";

/// The position of the row among `rows`, in the order in which they were sent.
pub(crate) fn of<R: Record>(error: &Error, rows: &[&R]) -> Option<usize> {
    if let Some(line) = failure::copied_line(error) {
        return line.checked_sub(1).filter(|at| *at < rows.len());
    }
    let db = error.as_db_error()?;
    if db.code().code() == OUT_OF_RANGE {
        return farthest(rows);
    }
    let detail = db.detail()?;
    match detail.strip_prefix("Failing row contains (") {
        Some(row) => by_key(row.strip_suffix(").")?, rows),
        None => by_columns(db, detail, rows),
    }
}

/// A value as the server shows it.
struct Shown<'a> {
    text: &'a str,
    number: Option<f64>,
    time: Option<Timestamp>,
}

impl<'a> Shown<'a> {
    fn new(text: &'a str) -> Self {
        let time = || Timestamp::parse(&text.replacen(' ', "T", 1)).ok();
        Self {
            text,
            number: text.parse().ok(),
            time: text.get(10..11).filter(|t| *t == " ").and_then(|_| time()),
        }
    }

    fn is(&self, value: Value<'_>) -> bool {
        match value {
            Value::Float(number) => self.number == Some(number),
            Value::Timestamp(time) => self.time == Some(time),
            Value::Text(text) if text.len() > SHOWN => {
                let shown = self.text.trim_end_matches('.');
                !shown.is_empty() && text.starts_with(shown)
            }
            Value::Text(text) => self.text == text,
            Value::Null => self.text == "null",
            other => self.text == other.to_string(),
        }
    }
}

/// Values may have commas in them: one that falls apart is found nowhere, and nobody is suspected.
fn shown(list: &str) -> Vec<Shown<'_>> {
    list.split(", ").map(Shown::new).collect()
}

/// The row of which each part of the key is shown, in whatever order the columns are.
fn by_key<R: Record>(row: &str, rows: &[&R]) -> Option<usize> {
    let shown = shown(row);
    let keys = R::COLUMNS.iter().enumerate();
    let keys: Vec<usize> = keys
        .filter(|(_, column)| column.role == ColumnRole::Key)
        .map(|(position, _)| position)
        .collect();
    rows.iter().position(|row| {
        let is_shown = |key: &usize| shown.iter().any(|s| s.is(row.value(*key)));
        keys.iter().all(is_shown)
    })
}

/// The row that has what `Key (a, b)=(1, 2) ...` says; of several the last, since it is the one that
/// came too late.
fn by_columns<R: Record>(db: &DbError, detail: &str, rows: &[&R]) -> Option<usize> {
    db.constraint()?;
    let (names, rest) = detail.strip_prefix("Key (")?.split_once(")=(")?;
    let (values, _) = rest.split_once(')')?;
    let (names, values): (Vec<_>, _) = (names.split(", ").collect(), shown(values));
    if names.len() != values.len() {
        return None;
    }
    let columns: Option<Vec<usize>> = names.iter().map(|name| R::column(name)).collect();
    let columns = columns?;
    let has = |row: &&R| {
        let mut pairs = columns.iter().zip(&values);
        pairs.all(|(column, value)| value.is(row.value(*column)))
    };
    rows.iter().rposition(has)
}

/// The row with the number that is farthest from zero.
fn farthest<R: Record>(rows: &[&R]) -> Option<usize> {
    let size = |row: &R| {
        let values = (0..R::COLUMNS.len()).map(|position| match row.value(position) {
            Value::Float(number) => number.abs(),
            _ => 0.0,
        });
        values.fold(0.0, f64::max)
    };
    let sizes = rows.iter().map(|row| size(row)).enumerate();
    // Of several the first.
    let farthest = sizes.reduce(|best, next| if next.1 > best.1 { next } else { best });
    farthest.map(|(position, _)| position)
}

#[cfg(test)]
mod tests {
    use mds_core::{Bar, News};

    use super::*;

    fn bar(minute: u8, volume: f64) -> Bar {
        Bar {
            vendor: "v, w".into(),
            symbol: "S".into(),
            ts: Timestamp::parse(&format!("2024-11-01T00:{minute:02}:00.5Z")).unwrap(),
            volume: Some(volume),
            ..Bar::default()
        }
    }

    #[test]
    fn a_failing_row_is_known_by_its_key_in_any_time_zone_and_order_of_columns() {
        let rows: Vec<Bar> = (0..60).map(|minute| bar(minute, 5.0)).collect();
        let mut rows: Vec<&Bar> = rows.iter().collect();
        let news = News {
            vendor: "v".into(),
            id: "x".repeat(100).as_str().into(),
            ..News::default()
        };
        let row = "1m, 2024-11-01 05:37:00.5+05:30, 00000000-0000-0000-0000-000000000001, S, 5, v";
        // A comma within a value.
        assert_eq!(by_key(row, &rows), None);
        let rows_of_v: Vec<Bar> = (0..60)
            .map(|minute| Bar {
                vendor: "v".into(),
                ..bar(minute, 5.0)
            })
            .collect();
        rows = rows_of_v.iter().collect();
        assert_eq!(by_key(row, &rows), Some(7));
        let cut = format!(
            "00000000-0000-0000-0000-000000000001, v, 1970-01-01 00:00:00+00, {}...",
            "x".repeat(61)
        );
        assert_eq!(by_key(&cut, &[&news]), Some(0));
        assert_eq!(by_key("", &rows), None);
    }

    #[test]
    fn the_number_farthest_from_zero_is_suspected() {
        let rows = [bar(0, 1.0), bar(1, -1e9), bar(2, 1e9), bar(3, 5.0)];
        let rows: Vec<&Bar> = rows.iter().collect();
        assert_eq!(farthest(&rows), Some(1));
        assert_eq!(farthest::<Bar>(&[]), None);
    }
}
