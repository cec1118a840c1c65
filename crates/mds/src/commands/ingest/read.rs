//! The thread that reads one input and hands over chunks.
//!
//! Reading and parsing block, so they have a thread of their own; the bounded channel between it
//! and the write path holds a few chunks, so a slow store slows the reader down.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mds_core::revision::MAX_AHEAD_MICROS;
use mds_core::{Sourced, Timestamp};
use mds_formats::{InvalidRow, Limits, OpenError, Options, ReadError, Reader, Source, Verdict};
use tokio::sync::mpsc;

use super::input::{self, Input};
use crate::pipeline::MarketRecord;

/// Verdicts in a chunk.
const CHUNK: usize = 2_048;
/// Chunks that may wait between the reader and the write path.
const CHUNKS: usize = 4;

/// Rows of an input, in their order.
pub(super) struct Chunk<R> {
    pub(super) records: VecDeque<Sourced<R>>,
    pub(super) invalid: Vec<InvalidRow>,
    pub(super) skipped: BTreeMap<&'static str, u64>,
}

/// What the reader says: chunks, then `Ended` or `Failed`.
pub(super) enum Said<R> {
    Chunk(Chunk<R>),
    Ended { notes: Vec<String> },
    Failed { error: Failed, notes: Vec<String> },
}

/// Why an input was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Failed {
    /// Whether it is the input that is not one of ours, rather than a fault of disk or archive.
    pub(super) fn is_usage(&self) -> bool {
        match self {
            Self::Open(error) => error.is_usage(),
            Self::Read(_) => false,
        }
    }
}

/// Starts reading; `base` is the revision of the first row. The thread ends by itself, also when
/// nobody listens any more. `position` follows the bytes read, for the progress bar.
pub(super) fn start<R: MarketRecord>(
    input: Input,
    options: Options,
    base: i64,
    position: Arc<AtomicU64>,
) -> std::io::Result<mpsc::Receiver<Said<R>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    std::thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || {
            let last = match open(&input, &options) {
                Err(error) => Said::Failed {
                    error: error.into(),
                    notes: Vec::new(),
                },
                Ok(mut reader) => {
                    let Some(last) = pump(&mut reader, base, &position, &sender) else {
                        return;
                    };
                    last
                }
            };
            // Nobody listens any more: the run was stopped.
            drop(sender.blocking_send(last));
        })?;
    Ok(receiver)
}

fn open<R: MarketRecord>(input: &Input, options: &Options) -> Result<Reader<R>, OpenError> {
    let source = match input {
        Input::File(path) => Source::open(path, Limits::default())?,
        Input::Stdin => Source::from_reader("-", std::io::stdin(), Limits::default())?,
    };
    mds_formats::reader(source, options)
}

/// Hands over chunks until the input ends; `None` if nobody listens any more.
fn pump<R: MarketRecord>(
    reader: &mut Reader<R>,
    base: i64,
    position: &AtomicU64,
    sender: &mpsc::Sender<Said<R>>,
) -> Option<Said<R>> {
    let mut verdicts = Vec::with_capacity(CHUNK);
    loop {
        let read = reader.next_chunk(&mut verdicts, CHUNK);
        position.store(reader.bytes_read(), Ordering::Relaxed);
        match read {
            Ok(0) => {
                return Some(Said::Ended {
                    notes: reader.notes().to_vec(),
                });
            }
            Ok(_) => {
                let chunk = sort(verdicts.drain(..), base);
                sender.blocking_send(Said::Chunk(chunk)).ok()?;
            }
            Err(error) => {
                let notes = reader.notes().to_vec();
                return Some(Said::Failed {
                    error: error.into(),
                    notes,
                });
            }
        }
    }
}

fn sort<R: MarketRecord>(
    verdicts: impl ExactSizeIterator<Item = Verdict<R>>,
    base: i64,
) -> Chunk<R> {
    let mut records = VecDeque::with_capacity(verdicts.len());
    let mut invalid = Vec::new();
    let mut skipped = BTreeMap::new();
    let latest = input::now().micros().saturating_add(MAX_AHEAD_MICROS);
    for verdict in verdicts {
        match verdict {
            Verdict::Record(row) => {
                let mut sourced = row.sourced;
                if sourced.record.revision() == 0 {
                    let ordinal = i64::try_from(row.ordinal).unwrap_or(i64::MAX);
                    sourced.record.set_revision(base.saturating_add(ordinal));
                }
                let revision = sourced.record.revision();
                if revision > latest {
                    invalid.push(ahead(&sourced, row.ordinal));
                    continue;
                }
                sourced
                    .record
                    .mark_provisional(Timestamp::from_micros(revision));
                records.push_back(sourced);
            }
            Verdict::Invalid(row) => invalid.push(*row),
            Verdict::Skipped { reason, .. } => *skipped.entry(reason).or_insert(0) += 1,
        }
    }
    Chunk {
        records,
        invalid,
        skipped,
    }
}

/// A record whose revision lies in the future: it would shadow every later correction.
fn ahead<R: MarketRecord>(sourced: &Sourced<R>, ordinal: u64) -> InvalidRow {
    let origin = sourced.origin.clone().unwrap_or_else(|| mds_core::Origin {
        path: Arc::from("-"),
        line: ordinal + 1,
    });
    InvalidRow {
        origin,
        ordinal,
        // The record as JSON stands for its line.
        raw: serde_json::to_string(&sourced.record).unwrap_or_default(),
        truncated: false,
        field: "revision".into(),
        value: sourced.record.revision().to_string(),
        rule: "a revision cannot be more than 5 minutes ahead of the clock".into(),
        code: "revision_ahead",
    }
}
