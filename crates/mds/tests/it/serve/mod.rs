//! `mds serve`: what a producer is told, and what is in the store after it.

mod daemon;
mod intake;
mod kills;
mod life;
mod pressure;
