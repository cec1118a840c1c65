//! One POST to receivers of all kinds.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::*;

/// Far beyond what any answer takes; where a test means the time-out it says so.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

fn endpoint(url: &str, timeout: Duration) -> Endpoint {
    Endpoint::new(&SecretUrl::new(url), timeout).unwrap()
}

/// Posts to a receiver that reads a request and then does `deed`; what came of it, and what it read.
async fn post_to<T: Send + 'static>(
    timeout: Duration,
    deed: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Result<(), String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let receiver: JoinHandle<(String, T)> = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"{\"a\":1}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            read.push(byte[0]);
        }
        let deed = deed(stream);
        (String::from_utf8(read).unwrap(), deed)
    });
    let url = format!("http://me:p%40ss@{address}/hook/s3cret?key=1#part");
    let posted = endpoint(&url, timeout)
        .post(Bytes::from_static(b"{\"a\":1}"))
        .await;
    let posted = posted.map_err(|failure| format!("{} {failure}", failure.may_have_arrived()));
    let (read, _) = receiver.join().unwrap();
    (posted, read.replace(&address.to_string(), "HOST"))
}

fn says(text: &str) -> impl FnOnce(TcpStream) + Send + 'static {
    let text = text.to_owned();
    move |mut stream| stream.write_all(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_receiver_sees_a_plain_request() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let (posted, read) = post_to(LONG, says(answer)).await;
    assert_eq!(posted, Ok(()));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        read,
        format!(
            "POST /hook/s3cret?key=1 HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/json\r\n\
             user-agent: mds/{version}\r\nconnection: close\r\nauthorization: Basic \
             bWU6cEBzcw==\r\ncontent-length: 7\r\n\r\n{{\"a\":1}}"
        )
    );
}

#[tokio::test]
async fn what_an_answer_that_is_no_success_means() {
    let failed = |what: &str| Err(what.to_owned());
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (posted, _) = post_to(LONG, says(redirect)).await;
    assert_eq!(posted, failed("false it answered 302 Found"));
    let (posted, _) = post_to(LONG, says("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(
        posted,
        failed("false it answered 500 Internal Server Error")
    );
    let broken = |posted: Result<(), String>| {
        let text = posted.unwrap_err();
        assert!(
            text.starts_with("true the connection broke before an answer: "),
            "{text}"
        );
    };
    broken(post_to(LONG, drop).await.0);
    broken(post_to(LONG, says("what?\r\n\r\n")).await.0);
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(HEAD_BYTES));
    broken(post_to(LONG, says(&long)).await.0);
    let (posted, _) = post_to(SHORT, |stream| stream).await;
    assert_eq!(posted, failed("true no answer came in time"));
}

#[tokio::test]
async fn an_answer_that_never_ends_is_not_read_to_its_end() {
    let endless = |mut stream: TcpStream| {
        let mut sent = stream.write(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while let Ok(bytes) = stream.write(&[b'x'; 4_096]) {
            sent += bytes;
        }
        assert!(sent > ANSWER_BYTES, "{sent}");
    };
    assert_eq!(post_to(LONG, endless).await.0, Ok(()));
    // The status has come, whatever else does not.
    let stops = |mut stream: TcpStream| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nand";
        stream.write_all(head).unwrap();
        stream
    };
    assert_eq!(post_to(SHORT, stops).await.0, Ok(()));
}

#[tokio::test]
async fn nobody_there_is_nothing_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let nobody = endpoint(&format!("http://{address}"), LONG);
    let failure = nobody.post(Bytes::new()).await.unwrap_err();
    assert!(matches!(failure, Failure::Connect(_)), "{failure:?}");
    assert!(!failure.may_have_arrived());
}

#[test]
fn of_a_url_only_scheme_host_and_port_are_shown() {
    for (url, shown) in [
        ("http://h", "http://h:80"),
        ("HTTP://h:8080/hook/hunter2", "http://h:8080"),
        ("http://hunter2@h/", "http://h:80"),
        ("http://u:hun@ter2@h/", "http://h:80"),
        ("https://h:/hunter2", "https://h:443"),
        ("http://me:hunter2@[::1]:9/x?hunter2", "http://[::1]:9"),
    ] {
        let endpoint = endpoint(url, LONG);
        assert_eq!(endpoint.to_string(), shown);
        assert_eq!(format!("{endpoint:?}"), shown);
    }
}

#[test]
fn a_url_that_cannot_be_used_is_refused_at_the_start() {
    let no_host = "fb_http_endpoint needs http or https and a host, as http://HOST:PORT/PATH";
    let no_url =
        "fb_http_endpoint is no URL; what is no letter or digit may have to be escaped, as %40";
    let no_port = "fb_http_endpoint has no number from 1 to 65535 behind its host; a password stands \
                   before a host, as http://USER:PASSWORD@HOST";
    for (url, says) in [
        ("ftp://h/hunter2", no_host),
        ("h/hunter2", no_url),
        ("/hunter2", no_host),
        ("http://h/a b", no_url),
        ("http://h:hunter2/", no_port),
        ("http://h:65536/", no_port),
        ("http://h:0/", no_port),
    ] {
        let Err(error) = Endpoint::new(&SecretUrl::new(url), LONG) else {
            panic!("{url} is taken");
        };
        assert_eq!(error.to_string(), says, "{url}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
