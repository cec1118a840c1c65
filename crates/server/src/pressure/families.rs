//! What Prometheus sees of how the pressure is told.

use std::fmt;

use mds_coordinator::{FeedbackBus, Metrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PostLabels {
    coord_id: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CoordLabels {
    coord_id: &'static str,
}

/// What became of a POST to the webhook.
#[derive(Clone, Copy, Debug)]
pub(super) enum PostResult {
    /// 2xx.
    Ok,
    /// Another answer.
    Status,
    /// No answer in time.
    Timeout,
    /// No connection.
    Connect,
    /// A connection that broke before an answer.
    Broken,
    /// Not a POST: a state that was not sent again, since there was a newer one.
    Superseded,
}

impl PostResult {
    const ALL: [Self; 6] = [
        Self::Ok,
        Self::Status,
        Self::Timeout,
        Self::Connect,
        Self::Broken,
        Self::Superseded,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Superseded => "superseded",
        }
    }
}

/// The families of the webhook, which have no series where there is none.
#[derive(Clone, Debug)]
pub(crate) struct Families {
    posts: Family<PostLabels, Counter>,
    failing: Family<CoordLabels, Gauge>,
}

impl Families {
    pub(crate) fn register(metrics: &Metrics, bus: &FeedbackBus) -> Self {
        let families = Self {
            posts: Family::default(),
            failing: Family::default(),
        };
        metrics.with_registry(|registry| {
            registry.register(
                "mds_feedback_webhook_posts",
                "What became of posts to the webhook",
                families.posts.clone(),
            );
            registry.register(
                "mds_feedback_webhook_failing",
                "1 while the webhook has not taken the pressure of a coordinator",
                families.failing.clone(),
            );
            registry.register_collector(Box::new(Subscribers(bus.clone())));
        });
        families
    }

    /// A coordinator whose pressure is sent; its series begin at 0, so that a rate misses nothing.
    pub(super) fn watch(&self, coord_id: &'static str) {
        for result in PostResult::ALL {
            let labels = PostLabels {
                coord_id,
                result: result.as_str(),
            };
            self.posts.get_or_create(&labels).inc_by(0);
        }
        self.failing.get_or_create(&CoordLabels { coord_id }).set(0);
    }

    pub(super) fn posted(&self, coord_id: &'static str, result: PostResult) {
        let result = result.as_str();
        let labels = PostLabels { coord_id, result };
        self.posts.get_or_create(&labels).inc();
    }

    /// Says whether it failed before.
    pub(super) fn set_failing(&self, coord_id: &'static str, is_failing: bool) -> bool {
        let gauge = self.failing.get_or_create(&CoordLabels { coord_id });
        gauge.set(i64::from(is_failing)) == 1
    }
}

/// Counted at each scrape.
struct Subscribers(FeedbackBus);

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscribers")
    }
}

impl Collector for Subscribers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let count = i64::try_from(self.0.subscriber_count()).unwrap_or(i64::MAX);
        let gauge = ConstGauge::new(count);
        let encoder = encoder.encode_descriptor(
            "mds_feedback_subscribers",
            "Streams and webhooks that are told crossings of watermarks",
            None,
            gauge.metric_type(),
        )?;
        gauge.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use mds_coordinator::Exposition;

    use super::*;

    /// Whatever the daemon registers has its row in the reference, and the other way round.
    #[test]
    fn the_reference_and_the_registry_agree() {
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let reference = std::fs::read_to_string(reference).unwrap();
        let (_, section) = reference.split_once("\n## The daemon\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let described = section.lines().filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            Some(format!("{} {}", cells[0].trim_end_matches('`'), cells[1]))
        });
        let described: Vec<String> = described.collect();

        let metrics = Metrics::new();
        let without = metrics.encode(Exposition::Text);
        let bus = FeedbackBus::new();
        let families = Families::register(&metrics, &bus);
        families.watch("bars");
        let text = metrics.encode(Exposition::Text);
        let registered = text
            .lines()
            .filter(|line| !without.contains(line))
            .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.to_owned()));
        let mut registered: Vec<String> = registered.collect();
        registered.sort();
        assert_eq!(described, registered);
    }

    #[test]
    fn subscribers_are_counted_when_somebody_asks() {
        let (metrics, bus) = (Metrics::new(), FeedbackBus::new());
        Families::register(&metrics, &bus);
        let says = |count: u8| {
            let text = metrics.encode(Exposition::Text);
            assert!(
                text.contains(&format!("\nmds_feedback_subscribers {count}\n")),
                "{text}"
            );
        };
        says(0);
        let subscriber = bus.subscribe();
        says(1);
        drop(subscriber);
        says(0);
    }
}
