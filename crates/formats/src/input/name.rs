//! What a file name says.
//!
//! Vendors put the symbol, the span or the date into the names of their files. A name is only
//! believed where it has the vendor's own shape.

/// A file's name without folders and without `.gz`, `.zip`, `.csv` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    stem: String,
}

/// Endings that say how a file is packed or laid out, never what is in it.
const ENDINGS: [&str; 9] = [
    ".gz", ".gzip", ".zip", ".csv", ".txt", ".tsv", ".json", ".ndjson", ".jsonl",
];

impl Name {
    pub(crate) fn new(path: &str) -> Self {
        let base = path.rsplit(['/', '\\', '!']).next().unwrap_or(path);
        let mut stem = base;
        while let Some(cut) = strip_ending(stem) {
            stem = cut;
        }
        Self {
            stem: stem.to_owned(),
        }
    }

    pub(crate) fn stem(&self) -> &str {
        &self.stem
    }

    /// Whether `word` stands in the name, between other characters than letters and digits.
    pub(crate) fn has_word(&self, word: &str) -> bool {
        self.after(word).is_some() || self.words().any(|w| w.eq_ignore_ascii_case(word))
    }

    /// What follows after `word` and a separator (`-` or `_`), such as the `BRK-A` of
    /// `bars-yahoo-BRK-A`.
    pub(crate) fn after(&self, word: &str) -> Option<&str> {
        let mut from = 0;
        while let Some(rest) = self.stem.get(from..) {
            let starts_word = from == 0 || !self.stem.as_bytes()[from - 1].is_ascii_alphanumeric();
            if let Some(head) = rest.get(..word.len())
                && starts_word
                && head.eq_ignore_ascii_case(word)
                && let Some(tail) = rest[word.len()..].strip_prefix(['-', '_'])
            {
                return Some(tail);
            }
            from += rest.chars().next()?.len_utf8();
        }
        None
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.stem.split(|c: char| !c.is_ascii_alphanumeric())
    }
}

fn strip_ending(stem: &str) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| {
        let cut = stem
            .len()
            .checked_sub(ending.len())
            .filter(|&cut| cut > 0)?;
        let tail = stem.get(cut..)?;
        tail.eq_ignore_ascii_case(ending).then(|| &stem[..cut])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_endings_go() {
        for (path, stem) in [
            ("/data/BTCUSDT-1m-2024-11.csv.gz", "BTCUSDT-1m-2024-11"),
            ("a.zip!dir/AAPL.US.TXT", "AAPL.US"),
            ("C:\\x\\wig20_d.CSV", "wig20_d"),
            (".csv", ".csv"),
            ("-", "-"),
        ] {
            assert_eq!(Name::new(path).stem(), stem, "{path}");
        }
    }

    #[test]
    fn words_stand_alone() {
        let name = Name::new("bars-yahoo-BRK-A.csv");
        assert_eq!(name.after("yahoo"), Some("BRK-A"));
        assert_eq!(name.after("hoo"), None);
        assert!(name.has_word("YAHOO"));
        assert!(!name.has_word("yah"));
    }
}
