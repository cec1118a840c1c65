//! Which files are read, and the revision that each begins with.
//!
//! The rows of a file take the revisions `base`, `base + 1`, ... in their order, so that of two
//! rows with one key the later line wins. `base` is the file's modification time when its content
//! is seen for the first time; the store remembers it by the content's hash, so the same content
//! always takes the same revisions, whatever happened to the file's name and time.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use mds_core::{Kind, Timestamp};
use mds_store::Store;
use sha2::{Digest, Sha256};

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

/// The inputs that the arguments name; a folder stands for its files, by name.
pub(super) fn expand(arguments: &[PathBuf]) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            inputs.push(Input::Stdin);
        } else if argument.is_dir() {
            inputs.extend(files_of(argument)?.into_iter().map(Input::File));
        } else {
            inputs.push(Input::File(argument.clone()));
        }
    }
    Ok(inputs)
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

/// The revision of the first row of an input, and what a person should know about it.
pub(super) async fn base_revision(
    input: &Input,
    kind: Kind,
    given: Option<Timestamp>,
    store: &Store,
) -> anyhow::Result<(i64, Option<String>)> {
    if let Some(given) = given {
        return Ok((given.micros(), None));
    }
    let Input::File(path) = input else {
        let now = now();
        let note = format!("revisions start at {now}, the start of the run; --revision sets them");
        return Ok((now.micros(), Some(note)));
    };
    let metadata = std::fs::metadata(path)
        .with_context(|| format!("cannot read the size and time of {}", path.display()))?;
    if !metadata.is_file() {
        let now = now();
        return Ok((
            now.micros(),
            Some(format!("not a regular file: revisions start at {now}")),
        ));
    }
    let modified = metadata.modified().map_or_else(|_| now(), of_system_time);
    let mut note = None;
    if modified > now() {
        note = Some(format!(
            "modified in the future ({modified}): revisions start now"
        ));
    }
    let hashed = path.clone();
    let hash = tokio::task::spawn_blocking(move || content_hash(&hashed))
        .await
        .context("hashing was interrupted")??;
    let proposed = modified.min(now()).micros();
    let base = store
        .file_revision(hash, kind, Some(path), proposed)
        .await
        .with_context(|| format!("cannot look up the revision of {}", path.display()))?;
    if base != proposed {
        let seen = Timestamp::from_micros(base);
        note = Some(format!(
            "this content was seen before, with revisions from {seen}"
        ));
    }
    Ok((base, note))
}

/// SHA-256 of a file's bytes as they are on disk.
fn content_hash(path: &Path) -> anyhow::Result<[u8; 32]> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = std::fs::File::open(path).with_context(failed)?;
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
