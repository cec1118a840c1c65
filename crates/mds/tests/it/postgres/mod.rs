//! A PostgreSQL server that goes away, comes back, stalls or is cut off while a coordinator writes
//! to it; where a server is at hand: `MDS_TEST_POSTGRES` holds the URL of one on which databases
//! may be made. `scripts/test` starts one.

mod aborts;
mod cluster;
mod cuts;
mod faults;
mod kills;
mod outages;
mod program;
pub(crate) mod proxy;
mod sessions;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mds_coordinator::dead_letter::{DlqOptions, LetterFilter};
use mds_coordinator::{
    CircuitBreaker, CoordinatorBuilder, DeadLetterQueue, Metrics, RetryPolicy, Stats,
    WriteCoordinator,
};
use mds_core::{Bar, Timestamp};
use mds_store::{OpenOptions, Store, StoreSink, StoreUrl};
use tempfile::TempDir;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::run::skip;

/// Far longer than anything here takes: a guard against a hang, no limit of speed.
pub(crate) const GUARD: Duration = Duration::from_secs(300);

/// A server, and a database on it that nobody else uses.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    user: String,
    database: String,
    /// The URL of the server itself.
    home: String,
    /// A connection of the tests themselves, past all proxies.
    pub(crate) admin: Client,
}

/// Ends all sessions but the administrator's.
pub(crate) const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid()";

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// The server of the environment, with a new database and the tables in it.
    pub(crate) async fn find() -> Option<Self> {
        Self::find_as(None).await
    }

    /// The same; a new role that is no superuser, with these options, owns the database.
    pub(crate) async fn find_as(role: Option<&str>) -> Option<Self> {
        let Ok(home) = std::env::var("MDS_TEST_POSTGRES") else {
            skip("MDS_TEST_POSTGRES names no server");
            return None;
        };
        let config: Config = home.parse().unwrap();
        let (Some(Host::Tcp(host)), Some(user)) = (config.get_hosts().first(), config.get_user())
        else {
            skip("the server of MDS_TEST_POSTGRES is not one on TCP with a user");
            return None;
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let mut found = tokio::net::lookup_host((host.as_str(), port))
            .await
            .unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("mds_faults_{}_{number}", std::process::id());
        let admin = connect(&home).await;
        let mut owner = user.to_owned();
        if let Some(options) = role {
            owner.clone_from(&database);
            let sql = format!("CREATE ROLE {owner} LOGIN {options}");
            admin.batch_execute(&sql).await.unwrap();
        }
        let sql = format!("CREATE DATABASE {database} OWNER {owner}");
        admin.batch_execute(&sql).await.unwrap();
        let address = found.next().unwrap();
        let url = format!("postgres://{user}@{address}/{database}");
        let server = Self {
            address,
            user: owner,
            database,
            home,
            admin: connect(&url).await,
        };
        let url = server.url(server.address, "");
        Store::migrate(&url, OpenOptions::default(), false)
            .await
            .unwrap();
        Some(server)
    }

    /// The database, as it is reached by `address`.
    pub(crate) fn url(&self, address: SocketAddr, parameters: &str) -> StoreUrl {
        let (user, database) = (&self.user, &self.database);
        format!("postgres://{user}@{address}/{database}?sslmode=disable{parameters}")
            .parse()
            .unwrap()
    }

    /// Lets the administrator do something.
    pub(crate) async fn does(&self, sql: &str) {
        let sql = sql.replace("DB", &self.database);
        // Each by itself: together they would be one transaction.
        for statement in sql.replace("OWNER", &self.user).split("; ") {
            self.admin.batch_execute(statement).await.unwrap();
        }
    }

    /// How many rows there are, and how many keys.
    pub(crate) async fn rows_and_keys(&self) -> (u64, u64) {
        let sql =
            "SELECT count(*), count(DISTINCT (tenant_id, vendor, symbol, timeframe, ts)) FROM bars";
        let row = self.admin.query_one(sql, &[]).await.unwrap();
        let number = |index| u64::try_from(row.get::<_, i64>(index)).unwrap();
        (number(0), number(1))
    }
}

impl Drop for Server {
    /// Leaves nothing behind on a server that may be somebody's.
    fn drop(&mut self) {
        let (home, database, user) = (self.home.clone(), self.database.clone(), self.user.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let admin = connect(&home).await;
                let mut gone = vec![format!("DROP DATABASE {database} WITH (FORCE)")];
                if user == database {
                    gone.push(format!("DROP ROLE {user}"));
                }
                for sql in gone {
                    admin.batch_execute(&sql).await.unwrap();
                }
            });
        });
        // A server that is gone as well needs no tidying up.
        drop(dropped.join());
    }
}

/// A connection that the tests themselves use.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}

/// Limits so short that a stall is over soon.
pub(crate) fn quick() -> OpenOptions {
    OpenOptions {
        statement_timeout: Duration::from_millis(500),
        ..OpenOptions::default()
    }
}

/// The bar number `number` of a source.
pub(crate) fn bar(number: u64, revision: i64) -> Bar {
    let minute = i64::try_from(number / 10).unwrap();
    Bar {
        vendor: "v".into(),
        symbol: format!("S{}", number % 10).as_str().into(),
        ts: Timestamp::from_micros(1_730_419_200_000_000 + minute * 60_000_000),
        close_price: Some(f64::from(u32::try_from(number).unwrap())),
        revision,
        ..Bar::default()
    }
}

/// A coordinator that writes into a store, with its dead letters.
pub(crate) struct Writing {
    pub(crate) store: Store,
    pub(crate) coordinator: WriteCoordinator<Bar>,
    letters: Arc<DeadLetterQueue<Bar>>,
    _folder: TempDir,
}

impl Writing {
    /// Starts one whose waits are short; `set` changes what the test is about.
    pub(crate) async fn start(
        url: &StoreUrl,
        options: OpenOptions,
        set: impl FnOnce(
            CoordinatorBuilder<Bar, StoreSink<Bar>>,
        ) -> CoordinatorBuilder<Bar, StoreSink<Bar>>,
    ) -> Self {
        let store = Store::open(url, options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        let letters = Arc::new(DeadLetterQueue::open(path, DlqOptions::default()).unwrap());
        let builder = WriteCoordinator::builder(store.sink::<Bar>())
            .coord_id("faults")
            .metrics(Metrics::new())
            .batch_size(100)
            .flush_interval(Duration::from_millis(5))
            .retry_policy(RetryPolicy {
                initial_backoff_ms: 5,
                max_backoff_ms: 100,
                ..RetryPolicy::default()
            })
            .circuit_breaker(CircuitBreaker::default())
            .dead_letters(Arc::<DeadLetterQueue<Bar>>::clone(&letters));
        Self {
            store,
            coordinator: set(builder).start().unwrap(),
            letters,
            _folder: folder,
        }
    }

    pub(crate) async fn submit(&self, rows: impl Iterator<Item = Bar>) {
        let mut rows: VecDeque<Bar> = rows.collect();
        let submitted = self.coordinator.submit_many(&mut rows);
        tokio::time::timeout(GUARD, submitted)
            .await
            .expect("the queue hangs")
            .unwrap();
    }

    /// Waits until everything has its fate.
    pub(crate) async fn flush(&self) {
        let report = self.coordinator.flush(GUARD).await;
        assert_eq!(report.outstanding, 0, "{:?}", self.coordinator.last_error());
    }

    /// Ends; answers with the books and the number of letters.
    pub(crate) async fn stop(self) -> (Stats, usize) {
        self.flush().await;
        let report = self.coordinator.stop(true, GUARD).await;
        let letters = self.letters.list(LetterFilter::default()).unwrap().len();
        self.store.close().await;
        assert!(report.stats.is_balanced(), "{:?}", report.stats);
        (report.stats, letters)
    }
}

/// A seed that is printed, and taken from `MDS_SEED` where that is set.
#[expect(clippy::print_stderr, reason = "a seed is told")]
pub(crate) fn seed() -> u64 {
    let given = std::env::var("MDS_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("MDS_SEED={seed}");
    seed
}

/// Waits until it is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(GUARD, so).await.expect("it never is");
}
