//! What fails for a while: told when it begins and when it is over, and to health in between.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log::log;

/// Something that may fail again and again until it works.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Failing>);

#[derive(Debug, Default)]
struct Failing {
    error: Option<String>,
    times: u64,
}

impl Trouble {
    fn lock(&self) -> MutexGuard<'_, Failing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest error, if it does not work since.
    pub(super) fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    /// It has failed, or works. The first failure (`what`, where nobody else tells of it) and the
    /// first success after it are logged, with how many failures there were.
    pub(super) fn note(
        &self,
        coord_id: &str,
        what: Option<&'static str>,
        over: &'static str,
        error: Option<String>,
    ) {
        let mut failing = self.lock();
        let was_failing = failing.error.is_some();
        if error.is_none() && !was_failing {
            return;
        }
        failing.error.clone_from(&error);
        failing.times += 1;
        let times = failing.times;
        if error.is_none() {
            failing.times = 0;
        }
        drop(failing);
        match (error, what) {
            (None, _) => log(|| tracing::warn!(%coord_id, failures = times - 1, "{over}")),
            (Some(error), Some(what)) if !was_failing => {
                log(|| tracing::error!(%coord_id, %error, "{what}"));
            }
            _ => {}
        }
    }
}
