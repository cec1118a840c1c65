//! What a read asks for.

use std::collections::BTreeSet;

use axum::extract::Query as Pairs;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use mds_core::{Kind, Symbol, TenantId, Timestamp, Vendor};
use mds_formats::RowFormat;
use mds_store::{Order, Query};

use crate::problem::Problem;

/// The parameters of rows.
pub(super) const OF_ROWS: &[&str] = &[
    "symbol",
    "vendor",
    "timeframe",
    "start",
    "end",
    "order",
    "limit",
    "cursor",
    "with_revision",
    "format",
];
/// The parameters of prices.
pub(super) const OF_PRICES: &[&str] = &["symbol", "vendor", "timeframe", "format"];

/// Rows of a page if nobody says how many.
const USUAL_ROWS: usize = 1_000;
/// Rows of a page at most, and prices.
pub(super) const MOST_ROWS: usize = 100_000;

/// In which form an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON document.
    Json,
    /// Rows one after the other.
    Rows(RowFormat),
}

impl Form {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Rows(RowFormat::Ndjson) => "application/x-ndjson",
            Self::Rows(RowFormat::Csv) => "text/csv",
        }
    }

    /// The form of the rows in it.
    pub(super) const fn of_rows(self) -> RowFormat {
        match self {
            Self::Json => RowFormat::Ndjson,
            Self::Rows(format) => format,
        }
    }
}

#[derive(Debug)]
pub(super) struct Parameters {
    /// Without a limit.
    pub(super) query: Query,
    /// Rows of the page; 0 means all that there are.
    pub(super) limit: usize,
    pub(super) cursor: Option<String>,
    pub(super) with_revision: bool,
    pub(super) form: Form,
}

impl Parameters {
    /// Those of a request that knows the names `known`.
    pub(super) fn of(
        request: &Parts,
        known: &[&str],
        kind: Kind,
        tenant: TenantId,
    ) -> Result<Self, Problem> {
        let accepted = request.headers.get(ACCEPT).and_then(|v| v.to_str().ok());
        let mut parameters = Self {
            query: Query {
                tenant: Some(tenant),
                ..Query::default()
            },
            limit: USUAL_ROWS,
            cursor: None,
            with_revision: false,
            form: accepted.map_or(Form::Json, accepted_form),
        };
        let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(&request.uri)
            .map_err(|error| Problem::bad_parameter("?", error))?;
        let mut seen = BTreeSet::new();
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) {
                return Err(unknown(&name, known));
            }
            let set = parameters.set(&name, &value, kind);
            set.map_err(|why| Problem::bad_parameter(&name, why))?;
            if name != "symbol" && !seen.insert(name.clone()) {
                return Err(Problem::bad_parameter(&name, "it is given twice"));
            }
        }
        parameters.check()
    }

    fn set(&mut self, name: &str, value: &str, kind: Kind) -> Result<(), String> {
        match name {
            "symbol" => {
                for symbol in value.split(',').map(Symbol::new) {
                    if symbol.is_empty() {
                        return Err("give a symbol, such as SPY, or several: SPY,QQQ".to_owned());
                    }
                    self.query.symbols.push(symbol);
                }
            }
            "vendor" => {
                let vendor = Some(Vendor::new(value)).filter(|vendor| !vendor.is_empty());
                self.query.vendor = Some(vendor.ok_or("give a vendor, such as binance")?);
            }
            "timeframe" if kind != Kind::Bars => {
                return Err(format!("it is for bars; {kind} have no span"));
            }
            "timeframe" => self.query.timeframe = Some(value.parse().map_err(text)?),
            "start" => self.query.start = Some(moment(value)?),
            "end" => self.query.end = Some(moment(value)?),
            "order" => {
                self.query.order = match value {
                    "asc" => Order::OldestFirst,
                    "desc" => Order::NewestFirst,
                    _ => return Err("asc or desc".to_owned()),
                }
            }
            "limit" => {
                let rows = value.parse().ok().filter(|rows| *rows <= MOST_ROWS);
                self.limit = rows.ok_or_else(|| {
                    format!("a number of rows up to {MOST_ROWS}, or 0 for all that there are")
                })?;
            }
            "cursor" => self.cursor = Some(value.to_owned()),
            "with_revision" => {
                self.with_revision = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err("true or false".to_owned()),
                }
            }
            _ => self.form = form(value).ok_or("json, ndjson or csv")?,
        }
        Ok(())
    }

    fn check(self) -> Result<Self, Problem> {
        if let (Some(start), Some(end)) = (self.query.start, self.query.end)
            && start >= end
        {
            let why = format!("no time lies between {start} and {end}; the end is exclusive");
            return Err(Problem::bad_parameter("end", why));
        }
        if self.limit == 0 && self.form == Form::Json {
            let why = "0 gives all rows that there are, as format=ndjson or format=csv";
            return Err(Problem::bad_parameter("limit", why));
        }
        Ok(self)
    }
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    if known.is_empty() {
        return Problem::bad_parameter(name, "there are no parameters here");
    }
    let why = format!("there is none of this name; there are {}", known.join(", "));
    Problem::bad_parameter(name, why)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn moment(value: &str) -> Result<Timestamp, String> {
    Timestamp::parse_or_midnight(value).map_err(|_| {
        "write a date in UTC, such as 2024-11-01, or a time with an offset, such as \
         2024-11-01T09:30:00Z; in an address a + is written %2B"
            .to_owned()
    })
}

fn form(name: &str) -> Option<Form> {
    match name {
        "json" => Some(Form::Json),
        "ndjson" => Some(Form::Rows(RowFormat::Ndjson)),
        "csv" => Some(Form::Rows(RowFormat::Csv)),
        _ => None,
    }
}

/// The first form that a header names; JSON where it names none that there is.
fn accepted_form(accept: &str) -> Form {
    let essences = accept
        .split(',')
        .filter_map(|one| one.split(';').next())
        .map(|essence| essence.trim().to_ascii_lowercase());
    let mut forms = essences.filter_map(|essence| match essence.as_str() {
        "application/json" => Some(Form::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            Some(Form::Rows(RowFormat::Ndjson))
        }
        "text/csv" => Some(Form::Rows(RowFormat::Csv)),
        _ => None,
    });
    forms.next().unwrap_or(Form::Json)
}
