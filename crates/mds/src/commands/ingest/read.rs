//! The thread that reads one input and hands over chunks.
//!
//! Reading and parsing block, so they have a thread of their own; the bounded channel between it
//! and the write path holds a few chunks, so a slow store slows the reader down. Rows of standard
//! input are handed over before the next read, which may have to wait for a slow producer.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mds_core::{Origin, Sourced};
use mds_formats::{InvalidRow, Limits, OpenError, Options, ReadError, Reader, Source, Verdict};
use tokio::sync::mpsc;

use super::input::Input;
use super::revise::{Reviser, Revisions};
use super::stop::FIRST_ROWS;
use crate::exit::Exit;
use crate::pipeline::MarketRecord;

/// Verdicts in a chunk; the first one has those that a wrong format is told by.
const CHUNK: usize = 2_048;
/// Chunks that may wait between the reader and the write path.
const CHUNKS: usize = 4;

/// Rows of an input, in their order.
pub(super) struct Chunk<R> {
    pub(super) records: VecDeque<Sourced<R>>,
    pub(super) invalid: Vec<InvalidRow>,
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// Records that did not bring a revision of their own.
    pub(super) given: u64,
    /// Where the first row stands.
    pub(super) first: Option<Origin>,
    /// Rows of the input before it.
    pub(super) before: u64,
    last_is_record: bool,
}

impl<R> Chunk<R> {
    /// Records, and rows that are none.
    pub(super) fn rows(&self) -> u64 {
        (self.records.len() + self.invalid.len()) as u64
    }

    /// Where the last row stands, as long as no record has been taken out.
    pub(super) fn last(&self) -> Option<&Origin> {
        if self.last_is_record {
            self.records.back()?.origin.as_ref()
        } else {
            self.invalid.last().map(|row| &row.origin)
        }
    }
}

/// What the reader says: notes and chunks, then `Ended` or `Failed`.
pub(super) enum Said<R> {
    Notes(Vec<String>),
    Chunk(Chunk<R>),
    Ended,
    Failed(Failed),
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
    /// Whether it is the input that is not one of ours, or a fault of disk or archive.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Open(error) if error.is_usage() => Exit::Usage,
            Self::Open(_) | Self::Read(_) => Exit::Failure,
        }
    }

    /// The error with its causes.
    pub(super) fn told(self) -> String {
        format!("{:#}", anyhow::Error::new(self))
    }
}

/// Starts reading; the rows get their revisions. The thread ends by itself, also when nobody listens
/// any more. Chunks of the first `taken` rows are not handed over. `position` follows the bytes read, for the progress bar.
pub(super) fn start<R: MarketRecord>(
    input: Input,
    options: Options,
    revisions: Revisions,
    taken: u64,
    position: Arc<AtomicU64>,
) -> io::Result<mpsc::Receiver<Said<R>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let handing = Handing {
        verdicts: Vec::new(),
        reviser: Reviser::new(revisions),
        sender: sender.clone(),
        is_first: true,
        taken,
        rows: 0,
    };
    let handing = Arc::new(Mutex::new(handing));
    std::thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || {
            let last = match open(&input, &options, &handing) {
                Err(error) => Some(Said::Failed(error.into())),
                Ok(mut reader) => pump(&mut reader, &input, &handing, &position),
            };
            if let Some(last) = last {
                // Where nobody listens any more, the run was stopped.
                drop(sender.blocking_send(last));
            }
        })?;
    Ok(receiver)
}

/// Why a file is none of ours; faults of disk and archive are told when it is read.
pub(super) fn refused<R: MarketRecord>(input: &Input, options: &Options) -> Option<Failed> {
    let Input::File(path) = input else {
        return None;
    };
    let opened = Source::open(path, Limits::default())
        .and_then(|source| mds_formats::reader::<R>(source, options));
    opened.err().filter(OpenError::is_usage).map(Failed::from)
}

fn open<R: MarketRecord>(
    input: &Input,
    options: &Options,
    handing: &Arc<Mutex<Handing<R>>>,
) -> Result<Reader<R>, OpenError> {
    let source = match input {
        Input::File(path) => Source::open(path, Limits::default())?,
        Input::Stdin => {
            let prompt = Prompt {
                input: io::stdin(),
                handing: Arc::clone(handing),
            };
            Source::from_reader("-", prompt, Limits::default())?
        }
    };
    mds_formats::reader(source, options)
}

/// Verdicts that are to be handed over.
struct Handing<R> {
    verdicts: Vec<Verdict<R>>,
    reviser: Reviser,
    sender: mpsc::Sender<Said<R>>,
    is_first: bool,
    /// Rows that an earlier run has taken.
    taken: u64,
    /// Rows so far.
    rows: u64,
}

impl<R: MarketRecord> Handing<R> {
    /// How many more verdicts fit into the chunk.
    fn room(&self) -> usize {
        let chunk = match usize::try_from(FIRST_ROWS) {
            Ok(first) if self.is_first => first,
            _ => CHUNK,
        };
        chunk.saturating_sub(self.verdicts.len())
    }

    /// Hands over what there is; `None` if nobody listens any more.
    fn hand_over(&mut self) -> Option<()> {
        if self.verdicts.is_empty() {
            return (!self.sender.is_closed()).then_some(());
        }
        self.is_first = false;
        let mut chunk = sort(self.verdicts.drain(..), &mut self.reviser);
        chunk.before = self.rows;
        self.rows += chunk.rows();
        if let Some(note) = self.reviser.note() {
            self.sender.blocking_send(Said::Notes(vec![note])).ok()?;
        }
        // A chunk that was taken in part comes whole: what of it is in already does no harm.
        if self.rows <= self.taken {
            return (!self.sender.is_closed()).then_some(());
        }
        self.sender.blocking_send(Said::Chunk(chunk)).ok()
    }
}

fn lock<R>(handing: &Mutex<Handing<R>>) -> MutexGuard<'_, Handing<R>> {
    handing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard input, which hands over the rows that were read before it waits for more.
struct Prompt<R> {
    input: io::Stdin,
    handing: Arc<Mutex<Handing<R>>>,
}

impl<R: MarketRecord> Read for Prompt<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match lock(&self.handing).hand_over() {
            Some(()) => self.input.read(buffer),
            // Nobody wants the rest.
            None => Ok(0),
        }
    }
}

/// Hands over chunks until the input ends; `None` if nobody listens any more.
fn pump<R: MarketRecord>(
    reader: &mut Reader<R>,
    input: &Input,
    handing: &Mutex<Handing<R>>,
    position: &AtomicU64,
) -> Option<Said<R>> {
    let mut verdicts = Vec::new();
    let mut notes = 0;
    loop {
        let news = reader.notes().get(notes..).unwrap_or_default();
        if !news.is_empty() {
            notes += news.len();
            let sender = lock(handing).sender.clone();
            sender.blocking_send(Said::Notes(news.to_vec())).ok()?;
        }
        // A row that was read must not wait in here for the next read of a slow producer.
        let room = match input {
            Input::File(_) => lock(handing).room(),
            Input::Stdin => 1,
        };
        let read = reader.next_chunk(&mut verdicts, room);
        position.store(reader.bytes_read(), Ordering::Relaxed);
        let mut handing = lock(handing);
        handing.verdicts.append(&mut verdicts);
        match read {
            Ok(0) => {
                handing.hand_over()?;
                return Some(Said::Ended);
            }
            Ok(_) if handing.room() > 0 => {}
            Ok(_) => handing.hand_over()?,
            Err(error) => {
                handing.hand_over()?;
                return Some(Said::Failed(error.into()));
            }
        }
    }
}

fn sort<R: MarketRecord>(
    verdicts: impl ExactSizeIterator<Item = Verdict<R>>,
    reviser: &mut Reviser,
) -> Chunk<R> {
    reviser.look_at_clock();
    let given = reviser.given;
    let mut chunk = Chunk {
        records: VecDeque::with_capacity(verdicts.len()),
        invalid: Vec::new(),
        skipped: BTreeMap::new(),
        given: 0,
        first: None,
        before: 0,
        last_is_record: false,
    };
    for verdict in verdicts {
        let is_record = match verdict {
            Verdict::Record(row) => match reviser.revise(row.sourced, row.ordinal) {
                Ok(record) => {
                    chunk.records.push_back(record);
                    true
                }
                Err(invalid) => {
                    chunk.invalid.push(*invalid);
                    false
                }
            },
            Verdict::Invalid(row) => {
                chunk.invalid.push(*row);
                false
            }
            Verdict::Skipped { reason, .. } => {
                *chunk.skipped.entry(reason).or_insert(0) += 1;
                continue;
            }
        };
        chunk.last_is_record = is_record;
        if chunk.first.is_none() {
            chunk.first = chunk.last().cloned();
        }
    }
    chunk.given = reviser.given - given;
    chunk
}
