//! Reading a body: how long it may be, how long it may take, and how much memory all of them have.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::SemaphorePermit;

use crate::app::{App, PIECE};
use crate::problem::{Code, Problem};

const GZIP_MAGIC: &[u8] = b"\x1F\x8B";
const ZIP_MAGIC: &[u8] = b"PK";

/// The bytes of a body as they came, and the memory that they take.
pub(super) async fn read<'a>(
    app: &'a App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, SemaphorePermit<'a>), Problem> {
    let limits = &app.shared.limits;
    let is_gzip = is_gzip(headers)?;
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let length = length.and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length > limits.body_bytes) {
        return Err(too_large(limits.body_bytes));
    }
    // What is unpacked may be as long as the limit, whatever comes.
    let most = match length {
        Some(length) if !is_gzip => length,
        _ => limits.body_bytes,
    };
    let memory = memory(app, most).await?;
    let limited = Limited::new(body, limits.body_bytes);
    let collected = tokio::time::timeout(limits.request_timeout, limited.collect()).await;
    let Ok(collected) = collected else {
        let detail = format!(
            "the body did not arrive within {} s",
            limits.request_timeout.as_secs()
        );
        return Err(Problem::new(Code::SlowBody, detail));
    };
    let bytes = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large(limits.body_bytes)),
        Err(error) => {
            let detail = format!("the body did not arrive whole: {error}");
            return Err(Problem::new(Code::Malformed, detail));
        }
    };
    check(&bytes, is_gzip)?;
    Ok((bytes, memory))
}

async fn memory(app: &App, bytes: usize) -> Result<SemaphorePermit<'_>, Problem> {
    let pieces = u32::try_from(bytes.div_ceil(PIECE).max(1)).unwrap_or(u32::MAX);
    let most = app.shared.limits.memory_bytes / PIECE;
    let pieces = pieces.min(u32::try_from(most.max(1)).unwrap_or(u32::MAX));
    let wait = app.shared.limits.submit_wait;
    let acquired = tokio::time::timeout(wait, app.shared.memory.acquire_many(pieces)).await;
    if let Ok(Ok(permit)) = acquired {
        return Ok(permit);
    }
    let detail = "other requests take all the memory that bodies may; come again";
    Err(Problem::new(Code::Busy, detail).retry_after(wait))
}

/// Whether the body is said to be packed.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else {
        return Ok(false);
    };
    match encoding.to_str().unwrap_or_default().trim() {
        "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        other => {
            let detail = format!("the content encoding {other:?} is not taken; gzip is");
            Err(Problem::new(Code::UnsupportedEncoding, detail))
        }
    }
}

fn check(bytes: &[u8], is_gzip: bool) -> Result<(), Problem> {
    if bytes.is_empty() {
        let detail = "the body is empty; send rows as NDJSON, as a JSON array or as CSV";
        return Err(Problem::new(Code::EmptyBody, detail));
    }
    if is_gzip && !bytes.starts_with(GZIP_MAGIC) {
        let detail = "the content encoding says gzip, and the body is none";
        return Err(Problem::new(Code::BadGzip, detail));
    }
    if bytes.starts_with(ZIP_MAGIC) {
        let detail = "zip archives are not taken; send their files one by one";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    Ok(())
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body is longer than {limit} bytes; send the rows in parts");
    Problem::new(Code::BodyTooLarge, detail).with("limit_bytes", limit)
}
