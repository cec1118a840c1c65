//! Settling letters, and removing files whose letters are all settled.
//!
//! Settled lines are named in a file beside the letters, one a line: the line's fingerprint and the
//! letter's id, for people. A fingerprint names a line by its content, so it stays right when the
//! line's file is rotated, and says nothing about a copy that is appended later.
//!
//! The file of settled lines is appended to and synced. It is rewritten only after files of letters
//! were removed, durably, and then loses only lines about what was in them. A cut-off line at its
//! end names nothing: that letter is still unsettled.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::error::DlqError;
use super::files::{FileLock, Files, Stamp, private, remove_file};
use super::letter::{Fingerprint, LetterKey};
use super::scan::{self, Lines};

/// The settled lines, as they were when they were loaded.
#[derive(Debug, Default)]
pub(super) struct Settled {
    lines: HashSet<Fingerprint>,
    /// What was read; `None` where there is no file.
    stamp: Option<Stamp>,
    /// The file, kept open: its number is given to no other file meanwhile, so that the stamp never
    /// takes a file that came later for this one.
    _file: Option<File>,
}

impl Settled {
    pub(super) fn load(files: &Files) -> Result<Self, DlqError> {
        let failed = |source| DlqError::Read {
            path: files.settled.clone(),
            source,
        };
        let file = match File::open(&files.settled) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(failed(e)),
        };
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        let mut lines = HashSet::new();
        // What is appended from here on is not part of this stamp.
        let mut reader = BufReader::new((&file).take(stamp.len));
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            lines.extend(parse_mark(&line));
        }
        Ok(Self {
            lines,
            stamp: Some(stamp),
            _file: Some(file),
        })
    }

    pub(super) fn contains(&self, line: &Fingerprint) -> bool {
        self.lines.contains(line)
    }
}

fn parse_mark(line: &[u8]) -> Option<Fingerprint> {
    let word = line.split(u8::is_ascii_whitespace).next()?;
    Uuid::try_parse_ascii(word).ok()
}

/// Records letters as settled, durably.
pub(super) fn mark(files: &Files, letters: &[LetterKey]) -> Result<(), DlqError> {
    let mut text = String::new();
    for letter in letters {
        for line in &letter.lines {
            for part in [&line.to_string(), " ", &letter.id.to_string(), "\n"] {
                text.push_str(part);
            }
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    let _lock = files.lock()?;
    append_marks(files, text)
}

fn append_marks(files: &Files, mut text: String) -> Result<(), DlqError> {
    let failed = |source| DlqError::Settle {
        path: files.settled.clone(),
        source,
    };
    let mut file = private(OpenOptions::new().read(true).append(true).create(true))
        .open(&files.settled)
        .map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if len == 0 {
        files.sync_dir()?;
    } else {
        let mut last = [0];
        file.seek(SeekFrom::Start(len - 1)).map_err(failed)?;
        file.read_exact(&mut last).map_err(failed)?;
        if last != *b"\n" {
            text.insert(0, '\n');
        }
    }
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_data().map_err(failed)
}

/// What was removed since all of its letters were settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Files of letters.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Removes the files whose letters are all settled.
///
/// They are looked through without the lock, since letters stay settled; the lock is taken to
/// remove those that did not change meanwhile.
pub(super) fn reclaim(files: &Arc<Files>) -> Result<Reclaimed, DlqError> {
    let settled = Settled::load(files)?;
    let mut done = Vec::new();
    let rotated = files.rotated()?.into_iter().map(|(_, path)| path);
    for path in rotated.chain([files.active.clone()]) {
        if let Some(stamp) = settled_file(files, &path, &settled)? {
            done.push((path, stamp));
        }
    }
    if done.is_empty() && settled.stamp.is_none() {
        return Ok(Reclaimed::default());
    }
    let lock = files.lock()?;
    let mut reclaimed = Reclaimed::default();
    for (path, stamp) in done {
        if fs::metadata(&path).is_ok_and(|meta| Stamp::of(&meta) == stamp) {
            remove_file(&path)?;
            reclaimed.files += 1;
            reclaimed.bytes += stamp.len;
        }
    }
    if reclaimed.files > 0 {
        // Durable before the marks go: else a power cut could bring the letters back unsettled.
        files.sync_dir()?;
    }
    if files.rotated()?.is_empty() && !files.active.exists() {
        remove_file(&files.settled)?;
        files.sync_dir()?;
        lock.remove()?;
        return Ok(reclaimed);
    }
    drop(lock);
    if reclaimed.files > 0 {
        trim(files, &settled)?;
    }
    Ok(reclaimed)
}

/// The stamp of a file that has only settled lines; `None` where it has others, or is missing.
fn settled_file(
    files: &Files,
    path: &PathBuf,
    settled: &Settled,
) -> Result<Option<Stamp>, DlqError> {
    let Ok(meta) = fs::metadata(path) else {
        return Ok(None);
    };
    let stamp = Stamp::of(&meta);
    let Some(mut lines) = scan::open(path)? else {
        return Ok(None);
    };
    let mut buffer = Vec::new();
    while let Some(line) = lines.next(files, &mut buffer)? {
        if !settled.contains(&line.fingerprint) {
            return Ok(None);
        }
    }
    Ok(Some(stamp))
}

/// Drops the marks of lines that are in no file any more. `settled` is what was loaded before.
fn trim(files: &Arc<Files>, settled: &Settled) -> Result<(), DlqError> {
    let Some(stamp) = &settled.stamp else {
        return Ok(());
    };
    let mut lines = Lines::open(files)?;
    let mut buffer = Vec::new();
    let mut present = HashSet::new();
    while let Some(line) = lines.next(&mut buffer)? {
        if settled.contains(&line.fingerprint) {
            present.insert(line.fingerprint);
        }
    }
    let lock = files.lock()?;
    let failed = |source| DlqError::Settle {
        path: files.settled.clone(),
        source,
    };
    let Ok(mut file) = File::open(&files.settled) else {
        return Ok(());
    };
    if !stamp.is_same_file(&Stamp::of(&file.metadata().map_err(failed)?)) {
        // Somebody else trimmed it meanwhile.
        return Ok(());
    }
    rewrite(files, &mut file, stamp.len, &present, &lock).map_err(failed)?;
    files.sync_dir()
}

/// Replaces the file of settled lines by one with, of its first `old` bytes, only the marks of
/// `present` lines, and everything after.
fn rewrite(
    files: &Files,
    file: &mut File,
    old: u64,
    present: &HashSet<Fingerprint>,
    _held: &FileLock,
) -> io::Result<()> {
    let temporary = files.settled.with_extension("settled.tmp");
    let new =
        private(OpenOptions::new().write(true).create(true).truncate(true)).open(&temporary)?;
    let mut writer = io::BufWriter::new(new);
    let mut reader = BufReader::new(file);
    let (mut line, mut at) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let keep =
            at + read as u64 > old || parse_mark(&line).is_some_and(|mark| present.contains(&mark));
        if keep {
            writer.write_all(&line)?;
        }
        at += read as u64;
    }
    let new = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    new.sync_all()?;
    fs::rename(&temporary, &files.settled)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_of_marks_is_never_taken_for_the_one_that_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(&dir.path().join("bars.ndjson")).unwrap();
        fs::write(&files.settled, "a mark\n").unwrap();
        let settled = Settled::load(&files).unwrap();
        let stamp = settled.stamp.as_ref().unwrap();
        assert!(stamp.is_same_file(&Stamp::of(&fs::metadata(&files.settled).unwrap())));
        // File systems give the number of a removed file to the next one that is made.
        for _ in 0..100 {
            fs::remove_file(&files.settled).unwrap();
            fs::write(&files.settled, "another\n").unwrap();
            let later = Stamp::of(&fs::metadata(&files.settled).unwrap());
            assert!(!stamp.is_same_file(&later));
        }
    }
}
