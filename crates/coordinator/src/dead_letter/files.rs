//! The files of one dead-letter queue: their names, their lock, and durable steps on them.
//!
//! ```text
//! bars.ndjson             the active file: appended to, never rewritten
//! bars.000001.ndjson      rotated files: never written again, removed once all settled
//! bars.ndjson.settled     which lines are settled
//! bars.ndjson.lock        held while appending, rotating, settling and removing
//! bars.ndjson.replay.lock held while replaying or purging
//! ```
//!
//! Locks are `flock`s: they end with the process that holds them, however it ends. A lock file may
//! be removed by whoever holds it, so a lock counts only if its path still leads to the locked file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::error::DlqError;

/// How long a look at a lock that somebody else holds is from the next.
const LOCK_LOOK: Duration = Duration::from_millis(10);
/// Digits of a rotated file's number; more are used when these run out.
const SEQ_DIGITS: usize = 6;

/// The paths of one queue.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) active: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) settled: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) replay_lock: PathBuf,
    stem: OsString,
    extension: Option<OsString>,
}

impl Files {
    pub(super) fn new(path: &Path) -> Result<Self, DlqError> {
        let refuse = || DlqError::NotAFile {
            path: path.to_owned(),
        };
        let name = path.file_name().ok_or_else(refuse)?;
        let stem = path.file_stem().ok_or_else(refuse)?.to_owned();
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let beside = |suffix: &str| {
            let mut name = name.to_owned();
            name.push(suffix);
            path.with_file_name(name)
        };
        Ok(Self {
            active: path.to_owned(),
            settled: beside(".settled"),
            lock: beside(".lock"),
            replay_lock: beside(".replay.lock"),
            stem,
            extension: path.extension().map(OsStr::to_owned),
            dir,
        })
    }

    /// The name of the rotated file with the number `seq`.
    pub(super) fn rotated_path(&self, seq: u64) -> PathBuf {
        let mut name = self.stem.clone();
        name.push(format!(".{seq:0SEQ_DIGITS$}"));
        if let Some(extension) = &self.extension {
            name.push(".");
            name.push(extension);
        }
        self.active.with_file_name(name)
    }

    /// The number of a rotated file of this queue, by its name.
    fn seq_of(&self, name: &OsStr) -> Option<u64> {
        let mut rest = name.as_encoded_bytes();
        rest = rest.strip_prefix(self.stem.as_encoded_bytes())?;
        rest = rest.strip_prefix(b".")?;
        if let Some(extension) = &self.extension {
            rest = rest.strip_suffix(extension.as_encoded_bytes())?;
            rest = rest.strip_suffix(b".")?;
        }
        if rest.len() < SEQ_DIGITS || !rest.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(rest).ok()?.parse().ok()
    }

    /// The rotated files with their numbers, oldest first; none where the folder is missing.
    pub(super) fn rotated(&self) -> Result<Vec<(u64, PathBuf)>, DlqError> {
        let failed = |source| DlqError::Read {
            path: self.dir.clone(),
            source,
        };
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(failed(e)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Some(seq) = self.seq_of(&entry.file_name()) {
                found.push((seq, self.active.with_file_name(entry.file_name())));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Bytes of all letters on disk, settled ones included until their file is removed.
    pub(super) fn total_bytes(&self) -> Result<u64, DlqError> {
        let mut total = 0;
        let rotated = self.rotated()?.into_iter().map(|(_, path)| path);
        for path in rotated.chain([self.active.clone()]) {
            match fs::metadata(&path) {
                Ok(meta) => total += meta.len(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(DlqError::Read { path, source }),
            }
        }
        Ok(total)
    }

    /// Opens the active file for appending, making it where it is missing.
    ///
    /// A file without a byte in it may be one whose entry in the folder is not durable yet (its
    /// maker was killed), so the folder is synced before the first byte is written.
    pub(super) fn open_active(&self, sync: bool) -> Result<(File, u64), DlqError> {
        let failed = |source| DlqError::Open {
            path: self.active.clone(),
            source,
        };
        let file = private(OpenOptions::new().read(true).append(true).create(true))
            .open(&self.active)
            .map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        if len == 0 && sync {
            self.sync_dir()?;
        }
        Ok((file, len))
    }

    /// Makes changes of names in the folder durable.
    pub(super) fn sync_dir(&self) -> Result<(), DlqError> {
        sync_dir(&self.dir).map_err(|source| DlqError::Sync {
            path: self.dir.clone(),
            source,
        })
    }

    /// Makes the folder and its missing parents, durably.
    pub(super) fn create_dir(&self) -> Result<(), DlqError> {
        create_dir_durably(&self.dir).map_err(|source| DlqError::CreateFolder {
            path: self.dir.clone(),
            source,
        })
    }

    /// Waits for the exclusive lock on the queue's files, but no longer than `limit`.
    pub(super) fn lock_within(&self, limit: Duration) -> Result<FileLock, DlqError> {
        let started = Instant::now();
        loop {
            match FileLock::try_acquire(&self.lock) {
                Err(DlqError::Busy { path }) if started.elapsed() >= limit => {
                    let held = format!("somebody else has held it for {limit:?}");
                    return Err(DlqError::Lock {
                        path,
                        source: io::Error::new(io::ErrorKind::WouldBlock, held),
                    });
                }
                Err(DlqError::Busy { .. }) => std::thread::sleep(LOCK_LOOK),
                result => return result,
            }
        }
    }

    /// Waits for the exclusive lock on the queue's files.
    pub(super) fn lock(&self) -> Result<FileLock, DlqError> {
        FileLock::acquire(&self.lock)
    }

    /// Waits until no append is under way. Does nothing where the lock file is missing or cannot
    /// be opened: then nobody has appended, or nothing can be known.
    pub(super) fn wait_for_writer(&self) {
        if let Ok(file) = File::open(&self.lock) {
            // A failed lock leaves the caller with what it had read already.
            drop(file.lock_shared());
        }
    }
}

/// A held `flock`; dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    fn acquire(path: &Path) -> Result<Self, DlqError> {
        loop {
            let lock = Self::open(path)?;
            lock.file.lock().map_err(|e| lock.failed(e))?;
            if lock.is_current()? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(super) fn try_acquire(path: &Path) -> Result<Self, DlqError> {
        loop {
            let lock = Self::open(path)?;
            match lock.file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(DlqError::Busy {
                        path: path.to_owned(),
                    });
                }
                Err(TryLockError::Error(e)) => return Err(lock.failed(e)),
            }
            if lock.is_current()? {
                return Ok(lock);
            }
        }
    }

    fn open(path: &Path) -> Result<Self, DlqError> {
        let file = private(OpenOptions::new().read(true).append(true).create(true))
            .open(path)
            .map_err(|source| DlqError::Lock {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn failed(&self, source: io::Error) -> DlqError {
        DlqError::Lock {
            path: self.path.clone(),
            source,
        }
    }

    /// Whether the path still leads to the locked file.
    fn is_current(&self) -> Result<bool, DlqError> {
        let locked = self.file.metadata().map_err(|e| self.failed(e))?;
        match fs::metadata(&self.path) {
            Ok(there) => Ok(identity(&locked) == identity(&there)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Removes the lock file and releases the lock; whoever waits for it makes a new one.
    pub(super) fn remove(self) -> Result<(), DlqError> {
        remove_file(&self.path)
    }
}

/// What tells whether a file was changed or replaced since it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Option<(u64, u64)>,
    pub(super) len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            identity: identity(meta),
            len: meta.len(),
            modified: meta.modified().ok(),
        }
    }

    /// Whether `other` is the same file, perhaps with more in it.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.identity == other.identity && self.len <= other.len
    }
}

#[cfg(unix)]
#[expect(
    clippy::unnecessary_wraps,
    reason = "other systems cannot tell two files apart"
)]
fn identity(meta: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(_meta: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Files made with these options can be read by their owner alone: letters hold a user's data.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

/// Removes a file; one that is gone already is no error.
pub(super) fn remove_file(path: &Path) -> Result<(), DlqError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DlqError::Remove {
            path: path.to_owned(),
            source: e,
        }),
        _ => Ok(()),
    }
}

/// Makes names in a folder durable. Systems on which a folder cannot be opened do it unasked.
fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if parent != dir {
        create_dir_durably(parent)?;
    }
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        // Something of that name exists: fine if another process made the folder just now.
        Err(e) if !dir.is_dir() => return Err(e),
        _ => {}
    }
    sync_dir(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_keep_the_extension_and_sort_by_number() {
        let files = Files::new(Path::new("d/bars.ndjson")).unwrap();
        assert_eq!(files.rotated_path(7), Path::new("d/bars.000007.ndjson"));
        let seq = |name: &str| files.seq_of(OsStr::new(name));
        assert_eq!(seq("bars.000007.ndjson"), Some(7));
        assert_eq!(seq("bars.1000000.ndjson"), Some(1_000_000));
        for other in [
            "bars.ndjson",
            "bars.7.ndjson",
            "bars.ndjson.settled",
            "bars.00000x.ndjson",
            "news.000007.ndjson",
        ] {
            assert_eq!(seq(other), None, "{other}");
        }
        let plain = Files::new(Path::new("letters")).unwrap();
        assert_eq!(plain.rotated_path(1), Path::new("letters.000001"));
        assert_eq!(plain.dir, Path::new("."));
        assert!(Files::new(Path::new("..")).is_err());
    }

    #[test]
    fn a_lock_whose_file_was_removed_or_replaced_is_not_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::acquire(&path).unwrap();
        assert!(lock.is_current().unwrap());
        assert!(matches!(
            FileLock::try_acquire(&path),
            Err(DlqError::Busy { .. })
        ));
        fs::remove_file(&path).unwrap();
        assert!(!lock.is_current().unwrap());
        let next = FileLock::acquire(&path).unwrap();
        assert!(!lock.is_current().unwrap());
        assert!(next.is_current().unwrap());
    }
}
