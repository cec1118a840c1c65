//! What a benchmark prints: what was measured, with which settings, and each figure with its
//! median, its least and its greatest value.

use std::io::Write as _;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::measure::{Took, float, load_average, median};
use crate::output::grouped;
use crate::output::{Out, table};

/// One quantity, measured once a round.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
}

/// The figures of one benchmark.
#[derive(Debug)]
pub(super) struct Report {
    bench: &'static str,
    what: &'static str,
    settings: Map<String, Value>,
    figures: Vec<Figure>,
    fastest: Vec<String>,
    notes: Vec<String>,
    load_before: Option<f64>,
}

impl Report {
    /// A report without figures; `what` is a sentence on what is measured.
    pub(super) fn new(bench: &'static str, what: &'static str) -> Self {
        Self {
            bench,
            what,
            settings: Map::new(),
            figures: Vec::new(),
            fastest: Vec::new(),
            notes: Vec::new(),
            load_before: load_average(),
        }
    }

    /// Notes a setting that the figures depend on.
    pub(super) fn setting(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    /// Adds a value of this round to a figure.
    pub(super) fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        let known = self
            .figures
            .iter_mut()
            .find(|f| f.name == name && f.unit == unit);
        match known {
            Some(figure) => figure.rounds.push(value),
            None => self.figures.push(Figure {
                name: name.to_owned(),
                unit,
                rounds: vec![value],
            }),
        }
    }

    /// Adds what a run over `rows` rows took: rows a second, and processor time for a million.
    pub(super) fn add_run(&mut self, name: &str, rows: u64, took: Took) {
        self.add(name, "rows/s", float(rows) / took.seconds);
        if let Some(cpu) = took.cpu_seconds {
            self.add(name, "CPU s/M rows", cpu * 1e6 / float(rows));
        }
    }

    /// Points out the run with the highest median rate among those whose name begins with
    /// `prefix`.
    pub(super) fn add_fastest(&mut self, prefix: &str) {
        let candidates = self
            .figures
            .iter()
            .filter(|f| f.unit == "rows/s" && f.name.starts_with(prefix));
        let fastest = candidates.max_by(|a, b| median(&a.rounds).total_cmp(&median(&b.rounds)));
        self.fastest.extend(fastest.map(|f| f.name.clone()));
    }

    /// Adds a line that belongs to a round.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Prints it.
    pub(super) fn tell(&self, json: bool) -> anyhow::Result<()> {
        let mut out = Out::stdout();
        if json {
            out.json(&self.json())?;
        } else {
            self.print(&mut out)?;
        }
        out.finish()
    }

    fn json(&self) -> Value {
        let figures = self.figures.iter().map(|f| {
            let (least, greatest) = range(&f.rounds);
            json!({
                "name": f.name,
                "unit": f.unit,
                "median": median(&f.rounds),
                "min": least,
                "max": greatest,
                "rounds": f.rounds,
            })
        });
        json!({
            "bench": self.bench,
            "what": self.what,
            "version": env!("CARGO_PKG_VERSION"),
            "debug_build": cfg!(debug_assertions),
            "cores": cores(),
            "load_before": self.load_before,
            "load_after": load_average(),
            "settings": self.settings,
            "figures": figures.collect::<Vec<_>>(),
            "fastest": self.fastest,
            "notes": self.notes,
        })
    }

    fn print(&self, out: &mut Out) -> anyhow::Result<()> {
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}={text}"),
                other => format!("{name}={other}"),
            })
            .collect();
        let load = |load: Option<f64>| load.map_or_else(|| "?".to_owned(), |l| format!("{l:.1}"));
        writeln!(
            out,
            "{}: {}\n{}\n{} cores, load {} before and {} after\n",
            self.bench,
            self.what,
            settings.join(" "),
            cores(),
            load(self.load_before),
            load(load_average()),
        )
        .context("cannot write to standard output")?;
        let mut rows = table(&["figure", "unit", ">median", ">least", ">greatest"]);
        for figure in &self.figures {
            let (least, greatest) = range(&figure.rounds);
            rows.add_row([
                figure.name.clone(),
                figure.unit.to_owned(),
                shown(median(&figure.rounds)),
                shown(least),
                shown(greatest),
            ]);
        }
        out.table(&rows)?;
        for name in &self.fastest {
            writeln!(out, "fastest: {name}").context("cannot write to standard output")?;
        }
        for note in &self.notes {
            writeln!(out, "{note}").context("cannot write to standard output")?;
        }
        writeln!(out).context("cannot write to standard output")
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, greatest)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// A number with as many digits as mean something.
fn shown(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number below 10^15"
    )]
    match value {
        1_000.0..1e15 => grouped(value.round() as u64),
        100.0..1_000.0 => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        1.0..10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_kept_by_name_and_unit() {
        let mut report = Report::new("x", "y");
        for (rate, cpu) in [(100, 1.0), (300, 3.0), (200, 2.0)] {
            let took = Took {
                seconds: 1.0,
                cpu_seconds: Some(cpu),
            };
            report.add_run("a", rate, took);
        }
        report.add("b", "rows/s", 250.0);
        report.add_fastest("");
        report.add_fastest("a");
        assert_eq!(report.json()["fastest"], json!(["b", "a"]));
        let figures = &report.json()["figures"];
        assert_eq!(
            (&figures[0]["median"], &figures[0]["max"]),
            (&json!(200.0), &json!(300.0))
        );
        assert_eq!(figures[1]["unit"], "CPU s/M rows");
        assert_eq!(figures[1]["median"], 10_000.0);
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (5_123_456.7, "5,123,457"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
    }
}
