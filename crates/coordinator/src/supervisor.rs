//! Keeps workers, the prober and the scaler alive.
//!
//! A worker ends for three reasons: the queue drains and is empty, it is above the limit, or it
//! panicked. Only the last is a fault: it is counted and a new worker with the same number takes
//! its place, so that no worker dies for good and label values are reused.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mds_core::Sink;
use tokio::task::{Id, JoinError, JoinSet};

use crate::breaker::CircuitState;
use crate::context::{Context, Phase};
use crate::log::log;
use crate::scaler::{Sample, ScaleReason, TICK, WorkerScaler};
use crate::worker::Worker;

/// The wait before a worker that panicked is replaced.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// The first and the longest wait between checks of an open circuit.
const PROBE_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Starts the workers, so that they are there when this returns; the answer keeps them alive until
/// the coordinator is halted.
pub(crate) fn supervise<T, S>(context: Arc<Context<T>>, sink: Arc<S>) -> impl Future<Output = ()>
where
    T: Send + Sync + 'static,
    S: Sink<T>,
{
    let mut crew = Crew {
        context,
        sink,
        tasks: JoinSet::new(),
        numbers: HashMap::new(),
    };
    crew.fill();
    keep_alive(crew)
}

async fn keep_alive<T, S>(mut crew: Crew<T, S>)
where
    T: Send + Sync + 'static,
    S: Sink<T>,
{
    let mut scaler = WorkerScaler::new(
        crew.context.options.workers,
        crew.context.options.workers_max,
        crew.context.queue.batch_size(),
        crew.context.queue.capacity(),
    );
    let is_range = crew.context.options.workers_max > crew.context.options.workers;
    let mut last = crew.context.tried.sums();
    loop {
        tokio::select! {
            biased;
            // Writes that are under way go on alone.
            () = crew.context.wait_for(Phase::Halted) => {
                crew.context.workers_alive.store(0, Ordering::Relaxed);
                crew.tasks.shutdown().await;
                return;
            }
            Some(ended) = crew.tasks.join_next_with_id() => crew.ended(ended).await,
            // Without a range there is nothing to measure, and an idle coordinator costs nothing.
            () = tokio::time::sleep(TICK), if is_range => {
                let sums = crew.context.tried.sums();
                let tried = sums.since(last);
                last = sums;
                let sample = Sample {
                    queued: crew.context.queue.size(),
                    idle_workers: crew.context.queue.idle_workers(),
                    answered: tried.answered,
                    failed: tried.failed,
                    rows: tried.rows,
                    busy: tried.busy,
                    is_open: crew.context.is_open(),
                };
                let limit = scaler.observe(sample);
                crew.set_limit(limit, scaler.reason());
            }
        }
    }
}

struct Crew<T, S> {
    context: Arc<Context<T>>,
    sink: Arc<S>,
    tasks: JoinSet<()>,
    numbers: HashMap<Id, u32>,
}

impl<T: Send + Sync + 'static, S: Sink<T>> Crew<T, S> {
    /// Starts a worker for each number below the limit that has none.
    fn fill(&mut self) {
        let limit = u32::try_from(self.context.worker_limit()).unwrap_or(u32::MAX);
        for id in 0..limit {
            if self.numbers.values().any(|n| *n == id) {
                continue;
            }
            let worker = Worker {
                id,
                core: Arc::clone(&self.context),
                sink: Arc::clone(&self.sink),
            };
            self.context.metrics.worker(id).announce();
            let task = self.tasks.spawn(worker.run());
            self.numbers.insert(task.id(), id);
        }
        self.count();
    }

    fn count(&self) {
        self.context
            .workers_alive
            .store(self.numbers.len(), Ordering::Relaxed);
    }

    fn set_limit(&mut self, limit: usize, reason: ScaleReason) {
        let before = self.context.worker_limit.swap(limit, Ordering::Relaxed);
        self.context.note_scaling(reason, limit != before);
        if limit != before {
            let coord_id = &self.context.options.coord_id;
            let reason = reason.as_str();
            log(|| tracing::info!(%coord_id, before, limit, reason, "worker limit moved"));
        }
        if limit > before {
            self.fill();
        } else if limit < before {
            self.context.queue.wake_all();
        }
    }

    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let number = self.numbers.remove(&id);
        self.count();
        let Err(error) = ended else {
            // Above the limit when it looked; the limit may have been raised since.
            if self.context.phase() == Phase::Running {
                self.fill();
            }
            return;
        };
        if error.is_panic() {
            self.context.worker_restarts.fetch_add(1, Ordering::Relaxed);
            log(|| {
                tracing::error!(
                    coord_id = %self.context.options.coord_id,
                    worker_id = number,
                    %error,
                    "worker panicked; its records are back in the queue and it is replaced"
                );
            });
            tokio::time::sleep(RESTART_DELAY).await;
        }
        self.fill();
    }
}

/// Asks the sink's own check while the circuit is open, so that an outage ends when the store is
/// back and not when the open time is over.
pub(crate) async fn probe<T, S>(context: Arc<Context<T>>, sink: Arc<S>)
where
    T: Send + Sync + 'static,
    S: Sink<T>,
{
    let Some(breaker) = context.breaker.clone() else {
        return;
    };
    let mut backoff = PROBE_BACKOFF.0;
    loop {
        let (_, opened) = breaker
            .wait_for_state(|state, _| state == CircuitState::Open)
            .await;
        while breaker.state() == CircuitState::Open {
            tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            backoff = (backoff * 2).min(PROBE_BACKOFF.1);
            let sink = Arc::clone(&sink);
            let check = tokio::spawn(async move { sink.check().await });
            let limit = context.options.write_timeout;
            match tokio::time::timeout(limit, check).await {
                Ok(Ok(Some(Ok(())))) => {
                    breaker.probe_now();
                    break;
                }
                // Without a check of its own, the open time alone decides.
                Ok(Ok(None)) => break,
                _ => {}
            }
        }
        // The next look comes after the probe. Only a write that went through makes the waits short
        // again: a check may go on saying yes while every write fails.
        let (state, _) = breaker
            .wait_for_state(|state, times| state == CircuitState::Closed || times != opened)
            .await;
        if state == CircuitState::Closed {
            backoff = PROBE_BACKOFF.0;
        }
    }
}
