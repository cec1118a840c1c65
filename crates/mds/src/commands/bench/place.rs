//! Where PostgreSQL is measured: a database of the benchmark's own, on the server that `--store`
//! names or on a private one, and the processor time of that server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use mds_core::settings::SettingOrigin;
use mds_store::bench::{Scratch, ServerFacts};
use mds_store::{OpenOptions, Store, StoreUrl};

use super::Bench;
use super::measure::{ServerClock, Took};
use super::private::PrivateServer;
use super::report::Report;
use crate::context::with_passwords;
use crate::exit::Exit;
use crate::runtime::stop_requested;

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Switch {
    // Plain comments: documentation would make the help three lines long.
    // What is committed is on the disk.
    On,
    // The operating system writes it when it likes.
    Off,
}

/// Which server.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Server {
    /// Start a private server with fsync on (its default) or off
    #[arg(long, value_name = "on|off")]
    fsync: Option<Switch>,
    /// Where the files of this benchmark are made, those of a private server among them
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Server {
    /// The folder for files.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }
}

/// A database to measure in.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) scratch: Scratch,
    facts: ServerFacts,
    clock: Option<ServerClock>,
}

/// What an arm took of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    wal_bytes: u64,
    cpu_seconds: Option<f64>,
}

impl Place {
    /// Does `work` in a database of its own, and removes that whatever becomes of it; a signal ends
    /// the work.
    pub(super) async fn with(
        server: &Server,
        bench: Bench<'_>,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Exit> {
        // Stopped when it goes out of scope, after the database is dropped.
        let private = private(server, bench)?;
        let url = match &private {
            Some(private) => private.url(),
            None => bench.context.settings.store().expose().to_owned(),
        };
        let place = Self::open(&url).await?;
        bench.note(format_args!(
            "PostgreSQL {} with fsync {}, in a database of its own, {}, which is dropped at the end",
            place.facts.version,
            place.facts.fsync,
            place.scratch.name()
        ));
        let done = tokio::select! {
            done = work(&place) => done.map(|()| Exit::Success),
            signal = stop_requested() => signal.context("cannot listen to signals"),
        };
        let removed = place.scratch.remove().await;
        let exit = done?;
        removed.context("cannot drop the database of this benchmark")?;
        Ok(exit)
    }

    async fn open(url: &str) -> anyhow::Result<Self> {
        let options = with_passwords(OpenOptions::default());
        let scratch = Scratch::create(url, options)
            .await
            .context("cannot make a database for this benchmark")?;
        let facts = scratch.facts().await?;
        let clock = facts
            .is_local
            .then(|| ServerClock::of_backend(facts.backend, scratch.name()))
            .flatten();
        Ok(Self {
            scratch,
            facts,
            clock,
        })
    }

    /// Opens the store in the database.
    pub(super) async fn store(&self) -> anyhow::Result<Store> {
        let url: StoreUrl = self.scratch.url().parse()?;
        Ok(Store::open(&url, with_passwords(OpenOptions::default())).await?)
    }

    /// Notes what the figures depend on.
    pub(super) fn describe(&self, report: &mut Report) {
        report.setting("server", format!("PostgreSQL {}", self.facts.version));
        report.setting("fsync", self.facts.fsync.as_str());
        report.setting("synchronous_commit", self.facts.synchronous_commit.as_str());
        if self.clock.is_none() {
            report.setting("server_cpu", "unknown: not a server on this machine");
        }
    }

    /// What the server has logged and computed so far.
    pub(super) async fn load(&self) -> anyhow::Result<Load> {
        Ok(Load {
            wal_bytes: self.scratch.wal_bytes().await?,
            cpu_seconds: self.clock.and_then(ServerClock::cpu_seconds),
        })
    }

    /// Adds what a run over `rows` rows took, of this program and, since `before`, of the server.
    pub(super) async fn add_run(
        &self,
        report: &mut Report,
        name: &str,
        rows: u64,
        took: Took,
        before: Load,
    ) -> anyhow::Result<()> {
        report.add_run(name, rows, took);
        self.add_load(report, name, rows, before).await
    }

    /// Adds what `rows` rows took of the server since `before`.
    pub(super) async fn add_load(
        &self,
        report: &mut Report,
        name: &str,
        rows: u64,
        before: Load,
    ) -> anyhow::Result<()> {
        let after = self.load().await?;
        let rows = super::measure::float(rows);
        if let Some((then, now)) = before.cpu_seconds.zip(after.cpu_seconds) {
            report.add(name, "server CPU s/M rows", (now - then) * 1e6 / rows);
        }
        let wal = after.wal_bytes.saturating_sub(before.wal_bytes);
        report.add(name, "WAL B/row", super::measure::float(wal) / rows);
        Ok(())
    }
}

/// Whether the command line names a PostgreSQL server.
pub(super) fn is_given(bench: Bench<'_>) -> bool {
    let settings = &bench.context.settings;
    let is_flag = settings
        .get("store")
        .is_some_and(|store| matches!(store.origin, SettingOrigin::Flag(_)));
    is_flag && matches!(bench.context.store_url(), Ok(StoreUrl::Postgres(_)))
}

/// A private server, if one was asked for or none was named.
fn private(server: &Server, bench: Bench<'_>) -> anyhow::Result<Option<PrivateServer>> {
    let is_named = matches!(bench.context.store_url()?, StoreUrl::Postgres(_));
    if is_named && server.fsync.is_none() {
        return Ok(None);
    }
    let within = server.dir.clone().unwrap_or_else(std::env::temp_dir);
    let fsync = server.fsync != Some(Switch::Off);
    let private = PrivateServer::start(&within, fsync)?.ok_or_else(|| {
        anyhow!(
            "this needs a PostgreSQL server: name one with --store \
             postgres://USER@HOST:PORT/DATABASE, whose role may make databases and checkpoint, or \
             install PostgreSQL (on Debian: apt-get install postgresql), and a private one is \
             started"
        )
    })?;
    bench.note(format_args!(
        "started a private PostgreSQL server in {}, with its default settings{}",
        within.display(),
        if fsync {
            ""
        } else {
            " but fsync and synchronous_commit off"
        },
    ));
    Ok(Some(private))
}
