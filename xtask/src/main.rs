//! Chores of the repository.
//!
//! ```text
//! cargo run -p xtask -- tidy       check what neither the compiler nor clippy checks
//! cargo run -p xtask -- gen-docs   write the documents that are made from code
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

mod settings_doc;
mod tidy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

/// The reference of settings, made from the table in `mds-core`.
const SETTINGS_DOC: &str = "docs/settings.md";

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let result = match task.as_deref() {
        Some("tidy") => tidy(&root()),
        Some("gen-docs") => gen_docs(&root()),
        _ => {
            eprintln!("usage: cargo run -p xtask -- tidy | gen-docs");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository: this file's package lies directly in it.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

fn tidy(root: &Path) -> anyhow::Result<ExitCode> {
    let findings = tidy::check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: nothing found");
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} found", findings.len());
    Ok(ExitCode::FAILURE)
}

fn gen_docs(root: &Path) -> anyhow::Result<ExitCode> {
    let path = root.join(SETTINGS_DOC);
    fs::write(&path, settings_doc::render())
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {SETTINGS_DOC}");
    Ok(ExitCode::SUCCESS)
}
