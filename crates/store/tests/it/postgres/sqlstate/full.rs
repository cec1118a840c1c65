//! 53100: the disk of the server is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use mds_core::{Bar, ErrorKind};
use mds_store::{OpenOptions, Store};

use super::{error_is, kept};
use crate::postgres::cluster::{Cluster, is_root};
use crate::support::{all, bar, write, write_new};

/// A small disk, which is memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn mount(place: &Path) -> Option<Self> {
        std::fs::create_dir(place).unwrap();
        let is_mounted =
            is_root() && run(&["mount", "-t", "tmpfs", "-o", "size=16m", "none"], place);
        if !is_mounted {
            eprintln!("skipped: only root can mount a small disk");
            return None;
        }
        assert!(run(&["chown", "postgres"], place));
        Some(Self(place.to_owned()))
    }

    fn grow(&self) {
        assert!(run(&["mount", "-o", "remount,size=256m"], &self.0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(&["umount", "--lazy"], &self.0);
    }
}

fn run(command: &[&str], place: &Path) -> bool {
    let status = Command::new(command[0])
        .args(&command[1..])
        .arg(place)
        .status();
    status.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_full_53100() {
    let Some(cluster) = Cluster::start(&[]) else {
        return;
    };
    let Some(disk) = SmallDisk::mount(&cluster.folder().join("small")) else {
        return;
    };
    let admin = cluster.shell("postgres").await;
    let place = disk.0.display();
    for sql in [
        &format!("CREATE TABLESPACE small LOCATION '{place}'"),
        "CREATE DATABASE small TABLESPACE small",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let store = Store::open(&cluster.url("small"), OpenOptions::default())
        .await
        .unwrap();
    let batch = |number: i64| -> Vec<Bar> {
        let rows = number * 5_000..(number + 1) * 5_000;
        rows.map(|minute| bar(minute, 1.0, 1)).collect()
    };
    let mut written = 0;
    let report = loop {
        let report = write(&store, batch(written)).await;
        if report.error.is_some() {
            break report;
        }
        written += 1;
    };
    let says = &["No space left on device", "free space on the server"];
    kept(&report, ErrorKind::Environment, "53100", says);
    // Few rows find room in what is there, until they do not either.
    let few = (1..).map(|round| (0..60).map(move |i| bar(-60 * round + i, 1.0, 1)).collect());
    let mut kept_rows = usize::try_from(written * 5_000).unwrap();
    for rows in few {
        let report = write::<Bar>(&store, rows).await;
        if let Some(error) = report.error {
            error_is(&error, ErrorKind::Environment, "53100", says);
            break;
        }
        kept_rows += 60;
    }
    // What is stored can still be read.
    assert_eq!(all::<Bar>(&store).await.len(), kept_rows);
    disk.grow();
    write_new(&store, batch(written)).await;
    assert_eq!(all::<Bar>(&store).await.len(), kept_rows + 5_000);
    store.close().await;
}
