//! Ways to a server: TLS, sockets, several hosts, passwords.

use std::error::Error as _;
use std::fmt::Write as _;
use std::path::Path;

use mds_core::{Bar, ErrorKind};
use mds_store::{OpenOptions, Store, StoreError, StoreUrl};
use tokio_postgres::Client;

use super::certificates::{self, Authority};
use super::cluster::{Cluster, Stop, free_port};
use crate::support::{all, bar, write, write_new};

async fn try_open(text: &str) -> Result<Store, StoreError> {
    let url: StoreUrl = text.parse().unwrap();
    Store::open(&url, OpenOptions::default()).await
}

/// What opening says, the causes behind each other.
async fn refusal(text: &str, kind: ErrorKind, code: &str) -> String {
    let error = try_open(text).await.unwrap_err();
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        _ = write!(said, ": {cause}");
        next = cause.source();
    }
    assert_eq!((error.kind(), error.code()), (kind, code), "{said}");
    said
}

/// Whether the store's session is encrypted.
async fn is_encrypted(admin: &Client) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'mds' ORDER BY backend_start DESC LIMIT 1";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

/// A server with a certificate for `localhost`, the authority that signed it, and another.
async fn secured(folder: &Path) -> Option<(Cluster, Authority, Authority)> {
    if !certificates::can_be_made() {
        return None;
    }
    let mut cluster = Cluster::prepare()?;
    let right = Authority::new(folder, "right");
    let wrong = Authority::new(folder, "wrong");
    cluster.secure(&right, "DNS:localhost", 2);
    cluster.run();
    let admin = cluster.shell("postgres").await;
    let role = "CREATE ROLE me LOGIN SUPERUSER PASSWORD 'p@ss/w:rd%'";
    admin.batch_execute(role).await.unwrap();
    Some((cluster, right, wrong))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sslmode_against_a_server_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let Some((cluster, right, wrong)) = secured(folder.path()).await else {
        return;
    };
    let admin = cluster.shell("postgres").await;
    let (right, wrong) = (right.cert.display(), wrong.cert.display());
    let url = |host: &str, parameters: &str| {
        format!(
            "postgres://postgres@{host}:{}/postgres?{parameters}",
            cluster.port
        )
    };
    for (host, parameters, encrypted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
        ("127.0.0.1", String::new(), true),
        ("127.0.0.1", "sslmode=allow".to_owned(), true),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        (
            "[::1]",
            format!("sslmode=require&sslrootcert={right}"),
            true,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={right}"),
            true,
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={right}"),
            true,
        ),
    ] {
        let store = try_open(&url(host, &parameters)).await.unwrap();
        assert_eq!(is_encrypted(&admin).await, encrypted, "{host} {parameters}");
        store.close().await;
    }
    for (host, parameters, says) in [
        (
            "localhost",
            format!("sslmode=require&sslrootcert={wrong}"),
            "name the file of the authority that signed the certificate with sslrootcert",
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={wrong}"),
            "name the file of the authority that signed the certificate with sslrootcert",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={wrong}"),
            "name the file of the authority that signed the certificate with sslrootcert",
        ),
        (
            "localhost",
            "sslrootcert=system".to_owned(),
            "name the file of the authority that signed the certificate with sslrootcert",
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={right}"),
            "name the host as its certificate does, or use sslmode=verify-ca",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={right}.gone"),
            "cannot read",
        ),
    ] {
        let text = refusal(&url(host, &parameters), ErrorKind::Fatal, "TLS").await;
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_no_longer_good() {
    if !certificates::can_be_made() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(mut cluster) = Cluster::prepare() else {
        return;
    };
    let authority = Authority::new(folder.path(), "right");
    cluster.secure(&authority, "DNS:localhost", -1);
    cluster.run();
    let url = format!(
        "postgres://postgres@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}",
        cluster.port,
        authority.cert.display()
    );
    let text = refusal(&url, ErrorKind::Fatal, "TLS").await;
    assert!(text.contains("invalid peer certificate: Expired"), "{text}");
    assert!(
        text.contains("the server needs another certificate"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shows_the_certificate_of_an_authority() {
    if !certificates::can_be_made() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(mut cluster) = Cluster::prepare() else {
        return;
    };
    let authority = Authority::new(folder.path(), "own");
    cluster.secure(&authority, "DNS:localhost", 1);
    for end in ["crt", "key"] {
        let own = folder.path().join(format!("own.{end}"));
        let servers = cluster.folder().join(format!("data/server.{end}"));
        std::fs::write(servers, std::fs::read(own).unwrap()).unwrap();
    }
    cluster.run();
    let url = |file: &str| {
        format!(
            "postgres://postgres@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}",
            cluster.port,
            folder.path().join(file).display()
        )
    };
    let text = refusal(&url("own.key"), ErrorKind::Fatal, "TLS").await;
    let file = folder.path().join("own.key");
    let told = format!(
        "there is no certificate in {}, which sslrootcert names",
        file.display()
    );
    assert!(text.ends_with(&told), "{text}");
    let text = refusal(&url("own.crt"), ErrorKind::Fatal, "TLS").await;
    assert!(
        text.ends_with(
            "; the server's certificate is that of an authority; sign one for the server with it, \
             or make it anew with basicConstraints=CA:FALSE"
        ),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_refuses_it_and_one_that_wants_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let Some(plain) = Cluster::start(&[]) else {
        return;
    };
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", plain.port);
    for mode in ["require", "verify-ca", "verify-full"] {
        let text = refusal(&format!("{url}?sslmode={mode}"), ErrorKind::Fatal, "TLS").await;
        assert!(text.contains("server does not support TLS"), "{text}");
        assert!(
            text.contains("switch TLS on at the server, or use sslmode=disable"),
            "{text}"
        );
    }
    try_open(&format!("{url}?sslmode=prefer")).await.unwrap();
    let Some((cluster, ..)) = secured(folder.path()).await else {
        return;
    };
    cluster.admit(&["local all all trust", "hostssl all all 127.0.0.1/32 trust"]);
    cluster.reload();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", cluster.port);
    let plain = format!("{url}?sslmode=disable");
    // A reload takes effect a moment after the program that asks for it has ended.
    while try_open(&plain).await.is_ok() {}
    let text = refusal(&plain, ErrorKind::Fatal, "28000").await;
    assert!(text.contains("no encryption"), "{text}");
    try_open(&url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_certificate_needs_no_password() {
    let folder = tempfile::tempdir().unwrap();
    let Some((cluster, right, wrong)) = secured(folder.path()).await else {
        return;
    };
    cluster.admit(&["local all all trust", "hostssl all all 127.0.0.1/32 cert"]);
    cluster.reload();
    right.sign(folder.path(), "me", "DNS:me", 2);
    wrong.sign(folder.path(), "stranger", "DNS:me", 2);
    let file = |name: &str| folder.path().join(name).display().to_string();
    let url = |name: &str| {
        let (cert, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
        let parameters = format!("sslmode=require&sslcert={cert}&sslkey={key}");
        format!(
            "postgres://me@127.0.0.1:{}/postgres?{parameters}",
            cluster.port
        )
    };
    let none = format!("postgres://me@127.0.0.1:{}/postgres", cluster.port);
    while try_open(&none).await.is_ok() {}
    let store = try_open(&url("me")).await.unwrap();
    write_new(&store, vec![bar(0, 1.0, 1)]).await;
    refusal(&none, ErrorKind::Fatal, "28000").await;
    assert!(try_open(&url("stranger")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_with_and_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let Some((cluster, ..)) = secured(folder.path()).await else {
        return;
    };
    cluster.admit(&["local all all trust", "host all me all scram-sha-256"]);
    cluster.reload();
    let at = format!("127.0.0.1:{}/postgres", cluster.port);
    while try_open(&format!("postgres://me:wrong@{at}")).await.is_ok() {}
    // Escaped in the URL; with the proof bound to the certificate, and without.
    for mode in ["disable", "require"] {
        let url = format!("postgres://me:p%40ss%2Fw%3Ard%25@{at}?sslmode={mode}");
        try_open(&url).await.unwrap();
    }
    let url: StoreUrl = format!("postgres://me@{at}").parse().unwrap();
    let from_environment = OpenOptions {
        password: Some("p@ss/w:rd%".to_owned()),
        ..OpenOptions::default()
    };
    let store = Store::open(&url, from_environment.clone()).await.unwrap();
    // Not even for whoever prints a value to find a mistake.
    let secret: StoreUrl = format!("postgres://me:c4nary@{at}").parse().unwrap();
    let error = try_open("postgres://me:c4nary@127.0.0.1:1/d")
        .await
        .unwrap_err();
    let refused = Store::open(&secret, OpenOptions::default())
        .await
        .unwrap_err();
    let shown = format!(
        "{store:?} {from_environment:?} {secret:?} {secret} {error:?} {error} {refused:?} {refused}"
    );
    assert!(
        !shown.contains("c4nary") && !shown.contains("ss/w"),
        "{shown}"
    );
    let file = folder.path().join("pgpass");
    let line = |host: &str| format!("{host}:{}:postgres:me:p@ss/w\\:rd%\n", cluster.port);
    for (line, is_right) in [(line("127.0.0.1"), true), (line("other"), false)] {
        std::fs::write(&file, line).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, private).unwrap();
        let from_file = OpenOptions {
            passfile: Some(file.clone()),
            ..OpenOptions::default()
        };
        let opened = Store::open(&url, from_file).await;
        assert_eq!(opened.is_ok(), is_right);
    }
    let text = refusal(&url.to_string(), ErrorKind::Fatal, "AUTHENTICATION").await;
    assert!(
        text.contains("give a password in the URL, PGPASSWORD or ~/.pgpass"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_by_every_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let Some((cluster, ..)) = secured(folder.path()).await else {
        return;
    };
    let socket = cluster.folder().display().to_string();
    let escaped = socket.replace('/', "%2F");
    let port = cluster.port;
    for url in [
        format!("postgres:///postgres?host={socket}&port={port}&user=postgres"),
        format!("postgres:///postgres?host={escaped}&port={port}&user=postgres"),
        format!("postgresql://postgres@/postgres?host={socket}&port={port}"),
        format!("postgres://postgres@{escaped}:{port}/postgres"),
        // There is nothing to encrypt on the way to the same machine.
        format!("postgres://postgres@{escaped}:{port}/postgres?sslmode=verify-full"),
    ] {
        let store = try_open(&url)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error:?}"));
        store.check().await.unwrap();
    }
    let text = refusal(
        &format!("postgres:///postgres?host={socket}/gone&user=postgres"),
        ErrorKind::Environment,
        "CONNECTION",
    )
    .await;
    assert!(text.contains("is the server running"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_by_number_and_by_name() {
    let Some(cluster) = Cluster::start(&[]) else {
        return;
    };
    let (port, dead) = (cluster.port, free_port());
    for url in [
        format!("postgres://postgres@127.0.0.1:{port}/postgres"),
        format!("postgres://postgres@[::1]:{port}/postgres"),
        format!("postgres://postgres@localhost:{port}/postgres"),
        format!("postgres://postgres@/postgres?hostaddr=127.0.0.1&port={port}"),
        format!("postgres://postgres@nowhere.invalid:{port}/postgres?hostaddr=127.0.0.1"),
        format!("postgres://postgres@127.0.0.1:{dead},127.0.0.1:{port}/postgres"),
        format!("postgres://postgres@nowhere.invalid,[::1]:{port}/postgres"),
        format!("postgres://postgres@127.0.0.1:{port},127.0.0.1:{dead}/postgres"),
    ] {
        let store = try_open(&url)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error:?}"));
        store.check().await.unwrap();
    }
    let url = format!("postgres://postgres@127.0.0.1:{dead},[::1]:{dead}/postgres");
    let text = refusal(&url, ErrorKind::Environment, "CONNECTION").await;
    assert!(text.contains("Connection refused"), "{text}");
    let url = "postgres://postgres@nowhere.invalid/postgres";
    let text = refusal(url, ErrorKind::Environment, "CONNECTION").await;
    assert!(text.contains("nowhere.invalid"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_takes_writes_is_found_after_a_failover() {
    let Some(mut main) = Cluster::start(&[]) else {
        return;
    };
    let standby = main.standby();
    let url = |first: u16, second: u16| {
        format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/postgres")
    };
    // The standby stands first, and is passed over by a writer.
    let store = try_open(&url(standby.port, main.port)).await.unwrap();
    write_new(&store, (0..100).map(|i| bar(i, 1.0, 1)).collect()).await;
    // The standby alone takes no writes.
    let alone = format!("postgres://postgres@127.0.0.1:{}/postgres", standby.port);
    let wait = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    let admin = main.shell("postgres").await;
    let sql = "SELECT pg_current_wal_lsn()::text";
    let written: String = admin.query_one(sql, &[]).await.unwrap().get(0);
    let follower = standby.shell("postgres").await;
    while !follower
        .query_one(wait, &[&written])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {}
    let reader = try_open(&alone).await.unwrap();
    assert_eq!(all::<Bar>(&reader).await.len(), 100);
    let report = write(&reader, vec![bar(0, 2.0, 2)]).await;
    let error = report.error.unwrap();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Environment, "25006"),
        "{error}"
    );
    // Whoever only reads takes the first that answers.
    let options = OpenOptions::read_only();
    let dead = url(standby.port, free_port()).parse().unwrap();
    Store::open(&dead, options).await.unwrap();
    drop(admin);
    drop(follower);
    main.stop(Stop::Immediate);
    let report = write(&store, vec![bar(100, 1.0, 1)]).await;
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Environment);
    standby.promote();
    // A session with the standby of before is one with the main server of now.
    loop {
        let report = write(&store, vec![bar(100, 1.0, 1)]).await;
        let Some(error) = report.error else { break };
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    }
    write_new(&reader, vec![bar(0, 2.0, 2)]).await;
    assert_eq!(all::<Bar>(&store).await.len(), 101);
}
