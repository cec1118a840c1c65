//! Whether the daemon lives, and whether it can take rows.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use mds_coordinator::{CircuitState, Degraded};
use mds_core::Kind;
use serde_json::json;

use crate::app::App;
use crate::lane::{Lane, Lanes, MarketRecord, with_lane};

/// `GET /livez`: that it answers is the answer.
pub(crate) async fn live() -> Response {
    answer(StatusCode::OK, &json!({"alive": true}))
}

/// `GET /readyz`: 200 if rows of every kind are taken now, else 503; with the reasons either way.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    let mut reasons = Vec::new();
    if app.is_draining() {
        reasons.push(json!({"code": "draining", "reason": "the daemon is stopping"}));
    }
    for kind in Kind::ALL {
        if let Some((code, reason)) = refusing(app.lanes(), kind) {
            reasons.push(json!({"kind": kind.as_str(), "code": code, "reason": reason}));
        }
    }
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({"ready": reasons.is_empty(), "reasons": reasons});
    answer(status, &body)
}

/// Why rows of a kind are not taken now.
fn refusing(lanes: &Lanes, kind: Kind) -> Option<(&'static str, String)> {
    with_lane!(lanes, kind, lane => reason(lane))
}

/// What the disk of the queue says, where it fails.
pub(crate) fn disk_error<R: MarketRecord>(lane: &Lane<R>) -> Option<String> {
    let degraded = lane.coordinator.degraded();
    degraded.into_iter().find_map(|why| match why {
        Degraded::DurableQueueFailing { error } => Some(error),
        _ => None,
    })
}

fn reason<R: MarketRecord>(lane: &Lane<R>) -> Option<(&'static str, String)> {
    if let Some(error) = disk_error(lane) {
        return Some(("disk_failed", error));
    }
    // With a durable queue an outage of the store keeps nobody out.
    let is_durable = lane.coordinator.durable_stats().is_some();
    let is_open = lane.coordinator.health().circuit_state == CircuitState::Open;
    (is_open && !is_durable).then(|| {
        let error = lane.coordinator.last_error().unwrap_or_default();
        (
            "circuit_open",
            format!("the store does not answer: {error}"),
        )
    })
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body.to_string()).into_response()
}
