//! Exit codes, and how an error is told.
//!
//! | code | means |
//! |---|---|
//! | 0 | everything was done |
//! | 1 | it failed: the store, a file, a health check |
//! | 2 | wrong usage or settings, or an input that is not recognised; nothing was done |
//! | 3 | finished, but some rows were dead-lettered, dropped, refused or damaged |
//! | 130, 143 | stopped by SIGINT or SIGTERM, after what was accepted was settled |

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use mds_core::settings::SettingsError;

use crate::output::{self, StdoutClosed};

/// How a run of the program ended.
///
/// The order is that of severity, so that the worst of several files is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Everything was done.
    Success,
    /// Finished, but some rows were dead-lettered, dropped, refused or damaged.
    Incomplete,
    /// Wrong usage or settings, or an input that is not recognised.
    Usage,
    /// Anything else.
    Failure,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The code that the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The worse of two ends: 1 before 2 before 3, and a signal before all of them.
    #[must_use]
    pub(crate) fn worst(self, other: Self) -> Self {
        self.max(other)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What was typed, or set, cannot be done: nothing was tried.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl Usage {
    /// The mistake with this message, which says what to type instead.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// Prints what the parser of the command line has to say: an error, or the help that was asked for.
pub(crate) fn of_usage(error: &clap::Error) -> Exit {
    // Nobody reads it when the terminal is gone, and there is nowhere else to say so.
    drop(error.print());
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Success
    }
}

/// Prints an error with its causes on one line, and answers how the run ended.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    let exit = of_error(error);
    if exit != Exit::Success {
        output::note(format_args!("error: {}", told(error)));
    }
    exit
}

/// An error and its causes, without those that say nothing new: drivers wrap the same message
/// several times.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(bare(&cause)) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// What a driver says, without what it puts in front of it and behind it.
fn bare(cause: &str) -> &str {
    match cause.split_once(": ") {
        Some((head, rest)) if head.starts_with("Error code ") => rest,
        // A server's word, and then its details on lines of their own.
        Some(("ERROR" | "FATAL" | "PANIC", rest)) => rest.lines().next().unwrap_or_default(),
        // Only says that a server's word follows.
        None if cause == "db error" => "",
        _ => cause,
    }
}

fn of_error(error: &anyhow::Error) -> Exit {
    if error.is::<Usage>() || error.is::<SettingsError>() {
        Exit::Usage
    } else if error.chain().any(StdoutClosed::is) {
        // `mds query ... | head` got what it wanted.
        Exit::Success
    } else {
        Exit::Failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_end_counts() {
        use Exit::{Failure, Incomplete, Interrupted, Success, Terminated, Usage};
        let order = [Success, Incomplete, Usage, Failure, Interrupted, Terminated];
        for (i, better) in order.iter().enumerate() {
            for worse in &order[i..] {
                assert_eq!(better.worst(*worse), *worse);
                assert_eq!(worse.worst(*better), *worse);
            }
        }
        assert_eq!(order.map(Exit::code), [0, 3, 2, 1, 130, 143]);
    }

    #[test]
    fn causes_that_say_nothing_new_are_left_out() {
        let driver = anyhow::anyhow!("Error code 26: file is not a database")
            .context("file is not a database")
            .context("x.db: cannot open the store (SQLITE_NOTADB)");
        assert_eq!(
            told(&driver),
            "x.db: cannot open the store (SQLITE_NOTADB): file is not a database"
        );
        let server = anyhow::anyhow!("FATAL: no such role\nHINT: make one")
            .context("db error")
            .context("x: no such role; check the user (fatal, 28000)");
        let once = "x: no such role; check the user (fatal, 28000)";
        assert_eq!(told(&server), once);
        let other = anyhow::anyhow!("no such file").context("cannot open y");
        assert_eq!(told(&other), "cannot open y: no such file");
    }

    #[test]
    fn errors_know_their_code() {
        let usage = anyhow::Error::new(Usage::new("give a symbol")).context("query");
        assert_eq!(of_error(&usage), Exit::Usage);
        let cause = anyhow::anyhow!("no such file");
        assert_eq!(
            of_error(&cause.context(Usage::new("wrong file")).context("x")),
            Exit::Usage
        );
        assert_eq!(of_error(&anyhow::anyhow!("disk full")), Exit::Failure);
        let closed = anyhow::Error::new(StdoutClosed::error()).context("printing");
        assert_eq!(of_error(&closed), Exit::Success);
    }
}
