//! The texts of a table, in the spelling that records have.

use mds_core::{ColumnRole, Record};
use tokio_postgres::{Client, Error};

use super::catalog::{Shape, literal, quoted};
use super::figures::{have, rows_of};

/// Spellings and examples that are told one by one; of more, only how many.
const TOLD: usize = 3;

/// How a text that is spelled in another way is spelled by us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    pub(super) found: String,
    pub(super) normal: String,
    pub(super) rows: i64,
}

/// The texts of one column.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) column: &'static str,
    /// All that were looked at and can be part of a record.
    pub(super) all: Vec<String>,
    /// Those that change.
    pub(super) spellings: Vec<Spelling>,
    /// Those that can be no part of a record of ours: the text, why, in how many rows.
    pub(super) refused: Vec<(String, &'static str, i64)>,
}

/// Which texts of a column may not be in normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// Those that do not match the pattern.
    But(&'static str),
    /// Any; there are few different ones.
    All,
}

impl Odd {
    /// `None` for a column whose texts stay as they are.
    pub(super) fn of(column: &str) -> Option<Self> {
        match column {
            "vendor" => Some(Self::But("^[!-@[-~]+$")),
            "symbol" => Some(Self::But("^[!-`{-~]+$")),
            "id" => Some(Self::But("^[!-~]+$")),
            "timeframe" | "option_type" | "period" => Some(Self::All),
            _ => None,
        }
    }
}

/// Reads the distinct texts of a column that may not be in normal form.
pub(super) async fn texts<R: Record>(
    client: &Client,
    shape: &Shape,
    index: usize,
    odd: Odd,
) -> Result<Texts, Error> {
    let column = R::COLUMNS[index].name;
    let name = quoted(column);
    let having = match odd {
        Odd::But(usual) => format!(" HAVING {name}::text COLLATE \"C\" !~ {}", literal(usual)),
        Odd::All => String::new(),
    };
    let sql = format!(
        "SELECT {name}::text, count(*) FROM {} WHERE {name} IS NOT NULL \
         GROUP BY {name}::text{having} ORDER BY {name}::text COLLATE \"C\"",
        shape.name
    );
    let mut texts = Texts {
        column,
        ..Texts::default()
    };
    for row in client.query_typed(sql.as_str(), &[]).await? {
        let (found, rows): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        match normal::<R>(index, &found) {
            Ok(normal) => {
                texts.all.push(found.clone());
                if normal != found {
                    texts.spellings.push(Spelling {
                        found,
                        normal,
                        rows,
                    });
                }
            }
            Err(rule) => texts.refused.push((found, rule, rows)),
        }
    }
    Ok(texts)
}

/// A text in the form in which a record of ours holds it, or why none can.
fn normal<R: Record>(index: usize, text: &str) -> Result<String, &'static str> {
    let mut record = R::default();
    record.set(index, text).map_err(|invalid| invalid.rule)?;
    record.normalize();
    let normal = record.value(index).to_string();
    let column = R::COLUMNS[index];
    let may_be_empty = column.name == "period" || column.role == ColumnRole::Value;
    // An id that is absent would be made of other columns.
    let is_empty = normal.is_empty() || (column.name == "id" && text.trim().is_empty());
    if is_empty && !may_be_empty {
        return Err("a key part must be present");
    }
    if normal.chars().any(char::is_control) {
        return Err("must not have control characters");
    }
    Ok(normal)
}

impl Texts {
    /// The column in normal form, as SQL on `value`.
    pub(super) fn normalized(&self, value: &str) -> String {
        if self.spellings.is_empty() {
            return value.to_owned();
        }
        let list = |of: fn(&Spelling) -> &str| {
            let texts: Vec<_> = self.spellings.iter().map(|s| literal(of(s))).collect();
            texts.join(", ")
        };
        // Folded once into a sorted map.
        format!(
            "coalesce(jsonb_object(ARRAY[{}]::text[], ARRAY[{}]::text[]) ->> {value}, {value})",
            list(|s| &s.found),
            list(|s| &s.normal)
        )
    }

    /// In words, for the plan.
    pub(super) fn said(&self, table: &str) -> Vec<String> {
        let column = self.column;
        let mut said: Vec<_> = self
            .spellings
            .iter()
            .take(TOLD)
            .map(|s| {
                format!(
                    "{table}: {column} {:?} becomes {:?} in {}",
                    s.found,
                    s.normal,
                    rows_of(s.rows)
                )
            })
            .collect();
        if let Some(rest) = self.spellings.get(TOLD..).filter(|rest| !rest.is_empty()) {
            let rows = rest.iter().map(|s| s.rows).sum();
            said.push(format!(
                "{table}: {} more spellings of {column} change in {}",
                rest.len(),
                rows_of(rows)
            ));
        }
        said
    }

    /// What cannot be adopted, in words.
    pub(super) fn problems(&self, table: &str) -> Vec<String> {
        let column = self.column;
        let mut said: Vec<_> = self
            .refused
            .iter()
            .take(TOLD)
            .map(|(text, rule, rows)| {
                format!(
                    "{table}: {} {text:?} as {column}, which no record can have ({rule}); change \
                     or delete them",
                    have(*rows)
                )
            })
            .collect();
        if self.refused.len() > TOLD {
            said.push(format!(
                "{table}: {} more values of {column} are like that",
                self.refused.len() - TOLD
            ));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use mds_core::{Bar, News};

    use super::*;

    #[test]
    fn texts_get_the_form_that_records_have() {
        let of = |name: &str, text: &str| normal::<Bar>(Bar::column(name).unwrap(), text);
        assert_eq!(of("vendor", " IBKR ").unwrap(), "ibkr");
        assert_eq!(of("symbol", "brk.b").unwrap(), "BRK.B");
        assert_eq!(of("timeframe", "1Min").unwrap(), "1m");
        assert!(of("timeframe", "tick").unwrap_err().contains("time frame"));
        assert_eq!(of("vendor", " ").unwrap_err(), "a key part must be present");
        assert_eq!(
            of("symbol", "A\u{7}").unwrap_err(),
            "must not have control characters"
        );
        let id = News::column("id").unwrap();
        assert_eq!(normal::<News>(id, " x ").unwrap(), "x");
        assert_eq!(
            normal::<News>(id, " ").unwrap_err(),
            "a key part must be present"
        );
    }

    #[test]
    fn a_column_is_spelled_anew_by_a_map() {
        let mut texts = Texts {
            column: "vendor",
            ..Texts::default()
        };
        assert_eq!(texts.normalized("v"), "v");
        texts.spellings.push(Spelling {
            found: "O'X".to_owned(),
            normal: "o'x".to_owned(),
            rows: 1,
        });
        assert_eq!(
            texts.normalized("v"),
            "coalesce(jsonb_object(ARRAY['O''X']::text[], ARRAY['o''x']::text[]) ->> v, v)"
        );
    }
}
