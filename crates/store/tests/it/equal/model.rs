//! What a store must do, in a few lines without a database.

use std::cmp::Ordering;

use mds_core::{Record, RowOutcome, Value};

/// Of each key the row of highest rank, in the order of keys.
pub(crate) struct Model<R>(Vec<R>);

impl<R> Default for Model<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: Record> Model<R> {
    pub(crate) fn rows(&self) -> &[R] {
        &self.0
    }

    /// Writes a batch; answers for each row, and how many met another one of their revision.
    pub(crate) fn write(&mut self, batch: &[R]) -> (Vec<RowOutcome>, u64) {
        let mut outcomes = vec![RowOutcome::NotTried; batch.len()];
        let mut conflicts = 0;
        for place in 0..batch.len() {
            if outcomes[place] != RowOutcome::NotTried {
                continue;
            }
            let of_key = |p: &usize| batch[*p].key_cmp(&batch[place]).is_eq();
            let places: Vec<usize> = (place..batch.len()).filter(of_key).collect();
            // The best of the batch, of equals the first.
            let best = places.iter().copied().reduce(|best, next| {
                let is_better = batch[next].rank_cmp(&batch[best]).is_gt();
                if is_better { next } else { best }
            });
            let best = best.unwrap();
            outcomes[best] = self.put(&batch[best], &mut conflicts);
            for loser in places.into_iter().filter(|p| *p != best) {
                let rank = batch[loser].rank_cmp(&batch[best]);
                conflicts += u64::from(conflict(rank, &batch[loser], &batch[best]));
                outcomes[loser] = RowOutcome::Superseded;
            }
        }
        (outcomes, conflicts)
    }

    fn put(&mut self, row: &R, conflicts: &mut u64) -> RowOutcome {
        let place = match self.0.binary_search_by(|stored| stored.key_cmp(row)) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, row.clone());
                return RowOutcome::Written;
            }
        };
        let stored = &mut self.0[place];
        let rank = row.rank_cmp(stored);
        *conflicts += u64::from(conflict(rank, row, stored));
        match rank {
            Ordering::Greater => {
                *stored = row.clone();
                RowOutcome::Written
            }
            Ordering::Equal => RowOutcome::Same,
            Ordering::Less => RowOutcome::Superseded,
        }
    }
}

fn conflict<R: Record>(rank: Ordering, row: &R, other: &R) -> bool {
    rank.is_ne() && row.revision() == other.revision()
}

/// A row, with numbers by their bits.
pub(crate) fn bits<R: Record>(row: &R) -> Vec<String> {
    let columns = 0..R::COLUMNS.len();
    let mut bits: Vec<String> = columns
        .map(|column| match row.value(column) {
            Value::Float(number) => format!("{number:e} {:x}", number.to_bits()),
            Value::Null => "absent".to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    bits.push(row.revision().to_string());
    bits
}
