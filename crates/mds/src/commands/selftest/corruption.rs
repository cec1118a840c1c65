//! Damage to the files of a durable queue on the disk: a queue with records in it is written once;
//! then, time after time, a copy of it is damaged in one file, opened and read to its end.
//!
//! What is judged: nothing is delivered that was not handed in, nothing twice; of the records that
//! were not settled only those may be missing whose 4 KiB blocks were hit; and as many as are missing
//! are told to be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, ensure};
use mds_wal::{WalOptions, WriteAheadQueue};

use super::Trial;
use super::report::Corruption;

/// Copies that are damaged in a round.
const COPIES: u32 = 200;
/// What is handed in: several segments.
const RECORDS: u64 = 400;
const SEGMENT: u64 = 64 << 10;
/// A record is hit where its block is.
const BLOCK: usize = 4_096;
/// Bytes before the payload of a record that belong to it.
const HEAD: usize = 16;
/// The longest range that is overwritten.
const RANGE: usize = 8_192;

/// A queue that is whole.
struct Before {
    files: Vec<(String, Vec<u8>)>,
    submitted: BTreeMap<u64, Vec<u8>>,
    waiting: BTreeSet<u64>,
    /// The file and the bytes that each record takes.
    places: BTreeMap<u64, (String, Range<usize>)>,
}

fn options() -> WalOptions {
    WalOptions {
        identity: "selftest".to_owned(),
        segment_bytes: SEGMENT,
        max_bytes: 64 << 20,
        ..WalOptions::default()
    }
}

/// Writes a queue, and damages copies of it.
pub(super) fn run(trial: &Trial, dir: &Path, report: &mut Corruption) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(trial.seed);
    let before = Before::write(&dir.join("whole"), &mut random)?;
    for _ in 0..COPIES {
        if trial.is_over() {
            return Ok(());
        }
        let copy = dir.join("copy");
        let hit = before.damage(&copy, &mut random)?;
        before.judge(&copy, &hit, report)?;
        fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    Ok(())
}

/// Bytes of a file that are not what was written.
#[derive(Debug)]
struct Hit {
    file: String,
    bytes: Vec<Range<usize>>,
}

impl Hit {
    /// Whether one of the blocks of some bytes was hit.
    fn touches(&self, file: &str, bytes: &Range<usize>) -> bool {
        let blocks = |bytes: &Range<usize>| bytes.start / BLOCK..bytes.end.div_ceil(BLOCK);
        let of_record = blocks(bytes);
        let touch = |hit: &Range<usize>| {
            let hit = blocks(hit);
            hit.start < of_record.end && of_record.start < hit.end
        };
        file == self.file && self.bytes.iter().any(touch)
    }
}

impl Before {
    fn write(dir: &Path, random: &mut fastrand::Rng) -> anyhow::Result<Self> {
        let mut submitted = BTreeMap::new();
        let (queue, _) = WriteAheadQueue::open(dir, options()).context("cannot make a queue")?;
        while (submitted.len() as u64) < RECORDS {
            let group: Vec<_> = (0..random.usize(1..12)).map(|_| payload(random)).collect();
            let numbers = queue.append(&group)?.wait().context("the disk refuses")?;
            submitted.extend(numbers.zip(group));
        }
        let mut waiting: BTreeSet<u64> = submitted.keys().copied().collect();
        // Not those at the beginning, so that all segments stay.
        for number in submitted.keys().skip(20) {
            if random.u8(0..3) == 0 {
                queue.ack(*number..number + 1, 0);
                waiting.remove(number);
            }
        }
        queue.checkpoint()?;
        drop(queue);
        let mut before = Self {
            files: read_files(dir)?,
            submitted,
            waiting,
            places: BTreeMap::new(),
        };
        before.find_places()?;
        Ok(before)
    }

    /// Payloads are random bytes: where one is found, its record is.
    fn find_places(&mut self) -> anyhow::Result<()> {
        for (number, payload) in &self.submitted {
            let place = self.files.iter().find_map(|(name, content)| {
                let start = content
                    .windows(payload.len())
                    .position(|bytes| bytes == payload.as_slice())?;
                Some((name.clone(), start - HEAD.min(start)..start + payload.len()))
            });
            let place = place.with_context(|| format!("record {number} is in no file"))?;
            self.places.insert(*number, place);
        }
        Ok(())
    }

    /// Copies the queue, and damages one file of the copy.
    fn damage(&self, copy: &Path, random: &mut fastrand::Rng) -> anyhow::Result<Hit> {
        fs::create_dir(copy).with_context(|| format!("cannot make {}", copy.display()))?;
        let victim = random.usize(0..self.files.len());
        let mut bytes = Vec::new();
        for (place, (name, content)) in self.files.iter().enumerate() {
            let mut content = content.clone();
            if place == victim {
                bytes = spoil(&mut content, random);
            }
            let path = copy.join(name);
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let file = self.files[victim].0.clone();
        Ok(Hit { file, bytes })
    }

    fn judge(&self, copy: &Path, hit: &Hit, report: &mut Corruption) -> anyhow::Result<()> {
        let what = || {
            format!(
                "a queue in which {} was damaged at {:?}",
                hit.file, hit.bytes
            )
        };
        let opened = WriteAheadQueue::open(copy, options());
        let (queue, _) = opened.with_context(|| format!("cannot open {}", what()))?;
        let mut missing = self.waiting.clone();
        let mut delivered = BTreeSet::new();
        let mut reader = queue.reader();
        loop {
            let records = reader.read(64, 1 << 20);
            let records = records.with_context(|| format!("cannot read {}", what()))?;
            if records.is_empty() {
                break;
            }
            for record in records {
                missing.remove(&record.seq);
                report.delivered += 1;
                if self.submitted.get(&record.seq) != Some(&record.payload) {
                    report.wrong += 1;
                } else if !delivered.insert(record.seq) {
                    report.doubled += 1;
                }
            }
        }
        let damages = queue.damages();
        let told: u64 = damages.iter().map(|damage| damage.records).sum();
        let missing_count = missing.len() as u64;
        report.damaged += 1;
        report.noticed += u64::from(!damages.is_empty());
        report.hit += missing_count;
        report.untold += missing_count.saturating_sub(told);
        for number in missing {
            let (file, bytes) = &self.places[&number];
            report.missing += u64::from(!hit.touches(file, bytes));
        }
        Ok(())
    }
}

fn payload(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = match random.u8(0..10) {
        0..=7 => random.usize(16..300),
        8 => random.usize(300..4_000),
        _ => random.usize(4_000..9_000),
    };
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

fn read_files(dir: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let read = || -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let content = fs::read(entry.path())?;
            // A lock holds nothing.
            if !content.is_empty() {
                files.push((entry.file_name().to_string_lossy().into_owned(), content));
            }
        }
        files.sort();
        Ok(files)
    };
    let files = read().with_context(|| format!("cannot read {}", dir.display()))?;
    ensure!(!files.is_empty(), "there is nothing in {}", dir.display());
    Ok(files)
}

/// Flips one bit, or several, or overwrites a range; answers where.
fn spoil(content: &mut [u8], random: &mut fastrand::Rng) -> Vec<Range<usize>> {
    let flips = match random.u8(0..3) {
        0 => 1,
        1 => random.usize(2..=8),
        _ => return vec![overwrite(content, random)],
    };
    let flip = |_| {
        let place = random.usize(0..content.len());
        content[place] ^= 1 << random.u8(0..8);
        place..place + 1
    };
    (0..flips).map(flip).collect()
}

fn overwrite(content: &mut [u8], random: &mut fastrand::Rng) -> Range<usize> {
    let start = random.usize(0..content.len());
    let end = content.len().min(start + random.usize(1..=RANGE));
    let is_zero = random.bool();
    for byte in &mut content[start..end] {
        *byte = if is_zero { 0 } else { random.u8(..) };
    }
    start..end
}
