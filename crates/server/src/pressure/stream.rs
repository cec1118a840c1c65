//! `GET /v1/backpressure/stream`: the pressure as Server-Sent Events.
//!
//! First a reading of each coordinator, so that whoever comes late knows; then each crossing of a
//! watermark, and a fresh reading every few seconds while there is pressure. A reader that is too slow
//! for the crossings misses some of them, and the next reading is right all the same.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use mds_coordinator::FeedbackSubscriber;
use mds_core::{BackpressureLevel, Kind};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Interval;

use super::{Pressure, of, of_event, wanted};
use crate::app::App;
use crate::problem::{Code, Problem};

/// How often a comment keeps the connection alive.
const ALIVE: Duration = Duration::from_secs(15);
/// How often there is a fresh reading while there is pressure.
const AGAIN: Duration = Duration::from_secs(5);

struct Stream {
    app: App,
    kinds: Vec<Kind>,
    crossings: FeedbackSubscriber,
    again: Interval,
    ready: VecDeque<Pressure>,
    number: u64,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// Opens a stream, unless too many are open.
pub(crate) async fn stream(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let kinds = wanted(&uri)?;
    let places = std::sync::Arc::clone(&app.shared.streams);
    let place = places.try_acquire_owned().map_err(|_| {
        let detail = "too many streams are open; ask /v1/backpressure instead, or come again";
        Problem::new(Code::Busy, detail).retry_after(AGAIN)
    })?;
    // Before the first reading: a crossing in between would be missed.
    let crossings = app.shared.bus.subscribe();
    let mut again = tokio::time::interval(AGAIN);
    again.reset();
    let stream = Stream {
        ready: kinds.iter().map(|kind| of(&app, *kind)).collect(),
        app,
        kinds,
        crossings,
        again,
        number: 0,
        is_over: false,
        _place: place,
    };
    let events = futures_util::stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let keep_alive = KeepAlive::new().interval(ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

impl Stream {
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        loop {
            if let Some(pressure) = self.ready.pop_front() {
                return Some(self.event(&pressure));
            }
            let mut draining = self.app.shared.draining.subscribe();
            tokio::select! {
                biased;
                _ = draining.wait_for(|is| *is) => {
                    self.is_over = true;
                    return Some(Event::default().event("closing").data("{}"));
                }
                crossing = self.crossings.recv() => {
                    let event = crossing?;
                    let is_wanted = |kind: &Kind| kind.as_str() == event.coordinator_id;
                    if self.kinds.iter().any(is_wanted) {
                        self.ready.extend(of_event(&self.app, &event));
                    }
                }
                _ = self.again.tick() => {
                    let readings = self.kinds.iter().map(|kind| of(&self.app, *kind));
                    let pressed = readings.filter(|p| p.event.level != BackpressureLevel::Ok);
                    self.ready.extend(pressed);
                }
            }
        }
    }

    fn event(&mut self, pressure: &Pressure) -> Event {
        self.number += 1;
        let event = Event::default()
            .event("feedback")
            .id(format!("{:.3}-{}", pressure.event.ts, self.number));
        // The fields are numbers, words and one sentence of our own.
        let data = serde_json::to_string(pressure).unwrap_or_default();
        event.data(data)
    }
}
