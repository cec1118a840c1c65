//! Tests of the stores against real databases.

mod faults;
mod kill;
mod kinds;
mod merge;
mod migrate;
mod poison;
mod read;
mod support;
mod views;
