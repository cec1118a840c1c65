//! Printing: results on standard output, everything else on standard error.
//!
//! A reader that has had enough (`mds query ... | head`) closes the pipe. That ends the command
//! with success and without a message; `println!` would panic.

use std::error::Error;
use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table};

/// Buffered standard output; call [`Out::finish`] at the end.
#[derive(Debug)]
pub(crate) struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    /// Takes standard output.
    pub(crate) fn stdout() -> Self {
        Self(BufWriter::with_capacity(64 * 1024, io::stdout().lock()))
    }

    /// Writes what is buffered.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.flush().context("cannot write to standard output")
    }

    /// Prints a value as JSON on a line of its own.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> anyhow::Result<()> {
        writeln!(self, "{value}").context("cannot write to standard output")
    }

    /// Prints a table.
    pub(crate) fn table(&mut self, table: &Table) -> anyhow::Result<()> {
        writeln!(self, "{}", table.trim_fmt()).context("cannot write to standard output")
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        StdoutClosed::error()
    } else {
        error
    }
}

/// Nobody reads standard output any more.
#[derive(Debug)]
pub(crate) struct StdoutClosed;

impl StdoutClosed {
    /// The I/O error that stands for it.
    pub(crate) fn error() -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, Self)
    }

    /// Whether a cause of an error is this.
    pub(crate) fn is(cause: &(dyn Error + 'static)) -> bool {
        let inner = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        inner.is_some_and(<dyn Error + Send + Sync>::is::<Self>)
    }
}

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl Error for StdoutClosed {}

/// The result of printing, where the work itself is done: that nobody reads any more of it is no
/// error, and changes nothing about how the run ended.
pub(crate) fn unless_closed(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    match printed {
        Err(error) if error.chain().any(StdoutClosed::is) => Ok(()),
        other => other,
    }
}

/// Says something about the run on standard error.
pub(crate) fn note(text: impl fmt::Display) {
    // Nobody reads it when standard error is gone, and there is nowhere else to say so.
    drop(writeln!(io::stderr(), "{text}"));
}

/// A plain table with these columns: two spaces between them, no lines.
///
/// A name that begins with `>` is a column of numbers, set flush right.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(columns.iter().map(|c| c.trim_start_matches('>')));
    for (column, name) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A number with a comma between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(943_727), "943,727");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
