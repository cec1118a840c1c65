//! Classes 28, 3D, 3F, 42, XX001: a person is needed; the rows wait, and the message says for what.

use mds_core::{Bar, ErrorKind};
use mds_store::{OpenOptions, Query, Store, StoreUrl};

use super::{error_is, kept};
use crate::postgres::cluster::Cluster;
use crate::postgres::{Database, Server};
use crate::support::{all, bar, write, write_new};

const FATAL: ErrorKind = ErrorKind::Fatal;

fn rows(count: i64) -> Vec<Bar> {
    (0..count).map(|minute| bar(minute, 1.0, 1)).collect()
}

/// What opening a store says, the causes behind each other.
async fn refusal(url: &StoreUrl, kind: ErrorKind, code: &str) -> String {
    let error = Store::open(url, OpenOptions::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Writes fail while `harm` is done, and go on after `mend`.
async fn until_mended(database: &Database, harm: &str, mend: &str, code: &str, says: &[&str]) {
    let store = database.open().await;
    database.run(harm).await;
    for count in [100, 3] {
        let report = write(&store, rows(count)).await;
        kept(&report, FATAL, code, says);
    }
    database.run(mend).await;
    write_new(&store, rows(100)).await;
    assert_eq!(all::<Bar>(&store).await, rows(100));
}

#[tokio::test]
async fn missing_table_42p01() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    until_mended(
        &database,
        "ALTER TABLE bars RENAME TO moved",
        "ALTER TABLE moved RENAME TO bars",
        "42P01",
        &[
            "relation \"bars\" does not exist",
            "as mds migrate makes them",
        ],
    )
    .await;
}

#[tokio::test]
async fn missing_column_42703() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    until_mended(
        &database,
        "ALTER TABLE bars RENAME volume TO traded",
        "ALTER TABLE bars RENAME traded TO volume",
        "42703",
        &["volume", "does not exist", "as mds migrate makes them"],
    )
    .await;
}

#[tokio::test]
async fn no_unique_key_to_merge_by_42p10() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let store = database.open().await;
    database
        .run("ALTER TABLE bars DROP CONSTRAINT bars_pkey")
        .await;
    for count in [3, 5] {
        let report = write(&store, rows(count)).await;
        let says = &[
            "no unique or exclusion constraint matching",
            "as mds migrate makes them",
        ];
        kept(&report, FATAL, "42P10", says);
    }
    database
        .run("ALTER TABLE bars ADD PRIMARY KEY (ts, tenant_id, vendor, symbol, timeframe)")
        .await;
    write_new(&store, rows(100)).await;
}

/// A role that may do what a writer must, and no more.
async fn writer(database: &Database) -> (String, StoreUrl) {
    drop(database.open().await);
    let role = format!("{}_writer", database.name);
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN BYPASSRLS; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await;
    let url = database.text.replace("postgres@", &format!("{role}@"));
    (role, url.parse().unwrap())
}

#[tokio::test]
async fn no_privilege_42501() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let (role, url) = writer(&database).await;
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    database
        .run(&format!("REVOKE INSERT ON bars FROM {role}"))
        .await;
    for count in [100, 3] {
        let report = write(&store, rows(count)).await;
        let says = &["permission denied for table bars", "GRANT"];
        kept(&report, FATAL, "42501", says);
    }
    database
        .run(&format!("GRANT INSERT ON bars TO {role}"))
        .await;
    write_new(&store, rows(100)).await;
    database
        .run(&format!("REVOKE SELECT ON bars FROM {role}"))
        .await;
    let error = store.count::<Bar>(Query::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (FATAL, "42501"), "{error}");
}

#[tokio::test]
async fn unknown_database_3d000() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let url = format!("{}_gone", database.text).parse().unwrap();
    let text = refusal(&url, FATAL, "3D000").await;
    assert!(text.contains(&format!(
        "database \"{}_gone\" does not exist",
        database.name
    )));
    assert!(text.contains("createdb"), "{text}");
    // One that goes while the store is open.
    let store = database.open().await;
    let Database { name, shell, .. } = database;
    drop(shell);
    let other = server.make("").await;
    other
        .run(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .await;
    // The session that was open is ended as by an administrator.
    let report = loop {
        let report = write(&store, rows(3)).await;
        if report.error.as_ref().unwrap().kind() == FATAL {
            break report;
        }
    };
    kept(&report, FATAL, "3D000", &["does not exist", "createdb"]);
}

#[tokio::test]
async fn no_schema_to_put_tables_into_3f000() {
    let Some(server) = Server::find() else { return };
    let database = server.make("").await;
    let url = format!("{}?options=-c%20search_path%3Dnowhere", database.text);
    let text = refusal(&url.parse().unwrap(), FATAL, "3F000").await;
    assert!(text.contains("no schema has been selected"), "{text}");
    assert!(text.contains("search_path"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_28p01_and_nobody_of_that_name_28000() {
    let Some(cluster) = Cluster::start(&[]) else {
        return;
    };
    let shell = cluster.shell("postgres").await;
    shell
        .batch_execute("CREATE ROLE me LOGIN SUPERUSER PASSWORD 'right'")
        .await
        .unwrap();
    cluster.admit(&[
        "local all postgres trust",
        "host all me 127.0.0.1/32 scram-sha-256",
    ]);
    cluster.reload();
    let url = |who: &str| cluster.url_with(&format!("{who}@127.0.0.1"), "postgres");
    // A reload takes effect a moment after the program that asks for it has ended.
    while Store::open(&url("me:wrong"), OpenOptions::default())
        .await
        .is_ok()
    {}
    let text = refusal(&url("me:wrong"), FATAL, "28P01").await;
    assert!(text.contains("password authentication failed for user \"me\""));
    assert!(text.contains("PGPASSWORD"), "{text}");
    assert!(!text.contains("wrong"), "{text}");
    let text = refusal(&url("me"), FATAL, "AUTHENTICATION").await;
    assert!(text.contains("password missing"), "{text}");
    assert!(text.contains("PGPASSWORD"), "{text}");
    let text = refusal(&url("you"), FATAL, "28000").await;
    assert!(text.contains("no pg_hba.conf entry for host"), "{text}");
    // The password is changed while the store is open: what is connected goes on.
    let store = Store::open(&url("me:right"), OpenOptions::default())
        .await
        .unwrap();
    write_new(&store, rows(3)).await;
    shell
        .batch_execute(
            "ALTER ROLE me PASSWORD 'other'; SELECT pg_terminate_backend(pid, 10000) \
             FROM pg_stat_activity WHERE usename = 'me'",
        )
        .await
        .unwrap();
    let report = loop {
        let report = write(&store, rows(3)).await;
        if report.error.as_ref().is_some_and(|e| e.kind() == FATAL) {
            break report;
        }
    };
    kept(&report, FATAL, "28P01", &["password authentication failed"]);
    shell
        .batch_execute("ALTER ROLE me PASSWORD 'right'")
        .await
        .unwrap();
    store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_xx001() {
    let Some(mut cluster) = Cluster::start(&[]) else {
        return;
    };
    let url = cluster.url("postgres");
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    write_new(&store, rows(1_000)).await;
    let shell = cluster.shell("postgres").await;
    let sql = "SELECT pg_relation_filepath('bars_pkey')";
    let file: String = shell.query_one(sql, &[]).await.unwrap().get(0);
    store.close().await;
    drop(shell);
    cluster.stop(super::super::cluster::Stop::Fast);
    let path = cluster.folder().join("data").join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8_192..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    cluster.run();
    let url = cluster.url("postgres");
    let store = Store::open(&url, OpenOptions::default()).await.unwrap();
    let newer: Vec<_> = (0..3).map(|minute| bar(minute, 2.0, 2)).collect();
    let report = write(&store, newer).await;
    let error = report.error.unwrap();
    assert!(["XX001", "XX002"].contains(&error.code()), "{error}");
    error_is(&error, FATAL, error.code(), &["backup"]);
}
