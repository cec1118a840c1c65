//! Lines of the log that repeat: the first one is told at once, the others are counted and told once in
//! ten seconds. An outage that fails five times a second must not bury everything else.
//!
//! Two lines are the same where they come from the same place and say the same, but for digits in
//! their fields: a failed write names other records each time. Digits in the message itself count, so
//! that each damaged range is told.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How long lines are only counted after one that was told.
const EVERY: Duration = Duration::from_secs(10);
/// Different lines that are remembered.
const KEPT: usize = 1_000;

static SEEN: Mutex<Seen> = Mutex::new(Seen(BTreeMap::new()));

/// Lines by what they say.
#[derive(Debug)]
struct Seen(BTreeMap<String, Repeated>);

#[derive(Debug)]
struct Repeated {
    told: Instant,
    /// Lines since then, and the latest of them.
    untold: u64,
    latest: String,
}

impl Repeated {
    fn rest(self) -> Option<String> {
        let before = self.untold.checked_sub(1)?;
        Some(with_count(&self.latest, before))
    }
}

fn with_count(line: &str, before: u64) -> String {
    match before {
        0 => line.to_owned(),
        n => format!("{} (and {n} more before it)\n", line.trim_end()),
    }
}

impl Seen {
    /// The lines to write, now that `line` comes.
    fn lines(&mut self, key: String, line: String, now: Instant) -> Vec<String> {
        let is_over = |told: Instant| now.duration_since(told) >= EVERY;
        let is_crowded = self.0.len() >= KEPT;
        let is_old = |seen: &Repeated| is_crowded || is_over(seen.told);
        let others = self.0.iter().filter(|(other, _)| **other != key);
        let old: Vec<String> = others
            .filter(|(_, seen)| is_old(seen))
            .map(|(other, _)| other.clone())
            .collect();
        let old = old.iter().filter_map(|other| self.0.remove(other));
        let mut lines: Vec<String> = old.filter_map(Repeated::rest).collect();
        match self.0.get_mut(&key) {
            Some(seen) if !is_over(seen.told) => {
                seen.untold += 1;
                seen.latest = line;
            }
            Some(seen) => {
                lines.push(with_count(&line, seen.untold));
                (seen.told, seen.untold) = (now, 0);
            }
            None => {
                lines.push(line);
                let seen = Repeated {
                    told: now,
                    untold: 0,
                    latest: String::new(),
                };
                self.0.insert(key, seen);
            }
        }
        lines
    }

    /// What was counted and not told.
    fn rest(&mut self) -> Vec<String> {
        let seen = std::mem::take(&mut self.0);
        seen.into_values().filter_map(Repeated::rest).collect()
    }
}

fn seen() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells what was counted and not told, at the end of the program.
pub(crate) fn tell_rest() {
    let rest = seen().rest();
    // A standard error that nobody reads any more is no reason to fail.
    drop(std::io::stderr().write_all(rest.concat().as_bytes()));
}

/// Writes lines in the format `F`, and repeated ones as said above.
#[derive(Debug)]
pub(crate) struct LogLines<F>(pub(crate) F);

impl<S, N, F> FormatEvent<S, N> for LogLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        let metadata = event.metadata();
        let place = (metadata.target(), metadata.line().unwrap_or(0));
        let mut said = Said(format!("{place:?}"));
        event.record(&mut said);
        let lines = seen().lines(said.0, line, Instant::now());
        lines.iter().try_for_each(|line| writer.write_str(line))
    }
}

/// What an event says, without the digits of its fields.
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let is_message = field.name() == "message";
        let kept = text
            .chars()
            .filter(|c| is_message || !c.is_ascii_digit())
            .collect::<String>();
        // Writing into memory cannot fail.
        _ = write!(self.0, "\n{}={kept}", field.name());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn lines(seen: &mut Seen, text: &str, now: Instant) -> String {
        let line = format!("{text}\n");
        seen.lines(text.to_owned(), line, now).concat()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_in_ten_seconds() {
        let mut seen = Seen(BTreeMap::new());
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut told = String::new();
        for step in 0..125 {
            told += &lines(&mut seen, "full", at(step * 200));
        }
        assert_eq!(
            told,
            "full\nfull (and 49 more before it)\nfull (and 49 more before it)\n"
        );
        // Another line is told at once, and with it what is over.
        assert_eq!(lines(&mut seen, "other", at(25_000)), "other\n");
        assert_eq!(
            lines(&mut seen, "third", at(30_000)),
            "full (and 23 more before it)\nthird\n"
        );
        // After a silence it is a first one again.
        assert_eq!(lines(&mut seen, "full", at(31_000)), "full\n");
        assert_eq!(lines(&mut seen, "full", at(31_100)), "");
        assert_eq!(seen.rest(), ["full\n"]);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost_for_it() {
        let mut seen = Seen(BTreeMap::new());
        let now = Instant::now();
        let mut told = 0;
        for line in 0..5_000 {
            for _ in 0..2 {
                told += lines(&mut seen, &format!("line {line}"), now)
                    .lines()
                    .count();
            }
        }
        assert!(seen.0.len() <= KEPT + 1, "{}", seen.0.len());
        assert_eq!(told + seen.rest().len(), 10_000);
    }

    /// Where lines of a test go.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn other_records_are_the_same_line_and_other_damage_is_not() {
        let buffer = Buffer::default();
        let target = buffer.clone();
        let format = tracing_subscriber::fmt::format()
            .without_time()
            .with_target(false)
            .with_ansi(false);
        let subscriber = tracing_subscriber::fmt()
            .event_format(LogLines(format))
            .with_writer(move || target.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for record in 1..=50 {
                let error = format!("record {record}: no space");
                tracing::error!(%error, "not durable");
                tracing::error!("bytes {record} to 9 are damaged");
            }
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let is_write = |line: &&str| line.contains("not durable");
        let writes: Vec<&str> = text.lines().filter(is_write).collect();
        assert_eq!(writes, ["ERROR not durable error=record 1: no space"]);
        assert_eq!(text.lines().count(), 51, "{text}");
    }
}
