//! PostgreSQL, where a server is at hand: `MDS_TEST_POSTGRES` holds the URL of one on which
//! databases may be made. `scripts/test` starts one.

mod addresses;
mod adopt;
mod certificates;
mod cluster;
mod crash;
mod deadlock;
mod faults;
mod foreign;
mod migrate;
mod original;
mod poison;
mod pooler;
mod roles;
mod settings;
mod smoke;
mod sqlstate;
mod tenants;
pub(crate) mod timescale;
mod ways;

use std::sync::atomic::{AtomicU32, Ordering};

use mds_store::{OpenOptions, Store, StoreUrl};
use tokio_postgres::{Client, NoTls};

pub(crate) struct Server {
    url: String,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Server {
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) fn find() -> Option<Self> {
        let url = std::env::var("MDS_TEST_POSTGRES").ok();
        if url.is_none() {
            eprintln!("skipped: MDS_TEST_POSTGRES names no server");
        }
        url.map(|url| Self { url })
    }

    /// A store in a database of its own.
    pub(crate) async fn open(&self) -> Store {
        let url = self.database().await;
        Store::open(&url, OpenOptions::default()).await.unwrap()
    }

    /// A store in a database of its own, and a connection of the administrator to it.
    pub(crate) async fn open_with_admin(&self) -> (Store, Client) {
        let url = self.database().await;
        let store = Store::open(&url, OpenOptions::default()).await.unwrap();
        (store, connect(&url.to_string()).await)
    }

    /// The URL of a new, empty database.
    pub(crate) async fn database(&self) -> StoreUrl {
        self.make("").await.url
    }

    /// A new, empty database, made with `options` of CREATE DATABASE.
    pub(crate) async fn make(&self, options: &str) -> Database {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mds_test_{}_{number}", std::process::id());
        let shell = connect(&self.url).await;
        let sql = format!("CREATE DATABASE {name} {options}");
        shell.batch_execute(&sql).await.unwrap();
        let (server, _) = self.url.rsplit_once('/').unwrap();
        let url = format!("{server}/{name}");
        Database {
            shell: connect(&url).await,
            url: url.parse().unwrap(),
            text: url,
            name,
        }
    }
}

/// A database of a test's own.
pub(crate) struct Database {
    /// Where it is.
    pub(crate) url: StoreUrl,
    /// The same as a text.
    pub(crate) text: String,
    pub(crate) name: String,
    /// A session of its superuser, for what other programs do.
    pub(crate) shell: Client,
}

impl Database {
    pub(crate) async fn open(&self) -> Store {
        self.open_with("").await
    }

    /// Opens the store with parameters behind its URL.
    pub(crate) async fn open_with(&self, parameters: &str) -> Store {
        let url = format!("{}{parameters}", self.text).parse().unwrap();
        Store::open(&url, OpenOptions::default()).await.unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.shell.batch_execute(sql).await.unwrap();
    }
}

/// A connection that the tests themselves use.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}
