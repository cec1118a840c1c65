//! One connection: how it is opened, what its session is set to, and how it ends.
//!
//! - Each address of each host gets the same time to accept, to shake hands and to answer: one that
//!   accepts and never answers costs a connect timeout, and the next is tried.
//! - While an answer is awaited, somebody looks at the clock: a server that stays silent for longer
//!   than it may work on one statement is gone, and the connection is closed. Keepalives alone do
//!   not tell, since the machine may live on without the server.
//! - A connection that is dropped is closed at once, and the server rolls back; one that is retired
//!   says good-bye.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres::{Client, Config, Connection, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::Server;
use super::pool::{Bounds, Connector, Pool};
use super::{failure, tls};

/// The code of a server that has no room for another session.
const TOO_MANY_CONNECTIONS: &str = "53300";
/// Time for a connection where the address says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Postgres(#[from] Error),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("the name {host} cannot be looked up")]
    Name {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{address} did not answer within {} s", within.as_secs_f64())]
    Silent { address: String, within: Duration },
}

/// A server, and how its sessions are set up.
pub(crate) struct Endpoint {
    server: Server,
    connect_timeout: Duration,
    /// How long a server may owe an answer: longer than it may work on a statement.
    silence: Duration,
}

/// A session that is lent out.
pub(crate) struct Conn {
    pub(crate) client: Session,
    /// Its session is not at rest: it must not be used again.
    pub(crate) broken: bool,
    /// The task that speaks with the server.
    driver: Option<AbortHandle>,
}

/// A client, with a clock beside it. Whoever reaches for the client is about to say something to
/// the server: if the clock is on, it begins anew.
pub(crate) struct Session {
    client: Client,
    /// Since when the server owes an answer; `None` while it may take its time.
    owes_since: watch::Sender<Option<Instant>>,
    /// The task without which the client is closed.
    driver: AbortHandle,
    is_cut: AtomicBool,
}

impl Session {
    /// From now on until it is at rest the server answers each statement within its time: if it
    /// does not, the connection is closed.
    pub(crate) fn expects_answers(&self) {
        self.owes_since.send_replace(Some(Instant::now()));
    }

    /// From now on a statement takes as long as it takes.
    pub(crate) fn takes_its_time(&self) {
        self.owes_since.send_replace(None);
    }

    /// Closes the connection: its answers no longer belong to what is asked.
    pub(crate) fn cut(&self) {
        // The task ends a moment later.
        self.is_cut.store(true, Ordering::Relaxed);
        self.driver.abort();
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.owes_since.send_if_modified(|since| {
            let is_on = since.is_some();
            if is_on {
                *since = Some(Instant::now());
            }
            is_on
        });
        &self.client
    }
}

// Of the whole, not of a field: a block that uses the client alone would else leave the rest of the
// connection behind, and with it the task without which the client is closed.
impl Drop for Conn {
    fn drop(&mut self) {
        if let Some(task) = &self.driver {
            task.abort();
        }
    }
}

impl Conn {
    /// See [`Session::expects_answers`].
    pub(crate) fn expects_answers(&self) {
        self.client.expects_answers();
    }
}

impl Endpoint {
    pub(crate) fn new(server: Server, statement_timeout: Duration) -> Self {
        let connect_timeout = server.config.get_connect_timeout().copied();
        Self {
            server,
            connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            silence: statement_timeout.saturating_mul(11) / 10,
        }
    }

    pub(crate) fn pool(self) -> Pool<Self> {
        Pool::new(self, Bounds::default())
    }

    async fn open_at(&self, config: &Config) -> Result<Conn, ConnectError> {
        let uses_tls = config.get_ssl_mode() != SslMode::Disable;
        if uses_tls {
            let tls = tls::config(&self.server.tls)?;
            let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
            Ok(self.conn(client, connection))
        } else {
            let (client, connection) = config.connect(NoTls).await?;
            Ok(self.conn(client, connection))
        }
    }

    fn conn<T>(&self, client: Client, connection: Connection<Socket, T>) -> Conn
    where
        T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let (owes_since, owed) = watch::channel(None);
        let limit = self.silence;
        let task = tokio::spawn(async move {
            tokio::select! {
                // Its error reaches those who wait for an answer.
                ended = connection => drop(ended),
                () = too_long(owed, limit) => {
                    let seconds = limit.as_secs_f64();
                    tracing::warn!("the server gave no answer within {seconds} s; connection closed");
                }
            }
        });
        let session = Session {
            client,
            owes_since,
            driver: task.abort_handle(),
            is_cut: AtomicBool::new(false),
        };
        Conn {
            client: session,
            broken: false,
            driver: Some(task.abort_handle()),
        }
    }

    /// The addresses to try, in order, each as a configuration of its own.
    async fn addresses(&self) -> Result<Vec<(String, Config)>, ConnectError> {
        let config = &self.server.config;
        let (hosts, hostaddrs) = (config.get_hosts(), config.get_hostaddrs());
        let is_random = config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        let mut order: Vec<usize> = (0..hosts.len().max(hostaddrs.len())).collect();
        if is_random {
            fastrand::shuffle(&mut order);
        }
        let (mut found, mut failed) = (Vec::new(), None);
        for index in order {
            let ports = config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let host = hosts.get(index);
            let mut addresses = match (host, hostaddrs.get(index)) {
                (_, Some(address)) => vec![Some(*address)],
                (Some(Host::Tcp(name)), None) => match self.look_up(name, port).await {
                    Ok(addresses) => addresses.into_iter().map(Some).collect(),
                    Err(error) => {
                        failed = Some(error);
                        continue;
                    }
                },
                (_, None) => vec![None],
            };
            if is_random {
                fastrand::shuffle(&mut addresses);
            }
            let password = self.server.password_for(host, port);
            let one = |address| {
                let mut one = single(config, host, address, port);
                if let Some(password) = &password {
                    one.password(password);
                }
                (name_of(host, address, port), one)
            };
            found.extend(addresses.into_iter().map(one));
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, ConnectError> {
        let found =
            tokio::time::timeout(self.connect_timeout, tokio::net::lookup_host((host, port)));
        let found = found
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let failed = |source| ConnectError::Name {
            host: host.to_owned(),
            source,
        };
        let addresses: Vec<IpAddr> = found.map_err(failed)?.map(|a| a.ip()).collect();
        if addresses.is_empty() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Ok(addresses)
    }
}

impl Connector for Endpoint {
    type Session = Conn;
    type Error = ConnectError;

    async fn open(&self) -> Result<Conn, ConnectError> {
        let mut failed = None;
        for (address, config) in self.addresses().await? {
            let within = self.connect_timeout;
            let error = match tokio::time::timeout(within, self.open_at(&config)).await {
                Ok(Ok(conn)) => return Ok(conn),
                Ok(Err(error)) => error,
                Err(_) => ConnectError::Silent { address, within },
            };
            // The word of a server that answers says more than the silence of another.
            let has_answered = |e: &ConnectError| matches!(e, ConnectError::Postgres(e) if e.as_db_error().is_some());
            if !failed.as_ref().is_some_and(has_answered) {
                failed = Some(error);
            }
        }
        // There is at least one address: a configuration without a host is completed.
        Err(failed.unwrap_or(ConnectError::Name {
            host: String::new(),
            source: io::ErrorKind::NotFound.into(),
        }))
    }

    fn is_open(conn: &Conn) -> bool {
        !conn.broken
            && !conn.client.is_cut.load(Ordering::Relaxed)
            && !conn.client.client.is_closed()
    }

    fn has_no_room(error: &ConnectError) -> bool {
        matches!(error, ConnectError::Postgres(e) if failure::code_of(e) == TOO_MANY_CONNECTIONS)
    }

    fn rest(conn: &Conn) {
        conn.client.takes_its_time();
    }

    fn retire(mut conn: Conn) {
        // The task ends by itself when it has said good-bye.
        conn.driver = None;
    }
}

/// What an address is called in an error.
fn name_of(host: Option<&Host>, address: Option<IpAddr>, port: u16) -> String {
    match (host, address) {
        (Some(Host::Unix(path)), _) => path.display().to_string(),
        (_, Some(address)) => SocketAddr::new(address, port).to_string(),
        (Some(Host::Tcp(name)), None) => format!("{name}:{port}"),
        (None, None) => String::new(),
    }
}

/// The configuration for one address of one host.
fn single(config: &Config, host: Option<&Host>, address: Option<IpAddr>, port: u16) -> Config {
    let mut one = Config::new();
    match host {
        Some(Host::Tcp(name)) => {
            one.host(name);
        }
        Some(Host::Unix(path)) => {
            one.host_path(path);
        }
        None => {}
    }
    if let Some(address) = address {
        one.hostaddr(address);
        if host.is_none() {
            // The name that a certificate is compared with.
            one.host(address.to_string());
        }
    }
    // The way to the same machine is not encrypted.
    let is_socket = matches!(host, Some(Host::Unix(_)));
    let ssl_mode = if is_socket {
        SslMode::Disable
    } else {
        config.get_ssl_mode()
    };
    one.port(port)
        .ssl_mode(ssl_mode)
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    one
}

/// Returns when an answer has been owed for longer than `limit`.
async fn too_long(mut owed: watch::Receiver<Option<Instant>>, limit: Duration) {
    loop {
        let since = *owed.borrow_and_update();
        let deadline = async {
            match since {
                Some(since) => tokio::time::sleep_until(since + limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = owed.changed() => if changed.is_err() {
                // The connection is being retired, at rest.
                return std::future::pending().await;
            },
            () = deadline => return,
        }
    }
}
