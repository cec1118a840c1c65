//! The server crashes between two transactions of one batch, while a pooler keeps the store
//! connected: what was not on disk is gone, and its transaction numbers are given to others.

use mds_core::{Bar, ErrorKind, RowOutcome, WriteReport};
use mds_store::{OpenOptions, Store};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::cluster::{Cluster, signal};
use super::connect;
use super::pooler::Pooler;
use crate::support::{all, bar, write, write_new};

/// Nothing but the writer of the log puts anything on disk by itself.
const QUIET: [&str; 3] = [
    "autovacuum = off",
    "bgwriter_lru_maxpages = 0",
    "checkpoint_timeout = 1h",
];

/// Where a row was written, and by whom.
type Place = (String, String);

/// A server behind a pooler, and a batch that is there.
struct Scene {
    cluster: Cluster,
    pooler: Pooler,
    store: Store,
    admin: Client,
    log_writer: i32,
}

impl Scene {
    /// `None` where a program is missing. From here on only what waits for the disk is on it.
    async fn set(first: &[Bar]) -> Option<Self> {
        let cluster = Cluster::start(&QUIET)?;
        let pooler = Pooler::start(&cluster, 1)?;
        let url = pooler.url("postgres", "postgres");
        let store = Store::open(&url, OpenOptions::default()).await.unwrap();
        write_new(&store, first.to_vec()).await;
        // A replay, so that the next batch is compared.
        let again = write(&store, first.to_vec()).await;
        assert_eq!(again.outcomes, vec![RowOutcome::Same; first.len()]);
        let admin = cluster.shell("postgres").await;
        // What the replay has left behind is on disk as well.
        let flushed = "SELECT pg_logical_emit_message(true, '', '')";
        admin.batch_execute(flushed).await.unwrap();
        let unsynced = "SET synchronous_commit = off";
        admin.batch_execute(unsynced).await.unwrap();
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        let log_writer = admin.query_one(sql, &[]).await.unwrap().get(0);
        signal(log_writer, "STOP");
        Some(Self {
            cluster,
            pooler,
            store,
            admin,
            log_writer,
        })
    }

    /// Writes `rows`; the server crashes when the transaction that `lock` held up has committed,
    /// and before the next one. `taken` runs before that; answers where the newest row is then.
    async fn write_across_a_crash(
        &self,
        rows: Vec<Bar>,
        lock: &str,
        taken: &str,
    ) -> (WriteReport, Place) {
        let locker = self.cluster.shell("postgres").await;
        let lock = format!("SET synchronous_commit = off; BEGIN; {lock}");
        locker.batch_execute(&lock).await.unwrap();
        let store = self.store.clone();
        let written = tokio::spawn(async move { write(&store, rows).await });
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while self.number(waiting).await == 0 {}
        let url = self.pooler.url("postgres", "pgbouncer").to_string();
        let (console, other) = (connect(&url).await, connect(&url).await);
        let pause = tokio::spawn(async move {
            console.batch_execute("PAUSE postgres").await.unwrap();
            console
        });
        while !is_paused(&other).await {}
        locker.batch_execute("ROLLBACK").await.unwrap();
        let console = pause.await.unwrap();
        signal(self.log_writer, "KILL");
        while self.admin.query_one("SELECT 1", &[]).await.is_ok() {}
        let shell = self.shell_again().await;
        shell.batch_execute(taken).await.unwrap();
        let newest = place_of_newest(&shell).await;
        console.batch_execute("RESUME postgres").await.unwrap();
        (written.await.unwrap(), newest)
    }

    async fn number(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// A session as soon as the server has recovered.
    async fn shell_again(&self) -> Client {
        let url = self.cluster.url("postgres").to_string();
        loop {
            if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                drop(tokio::spawn(connection));
                return client;
            }
        }
    }
}

/// Whether the pooler lets no new transaction begin.
async fn is_paused(console: &Client) -> bool {
    let answer = console.simple_query("SHOW DATABASES").await.unwrap();
    let is = |message: &SimpleQueryMessage| {
        matches!(message, SimpleQueryMessage::Row(row)
            if row.get("name") == Some("postgres") && row.get("paused") == Some("1"))
    };
    answer.iter().any(is)
}

fn rows(count: i64, revision: i64) -> Vec<Bar> {
    (0..count)
        .map(|minute| bar(minute, 1.0, revision))
        .collect()
}

/// A row of another program at `minute`, like the first one.
fn insert(minute: i64, close: f64) -> String {
    format!(
        "INSERT INTO bars (tenant_id, vendor, symbol, timeframe, ts, close_price, provisional, \
         revision) SELECT tenant_id, vendor, symbol, timeframe, ts + {minute} * interval '1 minute', \
         {close}, provisional, 1 FROM bars ORDER BY ts LIMIT 1"
    )
}

async fn place_of_newest(client: &Client) -> Place {
    let sql = "SELECT ctid::text, xmin::text FROM bars ORDER BY ts DESC LIMIT 1";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_lands_on_no_other_key_where_a_crash_gave_its_place_away() {
    let Some(scene) = Scene::set(&rows(100, 1)).await else {
        return;
    };
    // Seen by the look, and lost; what comes to lie there instead has another key.
    scene.admin.batch_execute(&insert(100, 1.0)).await.unwrap();
    let seen = place_of_newest(&scene.admin).await;
    let (report, newest) = scene
        .write_across_a_crash(rows(101, 2), "LOCK TABLE bars", &insert(500, 7.0))
        .await;
    assert_eq!(newest, seen, "the place is given to another key");
    let kept = all::<Bar>(&scene.store).await;
    let mut wanted = rows(101, 2);
    wanted.push(bar(500, 7.0, 1));
    assert_eq!(kept, wanted);
    assert!(report.error.is_none(), "{:?}", report.error);
    assert_eq!(report.outcomes, vec![RowOutcome::Written; 101]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_a_crash_took_back_do_not_count_as_written() {
    let Some(scene) = Scene::set(&rows(1_000, 1)).await else {
        return;
    };
    // The first part of two waits for the first row, and does not wait for the disk.
    let lock = "SELECT FROM bars ORDER BY ts LIMIT 1 FOR UPDATE";
    let (report, _) = scene
        .write_across_a_crash(rows(1_000, 2), lock, "SELECT")
        .await;
    let error = report.error.expect("half of the rows are not there");
    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(report.outcomes, vec![RowOutcome::NotTried; 1_000]);
    write_new(&scene.store, rows(1_000, 2)).await;
    assert_eq!(all::<Bar>(&scene.store).await, rows(1_000, 2));
}
