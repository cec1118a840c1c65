//! What all requests share, and which path leads where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{get, post};
use mds_coordinator::Metrics;
use mds_core::{Bar, Fundamentals, News, OptionSnap, TenantId};
use tokio::sync::Semaphore;

use crate::lane::Lanes;
use crate::problem::{Code, Problem};
use crate::{health, intake, metrics};

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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            memory_bytes: 256 << 20,
            request_timeout: Duration::from_secs(30),
            submit_wait: Duration::from_secs(1),
        }
    }
}

/// Memory for bodies is counted in pieces of this size.
pub(crate) const PIECE: usize = 64 << 10;

/// The faces of one daemon; cheap to clone, all clones are the same.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) lanes: Lanes,
    pub(crate) metrics: Metrics,
    /// Whose rows are meant where none is named.
    pub(crate) tenant: TenantId,
    pub(crate) limits: Limits,
    /// Pieces of memory that bodies may take.
    pub(crate) memory: Semaphore,
    pub(crate) is_draining: AtomicBool,
    requests: AtomicU64,
}

impl App {
    /// Faces on these lanes.
    pub fn new(lanes: Lanes, metrics: Metrics, tenant: TenantId, limits: Limits) -> Self {
        let pieces = (limits.memory_bytes / PIECE).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                lanes,
                metrics,
                tenant,
                limits,
                memory: Semaphore::new(pieces),
                is_draining: AtomicBool::new(false),
                requests: AtomicU64::new(0),
            }),
        }
    }

    /// The lanes.
    pub fn lanes(&self) -> &Lanes {
        &self.shared.lanes
    }

    /// From now on no rows are taken, and `/readyz` says so; everything else is answered.
    pub fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Acquire)
    }

    /// A number that no other request of this process has.
    pub(crate) fn number(&self) -> u64 {
        self.shared.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All paths.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/bars", post(intake::post::<Bar>))
            .route("/v1/options", post(intake::post::<OptionSnap>))
            .route("/v1/fundamentals", post(intake::post::<Fundamentals>))
            .route("/v1/news", post(intake::post::<News>))
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(self.clone())
            .merge(metrics::router(self.shared.metrics.clone()))
            .fallback(not_found)
    }
}

async fn not_found(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::new(Code::NotFound, format!("there is nothing at {path}"))
}

async fn method_not_allowed(method: Method) -> Problem {
    let detail = format!("{method} is not done here; see the header Allow");
    Problem::new(Code::MethodNotAllowed, detail)
}
