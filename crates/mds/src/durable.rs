//! The durable queues of a folder: one for each kind, in a folder of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use mds_coordinator::{Codec, DurableOptions, DurableQueue, DurableTotals, FsyncPolicy};
use mds_core::settings::QueueChoice;
use mds_core::{ENCODING, Kind, Origin, Record, Sourced, put_text, take_text};
use mds_store::Store;
use mds_wal::Inspection;

use crate::context::Context;
use crate::lost::Accepted;
use crate::pipeline::MarketRecord;

/// Records with their origin as bytes.
#[derive(Debug)]
pub(crate) struct SourcedCodec {
    /// The rows of a file share its name.
    path: Mutex<Arc<str>>,
}

impl Default for SourcedCodec {
    fn default() -> Self {
        Self {
            path: Mutex::new("".into()),
        }
    }
}

impl SourcedCodec {
    fn shared(&self, path: &str) -> Arc<str> {
        let mut last = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        if **last != *path {
            *last = path.into();
        }
        Arc::clone(&last)
    }

    fn row<R: Record>(&self, bytes: &mut &[u8]) -> Option<Sourced<R>> {
        let record = R::decode(bytes)?;
        let (has_origin, rest) = bytes.split_first()?;
        *bytes = rest;
        let mut origin = None;
        if *has_origin == 1 {
            let path = take_text(bytes)?;
            let (line, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            origin = Some(Origin {
                path: self.shared(path),
                line: u64::from_le_bytes(*line),
            });
        }
        Some(Sourced { record, origin })
    }
}

impl<R: Record> Codec<Sourced<R>> for SourcedCodec {
    fn encode(&self, row: &Sourced<R>, bytes: &mut Vec<u8>) {
        row.record.encode(bytes);
        match &row.origin {
            None => bytes.push(0),
            Some(origin) => {
                bytes.push(1);
                put_text(&origin.path, bytes);
                bytes.extend_from_slice(&origin.line.to_le_bytes());
            }
        }
    }

    fn decode(&self, mut bytes: &[u8]) -> Result<Sourced<R>, String> {
        let bytes = &mut bytes;
        match self.row(bytes) {
            Some(row) if bytes.is_empty() => Ok(row),
            _ => Err(format!("they are not those of {}", R::KIND)),
        }
    }
}

/// The folder of the queue of a kind.
pub(crate) fn folder<R: Record>(dir: &Path) -> PathBuf {
    dir.join(R::KIND.as_str())
}

/// The folder of all queues, where the settings name one on the disk.
pub(crate) fn dir(context: &Context) -> Option<PathBuf> {
    match context.queue() {
        QueueChoice::Disk(dir) => Some(dir),
        _ => None,
    }
}

/// The folder of the queue of a kind, where the settings name one on the disk.
pub(crate) fn folder_of<R: Record>(context: &Context) -> Option<PathBuf> {
    dir(context).map(|dir| folder::<R>(&dir))
}

/// What is written into the folder, so that nothing else is taken for it.
pub(crate) fn identity(kind: Kind, store_id: &str) -> String {
    format!("kind {kind}, records {ENCODING}, store {store_id}")
}

/// What became of all records that a queue has taken, as its folder says.
pub(crate) fn totals_of(found: &Inspection) -> DurableTotals {
    DurableTotals::new(&found.totals, found.next, found.waiting)
}

/// Opens the queue that the settings name; `None` where records wait in memory.
pub(crate) fn open_queue<R: MarketRecord>(
    context: &Context,
    store: &Store,
) -> anyhow::Result<Option<DurableQueue<Sourced<R>>>> {
    let QueueChoice::Disk(dir) = context.queue() else {
        return Ok(None);
    };
    let folder = folder::<R>(&dir);
    let options = DurableOptions {
        identity: identity(R::KIND, store.id()),
        max_bytes: context.settings.queue_max_bytes(),
        fsync: match context.settings.queue_fsync() {
            "always" => FsyncPolicy::Always,
            _ => FsyncPolicy::Group,
        },
    };
    let queue = DurableQueue::open(&folder, options, Arc::new(SourcedCodec::default()))
        .with_context(|| format!("cannot use the queue in {}", folder.display()))?;
    let stats = queue.stats();
    let totals = DurableTotals::new(&stats.totals, stats.next, stats.backlog);
    Accepted::forget_if_stale(&folder, &totals);
    let recovery = queue.recovery();
    if recovery.records > 0 {
        context.note(format_args!(
            "{} records of an earlier run are in the queue of {}; they are written first",
            crate::output::grouped(recovery.records),
            R::KIND
        ));
    }
    for damage in &recovery.damages {
        context.note(format_args!("warning: {}: {damage}", folder.display()));
    }
    Ok(Some(queue))
}

#[cfg(test)]
mod tests {
    use mds_core::{Bar, News};

    use super::*;

    #[test]
    fn rows_go_through_bytes_with_their_origin() {
        let codec = SourcedCodec::default();
        let row = Sourced {
            record: Bar {
                vendor: "v".into(),
                close_price: Some(0.1),
                ..Bar::default()
            },
            origin: Some(Origin {
                path: "a/ü.csv".into(),
                line: 48_213,
            }),
        };
        let mut bytes = Vec::new();
        codec.encode(&row, &mut bytes);
        assert_eq!(Codec::<Sourced<Bar>>::decode(&codec, &bytes), Ok(row));
        for cut in 0..bytes.len() {
            let cut: Result<Sourced<Bar>, _> = codec.decode(&bytes[..cut]);
            assert!(cut.is_err());
        }
        bytes.push(0);
        let longer: Result<Sourced<Bar>, _> = codec.decode(&bytes);
        assert_eq!(longer, Err("they are not those of bars".to_owned()));
        let without = Sourced::from(News::default());
        let mut bytes = Vec::new();
        codec.encode(&without, &mut bytes);
        assert_eq!(codec.decode(&bytes), Ok(without));
    }
}
