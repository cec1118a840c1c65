//! Letters on their way into the file.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::DlqError;
use super::reason::Reason;

/// The name space of letter ids; itself a `UUIDv5` of the DNS name space and
/// "dead-letters.market-data-store".
const NAMESPACE: Uuid = Uuid::from_u128(0x0f27_6610_f34b_59c3_ba8e_9684_d0d0_946f);

/// The largest line that is written, and read back: 256 MiB.
pub(super) const MAX_LINE_BYTES: usize = 256 << 20;

/// One record that was given up, and why.
///
/// ```
/// use mds_coordinator::dead_letter::{LetterDraft, LetterItem, Reason};
///
/// let item = LetterItem::record(&serde_json::json!({"symbol": "SPY"})).unwrap();
/// let draft = LetterDraft {
///     code: Some("23514".to_owned()),
///     ..LetterDraft::new("prod", Reason::RejectedRow, "violates check", "rejected", item)
/// };
/// assert_eq!(draft.id(), draft.clone().id(), "the same record is the same letter");
/// ```
#[derive(Clone, Debug)]
pub struct LetterDraft {
    /// The coordinator that gave the record up.
    pub coord_id: String,
    /// The kind of record, where the caller knows kinds.
    pub kind: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What happened, for people.
    pub error: String,
    /// The class of the error, one of a closed set (an `ErrorKind`'s name, or the caller's own).
    pub error_class: &'static str,
    /// The store's own short code, or the broken rule's.
    pub code: Option<String>,
    /// How often a write was tried.
    pub attempts: u32,
    /// The worker that tried last.
    pub worker_id: Option<u32>,
    /// Whether the record may have been written all the same.
    pub outcome_unknown: bool,
    /// How often the record was replayed before it came back.
    pub replays: u32,
    /// The id of the letter that was replayed, so that this one takes its place; `None` derives it.
    pub replaces: Option<Uuid>,
    /// The caller's own keys; for a row of a file its `path` and `line`. Keys that a letter always
    /// has are overwritten.
    pub metadata: Map<String, Value>,
    /// The record.
    pub item: LetterItem,
}

impl LetterDraft {
    /// A draft without kind, code, attempts, worker and metadata.
    pub fn new(
        coord_id: impl Into<String>,
        reason: Reason,
        error: impl Into<String>,
        error_class: &'static str,
        item: LetterItem,
    ) -> Self {
        Self {
            coord_id: coord_id.into(),
            kind: None,
            reason,
            error: error.into(),
            error_class,
            code: None,
            attempts: 0,
            worker_id: None,
            outcome_unknown: false,
            replays: 0,
            replaces: None,
            metadata: Map::new(),
            item,
        }
    }

    /// The letter's id: the same for the same record (its key and revision are part of its JSON),
    /// coordinator, kind and reason. A raw line is told from an equal one by its path and number.
    pub fn id(&self) -> Uuid {
        if let Some(id) = self.replaces {
            return id;
        }
        let mut name = Vec::with_capacity(self.item.json.len() + 64);
        let mut part = |text: &str| {
            name.extend_from_slice(&(text.len() as u64).to_le_bytes());
            name.extend_from_slice(text.as_bytes());
        };
        part(&self.coord_id);
        part(self.kind.as_deref().unwrap_or_default());
        part(self.reason.as_str());
        part(&self.item.json);
        if self.item.is_line {
            for key in ["path", "line"] {
                part(&self.metadata.get(key).unwrap_or(&Value::Null).to_string());
            }
        }
        Uuid::new_v5(&NAMESPACE, &name)
    }

    /// The letter without its time.
    pub(super) fn render(mut self) -> Result<Rendered, DlqError> {
        let id = self.id();
        let map = &mut self.metadata;
        let mut set = |key: &str, value: Value| map.insert(key.to_owned(), value);
        set("id", id.to_string().into());
        set("coord_id", self.coord_id.into());
        set("reason", self.reason.as_str().into());
        set("error_class", self.error_class.into());
        set("attempts", self.attempts.into());
        set("replays", self.replays.into());
        if let Some(kind) = self.kind {
            set("kind", kind.into());
        }
        if let Some(code) = self.code {
            set("code", code.into());
        }
        if let Some(worker_id) = self.worker_id {
            set("worker_id", worker_id.into());
        }
        if self.outcome_unknown {
            set("outcome_unknown", true.into());
        }
        if let Some(hex) = self.item.hex {
            set("raw_hex", hex.into());
        }
        Rendered::new(
            &self.error,
            &self.metadata,
            &format!("[{}]", self.item.json),
            Some(id),
        )
    }
}

/// What a letter carries.
#[derive(Clone, Debug)]
pub struct LetterItem {
    /// JSON on one line.
    json: String,
    /// The exact bytes of a line that is not UTF-8.
    hex: Option<String>,
    is_line: bool,
}

impl LetterItem {
    /// A record, as JSON that reads back equal. (JSON has no non-finite numbers: they become
    /// `null`.)
    pub fn record<T: Serialize + ?Sized>(record: &T) -> Result<Self, DlqError> {
        Ok(Self {
            json: json_line(record)?,
            hex: None,
            is_line: false,
        })
    }

    /// A line of input that could not be made into a record, kept as it is. Where it is not UTF-8,
    /// the letter shows it as well as it can and keeps its bytes in hexadecimal, as the metadata
    /// `raw_hex`.
    pub fn line(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let hex = std::str::from_utf8(line).is_err().then(|| hex(line));
        Self {
            json: Value::from(text).to_string(),
            hex,
            is_line: true,
        }
    }
}

impl From<Value> for LetterItem {
    fn from(record: Value) -> Self {
        Self {
            json: record.to_string(),
            hex: None,
            is_line: false,
        }
    }
}

/// A letter's line, complete but for its time, which is set under the lock.
#[derive(Debug)]
pub(super) struct Rendered {
    /// The line after the value of `ts`.
    rest: String,
    pub(super) id: Option<Uuid>,
}

impl Rendered {
    /// A letter with the JSON array `items`.
    pub(super) fn new(
        error: &str,
        metadata: &Map<String, Value>,
        items: &str,
        id: Option<Uuid>,
    ) -> Result<Self, DlqError> {
        let error = json_line(error)?;
        let metadata = json_line(metadata)?;
        let rest = format!(",\"error\":{error},\"metadata\":{metadata},\"items\":{items}}}\n");
        if rest.len() > MAX_LINE_BYTES {
            return Err(DlqError::TooLarge {
                bytes: rest.len(),
                limit: MAX_LINE_BYTES,
            });
        }
        Ok(Self { rest, id })
    }

    /// Bytes of the line with the longest time.
    pub(super) fn max_bytes(&self) -> usize {
        self.rest.len() + 32
    }

    /// Adds the line to `buffer`; `ts` in seconds since the epoch.
    pub(super) fn write_to(&self, ts: f64, buffer: &mut String) {
        buffer.push_str("{\"ts\":");
        buffer.push_str(&Value::from(ts).to_string());
        buffer.push_str(&self.rest);
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// JSON without a line break.
pub(super) fn json_line<T: Serialize + ?Sized>(value: &T) -> Result<String, DlqError> {
    let failed = |source| DlqError::Serialize { source };
    let json = serde_json::to_string(value).map_err(failed)?;
    if json.contains('\n') {
        // Only a type that writes its JSON itself can do that; through a value it cannot.
        return Ok(serde_json::from_str::<Value>(&json)
            .map_err(failed)?
            .to_string());
    }
    Ok(json)
}
