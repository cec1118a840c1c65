//! Content that is no text of records, told by its first bytes.
//!
//! A person who passes a spreadsheet or an archive of an unread kind is told what it is and what to
//! do with it, whatever the file is called.

/// Why the start of an input cannot be one of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Text in two bytes a character; the name for `iconv -f`.
    Utf16(&'static str),
    /// Lines end in a carriage return alone.
    CrLines,
    /// Something else: what it is, and what to do.
    Other(&'static str, &'static str),
}

const UNPACK: &str = "unpack it and pass the files in it";
const EXPORT: &str = "export what it holds as CSV first";
const DOWNLOAD: &str = "check where it was downloaded from";

/// Where the first bytes are, what they are, and what to do.
const MAGIC: [(usize, &[u8], &str, &str); 23] = [
    (
        0,
        b"\x1F\x8B",
        "gzip within gzip",
        "unpack it once (gunzip)",
    ),
    (0, b"PK\x03\x04", "a zip archive within an archive", UNPACK),
    (0, b"PK\x05\x06", "a zip archive within an archive", UNPACK),
    (
        257,
        b"ustar",
        "a tar archive",
        "unpack it (tar -xf) and pass its files",
    ),
    (0, b"BZh", "packed with bzip2", "unpack it (bunzip2) first"),
    (0, b"\xFD7zXZ\0", "packed with xz", "unpack it (unxz) first"),
    (
        0,
        b"\x28\xB5\x2F\xFD",
        "packed with zstd",
        "unpack it (unzstd) first",
    ),
    (
        0,
        b"\x04\x22\x4D\x18",
        "packed with lz4",
        "unpack it (unlz4) first",
    ),
    (0, b"7z\xBC\xAF\x27\x1C", "a 7z archive", UNPACK),
    (0, b"Rar!\x1A\x07", "a rar archive", UNPACK),
    (0, b"PAR1", "a Parquet file", EXPORT),
    (0, b"ARROW1", "an Arrow file", EXPORT),
    (0, b"FEA1", "a Feather file", EXPORT),
    (0, b"ORC", "an ORC file", EXPORT),
    (0, b"Obj\x01", "an Avro file", EXPORT),
    (0, b"\x89HDF\r\n\x1A\n", "an HDF5 file", EXPORT),
    (0, b"SQLite format 3\0", "a SQLite data base", EXPORT),
    (
        0,
        b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1",
        "an old Office document (such as .xls)",
        EXPORT,
    ),
    (0, b"%PDF-", "a PDF document", EXPORT),
    (0, b"\x89PNG\r\n\x1A\n", "a picture", DOWNLOAD),
    (0, b"\xFF\xD8\xFF", "a picture", DOWNLOAD),
    (0, b"GIF8", "a picture", DOWNLOAD),
    (0, b"\x7FELF", "a program", DOWNLOAD),
];

/// What the bytes at the start of an input are, where they are not to be read as text.
pub(crate) fn foreign(start: &[u8]) -> Option<Foreign> {
    if start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
        return Some(Foreign::Utf16("UTF-16"));
    }
    for (at, magic, what, advice) in MAGIC {
        if start.get(at..).is_some_and(|rest| rest.starts_with(magic)) && !is_text(magic, start) {
            return Some(Foreign::Other(what, advice));
        }
    }
    if let Some(encoding) = two_byte_text(start) {
        return Some(Foreign::Utf16(encoding));
    }
    if is_html(start) {
        return Some(Foreign::Other("an HTML page", DOWNLOAD));
    }
    ends_lines_in_cr(start).then_some(Foreign::CrLines)
}

/// Whether a magic number of letters alone is the first word of a text.
fn is_text(magic: &[u8], start: &[u8]) -> bool {
    let first = start.get(..256).unwrap_or(start);
    let printable = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace();
    !magic.starts_with(b"%PDF") && first.iter().all(printable)
}

/// UTF-16 without a mark: every other byte of the first characters is zero.
fn two_byte_text(start: &[u8]) -> Option<&'static str> {
    let pairs: Vec<&[u8]> = start.chunks_exact(2).take(16).collect();
    let all = |zero: usize, letter: usize| {
        pairs.len() >= 4
            && pairs
                .iter()
                .all(|pair| pair[zero] == 0 && pair[letter] != 0)
    };
    if all(1, 0) {
        Some("UTF-16LE")
    } else {
        all(0, 1).then_some("UTF-16BE")
    }
}

fn is_html(start: &[u8]) -> bool {
    let text = start.trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"].iter().any(|tag| {
        text.get(..tag.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(tag))
    })
}

/// Whether a carriage return ends the first line. Inside of a JSON array or document one is a blank
/// like any other; between the objects of two lines it is not.
fn ends_lines_in_cr(start: &[u8]) -> bool {
    let first = match memchr::memchr(b'\n', start) {
        Some(end) => &start[..end],
        None => start,
    };
    let control = |b: &u8| b.is_ascii_control() && !b.is_ascii_whitespace();
    if first.iter().any(control) {
        return false;
    }
    let json = matches!(start.trim_ascii_start().first(), Some(b'[' | b'{'));
    let mut quotes = 0;
    let mut text = false;
    for (at, &byte) in first.iter().enumerate() {
        match byte {
            b'"' => quotes += 1,
            b'\r' if text && quotes % 2 == 0 => {
                let rest = first.get(at + 1..).unwrap_or_default();
                let objects = first.get(at - 1) == Some(&b'}') && rest.first() == Some(&b'{');
                if (!json && !rest.trim_ascii_start().is_empty()) || objects {
                    return true;
                }
            }
            _ => text |= !byte.is_ascii_whitespace(),
        }
    }
    false
}
