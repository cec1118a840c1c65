//! What a scan knows before it gives out the first letter: which lines are unsettled, and which of
//! them are copies of one letter.
//!
//! A letter has copies where it was written again before it was settled: its record was given up
//! again after a crash, or a replay failed and was killed before the old copy was settled. The copy
//! with most replays counts, and of equal ones the later. Copies are rare, so only their letters
//! are kept with all that belongs to them; any other line takes 16 bytes. 64 bits of a fingerprint
//! are enough here: two of a million lines agree in them once in ten million queues, and then one
//! of the two is left for the next scan.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::error::DlqError;
use super::files::Files;
use super::letter::{Fingerprint, Head, LetterKey, Wire};
use super::scan::Lines;
use super::settle::Settled;

/// The copies of one letter.
#[derive(Debug)]
struct Copies {
    newest: Fingerprint,
    replays: u32,
    /// Oldest first.
    older: Vec<Fingerprint>,
}

impl Copies {
    fn add(&mut self, line: Fingerprint, replays: u32) {
        if self.newest == line || self.older.contains(&line) {
            return;
        }
        if replays >= self.replays {
            self.older.push(std::mem::replace(&mut self.newest, line));
            self.replays = replays;
        } else {
            self.older.insert(0, line);
        }
    }
}

/// All unsettled lines.
#[derive(Debug)]
pub(super) struct Index {
    /// Short forms of the lines that were not given out yet, sorted; `given` runs beside it.
    lines: Vec<u64>,
    given: Vec<bool>,
    /// The letters with more than one copy.
    copies: HashMap<Uuid, Copies>,
}

impl Index {
    pub(super) fn build(files: &Arc<Files>) -> Result<Self, DlqError> {
        let settled = Settled::load(files)?;
        let mut seen = Vec::new();
        let mut lines = Lines::open(files)?;
        let mut buffer = Vec::new();
        while let Some(line) = lines.next(&mut buffer)? {
            if !settled.contains(&line.fingerprint) {
                let (id, _) = Head::identity(&buffer, line.fingerprint);
                seen.push((short(id), short(line.fingerprint)));
            }
        }
        seen.sort_unstable();
        // A line is met twice if its file was rotated meanwhile, or if it was copied by hand.
        seen.dedup();
        let repeated = seen.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        let repeated: HashSet<_> = repeated.map(|pair| pair[0].0).collect();
        let copies = if repeated.is_empty() {
            HashMap::new()
        } else {
            copies(files, &settled, &repeated)?
        };
        let mut lines: Vec<_> = seen.into_iter().map(|(_, line)| line).collect();
        lines.sort_unstable();
        Ok(Self {
            given: vec![false; lines.len()],
            lines,
            copies,
        })
    }

    /// Whether the line was unsettled and was not taken yet.
    pub(super) fn holds(&self, line: Fingerprint) -> bool {
        self.position(line).is_some()
    }

    fn position(&self, line: Fingerprint) -> Option<usize> {
        let position = self.lines.binary_search(&short(line)).ok()?;
        (!self.given[position]).then_some(position)
    }

    /// Takes the letter whose newest copy is this line out of the index; `None` for a line that
    /// was taken already, is an older copy, or came after the index was built.
    pub(super) fn take(&mut self, id: Uuid, line: Fingerprint) -> Option<LetterKey> {
        let position = self.position(line)?;
        let older = match self.copies.get_mut(&id) {
            None => Vec::new(),
            Some(copies) if copies.newest == line => std::mem::take(&mut copies.older),
            Some(_) => return None,
        };
        self.given[position] = true;
        let mut lines = older;
        lines.push(line);
        Some(LetterKey { id, lines })
    }
}

/// The copies of the letters whose short ids are `repeated`.
fn copies(
    files: &Arc<Files>,
    settled: &Settled,
    repeated: &HashSet<u64>,
) -> Result<HashMap<Uuid, Copies>, DlqError> {
    let mut found: HashMap<Uuid, Copies> = HashMap::new();
    let mut lines = Lines::open(files)?;
    let mut buffer = Vec::new();
    while let Some(line) = lines.next(&mut buffer)? {
        let (id, replays) = Head::identity(&buffer, line.fingerprint);
        let wanted = repeated.contains(&short(id)) && !settled.contains(&line.fingerprint);
        // A damaged line must not stand in for the letter that it once was.
        if !wanted || Wire::parse(&buffer).is_err() {
            continue;
        }
        found
            .entry(id)
            .and_modify(|copies| copies.add(line.fingerprint, replays))
            .or_insert_with(|| Copies {
                newest: line.fingerprint,
                replays,
                older: Vec::new(),
            });
    }
    Ok(found)
}

fn short(id: Uuid) -> u64 {
    id.as_u64_pair().1
}
