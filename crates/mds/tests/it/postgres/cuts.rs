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
        assert_eq!(lost + committed, 2 * CUTS);
        assert_eq!((stats.written, stats.superseded), (2 * rows, 0));
        assert_eq!(letters, 0);
        assert_eq!(server.rows_and_keys().await, (rows, rows));
        let newest = "SELECT count(*) FROM bars WHERE revision = 2";
        let newest: i64 = server.admin.query_one(newest, &[]).await.unwrap().get(0);
        assert_eq!(newest, i64::try_from(rows).unwrap());
    }
}
