//! What a request says about its rows, beside them.

use axum::extract::Query;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use mds_core::TenantId;
use mds_formats::{Format, Options};

use crate::problem::{Code, Problem};

/// After what the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// The rows are in the queue.
    Accepted,
    /// They are synced to the disk of the queue.
    Durable,
    /// They are in the store, or have ended otherwise.
    Written,
}

impl Ack {
    /// What is waited for where nothing is asked for.
    pub(super) const fn usual(is_durable: bool) -> Self {
        if is_durable {
            Self::Durable
        } else {
            Self::Accepted
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Durable => "durable",
            Self::Written => "written",
        }
    }
}

#[derive(Debug)]
pub(super) struct Parameters {
    pub(super) ack: Ack,
    pub(super) options: Options,
}

impl Parameters {
    pub(super) fn of(
        uri: &Uri,
        headers: &HeaderMap,
        is_durable: bool,
        tenant: TenantId,
    ) -> Result<Self, Problem> {
        let mut ack = None;
        let mut options = Options {
            format: format(headers)?,
            tenant: Some(tenant),
            ..Options::default()
        };
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::bad_parameter("?", error))?;
        for (name, value) in pairs {
            let wrong = |why: &dyn std::fmt::Display| Problem::bad_parameter(&name, why);
            match name.as_str() {
                "ack" => ack = Some(self::ack(&value)?),
                "vendor" => options.vendor = Some(value.as_str().into()),
                "symbol" => options.symbol = Some(value.as_str().into()),
                "timeframe" => options.timeframe = Some(value.parse().map_err(|e| wrong(&e))?),
                "tz" => options.tz = Some(value.parse().map_err(|e| wrong(&e))?),
                "time_format" => options.time_format = Some(value.parse().map_err(|e| wrong(&e))?),
                "map" => options.map.push(value.parse().map_err(|e| wrong(&e))?),
                _ => {
                    let known = "ack, vendor, symbol, timeframe, tz, time_format and map are known";
                    return Err(wrong(&known));
                }
            }
        }
        let ack = ack.unwrap_or(Ack::usual(is_durable));
        if ack == Ack::Durable && !is_durable {
            let detail = "the queue is in memory, so nothing can be said to be durable; start the \
                          daemon with --queue disk:DIR, or ask for ack=accepted";
            return Err(Problem::new(Code::AckUnavailable, detail));
        }
        Ok(Self { ack, options })
    }
}

fn ack(text: &str) -> Result<Ack, Problem> {
    match text {
        "accepted" => Ok(Ack::Accepted),
        "durable" => Ok(Ack::Durable),
        "written" => Ok(Ack::Written),
        _ => Err(Problem::bad_parameter(
            "ack",
            "accepted, durable or written",
        )),
    }
}

/// The format that the content type names; `None` where the body is to tell it.
fn format(headers: &HeaderMap) -> Result<Option<&'static Format>, Problem> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let given = given.to_str().unwrap_or("?");
    let essence = given.split(';').next().unwrap_or_default().trim();
    let name = match essence.to_ascii_lowercase().as_str() {
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/jsonlines" => "ndjson",
        "application/json" => "json",
        "text/csv" => "csv",
        // What curl says of a body that nothing was said about.
        "application/octet-stream" | "application/x-www-form-urlencoded" | "" => return Ok(None),
        _ => {
            let detail = format!(
                "the content type {essence:?} is not taken; application/x-ndjson, \
                 application/json and text/csv are"
            );
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
    };
    // All three are in the list of formats.
    Ok(name.parse().ok())
}
