//! Checks of single files: what stands in them, and how long they are.

use super::{Finding, TextFile};

/// The hard limit for a file of Rust.
const MAX_LINES: usize = 800;
/// The hard limit for any other file that people keep; data that tests need is smaller.
const MAX_BYTES: usize = 256 * 1024;
/// The registry that Cargo asks by default, as it stands in `Cargo.lock`.
const DEFAULT_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Work that was left over, in Rust. Written in two parts, so that this file passes its own check.
const LEFT_OVER: [(&str, &str); 7] = [
    (
        concat!("TO", "DO"),
        "finish it, or describe the limit in the documentation",
    ),
    (
        concat!("FIX", "ME"),
        "fix it, or describe the limit in the documentation",
    ),
    (concat!("todo", "!("), "write it"),
    (concat!("unimplemented", "!("), "write it"),
    (concat!("dbg", "!("), "remove it"),
    (
        concat!("#[", "ignore"),
        "run the test always, or switch it by an environment variable",
    ),
    (
        concat!("#[", "allow("),
        "use #[expect(..., reason = \"...\")]",
    ),
];

/// Paths of one machine, hosts of registries, and documents that are not part of the repository.
const OF_ONE_MACHINE: [(&str, &str); 16] = [
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
    (concat!("/Us", "ers/"), "a path of one machine"),
    (
        concat!("/tm", "p/"),
        "a path of one machine; use a temporary folder",
    ),
    (concat!("index.crates", ".io"), "the host of a registry"),
    (concat!("static.crates", ".io"), "the host of a registry"),
    (concat!("py", "pi.org"), "the host of a registry"),
    (concat!("python", "hosted.org"), "the host of a registry"),
    (concat!("proxy.go", "lang.org"), "the host of a registry"),
    (concat!("npm", "js.org"), "the host of a registry"),
    (
        concat!("DESI", "GN.md"),
        "a document that is not part of the repository",
    ),
    (
        concat!("STY", "LE.md"),
        "a document that is not part of the repository",
    ),
    (
        concat!("FAU", "LTS.md"),
        "a document that is not part of the repository",
    ),
    (
        concat!("LIM", "ITS.md"),
        "a document that is not part of the repository",
    ),
    (
        concat!("CRA", "TES.md"),
        "a document that is not part of the repository",
    ),
];

/// Everything found in one file.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    if file.path == "Cargo.lock" {
        return lock_file(file);
    }
    let mut findings = machine_words(file);
    if is_rust(&file.path) {
        findings.extend(module_documentation(file));
        findings.extend(left_over(file));
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            let message = format!("{lines} lines; at most {MAX_LINES}: split the story in two");
            findings.push(Finding::new(&file.path, 0, message));
        }
    }
    if file.text.len() > MAX_BYTES {
        let message = format!("{} bytes; at most {MAX_BYTES}", file.text.len());
        findings.push(Finding::new(&file.path, 0, message));
    }
    findings
}

pub(super) fn is_rust(path: &str) -> bool {
    std::path::Path::new(path)
        .extension()
        .is_some_and(|e| e == "rs")
}

/// A file begins with its documentation; only attributes and licence comments may stand before it.
fn module_documentation(file: &TextFile) -> Option<Finding> {
    let first = file.text.lines().map(str::trim).find(|line| {
        let is_preamble = line.is_empty() || line.starts_with("#!") || line.starts_with("// ");
        !is_preamble
    });
    let documented = first.is_some_and(|line| line.starts_with("//!"));
    let message = "has no module documentation; say in //! what the file is for";
    (!documented).then(|| Finding::new(&file.path, 1, message))
}

fn left_over(file: &TextFile) -> Vec<Finding> {
    find_words(file, &LEFT_OVER, |word, advice| format!("{word}: {advice}"))
}

fn machine_words(file: &TextFile) -> Vec<Finding> {
    find_words(file, &OF_ONE_MACHINE, |word, what| {
        format!("{word} is {what}; leave it out")
    })
}

fn find_words(
    file: &TextFile,
    words: &[(&str, &str)],
    message: impl Fn(&str, &str) -> String,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, line) in file.text.lines().enumerate() {
        for (word, about) in words {
            if line.contains(word) {
                findings.push(Finding::new(&file.path, i + 1, message(word, about)));
            }
        }
    }
    findings
}

/// Every dependency comes from the registry that Cargo asks by default.
fn lock_file(file: &TextFile) -> Vec<Finding> {
    let is_foreign = |line: &&str| {
        line.strip_prefix("source = \"")
            .is_some_and(|source| source.trim_end_matches('"') != DEFAULT_REGISTRY)
    };
    let message = "a dependency that does not come from the default registry";
    let lines = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_foreign(line));
    lines
        .map(|(i, _)| Finding::new(&file.path, i + 1, message))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&file).into_iter().map(|f| f.line).collect()
    }

    #[test]
    fn rust_files_are_documented() {
        assert_eq!(lines("a.rs", "//! What for.\nfn a() {}\n"), [0; 0]);
        assert_eq!(
            lines("a.rs", "#![forbid(unsafe_code)]\n\n//! What for.\n"),
            [0; 0]
        );
        assert_eq!(lines("a.rs", "use std::fmt;\n//! What for.\n"), [1]);
        assert_eq!(lines("a.rs", ""), [1]);
        assert_eq!(lines("a.md", "text"), [0; 0]);
    }

    #[test]
    fn left_over_work_is_found() {
        for (word, _) in LEFT_OVER {
            assert_eq!(
                lines("a.rs", &format!("//! A.\n// {word}\n")),
                [2],
                "{word}"
            );
        }
        assert_eq!(
            lines("a.rs", "//! A.\n#[expect(x, reason = \"y\")]\n"),
            [0; 0]
        );
    }

    #[test]
    fn words_of_one_machine_are_found_in_every_text() {
        for (word, _) in OF_ONE_MACHINE {
            assert_eq!(lines("a.md", &format!("see {word}x\n")), [1], "{word}");
        }
        assert_eq!(lines("a.md", "put it in /var/lib/mds\n"), [0; 0]);
    }

    #[test]
    fn long_files_are_found() {
        let long = format!("//! A.\n{}", "fn a() {}\n".repeat(MAX_LINES));
        assert_eq!(lines("a.rs", &long), [0]);
        assert_eq!(lines("a.csv", &"x".repeat(MAX_BYTES + 1)), [0]);
    }

    #[test]
    fn a_foreign_registry_is_found() {
        let good = format!("[[package]]\nsource = \"{DEFAULT_REGISTRY}\"\n");
        assert_eq!(lines("Cargo.lock", &good), [0; 0]);
        let bad = "[[package]]\nsource = \"registry+https://mirror.example/index\"\n";
        assert_eq!(lines("Cargo.lock", bad), [2]);
    }
}
