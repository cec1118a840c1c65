//! The write path of one kind as every command sets it up: store, dead letters, coordinator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mds_coordinator::dead_letter::{DlqOptions, LetterDraft};
use mds_coordinator::{
    CircuitBreaker, CoordinatorBuilder, DeadLetterQueue, RetryPolicy, WriteCoordinator,
};
use mds_core::settings::CoordinatorRuntimeSettings;
use mds_core::{Sink, Sourced};
use mds_formats::Readable;
use mds_store::{OpenOptions, Store, StoredRecord};

use crate::context::Context;

/// A record of any kind that can be read from a file and written to a store.
pub(crate) trait MarketRecord: Readable + StoredRecord {}

impl<R: Readable + StoredRecord> MarketRecord for R {}

/// The longest that one write waits for the lock of another process before the write path hears of
/// it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens and migrates the store of the settings. An outage of `max_outage` (zero: none is) must be
/// noticed as one, so one wait for a lock is far shorter.
pub(crate) async fn open_store(context: &Context, max_outage: Duration) -> anyhow::Result<Store> {
    let url = context.store_url()?;
    if let Some(folder) = url.path().and_then(Path::parent)
        && !folder.as_os_str().is_empty()
        && !folder.exists()
    {
        anyhow::bail!(
            "cannot open the store {url}: there is no folder {}; create it, or choose another path",
            folder.display()
        );
    }
    let busy_timeout = if max_outage > Duration::ZERO {
        (max_outage / 4).min(LOCK_TIMEOUT)
    } else {
        LOCK_TIMEOUT
    };
    let options = OpenOptions {
        busy_timeout,
        // A server that stays silent is to be known as such before a write is given up.
        statement_timeout: context.settings.coordinator().write_timeout().mul_f64(0.8),
        ..OpenOptions::default()
    };
    context.open(options).await
}

/// Closes the store, unless a write in it never ends; what a stop has not waited for to its end is
/// not waited for again.
pub(crate) async fn close_store(store: &Store, stop_timed_out: bool) {
    let limit = if stop_timed_out {
        CLOSE_TIMEOUT
    } else {
        STOP_TIMEOUT
    };
    if tokio::time::timeout(limit, store.close()).await.is_err() {
        tracing::warn!("the store is still at work; it is left to itself");
    }
}

/// Opens the dead letters, and proves that letters can be written.
pub(crate) fn open_letters<R: MarketRecord>(
    path: &Path,
) -> anyhow::Result<Arc<DeadLetterQueue<Sourced<R>>>> {
    let letters = DeadLetterQueue::open(path, DlqOptions::default())
        .with_context(|| format!("cannot open the dead letters {}", path.display()))?;
    Ok(Arc::new(letters))
}

/// A coordinator as the settings say, without its dead letters; `coord_id` is the kind.
pub(crate) fn coordinator<R, S>(
    settings: &CoordinatorRuntimeSettings,
    sink: S,
) -> CoordinatorBuilder<Sourced<R>, S>
where
    R: MarketRecord,
    S: Sink<Sourced<R>>,
{
    builder::<R, Sourced<R>, S>(settings, sink)
        .size_of(|row: &Sourced<R>| row.record.bytes())
        .describe_letter(describe)
}

/// The same for rows that carry a record of the kind `R` in another wrapping.
pub(crate) fn builder<R, T, S>(
    settings: &CoordinatorRuntimeSettings,
    sink: S,
) -> CoordinatorBuilder<T, S>
where
    R: MarketRecord,
    T: Send + Sync + 'static,
    S: Sink<T>,
{
    let breaker = CircuitBreaker::new(settings.cb_failure_threshold, settings.half_open_after());
    let overflow = settings.coordinator_overflow_strategy.parse();
    WriteCoordinator::builder(sink)
        .coord_id(R::KIND.as_str())
        .capacity(settings.coordinator_capacity)
        .max_bytes(settings.coordinator_max_bytes)
        .workers(settings.coordinator_workers)
        .workers_max(settings.coordinator_workers_max)
        .batch_size(settings.coordinator_batch_size)
        .flush_interval(settings.flush_interval())
        .high_watermark(settings.coordinator_high_watermark)
        .low_watermark(settings.coordinator_low_watermark)
        // The table of settings allows the names of the strategies only.
        .overflow_strategy(overflow.unwrap_or_default())
        .circuit_breaker(breaker)
        .retry_policy(RetryPolicy {
            max_attempts: settings.retry_max_attempts,
            initial_backoff_ms: settings.retry_initial_backoff_ms,
            max_backoff_ms: settings.retry_max_backoff_ms,
            backoff_multiplier: settings.retry_backoff_multiplier,
            jitter: settings.retry_jitter,
        })
        .retry_budget_percent(settings.retry_budget_percent)
        .write_timeout(settings.write_timeout())
        .metrics_poll_sec(settings.metrics_queue_poll_sec)
}

/// Puts into a letter what is known about its record: the kind, the file and the line.
pub(crate) fn describe<R: MarketRecord>(row: &Sourced<R>, letter: &mut LetterDraft) {
    letter.kind = Some(R::KIND.as_str().to_owned());
    if let Some(origin) = &row.origin {
        letter
            .metadata
            .insert("path".to_owned(), origin.path.as_ref().into());
        letter
            .metadata
            .insert("line".to_owned(), origin.line.into());
    }
}

/// How long a command that ends waits for what it accepted.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the store may take to close where a write was left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The runtime of a command.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the program")
}
