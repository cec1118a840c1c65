//! A file system in memory that behaves as badly as a real one may.
//!
//! It keeps what is durable apart from what was only written. At a crash of the machine
//! ([`SimStorage::crash`]) of everything that was not synced any part may have arrived: each sector of
//! each write for itself, one of them cut at any byte, each change of a name or not. A sync that fails
//! forgets what it could not make durable, as Linux does: a later sync of the same file does not bring
//! it back. Calls can be made to fail by their number, and the disk can be full.
//!
//! All of it is decided by seeds, so that every run can be repeated.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Storage, StorageFile};

/// Bytes that a disk writes whole or not at all, but for the one that it is at when power goes.
const SECTOR: usize = 512;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It and all later ones fail, and leave nothing: the machine is gone.
    Gone,
    /// It alone fails (a write may have written a part).
    Fails,
    /// From it on there is no room for new bytes, until [`SimStorage::free`].
    Full,
}

#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(Write),
    Truncate(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a reader sees.
    content: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(String, usize),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    calls: u64,
    /// The number of the call that something happens to.
    fault: Option<(u64, Fault)>,
    /// Of the one failed write, so many bytes arrive.
    seed: u64,
    /// Bytes that files may have altogether.
    capacity: Option<u64>,
    is_gone: bool,
    is_locked: bool,
}

/// A simulated folder. Cloning gives another handle on it.
#[derive(Clone, Debug, Default)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
}

impl SimStorage {
    /// An empty folder; `seed` decides what a failed write leaves behind.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            seed,
            ..Disk::default()
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Makes something happen to the call with this number, the first being 1.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.lock().fault = Some((call, fault));
    }

    /// Bounds the bytes of all files; writing beyond them finds the disk full.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// The disk has room again, without any bound.
    pub fn free(&self) {
        let mut disk = self.lock();
        disk.capacity = None;
        disk.fault = None;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// The disk as it may be after power was lost now: what was durable, and any part of the rest.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = self.lock();
        let mut after = Disk {
            names: disk.names_after(&mut random),
            seed,
            ..Disk::default()
        };
        for inode in &disk.inodes {
            let content = inode.after(&mut random);
            after.inodes.push(Inode {
                durable: content.clone(),
                content,
                ..Inode::default()
            });
        }
        after.durable_names.clone_from(&after.names);
        Self {
            disk: Arc::new(Mutex::new(after)),
        }
    }

    /// The disk as the next process finds it after this one was killed: all that was written.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut disk = self.lock().clone();
        disk.is_locked = false;
        disk.is_gone = false;
        disk.fault = None;
        disk.calls = 0;
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// Flips a bit of a file, on the disk.
    pub fn flip(&self, name: &str, bit: usize) {
        let mut disk = self.lock();
        if let Some(inode) = disk.names.get(name).copied() {
            let inode = &mut disk.inodes[inode];
            for content in [&mut inode.content, &mut inode.durable] {
                if let Some(byte) = content.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }

    /// The bytes of a file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.lock();
        let inode = *disk.names.get(name)?;
        Some(disk.inodes[inode].content.clone())
    }
}

impl Disk {
    fn used(&self) -> u64 {
        let of = |inode: &usize| self.inodes[*inode].content.len() as u64;
        self.names.values().map(of).sum()
    }

    /// Counts a call; an error if it is to fail.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.is_gone {
            return Err(io::Error::other("the machine is gone"));
        }
        match self.fault {
            Some((at, Fault::Gone)) if at == self.calls => {
                self.is_gone = true;
                Err(io::Error::other("the machine is gone"))
            }
            Some((at, Fault::Fails)) if at == self.calls => Err(io::Error::other("I/O error")),
            _ => Ok(()),
        }
    }

    /// Whether `more` bytes have room.
    fn has_room(&self, more: u64) -> bool {
        let is_full = matches!(self.fault, Some((at, Fault::Full)) if at <= self.calls);
        let has_capacity = self.capacity.is_none_or(|c| self.used() + more <= c);
        more == 0 || !is_full && has_capacity
    }

    fn names_after(&self, random: &mut fastrand::Rng) -> BTreeMap<String, usize> {
        // A journal keeps the changes of a folder in their order.
        let kept = random.usize(0..=self.name_changes.len());
        let mut names = self.durable_names.clone();
        for change in self.name_changes.iter().take(kept) {
            match change {
                NameChange::Add(name, inode) => {
                    names.insert(name.clone(), *inode);
                }
                NameChange::Remove(name) => {
                    names.remove(name);
                }
                NameChange::Rename(from, to) => {
                    if let Some(inode) = names.remove(from) {
                        names.insert(to.clone(), inode);
                    }
                }
            }
        }
        names
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Inode {
    fn apply(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write(write) => put(content, write.offset, &write.bytes),
            Change::Truncate(len) => content.resize(*len, 0),
        }
    }

    /// The durable bytes with any part of what was not synced.
    fn after(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut content = self.durable.clone();
        let manner = random.u8(0..4);
        for change in &self.changes {
            let Change::Write(write) = change else {
                if random.bool() {
                    Self::apply(&mut content, change);
                }
                continue;
            };
            // Nothing arrives, everything does, the beginning does, or whatever sectors.
            match manner {
                0 => {}
                1 => put(&mut content, write.offset, &write.bytes),
                2 => {
                    let cut = random.usize(0..=write.bytes.len());
                    put(&mut content, write.offset, &write.bytes[..cut]);
                }
                _ => scatter(&mut content, write, random),
            }
        }
        content
    }
}

/// Any sectors of a write arrive, and one of them in part.
fn scatter(content: &mut Vec<u8>, write: &Write, random: &mut fastrand::Rng) {
    let sectors = write.bytes.len().div_ceil(SECTOR);
    let torn = random.usize(0..=sectors);
    let share = random.u8(1..=9);
    for (place, bytes) in write.bytes.chunks(SECTOR).enumerate() {
        let arrives = random.u8(0..10) < share;
        let cut = if place == torn {
            random.usize(0..=bytes.len())
        } else {
            bytes.len()
        };
        if arrives {
            put(content, write.offset + place * SECTOR, &bytes[..cut]);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    storage: SimStorage,
    inode: usize,
}

struct Unlock(SimStorage);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.lock().is_locked = false;
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for SimStorage {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut disk = self.lock();
        disk.call()?;
        let of = |(name, inode): (&String, &usize)| {
            (name.clone(), disk.inodes[*inode].content.len() as u64)
        };
        Ok(disk.names.iter().map(of).collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.lock();
        disk.call()?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !disk.has_room(len) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // The length of a file is durable with its name or its first sync, its room is taken.
        let content = vec![0; len];
        disk.inodes.push(Inode {
            durable: content.clone(),
            content,
            ..Inode::default()
        });
        let inode = disk.inodes.len() - 1;
        disk.names.insert(name.to_owned(), inode);
        disk.name_changes
            .push(NameChange::Add(name.to_owned(), inode));
        drop(disk);
        Ok(Arc::new(SimFile {
            storage: self.clone(),
            inode,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.lock();
        disk.call()?;
        let inode = *disk.names.get(name).ok_or_else(not_found)?;
        drop(disk);
        Ok(Arc::new(SimFile {
            storage: self.clone(),
            inode,
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.call()?;
        disk.names.remove(name).ok_or_else(not_found)?;
        disk.name_changes.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.call()?;
        let inode = disk.names.remove(from).ok_or_else(not_found)?;
        disk.names.insert(to.to_owned(), inode);
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        disk.name_changes.push(change);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.lock();
        disk.call()?;
        disk.durable_names = disk.names.clone();
        disk.name_changes.clear();
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut disk = SimStorage::lock(self);
        disk.call()?;
        if std::mem::replace(&mut disk.is_locked, true) {
            return Ok(None);
        }
        drop(disk);
        Ok(Some(Box::new(Unlock(self.clone()))))
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.storage.lock();
        disk.call()?;
        let content = &disk.inodes[self.inode].content;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = content.get(offset..).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.storage.lock();
        let called = disk.call();
        if disk.is_gone && called.is_err() {
            return called;
        }
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let length = disk.inodes[self.inode].content.len();
        let more = (offset + bytes.len()).saturating_sub(length) as u64;
        let called = match called {
            Ok(()) if !disk.has_room(more) => Err(io::ErrorKind::StorageFull.into()),
            other => other,
        };
        let written = match &called {
            Ok(()) => bytes.len(),
            // A part of it is there.
            Err(_) => fastrand::Rng::with_seed(disk.seed ^ disk.calls).usize(0..=bytes.len()),
        };
        let inode = &mut disk.inodes[self.inode];
        put(&mut inode.content, offset, &bytes[..written]);
        inode.changes.push(Change::Write(Write {
            offset,
            bytes: bytes[..written].to_vec(),
        }));
        called
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.storage.lock();
        let called = disk.call();
        if disk.is_gone {
            return called;
        }
        let mut random = fastrand::Rng::with_seed(disk.seed ^ disk.calls);
        let inode = &mut disk.inodes[self.inode];
        if called.is_err() {
            // Any part has arrived, and the rest is forgotten.
            inode.durable = inode.after(&mut random);
            inode.changes.clear();
            return called;
        }
        for change in std::mem::take(&mut inode.changes) {
            Inode::apply(&mut inode.durable, &change);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.storage.lock();
        disk.call()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let inode = &mut disk.inodes[self.inode];
        inode.content.resize(len, 0);
        inode.changes.push(Change::Truncate(len));
        Ok(())
    }
}
