//! When what is sent, in virtual time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use hyper::StatusCode;
use tokio::time::Instant;

use super::*;

const PLAN: Plan = Plan {
    retries: 2,
    backoff: Duration::from_secs(1),
    again: Duration::from_secs(30),
};

/// What the receiver does with a try: takes it, or fails after some seconds.
type Deed = (u64, Option<fn() -> Failure>);

const TAKES: Deed = (0, None);
const REFUSES: Deed = (0, Some(|| Failure::Status(StatusCode::SERVICE_UNAVAILABLE)));
const IS_AWAY: Deed = (0, Some(|| Failure::Connect(io::Error::other("away"))));
const HANGS: Deed = (5, Some(|| Failure::Timeout));

/// A coordinator whose level is a word, and a receiver that does as it is told.
#[derive(Default)]
struct Scene {
    level: &'static str,
    deeds: VecDeque<Deed>,
    /// What was tried, and what the loop has said about it.
    seen: Vec<String>,
}

#[derive(Clone)]
struct Fake {
    scene: Arc<Mutex<Scene>>,
    start: Instant,
    mark: Arc<watch::Sender<Crossing>>,
}

impl Fake {
    /// Starts the loop; the receiver does these things, and then takes everything.
    fn start(deeds: &[Deed]) -> Self {
        let (mark, marks) = watch::channel(None);
        let scene = Scene {
            level: "ok",
            deeds: deeds.iter().copied().collect(),
            seen: Vec::new(),
        };
        let fake = Self {
            scene: Arc::new(Mutex::new(scene)),
            start: Instant::now(),
            mark: Arc::new(mark),
        };
        tokio::spawn(run(marks, PLAN, fake.clone()));
        fake
    }

    fn cross(&self, level: &'static str) {
        self.scene.lock().unwrap().level = level;
        self.mark.send_replace(None);
    }

    fn note(&self, what: &str) {
        self.scene.lock().unwrap().seen.push(what.to_owned());
    }

    /// What happens until `seconds` after the start.
    async fn until(&self, seconds: u64) -> Vec<String> {
        tokio::time::sleep_until(self.start + Duration::from_secs(seconds)).await;
        std::mem::take(&mut self.scene.lock().unwrap().seen)
    }
}

impl Outlet for Fake {
    type State = &'static str;

    fn now(&self, _: &Crossing) -> Option<&'static str> {
        Some(self.scene.lock().unwrap().level)
    }

    async fn post(&self, state: &'static str) -> Result<(), Failure> {
        self.note(state);
        let deed = self.scene.lock().unwrap().deeds.pop_front();
        let (seconds, fails) = deed.unwrap_or(TAKES);
        sleep(Duration::from_secs(seconds)).await;
        fails.map_or(Ok(()), |failure| Err(failure()))
    }

    fn superseded(&self) {
        self.note("superseded");
    }

    fn given_up(&self, failure: &Failure) {
        self.note(&format!("given up, {failure}"));
    }

    fn delivered(&self) {
        self.note("delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn the_state_at_the_start_and_each_one_after_it_comes_once() {
    let fake = Fake::start(&[]);
    assert_eq!(fake.until(1_000).await, ["ok", "delivered"]);
    fake.cross("hard");
    assert_eq!(fake.until(2_000).await, ["hard", "delivered"]);
    fake.cross("soft");
    fake.cross("ok");
    assert_eq!(fake.until(3_000).await, ["ok", "delivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_given_up_is_followed_by_the_one_of_then_until_one_arrives() {
    let fake = Fake::start(&[REFUSES, IS_AWAY, REFUSES, REFUSES, REFUSES, IS_AWAY]);
    let given_up = "given up, it answered 503 Service Unavailable";
    // Waits of up to 1 s and 2 s.
    assert_eq!(fake.until(4).await, ["ok", "ok", "ok", given_up]);
    // Nobody has told the loop of it: the state is read when it is sent.
    fake.scene.lock().unwrap().level = "soft";
    let given_up = "given up, it cannot be reached: away";
    assert_eq!(fake.until(30).await, [""; 0]);
    assert_eq!(fake.until(37).await, ["soft", "soft", "soft", given_up]);
    assert_eq!(fake.until(1_000).await, ["soft", "delivered"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_give_up_a_crossing_is_not_kept_waiting() {
    let fake = Fake::start(&[REFUSES, REFUSES, REFUSES]);
    assert_eq!(fake.until(4).await.len(), 4);
    fake.cross("hard");
    assert_eq!(fake.until(5).await, ["hard", "delivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_state_ends_the_waiting_for_an_older_one() {
    let fake = Fake::start(&[TAKES, REFUSES, REFUSES]);
    assert_eq!(fake.until(1).await, ["ok", "delivered"]);
    fake.cross("hard");
    tokio::task::yield_now().await;
    fake.cross("ok");
    assert_eq!(
        fake.until(10).await,
        ["hard", "superseded", "ok", "ok", "delivered"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_nothing_is_noticed_although_each_state_is_soon_old() {
    let fake = Fake::start(&[REFUSES; 6]);
    for level in ["hard", "ok", "hard", "ok", "hard"] {
        tokio::task::yield_now().await;
        fake.cross(level);
    }
    let seen = fake.until(10).await;
    let given_up = seen.iter().filter(|what| what.starts_with("given up"));
    assert_eq!(given_up.count(), 2, "{seen:?}");
    assert_eq!(fake.until(100).await, ["hard", "delivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_state_never_overtakes_an_older_one() {
    let fake = Fake::start(&[HANGS]);
    assert_eq!(fake.until(1).await, ["ok"]);
    fake.cross("hard");
    assert_eq!(fake.until(4).await, [""; 0]);
    assert_eq!(fake.until(6).await, ["superseded", "hard", "delivered"]);
    // The receiver may come upon the one that hung after it has taken the newer one.
    assert_eq!(fake.until(30).await, [""; 0]);
    assert_eq!(fake.until(1_000).await, ["hard", "delivered"]);
}

#[test]
fn waits_double_up_to_a_bound() {
    for (failures, most) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (100, 30)] {
        let (wait, most) = (PLAN.wait(failures), Duration::from_secs(most));
        assert!(wait >= most / 2 && wait <= most, "{failures}: {wait:?}");
    }
    let patient = Plan {
        backoff: Duration::from_secs(60),
        ..PLAN
    };
    assert!(patient.wait(9) >= Duration::from_secs(30));
    assert!(patient.wait(9) <= Duration::from_secs(60));
}
