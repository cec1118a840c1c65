//! Names that documents and dashboards use exist in the code.

use std::collections::BTreeSet;

use mds_core::settings::{NAMES_READ_ELSEWHERE, TABLE};

use super::{Finding, TextFile, text};

/// Where the names of metrics are defined.
const METRICS_SOURCES: [&str; 2] = ["crates/coordinator/src/metrics/", "crates/server/src/"];
/// Their reference.
const METRICS_DOC: &str = "docs/metrics.md";
/// What Prometheus appends to the name of a metric.
const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_sum", "_count"];

/// Everything found in documents and dashboards.
pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = metrics(files);
    for file in files.iter().filter(|f| has_extension(&f.path, "md")) {
        findings.extend(settings(file));
    }
    findings
}

/// Every metric in the reference and in dashboards is defined; every defined one has its reference.
fn metrics(files: &[TextFile]) -> Vec<Finding> {
    let is_source = |f: &&TextFile| {
        METRICS_SOURCES.iter().any(|at| f.path.starts_with(at)) && text::is_rust(&f.path)
    };
    let defined: BTreeSet<&str> = files
        .iter()
        .filter(is_source)
        .flat_map(|f| f.text.split('"').skip(1).step_by(2))
        .filter(|literal| is_metric(literal))
        .collect();
    if defined.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for file in files {
        let is_dashboard = file.path.starts_with("grafana/") && has_extension(&file.path, "json");
        if file.path != METRICS_DOC && !is_dashboard {
            continue;
        }
        let unknown = names(&file.text, is_metric_char)
            .filter(|(_, name)| is_metric(name) && !defined.contains(base(name)));
        findings.extend(unknown.map(|(line, name)| {
            Finding::new(&file.path, line, format!("no metric is called {name}"))
        }));
    }
    if let Some(reference) = files.iter().find(|f| f.path == METRICS_DOC) {
        let described: BTreeSet<&str> = names(&reference.text, is_metric_char)
            .map(|(_, name)| base(name))
            .collect();
        let missing = defined.difference(&described);
        findings.extend(
            missing.map(|name| Finding::new(METRICS_DOC, 0, format!("does not describe {name}"))),
        );
    }
    findings
}

/// Every `MDS_...` name in a document is a setting, or is known to be read elsewhere.
fn settings(file: &TextFile) -> Vec<Finding> {
    let is_known = |name: &str| {
        TABLE.iter().any(|s| s.env == name || s.env_alias == Some(name))
            || NAMES_READ_ELSEWHERE.contains(&name)
            || name.starts_with("MDS_TEST_")
            // A part of a name, such as `MDS_COORDINATOR_...`.
            || name.ends_with('_')
    };
    names(&file.text, |c| {
        c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
    })
    .filter(|(_, name)| name.starts_with("MDS_") && !is_known(name))
    .map(|(line, name)| Finding::new(&file.path, line, format!("no setting is called {name}")))
    .collect()
}

fn has_extension(path: &str, extension: &str) -> bool {
    std::path::Path::new(path)
        .extension()
        .is_some_and(|e| e == extension)
}

const fn is_metric_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// Metrics have at least three words; the crates' names (`mds_core`) have two.
fn is_metric(name: &str) -> bool {
    (name.starts_with("mds_") || name.starts_with("sink_"))
        && name.chars().all(is_metric_char)
        && !name.ends_with('_')
        && (name.matches('_').count() >= 2 || name == "sink_writes")
}

fn base(name: &str) -> &str {
    SUFFIXES
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// The longest runs of these characters, each with its line.
fn names(text: &str, is_part: impl Fn(char) -> bool + Copy) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(move |(i, line)| {
        line.split(move |c| !is_part(c))
            .filter(|name| !name.is_empty())
            .map(move |n| (i + 1, n))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<TextFile> = files
            .iter()
            .map(|(path, text)| TextFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        check(&files).iter().map(ToString::to_string).collect()
    }

    const SOURCE: (&str, &str) = (
        "crates/coordinator/src/metrics/families.rs",
        "a = \"mds_coord_items_submitted\", \"Items\"; b = \"sink_writes\";",
    );

    #[test]
    fn metrics_are_compared_both_ways() {
        let good = "`mds_coord_items_submitted_total{coord_id}` and `sink_writes_total`; mds_core";
        assert_eq!(messages(&[SOURCE, (METRICS_DOC, good)]), [""; 0]);
        assert_eq!(
            messages(&[
                SOURCE,
                (
                    METRICS_DOC,
                    "\n`mds_coord_items_lost_total`, sink_writes_total"
                )
            ]),
            [
                "docs/metrics.md:2: no metric is called mds_coord_items_lost_total",
                "docs/metrics.md: does not describe mds_coord_items_submitted",
            ]
        );
        assert_eq!(
            messages(&[
                SOURCE,
                (
                    "grafana/mds.json",
                    "{\"expr\": \"rate(mds_worker_x_total[1m])\"}"
                )
            ]),
            ["grafana/mds.json:1: no metric is called mds_worker_x_total"]
        );
        assert_eq!(messages(&[SOURCE]), [""; 0], "no reference yet");
    }

    #[test]
    fn settings_in_documents_exist() {
        let text = "MDS_STORE, MDS_DSN, MDS_SEED, MDS_TEST_POSTGRES_URL, MDS_COORDINATOR_...";
        assert_eq!(messages(&[("README.md", text)]), [""; 0]);
        assert_eq!(
            messages(&[("README.md", "set\nMDS_WORKERS=4")]),
            ["README.md:2: no setting is called MDS_WORKERS"]
        );
    }
}
