//! `GET /metrics`: the exposition for Prometheus, in the format that the scrape asks for.

use std::future::Future;
use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::routing::get;
use mds_coordinator::{Exposition, Metrics};
use tokio::net::TcpListener;

/// Serves `/metrics` on `listener` until `shutdown` is ready; requests under way are finished.
///
/// # Errors
///
/// Only what the operating system says about the listener; a connection that fails is no error.
///
/// # Cancel safety
///
/// Dropped, it stops at once; requests under way are cut.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(metrics))
        .with_graceful_shutdown(shutdown)
        .await
}

/// The route by itself, for a server that has others too.
pub fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics)
}

async fn scrape(
    State(metrics): State<Metrics>,
    headers: HeaderMap,
) -> ([(HeaderName, &'static str); 1], String) {
    // A header that is not text asks for nothing that we know.
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let exposition = Exposition::for_accept(accept);
    (
        [(CONTENT_TYPE, exposition.content_type())],
        metrics.encode(exposition),
    )
}
