//! Dead letters: the records that were given up, in a file that people can read.

mod reason;

pub use reason::{Reason, ReasonError};
