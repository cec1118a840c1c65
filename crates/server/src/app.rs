//! What all requests share, and which path leads where.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodRouter, get, post};
use mds_coordinator::{FeedbackBus, Metrics};
use mds_core::{Bar, Fundamentals, News, OptionSnap, TenantId};
use mds_store::Store;
use tokio::sync::{Semaphore, watch};

use crate::intake::Tickets;
use crate::lane::Lanes;
use crate::pressure::Meters;
use crate::pressure::families::Families;
use crate::pressure::webhook::{self, Webhook};
use crate::problem::{Code, Problem};
use crate::reads::stats;
use crate::{health, intake, metrics, pressure, reads};

/// How much one request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body, as it comes and unpacked. Default: 16 MiB.
    pub body_bytes: usize,
    /// Bytes of the bodies of all requests together. Default: 256 MiB.
    pub memory_bytes: usize,
    /// How long a body may take to arrive. Default: 30 s.
    pub request_timeout: Duration,
    /// How long rows wait for room in the queue, and bodies for memory. Default: 1 s.
    pub submit_wait: Duration,
    /// How long a request may wait until its rows are in the store. Default: 10 s.
    pub written_wait: Duration,
    /// Reads of the store at a time. Default: 8.
    pub reads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            memory_bytes: 256 << 20,
            request_timeout: Duration::from_secs(30),
            submit_wait: Duration::from_secs(1),
            written_wait: Duration::from_secs(10),
            reads: 8,
        }
    }
}

/// Streams of events that may be open.
const STREAMS: usize = 64;
/// Memory for bodies is counted in pieces of this size.
pub(crate) const PIECE: usize = 64 << 10;

/// What the faces are told once.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Where the coordinators tell the crossings of their watermarks.
    pub bus: FeedbackBus,
    /// Whose rows are meant where none is named.
    pub tenant: TenantId,
    /// The share of a queue, 0 to 1, up to which there is no pressure.
    pub low_watermark: f64,
    /// Where the coordinators tell how each row has ended.
    pub tickets: Tickets,
    /// How much one request may cost.
    pub limits: Limits,
}

/// The faces of one daemon; cheap to clone, all clones are the same.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) lanes: Lanes,
    /// What is read; the lanes write into the same one.
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    /// Whose rows are meant where none is named.
    pub(crate) tenant: TenantId,
    pub(crate) limits: Limits,
    /// Pieces of memory that bodies may take.
    pub(crate) memory: Semaphore,
    /// Places of reads.
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) stats: stats::Known,
    /// Where the crossings of the watermarks are told.
    pub(crate) bus: FeedbackBus,
    /// The share of a queue up to which there is no pressure.
    pub(crate) low_watermark: f64,
    pub(crate) meters: Meters,
    pub(crate) families: Families,
    pub(crate) tickets: Tickets,
    /// Places for streams of events.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) draining: watch::Sender<bool>,
    requests: AtomicU64,
}

impl App {
    /// Faces on these lanes, and on the store that they write into; call it within a Tokio runtime.
    pub fn new(lanes: Lanes, store: Store, options: AppOptions) -> Self {
        let limits = options.limits;
        let pieces = (limits.memory_bytes / PIECE).clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            families: Families::register(&options.metrics, &options.bus),
            lanes,
            store,
            metrics: options.metrics,
            tenant: options.tenant,
            limits,
            memory: Semaphore::new(pieces),
            reads: Arc::new(Semaphore::new(limits.reads)),
            stats: stats::Known::default(),
            bus: options.bus,
            low_watermark: options.low_watermark,
            meters: Meters::default(),
            tickets: options.tickets,
            streams: Arc::new(Semaphore::new(STREAMS)),
            draining: watch::Sender::new(false),
            requests: AtomicU64::new(0),
        });
        tokio::spawn(pressure::watch(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// The lanes.
    pub fn lanes(&self) -> &Lanes {
        &self.shared.lanes
    }

    /// Tells a webhook the pressure of now, and each change of it, for as long as these faces are
    /// there. Call it within a Tokio runtime; nothing waits for it.
    pub fn tell(&self, webhook: Webhook) {
        webhook::start(self, webhook);
    }

    /// From now on no rows are taken, and `/readyz` says so; everything else is answered.
    pub fn drain(&self) {
        self.shared.draining.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.shared.draining.borrow()
    }

    /// A number that no other request of this process has.
    pub(crate) fn number(&self) -> u64 {
        self.shared.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All paths.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/bars", of_kind::<Bar>())
            .route("/v1/options", of_kind::<OptionSnap>())
            .route("/v1/fundamentals", of_kind::<Fundamentals>())
            .route("/v1/news", of_kind::<News>())
            .route("/v1/latest", get(reads::latest))
            .route("/v1/stats", get(stats::stats))
            .route("/v1/backpressure", get(pressure::get))
            .route("/v1/backpressure/stream", get(pressure::stream))
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(self.clone())
            .merge(metrics::router(self.shared.metrics.clone()))
            .fallback(not_found)
    }
}

/// Rows of a kind: in, and out.
fn of_kind<R: intake::OfKind>() -> MethodRouter<App> {
    post(intake::post::<R>).get(reads::rows::<R>)
}

async fn not_found(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::new(Code::NotFound, format!("there is nothing at {path}"))
}

async fn method_not_allowed(method: Method) -> Problem {
    let detail = format!("{method} is not done here; see the header Allow");
    Problem::new(Code::MethodNotAllowed, detail)
}
