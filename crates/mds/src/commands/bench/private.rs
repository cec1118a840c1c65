//! A PostgreSQL server of a benchmark's own, for machines that have its programs and where no
//! other was named: a new data directory, the server's default settings, a unix socket that nobody
//! else can reach. Stopped and removed at the end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// The user that the server belongs to, and as which it runs where this program runs as root: the
/// server refuses that.
const USER: &str = "postgres";

/// A running server.
#[derive(Debug)]
pub(super) struct PrivateServer {
    programs: PathBuf,
    folder: TempDir,
    /// As whom it runs, where it is not us.
    owner: Option<Owner>,
    is_started: bool,
}

impl PrivateServer {
    /// Starts one, with `fsync` on as it is by default or, if told so, off; `None` where its
    /// programs are not on this machine.
    pub(super) fn start(within: &Path, fsync: bool) -> anyhow::Result<Option<Self>> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        let folder = tempfile::Builder::new()
            .prefix("mds-bench-server-")
            .tempdir_in(within)
            .with_context(|| format!("cannot make a folder in {}", within.display()))?;
        let owner = Owner::other()?;
        owner
            .map_or(Ok(()), |owner| owner.take(folder.path()))
            .with_context(|| format!("cannot give a folder to the user {USER}"))?;
        let mut server = Self {
            programs,
            folder,
            owner,
            is_started: false,
        };
        let data = server.data();
        run(server
            .command("initdb")
            .args(["--no-sync", "-U", USER, "-A", "trust", "-D"])
            .arg(&data))?;
        let mut options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}'",
            server.folder.path().display()
        );
        if !fsync {
            options.push_str(" -c fsync=off -c synchronous_commit=off");
        }
        run(server
            .command("pg_ctl")
            .arg("-D")
            .arg(&data)
            .arg("-l")
            .arg(server.folder.path().join("log"))
            .args(["-w", "-o", &options, "start"]))?;
        server.is_started = true;
        Ok(Some(server))
    }

    /// The address of its maintenance database.
    pub(super) fn url(&self) -> String {
        format!(
            "postgres:///postgres?user={USER}&host={}",
            self.folder.path().display()
        )
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as a user that it accepts, in a folder that this user may enter.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some(owner) = self.owner {
            owner.run(&mut command);
        }
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if !self.is_started {
            return;
        }
        let mut stop = self.command("pg_ctl");
        stop.arg("-D").arg(self.data());
        stop.args(["-w", "-m", "immediate", "stop"]);
        if let Err(error) = run(&mut stop) {
            tracing::warn!("the private PostgreSQL server may still run: {error:#}");
        }
    }
}

/// The numbers of the user [`USER`] and of its group.
#[derive(Clone, Copy, Debug)]
struct Owner {
    user: u32,
    group: u32,
}

#[cfg(unix)]
impl Owner {
    /// It, if this process runs as root.
    fn other() -> anyhow::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;

        // The owner of its own files in `/proc` is the user that a process runs as.
        if !std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let owner = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(USER)).then_some(())?;
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some(Self { user, group })
        });
        let owner = owner.with_context(|| {
            format!("PostgreSQL does not run as root, and there is no user {USER} to run it as")
        })?;
        Ok(Some(owner))
    }

    fn take(self, folder: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(folder, Some(self.user), Some(self.group))
    }

    fn run(self, command: &mut Command) {
        use std::os::unix::process::CommandExt as _;

        command.uid(self.user).gid(self.group);
    }
}

#[cfg(not(unix))]
impl Owner {
    fn other() -> anyhow::Result<Option<Self>> {
        Ok(None)
    }

    fn take(self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }

    fn run(self, _: &mut Command) {}
}

/// The folder with the programs of the newest PostgreSQL on this machine.
fn programs() -> Option<PathBuf> {
    let of_debian = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    let of_debian = of_debian.flatten().flatten().map(|version| {
        let number = version.file_name().to_string_lossy().parse::<u32>();
        (number.unwrap_or(0), version.path().join("bin"))
    });
    let newest = of_debian.max().map(|(_, folder)| folder);
    let in_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default();
    newest.into_iter().chain(in_path).find(|folder| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|p| folder.join(p).is_file())
    })
}

/// Runs a command to its end; its output is told if it fails.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let last = said.trim().lines().last().unwrap_or_default();
        let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!(
            "{name} {} ended with {}: {last}",
            args.join(" "),
            output.status
        );
    }
    Ok(())
}
