//! Why a request was not done: the one table of all reasons, as answers of HTTP.
//!
//! Bodies are problem details (RFC 9457) with a `code` of a closed set, so that a program need not read
//! sentences. What depends on the moment says when to come again, in whole seconds as `Retry-After` and
//! exactly as `retry_after_ms`.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// A reason, of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    QueueFull,
    Busy,
    CircuitOpen,
    DiskFailed,
    OutcomeUnknown,
    Draining,
    BodyTooLarge,
    UnpackedTooLarge,
    SlowBody,
    UnsupportedMediaType,
    UnsupportedEncoding,
    AckUnavailable,
    EmptyBody,
    BadGzip,
    Malformed,
    BadParameter,
    BadCursor,
    StoreUnavailable,
    NotFound,
    MethodNotAllowed,
    Internal,
}

impl Code {
    /// The word for programs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Busy => "busy",
            Self::CircuitOpen => "circuit_open",
            Self::DiskFailed => "disk_failed",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Draining => "draining",
            Self::BodyTooLarge => "body_too_large",
            Self::UnpackedTooLarge => "unpacked_too_large",
            Self::SlowBody => "slow_body",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::AckUnavailable => "ack_unavailable",
            Self::EmptyBody => "empty_body",
            Self::BadGzip => "bad_gzip",
            Self::Malformed => "malformed",
            Self::BadParameter => "bad_parameter",
            Self::BadCursor => "bad_cursor",
            Self::StoreUnavailable => "store_unavailable",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Internal => "internal",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::QueueFull | Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::CircuitOpen
            | Self::DiskFailed
            | Self::OutcomeUnknown
            | Self::Draining
            | Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge | Self::UnpackedTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::AckUnavailable => StatusCode::CONFLICT,
            Self::EmptyBody
            | Self::BadGzip
            | Self::Malformed
            | Self::BadParameter
            | Self::BadCursor => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request was not done, or not wholly.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    retry_after: Option<Duration>,
    more: Map<String, Value>,
}

impl Problem {
    /// A reason with a sentence for people, which says what to do.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: None,
            more: Map::new(),
        }
    }

    /// A parameter that has something wrong with it.
    pub(crate) fn bad_parameter(name: &str, why: impl std::fmt::Display) -> Self {
        let detail = format!("the parameter {name}: {why}");
        Self::new(Code::BadParameter, detail).with("parameter", name)
    }

    /// When it is worth to come again.
    pub(crate) fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// Something that a program wants to know.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let mut body = Map::new();
        body.insert("type".to_owned(), "about:blank".into());
        let title = status.canonical_reason().unwrap_or_default();
        body.insert("title".to_owned(), title.into());
        body.insert("status".to_owned(), status.as_u16().into());
        body.insert("code".to_owned(), self.code.as_str().into());
        body.insert("detail".to_owned(), self.detail.into());
        if let Some(time) = self.retry_after {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            body.insert("retry_after_ms".to_owned(), millis.into());
        }
        body.extend(self.more);
        let mut response = (status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        if let Some(time) = self.retry_after {
            let seconds = time.as_millis().div_ceil(1_000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(RETRY_AFTER, value);
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
