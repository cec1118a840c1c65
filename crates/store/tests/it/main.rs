//! Tests of the stores against real databases.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "a failed step fails the test; seeds are told; prices are compared exactly"
)]

#[macro_use]
mod support;

mod equal;
mod faults;
mod ingested;
mod kill;
mod kinds;
mod merge;
mod migrate;
mod poison;
mod postgres;
mod read;
mod views;
