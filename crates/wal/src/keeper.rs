//! The thread that writes a checkpoint when something was settled or became durable, puts away the
//! segments that are done, and has a file ready before the current one is full.

use std::sync::{Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::StorageError;
use crate::log::lock;
use crate::queue::Inner;

/// How often what was settled is kept, at least.
const CHECKPOINTS: Duration = Duration::from_millis(250);
/// How long the thread waits after a failure.
const BACKOFF: Duration = Duration::from_millis(500);

/// What the thread is asked for.
#[derive(Debug, Default)]
struct Keeping {
    is_poked: bool,
    is_hurried: bool,
    is_closed: bool,
}

/// How the thread is woken: by whoever changes something that it is to look at.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    keeping: Mutex<Keeping>,
    rung: Condvar,
}

impl Bell {
    /// There is something to keep or to make, and where somebody waits for it, it cannot wait for the
    /// end of a pause.
    pub(crate) fn ring(&self, is_hurried: bool) {
        let mut keeping = lock(&self.keeping);
        keeping.is_poked = true;
        keeping.is_hurried |= is_hurried;
        drop(keeping);
        self.rung.notify_all();
    }

    /// This is the last time.
    pub(crate) fn close(&self) {
        lock(&self.keeping).is_closed = true;
        self.rung.notify_all();
    }

    /// Pauses, and then waits for something to do while it `is_idle`. Answers whether it is the last
    /// time.
    fn wait(&self, pause: Pause, is_idle: impl Fn() -> bool) -> bool {
        let mut keeping = lock(&self.keeping);
        if let Pause::UntilHurried(time) | Pause::Whole(time) = pause {
            let may_be_cut = matches!(pause, Pause::UntilHurried(_));
            let wait =
                |keeping: &mut Keeping| !(keeping.is_closed || may_be_cut && keeping.is_hurried);
            let waited = self.rung.wait_timeout_while(keeping, time, wait);
            keeping = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let idle = |keeping: &mut Keeping| !(keeping.is_poked || keeping.is_closed) && is_idle();
        let waited = self.rung.wait_while(keeping, idle);
        let mut keeping = waited.unwrap_or_else(PoisonError::into_inner);
        (keeping.is_poked, keeping.is_hurried) = (false, false);
        keeping.is_closed
    }
}

/// How long the thread does nothing.
#[derive(Clone, Copy, Debug)]
enum Pause {
    None,
    /// Until a file is wanted for the next segment.
    UntilHurried(Duration),
    Whole(Duration),
}

impl Inner {
    /// The thread that keeps what is settled.
    pub(crate) fn keep(&self) {
        let mut pause = Pause::None;
        let mut has_failed = false;
        loop {
            // What has failed comes again by itself: nobody may be there to ask for it.
            let is_closed = self
                .log
                .bell
                .wait(pause, || !has_failed && self.log.is_kept());
            (pause, has_failed) = (Pause::None, false);
            // The last one also says up to where records are durable: what of them is damaged when
            // the queue is opened again cannot be taken for a write that was under way.
            if is_closed || !self.log.is_kept() {
                pause = Pause::UntilHurried(CHECKPOINTS);
                if let Err(error) = self.checkpoint() {
                    tracing::error!(%error, "what is settled cannot be kept; it is tried again");
                    (pause, has_failed) = (Pause::Whole(BACKOFF), true);
                }
            }
            if is_closed {
                return;
            }
            if self.log.wants_spare()
                && let Err(error) = self.log.prepare()
            {
                tracing::warn!(%error, "no segment can be made ahead");
                pause = Pause::Whole(BACKOFF);
            }
        }
    }

    pub(crate) fn checkpoint(&self) -> Result<bool, StorageError> {
        let made_room = self.log.checkpoint();
        if made_room.is_err() {
            // Whoever asked for it need not ask again.
            self.log.bell.ring(false);
        }
        if !matches!(made_room, Ok(false)) {
            self.wake_waiting();
            if let Some(on_room) = &self.on_room {
                on_room();
            }
        }
        made_room
    }

    pub(crate) fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll_room(&self, context: &mut Context<'_>, used: u64) -> Poll<()> {
        let mut waiting = lock(&self.waiting);
        if self.log.used_bytes() < used || lock(&self.pending).is_closed {
            return Poll::Ready(());
        }
        waiting.push(context.waker().clone());
        Poll::Pending
    }
}
