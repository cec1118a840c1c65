//! Reads the text of a `.env` file.
//!
//! Other programs keep their variables in the same file, so that only names that begin with `MDS_`
//! (in any case) are read, and nothing that is written for somebody else can be an error here:
//!
//! ```text
//! # a comment
//! MDS_STORE=sqlite:market.db        # a comment after white space
//! export MDS_COORDINATOR_WORKERS=8
//! MDS_DLQ_PATH="letters/my \"bars\".ndjson"     escapes \\ \" \' \n \r \t
//! MDS_QUEUE='memory'                            escapes \\ \'
//! ```
//!
//! The forms are those of python-dotenv. Two of its forms are refused for our names instead of
//! being read as something else: values over several lines, and `${NAME}`, which is not expanded.

/// A variable of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) line: usize,
}

/// A line that names a variable of ours and cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) reason: &'static str,
}

/// Whether a variable is one of ours.
pub(super) fn is_ours(name: &str) -> bool {
    name.get(..4)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("MDS_"))
}

/// All variables of ours in the order of the file, and the lines that cannot be read.
pub(super) fn parse(text: &str) -> (Vec<Entry>, Vec<Malformed>) {
    let mut entries = Vec::new();
    let mut malformed = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (assignment, after) = next_assignment(rest);
        if let Some((name, value)) = assignment
            && is_ours(name)
        {
            match value {
                Ok(value) => entries.push(Entry {
                    name: name.to_owned(),
                    value,
                    line,
                }),
                Err(reason) => malformed.push(Malformed { line, reason }),
            }
        }
        let consumed = rest.len() - after.len();
        line += rest.get(..consumed).unwrap_or(rest).matches('\n').count();
        rest = after;
    }
    (entries, malformed)
}

/// A name and its value, or why it has none.
type Assignment<'a> = (&'a str, Result<String, &'static str>);

/// Takes one assignment, blank line or comment off `text`, and returns what follows it.
fn next_assignment(text: &str) -> (Option<Assignment<'_>>, &str) {
    let (line, after_line) = text.split_once('\n').unwrap_or((text, ""));
    let statement = line.trim_start();
    if statement.starts_with('#') {
        return (None, after_line);
    }
    let exported = statement
        .strip_prefix("export")
        .filter(|s| s.starts_with([' ', '\t']))
        .map_or(statement, str::trim_start);
    let Some((name, value)) = exported.split_once('=') else {
        let missing = "the name has no value; write NAME=VALUE";
        return (Some((exported.trim_end(), Err(missing))), after_line);
    };
    let (name, value) = (name.trim_end(), value.trim_start());
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        return (Some((name, unquoted(value))), after_line);
    };
    // The quoted text may run over the end of the line, which only the whole text can tell.
    let start = text.len() - after_line.len() - usize::from(text.len() > line.len()) - value.len();
    let quoted = text.get(start + 1..).unwrap_or("");
    let Some((raw, behind)) = split_at_closing(quoted, quote) else {
        return (Some((name, Err("the quote is not closed"))), after_line);
    };
    let (trailer, after) = behind.split_once('\n').unwrap_or((behind, ""));
    let trailer = trailer.trim();
    let value = if raw.contains('\n') {
        Err("a value over several lines is not supported")
    } else if !trailer.is_empty() && !trailer.starts_with('#') {
        Err("there is text after the closing quote")
    } else {
        refuse_expansion(raw).map(|raw| unescape(raw, quote))
    };
    (Some((name, value)), after)
}

fn unquoted(text: &str) -> Result<String, &'static str> {
    let mut previous_is_space = true;
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        if c == '#' && previous_is_space {
            end = at;
            break;
        }
        previous_is_space = c.is_whitespace();
    }
    let value = text.get(..end).unwrap_or(text).trim();
    refuse_expansion(value).map(str::to_owned)
}

fn refuse_expansion(text: &str) -> Result<&str, &'static str> {
    if text.contains("${") {
        return Err("${NAME} is not expanded here; write the value itself");
    }
    Ok(text)
}

/// Splits at the first `quote` that no backslash escapes.
fn split_at_closing(text: &str, quote: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
    }
    None
}

/// Resolves the escapes that the quote knows; any other backslash stands for itself.
fn unescape(raw: &str, quote: char) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(e @ ('\\' | '\'')) => out.push(e),
            Some('"') if quote == '"' => out.push('"'),
            Some('n') if quote == '"' => out.push('\n'),
            Some('r') if quote == '"' => out.push('\r'),
            Some('t') if quote == '"' => out.push('\t'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, usize)> {
        let (entries, malformed) = parse(text);
        assert_eq!(malformed, []);
        entries.into_iter().map(|e| (e.value, e.line)).collect()
    }

    #[test]
    fn every_form_of_a_value() {
        for (text, value) in [
            ("MDS_A=1", "1"),
            ("  MDS_A = 1  ", "1"),
            ("MDS_A=1\r\n", "1"),
            ("export MDS_A=1", "1"),
            ("export\tMDS_A=1", "1"),
            ("\u{feff}MDS_A=1", "1"),
            ("mds_a=1", "1"),
            ("MDS_A=", ""),
            ("MDS_A=# none", ""),
            ("MDS_A=a#b", "a#b"),
            ("MDS_A=a #b", "a"),
            ("MDS_A=a=b", "a=b"),
            ("MDS_A='a #b' # c", "a #b"),
            ("MDS_A=\"a b\"", "a b"),
            (r#"MDS_A="a\"b\n""#, "a\"b\n"),
            (r"MDS_A='it\'s \n'", r"it's \n"),
            ("MDS_A=it's", "it's"),
        ] {
            assert_eq!(values(text), [(value.to_owned(), 1)], "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted_over_comments_and_other_programs_values() {
        let text = "# c\n\nPEM='a\nMDS_A=not this\n'\nMDS_A=1\nexport OTHER\nMDS_B=2";
        assert_eq!(values(text), [("1".to_owned(), 6), ("2".to_owned(), 8)]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_for_our_names_only() {
        for (text, reason) in [
            ("MDS_A", "the name has no value; write NAME=VALUE"),
            ("MDS_A='x", "the quote is not closed"),
            (
                "MDS_A='x\ny'",
                "a value over several lines is not supported",
            ),
            ("MDS_A='x' y", "there is text after the closing quote"),
            (
                "MDS_A=${HOME}/x",
                "${NAME} is not expanded here; write the value itself",
            ),
            (
                "MDS_A=\"${HOME}\"",
                "${NAME} is not expanded here; write the value itself",
            ),
        ] {
            assert_eq!(
                parse(text),
                (vec![], vec![Malformed { line: 1, reason }]),
                "{text:?}"
            );
            assert_eq!(
                parse(&text.replace("MDS_", "X_")),
                (vec![], vec![]),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_open_quote_of_another_program_does_not_hide_what_follows() {
        assert_eq!(values("X=\"open\nMDS_A=1\n"), [("1".to_owned(), 2)]);
    }
}
