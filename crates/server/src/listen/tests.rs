//! Connections that are cut, that say nothing, or too much.

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

async fn panics() -> &'static str {
    panic!("a fault")
}

/// What a server answers to these bytes, until it closes the connection.
async fn answer(options: ListenOptions, bytes: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(async || "well"))
        .route("/panics", get(panics));
    let served = serve(listener, router, options, std::future::pending());
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    tokio::select! {
        () = served => panic!("it has ended"),
        answer = asked => answer,
    }
}

#[tokio::test]
async fn a_panic_costs_its_request_only() {
    let asked = b"GET /panics HTTP/1.1\r\nhost: x\r\n\r\n\
                  GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = answer(ListenOptions::default(), asked).await;
    assert!(
        answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\"code\":\"internal\""), "{answer}");
    assert!(answer.ends_with("\r\n\r\nwell"), "{answer}");
}

/// Whoever says nothing, or not all of a head, is sent away.
#[tokio::test]
async fn silence_is_not_waited_for() {
    let options = ListenOptions {
        header_timeout: Duration::from_millis(50),
        ..ListenOptions::default()
    };
    for said in [&b""[..], b"GET", b"GET / HTTP/1.1\r\nhost:"] {
        let answer = answer(options, said).await;
        assert!(!answer.contains("well"), "{answer}");
    }
}

#[tokio::test]
async fn heads_have_their_limits() {
    let many = "h: x\r\n".repeat(100);
    let long = format!("h: {}\r\n", "x".repeat(64 << 10));
    for headers in [many, long] {
        let asked = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let answer = answer(ListenOptions::default(), asked.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
