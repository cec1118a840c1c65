//! Reading files again, to find each of their rows: in the store, in the queue, or in a letter.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions, Entry, LetterFilter};
use mds_coordinator::waiting_records;
use mds_core::{Origin, Record, Sourced, Symbol, Timestamp, Value};
use mds_store::{IngestedFile, Query, Store};

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
    /// Rows that are no records: they can be in a letter only.
    invalid: BTreeSet<(Arc<str>, u64)>,
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
        invalid: BTreeSet::new(),
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
                    let origins = chunk.invalid.iter().map(|row| &row.origin);
                    left.invalid
                        .extend(origins.map(|o| (Arc::clone(&o.path), o.line)));
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
    }
    look_into_letters(&mut left, &mut found, context)?;
    let places = left.records.iter().map(|row| place(row.origin.as_ref()));
    let invalid = left
        .invalid
        .iter()
        .map(|(path, line)| format!("{path}:{line}"));
    found.nowhere = places.chain(invalid).take(TOLD).collect();
    Ok(found)
}

fn place(origin: Option<&Origin>) -> String {
    origin.map_or_else(|| "a row".to_owned(), |o| format!("{}:{}", o.path, o.line))
}

/// The revisions that the rows of a file have, as the store remembers them.
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
        .file_revision(&IngestedFile {
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
        invalid: BTreeSet::new(),
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
        let text = |key: &str| letter.metadata.get(key).and_then(serde_json::Value::as_str);
        let line = letter
            .metadata
            .get("line")
            .and_then(serde_json::Value::as_u64);
        if let Some((path, line)) = text("path").zip(line) {
            let was_wanted = left.invalid.remove(&(path.into(), line));
            found.in_letters += u64::from(was_wanted);
        }
    }
    left.keep(&is_found);
    Ok(())
}
