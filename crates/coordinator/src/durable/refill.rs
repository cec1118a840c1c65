//! From the disk into the window, as there is room.
//!
//! A record that the codec does not know is set aside and counted as damaged. Where that cannot be done
//! (the disk is full, or read-only) it is held: it stays in the queue, is tried again, and the others go
//! on past it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use mds_wal::{Reader, Record, StorageError};
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::{Durable, TIME, age_of, time_of};
use crate::log::log;
use crate::queue::{BoundedQueue, Incoming};

/// Records that are read at once.
const CHUNK: usize = 4_096;
/// The first and the longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Records, and bytes of them, that are held before no more are read.
const HELD: (usize, usize) = (1_000, 16 << 20);

/// Reads the backlog for as long as the coordinator lives.
pub(crate) async fn refill<T: Send + Sync + 'static>(
    durable: Arc<Durable<T>>,
    window: BoundedQueue<T>,
) {
    let mut refill = Refill {
        durable: Arc::clone(&durable),
        window,
        reader: None,
        chunk: Chunk::default(),
        held: VecDeque::new(),
        again: None,
        reading: Backoff::default(),
        holding: Backoff::default(),
    };
    loop {
        refill.step(durable.refill.notified()).await;
    }
}

/// What was read, as far as the window has not got it yet.
#[derive(Debug)]
struct Chunk<T> {
    incoming: VecDeque<Incoming<T>>,
    damaged: u64,
    /// Neither known nor set aside.
    held: Vec<Record>,
    /// Why, with the number of the first.
    error: Option<String>,
    /// The number behind all of it.
    next: u64,
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        Self {
            incoming: VecDeque::new(),
            damaged: 0,
            held: Vec::new(),
            error: None,
            next: 0,
        }
    }
}

/// A wait that grows from failure to failure.
#[derive(Debug)]
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF.0)
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let next = (self.0 * 2).min(BACKOFF.1);
        std::mem::replace(&mut self.0, next)
    }
}

struct Refill<T> {
    durable: Arc<Durable<T>>,
    window: BoundedQueue<T>,
    reader: Option<Reader>,
    chunk: Chunk<T>,
    held: VecDeque<Record>,
    /// When those that are held are tried again.
    again: Option<Instant>,
    reading: Backoff,
    holding: Backoff,
}

impl<T: Send + Sync + 'static> Refill<T> {
    async fn step(&mut self, asked: Notified<'_>) {
        if self.again.is_some_and(|again| again <= Instant::now()) {
            return self.try_held_again().await;
        }
        let Some((rows, bytes)) = self.window.wanted() else {
            return self.wait(asked).await;
        };
        if !self.chunk.incoming.is_empty() {
            self.deliver();
            if !self.chunk.incoming.is_empty() {
                // There is some room, and not enough for the next one.
                self.wait(asked).await;
            }
            return;
        }
        let held: usize = self.held.iter().map(|record| record.payload.len()).sum();
        if self.held.len() >= HELD.0 || held >= HELD.1 {
            return self.wait(asked).await;
        }
        self.read(rows, bytes).await;
    }

    /// Waits until records may come in, or those that are held are due.
    async fn wait(&self, asked: Notified<'_>) {
        match self.again {
            None => asked.await,
            Some(again) => tokio::select! {
                biased;
                () = asked => {}
                () = tokio::time::sleep_until(again) => {}
            },
        }
    }

    async fn read(&mut self, rows: usize, bytes: usize) {
        let (durable, window) = (Arc::clone(&self.durable), self.window.clone());
        let reader = self.reader.take();
        let mut reader = reader.unwrap_or_else(|| durable.queue.wal.reader());
        reader.skip_to(durable.lock().cursor);
        let read = tokio::task::spawn_blocking(move || {
            let read = durable.read(&mut reader, &window, rows.min(CHUNK), bytes);
            (reader, read)
        });
        let error = match read.await {
            Ok((reader, (chunk, error))) => {
                self.reader = Some(reader);
                let is_nothing = chunk.is_nothing();
                self.chunk = chunk;
                self.deliver();
                let missing = || is_nothing.then(|| "records of it are not found".to_owned());
                error.map(|error| error.to_string()).or_else(missing)
            }
            // The next one begins anew.
            Err(error) => Some(error.to_string()),
        };
        let Some(error) = error else {
            self.reading = Backoff::default();
            return self.durable.note_reading(None);
        };
        self.durable.note_reading(Some(error));
        tokio::time::sleep(self.reading.next()).await;
    }

    /// Puts what was read into the window, and counts what will never come into it.
    fn deliver(&mut self) {
        self.durable.deliver(&self.window, &mut self.chunk);
        if !self.chunk.incoming.is_empty() || self.chunk.held.is_empty() {
            return;
        }
        self.held.extend(self.chunk.held.drain(..));
        let error = self.chunk.error.take();
        self.hold(error);
    }

    /// Tells why records are held, and when they are tried again.
    fn hold(&mut self, error: Option<String>) {
        self.durable.note_held(error);
        self.again = Some(Instant::now() + self.holding.next());
    }

    async fn try_held_again(&mut self) {
        let (durable, mut held) = (Arc::clone(&self.durable), std::mem::take(&mut self.held));
        let tried = tokio::task::spawn_blocking(move || {
            let before = held.len();
            let mut failed = None;
            while let Some(first) = held.front() {
                if let Err(error) = durable.queue.wal.set_aside(first) {
                    failed = Some(held_error(first.seq, &error));
                    break;
                }
                held.pop_front();
            }
            (before - held.len(), held, failed)
        });
        // It does not panic; if it did, those that it had are there at the next start.
        let Ok((count, held, failed)) = tried.await else {
            self.again = None;
            return;
        };
        self.held = held;
        if failed.is_some() {
            self.hold(failed);
        } else {
            (self.again, self.holding) = (None, Backoff::default());
            self.durable.note_held(None);
        }
        // Last: whoever waits for them finds nothing amiss.
        self.window.release(count);
    }
}

impl<T> Chunk<T> {
    fn is_nothing(&self) -> bool {
        self.incoming.is_empty() && self.held.is_empty() && self.damaged == 0
    }
}

fn held_error(seq: u64, error: &StorageError) -> String {
    format!(
        "record {seq} is none of this program and cannot be set aside, so it waits in the queue: \
         {error}"
    )
}

impl<T: Send + Sync + 'static> Durable<T> {
    /// Reads the next records; with why it was not more. Blocks.
    fn read(
        &self,
        reader: &mut Reader,
        window: &BoundedQueue<T>,
        rows: usize,
        bytes: usize,
    ) -> (Chunk<T>, Option<StorageError>) {
        let before = self.queue.wal.stats().totals.damaged;
        let mut chunk = Chunk::default();
        let error = match reader.read(rows, bytes) {
            Ok(records) => {
                for record in records {
                    self.take(window, record, &mut chunk);
                }
                None
            }
            Err(error) => Some(error),
        };
        chunk.damaged = self.queue.wal.stats().totals.damaged - before;
        chunk.next = reader.next_seq();
        (chunk, error)
    }

    /// A record that was read, as it goes into the window; or set aside, if nobody can read it.
    fn take(&self, window: &BoundedQueue<T>, record: Record, chunk: &mut Chunk<T>) {
        let now = window.now();
        let enqueued = time_of(&record.payload).map_or(now, |micros| {
            let age = u64::try_from(age_of(micros).as_nanos()).unwrap_or(u64::MAX);
            now.saturating_sub(age)
        });
        let bytes = record.payload.get(TIME..).unwrap_or_default();
        let decoded = catch_unwind(AssertUnwindSafe(|| self.queue.codec.decode(bytes)));
        let error = match decoded {
            Ok(Ok(item)) => {
                let seq = record.seq;
                return chunk.incoming.push_back(Incoming {
                    item,
                    seq,
                    enqueued,
                });
            }
            Ok(Err(error)) => error,
            Err(_) => "decoding it panicked".to_owned(),
        };
        let (coord_id, seq) = (&self.coord_id, record.seq);
        let what = "a record of the durable queue is none of this program; it is set aside";
        log(|| tracing::error!(%coord_id, seq, %error, "{what}"));
        if let Err(error) = self.queue.wal.set_aside(&record) {
            chunk.error.get_or_insert_with(|| held_error(seq, &error));
            chunk.held.push(record);
        }
    }

    /// Puts records that were read into the window. When the last of them is in it, those that are
    /// damaged and those that are held are counted: they were among them or behind.
    fn deliver(&self, window: &BoundedQueue<T>, chunk: &mut Chunk<T>) {
        let mut intake = self.lock();
        window.deliver(&mut chunk.incoming);
        if chunk.incoming.is_empty() {
            window.damage(std::mem::take(&mut chunk.damaged));
            window.hold(chunk.held.iter().map(|record| record.seq));
        }
        // What came straight from producers meanwhile is behind, on the disk.
        intake.cursor = chunk.incoming.front().map_or(chunk.next, |rest| rest.seq);
    }

    fn note_reading(&self, error: Option<String>) {
        let what = "the backlog of the durable queue cannot be read; its records wait";
        let over = "the backlog of the durable queue is read again";
        self.reading.note(&self.coord_id, Some(what), over, error);
    }

    fn note_held(&self, error: Option<String>) {
        let what = "a record of the durable queue cannot be set aside; it is tried again";
        let over = "records of the durable queue that could not be set aside are set aside now";
        self.holding.note(&self.coord_id, Some(what), over, error);
    }
}
