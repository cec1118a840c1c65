//! Which files are read, and the revision that each begins with.
//!
//! The rows of a file take the revisions `base`, `base + 1`, ... in their order, so that of two
//! rows with one key the later line wins. `base` is the file's modification time when its content
//! is seen for the first time; the store remembers it by the content's hash, so the same content
//! takes the same revisions, whatever happened to the file's name and time, as long as it is read in
//! the same way.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use mds_core::Timestamp;
use mds_core::revision::MAX_AHEAD_MICROS;
use mds_store::StoreUrl;
use sha2::{Digest, Sha256};

use super::revise::Revisions;
use crate::exit::Usage;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Input {
    /// What it is called in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
        }
    }
}

/// The inputs that the arguments name; a folder stands for its files, by name, without the files
/// of the store itself and of the durable queue.
pub(super) fn expand(
    arguments: &[PathBuf],
    store: &StoreUrl,
    queue: Option<&Path>,
) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            if inputs.contains(&Input::Stdin) {
                return Err(Usage::new("standard input (-) can be given once only").into());
            }
            inputs.push(Input::Stdin);
        } else if argument.is_dir() {
            let files = files_of(argument)?.into_iter();
            let is_queued = |file: &Path| queue.is_some_and(|queue| is_under(file, queue));
            let others = files.filter(|file| !is_of_store(file, store) && !is_queued(file));
            inputs.extend(others.map(Input::File));
        } else {
            inputs.push(Input::File(argument.clone()));
        }
    }
    Ok(inputs)
}

/// Whether a file is the database of the store, or its log or index.
fn is_of_store(file: &Path, store: &StoreUrl) -> bool {
    let Some(database) = store.path() else {
        return false;
    };
    ["", "-wal", "-shm"].iter().any(|end| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        is_same(file, Path::new(&name))
    })
}

/// Whether a file is in a folder.
fn is_under(file: &Path, folder: &Path) -> bool {
    match (file.canonicalize(), folder.canonicalize()) {
        (Ok(file), Ok(folder)) => file.starts_with(folder),
        _ => false,
    }
}

/// Whether two paths lead to one file that exists.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Refuses dead letters in a file that holds something else: they would be appended to it.
pub(super) fn check_dlq(dlq: &Path, inputs: &[Input], store: &StoreUrl) -> anyhow::Result<()> {
    let what = if is_of_store(dlq, store) {
        "the store"
    } else if inputs
        .iter()
        .any(|input| matches!(input, Input::File(path) if is_same(path, dlq)))
    {
        "an input"
    } else {
        return Ok(());
    };
    let dlq = dlq.display();
    let text = format!("dead letters cannot go to {dlq}, which is {what}; choose another --dlq");
    Err(Usage::new(text).into())
}

/// Refuses a revision of the future: every later correction would lose against it.
pub(super) fn check_revision(given: Option<Timestamp>) -> anyhow::Result<()> {
    match given {
        Some(given) if given.micros() > now().micros().saturating_add(MAX_AHEAD_MICROS) => {
            let text = format!("--revision {given} is more than 5 minutes ahead of the clock");
            Err(Usage::new(text).into())
        }
        _ => Ok(()),
    }
}

/// The files of a folder and of the folders in it, by name; hidden ones are left out.
fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let failed = || format!("cannot read the folder {}", folder.display());
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .with_context(failed)?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        let hidden = entry
            .file_name()
            .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        // A link to a folder is not followed: it could lead back here.
        if entry.is_dir() && !entry.is_symlink() {
            files.extend(files_of(&entry)?);
        } else if entry.is_file() {
            files.push(entry);
        }
    }
    Ok(files)
}

/// The present moment.
pub(super) fn now() -> Timestamp {
    of_system_time(SystemTime::now())
}

fn of_system_time(time: SystemTime) -> Timestamp {
    let micros = |d: std::time::Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    })
}

/// The revisions of an input, as far as they can be said without the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// They are known, and perhaps a person should know them too.
    Known(Revisions, Option<String>),
    /// They are the store's to say, by the content.
    OfContent(Content),
}

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) hash: [u8; 32],
    pub(super) path: PathBuf,
    /// When it was last changed; not in the future.
    pub(super) modified: Timestamp,
    /// At least as many as it has rows.
    pub(super) max_rows: i64,
    pub(super) note: Option<String>,
}

/// The most that a byte of an archive can stand for: what deflate makes of a run of one byte.
const MAX_PACKED: i64 = 1_032;

/// The revisions of an input. Reads a file as a whole, for its hash.
pub(super) async fn base_revision(input: &Input, given: Option<Timestamp>) -> anyhow::Result<Base> {
    if let Some(given) = given {
        return Ok(Base::Known(Revisions::from(given, "--revision"), None));
    }
    let since_now = |note: &dyn Fn(Timestamp) -> String| {
        let now = now();
        let revisions = Revisions::from(now, "revisions start at");
        Ok(Base::Known(revisions, Some(note(now))))
    };
    let Input::File(path) = input else {
        return since_now(&|now| {
            format!("revisions start at {now}, the start of the run; --revision sets them")
        });
    };
    let metadata =
        std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
    if !metadata.is_file() {
        return since_now(&|now| format!("not a regular file: revisions start at {now}"));
    }
    let modified = metadata.modified().map_or_else(|_| now(), of_system_time);
    let note = (modified > now())
        .then(|| format!("modified in the future ({modified}): revisions start now"));
    let hashed = path.clone();
    let hash = tokio::task::spawn_blocking(move || content_hash(&hashed))
        .await
        .context("hashing was interrupted")??;
    let bytes = i64::try_from(metadata.len()).unwrap_or(i64::MAX);
    Ok(Base::OfContent(Content {
        hash,
        path: path.clone(),
        modified: modified.min(now()),
        max_rows: bytes.saturating_mul(MAX_PACKED),
        note,
    }))
}

/// SHA-256 of a file's bytes as they are on disk.
fn content_hash(path: &Path) -> anyhow::Result<[u8; 32]> {
    let failed = || format!("cannot read {}", path.display());
    let mut file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).with_context(failed),
        }
    }
}
