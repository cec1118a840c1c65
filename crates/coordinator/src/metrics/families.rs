//! The families: each name, type and label set stands here once.
//!
//! The registry appends `_total` to the names of counters, so they are registered without it.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of latency buckets, seconds: from a fraction of an fsync to the write timeout.
const LATENCY: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// A gauge of fractions.
pub(crate) type FloatGauge = Gauge<f64, AtomicU64>;
/// Metrics of a coordinator.
pub(crate) type CounterFamily = Family<CoordLabels, Counter>;
pub(crate) type GaugeFamily = Family<CoordLabels, Gauge>;
type Latency<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct CoordLabels {
    pub(crate) coord_id: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    pub(crate) coord_id: String,
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct WorkerLabels {
    pub(crate) coord_id: String,
    pub(crate) worker_id: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ErrorLabels {
    pub(crate) coord_id: String,
    pub(crate) worker_id: u32,
    pub(crate) error_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct SinkLabels {
    pub(crate) sink: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct SinkStatusLabels {
    pub(crate) sink: String,
    pub(crate) status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Writes the struct of all families and its registration from one table.
macro_rules! families {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal, $help:literal;)+) => {
        /// All families.
        #[derive(Debug)]
        pub(crate) struct Families {
            $(pub(crate) $field: $type,)+
        }

        impl Families {
            /// Makes the families and puts them into a registry.
            pub(crate) fn register(registry: &mut Registry) -> Self {
                let build: Family<BuildLabels, Gauge> = Family::default();
                build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
                registry.register("mds_build_info", "Version of the running program", build);
                $(
                    let $field = <$type as NewFamily>::new_family();
                    registry.register($name, $help, $field.clone());
                )+
                Self { $($field),+ }
            }
        }
    };
}

/// A family of any metric type, empty.
trait NewFamily {
    fn new_family() -> Self;
}

impl<L: Clone + std::hash::Hash + Eq> NewFamily for Family<L, Counter> {
    fn new_family() -> Self {
        Self::default()
    }
}

impl<L: Clone + std::hash::Hash + Eq> NewFamily for Family<L, Gauge> {
    fn new_family() -> Self {
        Self::default()
    }
}

impl<L: Clone + std::hash::Hash + Eq> NewFamily for Family<L, FloatGauge> {
    fn new_family() -> Self {
        Self::default()
    }
}

impl<L: Clone + std::hash::Hash + Eq> NewFamily for Latency<L> {
    fn new_family() -> Self {
        Self::new_with_constructor(|| Histogram::new(LATENCY))
    }
}

families! {
    // The names of the specification.
    submitted: Family<CoordLabels, Counter> = "mds_coord_items_submitted",
        "Items submitted to coordinator";
    dropped: Family<ReasonLabels, Counter> = "mds_coord_items_dropped",
        "Items dropped by overflow/drop policies";
    queue_depth: Family<CoordLabels, Gauge> = "mds_coord_queue_depth",
        "Current coordinator queue depth";
    workers_alive: Family<CoordLabels, Gauge> = "mds_coord_workers_alive",
        "Number of alive workers";
    circuit_state: Family<CoordLabels, Gauge> = "mds_coord_circuit_state",
        "Circuit state: 0=closed, 1=open, 2=half_open";
    batches_written: Family<WorkerLabels, Counter> = "mds_worker_batches_written",
        "Batches successfully written by worker";
    write_errors: Family<ErrorLabels, Counter> = "mds_worker_write_errors",
        "Failed write attempts by kind of error";
    write_latency: Latency<WorkerLabels> = "mds_worker_write_latency_seconds",
        "Latency of a batch from first attempt to outcome, retries included";
    sink_writes: Family<SinkStatusLabels, Counter> = "sink_writes",
        "Number of sink write attempts";
    sink_latency: Latency<SinkLabels> = "sink_write_latency_seconds",
        "Duration of sink write attempts in seconds";

    // Ours.
    written: CounterFamily = "mds_coord_items_written", "Items committed by the store";
    superseded: CounterFamily = "mds_coord_items_superseded",
        "Items that lost to one of equal or higher rank";
    dead_lettered: Family<ReasonLabels, Counter> = "mds_coord_items_dead_lettered",
        "Items in the dead letters";
    refused: Family<ReasonLabels, Counter> = "mds_coord_items_refused",
        "Items handed back to their producer";
    recovered: CounterFamily = "mds_coord_items_recovered",
        "Items found in a durable queue at start";
    damaged: CounterFamily = "mds_coord_items_damaged",
        "Items of a durable queue whose bytes were damaged";
    conflicts: CounterFamily = "mds_coord_conflicts",
        "Items that met another of equal key and revision with other values";
    circuit_opened: CounterFamily = "mds_coord_circuit_opened", "How often the circuit has opened";
    worker_restarts: CounterFamily = "mds_coord_worker_restarts",
        "Workers started again after they panicked";
    callback_panics: CounterFamily = "mds_coord_callback_panics",
        "Panics caught in callbacks of the program";
    in_flight: GaugeFamily = "mds_coord_in_flight",
        "Items that a worker or the writer of dead letters holds";
    queue_bytes: GaugeFamily = "mds_coord_queue_bytes", "Bytes of the items that wait";
    capacity: GaugeFamily = "mds_coord_queue_capacity", "Items that may wait";
    backpressure_level: GaugeFamily = "mds_coord_backpressure_level",
        "Pressure: 0=ok, 1=soft, 2=hard";
    oldest_age: Family<CoordLabels, FloatGauge> = "mds_coord_oldest_item_age_seconds",
        "How long the oldest item without a fate has been here";
    durable_bytes: GaugeFamily = "mds_coord_durable_queue_bytes",
        "Bytes of the disk that a durable queue uses";
    durable_max_bytes: GaugeFamily = "mds_coord_durable_queue_max_bytes",
        "Bytes of the disk that a durable queue may use";
    durable_failing: GaugeFamily = "mds_coord_durable_queue_failing",
        "1 while items are not made durable, or cannot be read back";
    fsync_latency: Latency<CoordLabels> = "mds_coord_durable_queue_fsync_seconds",
        "Duration of the syncs of a durable queue";
    worker_limit: GaugeFamily = "mds_coord_worker_limit", "Workers that may run now";
    worker_limit_reason: Family<ReasonLabels, Gauge> = "mds_coord_worker_limit_reason",
        "1 for the reason of the last move of the worker limit, 0 for the others";
    worker_moves: Family<ReasonLabels, Counter> = "mds_coord_worker_moves",
        "Moves of the worker limit by their reason";
    retries: CounterFamily = "mds_coord_retries",
        "Attempts at rows whose last attempt failed and used up an attempt";
    retries_delayed: CounterFamily = "mds_coord_retries_delayed",
        "Retries that waited for the budget that the workers share";
    dead_letter_bytes: GaugeFamily = "mds_coord_dead_letter_bytes",
        "Bytes of the dead letter files";
    dead_letters_failing: GaugeFamily = "mds_coord_dead_letters_failing",
        "1 while dead letters cannot be written";
    written_latency: Latency<CoordLabels> = "mds_coord_submit_to_written_seconds",
        "Time from submit to the store's commit";
}
