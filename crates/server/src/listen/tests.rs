//! Connections that are cut.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Extension;
use axum::routing::get;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// A body that never goes on, and tells when it is dropped.
struct Stalled(Arc<Notify>);

impl hyper::body::Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Cutting a connection ends it, whatever the answer waits for, and frees what the answer held.
#[tokio::test]
async fn a_connection_that_is_cut_ends_at_once() {
    let dropped = Arc::new(Notify::new());
    let (tells, handed) = (Arc::clone(&dropped), Arc::new(std::sync::Mutex::new(None)));
    let hand = Arc::clone(&handed);
    let stall = move |Extension(cut): Extension<Cut>| {
        *hand.lock().unwrap() = Some(cut);
        let body = Stalled(Arc::clone(&tells));
        async move { Body::new(body) }
    };
    let router = Router::new().route("/", get(stall));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = ListenOptions::default();
    let serving = tokio::spawn(serve(listener, router, options, std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let cut: Cut = handed.lock().unwrap().take().unwrap();
    cut.cut();
    dropped.notified().await;
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it does not end well");
    serving.abort();
}
