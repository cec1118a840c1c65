//! Reading files again, to find each of their rows: in the store, in the queue, or in a letter.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{
    DeadLetterQueue, DlqOptions, Entry, Item, Letter, LetterFilter,
};
use mds_coordinator::waiting_records;
use mds_core::{Origin, Record, Sourced, Symbol, Timestamp, Value};
use mds_formats::InvalidRow;
use mds_store::{IngestedFile, Query, Store};
use sha2::{Digest as _, Sha256};

use super::ReadingArgs;
use super::input::{self, Base, Input};
use super::read::{self, Said};
use super::reading;
use super::revise::Revisions;
use crate::context::Context;
use crate::durable::{self, SourcedCodec};
use crate::pipeline::MarketRecord;

/// Rows that are looked for in the store at once.
const CHUNK: usize = 50_000;
/// Missing rows that are named.
const TOLD: usize = 20;
/// Symbols up to which the store is asked for them alone.
const SYMBOLS: usize = 64;

/// Where the rows of the files are.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) in_store: u64,
    pub(crate) in_queue: u64,
    pub(crate) in_letters: u64,
    /// The first of those that are nowhere.
    pub(crate) nowhere: Vec<String>,
    /// What went wrong with a file.
    pub(crate) errors: Vec<String>,
}

impl Found {
    pub(crate) fn missing(&self) -> u64 {
        self.rows - self.in_store - self.in_queue - self.in_letters
    }
}

/// Rows that were not found yet.
struct Wanted<R> {
    /// By their key.
    records: Vec<Sourced<R>>,
    /// Rows that are no records, by what tells them from others: they can be in a letter only.
    invalid: HashMap<(u64, Content), Vec<InvalidPlace>>,
}

/// The hash of a line as a letter keeps it.
type Content = [u8; 32];

/// Where a row stands that is no record.
#[derive(Clone, Debug)]
struct InvalidPlace {
    path: Arc<str>,
    /// Whether there is more of it than a letter keeps.
    is_truncated: bool,
}

impl<R: Record> Wanted<R> {
    /// Takes out the records of a key that `other` proves: it is one of them, or wins over them.
    fn prove(&mut self, found: &mut [bool], other: &R) -> u64 {
        let rows = &self.records;
        let first = rows.partition_point(|row| row.record.key_cmp(other) == Ordering::Less);
        let mut proven = 0;
        for (row, is_found) in rows.iter().zip(found.iter_mut()).skip(first) {
            if row.record.key_cmp(other) != Ordering::Equal {
                break;
            }
            let wins = other.rank_cmp(&row.record) != Ordering::Less;
            let is_same = other.values_cmp(&row.record) == Ordering::Equal;
            if !*is_found && (wins || is_same) {
                *is_found = true;
                proven += 1;
            }
        }
        proven
    }

    fn want_invalid(&mut self, row: &InvalidRow) {
        let is_text = std::str::from_utf8(&row.raw).is_ok();
        let hex = (!is_text).then(|| hex(&row.raw));
        let content = content(&String::from_utf8_lossy(&row.raw), hex.as_deref());
        let place = InvalidPlace {
            path: Arc::clone(&row.origin.path),
            is_truncated: row.truncated,
        };
        let places = self.invalid.entry((row.origin.line, content));
        places.or_default().push(place);
    }

    /// Takes out the rows that are no records and whose line this letter keeps, whatever the file is
    /// called by now. Where it keeps the beginning of the line only, it must be of the same file.
    fn prove_invalid(&mut self, letter: &Letter<R>) -> u64 {
        let of_letter = |key: &str| letter.metadata.get(key);
        let text = |key: &str| of_letter(key).and_then(serde_json::Value::as_str);
        let Some(line) = of_letter("line").and_then(serde_json::Value::as_u64) else {
            return 0;
        };
        let Some(Item::Raw(serde_json::Value::String(raw))) = letter.items.first() else {
            return 0;
        };
        let key = (line, content(raw, text("raw_hex")));
        let Some(places) = self.invalid.get_mut(&key) else {
            return 0;
        };
        let path = text("path").unwrap_or_default();
        let before = places.len();
        places.retain(|place| place.is_truncated && !is_same_place(&place.path, path));
        let proven = (before - places.len()) as u64;
        if places.is_empty() {
            self.invalid.remove(&key);
        }
        proven
    }

    /// Where the rows stand that are no records and were not found.
    fn invalid_places(&self) -> Vec<(&str, u64)> {
        let each = self.invalid.iter();
        let mut places: Vec<_> = each
            .flat_map(|((line, _), places)| places.iter().map(|place| (&*place.path, *line)))
            .collect();
        places.sort_unstable();
        places
    }

    /// Keeps those that were not found.
    fn keep(&mut self, found: &[bool]) {
        let mut is_found = found.iter();
        self.records
            .retain(|_| !is_found.next().copied().unwrap_or(false));
    }
}

/// Looks for the rows of files.
pub(crate) async fn audit<R: MarketRecord>(
    files: &[PathBuf],
    flags: &ReadingArgs,
    store: &Store,
    context: &Context,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let options = flags.options(context.settings.tenant_id());
    let mut left = Wanted {
        records: Vec::new(),
        invalid: HashMap::new(),
    };
    for input in input::expand(
        files,
        &context.store_url()?,
        durable::dir(context).as_deref(),
    )? {
        let revisions = revisions::<R>(&input, &options, store).await?;
        let mut said =
            read::start::<R>(input.clone(), options.clone(), revisions, 0, Arc::default())
                .context("cannot start the thread that reads")?;
        let mut rows: Vec<Sourced<R>> = Vec::new();
        while let Some(next) = said.recv().await {
            match next {
                Said::Notes(_) | Said::Ended => {}
                Said::Failed(error) => found.errors.push(error.told()),
                Said::Chunk(chunk) => {
                    found.rows += chunk.rows();
                    for row in &chunk.invalid {
                        left.want_invalid(row);
                    }
                    rows.extend(chunk.records);
                }
            }
            if rows.len() >= CHUNK {
                let rows = std::mem::take(&mut rows);
                left.records
                    .extend(missing_in(store, rows, &mut found).await?);
            }
        }
        left.records
            .extend(missing_in(store, rows, &mut found).await?);
    }
    left.records.sort_by(|a, b| a.record.key_cmp(&b.record));
    if !left.records.is_empty() {
        look_into_queue(&mut left, &mut found, context)?;
        // What left the queue between the two looks is in the store by now, or in a letter.
        let rows = std::mem::take(&mut left.records);
        for rows in rows.chunks(CHUNK) {
            let missing = missing_in(store, rows.to_vec(), &mut found).await?;
            left.records.extend(missing);
        }
    }
    look_into_letters(&mut left, &mut found, context)?;
    let places = left.records.iter().map(|row| place(row.origin.as_ref()));
    let invalid = left.invalid_places();
    let invalid = invalid.iter().map(|(path, line)| format!("{path}:{line}"));
    found.nowhere = places.chain(invalid).take(TOLD).collect();
    Ok(found)
}

fn place(origin: Option<&Origin>) -> String {
    origin.map_or_else(|| "a row".to_owned(), |o| format!("{}:{}", o.path, o.line))
}

/// What is kept of a line, as one hash: its text, and its bytes where they are no text.
fn content(text: &str, hex: Option<&str>) -> Content {
    let mut hasher = Sha256::new();
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text);
    hasher.update(hex.unwrap_or_default());
    hasher.finalize().into()
}

/// Bytes as a letter keeps them.
fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

/// Whether two names lead to one file, or to one entry of one archive.
fn is_same_place(one: &str, other: &str) -> bool {
    one == other || resolved(one) == resolved(other)
}

/// The file itself and the entry in it.
fn resolved(name: &str) -> (PathBuf, &str) {
    let ends = name.match_indices('!').map(|(at, _)| at);
    for end in ends.chain([name.len()]) {
        let (path, entry) = name.split_at(end);
        if let Ok(path) = Path::new(path).canonicalize()
            && path.is_file()
        {
            return (path, entry);
        }
    }
    (PathBuf::from(name), "")
}

/// The revisions that the rows of a file have, as the store remembers them, or would give them by the
/// time of its last change. Who audits leaves no trace in the store.
async fn revisions<R: MarketRecord>(
    input: &Input,
    options: &mds_formats::Options,
    store: &Store,
) -> anyhow::Result<Revisions> {
    let content = match input::base_revision(input, None).await? {
        Base::Known(revisions, _) => return Ok(revisions),
        Base::OfContent(content) => content,
    };
    let said = store
        .look_up_file(&IngestedFile {
            content_hash: content.hash,
            kind: R::KIND,
            keys: reading::keys(options),
            reading: reading::reading(options),
            path: Some(&content.path),
            modified: content.modified.micros(),
            now: input::now().micros(),
            max_rows: content.max_rows,
        })
        .await?;
    Ok(Revisions {
        base: said.base,
        as_of: said.modified,
        as_of_is: "last changed at",
        first_seen: said.first_seen,
    })
}

/// The rows that the store does not have.
async fn missing_in<R: MarketRecord>(
    store: &Store,
    mut rows: Vec<Sourced<R>>,
    found: &mut Found,
) -> anyhow::Result<Vec<Sourced<R>>> {
    if rows.is_empty() {
        return Ok(rows);
    }
    rows.sort_by(|a, b| a.record.key_cmp(&b.record));
    let mut wanted = Wanted {
        records: rows,
        invalid: HashMap::new(),
    };
    let mut is_found = vec![false; wanted.records.len()];
    let mut stored = store.query::<R>(query_for(&wanted.records));
    while let Some(chunk) = stored.next().await {
        for row in chunk? {
            found.in_store += wanted.prove(&mut is_found, &row);
        }
    }
    wanted.keep(&is_found);
    Ok(wanted.records)
}

/// What a store is asked for, to have all of these rows in the answer.
fn query_for<R: MarketRecord>(rows: &[Sourced<R>]) -> Query {
    let times = || rows.iter().map(|row| row.record.time());
    let end = times()
        .max()
        .map(|last| Timestamp::from_micros(last.micros() + 1));
    let symbols: Option<BTreeSet<_>> = rows.iter().map(|row| symbol_of(&row.record)).collect();
    let few = symbols.filter(|symbols| symbols.len() <= SYMBOLS);
    let tenant = rows.first().map(|row| row.record.tenant_id());
    Query {
        tenant: tenant.filter(|tenant| rows.iter().all(|row| row.record.tenant_id() == *tenant)),
        symbols: few.unwrap_or_default().into_iter().collect(),
        start: times().min(),
        end,
        ..Query::default()
    }
}

/// The instrument, where the record has one.
fn symbol_of<R: Record>(record: &R) -> Option<Symbol> {
    match record.value(R::column("symbol")?) {
        Value::Text(symbol) => Some(Symbol::new(symbol)),
        _ => None,
    }
}

fn look_into_queue<R: MarketRecord>(
    left: &mut Wanted<R>,
    found: &mut Found,
    context: &Context,
) -> anyhow::Result<()> {
    let Some(folder) = durable::folder_of::<R>(context).filter(|folder| folder.exists()) else {
        return Ok(());
    };
    let mut is_found = vec![false; left.records.len()];
    let mut in_queue = 0;
    let visit = |row: Sourced<R>| in_queue += left.prove(&mut is_found, &row.record);
    waiting_records(&folder, &SourcedCodec::default(), visit)
        .with_context(|| folder.display().to_string())?;
    left.keep(&is_found);
    found.in_queue += in_queue;
    Ok(())
}

fn look_into_letters<R: MarketRecord>(
    left: &mut Wanted<R>,
    found: &mut Found,
    context: &Context,
) -> anyhow::Result<()> {
    if left.records.is_empty() && left.invalid.is_empty() {
        return Ok(());
    }
    let path = context.dlq_path(R::KIND);
    let letters = DeadLetterQueue::<R>::at(&path, DlqOptions::default())?;
    let mut is_found = vec![false; left.records.len()];
    for entry in letters.scan(LetterFilter::default())? {
        let Entry::Letter(letter) = entry? else {
            continue;
        };
        for item in &letter.items {
            if let Some(record) = item.record() {
                found.in_letters += left.prove(&mut is_found, record);
            }
        }
        found.in_letters += left.prove_invalid(&letter);
    }
    left.keep(&is_found);
    Ok(())
}
