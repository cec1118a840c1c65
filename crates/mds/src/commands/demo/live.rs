//! What the progress bar of the demo shows.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use mds_coordinator::{Stats, WriteCoordinator};

use crate::commands::ingest::Progress;
use crate::output::grouped;

/// The books of a coordinator, and whether its store is away.
type Look = Box<dyn Fn() -> (Stats, bool) + Send>;

/// The coordinators that are at work.
#[derive(Default)]
pub(super) struct Live(Mutex<Vec<Look>>);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    pub(super) fn watch<T>(&self, coordinator: &Arc<WriteCoordinator<T>>)
    where
        T: Send + Sync + 'static,
    {
        let coordinator = Arc::clone(coordinator);
        let look = move || (coordinator.stats(), coordinator.failing_for().is_some());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(look));
    }

    /// The line beside the bar; moves the bar.
    pub(super) fn message(&self, progress: &Progress) -> String {
        let (mut settled, mut queued, mut is_away) = (0, 0, false);
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (stats, failing) in looks.iter().map(|look| look()) {
            settled += stats.resolved();
            queued += stats.queued + stats.in_flight;
            is_away |= failing;
        }
        progress.position.store(settled, Ordering::Relaxed);
        let waits = if is_away { ", the store is away" } else { "" };
        let rows = progress.rows(settled);
        format!("{rows}, {} queued{waits}", grouped(queued))
    }
}
