//! The progress bar: on standard error, and only on a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it is redrawn.
const REDRAW: Duration = Duration::from_millis(120);

/// A bar that follows what is read and settled, until it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    /// Bytes read, by all readers together.
    pub(super) position: Arc<AtomicU64>,
}

impl Progress {
    /// A bar over `length` bytes; without a length it counts only. Hidden where nobody looks.
    pub(super) fn new(length: Option<u64>, quiet: bool) -> Self {
        let hidden = quiet || !std::io::stderr().is_terminal();
        let target = if hidden {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(length, target);
        let template = if length.is_some() {
            "{bar:30} {percent:>3}%  {msg}  eta {eta}"
        } else {
            "{spinner} {bytes} read  {msg}"
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
    pub(super) async fn follow(&self, message: impl Fn() -> String) {
        if self.bar.is_hidden() {
            std::future::pending::<()>().await;
        }
        loop {
            self.bar.set_position(self.position.load(Ordering::Relaxed));
            self.bar.set_message(message());
            tokio::time::sleep(REDRAW).await;
        }
    }

    /// Prints a line above the bar.
    pub(super) fn println(&self, line: &str) {
        self.bar.suspend(|| crate::output::note(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
