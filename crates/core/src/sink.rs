//! The destination of batches.
//!
//! A sink gets a [`Batch`] and answers **per row**. What it answered for a row is final: the write
//! path never sends that row again and never counts it again. Rows that it did not get to
//! ([`RowOutcome::NotTried`]) are sent again after the error that stopped it was dealt with.

use std::future::Future;
use std::sync::Arc;

use crate::error::SinkError;

/// Rows on their way to a sink: a cheap handle on rows that somebody else keeps alive.
///
/// Cloning copies two pointers, never a row; taking a part ([`Batch::select`]) copies indices.
#[derive(Debug)]
pub struct Batch<T> {
    rows: Arc<Vec<T>>,
    /// Positions in `rows`; `None` means all of them, in order.
    selected: Option<Arc<[u32]>>,
}

impl<T> Clone for Batch<T> {
    fn clone(&self) -> Self {
        Self {
            rows: Arc::clone(&self.rows),
            selected: self.selected.clone(),
        }
    }
}

impl<T> From<Vec<T>> for Batch<T> {
    fn from(rows: Vec<T>) -> Self {
        Self {
            rows: Arc::new(rows),
            selected: None,
        }
    }
}

impl<T> Batch<T> {
    /// A batch of all of `rows`; at most `u32::MAX` of them can be told apart.
    pub const fn new(rows: Arc<Vec<T>>) -> Self {
        Self {
            rows,
            selected: None,
        }
    }

    /// A batch of the rows at `positions` of this batch; it shares their storage.
    #[must_use]
    pub fn select(&self, positions: Vec<u32>) -> Self {
        let stored = |position: u32| match &self.selected {
            None => position,
            // One that this batch does not have is one that the storage does not have.
            Some(selected) => selected.get(position as usize).copied().unwrap_or(u32::MAX),
        };
        Self {
            rows: Arc::clone(&self.rows),
            selected: Some(positions.into_iter().map(stored).collect()),
        }
    }

    /// How many rows the batch has.
    pub fn len(&self) -> usize {
        self.selected.as_ref().map_or(self.rows.len(), |s| s.len())
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at `index` of this batch.
    pub fn get(&self, index: usize) -> Option<&T> {
        match &self.selected {
            None => self.rows.get(index),
            Some(selected) => self.rows.get(*selected.get(index)? as usize),
        }
    }

    /// The rows of this batch, in order.
    ///
    /// # Panics
    ///
    /// If a position given to [`Batch::select`] is not one of its rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> + '_ {
        // Positions are made by `select` from this very storage; one that is out of range is a
        // bug of the caller that must not end in rows silently left out.
        (0..self.len()).map(|i| {
            self.get(i)
                .expect("a batch selects positions of its own rows")
        })
    }
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// The row is committed.
    Written,
    /// The store already had exactly this row, with this revision. Of equal rows of a batch, one at most
    /// is answered so: after an attempt whose answer was lost, it counts as written.
    Same,
    /// The store has a row of higher rank for the key, or another row of this batch has one that is not
    /// lower.
    Superseded,
    /// The store refused this row.
    Rejected {
        /// The store's own short code.
        code: String,
        /// What the store said.
        reason: String,
    },
    /// The row was not tried, or its transaction was rolled back.
    NotTried,
}

/// A sink's answer to one [`Sink::write`].
#[derive(Debug)]
pub struct WriteReport {
    /// One outcome a row, in the order of the batch.
    pub outcomes: Vec<RowOutcome>,
    /// Rows that met a stored row of the same key and revision with other values.
    pub conflicts: u64,
    /// What stopped the write; rows that it left without an answer are `NotTried`.
    pub error: Option<SinkError>,
}

impl WriteReport {
    /// Every one of `rows` rows was written.
    pub fn written(rows: usize) -> Self {
        Self {
            outcomes: vec![RowOutcome::Written; rows],
            conflicts: 0,
            error: None,
        }
    }

    /// None of `rows` rows was written.
    pub fn failed(rows: usize, error: SinkError) -> Self {
        Self {
            outcomes: vec![RowOutcome::NotTried; rows],
            conflicts: 0,
            error: Some(error),
        }
    }
}

/// A destination that writes batches of one kind of record.
///
/// `write` runs in a task of its own and is never dropped half-way: after the write timeout the
/// write path stops waiting for it, and its late answer changes nothing. A panic inside is taken
/// as an error of kind `Unknown`.
pub trait Sink<T>: Send + Sync + 'static {
    /// A short fixed name, the value of the `sink` label.
    fn name(&self) -> &str;

    /// Writes a batch and answers for each of its rows.
    fn write(&self, batch: Batch<T>) -> impl Future<Output = WriteReport> + Send;

    /// Asks cheaply whether a write has a chance; `None` where the sink has no such probe.
    ///
    /// A probe must exercise what a write needs (a read-only store is not healthy).
    fn check(&self) -> impl Future<Output = Option<Result<(), SinkError>>> + Send {
        std::future::ready(None)
    }
}

impl<T: Send + Sync + 'static, S: Sink<T>> Sink<T> for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn write(&self, batch: Batch<T>) -> impl Future<Output = WriteReport> + Send {
        (**self).write(batch)
    }

    fn check(&self) -> impl Future<Output = Option<Result<(), SinkError>>> + Send {
        (**self).check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_shares_its_rows() {
        let all = Batch::from(vec!["a", "b", "c", "d"]);
        let part = all.select(vec![3, 1]);
        assert_eq!(part.iter().copied().collect::<Vec<_>>(), ["d", "b"]);
        assert_eq!((part.len(), part.get(2)), (2, None));
        let part_of_it = part.select(vec![1]);
        assert_eq!(part_of_it.iter().collect::<Vec<_>>(), [&"b"]);
        assert_eq!(part.select(vec![2]).get(0), None);
        assert_eq!(all.len(), 4);
    }
}
