//! Telling producers about pressure.
//!
//! Publishing never waits and runs no user code: every subscriber has a bounded queue of its own,
//! and one that falls behind loses its oldest events (and is told how many). Callbacks run in a
//! task of their own; one that panics is counted and called again for the next event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use mds_core::FeedbackEvent;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

use crate::log::log;

/// Events that a subscriber may fall behind before it loses the oldest.
const SUBSCRIBER_QUEUE: usize = 256;

/// Distributes [`FeedbackEvent`]s to any number of subscribers. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct FeedbackBus {
    sender: broadcast::Sender<Arc<FeedbackEvent>>,
    panics: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Default for FeedbackBus {
    fn default() -> Self {
        Self::new()
    }
}

impl FeedbackBus {
    /// A bus of its own, without subscribers.
    pub fn new() -> Self {
        let (sender, _) = broadcast::channel(SUBSCRIBER_QUEUE);
        Self {
            sender,
            panics: Arc::default(),
            lost: Arc::default(),
        }
    }

    /// A subscriber that takes events by hand.
    pub fn subscribe(&self) -> FeedbackSubscriber {
        FeedbackSubscriber {
            receiver: self.sender.subscribe(),
            lost: Arc::clone(&self.lost),
        }
    }

    /// A subscriber that is called for each event, in a task of its own; must be called within a
    /// Tokio runtime. It lives until the returned guard is dropped.
    pub fn subscribe_fn(
        &self,
        mut callback: impl FnMut(&FeedbackEvent) + Send + 'static,
    ) -> CallbackGuard {
        let mut subscriber = self.subscribe();
        let panics = Arc::clone(&self.panics);
        let task = tokio::spawn(async move {
            while let Some(event) = subscriber.recv().await {
                if catch_unwind(AssertUnwindSafe(|| callback(&event))).is_err() {
                    panics.fetch_add(1, Ordering::Relaxed);
                    let coordinator_id = &event.coordinator_id;
                    log(|| tracing::error!(%coordinator_id, "feedback callback panicked"));
                }
            }
        });
        CallbackGuard {
            task: task.abort_handle(),
        }
    }

    /// Hands an event to every subscriber; never waits.
    pub fn publish(&self, event: FeedbackEvent) {
        // The only error is that nobody listens, which is no error.
        drop(self.sender.send(Arc::new(event)));
    }

    /// How many subscribers there are.
    pub fn subscriber_count(&self) -> usize {
        self.sender.receiver_count()
    }

    /// How many callbacks have panicked.
    pub fn callback_panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// How many events subscribers have lost by falling behind.
    pub fn events_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The bus of the process, on which coordinators publish unless they were given another.
pub fn feedback_bus() -> &'static FeedbackBus {
    static BUS: OnceLock<FeedbackBus> = OnceLock::new();
    BUS.get_or_init(FeedbackBus::new)
}

/// Takes events from a [`FeedbackBus`].
#[derive(Debug)]
pub struct FeedbackSubscriber {
    receiver: broadcast::Receiver<Arc<FeedbackEvent>>,
    lost: Arc<AtomicU64>,
}

impl FeedbackSubscriber {
    /// The next event; `None` once the bus is gone. Cancel safe. Events that were lost are counted
    /// at the bus and passed over.
    pub async fn recv(&mut self) -> Option<Arc<FeedbackEvent>> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(lost)) => {
                    self.lost.fetch_add(lost, Ordering::Relaxed);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next event that is there already.
    pub fn try_recv(&mut self) -> Option<Arc<FeedbackEvent>> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(lost)) => {
                    self.lost.fetch_add(lost, Ordering::Relaxed);
                }
                Err(_) => return None,
            }
        }
    }
}

/// Ends a callback's subscription when dropped.
#[derive(Debug)]
pub struct CallbackGuard {
    task: AbortHandle,
}

impl Drop for CallbackGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use mds_core::BackpressureLevel;

    use super::*;

    fn event(size: usize) -> FeedbackEvent {
        FeedbackEvent::create("c", size, 10, BackpressureLevel::Hard, None, 0.0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_subscriber_does_not_stop_the_others() {
        let bus = FeedbackBus::new();
        let (sent, mut seen) = tokio::sync::mpsc::channel(10);
        let _bad = bus.subscribe_fn(|_| panic!("subscriber"));
        let _good = bus.subscribe_fn(move |e| sent.try_send(e.queue_size).unwrap());
        bus.publish(event(8));
        bus.publish(event(9));
        assert_eq!(seen.recv().await, Some(8));
        assert_eq!(seen.recv().await, Some(9));
        while bus.callback_panics() < 2 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_subscriber_loses_the_oldest_and_nobody_waits() {
        let bus = FeedbackBus::new();
        let mut slow = bus.subscribe();
        for size in 0..SUBSCRIBER_QUEUE + 3 {
            bus.publish(event(size));
        }
        assert_eq!(slow.recv().await.unwrap().queue_size, 3);
        assert_eq!(bus.events_lost(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn unsubscribing_is_dropping() {
        let bus = FeedbackBus::new();
        let guard = bus.subscribe_fn(|_| ());
        assert_eq!(bus.subscriber_count(), 1);
        drop(guard);
        tokio::task::yield_now().await;
        assert_eq!(bus.subscriber_count(), 0);
    }
}
