//! The command line as a user meets it: the real binary, run in a folder of its own with an
//! environment of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose preparation fails has failed; clippy knows only #[test] functions"
)]

mod admin;
mod adopt;
mod audit;
mod bench;
mod config;
mod contract;
mod data;
mod demo;
mod dlq;
mod export;
mod help;
mod ingest;
mod postgres;
mod process;
mod reading;
mod real_files;
mod replay;
mod run;
mod secrets;
mod selftest;
mod serve;
mod streams;
mod wal;
