//! Clocks, memory and statistics.
//!
//! Processor time and memory come from `/proc`, so they are known on Linux only; elsewhere the
//! figures that need them are left out.

use std::path::Path;
use std::time::Instant;

/// Ticks a second in `/proc/PID/stat`: part of Linux's interface to programs, whatever the kernel
/// itself counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// Seconds on the wall.
    pub(super) seconds: f64,
    /// Seconds of all processors, user and system; in steps of 10 ms.
    pub(super) cpu_seconds: Option<f64>,
}

/// Measures a run of this process.
#[derive(Debug)]
pub(super) struct Stopwatch {
    started: Instant,
    cpu_seconds: Option<f64>,
    of_children: bool,
}

impl Stopwatch {
    /// Starts, with the processor time of this process.
    pub(super) fn start() -> Self {
        Self::new(false)
    }

    /// Starts, with the processor time of child processes that have ended and were waited for.
    pub(super) fn of_children() -> Self {
        Self::new(true)
    }

    fn new(of_children: bool) -> Self {
        Self {
            cpu_seconds: cpu_seconds(of_children),
            of_children,
            started: Instant::now(),
        }
    }

    /// Stops.
    pub(super) fn stop(&self) -> Took {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds(self.of_children)
            .zip(self.cpu_seconds)
            .map(|(now, then)| now - then);
        Took {
            seconds,
            cpu_seconds,
        }
    }
}

/// Processor seconds so far, of this process or of its children that ended.
fn cpu_seconds(of_children: bool) -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    cpu_in_stat(&stat, of_children)
}

fn cpu_in_stat(stat: &str, of_children: bool) -> Option<f64> {
    // The name of the program stands in parentheses and may hold anything, so the fields are
    // counted from behind it; user and system time are the 14th and 15th of the line, those of
    // children the 16th and 17th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let user: f64 = fields
        .nth(if of_children { 13 } else { 11 })?
        .parse()
        .ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// The most memory that a process has had, in MiB; `None` once it is gone.
pub(super) fn peak_mib(process: u32) -> Option<f64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(Path::new(&path)).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1_024.0)
}

/// How many processes wanted a processor over the last minute.
pub(super) fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The middle value; of an even number the upper of the two.
pub(super) fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value that `percent` of the values do not exceed (nearest rank); `NaN` of none.
pub(super) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    percentile_of_sorted(&sorted, percent)
}

/// The same of values in ascending order.
pub(super) fn percentile_of_sorted(sorted: &[f64], percent: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position in a list, clamped by `get`"
    )]
    let at = (sorted.len() as f64 * percent / 100.0) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

/// Rows as a number to divide.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of rows are far below 2^53"
)]
pub(super) fn float(rows: u64) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 700 300 20 0 5 0 99 1 2 3";
        assert_eq!(cpu_in_stat(stat, false), Some(2.0));
        assert_eq!(cpu_in_stat(stat, true), Some(10.0));
        assert_eq!(cpu_in_stat("42 (mds) S 1", false), None);
    }

    #[test]
    fn percentiles_are_values_of_the_list() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        for (found, expected) in [
            (median(&values), 3.0_f64),
            (percentile(&values, 99.0), 5.0),
            (percentile(&values, 0.0), 1.0),
        ] {
            assert!(
                expected.total_cmp(&found).is_eq(),
                "{found} instead of {expected}"
            );
        }
        assert!(percentile(&[], 50.0).is_nan());
    }
}
