//! A scrape over a real socket.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mds_coordinator::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn get(address: std::net::SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_scrape_gets_the_format_that_it_asks_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(mds_server::metrics::serve(
        listener,
        Metrics::new(),
        async {
            drop(stopped.await);
        },
    ));

    let classic = get(address, "/metrics", "text/plain").await;
    assert!(classic.starts_with("HTTP/1.1 200 OK"), "{classic}");
    assert!(
        classic.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{classic}"
    );
    assert!(classic.contains("# TYPE mds_build_info gauge"), "{classic}");

    let open = get(
        address,
        "/metrics",
        "application/openmetrics-text; version=1.0.0",
    )
    .await;
    assert!(
        open.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{open}"
    );
    assert!(open.contains("# TYPE mds_build_info gauge"), "{open}");
    assert!(open.contains("# EOF"), "{open}");
    assert!(!classic.contains("# EOF"), "{classic}");

    assert!(
        get(address, "/other", "*/*")
            .await
            .starts_with("HTTP/1.1 404")
    );
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
