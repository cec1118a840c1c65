//! Callers that go away in the middle of everything.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use mds_core::{Bar, Batch, Kind, Sink as _};
use mds_store::{IngestedFile, Query, Store};

use super::proxy::{Mode, Proxy};
use super::{GUARD, Server, bar, quick, seed};

/// Looks at a future a number of times, and then drops it: it ends at one of its awaits.
struct Aborted<F> {
    future: Pin<Box<F>>,
    looks: u32,
}

impl<F: Future> Future for Aborted<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.looks == 0 {
            return Poll::Ready(None);
        }
        self.looks -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

fn rows(random: &mut fastrand::Rng) -> Vec<Bar> {
    let revision = random.i64(1..10);
    let first = random.u64(0..5_000);
    let count = [1, 10, 100, 1_000][random.usize(..4)];
    (first..first + count).map(|n| bar(n, revision)).collect()
}

/// One operation of any kind.
async fn operation(store: Store, mut random: fastrand::Rng) {
    let query = Query {
        symbols: vec!["S3".into()],
        ..Query::default()
    };
    match random.u8(..10) {
        0..4 => {
            let rows = rows(&mut random);
            drop(store.sink::<Bar>().write(Batch::from(rows)).await);
        }
        4 => drop(store.query::<Bar>(Query::default()).collect().await),
        5 => {
            // Reads a part, and keeps it for a while.
            let mut chunks = store.query::<Bar>(Query::default());
            drop(chunks.next().await);
            tokio::time::sleep(Duration::from_millis(random.u64(..20))).await;
        }
        6 => drop(store.delete::<Bar>(query).await),
        7 => drop(store.check().await),
        8 => drop(tokio::join!(store.stats(), store.count::<Bar>(query))),
        _ => {
            let file = IngestedFile {
                kind: Kind::Bars,
                content_hash: [random.u8(..); 32],
                keys: [0; 32],
                reading: [random.u8(..2); 32],
                path: None,
                modified: 1,
                now: 2,
                max_rows: 3,
            };
            drop(store.file_revision(&file).await);
        }
    }
}

/// Waits until no session of the database is in the middle of anything.
async fn sessions_rest(server: &Server) {
    let sql = "SELECT count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid() \
         AND backend_type = 'client backend'";
    let rest = async {
        loop {
            let busy: i64 = server.admin.query_one(sql, &[]).await.unwrap().get(0);
            if busy == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(GUARD, rest).await.is_err() {
        let sql = "SELECT state, query FROM pg_stat_activity WHERE datname = current_database()";
        let left = server.admin.query(sql, &[]).await.unwrap();
        panic!("sessions are left at work: {left:?}");
    }
}

/// Goes on until so many were given up half-way.
async fn abort_operations(slow: bool, wanted: u64) {
    let Some(server) = Server::find().await else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(seed());
    let proxy = Proxy::start(server.address).await;
    if slow {
        proxy.set(Mode::Slow(400_000));
    }
    let url = server.url(proxy.address, "");
    let store = Store::open(&url, quick()).await.unwrap();
    let mut tasks = Vec::new();
    let (mut aborted, mut number) = (0, 0);
    while aborted < wanted {
        let future = operation(store.clone(), random.fork());
        let task = if random.bool() {
            let looks = random.u32(..8);
            let future = Box::pin(future);
            tokio::spawn(async move { Aborted { future, looks }.await.is_none() })
        } else {
            let task = tokio::spawn(async move {
                pin!(future).await;
                false
            });
            tokio::time::sleep(Duration::from_micros(random.u64(..5_000))).await;
            task.abort();
            task
        };
        tasks.push(task);
        number += 1;
        if number % 16 == 0 {
            for task in tasks.drain(..) {
                let ended = tokio::time::timeout(GUARD, task).await.expect("it hangs");
                aborted += u64::from(ended.unwrap_or_else(|ended| ended.is_cancelled()));
            }
        }
    }
    sessions_rest(&server).await;

    // And everything is as if nothing had been.
    proxy.set(Mode::Pass);
    let query = Query {
        vendor: Some("after".into()),
        ..Query::default()
    };
    for number in 0..1_000 {
        let row = Bar {
            vendor: "after".into(),
            ..bar(number, 1)
        };
        let report = store.sink::<Bar>().write(Batch::from(vec![row])).await;
        assert!(report.error.is_none(), "{:?}", report.error);
    }
    let read = store.query::<Bar>(query).collect().await.unwrap();
    assert_eq!(read.len(), 1_000);
    store.close().await;
    let (rows, keys) = server.rows_and_keys().await;
    assert_eq!(rows, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_operations_that_are_given_up_leave_no_session_in_a_transaction() {
    abort_operations(false, 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_do_those_that_are_given_up_on_a_slow_line() {
    abort_operations(true, 200).await;
}
