//! Tests of the readers over text in the vendors' shapes.

mod bitfinex;
mod ndjson;
mod support;
