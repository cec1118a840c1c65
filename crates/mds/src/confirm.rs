//! Asking before something is gone for good.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit::Usage;

/// Whether to go on: with `yes` at once, on a terminal if the user says so.
///
/// # Errors
///
/// [`Usage`] where there is nobody to ask; `what` says what would have been done.
pub(crate) fn confirm(what: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(Usage::new(format!("{what}; add --yes to do so")).into());
    }
    let mut err = io::stderr();
    write!(err, "{what}. Go on? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
