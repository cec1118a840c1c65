//! The pressure of a queue, and how it is told.

use std::time::{SystemTime, UNIX_EPOCH};

use mds_core::{BackpressureLevel, FeedbackEvent};

use super::state::State;
use super::{BoundedQueue, Disk};

impl<T> BoundedQueue<T> {
    /// The pressure now, as an event that says why it is told.
    pub(crate) fn pressure(&self) -> FeedbackEvent {
        self.event(&self.lock(), "snapshot")
    }

    /// Looks at the pressure anew.
    pub(crate) fn look_at_level(&self) {
        self.update_level(&mut self.lock());
    }

    pub(super) fn update_level(&self, state: &mut State<T>) {
        let config = &self.shared.config;
        let level = state.level(config);
        if level == state.stats.level {
            return;
        }
        state.stats.level = level;
        let event = self.event(state, self.reason(state));
        // Published under the lock, so that events keep the order of the crossings; publishing
        // neither waits nor runs user code.
        for bus in &config.buses {
            bus.publish(event.clone());
        }
    }

    /// Why the level is what it is.
    fn reason(&self, state: &State<T>) -> &'static str {
        let config = &self.shared.config;
        let level = state.stats.level;
        let by_bytes = match level {
            _ if config.disk.is_some() => true,
            BackpressureLevel::Hard => state.size() < config.high_watermark,
            _ => state.size() <= config.low_watermark && level == BackpressureLevel::Soft,
        };
        match (level, by_bytes) {
            (BackpressureLevel::Hard, true) => "queued bytes reached the high watermark",
            (BackpressureLevel::Hard, false) => "queue size reached the high watermark",
            (BackpressureLevel::Soft, true) => "queued bytes is between the watermarks",
            (BackpressureLevel::Soft, false) => "queue size is between the watermarks",
            (BackpressureLevel::Ok, true) => "queued bytes fell to the low watermark",
            (BackpressureLevel::Ok, false) => "queue size fell to the low watermark",
        }
    }

    fn event(&self, state: &State<T>, reason: &str) -> FeedbackEvent {
        let config = &self.shared.config;
        let (size, capacity) = match &config.disk {
            None => (state.size(), config.capacity),
            Some(disk) => {
                let queued = state.stats.queued;
                let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
                (count(queued), count(disk.capacity(queued)))
            }
        };
        FeedbackEvent::create(
            config.coord_id.clone(),
            size,
            capacity,
            state.stats.level,
            Some(reason.to_owned()),
            epoch_seconds(),
        )
    }
}

impl Disk {
    /// How many records there may be, where so many are queued: those, and as many as the bytes that
    /// are left have room for.
    fn capacity(&self, queued: u64) -> u64 {
        let (used, limit) = (self.in_use)();
        // Not by what the queued ones take: where few are left, most of the bytes in use are those
        // of records that are settled, and each would count for many.
        let each = (self.record_bytes)().unwrap_or(used / queued.max(1));
        let left = limit.saturating_sub(used) / each.max(1);
        queued.saturating_add(left).max(1)
    }
}

fn epoch_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}
