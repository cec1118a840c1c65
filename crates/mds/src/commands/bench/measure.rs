//! Clocks, memory and statistics.
//!
//! Processor time and memory come from `/proc`, so they are known on Linux only; elsewhere the
//! figures that need them are left out.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// Ticks a second in `/proc/PID/stat`: part of Linux's interface to programs, whatever the kernel
/// itself counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often the processes of a server are looked at until none of them ends meanwhile.
const LOOKS: u32 = 50;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// Seconds on the wall.
    pub(super) seconds: f64,
    /// Seconds of all processors, user and system; to the microsecond where no thread of this
    /// process ended in the run, else in steps of 10 ms.
    pub(super) cpu_seconds: Option<f64>,
}

/// Measures a run of this process.
#[derive(Debug)]
pub(super) struct Stopwatch {
    started: Instant,
    cpu_seconds: Option<f64>,
    threads: Option<Threads>,
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
            threads: threads().filter(|_| !of_children),
            of_children,
            started: Instant::now(),
        }
    }

    /// Stops.
    pub(super) fn stop(&self) -> Took {
        let seconds = self.started.elapsed().as_secs_f64();
        let in_ticks = || {
            let now = cpu_seconds(self.of_children).zip(self.cpu_seconds);
            now.map(|(now, then)| now - then)
        };
        let by_thread = self.threads.as_ref().zip(threads());
        let by_thread = by_thread.and_then(|(then, now)| cpu_between(then, &now));
        Took {
            seconds,
            cpu_seconds: by_thread.or_else(in_ticks),
        }
    }
}

/// Nanoseconds that each living thread of this process has run, by its number.
type Threads = HashMap<String, u64>;

fn threads() -> Option<Threads> {
    let mut threads = HashMap::new();
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let thread = thread.ok()?;
        // A thread that ends meanwhile is missing, which `cpu_between` sees.
        if let Ok(schedstat) = std::fs::read_to_string(thread.path().join("schedstat")) {
            let ran = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
            let number = thread.file_name().to_string_lossy().into_owned();
            threads.insert(number, ran);
        }
    }
    Some(threads)
}

/// Seconds that the threads of `now` ran since `then`; `None` if one of `then` has ended, since
/// nobody knows what it ran until its end.
fn cpu_between(then: &Threads, now: &Threads) -> Option<f64> {
    if now.is_empty() || then.keys().any(|thread| !now.contains_key(thread)) {
        return None;
    }
    let ran = now.iter().map(|(thread, nanos)| {
        let before = then.get(thread).copied().unwrap_or_default();
        nanos.saturating_sub(before)
    });
    Some(float(ran.sum()) / 1e9)
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

/// The processor time of a PostgreSQL server on this machine: of its first process, and of all that
/// it has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    postmaster: u32,
}

impl ServerClock {
    /// The server of a session in `database` that process `backend` serves; `None` where that
    /// process is not on this machine.
    pub(super) fn of_backend(backend: u32, database: &str) -> Option<Self> {
        // A number alone could be that of any process here: the title names the database.
        let title = std::fs::read(format!("/proc/{backend}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title);
        if !(title.contains("postgres") && title.contains(database)) {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{backend}/stat")).ok()?;
        let postmaster = parent_in_stat(&stat)?;
        Some(Self { postmaster })
    }

    /// Seconds of all processors so far.
    pub(super) fn cpu_seconds(self) -> Option<f64> {
        for _ in 0..LOOKS {
            // Those that have ended are counted by their parent: one that ends between the looks
            // at both would be missed, or counted twice.
            let before = self.ended()?;
            let living = self.living()?;
            let (own, ended) = (self.own()?, self.ended()?);
            if before.total_cmp(&ended).is_eq() {
                return Some(own + ended + living);
            }
        }
        None
    }

    fn own(self) -> Option<f64> {
        cpu_in_stat(&self.stat()?, false)
    }

    fn ended(self) -> Option<f64> {
        cpu_in_stat(&self.stat()?, true)
    }

    fn stat(self) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/stat", self.postmaster)).ok()
    }

    /// Seconds of the processes that it has started and that have not ended.
    fn living(self) -> Option<f64> {
        let mut sum = 0.0;
        for process in std::fs::read_dir("/proc").ok()?.flatten() {
            let stat = std::fs::read_to_string(process.path().join("stat"));
            let Ok(stat) = stat else { continue };
            if parent_in_stat(&stat) == Some(self.postmaster) {
                sum += cpu_in_stat(&stat, false).unwrap_or_default();
            }
        }
        Some(sum)
    }
}

fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
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

/// The middle value; of an even number the mean of the two.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    let lower = sorted.len().saturating_sub(1) / 2;
    match (sorted.get(lower), sorted.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
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
        assert_eq!(parent_in_stat(stat), Some(1));
    }

    #[test]
    fn processor_time_is_summed_over_threads_unless_one_has_ended() {
        let threads = |all: &[(&str, u64)]| -> Threads {
            all.iter()
                .map(|(number, ran)| ((*number).to_owned(), *ran))
                .collect()
        };
        let then = threads(&[("1", 500_000_000), ("2", 1_000_000_000)]);
        let now = threads(&[("1", 500_250_000), ("2", 1_000_000_000), ("3", 750_000)]);
        assert_eq!(cpu_between(&then, &now), Some(0.001));
        assert_eq!(cpu_between(&now, &then), None);
        assert_eq!(cpu_between(&Threads::new(), &Threads::new()), None);
    }

    #[test]
    fn percentiles_are_values_of_the_list() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        for (found, expected) in [
            (median(&values), 3.0_f64),
            (median(&values[..4]), 3.0),
            (median(&[1.0, 2.0]), 1.5),
            (percentile(&values, 99.0), 5.0),
            (percentile(&values, 0.0), 1.0),
        ] {
            assert!(
                expected.total_cmp(&found).is_eq(),
                "{found} instead of {expected}"
            );
        }
        assert!(percentile(&[], 50.0).is_nan() && median(&[]).is_nan());
    }
}
