//! Tests of the readers over text in the vendors' shapes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archives;
mod bitfinex;
mod content;
mod csv;
mod docs;
mod input;
mod junk;
mod ndjson;
mod real;
mod sec;
mod structure;
mod support;
mod times;
mod vendors;
