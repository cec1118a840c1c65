//! From the disk into the window, as there is room.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mds_wal::Record;

use super::{Durable, TIME, age_of, time_of};
use crate::log::log;
use crate::queue::{BoundedQueue, Incoming};

/// Records that are read at once.
const CHUNK: usize = 4_096;
/// The first and the longest wait after a failed read.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Reads the backlog for as long as the coordinator lives.
pub(crate) async fn refill<T: Send + Sync + 'static>(
    durable: Arc<Durable<T>>,
    window: BoundedQueue<T>,
    coord_id: String,
) {
    let mut reader = durable.queue.wal.reader();
    let mut backoff = BACKOFF.0;
    // Read, and without room yet.
    let mut incoming = VecDeque::new();
    loop {
        let asked = durable.refill.notified();
        let Some((rows, bytes)) = window.wanted() else {
            asked.await;
            continue;
        };
        if !incoming.is_empty() {
            durable.deliver(&window, &mut incoming, 0, reader.next_seq());
            if !incoming.is_empty() {
                // There is some room, and not enough for the next one.
                asked.await;
            }
            continue;
        }
        reader.skip_to(durable.lock().cursor);
        let before = durable.queue.wal.stats().totals.damaged;
        let read = tokio::task::spawn_blocking(move || {
            let records = reader.read(rows.min(CHUNK), bytes);
            (reader, records)
        });
        // A panic in there would be ours; without a reader nothing can be done any more.
        let Ok((back, records)) = read.await else {
            return;
        };
        reader = back;
        let error = records.as_ref().err().map(ToString::to_string);
        let is_nothing = records.as_ref().is_ok_and(Vec::is_empty);
        for record in records.unwrap_or_default() {
            incoming.extend(durable.incoming(&window, &record));
        }
        let damaged = durable.queue.wal.stats().totals.damaged - before;
        durable.deliver(&window, &mut incoming, damaged, reader.next_seq());
        // Nothing is there although something should be: one that could not be set aside.
        let has_failed = error.is_some() || is_nothing && damaged == 0;
        durable.note_failure(&coord_id, error);
        if has_failed {
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        } else {
            backoff = BACKOFF.0;
        }
    }
}

impl<T: Send + Sync + 'static> Durable<T> {
    fn note_failure(&self, coord_id: &str, error: Option<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &error
            && failing.is_none()
        {
            let what = "the backlog of the durable queue cannot be read; its records wait";
            log(|| tracing::error!(%coord_id, %error, "{what}"));
        }
        *failing = error;
    }

    /// A record that was read, as it goes into the window; `None` if nobody can read it.
    fn incoming(&self, window: &BoundedQueue<T>, record: &Record) -> Option<Incoming<T>> {
        let now = window.now();
        let enqueued = time_of(&record.payload).map_or(now, |micros| {
            let age = u64::try_from(age_of(micros).as_nanos()).unwrap_or(u64::MAX);
            now.saturating_sub(age)
        });
        let bytes = record.payload.get(TIME..).unwrap_or_default();
        match self.queue.codec.decode(bytes) {
            Ok(item) => Some(Incoming {
                item,
                seq: record.seq,
                enqueued,
            }),
            Err(error) => {
                let seq = record.seq;
                let what = "a record of the durable queue is none of this program; it is set aside";
                log(|| tracing::error!(seq, %error, "{what}"));
                // One that cannot be set aside waits for the next start.
                if let Err(error) = self.queue.wal.set_aside(record) {
                    log(|| tracing::error!(seq, %error, "it cannot be set aside"));
                }
                None
            }
        }
    }

    /// Puts records that were read into the window; `next` is the number after the last of them.
    fn deliver(
        &self,
        window: &BoundedQueue<T>,
        incoming: &mut VecDeque<Incoming<T>>,
        damaged: u64,
        next: u64,
    ) {
        let mut intake = self.lock();
        window.deliver(incoming, damaged);
        // What came straight from producers meanwhile is behind, on the disk.
        intake.cursor = incoming.front().map_or(next, |rest| rest.seq);
    }
}
