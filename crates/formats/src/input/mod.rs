//! From a file, an archive or a stream to lines.
//!
//! | module | does |
//! |---|---|
//! | `source` | opens, looks behind gzip and zip by their magic bytes |
//! | `archive` | the entries of a zip archive |
//! | `lines` | lines with numbers, in bounded memory |
//! | `name` | what a file name says |

mod archive;
mod lines;
mod name;
mod source;

pub(crate) use lines::{Line, Lines};
pub(crate) use name::Name;
pub(crate) use source::Part;
pub use source::{Limits, Source};
