//! Streaming readers of vendor files: a file in, records of one kind out, with a word on every row;
//! and the writer of our own form.
//!
//! This crate is *not* a place for decisions about records: it does not de-duplicate, repair, rank
//! or write. It says for each row whether it is a record, invalid or skipped, and where it stood.
//!
//! ```
//! use mds_core::Bar;
//! use mds_formats::{Limits, Options, Source, Verdict, reader};
//!
//! let candles = "1388534520000,730.24,730.24,730.24,730.24,0.0105339\r\n\
//!                1388534700000,730.51,730.89,730.89,730.24,1e-7\r\n\
//!                1388534760000,730.52,oops,730.52,730.51,0.3906739\r\n";
//! let source = Source::from_reader(
//!     "bitfinex-btcusd-1m.csv",
//!     std::io::Cursor::new(candles),
//!     Limits::default(),
//! )
//! .unwrap();
//! let mut reader = reader::<Bar>(source, &Options::default()).unwrap();
//! assert_eq!(reader.format().name, "bitfinex");
//!
//! let mut verdicts = Vec::new();
//! while reader.next_chunk(&mut verdicts, 1_000).unwrap() > 0 {}
//!
//! let Verdict::Record(row) = &verdicts[1] else { panic!() };
//! assert_eq!(row.sourced.record.symbol.as_str(), "BTCUSD");
//! assert_eq!(row.sourced.record.volume, Some(1e-7));
//! assert_eq!(row.ordinal, 1);
//! let Verdict::Invalid(bad) = &verdicts[2] else { panic!() };
//! assert_eq!((bad.origin.line, bad.field.as_ref(), bad.value.as_str()), (3, "close_price", "oops"));
//! ```
//!
//! | type | is |
//! |---|---|
//! | [`Source`] | an opened file, archive or stream |
//! | [`Options`] | what the user says about it |
//! | [`reader`], [`Reader`] | the records of one kind, in chunks of [`Verdict`]s |
//! | [`detect()`] | which format an input has, and why |
//! | [`formats`], [`Format`] | the formats, for listings |
//! | [`RowWriter`] | records as text that reads back equal |
//!
//! # Guarantees
//!
//! - **Every row is told.** What the input holds is records plus invalid rows; what a format maps to
//!   no record is skipped with a reason, outside of that sum. Headers, preambles and blank lines are
//!   no rows.
//! - **One bad row costs one row**, with its line, its text, the field, the value and the rule.
//! - **What arrived is delivered.** A truncated or corrupt archive is an error after all whole rows
//!   before the damage.
//! - **Nothing is guessed.** Symbol, span and zone come from the file, from a file name of the
//!   vendor's own shape (then a note says so), or from an option; else opening fails and says what
//!   to pass.
//! - **Bounded memory**, by [`Limits`].
//! - No input makes a reader panic.
//!
//! # Adding a format
//!
//! Write `vendors/NAME.rs` with a `FORMAT` (name, detection, one opener per kind) and a decoder:
//! `LineDecoder` for lines, `RowDecoder` for delimited rows, `Decoder` for a whole document. Name
//! the file in `vendors/mod.rs` and the format in the list of `registry.rs`. Put a sample under
//! `testdata/NAME/`, its tests in `tests/it/NAME.rs`, its row in `docs/formats.md`.

mod decode;
mod delimited;
mod detect;
mod elements;
mod entries;
mod error;
mod input;
mod magic;
mod options;
mod own;
mod reader;
mod registry;
mod values;
mod vendors;
mod verdict;
mod write;

pub use detect::Detected;
pub use error::{Candidate, JsonFault, OpenError, ReadError};
pub use input::{Limits, Source};
pub use options::{
    EpochUnit, Mapping, MappingError, Options, TimeFormat, TimeFormatError, Zone, ZoneError,
};
pub use reader::{Reader, detect, reader};
pub use registry::{Format, Readable, UnknownFormat, formats};
pub use verdict::{InvalidRow, RAW_LIMIT, Row, Verdict};
pub use write::{REVISION, RowFormat, RowWriter};
