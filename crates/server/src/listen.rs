//! Taking connections: how many, how slow they may be, and how they end.
//!
//! A connection that says nothing is closed after [`ListenOptions::header_timeout`], whatever it is
//! about to speak: the time until the first request has been read whole counts, and so does the time
//! between two requests of HTTP/1. Over [`ListenOptions::max_connections`] nobody is accepted until
//! somebody has left.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tower::ServiceExt as _;

use crate::problem::{Code, Problem};

/// How connections are treated.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections at a time. Default: 512.
    pub max_connections: usize,
    /// How long the head of a request may take. Default: 10 s.
    pub header_timeout: Duration,
    /// How long requests under way may go on once it is over. Default: 5 s.
    pub drain: Duration,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            max_connections: 512,
            header_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// Ends the connection that a request has come by, whatever else goes on there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<Notify>);

impl Cut {
    pub(crate) fn cut(&self) {
        self.0.notify_one();
    }

    /// Waits until it is cut.
    pub(crate) async fn happens(&self) {
        self.0.notified().await;
    }
}

/// Bytes of all the headers of a request.
const HEADERS_BYTES: usize = 32 << 10;
/// Headers of a request.
const HEADERS: usize = 64;
/// How long to wait after the system has refused a connection, mostly for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Serves HTTP/1 and HTTP/2 on `listener` until `stop` is ready; then nobody is accepted any more, and
/// requests under way have [`ListenOptions::drain`] to end.
///
/// # Cancel safety
///
/// Dropped, it accepts nobody any more; connections go on by themselves.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ListenOptions,
    stop: impl Future<Output = ()>,
) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_headers(HEADERS)
        .max_buf_size(HEADERS_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(16 << 10)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(options.header_timeout);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(options.max_connections));
    tokio::pin!(stop);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            // It is never closed.
            let place = place.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((place, stream))
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = next => accepted,
        };
        let (place, stream) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let connection = Connection {
            http: http.clone(),
            router: router.clone(),
            first_request: options.header_timeout,
        };
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            connection.serve(stream, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    let ended = tokio::time::timeout(options.drain, graceful.shutdown()).await;
    if ended.is_err() {
        tracing::warn!("requests that did not end in time are cut");
    }
}

fn fault() -> Problem {
    let detail = "a fault of the daemon; its log says more. Whether rows were taken is not known: send \
                  them again, rows that come twice are stored once";
    Problem::new(Code::Internal, detail)
}

struct Connection {
    http: auto::Builder<TokioExecutor>,
    router: Router,
    first_request: Duration,
}

impl Connection {
    async fn serve(self, stream: TcpStream, watcher: Watcher) {
        // Answers are small, and somebody waits for each.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let has_asked = Arc::new(AtomicBool::new(false));
        let (asks, router) = (Arc::clone(&has_asked), self.router);
        let cut = Cut::default();
        let for_requests = cut.clone();
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(for_requests.clone());
            let router = router.clone();
            async move {
                let answer = AssertUnwindSafe(router.oneshot(request.map(Body::new)));
                // A fault of this program costs one request, and says so.
                let answered = answer.catch_unwind().await;
                answered.unwrap_or_else(|_| Ok::<_, Infallible>(fault().into_response()))
            }
        });
        let connection = self
            .http
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        // Telling HTTP/1 from HTTP/2 has no limit of its own.
        let is_silent = async {
            tokio::time::sleep(self.first_request).await;
            if has_asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            served = watcher.watch(connection.into_owned()) => {
                if let Err(error) = served {
                    tracing::debug!(error, "a connection has failed");
                }
            }
            () = is_silent => {}
            () = cut.happens() => {}
        }
    }
}

#[cfg(test)]
mod tests;
