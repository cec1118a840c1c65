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
        let mut names = Vec::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(broken)?;
            let name = entry.name().map_err(broken)?.into_owned();
            if !entry.is_dir() && !is_furniture(&name) {
                names.push((index, name));
            }
        }
        refuse_office(path, &names)?;
        let mut notes = Vec::new();
        leave_others_out(&mut names, &mut notes);
        let mut entries = Vec::new();
        for (index, name) in names {
            let entry = archive.by_index_raw(index).map_err(broken)?;
            entries.push(read_entry(path, name, &entry)?);
        }
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

/// Documents of spreadsheet programs are zip archives too.
fn refuse_office(path: &str, names: &[(usize, String)]) -> Result<(), OpenError> {
    let has = |wanted: &str| names.iter().any(|(_, name)| name == wanted);
    let what = if has("[Content_Types].xml") {
        "an Office document (such as .xlsx)"
    } else if has("content.xml") && has("mimetype") {
        "an OpenDocument file (such as .ods)"
    } else {
        return Ok(());
    };
    Err(OpenError::Foreign {
        path: path.to_owned(),
        what,
        advice: "save its sheet as CSV first",
    })
}

/// Endings of entries that are data.
const DATA: [&str; 5] = ["csv", "tsv", "json", "ndjson", "jsonl"];
/// Endings of texts, which some vendors use for data and others for a report or a licence.
const TEXTS: [&str; 9] = [
    "txt", "text", "md", "rst", "log", "html", "htm", "xml", "readme",
];
/// Endings of what is never data that can be read here.
const OTHERS: [&str; 57] = [
    "zip", "7z", "rar", "tar", "tgz", "bz2", "xz", "zst", "lz4", "z", "xlsx", "xlsm", "xls", "ods",
    "doc", "docx", "odt", "rtf", "ppt", "pptx", "pdf", "png", "jpg", "jpeg", "gif", "svg", "bmp",
    "ico", "webp", "db", "sqlite", "sqlite3", "mdb", "parquet", "feather", "arrow", "orc", "avro",
    "h5", "hdf5", "pkl", "pickle", "npy", "npz", "mat", "rds", "py", "ipynb", "r", "sql", "exe",
    "dll", "sh", "bat", "md5", "sha256", "sig",
];

/// What the ending of an entry's name says about it, behind `.gz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Data,
    Text,
    Other,
    Unknown,
}

fn ending(name: &str) -> Ending {
    let lower = name.to_ascii_lowercase();
    let unpacked = lower.strip_suffix(".gz").unwrap_or(&lower);
    let base = unpacked.rsplit('/').next().unwrap_or(unpacked);
    let end = base.rsplit('.').next().unwrap_or(base);
    if DATA.contains(&end) && end != base {
        Ending::Data
    } else if TEXTS.contains(&end) || matches!(base, "license" | "licence" | "checksum") {
        Ending::Text
    } else if OTHERS.contains(&end) && end != base {
        Ending::Other
    } else if unpacked.len() < lower.len() {
        Ending::Data
    } else {
        Ending::Unknown
    }
}

/// Vendors put reports, licences, pictures and spreadsheets beside the data; where an archive has
/// entries that are data by their name, those are left out, and where it has any other entries,
/// those that cannot be data.
fn leave_others_out(names: &mut Vec<(usize, String)>, notes: &mut Vec<String>) {
    let any = |wanted: fn(Ending) -> bool| names.iter().any(|(_, name)| wanted(ending(name)));
    let data = any(|ending| ending == Ending::Data);
    if !any(|ending| ending != Ending::Other) {
        return;
    }
    names.retain(|(_, name)| {
        let left_out = match ending(name) {
            Ending::Data | Ending::Unknown => false,
            Ending::Text => data,
            Ending::Other => true,
        };
        if left_out {
            notes.push(format!(
                "left out {name}: no data by its name, beside the data of the archive"
            ));
        }
        !left_out
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
