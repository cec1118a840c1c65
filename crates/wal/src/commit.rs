//! Waiting for a group to become durable.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::SeqNo;
use crate::error::CommitError;

/// How the commit of a group ended.
#[derive(Debug, Default)]
pub(crate) struct Done {
    state: Mutex<DoneState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct DoneState {
    result: Option<Result<(), CommitError>>,
    wakers: Vec<Waker>,
}

impl Done {
    fn lock(&self) -> MutexGuard<'_, DoneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who wait.
    pub(crate) fn tell(&self, result: Result<(), CommitError>) {
        let mut state = self.lock();
        state.result = Some(result);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Records that are on their way to the disk. Dropping it changes nothing for them: they are
/// appended, and only the answer is lost.
///
/// It is a future of any runtime, and [`Ticket::wait`] blocks.
#[must_use = "records are not durable before this has said so"]
pub struct Ticket {
    done: Arc<Done>,
    range: Range<SeqNo>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl Ticket {
    pub(crate) fn new(done: Arc<Done>, range: Range<SeqNo>) -> Self {
        Self { done, range }
    }

    /// The numbers of the records, in the order in which they were handed in.
    pub fn range(&self) -> Range<SeqNo> {
        self.range.clone()
    }

    /// Waits until the records are durable.
    pub fn wait(self) -> Result<Range<SeqNo>, CommitError> {
        let mut state = self.done.lock();
        loop {
            if let Some(result) = &state.result {
                return result.clone().map(|()| self.range.clone());
            }
            state = self
                .done
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ticket {
    type Output = Result<Range<SeqNo>, CommitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.done.lock();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone().map(|()| self.range.clone()));
        }
        let waker = context.waker();
        if !state.wakers.iter().any(|other| other.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        Poll::Pending
    }
}
