//! The durable queue against the bare disk: what is left of its speed, and how long it takes until
//! a record is durable.
//!
//! The queue runs for a quarter of a second. Then, for as long, one thread writes and syncs as many
//! bytes at a time as the queue had in a group, into a file whose room is taken: that is what the
//! disk gives to anybody who syncs so often. Then the queue runs again, so that whatever else is
//! done to the disk meets both. The latency is measured at half of the rate that was reached, beside
//! that of a bare sync after a write of the same size, in turn as well.

mod bare;
mod load;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use mds_wal::{FsyncPolicy, WalOptions, WalStats, WriteAheadQueue};

use self::bare::Bare;
use self::load::Load;
use super::measure::{Stopwatch, Took, float, percentile};
use super::report::Report;
use super::{Bench, folder};

/// How long the queue and the bare disk run before it is the other one's turn.
const TURN: Duration = Duration::from_millis(250);
/// More than any run writes: the queue is never full.
const MAX_BYTES: u64 = 1 << 40;

const EXAMPLES: &str = "\
Examples:
  mds bench wal
  mds bench wal --records-per-append 1,100,500 --seconds 5 --dir /var/lib/mds
  mds bench wal --producers 1 --in-flight 1 --records-per-append 1

The folder should be on the disk that the queue will be on.";

/// Arguments of `mds bench wal`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Threads that hand in records
    #[arg(long, value_name = "N", default_value_t = Self::default().producers, value_parser = clap::value_parser!(u16).range(1..=64))]
    producers: u16,
    /// Bytes of a record
    #[arg(long, value_name = "N", default_value_t = Self::default().record_bytes, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    record_bytes: u32,
    /// Records that are handed in at once
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = Self::default().records_per_append, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    records_per_append: Vec<u32>,
    /// Records of a thread that may be on their way to the disk; at least one append is
    #[arg(long, value_name = "N", default_value_t = Self::default().in_flight, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,
    /// Seconds of each run
    #[arg(long, value_name = "N", default_value_t = Self::default().seconds)]
    seconds: f64,
    /// Read all records meanwhile, as a store that keeps up does
    #[arg(long)]
    read: bool,
    /// Where the folders are made [default: the temporary folder]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            producers: 4,
            record_bytes: 100,
            records_per_append: vec![500, 1],
            in_flight: 1_000,
            seconds: 1.0,
            read: false,
            dir: None,
        }
    }
}

impl Args {
    fn time(&self) -> anyhow::Result<Duration> {
        Ok(Duration::try_from_secs_f64(self.seconds)?)
    }

    fn load(&self, chunk: u32) -> Load {
        Load {
            producers: self.producers,
            record_bytes: self.record_bytes as usize,
            chunk: chunk as usize,
            in_flight: self.in_flight as usize,
            reads: self.read,
        }
    }
}

/// What the queue and the bare disk came to.
struct Ran {
    records: u64,
    stats: WalStats,
    took: Took,
    bare: Bare,
}

/// Runs it.
pub(super) fn run(args: &Args, bench: Bench<'_>) -> anyhow::Result<()> {
    let mut report = Report::new(
        "wal",
        "records into the durable queue, against writing and syncing as many bytes at a time",
    );
    report.setting("producers", args.producers);
    report.setting("record_bytes", args.record_bytes);
    report.setting("in_flight", args.in_flight);
    report.setting("seconds", args.seconds);
    report.setting("read", args.read);
    report.setting("rounds", bench.rounds);
    let folder = folder(args.dir.as_deref())?;
    for number in 0..bench.rounds {
        bench.note(format_args!("round {} of {}", number + 1, bench.rounds));
        for (policy, name) in [
            (FsyncPolicy::Group, "group"),
            (FsyncPolicy::Always, "always"),
        ] {
            for &chunk in &args.records_per_append {
                let case = Case {
                    name: format!("{name}, {chunk} an append"),
                    policy,
                    load: args.load(chunk),
                    dir: folder.path(),
                };
                let rate = case.throughput(args.time()?, &mut report)?;
                case.latency(args.time()?, rate / 2.0, &mut report)?;
            }
        }
    }
    bench.tell(&report)
}

struct Case<'a> {
    name: String,
    policy: FsyncPolicy,
    load: Load,
    dir: &'a Path,
}

impl Case<'_> {
    /// As fast as it goes; answers with the records a second.
    fn throughput(&self, time: Duration, report: &mut Report) -> anyhow::Result<f64> {
        let ran = self.in_turn(time, |queue, turn| self.load.full(queue, turn))?;
        let name = &self.name;
        let seconds = ran.took.seconds;
        let rate = float(ran.records) / seconds;
        let payload = rate * float(self.load.record_bytes as u64);
        report.add(name, "records/s", rate);
        report.add(name, "payload MB/s", payload / 1e6);
        report.add(name, "groups/s", float(ran.stats.groups) / seconds);
        let group = float(ran.stats.written_bytes) / float(ran.stats.groups);
        report.add(name, "KiB/group", group / 1_024.0);
        let share = ran.stats.sync_time.as_secs_f64() / seconds;
        report.add(name, "% of the time in a sync", share * 100.0);
        if let Some(cpu) = ran.took.cpu_seconds {
            report.add(name, "CPU s/M records", cpu * 1e6 / float(ran.records));
        }
        let bare = ran.bare.bytes_per_second();
        report.add(&format!("bare, as {name}"), "MB/s", bare / 1e6);
        report.add(&format!("payload / bare, {name}"), "x", payload / bare);
        Ok(rate)
    }

    /// At a steady rate of `rate` records a second.
    fn latency(&self, time: Duration, rate: f64, report: &mut Report) -> anyhow::Result<()> {
        let mut times = Vec::new();
        let ran = self.in_turn(time, |queue, turn| {
            let (records, took) = self.load.steady(queue, turn, rate)?;
            times.extend(took);
            Ok(records)
        })?;
        let name = &self.name;
        report.add(
            &format!("half load, {name}"),
            "records/s",
            float(ran.records) / ran.took.seconds,
        );
        for (percent, part) in [(50.0, "p50"), (99.0, "p99")] {
            let durable = percentile(&times, percent) * 1e3;
            let sync = percentile(&ran.bare.syncs, percent) * 1e3;
            report.add(&format!("submit to durable, {name}, {part}"), "ms", durable);
            report.add(
                &format!("bare write and sync, as {name}, {part}"),
                "ms",
                sync,
            );
            if part == "p99" {
                let allowed = 2.0 * sync + 1.0;
                let figure = format!("{part} / (2 x bare + 1 ms), {name}");
                report.add(&figure, "x", durable / allowed);
            }
        }
        Ok(())
    }

    /// Runs a queue in a folder of its own, in turn with the bare disk, and checks that every record
    /// became durable and was settled.
    fn in_turn(
        &self,
        time: Duration,
        mut work: impl FnMut(&WriteAheadQueue, Duration) -> anyhow::Result<u64>,
    ) -> anyhow::Result<Ran> {
        let dir = self.dir.join("queue");
        let options = WalOptions {
            identity: "mds bench wal".to_owned(),
            max_bytes: MAX_BYTES,
            fsync: self.policy,
            ..WalOptions::default()
        };
        let (queue, _) = WriteAheadQueue::open(&dir, options)?;
        let turn = TURN.min(time);
        let mut bare = Bare::new(&self.dir.join("bare"))?;
        let (mut records, mut seconds, mut cpu) = (0, 0.0, Some(0.0));
        while seconds < time.as_secs_f64() {
            let watch = Stopwatch::start();
            records += work(&queue, turn)?;
            let took = watch.stop();
            seconds += took.seconds;
            cpu = cpu.zip(took.cpu_seconds).map(|(sum, more)| sum + more);
            bare.run(group_bytes(&queue.stats()), turn)?;
        }
        let stats = queue.stats();
        drop(queue);
        std::fs::remove_dir_all(&dir)?;
        std::fs::remove_dir_all(self.dir.join("bare"))?;
        ensure!(
            stats.next == records + 1 && stats.totals.settled[0] == records && stats.failures == 0,
            "the books of the queue are wrong: {records} records, {stats:?}"
        );
        let took = Took {
            seconds,
            cpu_seconds: cpu,
        };
        Ok(Ran {
            records,
            stats,
            took,
            bare,
        })
    }
}

/// Bytes of a group on the disk, in whole blocks.
fn group_bytes(stats: &WalStats) -> u64 {
    let mean = stats.written_bytes.div_ceil(stats.groups.max(1));
    mean.max(1).next_multiple_of(4_096)
}
