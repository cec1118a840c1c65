//! Queues in folders of their own.

use std::path::Path;

use mds_wal::{Reader, Record, Recovery, WalOptions, WriteAheadQueue};
use tempfile::TempDir;

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Small segments, so that there are many of them.
pub(crate) fn options() -> WalOptions {
    WalOptions {
        identity: "a test".to_owned(),
        segment_bytes: 64 << 10,
        ..WalOptions::default()
    }
}

pub(crate) fn open(dir: &Path) -> (WriteAheadQueue, Recovery) {
    WriteAheadQueue::open(dir, options()).unwrap()
}

/// All that there is to read by now.
pub(crate) fn rest(reader: &mut Reader) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let records = reader.read(1_000, 1 << 20).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records);
    }
}

/// Whether the long tests are wanted.
pub(crate) fn is_long() -> bool {
    std::env::var_os("MDS_LONG").is_some()
}
