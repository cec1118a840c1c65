//! The vendors' formats, one file per family.

pub(crate) mod bitfinex;
mod series;
