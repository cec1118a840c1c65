//! The records of letters.

use std::borrow::Borrow;
use std::collections::VecDeque;

use mds_coordinator::dead_letter::{Letter, LetterKey};
use mds_core::{Origin, Sourced};
use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::Counts;
use crate::output::note;
use crate::pipeline::MarketRecord;

/// A record on its way back, with the letter that it comes from.
#[derive(Debug)]
pub(super) struct Replayed<R> {
    pub(super) row: Sourced<R>,
    pub(super) letter: Uuid,
    /// Whether the letter holds this record alone, so that a new letter can take its place.
    pub(super) is_alone: bool,
    pub(super) replays: u32,
}

impl<R> Borrow<R> for Replayed<R> {
    fn borrow(&self) -> &R {
        &self.row.record
    }
}

impl<R: Serialize> Serialize for Replayed<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.row.serialize(serializer)
    }
}

/// The records of letters, and what settles the letters; tells of those that stay as they are.
pub(super) fn take_rows<R: MarketRecord>(
    letters: &[&Letter<R>],
    max_bytes: usize,
    counts: &mut Counts,
) -> (VecDeque<Replayed<R>>, Vec<LetterKey>) {
    let (mut rows, mut keys) = (VecDeque::new(), Vec::new());
    for letter in letters {
        counts.letters += 1;
        match rows_of(letter, max_bytes) {
            Ok(found) => {
                rows.extend(found);
                keys.push(letter.key());
            }
            Err(why) => {
                counts.left += 1;
                note(format_args!("letter {} is not replayed: {why}", letter.id));
            }
        }
    }
    (rows, keys)
}

/// The records of a letter; an error says why it stays.
///
/// A record that the queue has no room for is told before it is submitted: the others of its letter
/// must not be in the store while the letter stays.
pub(super) fn rows_of<R: MarketRecord>(
    letter: &Letter<R>,
    max_bytes: usize,
) -> Result<Vec<Replayed<R>>, String> {
    let origin = letter
        .metadata
        .get("path")
        .and_then(|p| p.as_str())
        .map(|path| Origin {
            path: path.into(),
            line: letter
                .metadata
                .get("line")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        });
    letter
        .items
        .iter()
        .map(|item| {
            let record = item.record().ok_or("it holds a line that is no record")?;
            let mut record = record.clone();
            record.normalize();
            record.validate().map_err(|invalid| invalid.to_string())?;
            let bytes = record.bytes();
            if bytes > max_bytes {
                return Err(format!(
                    "a record takes {bytes} bytes, more than coordinator_max_bytes ({max_bytes}) \
                     allows"
                ));
            }
            Ok(Replayed {
                row: Sourced {
                    record,
                    origin: origin.clone(),
                },
                letter: letter.id,
                is_alone: letter.items.len() == 1,
                replays: letter.replays(),
            })
        })
        .collect()
}
