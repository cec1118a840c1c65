//! Reading letters: rotated files and the active one, oldest first, in bounded memory.
//!
//! A scan reads twice: first for an [`Index`] of what there is, then to give each letter once, at
//! its newest copy. A line that the first pass did not see, since it was appended in between, is
//! left for the next scan; a line that is met twice, since its file was rotated in between, is
//! given once. So no lock is held while reading, except to wait for an append that is under way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::draft::MAX_LINE_BYTES;
use super::error::DlqError;
use super::files::Files;
use super::filter::LetterFilter;
use super::index::Index;
use super::letter::{Damaged, Entry, Fingerprint, Wire, fingerprint};

/// How much of a damaged line is shown.
const PREVIEW_BYTES: usize = 200;

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) path: Arc<Path>,
    /// From 1.
    pub(super) number: u64,
    /// Without the line break.
    pub(super) bytes: u64,
    pub(super) fingerprint: Fingerprint,
    /// Whether it is longer than any line that is written.
    pub(super) too_long: bool,
}

/// The lines of one file; blank ones are skipped.
#[derive(Debug)]
pub(super) struct FileLines {
    path: Arc<Path>,
    reader: BufReader<File>,
    number: u64,
    offset: u64,
}

impl FileLines {
    pub(super) fn new(path: &Path, file: File) -> Self {
        Self {
            path: path.into(),
            reader: BufReader::with_capacity(64 << 10, file),
            number: 0,
            offset: 0,
        }
    }

    /// Reads the next line into `buffer`, without its line break; of a line that is too long only
    /// the beginning.
    pub(super) fn next(
        &mut self,
        files: &Files,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Line>, DlqError> {
        loop {
            let failed = |source| DlqError::Read {
                path: self.path.to_path_buf(),
                source,
            };
            let (mut bytes, mut complete) = read_line(&mut self.reader, buffer).map_err(failed)?;
            if bytes > 0 && !complete {
                // Perhaps an append is under way. Once it is over the line is whole, or its
                // writer was killed.
                files.wait_for_writer();
                self.reader
                    .seek(SeekFrom::Start(self.offset))
                    .map_err(failed)?;
                (bytes, complete) = read_line(&mut self.reader, buffer).map_err(failed)?;
            }
            if bytes == 0 && !complete {
                return Ok(None);
            }
            self.offset += bytes + u64::from(complete);
            self.number += 1;
            if buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let too_long = bytes > buffer.len() as u64;
            if too_long {
                buffer.extend_from_slice(&bytes.to_le_bytes());
            }
            return Ok(Some(Line {
                path: Arc::clone(&self.path),
                number: self.number,
                bytes,
                fingerprint: fingerprint(buffer),
                too_long,
            }));
        }
    }
}

/// Reads up to and with the next line break, and keeps up to `MAX_LINE_BYTES` of the line. Answers
/// the line's length and whether it ended in a line break.
fn read_line(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<(u64, bool)> {
    buffer.clear();
    let mut bytes = 0;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if chunk.is_empty() {
            return Ok((bytes, false));
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = MAX_LINE_BYTES.saturating_sub(buffer.len());
        buffer.extend_from_slice(&part[..part.len().min(room)]);
        bytes += part.len() as u64;
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok((bytes, true));
        }
    }
}

/// The lines of all files of a queue, oldest first.
#[derive(Debug)]
pub(super) struct Lines {
    files: Arc<Files>,
    /// Files to come, in reverse.
    rotated: Vec<PathBuf>,
    current: Option<FileLines>,
    active: Option<FileLines>,
}

impl Lines {
    pub(super) fn open(files: &Arc<Files>) -> Result<Self, DlqError> {
        // The active file first: if it is rotated before the others are listed, it is read twice
        // rather than not at all.
        let active = open(&files.active)?;
        let mut rotated: Vec<_> = files.rotated()?.into_iter().map(|(_, p)| p).collect();
        rotated.reverse();
        Ok(Self {
            files: Arc::clone(files),
            rotated,
            current: None,
            active,
        })
    }

    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Line>, DlqError> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(line) = current.next(&self.files, buffer)? {
                    return Ok(Some(line));
                }
                self.current = None;
            }
            // A file that is gone had only settled letters.
            self.current = match self.rotated.pop() {
                Some(path) => open(&path)?,
                None => match self.active.take() {
                    Some(active) => Some(active),
                    None => return Ok(None),
                },
            };
        }
    }
}

/// Opens a file for reading; `None` where it is missing.
pub(super) fn open(path: &Path) -> Result<Option<FileLines>, DlqError> {
    match File::open(path) {
        Ok(file) => Ok(Some(FileLines::new(path, file))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DlqError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The unsettled letters that a filter selects, each once, oldest first; made by
/// [`DeadLetterQueue::scan`](super::DeadLetterQueue::scan).
///
/// Lines that are no letters come as [`Entry::Damaged`], where the filter selects by nothing: there
/// is nothing in them to select by. After an error the scan is over.
#[derive(Debug)]
pub struct Scan<T> {
    lines: Lines,
    index: Index,
    filter: LetterFilter,
    left: usize,
    buffer: Vec<u8>,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Scan<T> {
    pub(super) fn new(files: &Arc<Files>, filter: LetterFilter) -> Result<Self, DlqError> {
        let index = Index::build(files)?;
        Ok(Self {
            lines: Lines::open(files)?,
            index,
            left: filter.limit.unwrap_or(usize::MAX),
            filter,
            buffer: Vec::new(),
            item: PhantomData,
        })
    }

    fn advance(&mut self) -> Result<Option<Entry<T>>, DlqError> {
        while self.left > 0 {
            let Some(line) = self.lines.next(&mut self.buffer)? else {
                break;
            };
            if let Some(entry) = self.entry(&line) {
                self.left -= 1;
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn entry(&mut self, line: &Line) -> Option<Entry<T>> {
        if !self.index.holds(line.fingerprint) {
            return None;
        }
        let parsed = if line.too_long {
            Err(format!("longer than {MAX_LINE_BYTES} bytes"))
        } else {
            Wire::parse(&self.buffer).map_err(|e| e.to_string())
        };
        let wire = match parsed {
            Ok(wire) => wire,
            Err(problem) => {
                self.index.take(line.fingerprint, line.fingerprint)?;
                let damaged = || Entry::Damaged(damaged(line, &self.buffer, problem));
                return self.filter.selects_everything().then(damaged);
            }
        };
        let id = wire.id(line.fingerprint);
        let key = self.index.take(id, line.fingerprint)?;
        if !self.filter.selects_wire(id, &wire) {
            return None;
        }
        Some(Entry::Letter(wire.into_letter(
            key,
            line.path.to_path_buf(),
            line.number,
        )))
    }
}

impl<T: DeserializeOwned> Iterator for Scan<T> {
    type Item = Result<Entry<T>, DlqError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.left = 0;
        }
        next.transpose()
    }
}

fn damaged(line: &Line, bytes: &[u8], problem: String) -> Damaged {
    let shown = &bytes[..bytes.len().min(PREVIEW_BYTES)];
    Damaged {
        path: line.path.to_path_buf(),
        line: line.number,
        bytes: line.bytes,
        preview: String::from_utf8_lossy(shown).into_owned(),
        problem,
        fingerprint: line.fingerprint,
    }
}
