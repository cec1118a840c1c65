//! The yardstick: one thread that writes and syncs, and does nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mds_wal::{FileStorage, Storage as _, StorageFile};

use super::super::measure::float;

const NAME: &str = "bare";
/// Bytes of a file; the next one is made when it is full, outside of the time that counts.
const FILE: u64 = 256 << 20;

/// What the disk does.
pub(super) struct Bare {
    storage: FileStorage,
    /// The file, and where the next write goes.
    file: Option<(Arc<dyn StorageFile>, u64)>,
    /// Seconds of each write with its sync.
    pub(super) syncs: Vec<f64>,
    bytes: u64,
}

impl Bare {
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            storage: FileStorage::create(dir)?,
            file: None,
            syncs: Vec::new(),
            bytes: 0,
        })
    }

    /// Writes `size` bytes and syncs them, one after the other, for `time`. The file has its room
    /// on the disk before.
    pub(super) fn run(&mut self, size: u64, time: Duration) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(size);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
            .take(usize::try_from(size)?)
            .collect();
        let mut spent = Duration::ZERO;
        while spent < time {
            let (file, offset) = self.room(size)?;
            let begun = Instant::now();
            file.write_all_at(&bytes, offset)?;
            file.sync()?;
            let took = begun.elapsed();
            self.file = Some((file, offset + size));
            self.syncs.push(took.as_secs_f64());
            self.bytes += size;
            spent += took;
        }
        Ok(())
    }

    /// A file with room for a write, and where that is.
    fn room(&mut self, size: u64) -> anyhow::Result<(Arc<dyn StorageFile>, u64)> {
        match self.file.take() {
            Some((file, offset)) if offset + size <= FILE => return Ok((file, offset)),
            Some(_) => self.storage.remove(NAME)?,
            None => {}
        }
        let file = self.storage.create(NAME, FILE.max(size))?;
        // That the room is taken is not to be made durable by the first sync that counts.
        file.sync()?;
        Ok((file, 0))
    }

    pub(super) fn bytes_per_second(&self) -> f64 {
        float(self.bytes) / self.syncs.iter().sum::<f64>()
    }
}
