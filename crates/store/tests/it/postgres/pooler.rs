//! `PgBouncer` between a store and its server: each transaction may get another session.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mds_core::{Bar, ErrorKind, RowOutcome, TenantId};
use mds_store::{OpenOptions, Query, Store, StoreUrl};

use super::cluster::{Cluster, Stop, as_server, free_port};
use crate::support::{all, bar, write, write_new};

/// A pooler in transaction mode, before a server.
pub(crate) struct Pooler {
    child: Child,
    port: u16,
}

impl Pooler {
    /// Starts one that uses at most `sessions` of the server; `None` where there is none here.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) fn start(cluster: &Cluster, sessions: u32) -> Option<Self> {
        let places = [
            "/usr/sbin/pgbouncer",
            "/usr/bin/pgbouncer",
            "/usr/local/bin/pgbouncer",
        ];
        let Some(program) = places.iter().find(|path| Path::new(path).exists()) else {
            eprintln!("skipped: pgbouncer is not on this machine");
            return None;
        };
        let port = free_port();
        let folder = cluster.folder().display();
        let mut settings = String::from("[databases]\n");
        _ = writeln!(settings, "* = host={folder} port={}", cluster.port);
        _ = writeln!(
            settings,
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}"
        );
        _ = writeln!(
            settings,
            "auth_type = trust\nauth_file = {folder}/users.txt\nunix_socket_dir =\nlogfile = {folder}/pooler.log"
        );
        _ = writeln!(settings, "pool_mode = transaction\nserver_reset_query =");
        _ = writeln!(
            settings,
            "default_pool_size = {sessions}\nserver_login_retry = 1\nadmin_users = postgres"
        );
        let users = "\"postgres\" \"\"\n\"writer\" \"\"\n";
        fs::write(cluster.folder().join("users.txt"), users).unwrap();
        let file = cluster.folder().join("pooler.ini");
        fs::write(&file, settings).unwrap();
        let mut child = as_server(Path::new(program))
            .arg(&file)
            .current_dir(cluster.folder())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = loop {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break Self { child, port };
            }
            assert!(child.try_wait().unwrap().is_none(), "pgbouncer ended");
        };
        Some(pooler)
    }

    pub(crate) fn url(&self, who: &str, database: &str) -> StoreUrl {
        format!("postgres://{who}@127.0.0.1:{}/{database}", self.port)
            .parse()
            .unwrap()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // `runuser` hands the signal on.
        let pid = self.child.id().to_string();
        drop(Command::new("kill").arg(pid).status());
        drop(self.child.wait());
    }
}

async fn open(url: &StoreUrl) -> Store {
    Store::open(url, OpenOptions::default()).await.unwrap()
}

fn rows(first: i64, count: i64, revision: i64) -> Vec<Bar> {
    (first..first + count)
        .map(|minute| bar(minute, 1.0, revision))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_writing_and_reading_goes_through_a_pooler() {
    let Some(cluster) = Cluster::start(&[]) else {
        return;
    };
    let Some(pooler) = Pooler::start(&cluster, 2) else {
        return;
    };
    let store = open(&pooler.url("postgres", "postgres")).await;
    let admin = cluster.shell("postgres").await;
    admin
        .batch_execute("ALTER TABLE bars ADD CONSTRAINT no_13 CHECK (close_price <> 13)")
        .await
        .unwrap();
    // More callers than sessions, each with all ways: copied, the same again, replaced, merged,
    // with a row that is refused.
    let tasks = (0..6).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let first = caller * 10_000;
            write_new(&store, rows(first, 500, 1)).await;
            let report = write(&store, rows(first, 500, 1)).await;
            assert_eq!(report.outcomes, vec![RowOutcome::Same; 500]);
            write_new(&store, rows(first, 700, 2)).await;
            write_new(&store, rows(first, 10, 3)).await;
            let mut bad = rows(first + 1_000, 300, 1);
            bad[150].close_price = Some(13.0);
            let report = write(&store, bad).await;
            assert!(report.error.is_none(), "{:?}", report.error);
            let is_refused = |o: &&RowOutcome| matches!(o, RowOutcome::Rejected { .. });
            assert_eq!(report.outcomes.iter().filter(is_refused).count(), 1);
            store.check().await.unwrap();
            let few = Query {
                limit: Some(2_500),
                ..Query::default()
            };
            store.query::<Bar>(few).collect().await.unwrap();
            store.latest(Query::default()).await.unwrap();
            store.stats().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(all::<Bar>(&store).await.len(), 6 * 999);
    assert_eq!(store.delete::<Bar>(Query::default()).await.unwrap(), 5_994);
    // Another process, which names its statements as the first did.
    let other = open(&pooler.url("postgres", "postgres")).await;
    write_new(&other, rows(0, 500, 1)).await;
    write_new(&store, rows(1_000, 500, 1)).await;
    // Nothing of ours stays in the sessions that others get.
    for _ in 0..10 {
        let shell = super::connect(&pooler.url("postgres", "postgres").to_string()).await;
        for setting in [
            "statement_timeout",
            "lock_timeout",
            "enable_seqscan",
            "synchronous_commit",
        ] {
            let row = &shell
                .simple_query(&format!("SHOW {setting}"))
                .await
                .unwrap()[1];
            let tokio_postgres::SimpleQueryMessage::Row(row) = row else {
                panic!("{row:?}");
            };
            let usual = ["0", "0", "on", "on"];
            assert!(
                usual.contains(&row.get(0).unwrap()),
                "{setting}: {:?}",
                row.get(0)
            );
        }
        let left = "SELECT count(*) FROM pg_prepared_statements";
        let row = &shell.simple_query(left).await.unwrap()[1];
        let tokio_postgres::SimpleQueryMessage::Row(row) = row else {
            panic!("{row:?}");
        };
        assert_eq!(row.get(0), Some("0"));
    }
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    let idle: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(idle, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_stay_apart_behind_a_pooler() {
    let Some(cluster) = Cluster::start(&[]) else {
        return;
    };
    // One session for all of them.
    let Some(pooler) = Pooler::start(&cluster, 1) else {
        return;
    };
    let owner = open(&cluster.url("postgres")).await;
    let admin = cluster.shell("postgres").await;
    admin
        .batch_execute(
            "CREATE ROLE writer LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN \
             SCHEMA public TO writer",
        )
        .await
        .unwrap();
    let url = pooler.url("writer", "postgres");
    let (a, b) = (TenantId::from_u128(10), TenantId::from_u128(11));
    let mut tasks = Vec::new();
    for tenant_id in [a, b, a, b] {
        let store = open(&url).await;
        tasks.push(tokio::spawn(async move {
            for revision in 1..20 {
                let of = |row: Bar| Bar { tenant_id, ..row };
                let rows = rows(0, 150, revision).into_iter().map(of).collect();
                let report = write(&store, rows).await;
                assert!(report.error.is_none(), "{:?}", report.error);
                let query = Query {
                    tenant: Some(tenant_id),
                    ..Query::default()
                };
                let seen = store.query::<Bar>(query).collect().await.unwrap();
                assert!(seen.iter().all(|row| row.tenant_id == tenant_id));
                assert_eq!(seen.len(), 150);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(all::<Bar>(&owner).await.len(), 300);
    // Whoever gets the session next speaks for nobody.
    let shell = super::connect(&url.to_string()).await;
    let told = shell
        .simple_query("SELECT count(*) FROM bars")
        .await
        .unwrap();
    let tokio_postgres::SimpleQueryMessage::Row(row) = &told[1] else {
        panic!("{told:?}");
    };
    assert_eq!(row.get(0), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_while_the_server_behind_the_pooler_is_gone() {
    let Some(mut cluster) = Cluster::start(&[]) else {
        return;
    };
    let Some(pooler) = Pooler::start(&cluster, 2) else {
        return;
    };
    // The pooler keeps whoever asks waiting: it is our own clock that ends it.
    let impatient = OpenOptions {
        statement_timeout: Duration::from_secs(1),
        ..OpenOptions::default()
    };
    let url = pooler.url("postgres", "postgres");
    let store = Store::open(&url, impatient).await.unwrap();
    write_new(&store, rows(0, 100, 1)).await;
    cluster.stop(Stop::Immediate);
    for _ in 0..3 {
        let report = write(&store, rows(100, 100, 1)).await;
        let error = report.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    }
    cluster.run();
    loop {
        let report = write(&store, rows(100, 100, 1)).await;
        let Some(error) = report.error else { break };
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    }
    assert_eq!(all::<Bar>(&store).await, rows(0, 200, 1));
    // An option of the session is one that a pooler does not take.
    let url = format!(
        "{}?options=-c%20work_mem%3D8MB",
        pooler.url("postgres", "postgres")
    );
    let error = Store::open(&url.parse().unwrap(), OpenOptions::default())
        .await
        .unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        said.contains("unsupported startup parameter: options"),
        "{said}"
    );
}
