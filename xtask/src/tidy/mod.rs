//! What neither the compiler nor clippy checks.
//!
//! | check | where |
//! |---|---|
//! | module documentation, length of files, left-over work, words of one machine | `text` |
//! | which crate may depend on which; lints inherited | `crates` |
//! | names in documents and dashboards exist in the code | `names` |
//! | generated documents are in step | here |

mod crates;
mod names;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{SETTINGS_DOC, settings_doc};

/// Folders that hold nothing of ours.
const SKIPPED_FOLDERS: [&str; 7] = [
    ".git",
    "target",
    ".dlq",
    ".venv",
    "node_modules",
    "__pycache__",
    ".pytest_cache",
];

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, from the root of the repository.
    pub(crate) path: String,
    /// The line, from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// What is wrong, and what to do about it.
    pub(crate) message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// A text file of the repository.
pub(crate) struct TextFile {
    /// Its path from the root, with `/` between folders.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
}

/// Everything that is found, by file and line.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let files = read_all(root)?;
    let mut findings = Vec::new();
    for file in &files {
        findings.extend(text::check(file));
    }
    findings.extend(crates::check(root, &files)?);
    findings.extend(names::check(&files));
    findings.extend(generated(&files));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok(findings)
}

fn generated(files: &[TextFile]) -> Option<Finding> {
    let found = files.iter().find(|f| f.path == SETTINGS_DOC);
    let in_step = found.is_some_and(|f| f.text == settings_doc::render());
    let message = "is not what the table of settings says; run `cargo run -p xtask -- gen-docs`";
    (!in_step).then(|| Finding::new(SETTINGS_DOC, 0, message))
}

/// Every text file below `root`; files that are not UTF-8 are passed over.
fn read_all(root: &Path) -> anyhow::Result<Vec<TextFile>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                files.extend(read_text(root, &entry.path())?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_text(root: &Path, path: &PathBuf) -> anyhow::Result<Option<TextFile>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'));
    Ok(text.map(|text| TextFile {
        path: parts.join("/"),
        text,
    }))
}
