//! The progress bar: on standard error, and only on a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::grouped;

/// How often it is redrawn.
const REDRAW: Duration = Duration::from_millis(120);

/// A bar that follows what is done, until it is finished or dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// How much is done, in the unit of the length.
    pub(crate) position: Arc<AtomicU64>,
}

impl Progress {
    /// A bar over `length` bytes or rows; without a length it counts bytes only. Hidden where nobody
    /// looks.
    pub(crate) fn new(length: Option<u64>, quiet: bool) -> Self {
        let hidden = quiet || !std::io::stderr().is_terminal();
        let target = if hidden {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(length, target);
        let template = if length.is_some() {
            "{bar:20} {percent:>3}%  eta {eta}  {wide_msg}"
        } else {
            "{spinner} {bytes} read  {wide_msg}"
        };
        // The templates are ours and correct; a bar without style is no reason to stop.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            position: Arc::default(),
        }
    }

    /// Shows the state every now and then, for as long as it is polled.
    pub(crate) async fn follow(&self, message: impl Fn() -> String) {
        if self.bar.is_hidden() {
            std::future::pending::<()>().await;
        }
        loop {
            self.bar.set_position(self.position.load(Ordering::Relaxed));
            self.bar.set_message(message());
            tokio::time::sleep(REDRAW).await;
        }
    }

    /// How many rows are in, and how fast they came.
    pub(crate) fn rows(&self, rows: u64) -> String {
        let rate = super::report::rate(rows, self.bar.elapsed().as_secs_f64());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for people"
        )]
        let rate = rate as u64;
        format!("{} rows in, {} rows/s", grouped(rows), grouped(rate))
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Prints a line above the bar.
    pub(crate) fn println(&self, line: &str) {
        self.bar.suspend(|| crate::output::note(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
