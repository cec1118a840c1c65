//! The queue without its threads, on a storage that fails: everything here can be repeated to the
//! last byte.

mod bytes;
mod errors;
mod flips;
mod inspect;
mod power;
mod reuse;
mod world;
