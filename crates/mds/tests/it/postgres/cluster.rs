//! A PostgreSQL server of our own, in a temporary folder: to be killed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A running, or killed, server; removed when dropped.
pub(crate) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    /// The server refuses to run as root.
    is_root: bool,
    pub(crate) address: SocketAddr,
}

impl Cluster {
    /// A new server, started; or why there can be none on this machine.
    pub(crate) async fn start() -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL's programs are not on this machine")?;
        let is_root = text_of(Command::new("id").arg("-u")) == Some("0".to_owned());
        let folder = tempfile::tempdir().unwrap();
        if is_root {
            let owned = Command::new("chown")
                .arg("postgres")
                .arg(folder.path())
                .output();
            if !owned.is_ok_and(|o| o.status.success()) {
                return Err("there is no user postgres to run a server as".to_owned());
            }
        }
        let port = free_port();
        let cluster = Self {
            folder,
            programs,
            is_root,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        let data = cluster.data();
        let made = cluster.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust"]);
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)));
        }
        cluster.launch();
        drop(cluster.is_back().await);
        Ok(cluster)
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// Starts the server, without waiting for it.
    pub(crate) fn launch(&self) {
        let folder = self.folder.path().display();
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''",
            self.address.port()
        );
        let (data, log) = (self.data(), format!("{folder}/log"));
        let started = self.run(
            "pg_ctl",
            &["-W", "-D", &data, "-l", &log, "-o", &options, "start"],
        );
        assert!(started.status.success(), "{started:?}");
    }

    /// Waits until the server takes a connection; answers when it did, and with the connection.
    pub(crate) async fn is_back(&self) -> (Instant, Client) {
        let url = format!("postgres://postgres@{}/postgres", self.address);
        let back = async {
            loop {
                if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                    drop(tokio::spawn(connection));
                    return (Instant::now(), client);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let log = self.folder.path().join("log");
        tokio::time::timeout(Duration::from_secs(120), back)
            .await
            .unwrap_or_else(|_| panic!("it does not come back: {:?}", fs::read_to_string(log)))
    }

    /// Kills the server and all its processes, as the machine's end would.
    pub(crate) fn kill(&self) {
        let file = Path::new(&self.data()).join("postmaster.pid");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let Some(main) = text.lines().next().map(str::to_owned) else {
            return;
        };
        // It makes no more children, and does not clean up after those that it has.
        signal("-STOP", std::slice::from_ref(&main));
        let mut all = children_of(&main);
        all.push(main);
        signal("-KILL", &all);
        while all.iter().any(|process| is_alive(process)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // As after the end of the machine nobody has the number that is in it.
        drop(fs::remove_file(file));
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let program = self.programs.join(program);
        let mut command = if self.is_root {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // A folder that the other user may enter.
        command.args(args).current_dir(self.folder.path());
        command.output().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the programs of the newest server are.
fn programs() -> Option<PathBuf> {
    let version =
        |path: &PathBuf| -> Option<u32> { path.parent()?.file_name()?.to_str()?.parse().ok() };
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    found.sort_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = found.into_iter().rev().chain(std::env::split_paths(&path));
    candidates.find(|folder| folder.join("initdb").is_file())
}

fn text_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn signal(signal: &str, processes: &[String]) {
    // One that has ended meanwhile is as it should be.
    drop(Command::new("kill").arg(signal).args(processes).output());
}

/// The state of a process and the number of its parent.
fn state_and_parent(process: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut behind = stat.rsplit(") ").next()?.split(' ').map(str::to_owned);
    Some((behind.next()?, behind.next()?))
}

/// Whether it runs: one that nobody has buried yet does not.
fn is_alive(process: &str) -> bool {
    state_and_parent(process).is_some_and(|(state, _)| state != "Z")
}

/// The processes that `parent` has started.
fn children_of(parent: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|process| state_and_parent(process).is_some_and(|(_, of)| of == parent))
        .collect()
}
