//! The few things that a queue asks of a file system.
//!
//! A trait, so that the same code runs on the real one and on [`crate::sim::SimStorage`], which
//! loses what was not synced, tears writes and fails on command.
//!
//! What is assumed of a medium: a sync that answers "done" has made all earlier writes to the file
//! durable; bytes of a block (4 KiB, aligned) that was synced and is not written again stay as they
//! are; a name is durable when the folder was synced after the change. Nothing is assumed about
//! writes that were not synced: any part of them may be there, in any order.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files.
pub trait Storage: fmt::Debug + Send + Sync {
    /// What it is called in lines of the log: the folder.
    fn place(&self) -> String {
        "the queue".to_owned()
    }

    /// The names of all files, and their lengths in bytes.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Makes a new file of `len` zero bytes whose room on the disk is taken; fails if there is one.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file; one that has the new name goes.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the changes of names so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Keeps everybody else out until the answer is dropped; `None` if somebody else is in.
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>>;
}

/// An open file.
pub trait StorageFile: fmt::Debug + Send + Sync {
    /// Reads into `buf` at `offset`, as much as there is; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the writes so far durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// Reads all of `buf`, or as much as the file has; answers with how much that was.
pub(crate) fn read_full(
    file: &dyn StorageFile,
    buf: &mut [u8],
    mut offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The name of the file that is locked.
const LOCK: &str = "lock";

/// A folder of the real file system.
#[derive(Debug)]
pub struct FileStorage {
    dir: PathBuf,
}

impl FileStorage {
    /// The folder `dir`, which is made if it is not there; its name is durable when this returns.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let mut missing = Vec::new();
        for ancestor in dir.ancestors() {
            if ancestor.as_os_str().is_empty() || ancestor.exists() {
                break;
            }
            missing.push(ancestor);
        }
        std::fs::create_dir_all(dir)?;
        for made in missing {
            let parent = made.parent().filter(|p| !p.as_os_str().is_empty());
            sync_folder(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(Self::at(dir))
    }

    /// The folder `dir`, which is there.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Files that are made are readable by their owner alone.
fn for_its_owner() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there is no mode to set"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file, and makes names durable by itself.
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

impl Storage for FileStorage {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Somebody has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if metadata.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                found.push((name, metadata.len()));
            }
        }
        Ok(found)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = for_its_owner();
        options.read(true).write(true).create_new(true);
        let file = options.open(self.path(name))?;
        if let Err(error) = take_room(&file, len) {
            // Half a file is of no use to anybody; that it cannot be removed changes nothing.
            drop(std::fs::remove_file(self.path(name)));
            return Err(error);
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).open(self.path(name));
        // Whoever only looks into a queue may not be allowed to write.
        let file = opened.or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                File::open(self.path(name))
            }
            _ => Err(error),
        })?;
        Ok(Arc::new(RealFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_folder(&self.dir)
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let file = for_its_owner()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(Locked(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A locked file. Closing it alone would not do: a process that another thread is just starting has
/// a copy of it until it runs its own program.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of a durable queue is given back by closing it");
        }
    }
}

/// Sets the length of a new file and takes its room on the disk.
fn take_room(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(()),
            // A file system without it: the length alone has to do.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    file.set_len(len)
}

#[derive(Debug)]
struct RealFile(File);

#[cfg(unix)]
impl StorageFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // On macOS the standard library asks for F_FULLFSYNC.
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[cfg(windows)]
impl StorageFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], mut offset: u64) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(&self.0, rest, offset)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[written..];
            offset += written as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_locked_file_in_a_process_that_is_being_started_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::at(dir.path());
        let file = File::create(dir.path().join(LOCK)).unwrap();
        file.try_lock().unwrap();
        let locked = Locked(file);
        let copy = locked.0.try_clone().unwrap();
        assert!(storage.lock().unwrap().is_none());
        drop(locked);
        assert!(storage.lock().unwrap().is_some());
        drop(copy);
    }
}
