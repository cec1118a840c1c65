//! The tests of the write path against the real thing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a step that fails ends its test; seeds are told on standard output"
)]

mod breaker_model;
mod dead_letter;
mod disk;
mod durable;
mod durable_clock;
mod known_errors;
mod metrics;
mod promises;
mod queue_model;
mod sim;
mod spec_ledger;
mod spec_suites;
mod support;
