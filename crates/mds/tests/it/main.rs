//! The command line as a user meets it: the real binary, run in a folder of its own with an
//! environment of its own.

mod config;
mod help;
mod run;
