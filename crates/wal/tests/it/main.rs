//! The queue as its owner meets it: threads, real files, other processes.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose preparation fails has failed; clippy knows only #[test] functions"
)]

mod bounds;
mod keeper;
mod kill;
mod live;
mod sharing;
mod support;
mod threads;
mod versions;
