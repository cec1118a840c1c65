//! The clock that gives revisions, kept beside a durable queue so that neither a restart nor a clock
//! that is set back makes it go back.
//!
//! The file `revision` holds a bound. No revision above it was ever given: where the next one would be,
//! a bound that is a second ahead is made durable first. So at most one revision in a million costs a
//! sync, and after a kill the clock goes on at most a second above what it has given.
//!
//! ```text
//! offset  size  twice, at 0 and at 4096; little-endian
//!      0     8  "MDSREVIS"
//!      8     2  version of the format
//!     10     8  bound
//!     18     4  crc32 of the bytes before
//! ```
//!
//! One copy is written after the other is synced. So one of them is whole at any time, and where one is
//! torn, nothing above the other was given. A copy that is damaged is written anew when the file is
//! opened, and one whose write has failed comes first the next time. Both have their room from the beginning: a full disk stops no clock.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mds_core::{RevisionClock, Timestamp};
use mds_wal::{FileStorage, InspectError, Storage, StorageError, StorageFile};

use super::{Codec, waiting_records};

/// The name of the file.
const NAME: &str = "revision";
const MAGIC: &[u8; 8] = b"MDSREVIS";
const VERSION: u16 = 1;
/// Where the two copies are.
const COPIES: [u64; 2] = [0, 4_096];
/// Bytes of a copy, and of the file.
const COPY: usize = 22;
const FILE: usize = 8_192;
/// How far a new bound is ahead, microseconds.
const MARGIN: i64 = 1_000_000;

/// Why a clock cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// The storage failed: no revision was given.
    #[error("cannot keep the revision clock")]
    Storage(#[from] StorageError),
    /// A later version of this program wrote the file.
    #[error("the file `revision` has format {found}, and this program knows up to {known}")]
    Newer {
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// The records that wait in the queue cannot be looked at.
    #[error("cannot look at the revisions of the records that wait")]
    Waiting(#[from] InspectError),
}

/// What a clock has found in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStart {
    /// The bound of the processes before.
    Kept,
    /// No file: none has ever been there, or somebody has removed it.
    New,
    /// A file in which no bound can be read.
    Damaged,
}

/// A [`RevisionClock`] that never goes back, whatever becomes of its process and of the clock of the
/// machine. Open it after the queue in the same folder, which keeps other processes out.
///
/// It knows the revisions that it gave. What came with a revision of its own is to be told to it
/// ([`Self::observe`]), and at the start what the store has, and what waits in the queue
/// ([`Self::observe_waiting`]): it is above all of that then, even if its file was lost.
///
/// A call blocks for two small syncs where a bound is passed: about once a second.
///
/// ```
/// use mds_coordinator::{ClockStart, DurableClock};
/// use mds_core::Timestamp;
///
/// let dir = tempfile::tempdir().unwrap();
/// let noon = Timestamp::from_micros(43_200_000_000);
/// let clock = DurableClock::open(dir.path()).unwrap();
/// assert_eq!(clock.start(), ClockStart::New);
/// assert_eq!(clock.take(noon, 3).unwrap(), 43_200_000_000..43_200_000_003);
/// drop(clock);
///
/// // The next process, on a clock that was set back by an hour.
/// let clock = DurableClock::open(dir.path()).unwrap();
/// let eleven = Timestamp::from_micros(39_600_000_000);
/// assert!(clock.next(eleven).unwrap() > 43_200_000_002);
/// assert!(clock.ahead_of(eleven) >= 3_600_000_000);
/// ```
#[derive(Debug)]
pub struct DurableClock {
    file: Arc<dyn StorageFile>,
    start: ClockStart,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    clock: RevisionClock,
    /// Durable: what is given is not above it.
    bound: i64,
    /// The copy that is written first: one whose last write has failed, since the other is whole.
    first: usize,
}

impl DurableClock {
    /// Opens the clock in a folder, which is made if it is not there; blocks.
    ///
    /// # Errors
    ///
    /// [`ClockError`]: the disk does not answer, or a later version wrote the file. Damaged content
    /// is no error: see [`Self::start`].
    pub fn open(dir: &Path) -> Result<Self, ClockError> {
        let storage = FileStorage::create(dir).map_err(failed("make the folder of"))?;
        Self::open_on(&storage)
    }

    /// The same on any storage.
    pub fn open_on(storage: &dyn Storage) -> Result<Self, ClockError> {
        let file = match storage.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = storage.create(NAME, FILE as u64).map_err(failed("make"))?;
                storage.sync_dir().map_err(failed("sync"))?;
                file
            }
            Err(error) => return Err(failed("open")(error).into()),
        };
        let mut copies = [Found::Empty; 2];
        for (copy, at) in copies.iter_mut().zip(COPIES) {
            *copy = read(file.as_ref(), at)?;
        }
        let bound = copies.iter().filter_map(|copy| copy.bound()).max();
        let is_damaged = copies.contains(&Found::Damaged);
        let start = match bound {
            Some(_) => ClockStart::Kept,
            None if is_damaged => ClockStart::Damaged,
            None => ClockStart::New,
        };
        if let Some(bound) = bound {
            // The next bound goes over the first copy: the second one must stand for itself by then.
            for (copy, at) in copies.iter().zip(COPIES) {
                if copy.bound().is_none() {
                    write(file.as_ref(), at, bound)?;
                }
            }
        }
        let bound = bound.unwrap_or(0);
        let clock = RevisionClock::new(bound);
        let state = Mutex::new(State {
            clock,
            bound,
            first: 0,
        });
        Ok(Self { file, start, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found when it was opened.
    pub fn start(&self) -> ClockStart {
        self.start
    }

    /// The next revision: one above the last, or `now` if that is greater.
    ///
    /// # Errors
    ///
    /// [`ClockError::Storage`]: it could not be made sure that a later process goes on above it, so
    /// none is given. The next call tries again.
    pub fn next(&self, now: Timestamp) -> Result<i64, ClockError> {
        self.take(now, 1).map(|revisions| revisions.start)
    }

    /// The next `count` revisions, as [`Self::next`] gives one.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub fn take(&self, now: Timestamp, count: u32) -> Result<Range<i64>, ClockError> {
        let mut state = self.lock();
        let mut clock = state.clock;
        let first = clock.next(now);
        let end = first.saturating_add(i64::from(count));
        clock.observe(end.saturating_sub(1));
        self.cover(&mut state, clock.last())?;
        state.clock = clock;
        Ok(first..end)
    }

    /// Goes above a revision that was given elsewhere, here and after a restart.
    ///
    /// # Errors
    ///
    /// [`ClockError::Storage`]: it is above it here, but a later process may not be.
    pub fn observe(&self, revision: i64) -> Result<(), ClockError> {
        let mut state = self.lock();
        state.clock.observe(revision);
        self.cover(&mut state, revision)
    }

    /// Goes above all records that wait in the queue in `dir`; blocks for as long as it takes to read
    /// them.
    ///
    /// # Errors
    ///
    /// [`ClockError`]: the disk does not answer. A queue that is not there has no records.
    pub fn observe_waiting<T: 'static>(
        &self,
        dir: &Path,
        codec: &dyn Codec<T>,
        revision: impl Fn(&T) -> i64,
    ) -> Result<(), ClockError> {
        let mut highest = None;
        let read = waiting_records(dir, codec, |record| {
            highest = highest.max(Some(revision(&record)));
        });
        match read {
            Ok(()) | Err(InspectError::NoQueue) => {}
            Err(error) => return Err(error.into()),
        }
        highest.map_or(Ok(()), |highest| self.observe(highest))
    }

    /// The last revision that was given or observed; after a start, the bound of the process before.
    pub fn last(&self) -> i64 {
        self.lock().clock.last()
    }

    /// Microseconds by which it runs ahead of `now`; 0 where it does not.
    pub fn ahead_of(&self, now: Timestamp) -> i64 {
        self.lock().clock.ahead_of(now)
    }

    /// Makes sure that every later process goes on above `last`.
    fn cover(&self, state: &mut State, last: i64) -> Result<(), ClockError> {
        if last <= state.bound {
            return Ok(());
        }
        let bound = last.saturating_add(MARGIN);
        for copy in [state.first, 1 - state.first] {
            state.first = copy;
            write(self.file.as_ref(), COPIES[copy], bound)?;
        }
        state.bound = bound;
        Ok(())
    }
}

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing was written there yet.
    Empty,
    Damaged,
    Bound(i64),
}

impl Found {
    fn bound(self) -> Option<i64> {
        match self {
            Self::Bound(bound) => Some(bound),
            _ => None,
        }
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> StorageError {
    move |source| StorageError {
        operation,
        file: NAME.to_owned(),
        source,
    }
}

fn encode(bound: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COPY);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&bound.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Found, ClockError> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Found::Empty);
    }
    let field = || -> Option<(u16, i64)> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let rest = content.strip_prefix(MAGIC)?;
        let (version, bound) = rest.split_first_chunk::<2>()?;
        let is_whole = crc32fast::hash(content) == u32::from_le_bytes(*crc);
        let bound = i64::from_le_bytes(*bound.first_chunk()?);
        is_whole.then_some((u16::from_le_bytes(*version), bound))
    };
    match field() {
        None => Ok(Found::Damaged),
        Some((VERSION, bound)) => Ok(Found::Bound(bound)),
        Some((found, _)) => Err(ClockError::Newer {
            found,
            known: VERSION,
        }),
    }
}

fn read(file: &dyn StorageFile, at: u64) -> Result<Found, ClockError> {
    let mut bytes = [0; COPY];
    let mut filled = 0;
    while filled < COPY {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read")(error).into()),
        }
    }
    decode(&bytes)
}

fn write(file: &dyn StorageFile, at: u64, bound: i64) -> Result<(), ClockError> {
    file.write_all_at(&encode(bound), at)
        .map_err(failed("write"))?;
    file.sync().map_err(failed("sync"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_damaged_bit_goes_unseen() {
        let bytes = encode(1_760_534_400_000_000);
        assert_eq!(bytes.len(), COPY);
        let bound = decode(&bytes).unwrap().bound();
        assert_eq!(bound, Some(1_760_534_400_000_000));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged).unwrap(), Found::Damaged, "bit {bit}");
        }
        assert_eq!(decode(&[0; COPY]).unwrap(), Found::Empty);
    }

    #[test]
    fn the_file_of_a_later_version_is_left_alone() {
        let mut bytes = encode(7);
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..COPY - 4]);
        bytes[COPY - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(
            decode(&bytes).unwrap_err().to_string(),
            "the file `revision` has format 2, and this program knows up to 1"
        );
    }
}
