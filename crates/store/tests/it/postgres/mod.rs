//! PostgreSQL, where a server is at hand: `MDS_TEST_POSTGRES` holds the URL of one on which
//! databases may be made. `scripts/test` starts one.

mod adopt;
mod faults;
mod migrate;
mod original;
mod smoke;

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
        let client = connect(&self.url).await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mds_test_{}_{number}", std::process::id());
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let (server, _) = self.url.rsplit_once('/').unwrap();
        format!("{server}/{name}").parse().unwrap()
    }
}

/// A connection that the tests themselves use.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}
