//! Reads the text of `mds.toml`.
//!
//! Keys are grouped as in the table: `store` at the top, `[coordinator] capacity`, `[retry]
//! max_attempts` and so on. A value may be written as a TOML value of its type or as a string.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key with a single value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key with dots, such as `coordinator.capacity`.
    pub(super) key: String,
    /// The value as text; `None` where it is a list or a date, which no setting takes.
    pub(super) value: Option<String>,
    pub(super) line: usize,
}

/// The file is not TOML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// All single values in the order of the file.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Malformed> {
    let table = DeTable::parse(text).map_err(|e| Malformed {
        line: line_of(text, e.span().map_or(0, |s| s.start)),
        reason: e.message().replace('\n', ", "),
    })?;
    let mut entries = Vec::new();
    collect(text, "", table.get_ref(), &mut entries);
    entries.sort_by_key(|e| e.line);
    Ok(entries)
}

fn collect(text: &str, prefix: &str, table: &DeTable<'_>, out: &mut Vec<Entry>) {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            collect(text, &format!("{key}."), inner, out);
        } else {
            let line = line_of(text, name.span().start);
            out.push(Entry {
                key,
                value: scalar(value),
                line,
            });
        }
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(v) => Some(v.to_string()),
        DeValue::Float(v) => Some(v.as_str().to_owned()),
        DeValue::Boolean(v) => Some(v.to_string()),
        DeValue::Integer(v) if v.radix() == 10 => Some(v.as_str().to_owned()),
        // 0x10, 0o20 and 0b1 mean the same everywhere once they are decimal.
        DeValue::Integer(v) => i128::from_str_radix(v.as_str(), v.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_type_keep_their_key_and_line() {
        let text = "store = 'sqlite:a.db'\n\n[coordinator]\ncapacity = 20_000\n\
                    flush_interval = 2.5e-1\n[retry]\njitter = false\nmax_attempts = 0x10\n\
                    backoff_multiplier = [1]\n";
        let entries: Vec<_> = parse(text)
            .unwrap()
            .into_iter()
            .map(|e| (e.key, e.value.unwrap_or_default(), e.line))
            .collect();
        let expected = [
            ("store", "sqlite:a.db", 1),
            ("coordinator.capacity", "20000", 4),
            ("coordinator.flush_interval", "2.5e-1", 5),
            ("retry.jitter", "false", 7),
            ("retry.max_attempts", "16", 8),
            ("retry.backoff_multiplier", "", 9),
        ];
        assert_eq!(
            entries,
            expected.map(|(k, v, l)| (k.to_owned(), v.to_owned(), l))
        );
    }

    #[test]
    fn a_syntax_error_names_its_line_and_shows_no_value() {
        let error = parse("a = 1\nstore = \"postgres://u:hunter2@h/d\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(!error.reason.contains("hunter2"), "{}", error.reason);
    }
}
