//! The pressure, sent to a webhook.
//!
//! - Nothing of it is in the way of a producer: a crossing marks what has changed, and everything
//!   else happens in tasks of their own.
//! - Latest wins: what is sent is read when it is sent, so nothing is ever queued, and the receiver
//!   hears of states in their order. One POST is under way for each coordinator at most.
//! - A state that could not be delivered is not the end: the state of then is sent every
//!   [`AGAIN`], until one arrives. A receiver that heard `hard` and not the `ok` after it would hold
//!   its producers back for good.
//! - No secret of the URL is ever shown: logs name the scheme, the host and the port.

mod delivery;
mod endpoint;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use mds_core::settings::SecretUrl;
use mds_core::{FeedbackEvent, Kind};
use tokio::sync::watch;

use self::delivery::{Outlet, Plan};
use self::endpoint::Endpoint;
pub use self::endpoint::WebhookError;
use super::families::{Families, PostResult};
use super::{Pressure, WORST, of, worst};
use crate::app::{App, Shared};

/// How often it is tried anew after a state was given up.
const AGAIN: Duration = Duration::from_secs(30);

/// Where the pressure is sent, and how patiently.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Where to: `http` or `https`; a user and password in it become `Authorization: Basic`.
    pub url: SecretUrl,
    /// How long one POST may take, from looking up the host to the answer.
    pub timeout: Duration,
    /// How often a failed POST is repeated at once.
    pub max_retries: u32,
    /// The wait before the first repetition; it doubles each time.
    pub backoff: Duration,
    /// Whose pressure is sent.
    pub choice: WebhookChoice,
}

/// Whose pressure a webhook is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookChoice {
    /// That of each coordinator, by itself.
    Each,
    /// That of one.
    One(Kind),
    /// That of all as one, at the highest level of any.
    Worst,
}

/// A webhook that can be reached as far as its URL goes.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    plan: Plan,
    choice: WebhookChoice,
}

impl Webhook {
    /// Looks at the URL, and loads the trusted certificates of this machine for `https`.
    ///
    /// # Errors
    ///
    /// The URL cannot be used, or there are no certificates to check the receiver's by.
    pub fn new(options: &WebhookOptions) -> Result<Self, WebhookError> {
        Ok(Self {
            endpoint: Endpoint::new(&options.url, options.timeout)?,
            plan: Plan {
                retries: options.max_retries,
                backoff: options.backoff,
                again: AGAIN,
            },
            choice: options.choice,
        })
    }
}

impl fmt::Display for Webhook {
    /// Scheme, host and port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// What one of the tasks sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    One(Kind),
    Worst,
}

impl Subject {
    const fn as_str(self) -> &'static str {
        match self {
            Self::One(kind) => kind.as_str(),
            Self::Worst => WORST,
        }
    }

    fn is_meant(self, event: &FeedbackEvent) -> bool {
        match self {
            Self::One(kind) => kind.as_str() == event.coordinator_id,
            Self::Worst => event.coordinator_id.parse::<Kind>().is_ok(),
        }
    }
}

/// The latest crossing; its reason goes into what is sent.
type Crossing = Option<Arc<FeedbackEvent>>;

/// Sends the state of each coordinator that is meant, and from then on each change, as long as the
/// daemon is there.
pub(crate) fn start(app: &App, webhook: Webhook) {
    let subjects: Vec<Subject> = match webhook.choice {
        WebhookChoice::Each => Kind::ALL.map(Subject::One).into(),
        WebhookChoice::One(kind) => vec![Subject::One(kind)],
        WebhookChoice::Worst => vec![Subject::Worst],
    };
    // Before the first reading: a crossing in between would be missed.
    let mut crossings = app.shared.bus.subscribe();
    let endpoint = Arc::new(webhook.endpoint);
    let mut marks = Vec::new();
    for subject in subjects {
        let (mark, marked) = watch::channel::<Crossing>(None);
        let families = app.shared.families.clone();
        families.watch(subject.as_str());
        let outlet = ToEndpoint {
            shared: Arc::downgrade(&app.shared),
            subject,
            families,
            endpoint: Arc::clone(&endpoint),
        };
        tokio::spawn(delivery::run(marked, webhook.plan, outlet));
        marks.push((subject, mark));
    }
    tokio::spawn(async move {
        while let Some(event) = crossings.recv().await {
            for (_, mark) in marks.iter().filter(|(subject, _)| subject.is_meant(&event)) {
                mark.send_replace(Some(Arc::clone(&event)));
            }
        }
    });
}

/// One subject on its way to the endpoint.
struct ToEndpoint {
    shared: Weak<Shared>,
    subject: Subject,
    families: Families,
    endpoint: Arc<Endpoint>,
}

impl Outlet for ToEndpoint {
    type State = Bytes;

    fn now(&self, crossing: &Crossing) -> Option<Bytes> {
        let shared = self.shared.upgrade()?;
        let app = App { shared };
        let state = match self.subject {
            Subject::One(kind) => with_reason(of(&app, kind), crossing.as_deref()),
            Subject::Worst => worst(&app),
        };
        // The fields are numbers, words and one sentence of our own.
        serde_json::to_vec(&state).ok().map(Bytes::from)
    }

    async fn post(&self, state: Bytes) -> Result<(), endpoint::Failure> {
        let posted = self.endpoint.post(state).await;
        let result = match &posted {
            Ok(()) => PostResult::Ok,
            Err(failure) => failure.result(),
        };
        self.families.posted(self.subject.as_str(), result);
        posted
    }

    fn superseded(&self) {
        let subject = self.subject.as_str();
        self.families.posted(subject, PostResult::Superseded);
    }

    fn given_up(&self, failure: &endpoint::Failure) {
        let (coordinator, endpoint) = (self.subject.as_str(), &self.endpoint);
        if self.families.set_failing(coordinator, true) {
            tracing::debug!(coordinator, %endpoint, %failure, "the webhook still fails");
        } else {
            let what = "the webhook does not take the pressure; it is tried again every 30 s";
            tracing::warn!(coordinator, %endpoint, %failure, "{what}");
        }
    }

    fn delivered(&self) {
        let coordinator = self.subject.as_str();
        if self.families.set_failing(coordinator, false) {
            let endpoint = &self.endpoint;
            tracing::info!(coordinator, %endpoint, "the webhook takes the pressure again");
        }
    }
}

/// A reading is a snapshot; where it shows what a crossing has led to, it says why it came to that.
fn with_reason(mut state: Pressure, crossing: Option<&FeedbackEvent>) -> Pressure {
    if let Some(crossing) = crossing
        && crossing.level == state.event.level
    {
        state.event.reason.clone_from(&crossing.reason);
    }
    state
}
