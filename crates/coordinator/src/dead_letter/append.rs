//! Appending letters.
//!
//! Under the exclusive lock, in this order: the active file is opened anew (so a file that somebody
//! moved or removed is never written to), rotated if it is full, an unfinished line at its end is
//! ended, all lines are written with one write, and the file is synced. Only then does the caller
//! hear that its letters are kept.
//!
//! A write or sync that fails is taken back by cutting the file to where it was. A process that is
//! killed in between leaves an unfinished line: it was never acknowledged, the next append ends it,
//! and reading reports it as damaged.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::draft::Rendered;
use super::error::DlqError;
use super::files::Files;
use super::{DlqOptions, settle};
use crate::log::log;

/// What an append did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The ids of the letters, in the order of the drafts.
    pub ids: Vec<Uuid>,
    /// Bytes written.
    pub bytes: u64,
    /// Whether the active file was set aside first.
    pub rotated: bool,
}

pub(super) fn append(
    files: &Arc<Files>,
    options: &DlqOptions,
    letters: &[Rendered],
) -> Result<Appended, DlqError> {
    if letters.is_empty() {
        return Ok(Appended {
            ids: Vec::new(),
            bytes: 0,
            rotated: false,
        });
    }
    if options.mkdirs {
        files.create_dir()?;
    }
    match append_once(files, options, letters) {
        // Settled letters may be what fills the disk: a killed replay leaves their files behind.
        Err(full @ DlqError::Full { .. }) => {
            if settle::reclaim(files)?.files == 0 {
                return Err(full);
            }
            append_once(files, options, letters)
        }
        other => other,
    }
}

fn append_once(
    files: &Arc<Files>,
    options: &DlqOptions,
    letters: &[Rendered],
) -> Result<Appended, DlqError> {
    let needed: usize = letters.iter().map(Rendered::max_bytes).sum();
    let needed = needed as u64;
    let _lock = files.lock()?;
    let used = files.total_bytes()?;
    if used.saturating_add(needed) > options.max_total_bytes {
        return Err(DlqError::Full {
            path: files.active.clone(),
            limit: options.max_total_bytes,
            used,
            needed,
        });
    }
    let (mut file, mut len) = files.open_active(options.sync)?;
    let rotated = len > 0 && len.saturating_add(needed) > options.max_file_bytes;
    if rotated {
        rotate(files)?;
        (file, len) = files.open_active(options.sync)?;
    }
    let mut lines = String::new();
    if ends_unfinished(&mut file, len).map_err(|source| DlqError::Read {
        path: files.active.clone(),
        source,
    })? {
        lines.push('\n');
    }
    for letter in letters {
        letter.write_to(next_ts(), &mut lines);
    }
    write_durably(files, &mut file, len, lines.as_bytes(), options.sync)?;
    Ok(Appended {
        ids: letters.iter().filter_map(|letter| letter.id).collect(),
        bytes: lines.len() as u64,
        rotated,
    })
}

/// Sets the active file aside under the next number. Call with the lock held.
fn rotate(files: &Files) -> Result<(), DlqError> {
    let last = files.rotated()?.last().map_or(0, |(seq, _)| *seq);
    let to = files.rotated_path(last.saturating_add(1));
    fs::rename(&files.active, &to).map_err(|source| DlqError::Rotate {
        path: files.active.clone(),
        to,
        source,
    })
}

fn ends_unfinished(file: &mut File, len: u64) -> io::Result<bool> {
    if len == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(len - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn write_durably(
    files: &Files,
    file: &mut File,
    len: u64,
    lines: &[u8],
    sync: bool,
) -> Result<(), DlqError> {
    let path = || files.active.clone();
    let result = match file.write_all(lines) {
        Err(source) => Err(DlqError::Write {
            path: path(),
            source,
        }),
        Ok(()) if sync => file.sync_data().map_err(|source| DlqError::Sync {
            path: path(),
            source,
        }),
        Ok(()) => Ok(()),
    };
    if result.is_err()
        && let Err(error) = file.set_len(len)
    {
        // The letters are written again later: what is left of this try is at worst a duplicate
        // or a damaged line.
        let path = files.active.display();
        log(|| tracing::warn!(%path, %error, "cannot take back a failed append"));
    }
    result
}

/// Now, in seconds since the epoch, later than every time given before in this process: two equal
/// letters must not become equal lines.
fn next_ts() -> f64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0);
    let next = |last: i64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(next(last))
    });
    let micros = next(last.unwrap_or_else(|last| last));
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds stay distinct until 2242"
    )]
    let seconds = micros as f64 / 1e6;
    seconds
}
