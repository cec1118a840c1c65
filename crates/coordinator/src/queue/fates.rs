//! Telling the program of each fate.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Fate;
use crate::log::log;

/// Called for each record that gets its fate.
pub type FateCallback<T> = dyn Fn(&T, Fate) + Send + Sync;

/// The callback of a queue, and how often it panicked.
pub(crate) struct OnFate<T> {
    callback: Box<FateCallback<T>>,
    panics: AtomicU64,
}

impl<T> fmt::Debug for OnFate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnFate")
            .field("panics", &self.panics)
            .finish_non_exhaustive()
    }
}

impl<T> OnFate<T> {
    pub(crate) fn new(callback: Box<FateCallback<T>>) -> Self {
        Self {
            callback,
            panics: AtomicU64::new(0),
        }
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Tells of some rows of a batch; no lock is held. A panic costs the call of its row.
    pub(super) fn tell(&self, coord_id: &str, items: &[T], positions: &[u32], fate: Fate) {
        let mut panics = 0;
        for item in positions.iter().filter_map(|p| items.get(*p as usize)) {
            let called = catch_unwind(AssertUnwindSafe(|| (self.callback)(item, fate)));
            panics += u64::from(called.is_err());
        }
        if panics > 0 {
            self.panics.fetch_add(panics, Ordering::Relaxed);
            log(|| tracing::error!(%coord_id, panics, "the callback of fates panicked"));
        }
    }
}
