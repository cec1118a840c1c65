//! Who waits, and who flushes: counted in the state for as long as the guard lives.

use std::sync::PoisonError;

use tokio::time::Instant;

use super::Shared;

/// Counts a producer as waiting for room, for as long as it lives.
pub(super) struct Waiting<'a, T> {
    shared: &'a Shared<T>,
}

impl<'a, T> Waiting<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>) -> Self {
        shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .waiters += 1;
        Self { shared }
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .waiters -= 1;
    }
}

/// A worker that waits, and the moment at which it wakes by itself; both noted in the state when
/// it was made, and taken back when it is dropped.
pub(super) struct Idle<'a, T> {
    pub(super) shared: &'a Shared<T>,
    pub(super) timer: Option<Instant>,
    /// It looks again; otherwise it was cancelled while it waited.
    pub(super) woke: bool,
}

impl<T> Drop for Idle<'_, T> {
    fn drop(&mut self) {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.idle_workers -= 1;
        if self.timer.is_some() && state.timekeeper == self.timer {
            state.timekeeper = None;
            if !self.woke && state.idle_workers > 0 {
                // Nobody would keep the time of what waits.
                self.shared.work.notify_one();
            }
        }
    }
}

/// A flush that is under way.
pub(super) struct Flushing<'a, T> {
    pub(super) shared: &'a Shared<T>,
}

impl<T> Drop for Flushing<'_, T> {
    fn drop(&mut self) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .end_flush();
    }
}
