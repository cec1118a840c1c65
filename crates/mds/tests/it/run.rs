//! Running the binary, and comparing what it prints with files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder to run the program in.
pub(crate) struct Place {
    dir: TempDir,
}

/// What a run did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The program with `args`, in this folder, without the environment of the tests.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mds"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        self.run_with_env(args, &[])
    }

    pub(crate) fn run_with_env(&self, args: &[&str], env: &[(&str, &str)]) -> Outcome {
        let output = self
            .command(args)
            .envs(env.iter().copied())
            .output()
            .unwrap();
        Outcome {
            code: output.status.code().expect("the program ends by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Outcome {
    /// Expects an exit code, and shows everything where it is another.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Expects a text on standard error.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    /// Expects the lines of standard error that begin with `error: ` to be exactly these.
    #[track_caller]
    pub(crate) fn errors(self, errors: &[&str]) -> Self {
        let told: Vec<&str> = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("error: "))
            .collect();
        assert_eq!(told, errors, "{self:#?}");
        self
    }

    /// The books of `mds ingest --json`: the last line of standard output, with exactly the keys
    /// that are promised, in their order, and balanced. Answers with the counts that are not zero.
    #[track_caller]
    pub(crate) fn books(&self) -> String {
        const KEYS: [&str; 10] = [
            "read",
            "written",
            "superseded",
            "dead_lettered",
            "dropped",
            "refused",
            "recovered",
            "skipped",
            "seconds",
            "rows_per_second",
        ];
        // Of a durable queue, behind all others.
        const ON_DISK: [&str; 2] = ["queued", "damaged"];
        let line = self.stdout.lines().next_back().unwrap_or_default();
        let books: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("the last line is no JSON object: {error}: {self:#?}"));
        // The position of each key in the text is its place in the order.
        let places = KEYS.map(|key| line.find(&format!("\"{key}\":")));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{line}"
        );
        let is_durable = books.contains_key("queued");
        let keys = KEYS.len() + if is_durable { ON_DISK.len() } else { 0 };
        assert_eq!(books.len(), keys, "{line}");
        let count = |key: &str| books.get(key).map_or(0, |value| value.as_u64().unwrap());
        let settled = KEYS[1..6].iter().chain(&ON_DISK).map(|key| count(key));
        assert_eq!(
            count("read") + count("recovered"),
            settled.sum::<u64>(),
            "the books do not balance: {line}"
        );
        assert!(books["seconds"].is_number() && books["rows_per_second"].is_number());
        let told: Vec<String> = KEYS[..8]
            .iter()
            .chain(&ON_DISK)
            .filter(|key| count(key) > 0)
            .map(|key| format!("{key} {}", count(key)))
            .collect();
        told.join(", ")
    }
}

/// Compares `text` with `tests/golden/NAME`; `UPDATE_GOLDEN=1` writes the file instead.
#[track_caller]
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs; UPDATE_GOLDEN=1 writes it anew.\n--- expected\n{expected}\n--- found\n{text}",
        path.display(),
    );
}

/// Says that a test, or the rest of it, cannot run here.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
