//! What Prometheus sees.
//!
//! The counts of records are not kept here: they are the books of each coordinator, and a scrape
//! copies them into the families (as the difference to what it copied last), so that submitting
//! costs no atomic operation and two coordinators with the same labels add up. Histograms and
//! attempt counters are observed where they happen, once a batch.
//!
//! Label values are closed sets: coordinator ids and sink names that the program chose, worker
//! numbers below the limit, reasons and error kinds. Never a symbol, a tenant or an error text.

mod exposition;
mod families;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use mds_core::ErrorKind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use exposition::Exposition;
pub(crate) use families::{CoordLabels, CounterFamily, Families, GaugeFamily, ReasonLabels};
use families::{ErrorLabels, SinkLabels, SinkStatusLabels, WorkerLabels};

/// The metrics of a process, or of a part of it that is scraped alone.
///
/// ```
/// use mds_coordinator::{Exposition, Metrics};
///
/// let metrics = Metrics::new();
/// assert!(metrics.encode(Exposition::OpenMetrics).ends_with("# EOF\n"));
/// assert!(!metrics.encode(Exposition::Text).contains("# EOF"));
/// ```
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    families: Families,
    sources: Mutex<Vec<Weak<dyn Source>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that copies its numbers into the families before each scrape.
pub(crate) trait Source: Send + Sync {
    fn publish(&self, families: &Families);
}

impl Metrics {
    /// Metrics of their own.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let families = Families::register(&mut registry);
        let sources = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                registry: Mutex::new(registry),
                families,
                sources,
            }),
        }
    }

    /// The metrics of the process, which coordinators use unless they were given others.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Metrics> = OnceLock::new();
        GLOBAL.get_or_init(Self::new)
    }

    /// Lets the program add metrics of its own to the same exposition.
    pub fn with_registry<R>(&self, add: impl FnOnce(&mut Registry) -> R) -> R {
        add(&mut self
            .inner
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// The text of a scrape.
    pub fn encode(&self, exposition: Exposition) -> String {
        self.inner
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|source| {
                source
                    .upgrade()
                    .map(|s| s.publish(&self.inner.families))
                    .is_some()
            });
        exposition.encode(
            &self
                .inner
                .registry
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn add_source(&self, source: Weak<dyn Source>) {
        self.inner
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(source);
    }

    pub(crate) fn families(&self) -> &Families {
        &self.inner.families
    }

    /// The handles of one coordinator.
    pub(crate) fn coordinator(&self, coord_id: &str, sink: &str) -> CoordinatorMetrics {
        let families = self.families();
        let labels = |status| SinkStatusLabels {
            sink: sink.to_owned(),
            status,
        };
        CoordinatorMetrics {
            metrics: self.clone(),
            coord_id: coord_id.to_owned(),
            sink: SinkHandle {
                success: families.sink_writes.get_or_create_owned(&labels("success")),
                failure: families.sink_writes.get_or_create_owned(&labels("failure")),
                latency: families.sink_latency.get_or_create_owned(&SinkLabels {
                    sink: sink.to_owned(),
                }),
            },
            written_latency: families.written_latency.get_or_create_owned(&CoordLabels {
                coord_id: coord_id.to_owned(),
            }),
        }
    }
}

/// The handles of one coordinator: each family is looked up once, or once per batch.
#[derive(Debug)]
pub(crate) struct CoordinatorMetrics {
    pub(crate) metrics: Metrics,
    pub(crate) coord_id: String,
    sink: SinkHandle,
    pub(crate) written_latency: Histogram,
}

#[derive(Debug)]
pub(crate) struct SinkHandle {
    success: Counter,
    failure: Counter,
    latency: Histogram,
}

impl SinkHandle {
    /// One attempt of the sink.
    pub(crate) fn attempt(&self, took: Duration, success: bool) {
        if success {
            self.success.inc();
        } else {
            self.failure.inc();
        }
        self.latency.observe(took.as_secs_f64());
    }
}

impl CoordinatorMetrics {
    pub(crate) fn sink(&self) -> &SinkHandle {
        &self.sink
    }

    pub(crate) fn worker(&self, worker: u32) -> WorkerHandle<'_> {
        WorkerHandle {
            metrics: self,
            worker,
        }
    }

    pub(crate) fn families(&self) -> &Families {
        self.metrics.families()
    }
}

#[derive(Debug)]
pub(crate) struct WorkerHandle<'a> {
    metrics: &'a CoordinatorMetrics,
    worker: u32,
}

impl WorkerHandle<'_> {
    fn labels(&self) -> WorkerLabels {
        WorkerLabels {
            coord_id: self.metrics.coord_id.clone(),
            worker_id: self.worker,
        }
    }

    /// Makes the series of a worker, at zero: a rate over a series that does not exist yet misses
    /// its first increase, and a query for it answers nothing.
    pub(crate) fn announce(&self) {
        let families = self.metrics.families();
        let labels = self.labels();
        drop(families.batches_written.get_or_create(&labels));
        drop(families.write_latency.get_or_create(&labels));
        for kind in ErrorKind::ALL {
            drop(
                families
                    .write_errors
                    .get_or_create(&self.error_labels(kind)),
            );
        }
    }

    fn error_labels(&self, kind: ErrorKind) -> ErrorLabels {
        ErrorLabels {
            coord_id: self.metrics.coord_id.clone(),
            worker_id: self.worker,
            error_type: kind.as_str(),
        }
    }

    /// A batch from its first attempt to its outcome.
    pub(crate) fn batch(&self, took: Duration, wrote: bool) {
        let families = self.metrics.families();
        let labels = self.labels();
        families
            .write_latency
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if wrote {
            families.batches_written.get_or_create(&labels).inc();
        }
    }

    /// A failed attempt.
    pub(crate) fn error(&self, kind: ErrorKind) {
        let families = self.metrics.families();
        families
            .write_errors
            .get_or_create(&self.error_labels(kind))
            .inc();
    }
}
