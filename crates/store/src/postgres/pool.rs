//! Connections: few, kept, and opened with care after an outage.
//!
//! - A connection is lent to one task at a time and comes back only when its session is at rest;
//!   one that is dropped is closed, and the server rolls back what it held.
//! - After a failed connect only one task at a time may try; each success doubles how many may
//!   (1, 2, 4, ...), so that a server that comes back is not run over.
//! - A connection lives for half an hour, give or take a tenth, so that load spreads over the
//!   servers behind one name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::{Client, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::Server;
use super::tls;

/// Connections at the same time.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection is kept.
const LIFETIME: Duration = Duration::from_secs(1_800);
/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Postgres(#[from] Error),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("the store is closed")]
    Closed,
}

/// A session that is lent out.
pub(crate) struct Conn {
    pub(crate) client: Client,
    dies: Instant,
    /// Its session is not at rest: it must not be used again.
    pub(crate) broken: bool,
}

struct Shared {
    server: Server,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    idle: Vec<Conn>,
    /// Connections that are lent out or being opened.
    out: usize,
    /// How many may be; below the maximum after an outage.
    limit: usize,
    closed: bool,
}

/// The connections to one server; cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// A place among the connections; given back when dropped.
struct Place<'a>(&'a Shared);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().out -= 1;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts and lists are whole whenever the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    pub(crate) fn new(server: Server) -> Self {
        let state = State {
            idle: Vec::new(),
            out: 0,
            limit: MAX_CONNECTIONS,
            closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                server,
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        }
    }

    /// Lends a connection to `work`, which must hand it back at rest, or drop it.
    ///
    /// Not cancel safe by itself: run it in a task that nobody aborts.
    pub(crate) async fn with<V, F>(&self, work: impl FnOnce(Conn) -> F) -> Result<V, ConnectError>
    where
        F: Future<Output = (Option<Conn>, V)>,
    {
        let place = self.place().await?;
        let kept = self.take_idle();
        let conn = match kept {
            Some(conn) => conn,
            None => self.open().await?,
        };
        let (back, value) = work(conn).await;
        if let Some(conn) = back {
            let mut state = self.shared.lock();
            if !state.closed && !conn.broken && !conn.client.is_closed() {
                state.idle.push(conn);
            }
        }
        drop(place);
        Ok(value)
    }

    async fn place(&self) -> Result<Place<'_>, ConnectError> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // In line before the look: two places that come back between a look and the wait would
            // wake only one of two tasks.
            changed.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if state.closed {
                    return Err(ConnectError::Closed);
                }
                if state.out < state.limit {
                    state.out += 1;
                    return Ok(Place(&self.shared));
                }
            }
            changed.await;
        }
    }

    /// A connection that is still good; the latest used first, so that others can grow old.
    fn take_idle(&self) -> Option<Conn> {
        let mut state = self.shared.lock();
        let now = Instant::now();
        state
            .idle
            .retain(|conn| !conn.client.is_closed() && conn.dies > now);
        state.idle.pop()
    }

    async fn open(&self) -> Result<Conn, ConnectError> {
        let opened = self.connect().await;
        let mut state = self.shared.lock();
        if opened.is_ok() {
            state.limit = (state.limit * 2).min(MAX_CONNECTIONS);
        } else {
            state.limit = 1;
            // They led to the same server.
            state.idle.clear();
        }
        drop(state);
        self.shared.changed.notify_waiters();
        opened
    }

    async fn connect(&self) -> Result<Conn, ConnectError> {
        let server = &self.shared.server;
        let uses_tls = server.config.get_ssl_mode() != tokio_postgres::config::SslMode::Disable;
        let client = if uses_tls {
            let config = tls::config(&server.verify, server.root_cert.as_deref())?;
            let (client, connection) = server
                .config
                .connect(MakeRustlsConnect::new(config))
                .await?;
            drop(tokio::spawn(connection));
            client
        } else {
            let (client, connection) = server.config.connect(NoTls).await?;
            drop(tokio::spawn(connection));
            client
        };
        let share = 0.9 + 0.2 * fastrand::f64();
        Ok(Conn {
            client,
            dies: Instant::now() + LIFETIME.mul_f64(share),
            broken: false,
        })
    }

    /// Closes the idle connections; those at work are closed when they come back.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.idle.clear();
        drop(state);
        self.shared.changed.notify_waiters();
    }
}
