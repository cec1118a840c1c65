//! From the producer to the disk, and from there into the window.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use mds_wal::{AppendError, CommitError, WalOptions};
use tokio::sync::oneshot;

use super::{Durable, DurableQueue, Trouble, now_micros};
use crate::overflow::Refusal;
use crate::queue::{BoundedQueue, Incoming};

/// Records that are handed to the disk at once.
const CHUNK: usize = 4_096;
/// Bytes after which a chunk takes no more.
const CHUNK_BYTES: usize = 1 << 20;

/// How the commit of a chunk ended; a failed one gives its records back.
type Answer<T> = Result<(), (Refusal, VecDeque<T>)>;

/// Records that are appended and not known to be durable.
#[derive(Debug)]
struct Waiting<T> {
    first: u64,
    items: VecDeque<T>,
    enqueued: u64,
    reply: oneshot::Sender<Answer<T>>,
}

/// What is under way to the disk, in the order of the numbers.
#[derive(Debug)]
pub(crate) struct Intake<T> {
    waiting: VecDeque<Waiting<T>>,
    /// All records below it are in the window, or were.
    pub(super) cursor: u64,
}

/// Bytes of some records, one behind the other.
#[derive(Debug, Default)]
struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoded {
    fn slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        let ranges = starts.zip(self.ends.iter().copied());
        ranges.map(|(start, end)| &self.bytes[start..end])
    }
}

/// Why no record of a chunk was appended.
enum Unappended {
    /// The disk is as full as it may be.
    Full,
    Refused(Refusal),
}

impl<T: Send + Sync + 'static> Durable<T> {
    pub(crate) fn new(queue: DurableQueue<T>, coord_id: String) -> Self {
        let cursor = queue.recovery().first;
        // What is not sealed yet keeps its room, however empty the queue is.
        let (_, limit) = queue.wal.bytes_in_use();
        let largest = usize::try_from(limit / 2).unwrap_or(usize::MAX);
        Self {
            largest: largest.min(WalOptions::default().max_record),
            queue,
            intake: std::sync::Mutex::new(Intake {
                waiting: VecDeque::new(),
                cursor,
            }),
            refill: tokio::sync::Notify::new(),
            coord_id,
            writing: Trouble::default(),
            reading: Trouble::default(),
            holding: Trouble::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Intake<T>> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the threads of the queue know where durable records go.
    pub(crate) fn attach(
        self: &Arc<Self>,
        window: &BoundedQueue<T>,
        on_sync: impl Fn(std::time::Duration) + Send + Sync + 'static,
    ) {
        let hooks = &self.queue.hooks;
        let (durable, lanes) = (Arc::downgrade(self), window.clone());
        let told = hooks.commit.set(Arc::new(
            move |range: Range<u64>, result: &Result<(), CommitError>| {
                if let Some(durable) = durable.upgrade() {
                    durable.committed(&lanes, &range, result);
                }
            },
        ));
        let lanes = window.clone();
        let room = hooks.room.set(Arc::new(move || lanes.look_at_level()));
        let sync = hooks.sync.set(Arc::new(on_sync));
        debug_assert!(
            told.is_ok() && room.is_ok() && sync.is_ok(),
            "attached twice"
        );
    }

    /// Hands the first records of `items` to the disk and waits until they are durable; answers how
    /// many they were. With `Full` nothing was taken.
    ///
    /// Cancelled, the records that it has taken out of `items` are on their way all the same.
    pub(crate) async fn submit(
        &self,
        window: &BoundedQueue<T>,
        items: &mut VecDeque<T>,
    ) -> Result<usize, Refusal> {
        let (answer, count) = match self.append(window, items) {
            Ok(appended) => appended,
            Err(Unappended::Full) => return Err(Refusal::QueueFull),
            Err(Unappended::Refused(refusal)) => return Err(refusal),
        };
        match answer.await {
            Ok(Ok(())) => Ok(count),
            Ok(Err((refusal, mut back))) => {
                back.append(items);
                *items = back;
                Err(refusal)
            }
            // The queue was closed with the records in it.
            Err(_) => Err(Refusal::OutcomeUnknown),
        }
    }

    fn append(
        &self,
        window: &BoundedQueue<T>,
        items: &mut VecDeque<T>,
    ) -> Result<(oneshot::Receiver<Answer<T>>, usize), Unappended> {
        let mut encoded = self.encode(window, items)?;
        let (reply, answer) = oneshot::channel();
        let enqueued = window.now();
        let mut intake = self.lock();
        // Looked at under the lock: a stop that closes the queue waits for what is under way.
        if window.is_closed() {
            return Err(Unappended::Refused(Refusal::Closed));
        }
        let mut ticket = self.queue.wal.append(encoded.slices());
        // Less may have room.
        while matches!(ticket, Err(AppendError::Full { .. })) && encoded.ends.len() > 1 {
            encoded.ends.truncate(encoded.ends.len() / 2);
            ticket = self.queue.wal.append(encoded.slices());
        }
        let count = encoded.ends.len();
        let first = match ticket {
            Ok(ticket) => ticket.range().start,
            Err(AppendError::Full { .. }) => return Err(Unappended::Full),
            Err(AppendError::TooLarge { .. }) => {
                return Err(Unappended::Refused(Refusal::TooLarge));
            }
            Err(_) => return Err(Unappended::Refused(Refusal::Closed)),
        };
        intake.waiting.push_back(Waiting {
            first,
            items: items.drain(..count).collect(),
            enqueued,
            reply,
        });
        Ok((answer, count))
    }

    /// The bytes of the first records, up to one that is too large.
    fn encode(&self, window: &BoundedQueue<T>, items: &VecDeque<T>) -> Result<Encoded, Unappended> {
        let now = now_micros().to_le_bytes();
        let mut encoded = Encoded::default();
        for item in items.iter().take(CHUNK) {
            let start = encoded.bytes.len();
            if start >= CHUNK_BYTES {
                break;
            }
            if !window.takes(item) {
                break;
            }
            encoded.bytes.extend_from_slice(&now);
            self.queue.codec.encode(item, &mut encoded.bytes);
            if encoded.bytes.len() - start > self.largest {
                encoded.bytes.truncate(start);
                break;
            }
            encoded.ends.push(encoded.bytes.len());
        }
        // Those before one that is too large are taken, and then it comes first.
        if encoded.ends.is_empty() && !items.is_empty() {
            return Err(Unappended::Refused(Refusal::TooLarge));
        }
        Ok(encoded)
    }

    /// A group is durable, or failed; on the thread that writes.
    fn committed(
        &self,
        window: &BoundedQueue<T>,
        range: &Range<u64>,
        result: &Result<(), CommitError>,
    ) {
        // Each failure is told by the thread that writes.
        let over = "records are made durable again";
        let error = result.as_ref().err().map(ToString::to_string);
        self.writing.note(&self.coord_id, None, over, error);
        let mut intake = self.lock();
        while intake.waiting.front().is_some_and(|w| w.first < range.end) {
            let Some(waiting) = intake.waiting.pop_front() else {
                break;
            };
            let answer = match result {
                Ok(()) => {
                    intake.accept(window, waiting.first, waiting.items, waiting.enqueued);
                    Ok(())
                }
                Err(error) => {
                    intake.pass_over(waiting.first, waiting.items.len());
                    Err((refusal_of(error), waiting.items))
                }
            };
            // Nobody may wait any more.
            drop(waiting.reply.send(answer));
        }
        drop(intake);
        if window.wanted().is_some() {
            self.refill.notify_one();
        }
    }
}

fn refusal_of(error: &CommitError) -> Refusal {
    match error {
        CommitError::Refused { .. } => Refusal::DiskFailed,
        _ => Refusal::OutcomeUnknown,
    }
}

impl<T> Intake<T> {
    /// Counts records that are durable, and puts them into the window if nothing older is outside.
    fn accept(&mut self, window: &BoundedQueue<T>, first: u64, items: VecDeque<T>, enqueued: u64) {
        let rows = items.len();
        let is_next = self.cursor == first;
        let mut incoming: VecDeque<Incoming<T>> = VecDeque::new();
        if is_next {
            incoming.extend(items.into_iter().zip(first..).map(|(item, seq)| Incoming {
                item,
                seq,
                enqueued,
            }));
        }
        let delivered = window.accept(rows, &mut incoming);
        self.cursor += delivered as u64;
    }

    /// Numbers that were given to records which are not in the queue.
    fn pass_over(&mut self, first: u64, rows: usize) {
        if self.cursor == first {
            self.cursor += rows as u64;
        }
    }
}
