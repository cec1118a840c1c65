//! The two text formats, chosen by the `Accept` header of the scrape.
//!
//! The registry writes `OpenMetrics`. The classic format (0.0.4) differs in three points: the
//! `# HELP` and `# TYPE` lines of a counter name it with `_total`, there is no `# UNIT` line and no
//! `# EOF`. Sources: the `OpenMetrics` 1.0 specification, and the Prometheus documentation of
//! exposition formats.

use std::collections::HashSet;

use prometheus_client::registry::Registry;

use crate::log::log;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// The classic Prometheus text format, version 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The format for an `Accept` header: `OpenMetrics` where it is asked for, else classic text.
    ///
    /// ```
    /// use mds_coordinator::Exposition;
    ///
    /// let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
    /// assert_eq!(Exposition::for_accept(prometheus), Exposition::OpenMetrics);
    /// assert_eq!(Exposition::for_accept("*/*"), Exposition::Text);
    /// ```
    pub fn for_accept(accept: &str) -> Self {
        if accept
            .to_ascii_lowercase()
            .contains("application/openmetrics-text")
        {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The value of the `Content-Type` header; Prometheus 3 refuses a scrape without the right one.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub(super) fn encode(self, registry: &Registry) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; a metric that fails to encode is left out.
        if prometheus_client::encoding::text::encode(&mut text, registry).is_err() {
            log(|| tracing::error!("metrics could not be encoded completely"));
        }
        match self {
            Self::OpenMetrics => text,
            Self::Text => classic(&text),
        }
    }
}

fn classic(open_metrics: &str) -> String {
    let counters: HashSet<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let comment = line
            .strip_prefix("# HELP ")
            .or_else(|| line.strip_prefix("# TYPE "));
        match comment.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) if counters.contains(name) => {
                text.push_str(line.get(..7).unwrap_or_default());
                text.push_str(name);
                text.push_str("_total ");
                text.push_str(rest);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_text_names_counters_with_their_suffix() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 2\n\
                    # HELP g Level.\n# TYPE g gauge\n# UNIT g seconds\ng 1\n# EOF\n";
        assert_eq!(
            classic(open),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
             # HELP g Level.\n# TYPE g gauge\ng 1\n"
        );
    }
}
