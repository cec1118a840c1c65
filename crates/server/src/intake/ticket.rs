//! What became of the rows of requests that wait for it.
//!
//! The coordinator tells of each row how it ended. Which request a row is of, its origin says: that has
//! the name of the request in it, which no other one has. While nobody waits, a row costs a look at one
//! number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mds_coordinator::Fate;
use mds_core::Sourced;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How rows ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fates {
    pub(crate) written: u64,
    pub(crate) superseded: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) dropped: u64,
}

impl Fates {
    pub(crate) const fn sum(&self) -> u64 {
        self.written + self.superseded + self.dead_lettered + self.dropped
    }
}

#[derive(Debug, Default)]
struct Ticket {
    fates: Mutex<Fates>,
    changed: Notify,
}

/// The requests that wait; hand [`Tickets::note`] to the coordinators.
#[derive(Clone, Debug, Default)]
pub struct Tickets {
    waiting: Arc<AtomicUsize>,
    tickets: Arc<Mutex<HashMap<String, Arc<Ticket>>>>,
}

/// One request that waits; it waits no more when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    tickets: Tickets,
    path: String,
    ticket: Arc<Ticket>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is counts, each of them right by itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tickets {
    /// Notes how a row has ended.
    pub fn note<R>(&self, row: &Sourced<R>, fate: Fate) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let Some(origin) = &row.origin else {
            return;
        };
        let Some(ticket) = lock(&self.tickets).get(origin.path.as_ref()).cloned() else {
            return;
        };
        let mut fates = lock(&ticket.fates);
        match fate {
            Fate::Written => fates.written += 1,
            Fate::Superseded => fates.superseded += 1,
            Fate::DeadLettered(_) => fates.dead_lettered += 1,
            Fate::Dropped(_) => fates.dropped += 1,
        }
        drop(fates);
        ticket.changed.notify_one();
    }

    /// From now on the rows of the request `path` are counted; to be called before the first of them is
    /// handed in.
    pub(crate) fn wait_for(&self, path: String) -> Waiting {
        let ticket = Arc::<Ticket>::default();
        lock(&self.tickets).insert(path.clone(), Arc::clone(&ticket));
        self.waiting.fetch_add(1, Ordering::Release);
        Waiting {
            tickets: self.clone(),
            path,
            ticket,
        }
    }
}

impl Waiting {
    /// Waits until `rows` rows have ended, or for `time`.
    pub(crate) async fn ended(&self, rows: u64, time: Duration) -> Fates {
        let deadline = Instant::now() + time;
        loop {
            let fates = *lock(&self.ticket.fates);
            if fates.sum() >= rows {
                return fates;
            }
            let changed = self.ticket.changed.notified();
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return *lock(&self.ticket.fates);
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.tickets.tickets).remove(&self.path);
        self.tickets.waiting.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use mds_core::{Bar, Origin};

    use super::*;

    fn row(path: &str) -> Sourced<Bar> {
        Sourced {
            record: Bar::default(),
            origin: Some(Origin {
                path: path.into(),
                line: 1,
            }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_counted_for_their_own_request_while_it_waits() {
        let tickets = Tickets::default();
        tickets.note(&row("a"), Fate::Written);
        let waiting = tickets.wait_for("a".to_owned());
        tickets.note(&row("b"), Fate::Written);
        tickets.note(&Sourced::from(Bar::default()), Fate::Written);
        tickets.note(&row("a"), Fate::Superseded);
        let limit = Duration::from_secs(10);
        let one = Fates {
            superseded: 1,
            ..Fates::default()
        };
        assert_eq!(waiting.ended(1, limit).await, one);
        // The second one never comes.
        let begun = Instant::now();
        assert_eq!(waiting.ended(2, limit).await, one);
        assert_eq!(begun.elapsed(), limit);
        let other = tickets.clone();
        let note = tokio::spawn(async move { other.note(&row("a"), Fate::Written) });
        assert_eq!(waiting.ended(2, limit).await.sum(), 2);
        note.await.unwrap();
        drop(waiting);
        assert_eq!(tickets.waiting.load(Ordering::Relaxed), 0);
        assert!(lock(&tickets.tickets).is_empty());
    }
}
