//! The tests of the write path against the real thing.

mod dead_letter;
mod sim;
mod support;
