//! Files as vendors emit them, by the table of `docs/files.md`; where they are at hand.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::run::Place;
use crate::serve::daemon::Daemon;

/// Files beyond this take long in a debug build, and run with the long batteries only.
const SMALL: u64 = 400_000;

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder = std::env::var_os("MDS_TEST_DATA").map_or_else(|| beside.into(), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no vendor files at {}", folder.display());
    None
}

/// A line of the table.
#[derive(Debug)]
struct Line {
    args: Vec<String>,
    /// read, written, superseded, dead-lettered, skipped
    counts: [u64; 5],
    code: i32,
}

impl Line {
    /// The place of the file among the arguments.
    fn file(&self) -> &str {
        &self.args[2]
    }
}

/// Splits at blanks outside of double quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in command.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

fn table() -> Vec<Line> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/files.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.contains("`mds ingest "));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, command, counts @ .., code] = cells.as_slice() else {
            panic!("{row}")
        };
        let counts: Vec<u64> = counts.iter().map(|cell| cell.parse().unwrap()).collect();
        Line {
            args: words(command.trim_matches('`')).split_off(1),
            counts: counts.try_into().unwrap(),
            code: code.parse().unwrap(),
        }
    })
    .collect()
}

/// Runs the command of `line` on `file`, and compares what it says.
#[track_caller]
fn ingest(place: &Place, line: &Line, file: &Path, counts: [u64; 5]) {
    let file = file.to_str().unwrap();
    let mut args: Vec<&str> = line.args.iter().map(String::as_str).collect();
    args[2] = file;
    args.push("--json");
    let outcome = place.run(&args).code(line.code);
    let last = outcome.stdout.lines().next_back().unwrap();
    let json: Value = serde_json::from_str(last).unwrap();
    let found = ["read", "written", "superseded", "dead_lettered", "skipped"]
        .map(|key| json[key].as_u64().unwrap());
    assert_eq!(found, counts, "{args:?}\n{}", outcome.stderr);
    assert_eq!((&json["dropped"], &json["refused"]), (&0.into(), &0.into()));
}

#[test]
fn files_of_vendors_are_ingested_as_the_table_says() {
    let lines = table();
    assert_eq!(lines.len(), 13, "the table has changed its form");
    let Some(folder) = folder() else { return };
    let is_long = std::env::var_os("MDS_LONG").is_some();
    for line in &lines {
        let original = folder.join(line.file());
        if !is_long && fs::metadata(&original).unwrap().len() > SMALL {
            continue;
        }
        let place = Place::new();
        let copy = place.path(
            Path::new(line.file())
                .file_name()
                .unwrap()
                .to_str()
                .unwrap(),
        );
        fs::copy(&original, &copy).unwrap();
        let [read, .., dead_lettered, skipped] = line.counts;
        ingest(&place, line, &copy, line.counts);
        let again = [read, 0, read - dead_lettered, dead_lettered, skipped];
        ingest(&place, line, &copy, again);
        let later = SystemTime::now() + Duration::from_secs(60);
        File::options()
            .append(true)
            .open(&copy)
            .and_then(|file| file.set_modified(later))
            .unwrap();
        ingest(&place, line, &copy, again);
    }
}

/// Rows of a request.
const ROWS: usize = 5_000;

/// The rows of a file, sent by HTTP as NDJSON into another store, are the same rows there.
#[test]
fn rows_of_these_files_by_http_are_the_same_rows() {
    let Some(folder) = folder() else { return };
    let is_long = std::env::var_os("MDS_LONG").is_some();
    let mut files = 0;
    for line in table().iter().filter(|line| line.code == 0) {
        let original = folder.join(line.file());
        if !is_long && fs::metadata(&original).unwrap().len() > SMALL {
            continue;
        }
        let kind = line.args[1].as_str();
        let export = |place: &Place| {
            let rows = place.run(&["export", kind, "--out", "-"]).code(0);
            rows.stdout.into_bytes()
        };
        let by_file = Place::new();
        ingest(&by_file, line, &original, line.counts);
        let rows = export(&by_file);
        let by_http = Place::new();
        let daemon = Daemon::start(&by_http, &[]);
        let lines: Vec<&[u8]> = rows.split_inclusive(|byte| *byte == b'\n').collect();
        for chunk in lines.chunks(ROWS) {
            let path = format!("/v1/{kind}");
            let reply = daemon.post_as(&path, "application/x-ndjson", chunk.concat());
            assert_eq!(reply.json()["accepted"], chunk.len(), "{reply:?}");
        }
        daemon.terminate().code(143);
        assert!(export(&by_http) == rows, "{}: the rows differ", line.file());
        files += 1;
    }
    assert!(files >= 5, "{files} files");
}
