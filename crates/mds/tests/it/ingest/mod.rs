//! `mds ingest`.

mod bad_input;
mod bad_places;
mod books;
mod durable;
mod formats;
mod inputs;
mod marks;
mod odd;
mod outages;
mod revisions;
mod signals;

pub(crate) use outages::locked;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use mds_core::Timestamp;
use serde_json::Value;

use crate::run::Place;

/// The columns of [`rows`].
pub(crate) const HEADER: &str = "vendor,symbol,timeframe,ts,close_price\n";

/// The start of the minute bar number `minute`.
fn minute(minute: u64) -> Timestamp {
    let start = Timestamp::parse("2024-01-01T00:00:00Z").unwrap().micros();
    Timestamp::from_micros(start + i64::try_from(minute).unwrap() * 60_000_000)
}

/// Minute bars as lines of CSV; the number of a bar is also its price.
pub(crate) fn rows(numbers: std::ops::Range<u64>) -> String {
    numbers
        .map(|n| format!("acme,ABC,1m,{},{n}\n", minute(n)))
        .collect::<Vec<_>>()
        .concat()
}

/// A CSV file of `count` minute bars.
pub(crate) fn bars(count: u64) -> String {
    format!("{HEADER}{}", rows(0..count))
}

/// `text` packed with gzip.
fn gzip(text: &str) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

/// A zip archive of files that are stored as they are, written by hand: local headers, the table
/// of contents, its end.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut archive, mut contents) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        let (length, name_length) = (u32_of(text.len()), u16_of(name.len()));
        let start = u32_of(archive.len());
        // Version 2.0, no flags, stored, midnight of 1980-01-01.
        let mut shared = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        shared.extend(crc.sum().to_le_bytes());
        shared.extend(length.to_le_bytes());
        shared.extend(length.to_le_bytes());
        shared.extend(name_length.to_le_bytes());
        shared.extend([0, 0]);
        archive.extend(b"PK\x03\x04");
        archive.extend(&shared);
        archive.extend(name.as_bytes());
        archive.extend(text.as_bytes());
        contents.extend(b"PK\x01\x02\x14\x00");
        contents.extend(&shared);
        contents.extend([0; 10]);
        contents.extend(start.to_le_bytes());
        contents.extend(name.as_bytes());
    }
    let (at, length) = (u32_of(archive.len()), u32_of(contents.len()));
    let count = u16_of(files.len());
    archive.extend(contents);
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    archive.extend(count.to_le_bytes());
    archive.extend(count.to_le_bytes());
    archive.extend(length.to_le_bytes());
    archive.extend(at.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

fn u32_of(length: usize) -> u32 {
    u32::try_from(length).unwrap()
}

fn u16_of(length: usize) -> u16 {
    u16::try_from(length).unwrap()
}

/// The letters of a file, one a line, as they stand in it.
pub(crate) fn letters(place: &Place, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(file)).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Where the row of each letter stood, as `path:line`.
fn places(letters: &[Value]) -> Vec<String> {
    let place = |letter: &Value| {
        let metadata = &letter["metadata"];
        let path = metadata["path"].as_str().unwrap();
        format!("{path}:{}", metadata["line"])
    };
    letters.iter().map(place).collect()
}

/// The files below a folder, without locks, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
