//! Processes that are killed while they write, and processes that write at the same time.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use mds_core::{Bar, RowOutcome};
use mds_store::{OpenOptions, Store, StoreUrl};

use crate::support::{Place, all, bar, seed, write};

const PATH: &str = "MDS_TEST_CHILD_STORE";
const FIRST: &str = "MDS_TEST_CHILD_FIRST";
const ROWS: i64 = 50;

/// Not a test by itself: the process that is killed. It prints the number of each batch after the
/// store acknowledged it.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(PATH) else {
        return;
    };
    let first: i64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let url = StoreUrl::Sqlite(path.into());
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    for batch in first..first + 10_000 {
        let rows = (batch * ROWS..(batch + 1) * ROWS)
            .map(|i| bar(i, 1.0, i + 1))
            .collect();
        let report = write::<Bar>(&store, rows).await;
        assert!(report.error.is_none(), "{:?}", report.error);
        println!("\nacknowledged {batch}");
    }
}

fn start(place: &Place, first: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(PATH, &place.path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads the acknowledgements up to `wanted` of them.
fn acknowledged(child: &mut Child, wanted: usize) -> Vec<i64> {
    let output = BufReader::new(child.stdout.take().unwrap());
    output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
        .take(wanted)
        .collect()
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let mut random = fastrand::Rng::with_seed(seed());
    let place = Place::new();
    let mut first = 0;
    for _ in 0..8 {
        let mut child = start(&place, first);
        let batches = acknowledged(&mut child, random.usize(1..40));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = *batches.last().expect("the child wrote something");
        let store = place.open().await;
        let rows = all::<Bar>(&store).await;
        let expected = usize::try_from((last + 1) * ROWS).unwrap();
        assert!(rows.len() >= expected, "{} of {expected} rows", rows.len());
        // What was not acknowledged is there whole or not at all.
        assert_eq!(rows.len() % usize::try_from(ROWS).unwrap(), 0);
        let last_revision = store.last_revision().await.unwrap();
        assert_eq!(last_revision, i64::try_from(rows.len()).unwrap());
        store.close().await;
        first = last_revision / ROWS;
    }
}

#[tokio::test]
async fn two_processes_write_into_one_store() {
    let place = Place::new();
    let mut children = [start(&place, 0), start(&place, 1_000_000)];
    let counts: Vec<_> = children
        .iter_mut()
        .map(|child| acknowledged(child, 20).len())
        .collect();
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(counts, [20, 20]);
    let store = place.open().await;
    assert!(all::<Bar>(&store).await.len() >= 40 * 50);
    // And both gave the one series one number.
    let series = store.stats().await.unwrap().kinds[0].series;
    assert_eq!(series, 1);
    let report = write(&store, vec![bar(0, 1.0, 1)]).await;
    assert_eq!(report.outcomes, [RowOutcome::Same]);
}
