//! How much pressure there is, and what a producer had better do: `GET /v1/backpressure`, and the same
//! as a stream of events.
//!
//! The object is that of every watermark crossing, with two figures more. For all producers of a
//! coordinator together: `advised_rows_per_second` is absent while there is no pressure, the rate at
//! which the queue drains at `soft`, half of it at `hard`, and 0 where it does not drain at all.
//! `seconds_to_full` is absent while the queue does not fill.

pub(crate) mod families;
pub(crate) mod meter;
mod stream;
pub(crate) mod webhook;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::Uri;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use mds_coordinator::CircuitState;
use mds_core::{BackpressureLevel, FeedbackEvent, Kind};
use serde::Serialize;
use serde_json::json;

use self::meter::{Meter, Sample};
pub(crate) use self::stream::stream;
use crate::app::{App, Shared};
use crate::lane::{Lane, MarketRecord, with_lane};
use crate::problem::Problem;

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The shortest and the longest time after which to come again.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);
/// The same where nothing is known.
const UNKNOWN: Duration = Duration::from_secs(5);

/// The pressure on one coordinator.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pressure {
    #[serde(flatten)]
    event: FeedbackEvent,
    advised_rows_per_second: Option<f64>,
    seconds_to_full: Option<f64>,
}

impl Pressure {
    fn new(event: FeedbackEvent, meter: &Meter, is_open: bool) -> Self {
        let drain = if is_open { 0.0 } else { meter.drain() };
        let advised_rows_per_second = match event.level {
            BackpressureLevel::Ok => None,
            BackpressureLevel::Soft => Some(drain),
            BackpressureLevel::Hard => Some(drain / 2.0),
        };
        let room = rows(event.capacity.saturating_sub(event.queue_size) as u64);
        let filling = meter.inflow() - drain;
        let seconds_to_full = if room <= 0.0 {
            Some(0.0)
        } else {
            (filling > 0.0).then(|| room / filling)
        };
        Self {
            event,
            advised_rows_per_second,
            seconds_to_full: seconds_to_full.filter(|seconds| seconds.is_finite()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count that a rate is made of")]
fn rows(count: u64) -> f64 {
    count as f64
}

/// One meter for each kind.
#[derive(Debug)]
pub(crate) struct Meters {
    since: Instant,
    meters: Mutex<[Meter; Kind::ALL.len()]>,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            meters: Mutex::default(),
        }
    }
}

impl Meters {
    fn of(&self, kind: Kind) -> Meter {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters[place(kind)]
    }
}

fn place(kind: Kind) -> usize {
    Kind::ALL.iter().position(|k| *k == kind).unwrap_or(0)
}

/// Looks at the counters again and again, until the daemon is gone.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        look(&shared);
    }
}

fn look(shared: &Arc<Shared>) {
    let at = shared.meters.since.elapsed();
    let samples = Kind::ALL.map(|kind| {
        let stats = with_lane!(shared.lanes, kind, lane => lane.coordinator.stats());
        Sample {
            at,
            taken: stats.submitted + stats.recovered,
            resolved: stats.resolved() + stats.damaged,
        }
    });
    let meters = &shared.meters.meters;
    let mut meters = meters.lock().unwrap_or_else(PoisonError::into_inner);
    for (meter, sample) in meters.iter_mut().zip(samples) {
        meter.note(sample);
    }
}

/// The pressure on the coordinator of a kind, now.
pub(crate) fn of(app: &App, kind: Kind) -> Pressure {
    let shared = &app.shared;
    let meter = shared.meters.of(kind);
    with_lane!(shared.lanes, kind, lane => reading(lane, lane.coordinator.pressure(), &meter))
}

/// The name under which the pressure on all coordinators is told as one.
const WORST: &str = "worst";

/// The pressure on all coordinators as one.
fn worst(app: &App) -> Pressure {
    worst_of(&Kind::ALL.map(|kind| of(app, kind)))
}

/// The highest level of any; of the others' figures the sums, and those for which a producer has the
/// least room.
fn worst_of(all: &[Pressure]) -> Pressure {
    let events = || all.iter().map(|p| &p.event);
    let level = events().map(|event| event.level);
    let level = level.max_by_key(|level| *level as u8).unwrap_or_default();
    let at_it = events().filter(|event| event.level == level);
    let names: Vec<&str> = at_it.map(|event| event.coordinator_id.as_str()).collect();
    let least =
        |figure: fn(&Pressure) -> Option<f64>| all.iter().filter_map(figure).reduce(f64::min);
    Pressure {
        event: FeedbackEvent::create(
            WORST,
            events().map(|event| event.queue_size).sum(),
            events().map(|event| event.capacity).sum(),
            level,
            Some(format!("{level}: {}", names.join(", "))),
            events().map(|event| event.ts).fold(0.0, f64::max),
        ),
        advised_rows_per_second: least(|p| p.advised_rows_per_second),
        seconds_to_full: least(|p| p.seconds_to_full),
    }
}

/// What an event that was published says, with the figures of now.
pub(crate) fn of_event(app: &App, event: &FeedbackEvent) -> Option<Pressure> {
    let kind: Kind = event.coordinator_id.parse().ok()?;
    let shared = &app.shared;
    let meter = shared.meters.of(kind);
    Some(with_lane!(shared.lanes, kind, lane => reading(lane, event.clone(), &meter)))
}

fn reading<R: MarketRecord>(lane: &Lane<R>, event: FeedbackEvent, meter: &Meter) -> Pressure {
    let is_open = lane.coordinator.health().circuit_state == CircuitState::Open;
    Pressure::new(event, meter, is_open)
}

/// When a producer whose rows found no room may come again: once the queue is below its low watermark,
/// at the rate at which it drains; a little later for some, so that not all come at once.
pub(crate) fn retry_after(app: &App, kind: Kind, wanted: usize) -> Duration {
    let pressure = of(app, kind);
    let share = app.shared.low_watermark;
    let drain = pressure
        .advised_rows_per_second
        .map_or(0.0, |_| app.shared.meters.of(kind).drain());
    let target = rows(pressure.event.capacity as u64) * share;
    let above = rows((pressure.event.queue_size + wanted) as u64) - target;
    let seconds = above / drain;
    let time = Duration::try_from_secs_f64(seconds.max(0.0));
    let time = time.unwrap_or(UNKNOWN).clamp(SOONEST, LATEST);
    time.mul_f64(1.0 + fastrand::f64() / 5.0)
}

/// Which coordinators are meant: the one that is named, or all.
pub(crate) fn wanted(uri: &Uri) -> Result<Vec<Kind>, Problem> {
    let bad = |name: &str, why: &str| Problem::bad_parameter(name, why);
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| bad("?", &error.to_string()))?;
    let mut kinds = Vec::new();
    for (name, value) in pairs {
        if name != "coordinator" {
            return Err(bad(&name, "only coordinator is known"));
        }
        match value.parse() {
            Ok(kind) => kinds.push(kind),
            Err(_) => return Err(bad(&name, "one of bars, options, fundamentals and news")),
        }
    }
    if kinds.is_empty() {
        kinds.extend(Kind::ALL);
    }
    Ok(kinds)
}

/// `GET /v1/backpressure`.
pub(crate) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let all: Vec<Pressure> = wanted(&uri)?
        .into_iter()
        .map(|kind| of(&app, kind))
        .collect();
    let worst = all
        .iter()
        .map(|p| p.event.level)
        .max_by_key(|level| *level as u8);
    let body = json!({
        "ts": all.first().map_or(0.0, |p| p.event.ts),
        "level": worst.unwrap_or_default(),
        "coordinators": all,
    });
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(size: usize, level: BackpressureLevel, is_open: bool) -> Pressure {
        let event = FeedbackEvent::create("bars", size, 1_000, level, None, 1.5);
        let mut meter = Meter::default();
        meter.note(Sample {
            at: Duration::from_secs(1),
            taken: 300,
            resolved: 200,
        });
        Pressure::new(event, &meter, is_open)
    }

    #[test]
    fn all_coordinators_as_one_are_as_bad_as_the_worst() {
        use BackpressureLevel::{Hard, Ok, Soft};
        let calm = pressure(0, Ok, false);
        let soft = pressure(700, Soft, false);
        let mut hard = pressure(900, Hard, false);
        "news".clone_into(&mut hard.event.coordinator_id);
        let told = |all: &[Pressure]| serde_json::to_string(&worst_of(all)).unwrap();
        assert_eq!(
            told(&[soft.clone(), calm.clone(), hard]),
            r#"{"coordinator_id":"worst","queue_size":1600,"capacity":3000,"level":"hard","source":"store","ts":1.5,"reason":"hard: news","utilization":0.5333333333333333,"advised_rows_per_second":100.0,"seconds_to_full":1.0}"#
        );
        assert_eq!(
            told(&[calm.clone(), calm]),
            r#"{"coordinator_id":"worst","queue_size":0,"capacity":2000,"level":"ok","source":"store","ts":1.5,"reason":"ok: bars, bars","utilization":0.0,"advised_rows_per_second":null,"seconds_to_full":10.0}"#
        );
        assert_eq!(worst_of(&[soft]).advised_rows_per_second, Some(200.0));
    }

    #[test]
    fn what_a_producer_had_better_do() {
        use BackpressureLevel::{Hard, Ok, Soft};
        let figures = |p: Pressure| (p.advised_rows_per_second, p.seconds_to_full);
        assert_eq!(figures(pressure(100, Ok, false)), (None, Some(9.0)));
        assert_eq!(
            figures(pressure(700, Soft, false)),
            (Some(200.0), Some(3.0))
        );
        assert_eq!(
            figures(pressure(900, Hard, false)),
            (Some(100.0), Some(1.0))
        );
        assert_eq!(figures(pressure(900, Hard, true)).0, Some(0.0));
        assert_eq!(figures(pressure(1_000, Hard, false)).1, Some(0.0));
        let idle = FeedbackEvent::create("bars", 5, 10, Ok, None, 1.5);
        let idle = Pressure::new(idle, &Meter::default(), false);
        assert_eq!(
            serde_json::to_string(&idle).unwrap(),
            r#"{"coordinator_id":"bars","queue_size":5,"capacity":10,"level":"ok","source":"store","ts":1.5,"reason":null,"utilization":0.5,"advised_rows_per_second":null,"seconds_to_full":null}"#
        );
    }
}
