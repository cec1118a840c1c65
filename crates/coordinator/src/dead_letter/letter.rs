//! Letters as they are read back.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::reason::Reason;

/// The name space of line fingerprints; itself a `UUIDv5` of the DNS name space and
/// "lines.dead-letters.market-data-store".
const LINES: Uuid = Uuid::from_u128(0x733a_8f2b_3f43_5c88_a65a_cef6_2e1e_8d6a);

/// What identifies a line wherever rotation moves it: its content. A letter's time makes it unique.
pub(super) type Fingerprint = Uuid;

pub(super) fn fingerprint(line: &[u8]) -> Fingerprint {
    Uuid::new_v5(&LINES, line)
}

/// One line of a dead-letter file, with exactly the fields of its format.
#[derive(Clone, Debug, PartialEq)]
pub struct DlqRecord<T> {
    /// When it was written: seconds since the epoch.
    pub ts: f64,
    /// What happened.
    pub error: String,
    /// The writer's keys.
    pub metadata: Map<String, Value>,
    /// The records.
    pub items: Vec<T>,
}

/// An item of a letter.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<T> {
    /// A record.
    Record(T),
    /// Something else: a line of input that could not be parsed, or what another program wrote.
    Raw(Value),
}

impl<T> Item<T> {
    /// The record, if it is one.
    pub const fn record(&self) -> Option<&T> {
        match self {
            Self::Record(record) => Some(record),
            Self::Raw(_) => None,
        }
    }
}

/// Names the copies of one letter that were read, for settling exactly them: a copy that is
/// appended later (the letter failed again) stays unsettled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterKey {
    pub(super) id: Uuid,
    /// Oldest first: settling that is cut short leaves the newest copy.
    pub(super) lines: Vec<Fingerprint>,
}

impl LetterKey {
    /// The id of the letter that it settles.
    pub const fn id(&self) -> Uuid {
        self.id
    }
}

/// A dead letter that is not settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter<T> {
    /// The letter's id; for a letter without one (another program wrote it) one made from its line.
    pub id: Uuid,
    /// When it was written: seconds since the epoch.
    pub ts: f64,
    /// What happened.
    pub error: String,
    /// Our keys and the writer's own.
    pub metadata: Map<String, Value>,
    /// The records.
    pub items: Vec<Item<T>>,
    /// The file that holds it.
    pub path: PathBuf,
    /// Its line there, from 1.
    pub line: u64,
    pub(super) lines: Vec<Fingerprint>,
}

impl<T> Letter<T> {
    /// What settles this letter.
    pub fn key(&self) -> LetterKey {
        LetterKey {
            id: self.id,
            lines: self.lines.clone(),
        }
    }

    /// Why the record was given up; `None` where the letter does not say it in our words.
    pub fn reason(&self) -> Option<Reason> {
        self.text("reason")?.parse().ok()
    }

    /// The store's own short code, or the broken rule's.
    pub fn code(&self) -> Option<&str> {
        self.text("code")
    }

    /// The kind of the records.
    pub fn kind(&self) -> Option<&str> {
        self.text("kind")
    }

    /// The coordinator that gave the record up.
    pub fn coord_id(&self) -> Option<&str> {
        self.text("coord_id")
    }

    /// How often the record was replayed before it came back.
    pub fn replays(&self) -> u32 {
        replays_of(self.metadata.get("replays"))
    }

    /// Whether the record may have been written all the same.
    pub fn outcome_unknown(&self) -> bool {
        self.metadata.get("outcome_unknown") == Some(&Value::Bool(true))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)?.as_str()
    }
}

fn replays_of(replays: Option<&Value>) -> u32 {
    let replays = replays.and_then(Value::as_u64);
    u32::try_from(replays.unwrap_or(0)).unwrap_or(u32::MAX)
}

/// A line that is no letter. It is kept until it is purged by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file that holds it.
    pub path: PathBuf,
    /// Its line there, from 1.
    pub line: u64,
    /// Its length.
    pub bytes: u64,
    /// Its beginning, as well as it can be shown.
    pub preview: String,
    /// What is wrong with it.
    pub problem: String,
    pub(super) fingerprint: Fingerprint,
}

/// What a line of a dead-letter file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<T> {
    /// A letter.
    Letter(Letter<T>),
    /// A line that is no letter.
    Damaged(Damaged),
}

/// A line as it stands in the file. The original's reader fills in all fields but `items`, and so
/// does this one; a line without items is no letter.
#[derive(Debug, Deserialize)]
pub(super) struct Wire {
    #[serde(default)]
    ts: Option<f64>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    pub(super) items: Vec<Value>,
}

impl Wire {
    pub(super) fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        let error = match serde_json::from_slice(line) {
            Ok(wire) => return Ok(wire),
            Err(error) => error,
        };
        // Python writes numbers that JSON does not have.
        match without_non_finite(line) {
            Some(line) => serde_json::from_slice(&line),
            None => Err(error),
        }
    }

    pub(super) fn ts(&self) -> f64 {
        self.ts.unwrap_or(0.0)
    }

    /// The text under a key of the metadata.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(key)?.as_str()
    }

    /// The letter's id; for a letter that is not ours the fingerprint of its line.
    pub(super) fn id(&self, fingerprint: Fingerprint) -> Uuid {
        let ours = |metadata: &Map<String, Value>| {
            let get = |key| metadata.get(key);
            our_id(get("coord_id")?, get("reason")?, get("id")?)
        };
        self.metadata.as_ref().and_then(ours).unwrap_or(fingerprint)
    }

    pub(super) fn into_letter<T: DeserializeOwned>(
        self,
        key: LetterKey,
        path: PathBuf,
        line: u64,
    ) -> Letter<T> {
        let typed = |value: Value| match T::deserialize(&value) {
            Ok(record) => Item::Record(record),
            Err(_) => Item::Raw(value),
        };
        Letter {
            id: key.id,
            ts: self.ts(),
            error: self.error.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            items: self.items.into_iter().map(typed).collect(),
            path,
            line,
            lines: key.lines,
        }
    }
}

/// What a line says about which letter it is.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    metadata: Option<HeadMetadata>,
}

#[derive(Debug, Deserialize)]
struct HeadMetadata {
    coord_id: Value,
    reason: Value,
    id: Value,
    #[serde(default)]
    replays: Value,
}

impl Head {
    /// The letter's id and how often it was replayed; for a line that is no letter of ours its
    /// fingerprint.
    pub(super) fn identity(line: &[u8], fingerprint: Fingerprint) -> (Uuid, u32) {
        let ours = || {
            let head: Self = serde_json::from_slice(line).ok()?;
            let head = head.metadata?;
            let id = our_id(&head.coord_id, &head.reason, &head.id)?;
            Some((id, replays_of(Some(&head.replays))))
        };
        ours().unwrap_or((fingerprint, 0))
    }
}

/// An `id` counts only in a letter that says what all of ours say: in the metadata of another
/// program it may be anything, and equal in letters that are not.
fn our_id(coord_id: &Value, reason: &Value, id: &Value) -> Option<Uuid> {
    coord_id.as_str()?;
    reason.as_str()?.parse::<Reason>().ok()?;
    Uuid::try_parse(id.as_str()?).ok()
}

impl<T> From<Letter<T>> for DlqRecord<T> {
    /// Items that are no records move to the metadata `unparsed_items`, so that none is left out
    /// unseen.
    fn from(letter: Letter<T>) -> Self {
        let mut metadata = letter.metadata;
        let mut items = Vec::with_capacity(letter.items.len());
        let mut unparsed = Vec::new();
        for item in letter.items {
            match item {
                Item::Record(record) => items.push(record),
                Item::Raw(value) => unparsed.push(value),
            }
        }
        if !unparsed.is_empty() {
            metadata.insert("unparsed_items".to_owned(), Value::Array(unparsed));
        }
        Self {
            ts: letter.ts,
            error: letter.error,
            metadata,
            items,
        }
    }
}

/// The line with `NaN`, `Infinity` and `-Infinity` outside of texts replaced by `null`; `None`
/// where there is none of them.
fn without_non_finite(line: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    let (mut in_text, mut found) = (false, false);
    while let Some((&byte, tail)) = rest.split_first() {
        if in_text {
            let taken = if byte == b'\\' { 2.min(rest.len()) } else { 1 };
            in_text = byte != b'"';
            out.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
        } else if let Some(word) = WORDS.iter().find(|word| rest.starts_with(word)) {
            out.extend_from_slice(b"null");
            rest = &rest[word.len()..];
            found = true;
        } else {
            in_text = byte == b'"';
            out.push(byte);
            rest = tail;
        }
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_become_null_outside_of_texts() {
        let salvage = |text: &str| {
            without_non_finite(text.as_bytes()).map(|line| String::from_utf8(line).unwrap())
        };
        assert_eq!(
            salvage(r#"{"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" NaN"}"#).unwrap(),
            r#"{"a":null,"b":[null,null],"c":"NaN \" NaN"}"#
        );
        assert_eq!(salvage(r#"{"c":"NaN","d":"\\"}"#), None);
        assert_eq!(salvage(r#""\"#), None);
    }
}
