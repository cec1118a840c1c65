//! A process that is killed while it appends, reads and settles, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use mds_wal::WriteAheadQueue;

use crate::support::{folder, is_long, open, rest};

const DIR: &str = "MDS_TEST_CHILD_DIR";
const SEED: &str = "MDS_TEST_CHILD_SEED";

/// What the record with this number holds; it tells where it came from and how long it is.
fn payload(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = if random.u8(0..20) == 0 {
        random.usize(4_000..20_000)
    } else {
        random.usize(0..300)
    };
    let mut bytes = random.u64(..).to_string().into_bytes();
    bytes.resize(bytes.len() + length, b'.');
    bytes
}

/// Not a test by itself: the process that is killed. It says what it hands in before it does so,
/// what is durable after it was told so, and what it settles before it does so.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let (queue, recovery) = open(dir.as_ref());
    say(&format!("\nopened {}", recovery.records));
    std::thread::scope(|scope| {
        for producer in 0..2 {
            let queue = &queue;
            scope.spawn(move || append(queue, seed * 2 + producer));
        }
        let mut reader = queue.reader();
        let mut random = fastrand::Rng::with_seed(seed);
        loop {
            for record in reader.read(50, 1 << 20).unwrap() {
                if random.bool() {
                    say(&format!("settling {}", record.seq));
                    queue.ack(record.seq..record.seq + 1, 0);
                }
            }
        }
    });
}

fn append(queue: &WriteAheadQueue, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        let records: Vec<_> = (0..random.usize(1..5))
            .map(|_| payload(&mut random))
            .collect();
        let texts: Vec<_> = records.iter().map(|r| String::from_utf8_lossy(r)).collect();
        say(&format!("handing in {}", texts.join(" ")));
        let range = queue.append(&records).unwrap().wait().unwrap();
        say(&format!("durable {} {}", range.start, texts.join(" ")));
    }
}

/// One write, so that lines of several threads stay whole.
fn say(line: &str) {
    let line = format!("{line}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What an observer outside knows.
#[derive(Default)]
struct Seen {
    handed_in: BTreeSet<String>,
    durable: BTreeMap<u64, String>,
    settling: BTreeSet<u64>,
}

impl Seen {
    fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "handing" => {
                let records = rest.split(' ').skip(1).map(str::to_owned);
                self.handed_in.extend(records);
            }
            "durable" => {
                let (first, records) = rest.split_once(' ').unwrap();
                let first: u64 = first.parse().unwrap();
                let records = records.split(' ').map(str::to_owned);
                self.durable.extend((first..).zip(records));
            }
            "settling" => drop(self.settling.insert(rest.parse().unwrap())),
            _ => {}
        }
    }

    /// Runs a child, and kills it after so many lines.
    fn run(&mut self, dir: &Path, seed: u64, lines: usize) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture"])
            .env(DIR, dir)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let mut count = 0;
        while output.read_line(&mut line).unwrap() > 0 {
            // The last line may be cut off.
            if let Some(whole) = line.strip_suffix('\n') {
                self.hear(whole);
            }
            line.clear();
            count += 1;
            if count == lines {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(
            count >= lines,
            "the child ended by itself after {count} lines"
        );
    }

    /// Opens what the kill has left.
    fn check(&self, dir: &Path, what: &str) {
        let (queue, recovery) = open(dir);
        let damages: Vec<_> = recovery.damages.iter().filter(|d| d.is_loss()).collect();
        assert!(damages.is_empty(), "{what}: {damages:?}");
        let records = rest(&mut queue.reader());
        assert_eq!(records.len() as u64, recovery.records, "{what}");
        let mut delivered = BTreeSet::new();
        for record in records {
            let text = String::from_utf8(record.payload).unwrap();
            assert!(delivered.insert(record.seq), "{what}: {} twice", record.seq);
            let known = self.durable.get(&record.seq);
            assert!(
                known.is_none_or(|known| *known == text),
                "{what}: {}",
                record.seq
            );
            assert!(
                self.handed_in.contains(&text),
                "{what}: {} was not handed in",
                record.seq
            );
        }
        let lost = self.durable.keys();
        let lost: Vec<_> = lost
            .filter(|seq| !delivered.contains(seq) && !self.settling.contains(seq))
            .collect();
        assert!(lost.is_empty(), "{what}: {lost:?} are lost");
    }
}

#[test]
fn what_was_told_to_be_durable_survives_every_kill() {
    let kills = if is_long() { 300 } else { 30 };
    let dir = folder();
    let mut seen = Seen::default();
    let mut random = fastrand::Rng::with_seed(9);
    for kill in 0..kills {
        // From the first moments on: "opened" is one of the lines, and the harness prints two.
        let lines = random.usize(3..400);
        seen.run(dir.path(), kill, lines);
        seen.check(dir.path(), &format!("kill {kill}, after {lines} lines"));
    }
    assert!(seen.durable.len() > 1_000 && seen.settling.len() > 300);
}
