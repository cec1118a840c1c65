//! Connections cut around a COMMIT.

use std::sync::Arc;
use std::sync::Mutex;

use super::proxy::{AtCommit, Proxy};
use super::{Server, Writing, bar, quick, seed};

const ROWS: u64 = 60_000;
const CUTS: u64 = 200;

/// Decides by chance; at most so many cuts.
fn by_chance(random: Arc<Mutex<fastrand::Rng>>, cuts: u64) -> impl FnMut() -> AtCommit + Send {
    let mut left = cuts;
    move || {
        let mut random = random.lock().unwrap();
        let verdict = match random.u8(..3) {
            0 if left > 0 && random.bool() => AtCommit::CutBefore,
            0 if left > 0 => AtCommit::CutAfter,
            _ => AtCommit::Pass,
        };
        left -= u64::from(verdict != AtCommit::Pass);
        verdict
    }
}

/// Each row comes twice, one right after the other, so that both are in one batch: however often its
/// COMMIT loses its answer, one of them was written and the other one was not.
#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_of_a_batch_whose_answer_was_lost_are_counted_as_one_written() {
    let Some(server) = Server::find().await else {
        return;
    };
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed())));
    let proxy = Proxy::start(server.address).await;
    let url = server.url(proxy.address, "");
    server.admin.batch_execute("TRUNCATE bars").await.unwrap();
    let writing = Writing::start(&url, quick(), |c| c.batch_size(100)).await;
    let rows = ROWS / 4;
    for revision in 1..=2 {
        proxy.at_commit(by_chance(Arc::clone(&random), CUTS));
        let twice = (0..rows).flat_map(|n| [bar(n, revision), bar(n, revision)]);
        writing.submit(twice).await;
        writing.flush().await;
    }
    let (stats, letters) = writing.stop().await;
    assert!(proxy.cuts().1 >= 50, "{:?}", proxy.cuts());
    assert_eq!((stats.written, stats.superseded), (2 * rows, 2 * rows));
    assert_eq!(letters, 0);
    assert_eq!(server.rows_and_keys().await, (rows, rows));
}

/// New rows, then newer revisions of them, in large batches and in small ones: every way of
/// writing has its connections cut around COMMIT.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_commit_loses_nothing_and_counts_once() {
    let Some(server) = Server::find().await else {
        return;
    };
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed())));
    let proxy = Proxy::start(server.address).await;
    let url = server.url(proxy.address, "");
    for (batch, rows) in [(100, ROWS), (20, ROWS / 5)] {
        server.admin.batch_execute("TRUNCATE bars").await.unwrap();
        let writing = Writing::start(&url, quick(), |c| c.batch_size(batch)).await;
        let before = proxy.cuts();
        for revision in 1..=2 {
            proxy.at_commit(by_chance(Arc::clone(&random), CUTS));
            writing.submit((0..rows).map(|n| bar(n, revision))).await;
            writing.flush().await;
        }
        let (stats, letters) = writing.stop().await;
        let after = proxy.cuts();
        let (lost, committed) = (after.0 - before.0, after.1 - before.1);
        println!("batches of {batch}: {lost} cut before COMMIT, {committed} after it");
        assert!(lost >= 50 && committed >= 50, "{lost} {committed}");
        // A COMMIT that was to be let through alone may have been one of what had failed.
        assert!(lost + committed <= 2 * CUTS);
        assert_eq!((stats.written, stats.superseded), (2 * rows, 0));
        assert_eq!(letters, 0);
        assert_eq!(server.rows_and_keys().await, (rows, rows));
        let newest = "SELECT count(*) FROM bars WHERE revision = 2";
        let newest: i64 = server.admin.query_one(newest, &[]).await.unwrap().get(0);
        assert_eq!(newest, i64::try_from(rows).unwrap());
    }
}

/// Of 6,000 rows 60 are refused: each makes one letter, however often the answer was lost.
#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_make_one_letter_each_whatever_is_lost() {
    let Some(server) = Server::find().await else {
        return;
    };
    server
        .does("ALTER TABLE bars ADD CONSTRAINT no_thirteen CHECK (close_price::int8 % 100 <> 13)")
        .await;
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed())));
    let proxy = Proxy::start(server.address).await;
    let url = server.url(proxy.address, "");
    for batch in [100, 20] {
        server.does("TRUNCATE bars").await;
        let before = proxy.cuts();
        proxy.at_commit(by_chance(Arc::clone(&random), 40));
        let writing = Writing::start(&url, quick(), |c| c.batch_size(batch)).await;
        writing.submit((0..6_000).map(|n| bar(n, 1))).await;
        let (stats, letters) = writing.stop().await;
        let after = proxy.cuts();
        assert!(after.0 > before.0 && after.1 > before.1);
        assert_eq!((stats.written, stats.superseded), (5_940, 0));
        assert_eq!((letters, stats.dead_lettered.total()), (60, 60));
        assert_eq!(server.rows_and_keys().await, (5_940, 5_940));
    }
}
