//! A server of a test's own, for what must not happen to the one that the tests share: settings,
//! certificates, full disks, restarts.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mds_store::StoreUrl;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A server in a temporary folder; stopped and removed when dropped.
pub(crate) struct Cluster {
    dir: TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    is_running: bool,
}

/// How a server is told to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Ends sessions and writes everything out.
    Fast,
    /// As SIGKILL would, but leaves nothing in memory.
    Immediate,
}

/// The folder of PostgreSQL's programs, if they are on this machine and may run here.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().or_else(|| {
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&on_path).find(|bin| bin.join("initdb").exists())
    })
}

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout == b"0\n")
}

impl Cluster {
    /// Starts a server with `settings` in its configuration file.
    ///
    /// `None`, and a word why, where the programs are missing.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let mut cluster = Self::prepare()?;
        cluster.configure(settings);
        cluster.run();
        Some(cluster)
    }

    /// Makes a server and does not start it.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) fn prepare() -> Option<Self> {
        let Some(bin) = programs() else {
            eprintln!("skipped: PostgreSQL's programs are not on this machine");
            return None;
        };
        let cluster = Self::prepare_empty(&bin)?;
        cluster.program(
            "initdb",
            &["--no-sync", "-U", "postgres", "-A", "trust", "-D", "data"],
        );
        Some(cluster)
    }

    /// A folder for a server.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn prepare_empty(bin: &Path) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("mds").tempdir().unwrap();
        if is_root() {
            // The server refuses to run as root.
            let path = dir.path().to_str().unwrap();
            let owned = Command::new("chown").args(["postgres", path]).output();
            if !owned.is_ok_and(|output| output.status.success()) {
                eprintln!("skipped: this is root, and there is no user postgres");
                return None;
            }
        }
        Some(Self {
            port: free_port(),
            dir,
            bin: bin.to_owned(),
            is_running: false,
        })
    }

    /// Adds lines to the configuration file.
    pub(crate) fn configure(&self, settings: &[&str]) {
        let file = self.dir.path().join("data/postgresql.conf");
        let mut text = fs::read_to_string(&file).unwrap();
        for setting in settings {
            text.push_str(setting);
            text.push('\n');
        }
        fs::write(&file, text).unwrap();
    }

    /// Says who may connect, and how: the lines of `pg_hba.conf`.
    pub(crate) fn admit(&self, lines: &[&str]) {
        let text = format!("{}\n", lines.join("\n"));
        fs::write(self.dir.path().join("data/pg_hba.conf"), text).unwrap();
    }

    /// Starts the server; on another port if somebody took this one meanwhile.
    pub(crate) fn run(&mut self) {
        for _ in 0..5 {
            let folder = self.dir.path().to_str().unwrap();
            let options = format!(
                "-p {} -k {folder} -c listen_addresses=127.0.0.1,::1 -c fsync=off",
                self.port
            );
            let started = self.try_program(
                "pg_ctl",
                &["start", "-D", "data", "-w", "-l", "log", "-o", &options],
            );
            if started.status.success() {
                self.is_running = true;
                return;
            }
            self.port = free_port();
        }
        panic!("the server does not start:\n{}", self.log());
    }

    pub(crate) fn stop(&mut self, how: Stop) {
        let how = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        self.program("pg_ctl", &["stop", "-D", "data", "-m", how, "-w"]);
        self.is_running = false;
    }

    /// Reads the configuration files again.
    pub(crate) fn reload(&self) {
        self.program("pg_ctl", &["reload", "-D", "data"]);
    }

    /// What the server has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Runs one of PostgreSQL's programs in the folder of the server, as its user.
    pub(crate) fn program(&self, name: &str, args: &[&str]) {
        let output = self.try_program(name, args);
        assert!(
            output.status.success(),
            "{name} {args:?}: {}{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
    }

    pub(crate) fn try_program(&self, name: &str, args: &[&str]) -> Output {
        as_server(&self.bin.join(name))
            .args(args)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    /// The address of a database on this server, as its superuser.
    pub(crate) fn url(&self, database: &str) -> StoreUrl {
        self.url_with("postgres@127.0.0.1", database)
    }

    /// The address for `USER@HOST` and `DATABASE?PARAMETERS`.
    pub(crate) fn url_with(&self, who: &str, database: &str) -> StoreUrl {
        let text = format!("postgres://{who}:{}/{database}", self.port);
        text.parse().unwrap()
    }

    /// Makes a standby of this server, and starts it.
    pub(crate) fn standby(&self) -> Self {
        let mut standby = Self::prepare_empty(&self.bin).unwrap();
        let data = standby.dir.path().join("data");
        let port = self.port.to_string();
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        let to = [
            "-D",
            data.to_str().unwrap(),
            "-R",
            "-c",
            "fast",
            "--no-sync",
        ];
        self.program("pg_basebackup", &[&from[..], &to].concat());
        standby.run();
        standby
    }

    /// Makes the main server of a standby.
    pub(crate) fn promote(&self) {
        self.program("pg_ctl", &["promote", "-D", "data", "-w"]);
    }

    /// A session of the superuser, by the socket.
    pub(crate) async fn shell(&self, database: &str) -> Client {
        let folder = self.dir.path().to_str().unwrap();
        let config = format!(
            "host={folder} port={} user=postgres dbname={database}",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        drop(tokio::spawn(connection));
        client
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_running {
            self.try_program("pg_ctl", &["stop", "-D", "data", "-m", "immediate", "-w"]);
        }
    }
}

/// A command that runs a program as the user of the server.
pub(crate) fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

/// Ends one process as the system does when memory is short.
pub(crate) fn kill(pid: i32) {
    signal(pid, "KILL");
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: i32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
