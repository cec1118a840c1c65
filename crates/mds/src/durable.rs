//! The durable queues of a folder: one for each kind, in a folder of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use mds_coordinator::{Codec, DurableOptions, DurableQueue, DurableTotals, FsyncPolicy};
use mds_core::settings::QueueChoice;
use mds_core::{ENCODING, Kind, Origin, Record, Sourced, put_text, take_text};
use mds_store::Store;
use mds_wal::{FileStorage, Inspection};

use crate::context::Context;
use crate::exit::Usage;
use crate::lost::Accepted;
use crate::marks::{Marks, Standing};
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

/// Refuses settings that name the folder of one queue as that of all queues: a queue would be made
/// inside of another.
pub(crate) fn check_dir(context: &Context) -> anyhow::Result<()> {
    let Some(dir) = dir(context) else {
        return Ok(());
    };
    // What cannot be looked at is told by whoever opens it.
    if !mds_wal::is_queue(&FileStorage::at(&dir)).unwrap_or(false) {
        return Ok(());
    }
    let of_kind = Kind::ALL.iter().any(|kind| dir.ends_with(kind.as_str()));
    let all = dir.parent().filter(|_| of_kind).map(|all| {
        let is_here = all.as_os_str().is_empty();
        format!(
            ": disk:{}",
            if is_here { Path::new(".") } else { all }.display()
        )
    });
    let what = format!(
        "disk:{} is the folder of one queue; name the folder that holds the queues of all kinds{}",
        dir.display(),
        all.unwrap_or_default()
    );
    Err(Usage::new(what).into())
}

/// What is written into the folder, so that nothing else is taken for it.
pub(crate) fn identity(kind: Kind, store_id: &str) -> String {
    format!("kind {kind}, records {ENCODING}, store {store_id}")
}

/// In which part two identities differ.
pub(crate) fn difference(found: &str, wanted: &str) -> &'static str {
    let parts = found.split(", ").zip(wanted.split(", "));
    let first = parts.into_iter().find(|(found, wanted)| found != wanted);
    match first.and_then(|(_, wanted)| wanted.split(' ').next()) {
        Some("kind") => "another kind",
        Some("records") => "another version of the records",
        Some("store") => "another store",
        _ => "something else",
    }
}

/// What became of all records that a queue has taken, as its folder says.
pub(crate) fn totals_of(found: &Inspection) -> DurableTotals {
    DurableTotals::new(&found.totals, found.next, found.waiting)
}

/// Whether a queue was there of which nothing says any more what became of its records.
pub(crate) fn is_past_lost(found: &Inspection) -> bool {
    found.checkpoint.is_none()
}

/// What is said of such a queue.
pub(crate) const PAST_LOST: &str = "a queue was there, and neither of its checkpoints can be read: \
                                    nobody knows what became of its records";

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
    // Where there is nothing yet, there is nothing to be lost.
    let was_there = mds_wal::is_queue(&FileStorage::at(&folder)).unwrap_or(false);
    let queue = DurableQueue::open(&folder, options, Arc::new(SourcedCodec::default()))
        .with_context(|| format!("cannot use the queue in {}", folder.display()))?;
    let stats = queue.stats();
    let totals = DurableTotals::new(&stats.totals, stats.next, stats.backlog);
    Accepted::forget_if_stale(&folder, &totals);
    if was_there && !queue.recovery().is_continued {
        context.note(format_args!("warning: {}: {PAST_LOST}", folder.display()));
    }
    if let Some(doubt) = Marks::forget_in_doubt(&folder, &Standing::of(&queue))? {
        context.note(format_args!(
            "warning: {}: {doubt}: files are read anew from their beginning",
            folder.display()
        ));
    }
    let recovery = queue.recovery();
    if recovery.records > 0 {
        context.note(format_args!(
            "{} records of an earlier run are in the queue of {}; they are written first",
            crate::output::grouped(recovery.records),
            R::KIND
        ));
    }
    Ok(Some(queue))
}

#[cfg(test)]
mod tests {
    use mds_core::{Bar, News};

    use super::*;

    #[test]
    fn what_sets_identities_apart_is_named() {
        let wanted = identity(Kind::Bars, "s");
        let other = |found: &str| difference(found, &wanted);
        assert_eq!(other(&identity(Kind::News, "s")), "another kind");
        assert_eq!(other(&identity(Kind::Bars, "t")), "another store");
        let version = wanted.replace(&format!("records {ENCODING}"), "records 0");
        assert_eq!(other(&version), "another version of the records");
        assert_eq!(other("kind bars"), "something else");
    }

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
