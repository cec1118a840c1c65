//! How full a queue is, said in a form that producers can obey.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The pressure that a queue is under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackpressureLevel {
    /// At or below the low watermark.
    #[default]
    Ok,
    /// Between the watermarks.
    Soft,
    /// At or above the high watermark.
    Hard,
}

impl BackpressureLevel {
    /// `ok`, `soft` or `hard`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl fmt::Display for BackpressureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One crossing of a watermark.
///
/// The JSON form carries `utilization` beside the fields, since subscribers in other languages
/// read it from there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackEvent {
    /// Which coordinator.
    pub coordinator_id: String,
    /// Records queued at the crossing.
    pub queue_size: usize,
    /// Records that the queue can hold.
    pub capacity: usize,
    /// The level entered.
    pub level: BackpressureLevel,
    /// Always `store`.
    pub source: String,
    /// Seconds since the Unix epoch.
    pub ts: f64,
    /// Why, in a few words.
    #[serde(default)]
    pub reason: Option<String>,
    /// `queue_size / capacity`, 0 to 1 (bytes can fill a queue before records do).
    #[serde(default)]
    pub utilization: f64,
}

impl FeedbackEvent {
    /// An event of now (`ts`, epoch seconds), with `source` and `utilization` filled in.
    pub fn create(
        coordinator_id: impl Into<String>,
        queue_size: usize,
        capacity: usize,
        level: BackpressureLevel,
        reason: Option<String>,
        ts: f64,
    ) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a ratio of counts, for display")]
        let utilization = if capacity == 0 {
            0.0
        } else {
            queue_size as f64 / capacity as f64
        };
        Self {
            coordinator_id: coordinator_id.into(),
            queue_size,
            capacity,
            level,
            source: "store".to_owned(),
            ts,
            reason,
            utilization,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_has_the_fields_that_subscribers_read() {
        let event = FeedbackEvent::create("bars", 80, 100, BackpressureLevel::Hard, None, 1.5);
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"coordinator_id":"bars","queue_size":80,"capacity":100,"level":"hard","source":"store","ts":1.5,"reason":null,"utilization":0.8}"#
        );
    }
}
