//! The entries of a zip archive, each a stream of its own.
//!
//! The `zip` crate reads the table of contents; the bytes of an entry are read here, since an
//! entry of the crate borrows its archive and a [`Reader`](crate::Reader) owns what it reads. An
//! entry whose length or checksum differs from the table of contents ends in an error, after all
//! of its bytes were delivered.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use flate2::Crc;
use flate2::read::DeflateDecoder;
use zip::CompressionMethod;

use super::name::Name;
use super::source::Counted;
use crate::error::OpenError;

/// Where the archive's bytes are.
#[derive(Debug)]
pub(super) enum Bytes {
    File(File),
    Memory(Arc<[u8]>),
}

/// One entry, as the table of contents has it.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    start: u64,
    packed: u64,
    unpacked: u64,
    crc: u32,
    deflated: bool,
}

/// The entries of an archive that hold data, in order.
#[derive(Debug)]
pub(super) struct Archive {
    bytes: Bytes,
    entries: std::vec::IntoIter<Entry>,
    /// Entries that are not read, and why, for a person.
    pub(super) notes: Vec<String>,
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

impl Bytes {
    fn reader(&self, path: &Path) -> Result<Box<dyn ReadSeek>, OpenError> {
        Ok(match self {
            Self::File(file) => Box::new(file.try_clone().map_err(|source| OpenError::Io {
                path: path.display().to_string(),
                operation: "open",
                source,
            })?),
            Self::Memory(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
        })
    }
}

impl Archive {
    /// Reads the table of contents.
    pub(super) fn open(bytes: Bytes, path: &str) -> Result<Self, OpenError> {
        let reader = bytes.reader(Path::new(path))?;
        let broken = |source| OpenError::Archive {
            path: path.to_owned(),
            source,
        };
        let mut archive = zip::ZipArchive::new(reader).map_err(broken)?;
        let mut entries = Vec::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(broken)?;
            let name = entry.name().map_err(broken)?.into_owned();
            if !entry.is_dir() && !is_furniture(&name) {
                entries.push(read_entry(path, name, &entry)?);
            }
        }
        let mut notes = Vec::new();
        leave_reports_out(&mut entries, &mut notes);
        Ok(Self {
            bytes,
            entries: entries.into_iter(),
            notes,
        })
    }

    /// The next entry: its name and its unpacked bytes; `read` counts the packed ones.
    pub(super) fn next_entry(
        &mut self,
        read: &Arc<AtomicU64>,
    ) -> io::Result<Option<(String, Box<dyn Read + Send>)>> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        let raw: Box<dyn Read + Send> = match &self.bytes {
            Bytes::File(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(entry.start))?;
                Box::new(BufReader::with_capacity(64 * 1024, file).take(entry.packed))
            }
            Bytes::Memory(bytes) => {
                let mut cursor = Cursor::new(Arc::clone(bytes));
                cursor.set_position(entry.start);
                Box::new(cursor.take(entry.packed))
            }
        };
        let raw = Counted {
            input: raw,
            read: Arc::clone(read),
        };
        let unpacked: Box<dyn Read + Send> = if entry.deflated {
            Box::new(DeflateDecoder::new(raw))
        } else {
            Box::new(raw)
        };
        let checked = Checked {
            input: unpacked,
            crc: Crc::new(),
            read: 0,
            expected: (entry.unpacked, entry.crc),
        };
        Ok(Some((entry.name, Box::new(checked))))
    }
}

/// What archivers put beside the data.
fn is_furniture(name: &str) -> bool {
    name.starts_with("__MACOSX/")
        || name
            .rsplit('/')
            .next()
            .is_some_and(|base| base.starts_with('.'))
}

fn read_entry<R: Read>(
    path: &str,
    name: String,
    entry: &zip::read::ZipFile<'_, R>,
) -> Result<Entry, OpenError> {
    let refuse = |reason: String| OpenError::ArchiveEntry {
        path: format!("{path}!{name}"),
        reason,
    };
    if entry.encrypted() {
        return Err(refuse("it is encrypted".to_owned()));
    }
    let deflated = match entry.compression() {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        other => return Err(refuse(format!("it is packed with {other}"))),
    };
    let Some(start) = entry.data_start() else {
        return Err(refuse(
            "the archive does not say where it starts".to_owned(),
        ));
    };
    Ok(Entry {
        start,
        packed: entry.compressed_size(),
        unpacked: entry.size(),
        crc: entry.crc32(),
        deflated,
        name,
    })
}

/// Vendors put a report or a licence beside the data (`.txt`, `.md`, `.pdf`, `.html`); where an
/// archive has entries that are data by their name, those are left out.
fn leave_reports_out(entries: &mut Vec<Entry>, notes: &mut Vec<String>) {
    let ends = |name: &str, endings: &[&str]| {
        let lower = name.to_ascii_lowercase();
        endings.iter().any(|ending| lower.ends_with(ending))
    };
    let data = [".csv", ".tsv", ".json", ".ndjson", ".jsonl", ".gz"];
    let reports = [".txt", ".md", ".pdf", ".html", ".htm"];
    if !entries.iter().any(|e| ends(&e.name, &data)) {
        return;
    }
    entries.retain(|entry| {
        let report = ends(&entry.name, &reports);
        if report {
            notes.push(format!(
                "left out {}: a text beside the data files of the archive",
                Name::new(&entry.name).stem()
            ));
        }
        !report
    });
}

/// Compares an entry's bytes with the table of contents when it ends.
struct Checked {
    input: Box<dyn Read + Send>,
    crc: Crc,
    read: u64,
    expected: (u64, u32),
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if count > 0 {
            self.crc.update(&buffer[..count]);
            self.read += count as u64;
            return Ok(count);
        }
        if buffer.is_empty() || (self.read, self.crc.sum()) == self.expected {
            return Ok(0);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the entry's length or checksum is not the one in the archive's table of contents",
        ))
    }
}
