//! Writing to the log.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `event`, which logs. A subscriber of the program may panic (one that writes to a closed
/// pipe does); that must not end a worker, or the task that replaces workers.
pub(crate) fn log(event: impl FnOnce()) {
    // There is nowhere left to tell of it.
    drop(catch_unwind(AssertUnwindSafe(event)));
}
