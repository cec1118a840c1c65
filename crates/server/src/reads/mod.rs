//! `GET /v1/{bars,options,fundamentals,news}`: rows out, as `mds query` prints them; and `/v1/latest`,
//! `/v1/stats`.
//!
//! | module | is |
//! |---|---|
//! | `parameters` | what is asked for |
//! | `cursor` | where a page has ended |
//! | `reading` | the rows behind a cursor, from the store |
//! | `outlet` | sending to somebody who may be slow, or gone |
//! | `prices` | the last price of each instrument |
//! | `stats` | what the store holds, and what became of all rows |
//!
//! A page is read whole before it is sent, so that whoever reads it holds no snapshot of the store. All
//! rows at once (`limit=0`) are sent as they are read, from one snapshot.

mod cursor;
mod outlet;
mod parameters;
pub(crate) mod prices;
mod reading;
pub(crate) mod stats;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mds_core::{Kind, Record};
use mds_formats::{RowFormat, RowWriter};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use self::outlet::{Gone, Outlet};
use self::parameters::{Form, Parameters};
use self::reading::Reading;
use crate::app::App;
use crate::intake::{RequestId, SOON};
use crate::lane::MarketRecord;
use crate::listen::Cut;
use crate::problem::{Code, Problem};

/// Bytes of the records of a page: one that reaches it ends, whatever its limit is.
const PAGE_BYTES: usize = 16 << 20;

/// Rows of the kind `R`.
pub(crate) async fn rows<R: MarketRecord>(State(app): State<App>, request: Parts) -> Response {
    let id = RequestId::of(&app, &request.headers);
    id.named(Box::pin(answer_rows::<R>(&app, &request)).await)
}

/// The last price of each instrument.
pub(crate) async fn latest(State(app): State<App>, request: Parts) -> Response {
    let id = RequestId::of(&app, &request.headers);
    id.named(Box::pin(answer_latest(&app, &request)).await)
}

async fn answer_rows<R: MarketRecord>(app: &App, request: &Parts) -> Result<Response, Problem> {
    let tenant = app.shared.tenant;
    let mut asked = Parameters::of(request, parameters::OF_ROWS, R::KIND, tenant)?;
    let cursor = asked.cursor.take();
    let after = cursor.map(|text| cursor::read::<R>(&asked.query, &text));
    let after = after.transpose()?;
    let place = place(app)?;
    let limit = (asked.limit > 0).then_some(asked.limit as u64 + 1);
    let query = mds_store::Query {
        limit,
        ..asked.query.clone()
    };
    let reading = Reading::<R>::new(&app.shared.store, query, after);
    if limit.is_none() {
        return everything(reading, &asked, request, place).await;
    }
    let page = Page::read(reading, &asked).await?;
    let next = page.next.map(|key| cursor::write(&asked.query, &key));
    let text = match asked.form {
        Form::Rows(_) => page.text,
        Form::Json => document(page.text, next.as_deref()),
    };
    let mut response = send(text.into(), asked.form, request, place);
    if let Some(cursor) = next
        && let Ok(link) = HeaderValue::from_str(&link(&request.uri, &cursor))
    {
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// A page of rows.
struct Page<R> {
    text: Vec<u8>,
    /// The key of its last row, if there are more behind it.
    next: Option<R>,
}

impl<R: MarketRecord> Page<R> {
    async fn read(mut reading: Reading<R>, asked: &Parameters) -> Result<Self, Problem> {
        let format = asked.form.of_rows();
        let writer = RowWriter::new::<R>(format, asked.with_revision, Vec::new());
        let mut writer = writer.map_err(unwritten)?;
        let (mut rows, mut bytes, mut last) = (0, 0, None);
        let mut has_more = false;
        while !has_more {
            let chunk = reading.next().await?;
            if chunk.is_empty() {
                break;
            }
            let mut written = 0;
            for row in &chunk {
                has_more = rows == asked.limit || bytes >= PAGE_BYTES;
                if has_more {
                    break;
                }
                writer.write(row).map_err(unwritten)?;
                rows += 1;
                written += 1;
                bytes += row.bytes();
            }
            last = chunk[..written].last().map(cursor::key_of).or(last);
        }
        let text = writer.into_inner().map_err(unwritten)?;
        let next = last.filter(|_| has_more);
        Ok(Self { text, next })
    }
}

/// All rows that there are, as they come. What fails after the beginning breaks the answer off.
async fn everything<R: MarketRecord>(
    mut reading: Reading<R>,
    asked: &Parameters,
    request: &Parts,
    place: OwnedSemaphorePermit,
) -> Result<Response, Problem> {
    let chunk = reading.next().await?;
    let (mut outlet, body) = Outlet::open(place, request.extensions.get::<Cut>().cloned());
    let (format, with_revision) = (asked.form.of_rows(), asked.with_revision);
    let header = RowWriter::new::<R>(format, with_revision, Vec::new());
    let header = header.and_then(RowWriter::into_inner).map_err(unwritten)?;
    let pour = async move {
        outlet.put(header.into()).await?;
        let mut chunk = chunk;
        while !chunk.is_empty() {
            let text = text_of(&chunk, format, with_revision).map_err(|_| Gone)?;
            outlet.put(text.into()).await?;
            chunk = tokio::select! {
                next = reading.next() => next.map_err(|_| Gone)?,
                () = outlet.gone() => return Err(Gone),
            };
        }
        drop(reading);
        outlet.finish().await
    };
    drop(tokio::spawn(pour));
    Ok(response(asked.form, body))
}

fn text_of<R: Record>(
    rows: &[R],
    format: RowFormat,
    with_revision: bool,
) -> std::io::Result<Vec<u8>> {
    let mut writer = RowWriter::going_on(format, with_revision, Vec::new());
    for row in rows {
        writer.write(row)?;
    }
    writer.into_inner()
}

async fn answer_latest(app: &App, request: &Parts) -> Result<Response, Problem> {
    let tenant = app.shared.tenant;
    let asked = Parameters::of(request, parameters::OF_PRICES, Kind::Bars, tenant)?;
    let place = place(app)?;
    let prices = app.shared.store.latest(asked.query);
    let prices = reading::answer_of_store(prices).await?;
    few_enough(prices.len())?;
    let text = prices::write(asked.form.of_rows(), &prices).map_err(unwritten)?;
    let text = match asked.form {
        Form::Rows(_) => text,
        Form::Json => array(text, b"[", b"]"),
    };
    Ok(send(text.into(), asked.form, request, place))
}

/// Prices come all at once, so that they are bounded as the rows of a page are.
fn few_enough(prices: usize) -> Result<(), Problem> {
    let most = parameters::MOST_ROWS;
    if prices <= most {
        return Ok(());
    }
    let why = format!("{prices} instruments have prices, and {most} are given at once; name some");
    Err(Problem::bad_parameter("symbol", why))
}

/// A place among the reads.
fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    let reads = Arc::clone(&app.shared.reads);
    reads.try_acquire_owned().map_err(|_| {
        let most = app.shared.limits.reads;
        let detail = format!("{most} other reads are under way, which is as many as there may be");
        Problem::new(Code::Busy, detail).retry_after(SOON)
    })
}

/// Sends what is there whole.
fn send(text: Bytes, form: Form, request: &Parts, place: OwnedSemaphorePermit) -> Response {
    let length = text.len();
    let (mut outlet, body) = Outlet::open(place, request.extensions.get::<Cut>().cloned());
    drop(tokio::spawn(async move {
        outlet.put(text).await?;
        outlet.finish().await
    }));
    let mut response = response(form, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn response(form: Form, body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, form.content_type()),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}

/// JSON objects, one a line, as an array between two texts.
fn array(mut lines: Vec<u8>, before: &[u8], behind: &[u8]) -> Vec<u8> {
    // A line break within a text is written as \n, so that those that are there end lines.
    lines.pop();
    for byte in &mut lines {
        if *byte == b'\n' {
            *byte = b',';
        }
    }
    [before, &lines, behind].concat()
}

fn document(lines: Vec<u8>, next: Option<&str>) -> Vec<u8> {
    let next = next.map_or(Value::Null, Value::from);
    let behind = format!("],\"next_cursor\":{next}}}");
    array(lines, b"{\"rows\":[", behind.as_bytes())
}

/// The address of the next page: this one's, with another cursor.
fn link(uri: &Uri, cursor: &str) -> String {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut pairs: Vec<&str> = pairs
        .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="))
        .collect();
    let cursor = format!("cursor={cursor}");
    pairs.push(&cursor);
    format!("<{}?{}>; rel=\"next\"", uri.path(), pairs.join("&"))
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unwritten(error: std::io::Error) -> Problem {
    Problem::new(Code::Internal, format!("rows cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn prices_are_bounded() {
        assert!(few_enough(100_000).is_ok());
        let refused = few_enough(100_001).unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn the_next_page_has_the_address_of_this_one_with_another_cursor() {
        for (address, expected) in [
            ("/v1/bars", "</v1/bars?cursor=n>; rel=\"next\""),
            ("/v1/bars?cursor=o", "</v1/bars?cursor=n>; rel=\"next\""),
            (
                "/v1/bars?start=1%2B1&cursor=o&limit=2",
                "</v1/bars?start=1%2B1&limit=2&cursor=n>; rel=\"next\"",
            ),
        ] {
            assert_eq!(link(&address.parse().unwrap(), "n"), expected);
        }
    }
}
