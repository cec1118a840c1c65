//! Programs that run while the test goes on: input by hand, signals, waiting for what they say.
//!
//! Nothing here sleeps. A test waits for a line or for the end of the program; the guard is far
//! beyond what any of them takes, and only turns a hang into a failure.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::run::{Outcome, Place};

/// When a program is taken to hang.
const GUARD: Duration = Duration::from_secs(120);

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Lines of standard error; it ends with the program.
    stderr: Receiver<String>,
    /// All of standard output, once the program has ended.
    stdout: Receiver<String>,
    /// What standard error has said so far.
    said: String,
}

impl Place {
    /// Starts the program with `args`; its standard input is in the hands of the test.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::new(&mut self.command(args))
    }
}

impl Running {
    /// Starts a command.
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (to_test, stderr) = channel();
        let pipe = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                if to_test.send(line).is_err() {
                    return;
                }
            }
        });
        let (to_test, stdout) = channel();
        let mut pipe = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            drop(to_test.send(text));
        });
        Self {
            stdin: child.stdin.take(),
            child,
            stderr,
            stdout,
            said: String::new(),
        }
    }

    /// Hands bytes to the program. A program that has ended takes none, which its outcome shows.
    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        drop(
            stdin
                .write_all(text.as_bytes())
                .and_then(|()| stdin.flush()),
        );
    }

    /// Ends the input of the program.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until standard error has a line with `text` in it, and answers with that line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.stderr.recv_timeout(GUARD) else {
                panic!("{text:?} was never said, only:\n{}", self.said);
            };
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal: `INT`, `TERM`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end of the program. One that a signal has ended has the code 128 + signal, as
    /// shells say it.
    #[track_caller]
    pub(crate) fn outcome(mut self) -> Outcome {
        let Ok(stdout) = self.stdout.recv_timeout(GUARD) else {
            panic!("the program hangs; it said:\n{}", self.said);
        };
        while let Ok(line) = self.stderr.recv_timeout(GUARD) {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        Outcome {
            code: code_of(self.child.wait().unwrap()),
            stdout,
            stderr: std::mem::take(&mut self.said),
        }
    }
}

#[cfg(unix)]
fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = || 128 + status.signal().unwrap();
    status.code().unwrap_or_else(signal)
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; after the end there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
