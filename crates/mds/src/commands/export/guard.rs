//! Files that an export must not replace: the store, dead letters, other databases.
//!
//! An export takes the place of what has its name. For a table of last week that is wanted; for the
//! store it would be the loss of everything, for the sake of one wrong word on the command line.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mds_coordinator::dead_letter::{DeadLetterQueue, DlqOptions};
use mds_core::Kind;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Usage;

/// What SQLite keeps beside a database.
const BESIDE_DATABASE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// What lies beside a file of dead letters.
const BESIDE_LETTERS: [&str; 3] = [".settled", ".lock", ".replay.lock"];
/// The first bytes of every SQLite database.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Refuses to write to `out` where something lies, or will lie, that no export may replace.
pub(super) fn refuse_precious(out: &Path, context: &Context) -> anyhow::Result<()> {
    let what = if let Some(what) = of_store(out, context)? {
        what
    } else if is_of_letters(out, context)? {
        "is for dead letters"
    } else if is_database(out)? {
        "is a SQLite database"
    } else if is_beside_database(out)? {
        "belongs to a SQLite database"
    } else {
        return Ok(());
    };
    let message = format!("{} {what}; write to another file", out.display());
    Err(Usage::new(message).into())
}

fn of_store(out: &Path, context: &Context) -> anyhow::Result<Option<&'static str>> {
    let url = context.store_url()?;
    let Some(store) = url.path() else {
        return Ok(None);
    };
    if is_same(out, store) {
        return Ok(Some("is the store"));
    }
    let belongs = BESIDE_DATABASE
        .iter()
        .any(|end| is_same(out, &with_end(store, end)));
    Ok(belongs.then_some("belongs to the store"))
}

fn is_of_letters(out: &Path, context: &Context) -> anyhow::Result<bool> {
    for letters in Kind::ALL.map(|kind| context.dlq_path(kind)) {
        let named = std::iter::once(letters.clone())
            .chain(BESIDE_LETTERS.map(|end| with_end(&letters, end)))
            .any(|file| is_same(out, &file));
        if named || is_rotated(out, &letters) {
            return Ok(true);
        }
        let files = DeadLetterQueue::<Value>::at(&letters, DlqOptions::default())
            .and_then(|dlq| dlq.letter_files())?;
        if files.iter().any(|file| is_same(out, file)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `out` is the name of a full file of `letters`: `bars.000001.ndjson`.
fn is_rotated(out: &Path, letters: &Path) -> bool {
    let number = |stem: &OsStr| -> Option<bool> {
        let digits = stem.as_encoded_bytes();
        let digits = digits.strip_prefix(letters.file_stem()?.as_encoded_bytes())?;
        let digits = digits.strip_prefix(b".")?;
        Some(digits.len() >= 6 && digits.iter().all(u8::is_ascii_digit))
    };
    out.extension() == letters.extension()
        && out.file_stem().and_then(number) == Some(true)
        && resolved(&out.with_file_name("x")) == resolved(&letters.with_file_name("x"))
}

fn is_database(path: &Path) -> anyhow::Result<bool> {
    // What is no regular file is refused elsewhere; a pipe must not be waited for here.
    if !path.is_file() {
        return Ok(false);
    }
    let looked = || format!("cannot see what {} is, to replace it", path.display());
    let mut head = [0; SQLITE_MAGIC.len()];
    match File::open(path).with_context(looked)?.read_exact(&mut head) {
        Ok(()) => Ok(head == *SQLITE_MAGIC),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e).with_context(looked),
    }
}

fn is_beside_database(path: &Path) -> anyhow::Result<bool> {
    let Some(name) = path.file_name().map(OsStr::to_string_lossy) else {
        return Ok(false);
    };
    for end in BESIDE_DATABASE {
        if let Some(database) = name.strip_suffix(end)
            && is_database(&path.with_file_name(database))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two paths lead, or will lead, to one file: by name, and by device and inode where both
/// exist.
fn is_same(one: &Path, other: &Path) -> bool {
    if resolved(one) == resolved(other) {
        return true;
    }
    #[cfg(unix)]
    if let (Ok(one), Ok(other)) = (one.metadata(), other.metadata()) {
        use std::os::unix::fs::MetadataExt as _;
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    false
}

/// The path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent().map(resolved), absolute.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => absolute,
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}
