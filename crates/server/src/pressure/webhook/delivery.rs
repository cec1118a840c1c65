//! When what is sent: retries, patience, and why a state may come twice.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Crossing;
use super::endpoint::Failure;

/// How patiently it is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Tries after the first.
    pub(super) retries: u32,
    /// The wait before the first of them.
    pub(super) backoff: Duration,
    /// How long until the next round after that.
    pub(super) again: Duration,
}

impl Plan {
    /// The wait after this many failures in a row: from half of what it doubles to, up to all of it,
    /// so that receivers are not hit by all senders at once.
    fn wait(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let most = self.again.max(self.backoff);
        let wait = self.backoff.saturating_mul(doubled).min(most);
        wait.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Where states come from and go to.
pub(super) trait Outlet: Send + Sync + 'static {
    type State: Send;

    /// The state now; `None` once there is none any more.
    fn now(&self, crossing: &Crossing) -> Option<Self::State>;
    /// One try, in bounded time.
    fn post(&self, state: Self::State) -> impl Future<Output = Result<(), Failure>> + Send;
    /// A state was not delivered, since there is a newer one.
    fn superseded(&self);
    /// A state was tried as often as the plan allows.
    fn given_up(&self, failure: &Failure);
    /// A state has arrived.
    fn delivered(&self);
}

/// How a state has ended.
enum Ended {
    Delivered,
    Superseded,
    GivenUp,
    NobodyThere,
}

/// What is remembered from one state to the next.
#[derive(Default)]
struct Memory {
    /// Tries in a row that have failed, of whatever states, since one arrived or was given up.
    failures: u32,
    /// Whether the receiver may still come upon a state whose answer did not come in time, after
    /// one that was delivered since.
    is_unsure: bool,
}

/// Delivers the state at the start, and after each mark. A try is never cut short by a newer state:
/// the older one could arrive after it.
pub(super) async fn run(mut marks: watch::Receiver<Crossing>, plan: Plan, outlet: impl Outlet) {
    let mut memory = Memory::default();
    loop {
        let mut is_last_word = false;
        match one(&mut marks, &plan, &outlet, &mut memory).await {
            Ended::NobodyThere => return,
            Ended::Superseded => {
                outlet.superseded();
                continue;
            }
            Ended::Delivered => {
                outlet.delivered();
                is_last_word = !memory.is_unsure;
                memory = Memory::default();
            }
            Ended::GivenUp => memory.failures = 0,
        }
        tokio::select! {
            changed = marks.changed() => if changed.is_err() {
                return;
            },
            () = sleep(plan.again), if !is_last_word => {}
        }
    }
}

/// Tries the state until it is delivered, given up, or there is a newer one.
async fn one<O: Outlet>(
    marks: &mut watch::Receiver<Crossing>,
    plan: &Plan,
    outlet: &O,
    memory: &mut Memory,
) -> Ended {
    let crossing = marks.borrow_and_update().clone();
    loop {
        let Some(state) = outlet.now(&crossing) else {
            return Ended::NobodyThere;
        };
        let Err(failure) = outlet.post(state).await else {
            return Ended::Delivered;
        };
        memory.is_unsure |= failure.may_have_arrived();
        memory.failures += 1;
        if memory.failures > plan.retries {
            outlet.given_up(&failure);
            return Ended::GivenUp;
        }
        tokio::select! {
            biased;
            changed = marks.changed() => return match changed {
                Ok(()) => Ended::Superseded,
                Err(_) => Ended::NobodyThere,
            },
            () = sleep(plan.wait(memory.failures)) => {}
        }
    }
}

#[cfg(test)]
mod tests;
