//! An opened input.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::archive::{Archive, Bytes};
use super::lines::Lines;
use super::name::Name;
use crate::error::{OpenError, ReadError};

const GZIP: &[u8] = b"\x1F\x8B";
const ZIP: &[u8] = b"PK\x03\x04";
const EMPTY_ZIP: &[u8] = b"PK\x05\x06";

/// How much of an input may be held in memory or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one line; a longer one is an invalid row. At least 64 KiB; default 16 MiB.
    pub line_bytes: usize,
    /// Bytes of a document that has to be in memory as a whole (JSON formats, a zip archive from a
    /// stream). Default 512 MiB.
    pub document_bytes: u64,
    /// Bytes that a gzip file or one entry of a zip archive may unpack to. Default 1 TiB.
    pub unpacked_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 16 << 20,
            document_bytes: 512 << 20,
            unpacked_bytes: 1 << 40,
        }
    }
}

/// An opened input: a plain file, a gzip file (all of its members), a zip archive (its entries in
/// order), or any stream of these.
///
/// Gzip and zip are known by their first bytes, never by the file's name.
///
/// ```
/// use mds_formats::Source;
///
/// let source = Source::from_reader("-", std::io::empty(), Default::default()).unwrap();
/// assert_eq!(source.path(), "-");
/// assert!(Source::open("no/such/file.csv", Default::default()).is_err());
/// ```
#[derive(Debug)]
pub struct Source {
    path: Arc<str>,
    parts: Parts,
    /// Opened already, since its start was looked at.
    first: Option<Part>,
    notes: Vec<String>,
    limits: Limits,
    read: Arc<AtomicU64>,
    length: Option<u64>,
}

#[derive(Debug)]
enum Parts {
    None,
    Archive(Archive),
}

/// A stretch of input with line numbers of its own: a file, or one entry of an archive.
#[derive(Debug)]
pub(crate) struct Part {
    /// As told to people: `file.csv`, `file.zip!entry.csv`.
    pub(crate) path: Arc<str>,
    /// What the part's own name says, then that of the file around it.
    pub(crate) names: Vec<Name>,
    pub(crate) lines: Lines,
    pub(crate) limits: Limits,
    /// Whether the rest may be long in coming: a pipe, not a file.
    pub(crate) is_stream: bool,
}

impl Part {
    /// The whole part as text, for formats that are one document.
    pub(crate) fn document(&mut self) -> Result<String, ReadError> {
        let path = || self.path.to_string();
        let limit = self.limits.document_bytes;
        let bytes = self.lines.rest(limit).map_err(|source| ReadError::Io {
            path: path(),
            operation: "read",
            line: 0,
            source,
        })?;
        let bytes = bytes.ok_or_else(|| ReadError::TooLarge {
            path: path(),
            limit,
            what: "a document",
        })?;
        String::from_utf8(bytes).map_err(|error| {
            let upto = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..upto).unwrap_or_default();
            ReadError::Malformed {
                path: path(),
                line: 1 + memchr::memchr_iter(b'\n', before).count() as u64,
                reason: "the document is not UTF-8 text".to_owned(),
            }
        })
    }

    /// Turns a failed read of a line into an error that says where.
    pub(crate) fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.path.to_string(),
            operation: "read",
            line: self.lines.number(),
            source,
        }
    }
}

impl Source {
    /// Opens the file at `path` and looks at its first bytes.
    pub fn open(path: impl AsRef<Path>, limits: Limits) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let failed = |operation| {
            let path = shown.clone();
            move |source| OpenError::Io {
                path,
                operation,
                source,
            }
        };
        let mut file = File::open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("read the size of"))?;
        if metadata.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(failed("read")(source));
        }
        let length = metadata.is_file().then_some(metadata.len());
        // A pipe cannot go back to its start; only regular files are read as archives in place.
        let magic = read_start(&mut file).map_err(failed("read"))?;
        if length.is_some() && is_zip(&magic) {
            let archive = Archive::open(Bytes::File(file), &shown)?;
            return Self::of_archive(shown, archive, limits, length);
        }
        Self::of_stream(&shown, magic, file, limits, length)
    }

    /// Takes any stream; `path` is what it is called in messages and verdicts (`-` for stdin).
    ///
    /// A zip archive from a stream is held in memory, up to
    /// [`document_bytes`](Limits::document_bytes).
    pub fn from_reader(
        path: &str,
        mut reader: impl Read + Send + 'static,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let magic = read_start(&mut reader).map_err(|source| OpenError::Io {
            path: path.to_owned(),
            operation: "read",
            source,
        })?;
        Self::of_stream(path, magic, reader, limits, None)
    }

    fn of_stream(
        path: &str,
        magic: Vec<u8>,
        reader: impl Read + Send + 'static,
        limits: Limits,
        length: Option<u64>,
    ) -> Result<Self, OpenError> {
        let packed_zip = is_zip(&magic);
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            input: Cursor::new(magic).chain(reader),
            read: Arc::clone(&read),
        };
        if packed_zip {
            let bytes = hold(path, counted, limits.document_bytes)?;
            let archive = Archive::open(Bytes::Memory(bytes), path)?;
            return Self::of_archive(path.to_owned(), archive, limits, length);
        }
        let shown: Arc<str> = Arc::from(path);
        let mut first = open_part(
            Arc::clone(&shown),
            vec![Name::new(path)],
            Box::new(counted),
            limits,
        )
        .map_err(|source| OpenError::Io {
            path: path.to_owned(),
            operation: "read",
            source,
        })?;
        first.is_stream = length.is_none();
        Ok(Self {
            path: shown,
            parts: Parts::None,
            first: Some(first),
            notes: Vec::new(),
            limits,
            read,
            length,
        })
    }

    fn of_archive(
        path: String,
        mut archive: Archive,
        limits: Limits,
        length: Option<u64>,
    ) -> Result<Self, OpenError> {
        let mut source = Self {
            path: Arc::from(path),
            notes: std::mem::take(&mut archive.notes),
            parts: Parts::Archive(archive),
            first: None,
            limits,
            read: Arc::new(AtomicU64::new(0)),
            length,
        };
        source.first = source.open_next().map_err(|error| OpenError::Io {
            path: source.path.to_string(),
            operation: "unpack",
            source: error,
        })?;
        Ok(source)
    }

    /// The path, as the user named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Bytes of the input, packed as it is; `None` for a stream.
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Bytes read so far, packed as they are.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// What is worth telling about the input itself.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the part that will be read first is called in messages.
    pub(crate) fn first_path(&self) -> Arc<str> {
        let first = self.first.as_ref().map(|part| &part.path);
        Arc::clone(first.unwrap_or(&self.path))
    }

    /// The part that will be read next, if it was opened already.
    pub(crate) const fn first_mut(&mut self) -> Option<&mut Part> {
        self.first.as_mut()
    }

    /// Moves on to the next part.
    pub(crate) fn next_part(&mut self) -> Result<Option<Part>, ReadError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        self.open_next().map_err(|source| ReadError::Io {
            path: self.path.to_string(),
            operation: "unpack",
            line: 0,
            source,
        })
    }

    /// The next entry of the archive that is not empty: empty ones have no rows, nor a header.
    fn open_next(&mut self) -> io::Result<Option<Part>> {
        let Parts::Archive(archive) = &mut self.parts else {
            return Ok(None);
        };
        while let Some((name, bytes)) = archive.next_entry(&self.read)? {
            let path = Arc::from(format!("{}!{name}", self.path));
            let names = vec![Name::new(&name), Name::new(&self.path)];
            let capped = Box::new(Capped {
                input: bytes,
                left: self.limits.unpacked_bytes,
            });
            let mut part = open_part(path, names, capped, self.limits)?;
            if !part.lines.is_blank() {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}

/// Looks behind gzip, if there is any.
fn open_part(
    path: Arc<str>,
    names: Vec<Name>,
    mut bytes: Box<dyn Read + Send>,
    limits: Limits,
) -> io::Result<Part> {
    let magic = read_start(&mut bytes)?;
    let packed = magic.starts_with(GZIP);
    let whole = Cursor::new(magic).chain(bytes);
    let input: Box<dyn Read + Send> = if packed {
        let buffered = BufReader::with_capacity(128 * 1024, whole);
        Box::new(Capped {
            input: MultiGzDecoder::new(buffered),
            left: limits.unpacked_bytes,
        })
    } else {
        Box::new(whole)
    };
    Ok(Part {
        path,
        names,
        lines: Lines::new(input, limits.line_bytes),
        limits,
        is_stream: false,
    })
}

fn is_zip(magic: &[u8]) -> bool {
    magic.starts_with(ZIP) || magic.starts_with(EMPTY_ZIP)
}

/// The first bytes of a stream, as many as the magic numbers need.
fn read_start(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(ZIP.len());
    reader
        .by_ref()
        .take(ZIP.len() as u64)
        .read_to_end(&mut magic)?;
    Ok(magic)
}

/// The bytes of a stream that has to be in memory.
fn hold(path: &str, reader: impl Read, limit: u64) -> Result<Arc<[u8]>, OpenError> {
    let mut bytes = Vec::new();
    let count = reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| OpenError::Io {
            path: path.to_owned(),
            operation: "read",
            source,
        })?;
    if count as u64 > limit {
        return Err(OpenError::ArchiveEntry {
            path: path.to_owned(),
            reason: format!("a zip archive from a stream may have at most {limit} bytes"),
        });
    }
    Ok(bytes.into())
}

/// Counts the bytes that pass.
pub(super) struct Counted<R> {
    pub(super) input: R,
    pub(super) read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Fails where more bytes come than the limit allows, after those up to the limit.
struct Capped<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return match self.input.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "it unpacks to more bytes than the limit allows",
                )),
            };
        }
        let room = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.input.read(&mut buffer[..room])?;
        self.left -= count as u64;
        Ok(count)
    }
}
