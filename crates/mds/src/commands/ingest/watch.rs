//! What a run looks at while it works: signals, and whether the store and the dead letters can be
//! written.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mds_coordinator::{Degraded, WriteCoordinator};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::Instant;

use super::stop::{Stop, shown};
use crate::exit::Exit;

/// How often the state of the write path is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// SIGINT and SIGTERM, from [`Signals::listen`] to the end of the process: the first one asks for
/// an orderly end, a SIGINT after it ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Signals(Receiver<Option<Stop>>);

impl Signals {
    /// Takes the signals over. Call it within a runtime.
    pub(crate) fn listen() -> Self {
        let sender = Sender::new(None);
        let signals = Self(sender.subscribe());
        // Without handlers the signals end the process as they always do.
        if let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) {
            tokio::spawn(async move {
                let stop = tokio::select! {
                    _ = interrupt.recv() => Stop::Interrupted,
                    _ = terminate.recv() => Stop::Terminated,
                };
                sender.send_replace(Some(stop));
                interrupt.recv().await;
                std::process::exit(i32::from(Exit::Interrupted.code()));
            });
        }
        signals
    }

    /// Waits for the first signal; cancel safe.
    pub(crate) async fn stop(&self) -> Stop {
        let mut first = self.0.clone();
        match first.wait_for(Option::is_some).await.map(|s| s.clone()) {
            Ok(Some(stop)) => stop,
            // Nobody listens.
            _ => std::future::pending().await,
        }
    }
}

/// Tells of the beginning and the end of an outage of the store.
pub(crate) struct Outages<F> {
    limit: Duration,
    tell: F,
    since: Mutex<Option<Instant>>,
}

impl<F: Fn(&str)> Outages<F> {
    /// None so far; one longer than `limit` (zero: none) will end the run.
    pub(crate) fn new(limit: Duration, tell: F) -> Self {
        Self {
            limit,
            tell,
            since: Mutex::default(),
        }
    }

    /// The store is away, for so long already.
    pub(super) fn away(&self, length: Duration, error: &str) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some() {
            return;
        }
        *since = Instant::now().checked_sub(length);
        drop(since);
        let most = if self.limit > Duration::ZERO {
            format!(" (at most {})", shown(self.limit))
        } else {
            String::new()
        };
        (self.tell)(&format!("waiting for the store{most}: {error}"));
    }

    /// The store answers.
    pub(crate) fn over(&self) {
        let since = self
            .since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(since) = since {
            let seconds = since.elapsed().as_secs_f64();
            (self.tell)(&format!("the store is back after {seconds:.1} s"));
        }
    }

    /// Whether an outage of that length is one too long.
    pub(super) fn is_over_limit(&self, length: Option<Duration>) -> bool {
        self.limit > Duration::ZERO && length.is_some_and(|length| length > self.limit)
    }
}

/// Waits for a signal, or until the store or the dead letters are away for longer than allowed, or
/// fail for good.
pub(crate) async fn stop_reason<T: Send + Sync + 'static>(
    coordinator: &WriteCoordinator<T>,
    outages: &Outages<impl Fn(&str)>,
    signals: &Signals,
) -> Stop {
    tokio::select! {
        stop = signals.stop() => stop,
        stop = outage(coordinator, outages) => stop,
    }
}

async fn outage<T: Send + Sync + 'static>(
    coordinator: &WriteCoordinator<T>,
    outages: &Outages<impl Fn(&str)>,
) -> Stop {
    let (mut letters_since, mut queue_since) = (None::<Instant>, None::<Instant>);
    let limit = outages.limit;
    let error = || coordinator.last_error().unwrap_or_default();
    loop {
        tokio::time::sleep(LOOK).await;
        let degraded = coordinator.degraded();
        if degraded.iter().any(|d| matches!(d, Degraded::Fatal { .. })) {
            return Stop::Fatal { error: error() };
        }
        let failing = coordinator.failing_for();
        match failing {
            // An error that is over with the next attempt is not worth a word.
            Some(length) if length > LOOK => outages.away(length, &error()),
            Some(_) => {}
            None => outages.over(),
        }
        if outages.is_over_limit(failing) {
            return Stop::Outage {
                limit,
                error: error(),
            };
        }
        if degraded.contains(&Degraded::DeadLettersFailing) {
            letters_since.get_or_insert_with(Instant::now);
        } else {
            letters_since = None;
        }
        if outages.is_over_limit(letters_since.map(|since| since.elapsed())) {
            return Stop::LettersOutage { limit };
        }
        let of_queue = degraded.into_iter().find_map(|reason| match reason {
            Degraded::DurableQueueFailing { error } => Some(error),
            _ => None,
        });
        let Some(error) = of_queue else {
            queue_since = None;
            continue;
        };
        let since = *queue_since.get_or_insert_with(Instant::now);
        if outages.is_over_limit(Some(since.elapsed())) {
            return Stop::Queue { limit, error };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mds_coordinator::{
        Batch, Codec, DurableOptions, DurableQueue, Metrics, RetryPolicy, RowOutcome, Sink,
        WriteReport,
    };
    use mds_wal::sim::SimStorage;

    use super::*;

    /// Knows nothing but odd numbers.
    struct Odd;

    impl Codec<u8> for Odd {
        fn encode(&self, item: &u8, bytes: &mut Vec<u8>) {
            bytes.push(*item);
        }

        fn decode(&self, bytes: &[u8]) -> Result<u8, String> {
            let odd = bytes.first().filter(|byte| **byte % 2 == 1);
            odd.copied().ok_or_else(|| "it is even".to_owned())
        }
    }

    /// A store that is away at first.
    struct Store {
        is_away: bool,
    }

    impl Sink<u8> for Store {
        fn name(&self) -> &'static str {
            "store"
        }

        async fn write(&self, batch: Batch<u8>) -> WriteReport {
            if self.is_away {
                std::future::pending::<()>().await;
            }
            WriteReport {
                outcomes: vec![RowOutcome::Written; batch.len()],
                conflicts: 0,
                error: None,
            }
        }
    }

    /// The store works, and a record of the queue waits for room to be set aside: that ends as well.
    #[tokio::test(start_paused = true)]
    async fn a_queue_that_fails_for_too_long_is_a_reason_to_stop() {
        let storage = SimStorage::new(1);
        let open = |is_away| {
            let options = DurableOptions::default();
            let queue = DurableQueue::open_on(Arc::new(storage.clone()), options, Arc::new(Odd));
            // The clock of the test leaps while the disk is waited for: no write may be given up by that.
            let builder = WriteCoordinator::builder(Store { is_away })
                .retry_policy(RetryPolicy {
                    max_attempts: u32::MAX,
                    ..RetryPolicy::default()
                })
                .metrics(Metrics::new());
            (queue.unwrap(), builder)
        };
        let (queue, builder) = open(true);
        let coordinator = builder.durable_queue(queue).start().unwrap();
        for row in [1, 2, 3] {
            coordinator.submit(row).await.unwrap();
        }
        drop(coordinator);
        let (queue, builder) = open(false);
        // None at all: what the queue gives back while it opens is no room.
        storage.set_capacity(0);
        let coordinator = builder.durable_queue(queue).start().unwrap();
        let limit = Duration::from_secs(300);
        let outages = Outages::new(limit, |_: &str| {});
        let begun = Instant::now();
        let stop = tokio::time::timeout(limit * 2, outage(&coordinator, &outages)).await;
        let Ok(Stop::Queue { error, .. }) = stop else {
            panic!("{stop:?}");
        };
        assert!(
            error.contains("record 2 is none of this program"),
            "{error}"
        );
        assert!(begun.elapsed() >= limit);
    }
}
