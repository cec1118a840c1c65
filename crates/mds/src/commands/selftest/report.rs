//! What was tried, what was lost, and what all of it cannot prove.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::{Queue, Trial};
use crate::exit::Exit;
use crate::output::{Out, grouped};

const NOT_PROVEN: [&str; 3] = [
    "power loss: a killed process leaves to the system what it has written, a machine without power \
     does not",
    "a disk that answers a sync before the bytes are safe: nothing that runs on the machine can tell",
    "errors of this disk: they were simulated, as were the power losses that came with them",
];

/// A process that takes rows and is killed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Kills {
    pub(super) killed: u64,
    /// Kills after the first answer of a life and before its last one.
    pub(super) between: u64,
    /// Kills at which acknowledged rows were not in the store yet.
    pub(super) with_backlog: u64,
    pub(super) largest_backlog: u64,
    /// Kills while the store was locked.
    pub(super) locked: u64,
    pub(super) failed_starts: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    /// In the store exactly once.
    pub(super) stored: u64,
    pub(super) missing: u64,
    pub(super) doubled: u64,
    /// In the store with other values.
    pub(super) changed: u64,
    /// In the store, and never handed in.
    pub(super) strange: u64,
}

/// Files of a queue that were damaged.
#[derive(Debug, Default, Serialize)]
pub(super) struct Corruption {
    pub(super) damaged: u64,
    /// Where the damage was told; it is not where there is nothing in the bytes.
    pub(super) noticed: u64,
    pub(super) delivered: u64,
    /// Records that the damage has cost.
    pub(super) hit: u64,
    /// Records that it has cost and that were not told.
    pub(super) untold: u64,
    /// Records that it has cost although it did not hit them.
    pub(super) missing: u64,
    pub(super) doubled: u64,
    pub(super) wrong: u64,
}

/// Calls of a simulated disk that failed.
#[derive(Debug, Default, Serialize)]
pub(super) struct SyncErrors {
    pub(super) disks: u64,
    pub(super) failures: u64,
    pub(super) power_losses: u64,
    /// Summed over the losses of power.
    pub(super) acknowledged: u64,
    /// Not acknowledged because of a failure.
    pub(super) refused: u64,
    /// Not acknowledged although nothing failed any more.
    pub(super) stuck: u64,
    /// Losses that were told where nothing acknowledged was lost.
    pub(super) alarms: u64,
    pub(super) missing: u64,
    pub(super) doubled: u64,
    pub(super) strange: u64,
}

/// The whole.
#[derive(Debug, Default)]
pub(super) struct Report {
    queue: Queue,
    seed: u64,
    pub(super) rounds: u64,
    pub(super) kills: Kills,
    pub(super) corruption: Corruption,
    pub(super) sync_errors: SyncErrors,
}

impl Report {
    pub(super) fn new(trial: &Trial) -> Self {
        Self {
            queue: trial.queue,
            seed: trial.seed,
            ..Self::default()
        }
    }

    /// Whether nothing was lost, doubled or changed, and everything went on.
    fn is_good(&self) -> bool {
        let (kills, files, disks) = (&self.kills, &self.corruption, &self.sync_errors);
        let of_kills = [
            kills.failed_starts,
            kills.missing,
            kills.doubled,
            kills.changed,
            kills.strange,
        ];
        let of_files = [files.untold, files.missing, files.doubled, files.wrong];
        let of_disks = [
            disks.stuck,
            disks.alarms,
            disks.missing,
            disks.doubled,
            disks.strange,
        ];
        let all = of_kills.iter().chain(&of_files).chain(&of_disks);
        all.sum::<u64>() == 0
    }

    /// Prints it; answers how it ended.
    pub(super) fn tell(&self, dir: &Path, took: Duration, json: bool) -> anyhow::Result<Exit> {
        let mut out = Out::stdout();
        if json {
            out.json(&self.json(dir, took))?;
        } else {
            let text = self.text(dir, took);
            writeln!(out, "{text}").context("cannot write to standard output")?;
        }
        out.finish()?;
        Ok(if self.is_good() {
            Exit::Success
        } else {
            Exit::Failure
        })
    }

    fn json(&self, dir: &Path, took: Duration) -> serde_json::Value {
        let mut told = json!({
            "dir": dir.display().to_string(),
            "queue": self.queue.name(),
            "seed": self.seed,
            "rounds": self.rounds,
            "seconds": took.as_secs_f64(),
            "good": self.is_good(),
            "kills": self.kills,
            "not_proven": NOT_PROVEN,
        });
        if self.queue == Queue::Disk {
            told["corruption"] = json!(self.corruption);
            told["simulated_sync_errors"] = json!(self.sync_errors);
        }
        told
    }

    fn text(&self, dir: &Path, took: Duration) -> String {
        let mut parts = vec![
            format!(
                "{} in {}, queue {}, seed {}, {:.1} s",
                count(self.rounds, "round"),
                dir.display(),
                self.queue.name(),
                self.seed,
                took.as_secs_f64()
            ),
            self.kills.text(),
        ];
        if self.queue == Queue::Disk {
            parts.push(self.corruption.text());
            parts.push(self.sync_errors.text());
        }
        parts.push(format!("not proven\n  {}", NOT_PROVEN.join("\n  ")));
        parts.push(self.verdict().to_owned());
        parts.join("\n")
    }

    fn verdict(&self) -> &'static str {
        match (self.is_good(), self.queue) {
            (true, _) => "nothing was lost, doubled or changed",
            (false, Queue::Memory) => {
                "rows were lost: acknowledged by the memory queue means held in memory"
            }
            (false, Queue::Disk) => "FAILED: see the figures above that should be 0",
        }
    }
}

impl Kills {
    fn text(&self) -> String {
        let Self { between, .. } = self;
        format!(
            "kills\n  {}, {} of them between the first and the last acknowledgement of a life\n  \
             {} with acknowledged rows that were not in the store yet (up to {}), {} with the store \
             locked\n  {} acknowledged, {} in the store exactly once\n  {} missing, {} doubled, {} \
             changed, {} never handed in; {}",
            count(self.killed, "kill"),
            grouped(*between),
            grouped(self.with_backlog),
            count(self.largest_backlog, "row"),
            grouped(self.locked),
            count(self.acknowledged, "row"),
            grouped(self.stored),
            grouped(self.missing),
            grouped(self.doubled),
            grouped(self.changed),
            grouped(self.strange),
            count(self.failed_starts, "failed start"),
        )
    }
}

impl Corruption {
    fn text(&self) -> String {
        format!(
            "corruption\n  {} of a queue with a damaged file, the damage told in {}; {} delivered\n  \
             {} missing that were hit, of them {} not told\n  {} missing that were not hit, {} \
             doubled, {} wrong",
            count(self.damaged, "copy"),
            grouped(self.noticed),
            count(self.delivered, "record"),
            count(self.hit - self.missing, "record"),
            grouped(self.untold),
            grouped(self.missing),
            grouped(self.doubled),
            grouped(self.wrong),
        )
    }
}

impl SyncErrors {
    fn text(&self) -> String {
        format!(
            "errors of the disk, simulated\n  {} with {}, {} refused because of them, {} afterwards\n  \
             {}, {} acknowledged before them\n  {} missing, {} doubled, {} never handed in, {}",
            count(self.disks, "disk"),
            count(self.failures, "failing call"),
            count(self.refused, "row"),
            grouped(self.stuck),
            count(self.power_losses, "power loss"),
            count(self.acknowledged, "row"),
            grouped(self.missing),
            grouped(self.doubled),
            grouped(self.strange),
            count(self.alarms, "false alarm"),
        )
    }
}

/// A number of things, such as `1 kill` or `1,000 kills`.
fn count(number: u64, thing: &str) -> String {
    if number == 1 {
        return format!("1 {thing}");
    }
    let things = match thing.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if thing.ends_with('s') => format!("{thing}es"),
        None => format!("{thing}s"),
    };
    format!("{} {things}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_counted() {
        assert_eq!(count(1, "copy"), "1 copy");
        assert_eq!(count(2, "copy"), "2 copies");
        assert_eq!(count(0, "power loss"), "0 power losses");
        assert_eq!(count(1_000, "kill"), "1,000 kills");
    }

    #[test]
    fn each_loss_is_a_failure() {
        let good = Report::default();
        assert!(good.is_good());
        let lost = Report {
            kills: Kills {
                missing: 1,
                ..Kills::default()
            },
            ..Report::default()
        };
        assert!(!lost.is_good());
        let untold = Report {
            corruption: Corruption {
                untold: 1,
                ..Corruption::default()
            },
            ..Report::default()
        };
        assert!(!untold.is_good());
        let stuck = Report {
            sync_errors: SyncErrors {
                stuck: 1,
                ..SyncErrors::default()
            },
            ..Report::default()
        };
        assert!(!stuck.is_good());
    }
}
