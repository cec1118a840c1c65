//! The values that every part of the market data store shares.
//!
//! This crate is *not* a place for work: it opens no file, no socket and no database, starts no
//! task and reads no environment variable. It says what a record is, which of two records wins,
//! what a sink answers and what kinds of errors exist.
//!
//! ```
//! use mds_core::{Bar, Record, Timestamp};
//!
//! let mut bar: Bar = serde_json::from_str(
//!     r#"{"vendor":"Binance","symbol":"btcusdt","timeframe":"1m",
//!         "ts":"2024-11-01T00:00:00Z","close_price":4.051}"#,
//! )
//! .unwrap();
//! bar.normalize();
//! bar.validate().unwrap();
//! assert_eq!(bar.symbol.as_str(), "BTCUSDT");
//! assert_eq!(bar.vendor.as_str(), "binance");
//! assert_eq!(bar.ts, Timestamp::from_micros(1_730_419_200_000_000));
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | the four kinds of records, their natural keys, validation and rank |
//! | [`ids`] | tenant, vendor, symbol, time frame and their normal forms |
//! | [`time`] | [`Timestamp`] (UTC microseconds) and [`Date`] |
//! | [`revision`] | the clock that gives revisions |
//! | [`sink`] | the [`Sink`] trait and its per-row answers |
//! | [`error`] | [`ErrorKind`] and [`SinkError`] |
//! | [`backpressure`] | pressure levels and feedback events |
//! | [`settings`] | the one table of settings |

pub mod backpressure;
pub mod error;
pub mod ids;
pub mod model;
pub mod revision;
pub mod settings;
pub mod sink;
pub mod time;

pub use backpressure::{BackpressureLevel, FeedbackEvent};
pub use error::{ErrorKind, SinkError};
pub use ids::{Symbol, TenantId, Timeframe, Vendor};
pub use model::{
    Bar, Column, ColumnRole, ColumnType, ENCODING, Fundamentals, Invalid, Kind, News, OptionSnap,
    OptionType, Origin, Record, Sourced, Value, put_text, take_text,
};
pub use revision::RevisionClock;
pub use sink::{Batch, RowOutcome, Sink, WriteReport};
pub use time::{Date, TimeError, Timestamp};
