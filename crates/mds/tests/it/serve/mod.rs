//! `mds serve`: what a producer is told, what is in the store after it, and what is read of it.

pub(crate) mod daemon;
mod intake;
mod kills;
mod life;
mod pressure;
mod readers;
mod reads;
mod stores;
mod webhook;
