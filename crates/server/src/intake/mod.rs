//! `POST /v1/{bars,options,fundamentals,news}`: rows in, and what became of them out.
//!
//! A request is read and understood whole before any of its rows is handed in: a body that cannot be
//! understood to its end costs the request, and none of its rows is taken. A row that is no record costs
//! itself: it is named in the answer, with its field and the rule, and belongs to the producer still.
//! What the answer counts as accepted belongs to the store from then on.

mod body;
mod parameters;
mod rows;
mod ticket;

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use mds_coordinator::{CircuitState, Refusal};
use mds_core::{Bar, Fundamentals, News, OptionSnap};
use serde::Serialize;
use tokio::time::Instant;

use self::parameters::{Ack, Parameters};
use self::rows::{Parsed, RowError};
pub use self::ticket::Tickets;
use self::ticket::{Fates, Waiting};
use crate::app::App;
use crate::lane::{Lane, Lanes, MarketRecord};
use crate::problem::{Code, Problem};
use crate::{health, pressure};

/// The header that names a request, in questions and answers.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Rows that are named in an answer; more are only counted.
const ERRORS: usize = 1_000;
/// When to come again where nothing is known.
const LATER: Duration = Duration::from_secs(5);
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// How often batches that are not full are hurried while somebody waits for them.
const AGAIN: Duration = Duration::from_millis(20);

/// A kind that has a lane.
pub(crate) trait OfKind: MarketRecord {
    fn lane(lanes: &Lanes) -> &Lane<Self>;
}

impl OfKind for Bar {
    fn lane(lanes: &Lanes) -> &Lane<Self> {
        &lanes.bars
    }
}

impl OfKind for OptionSnap {
    fn lane(lanes: &Lanes) -> &Lane<Self> {
        &lanes.options
    }
}

impl OfKind for Fundamentals {
    fn lane(lanes: &Lanes) -> &Lane<Self> {
        &lanes.fundamentals
    }
}

impl OfKind for News {
    fn lane(lanes: &Lanes) -> &Lane<Self> {
        &lanes.news
    }
}

/// What became of the rows of a request.
#[derive(Debug, Serialize)]
struct Answer {
    request_id: String,
    kind: &'static str,
    ack: &'static str,
    /// Records and rows that are none; `accepted` and `refused` together.
    received: u64,
    accepted: u64,
    refused: u64,
    /// Rows that the format maps to no record.
    skipped: u64,
    #[serde(flatten)]
    ended: Option<Ended>,
    errors: Vec<RowError>,
    errors_truncated: bool,
}

/// How the accepted rows have ended; all of it together is `accepted`.
#[derive(Debug, Serialize)]
struct Ended {
    written: u64,
    superseded: u64,
    dead_lettered: u64,
    dropped: u64,
    /// These have not, by now.
    outstanding: u64,
}

impl Ended {
    fn new(fates: Fates, accepted: u64) -> Self {
        Self {
            written: fates.written,
            superseded: fates.superseded,
            dead_lettered: fates.dead_lettered,
            dropped: fates.dropped,
            outstanding: accepted.saturating_sub(fates.sum()),
        }
    }
}

impl Answer {
    fn status(&self) -> StatusCode {
        match (self.accepted, self.refused) {
            (0, 1..) => StatusCode::UNPROCESSABLE_ENTITY,
            (_, 1..) => StatusCode::MULTI_STATUS,
            _ if self
                .ended
                .as_ref()
                .is_some_and(|ended| ended.outstanding > 0) =>
            {
                StatusCode::ACCEPTED
            }
            _ if self.ack == Ack::Accepted.as_str() => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        }
    }
}

/// A request by its name, and by a name that no other request has.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    id: String,
    number: u64,
}

impl RequestId {
    pub(crate) fn of(app: &App, headers: &HeaderMap) -> Self {
        let number = app.number();
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let given = given.filter(|id| (1..=64).contains(&id.len()) && id.bytes().all(is_plain));
        let id = given.map_or_else(|| format!("r{number}"), str::to_owned);
        Self { id, number }
    }

    /// The answer with the name of the request on it.
    pub(crate) fn named(&self, answered: Result<Response, Problem>) -> Response {
        let mut response = answered.unwrap_or_else(|problem| {
            let problem = problem.with("request_id", self.id.as_str());
            problem.into_response()
        });
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    /// What stands for the file name in letters and messages.
    fn path(&self) -> String {
        format!("http:{}#{}", self.id, self.number)
    }
}

/// Takes rows of the kind `R`.
pub(crate) async fn post<R: OfKind>(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let id = RequestId::of(&app, &headers);
    let answered = Box::pin(take::<R>(&app, &uri, &headers, body, &id)).await;
    id.named(answered.map(|answer| {
        let json = [(CONTENT_TYPE, "application/json")];
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        (answer.status(), json, body).into_response()
    }))
}

async fn take<R: OfKind>(
    app: &App,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
    id: &RequestId,
) -> Result<Answer, Problem> {
    if app.is_draining() {
        return Err(draining());
    }
    let lane = R::lane(app.lanes());
    let is_durable = lane.coordinator.durable_stats().is_some();
    let parameters = Parameters::of(uri, headers, is_durable, app.shared.tenant)?;
    if !is_durable && lane.coordinator.health().circuit_state == CircuitState::Open {
        return Err(circuit_open(lane));
    }
    let (body, memory) = body::read(app, headers, body).await?;
    let request = rows::Request {
        path: id.path(),
        options: parameters.options,
        limits: app.shared.limits,
    };
    let (app_too, ack) = (app.clone(), parameters.ack);
    let parse = move || {
        let lane = R::lane(app_too.lanes());
        rows::parse::<R>(body, &request, &lane.revisions)
    };
    let parsed = tokio::task::spawn_blocking(parse).await;
    let parsed = parsed.map_err(|_| Problem::new(Code::Internal, "the request was given up"))??;
    let mut parsed = parsed;
    let waiting = (ack == Ack::Written).then(|| app.shared.tickets.wait_for(id.path()));
    let accepted = submit(app, lane, &mut parsed).await?;
    // What waits for room is held in memory as well.
    drop(memory);
    let mut ended = None;
    if let Some(waiting) = waiting {
        ended = Some(Ended::new(
            wait(app, lane, &waiting, accepted).await,
            accepted,
        ));
    }
    let ack = match &ended {
        Some(ended) if ended.outstanding > 0 => Ack::usual(is_durable),
        _ => ack,
    };
    Ok(Answer {
        request_id: id.id.clone(),
        kind: R::KIND.as_str(),
        ack: ack.as_str(),
        received: parsed.received,
        accepted,
        refused: parsed.refused,
        skipped: parsed.skipped,
        ended,
        errors_truncated: parsed.refused > parsed.errors.len() as u64,
        errors: parsed.errors,
    })
}

/// Waits until the rows of a request are in the store, or have ended otherwise.
async fn wait<R: OfKind>(app: &App, lane: &Lane<R>, waiting: &Waiting, rows: u64) -> Fates {
    let limit = app.shared.limits.written_wait;
    // A batch that is not full waits for more rows; nobody else may send any.
    let hurry = async {
        loop {
            let _report = lane.coordinator.flush(limit).await;
            // Nothing is in the window: what is left is on the disk.
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        fates = waiting.ended(rows, limit) => fates,
        () = hurry => Fates::default(),
    }
}

/// Hands rows in; all of them, or an answer that says how many. A row that is too large for the queue
/// costs itself. Whatever the answer, it names the rows that are refused: who goes on from `next_index`
/// does not see those before it again.
async fn submit<R: OfKind>(
    app: &App,
    lane: &Lane<R>,
    parsed: &mut Parsed<R>,
) -> Result<u64, Problem> {
    let deadline = Instant::now() + app.shared.limits.submit_wait;
    let mut accepted = 0;
    loop {
        let before = parsed.rows.len();
        let rows = &mut parsed.rows;
        let submitted = lane.coordinator.submit_many_until(rows, deadline).await;
        let taken = before - parsed.rows.len();
        parsed.indexes.drain(..taken);
        accepted += taken as u64;
        match submitted.map_err(|error| error.refusal) {
            Ok(_) => return Ok(accepted),
            Err(Refusal::TooLarge) => parsed.refuse_first(),
            Err(refusal) => {
                let left = parsed.rows.len();
                let problem = refused(app, lane, refusal, left).with("accepted", accepted);
                let next = parsed.indexes.front().copied();
                return Err(problem
                    .with("next_index", next)
                    .with("refused", parsed.refused)
                    .with("errors", serde_json::json!(parsed.errors)));
            }
        }
    }
}

fn refused<R: OfKind>(app: &App, lane: &Lane<R>, refusal: Refusal, left: usize) -> Problem {
    match refusal {
        Refusal::QueueFull => {
            let detail = "the queue is full; send the rows from next_index on again, later";
            let time = pressure::retry_after(app, R::KIND, left);
            Problem::new(Code::QueueFull, detail).retry_after(time)
        }
        Refusal::DiskFailed => {
            let error = health::disk_error(lane).unwrap_or_default();
            let detail = format!(
                "the disk of the queue takes no more rows ({error}); send those from next_index on \
                 again, later"
            );
            Problem::new(Code::DiskFailed, detail).retry_after(LATER)
        }
        Refusal::OutcomeUnknown => {
            let detail = "it is not known whether the rows from next_index on were taken; send them \
                          again: rows that come twice are stored once";
            Problem::new(Code::OutcomeUnknown, detail).retry_after(SOON)
        }
        Refusal::Closed => draining(),
        other => Problem::new(Code::Internal, format!("rows were refused: {other}")),
    }
}

fn draining() -> Problem {
    let detail = "the daemon is stopping; send the rows to the one that follows it";
    Problem::new(Code::Draining, detail).retry_after(SOON)
}

fn circuit_open<R: OfKind>(lane: &Lane<R>) -> Problem {
    let error = lane.coordinator.last_error().unwrap_or_default();
    let detail = format!("the store does not answer, and the queue is in memory: {error}");
    Problem::new(Code::CircuitOpen, detail).retry_after(LATER)
}
