//! What the write path promises, promise by promise, in virtual time.
//!
//! Each file tries to break one of them. Nothing here waits on the wall clock: the clock stands
//! still while anything can run and jumps to the next timer otherwise, so that times are exact.

mod bad_rows;
mod batching;
mod corners;
mod deadlines;
mod deadlines_on_disk;
mod fates;
mod flushing;
mod letters;
mod outages;
mod overflow;
mod pressure;
mod scaling;
mod stopping;
mod survival;
