//! The vendors' formats, one file per family.

pub(crate) mod binance;
pub(crate) mod bitfinex;
pub(crate) mod sec;
mod series;
pub(crate) mod stooq;
pub(crate) mod yahoo;
