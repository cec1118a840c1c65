//! What Prometheus sees: the whole exposition of a small run, the reference in `docs/metrics.md`,
//! and that no number of distinct records makes one more series.
//!
//! `UPDATE_GOLDEN=1` writes the expected texts anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mds_coordinator::{ErrorKind, Exposition, Metrics, OverflowStrategy, WriteCoordinator};

use crate::support::{
    Act, FakeLetters, FakeSink, Poison, builder, millis, secs, series, settled, submit_all,
};

/// A run with everything in it: writes, duplicates, a bad row, failures, an open circuit, overflow.
pub(crate) async fn scripted_run(metrics: &Metrics) -> WriteCoordinator<u64> {
    // Jitter draws from the thread's generator.
    fastrand::seed(7);
    let mut attempts = 0;
    let (sink, _) = FakeSink::new(move |_| {
        attempts += 1;
        match attempts {
            1 => Act::Slow(30),
            2 | 3 => Act::Fail(ErrorKind::Transient, "deadlock"),
            4 => Act::Conflict(1),
            5..=9 => Act::Fail(ErrorKind::Environment, "refused"),
            10 => Act::Slow(700),
            _ => Act::Write,
        }
    });
    let coordinator = builder(sink.poison(Poison::Named, |row| row == 3))
        .metrics(metrics.clone())
        .coord_id("production")
        .workers(2)
        .batch_size(10)
        .capacity(50)
        .overflow_strategy(OverflowStrategy::DropOldest)
        .dead_letters(FakeLetters::new())
        .start()
        .unwrap();
    submit_all(&coordinator, 0..25).await;
    settled(&coordinator, secs(100)).await;
    submit_all(&coordinator, 20..40).await;
    tokio::time::sleep(secs(10)).await;
    submit_all(&coordinator, 100..175).await;
    settled(&coordinator, secs(100)).await;
    coordinator.submit_durable(1).await.unwrap_err();
    // Some wait while the scrape comes.
    submit_all(&coordinator, 200..207).await;
    tokio::time::sleep(millis(100)).await;
    let text = metrics.encode(Exposition::Text);
    assert!(
        text.contains("mds_coord_queue_depth{coord_id=\"production\"} 7\n"),
        "{text}"
    );
    coordinator
}

/// Families keep their order; series within one are sorted by their labels, for the registry keeps
/// them in no order.
fn normal(text: &str) -> String {
    let mut lines: Vec<(usize, String, &str)> = Vec::new();
    let mut family = 0;
    for line in text.lines() {
        if line.starts_with("# HELP") || line.starts_with("# EOF") {
            family += 1;
        }
        let key = if line.starts_with('#') {
            String::new()
        } else {
            labels_of(line)
        };
        lines.push((family, key, line));
    }
    lines.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let lines = lines
        .iter()
        .map(|(_, _, line)| line.replace(&version, "version=\"VERSION\""));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// The labels of a line without the bucket's bound, so that buckets keep their order.
fn labels_of(line: &str) -> String {
    let labels = line.split_once('{').map_or("", |(_, rest)| rest);
    let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
    let parts = labels.split(',').filter(|part| !part.starts_with("le="));
    format!(" {}", parts.collect::<Vec<_>>().join(","))
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|v| v == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        expected,
        "{} differs; UPDATE_GOLDEN=1 writes it anew",
        path.display()
    );
}

#[tokio::test(start_paused = true)]
async fn the_exposition_of_a_run_is_as_written_down() {
    let metrics = Metrics::new();
    let _running = scripted_run(&metrics).await;
    golden("metrics.txt", &normal(&metrics.encode(Exposition::Text)));
    golden(
        "metrics-openmetrics.txt",
        &normal(&metrics.encode(Exposition::OpenMetrics)),
    );
}

#[tokio::test(start_paused = true)]
async fn a_million_distinct_records_make_no_further_series() {
    let metrics = Metrics::new();
    let (sink, peek) = FakeSink::writing();
    let coordinator = builder(sink)
        .metrics(metrics.clone())
        .batch_size(5_000)
        .start()
        .unwrap();
    let count = || {
        metrics
            .encode(Exposition::Text)
            .lines()
            .filter(|l| !l.starts_with('#'))
            .count()
    };
    let at_start = count();
    let mut rows = (0..1_000_000).collect();
    coordinator.submit_many(&mut rows).await.unwrap();
    settled(&coordinator, secs(60)).await;
    assert_eq!(peek.rows(), 1_000_000);
    assert_eq!(count(), at_start);
}

#[tokio::test(start_paused = true)]
async fn labels_are_closed_sets() {
    let metrics = Metrics::new();
    let _running = scripted_run(&metrics).await;
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in metrics
        .encode(Exposition::Text)
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        let Some((_, rest)) = line.split_once('{') else {
            continue;
        };
        for part in rest.split_once('}').unwrap().0.split(',') {
            let (name, value) = part.split_once('=').unwrap();
            values
                .entry(name.to_owned())
                .or_default()
                .insert(value.trim_matches('"').to_owned());
        }
    }
    values.remove("le");
    values.remove("version");
    let expected = [
        ("coord_id", "production"),
        ("error_type", "environment fatal rejected transient unknown"),
        (
            "reason",
            "backlog closed disk_failed errors expired idle invalid latency must_wait not_durable \
             outcome_unknown overflow queue_full recovered rejected_row retries_exhausted \
             shutdown start throughput_flat throughput_up too_large",
        ),
        ("sink", "fake"),
        ("status", "failure success"),
        ("worker_id", "0 1"),
    ];
    let expected = expected.map(|(name, values)| {
        let values = values.split(' ').map(str::to_owned).collect();
        (name.to_owned(), values)
    });
    assert_eq!(values, BTreeMap::from(expected));
}

/// A scrape and a stop at the same time: what is counted is counted once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scrapes_during_a_stop_count_nothing_twice() {
    let metrics = Metrics::new();
    for round in 1..=50_u32 {
        let (sink, _) = FakeSink::writing();
        let coordinator = builder(sink.poison(Poison::Named, |row| row % 7 == 0))
            .metrics(metrics.clone())
            .batch_size(3)
            .start()
            .unwrap();
        submit_all(&coordinator, 0..70).await;
        let scrapes = metrics.clone();
        let reader = tokio::spawn(async move {
            for _ in 0..10 {
                scrapes.encode(Exposition::Text);
                tokio::task::yield_now().await;
            }
        });
        coordinator.stop(true, secs(60)).await;
        reader.await.unwrap();
        let value = |name: &str| series(&metrics, &format!("{name}{{coord_id=\"default\"}}"));
        let submitted = value("mds_coord_items_submitted_total");
        assert!(
            (submitted - 70.0 * f64::from(round)).abs() < 0.5,
            "{submitted} in {round}"
        );
        let written = value("mds_coord_items_written_total");
        assert!(
            (written - 60.0 * f64::from(round)).abs() < 0.5,
            "{written} in {round}"
        );
    }
}

/// Name, type and label names of each family, and its help.
fn families(text: &str) -> BTreeMap<String, (String, String, String)> {
    let mut families: BTreeMap<String, (String, String, String)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let family = families.entry(name.to_owned()).or_default();
            help.trim_end_matches('.').clone_into(&mut family.2);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().0);
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            let bare = ["_sum", "_count", "_bucket"]
                .iter()
                .find_map(|s| name.strip_suffix(s));
            let name = bare
                .filter(|bare| families.contains_key(*bare))
                .unwrap_or(name);
            let labels = rest.split_once('}').unwrap().0.split(',');
            let labels = labels.map(|part| part.split_once('=').unwrap().0);
            let labels: Vec<_> = labels.filter(|label| *label != "le").collect();
            families.get_mut(name).unwrap().1 = labels.join(", ");
        }
    }
    families
}

pub(crate) fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

/// The rows of the tables in `docs/metrics.md` whose first cell is a metric, but those that only the
/// daemon has.
fn documented() -> BTreeMap<String, (String, String, String)> {
    let text = std::fs::read_to_string(docs("metrics.md")).unwrap();
    let (before, rest) = text.split_once("\n## The daemon\n").unwrap();
    let (_, behind) = rest.split_once("\n## ").unwrap();
    let rows = before.lines().chain(behind.lines()).filter_map(|line| {
        let cells: Vec<_> = line
            .strip_prefix("| `")?
            .split(" | ")
            .map(str::trim)
            .collect();
        let [name, kind, labels, _unit, meaning] = cells[..] else {
            return None;
        };
        let name = name.trim_end_matches('`').to_owned();
        let labels = labels.replace('`', "");
        let meaning = meaning.trim_end_matches(" |").to_owned();
        Some((name, (kind.to_owned(), labels, meaning)))
    });
    rows.collect()
}

#[tokio::test(start_paused = true)]
async fn the_reference_and_the_registry_agree() {
    let metrics = Metrics::new();
    let _running = scripted_run(&metrics).await;
    let registered = families(&metrics.encode(Exposition::Text));
    let documented = documented();
    for (name, family) in &registered {
        let (kind, labels, help) = family;
        let row = format!("| `{name}` | {kind} | {labels} | UNIT | {help} |");
        assert_eq!(
            documented.get(name),
            Some(family),
            "docs/metrics.md needs: {row}"
        );
    }
    let gone: Vec<_> = documented
        .keys()
        .filter(|name| !registered.contains_key(*name))
        .collect();
    assert!(
        gone.is_empty(),
        "docs/metrics.md has what the registry has not: {gone:?}"
    );
}

/// Every metric that the reference's queries name is one that exists, with the labels they use.
#[tokio::test(start_paused = true)]
async fn the_queries_of_the_reference_find_series() {
    let metrics = Metrics::new();
    let _running = scripted_run(&metrics).await;
    let text = metrics.encode(Exposition::Text);
    let reference = std::fs::read_to_string(docs("metrics.md")).unwrap();
    let mut queries = 0;
    for block in reference.split("```promql\n").skip(1) {
        let query = block.split_once("```").unwrap().0;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = query.split(|c| !is_name(c));
        let named: Vec<_> = words
            .filter(|w| w.starts_with("mds_") || w.starts_with("sink_"))
            .collect();
        assert!(!named.is_empty(), "no metric in {query}");
        for name in named {
            let found = text
                .lines()
                .any(|line| line.starts_with(&format!("{name}{{")));
            assert!(found, "{name} has no series, in: {query}");
        }
        for label in query
            .split('{')
            .skip(1)
            .map(|rest| rest.split_once('}').unwrap().0)
        {
            assert!(text.contains(label), "no series with {label}, in: {query}");
        }
        queries += 1;
    }
    assert!(queries >= 4, "{queries} queries");
}
