//! `GET /v1/stats`: what the store holds, and what became of all rows.
//!
//! Counting a large store takes it some time, so that it is asked by one request at a time, and what it
//! said counts for a few seconds. The books are those of the moment.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use mds_core::Kind;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::parameters::Parameters;
use super::place;
use super::reading::answer_of_store;
use crate::app::App;
use crate::books;
use crate::intake::RequestId;
use crate::problem::Problem;

/// How long an answer of the store counts.
const FRESH: Duration = Duration::from_secs(5);

/// What the store said last, and when.
pub(crate) type Known = Mutex<Option<(Instant, Map<String, Value>)>>;

/// See the module.
pub(crate) async fn stats(State(app): State<App>, request: Parts) -> Response {
    let id = RequestId::of(&app, &request.headers);
    id.named(answer(&app, &request).await)
}

async fn answer(app: &App, request: &Parts) -> Result<Response, Problem> {
    Parameters::of(request, &[], Kind::Bars, app.shared.tenant)?;
    let _place = place(app)?;
    let mut stats = holdings(app).await?;
    stats.insert("coordinators".to_owned(), books::books_of(app.lanes()));
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Value::Object(stats).to_string()).into_response())
}

async fn holdings(app: &App) -> Result<Map<String, Value>, Problem> {
    let mut known = app.shared.stats.lock().await;
    if let Some((when, holdings)) = &*known
        && when.elapsed() < FRESH
    {
        return Ok(holdings.clone());
    }
    let store = &app.shared.store;
    let asked = async {
        let stats = store.stats().await?;
        Ok((stats, store.last_revision().await?))
    };
    let (stats, last_revision) = answer_of_store(asked).await?;
    let holdings = books::holdings(&stats, last_revision);
    *known = Some((Instant::now(), holdings.clone()));
    Ok(holdings)
}
