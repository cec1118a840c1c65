//! One life of the process that takes rows, as its producer sees it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Queue, Trial};

/// What the process says once it takes rows, and once everything is in the store.
pub(super) const READY: &str = "ready";
pub(super) const DONE: &str = "done";
/// The store and the queue, within the folder.
pub(super) const STORE: &str = "store.db";
const QUEUE: &str = "queue";
/// What the process says on standard error.
const LOG: &str = "log";
/// When the process is taken to hang, and how often it is asked whether that matters any more.
const HANGS: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);

/// What was heard of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Ready,
    /// The row is acknowledged.
    Acknowledged(u64),
    /// The row is not, and why.
    Refused(u64, String),
    Done,
    /// Something else.
    Odd(String),
    /// The process is gone.
    End,
    /// Nothing, for a long time.
    Silence,
    /// Nobody waits for it any more.
    Stopped,
}

/// A process.
#[derive(Debug)]
pub(super) struct Life {
    child: Child,
    rows: Option<Sender<u64>>,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Life {
    /// Starts the process on a folder, with a store that takes `delay` longer for each write.
    pub(super) fn start(dir: &Path, queue: Queue, delay: Duration) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program to start it")?;
        let log = dir.join(LOG);
        let errors =
            File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(["selftest", "--child", "--quiet", "--delay"])
            .arg(format!("{}ms", delay.as_millis()))
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        set_environment(&mut command, queue);
        let mut child = command.spawn().context("cannot start this program anew")?;
        let (rows, numbers) = channel();
        if let Some(stdin) = child.stdin.take() {
            std::thread::spawn(move || hand_in(&numbers, stdin));
        }
        let (to_us, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut stdout = BufReader::new(stdout);
                let mut line = String::new();
                // One that was cut off has not arrived.
                while stdout.read_line(&mut line).is_ok() && line.ends_with('\n') {
                    if to_us.send(line.trim_end().to_owned()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        Ok(Self {
            child,
            rows: Some(rows),
            lines,
            log,
        })
    }

    /// Hands in a row. That the process is gone is heard soon.
    pub(super) fn send(&self, number: u64) {
        if let Some(rows) = &self.rows {
            rows.send(number).unwrap_or_default();
        }
    }

    /// There are no more rows.
    pub(super) fn close(&mut self) {
        self.rows = None;
    }

    /// Waits for what the process says next.
    pub(super) fn hear(&self, trial: &Trial) -> Heard {
        let since = Instant::now();
        loop {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return heard(line),
                Err(RecvTimeoutError::Disconnected) => return Heard::End,
                Err(RecvTimeoutError::Timeout) if trial.is_stopped() => return Heard::Stopped,
                Err(RecvTimeoutError::Timeout) if since.elapsed() > HANGS => {
                    return Heard::Silence;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Kills the process (SIGKILL); what it had said before is still heard.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot kill the process")
    }

    /// Waits for the end of the process; tells whether it ended well.
    pub(super) fn end(&mut self) -> anyhow::Result<bool> {
        self.close();
        let status = self.child.wait();
        Ok(status.context("cannot wait for the process")?.success())
    }

    /// What the process has said on standard error, its last line.
    pub(super) fn complaint(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Both fail where it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn heard(line: String) -> Heard {
    match line.as_str() {
        READY => return Heard::Ready,
        DONE => return Heard::Done,
        _ => {}
    }
    if let Ok(number) = line.parse() {
        return Heard::Acknowledged(number);
    }
    match line
        .split_once(' ')
        .map(|(first, why)| (first.parse(), why))
    {
        Some((Ok(number), why)) => Heard::Refused(number, why.to_owned()),
        _ => Heard::Odd(line),
    }
}

/// Writes all rows that there are at once, until there are no more or nobody reads them.
fn hand_in(numbers: &Receiver<u64>, mut stdin: ChildStdin) {
    while let Ok(first) = numbers.recv() {
        let mut text = format!("{first}\n");
        for number in numbers.try_iter() {
            text.push_str(&number.to_string());
            text.push('\n');
        }
        if stdin.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// Settings of the test, and none of the user's.
fn set_environment(command: &mut Command, queue: Queue) {
    for (name, _) in std::env::vars_os() {
        let is_ours = name
            .to_string_lossy()
            .to_ascii_uppercase()
            .starts_with("MDS_");
        if is_ours {
            command.env_remove(&name);
        }
    }
    let queue = match queue {
        Queue::Disk => format!("disk:{QUEUE}"),
        Queue::Memory => "memory".to_owned(),
    };
    command
        .env("MDS_STORE", format!("sqlite:{STORE}"))
        .env("MDS_QUEUE", queue)
        // Small, so that a short life has writes in it.
        .env("MDS_COORDINATOR_BATCH_SIZE", "64")
        .env("MDS_COORDINATOR_FLUSH_INTERVAL", "0.005");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_is_understood() {
        let told = |line: &str| heard(line.to_owned());
        assert_eq!(told("ready"), Heard::Ready);
        assert_eq!(told("done"), Heard::Done);
        assert_eq!(told("17"), Heard::Acknowledged(17));
        assert_eq!(told("17 no room"), Heard::Refused(17, "no room".to_owned()));
        assert_eq!(told("what?"), Heard::Odd("what?".to_owned()));
    }
}
