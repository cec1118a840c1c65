//! What a child process does: the test binary starts itself again, with a role.

use std::env;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use mds_coordinator::dead_letter::{DlqOptions, Letter, LetterDraft, LetterFilter};
use serde_json::json;

use super::{Dlq, draft, drafts, number, small_files};

const ROLE: &str = "MDS_TEST_DLQ_ROLE";
const PATH: &str = "MDS_TEST_DLQ_PATH";
const FROM: &str = "MDS_TEST_DLQ_FROM";
/// Before each line that the parent is to see; the harness prints lines of its own.
const MARK: &str = "child:";

/// A process that has a part in a test; killed when it is dropped.
pub(super) struct Helper {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Helper {
    pub(super) fn start(role: &str, path: &Path, from: u64) -> Self {
        Self::run(Command::new(env::current_exe().unwrap()), role, path, from)
    }

    /// A process that cannot make a file larger than a few kilobytes: its write stops in the
    /// middle, with an error and no signal.
    pub(super) fn start_with_small_disk(role: &str, path: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]);
        shell.arg(env::current_exe().unwrap());
        Self::run(shell, role, path, 0)
    }

    fn run(mut command: Command, role: &str, path: &Path, from: u64) -> Self {
        let mut child = command
            .args(["dead_letter::children::child", "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(PATH, path)
            .env(FROM, from.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line that the child says; `None` when it has ended.
    pub(super) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            // The harness does not end its own line before the child's first.
            if let Some((_, said)) = line.trim_end().split_once(MARK) {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    /// SIGKILL; answers what the child had said until then.
    pub(super) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end, and requires that the child's own assertions held.
    pub(super) fn join(mut self) -> Vec<String> {
        let said = std::iter::from_fn(|| self.hear()).collect();
        assert!(self.child.wait().unwrap().success());
        said
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Fails where the child has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn say(what: &str) {
    println!("{MARK}{what}");
}

/// Not a test, but where a child begins; does nothing in the run that the user started.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let path = env::var_os(PATH).unwrap();
    let path = Path::new(&path);
    let from = env::var(FROM).unwrap().parse().unwrap();
    match role.as_str() {
        "append" => append(path, from),
        "append_without_end" => append_without_end(path, from),
        "replay" => replay(path),
        "hold" => hold(path),
        "fill_disk" => fill_disk(path),
        other => panic!("no role {other}"),
    }
}

/// 300 letters, one to five at a time.
fn append(path: &Path, from: u64) {
    let dlq = Dlq::open(path, small_files()).unwrap();
    let mut next = from;
    while next < from + 300 {
        let end = (next + 1 + next % 5).min(from + 300);
        dlq.append(drafts(next..end)).unwrap();
        next = end;
    }
}

/// Letters until it is killed; says the number up to which they are acknowledged.
fn append_without_end(path: &Path, from: u64) {
    let dlq = Dlq::open(path, small_files()).unwrap();
    for start in (from..).step_by(3) {
        dlq.append(drafts(start..start + 3)).unwrap();
        say(&(start + 3).to_string());
    }
}

/// Replays into `store.txt`, which keeps the numbers of the letters; every fourth letter fails the
/// first two times. Says something after each step that a kill may follow.
fn replay(path: &Path) {
    let dlq = Dlq::open(path, small_files()).unwrap();
    let mut replayer = dlq.replayer(LetterFilter::default()).unwrap();
    let mut store = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path.with_file_name("store.txt"))
        .unwrap();
    loop {
        let batch = replayer.next_batch(4).unwrap();
        if batch.is_empty() {
            break;
        }
        for letter in &batch {
            let number = number(letter);
            if number.is_multiple_of(4) && letter.replays() < 2 {
                let again = LetterDraft {
                    replays: letter.replays() + 1,
                    replaces: Some(letter.id),
                    ..draft(number)
                };
                dlq.append(vec![again]).unwrap();
                say("failed again");
            } else {
                store.write_all(format!("{number}\n").as_bytes()).unwrap();
                say("stored");
            }
        }
        let keys: Vec<_> = batch.iter().map(Letter::key).collect();
        replayer.settle(&keys).unwrap();
        say("settled");
    }
    replayer.finish().unwrap();
    say("finished");
}

/// Holds the replayer until it is killed.
fn hold(path: &Path) {
    let dlq = Dlq::open(path, DlqOptions::default()).unwrap();
    let _replayer = dlq.replayer(LetterFilter::default()).unwrap();
    say("holding");
    loop {
        std::thread::park();
    }
}

/// Appends until it fails, and says how many letters were kept.
fn fill_disk(path: &Path) {
    let dlq = Dlq::open(path, DlqOptions::default()).unwrap();
    let mut kept = 0;
    let error = loop {
        match dlq.append(drafts(kept..kept + 5)) {
            Ok(_) => kept += 5,
            Err(error) => break error,
        }
    };
    say(
        &json!({"kept": kept, "error": error.to_string(), "kind": error.kind().as_str()})
            .to_string(),
    );
}
