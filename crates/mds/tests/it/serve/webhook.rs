//! The pressure, sent to a webhook.

use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rusqlite::Connection;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::pressure::{bars, lock};
use crate::run::Place;

/// When a webhook that nothing comes to is taken to be forgotten.
const GUARD: Duration = Duration::from_secs(120);

/// A receiver of posts.
struct Hook {
    address: SocketAddr,
    /// What came: the bodies, in their order.
    posts: Receiver<Value>,
    /// Whether it takes what comes; else it answers 503.
    is_well: Arc<AtomicBool>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (to_test, posts) = channel();
        let is_well = Arc::new(AtomicBool::new(true));
        let is_taken = Arc::clone(&is_well);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(body) = read_body(&mut stream) else {
                    continue;
                };
                let is_over = to_test.send(body).is_err();
                let status = if is_taken.load(Ordering::SeqCst) {
                    "204 No Content"
                } else {
                    "503 Service Unavailable"
                };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                drop(stream.write_all(answer.as_bytes()));
                if is_over {
                    return;
                }
            }
        });
        Self {
            address,
            posts,
            is_well,
        }
    }

    fn next(&self) -> Value {
        let post = self.posts.recv_timeout(GUARD);
        post.unwrap_or_else(|_| panic!("nothing more came"))
    }

    /// The first post of this coordinator and level.
    fn wait_for(&self, coordinator: &str, level: &str) -> Value {
        loop {
            let post = self.next();
            if post["coordinator_id"] == coordinator && post["level"] == level {
                return post;
            }
        }
    }
}

fn read_body(stream: &mut impl Read) -> Option<Value> {
    let mut read = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).ok()?;
        read.push(byte[0]);
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(
                head.starts_with("POST /hook/s3cret?x=1 HTTP/1.1\r\n"),
                "{head}"
            );
            let length = head.split_once("content-length: ").unwrap().1;
            if body.len() == length.lines().next().unwrap().parse::<usize>().unwrap() {
                return Some(serde_json::from_str(body).unwrap());
            }
        }
    }
}

/// A daemon with a queue for 100 bars that tells this address; it gives up soon.
fn telling(place: &Place, to: impl std::fmt::Display, more: &[(&str, &str)]) -> Daemon {
    let url = format!("http://{to}/hook/s3cret?x=1");
    let mut env = vec![
        ("MDS_FB_ENABLE_HTTP_BROADCAST", "true"),
        ("MDS_FB_HTTP_ENDPOINT", &*url),
        ("MDS_FB_HTTP_BACKOFF", "0.01"),
    ];
    env.extend(super::pressure::SMALL);
    env.extend_from_slice(more);
    Daemon::start_with(place, &["--queue", "memory"], &env)
}

#[test]
fn a_webhook_is_told_the_state_at_the_start_and_each_change_of_it() {
    let place = Place::new();
    let lock = lock(&place);
    let hook = Hook::start();
    let daemon = telling(&place, hook.address, &[]);
    let mut first: Vec<Value> = (0..4).map(|_| hook.next()).collect();
    first.sort_by_key(|post| post["coordinator_id"].to_string());
    let ids: Vec<&Value> = first.iter().map(|post| &post["coordinator_id"]).collect();
    assert_eq!(
        json!(ids),
        json!(["bars", "fundamentals", "news", "options"])
    );
    assert_eq!(first[0]["capacity"], 100);
    for post in first {
        assert_eq!(
            (&post["level"], &post["reason"]),
            (&json!("ok"), &json!("snapshot"))
        );
    }
    daemon.post("/v1/bars", bars(90));
    let hard = hook.wait_for("bars", "hard");
    assert_eq!(hard["advised_rows_per_second"], json!(0.0));
    assert_eq!(hard["source"], "store");
    assert_ne!(hard["reason"], "snapshot");
    drop(lock);
    let ok = hook.wait_for("bars", "ok");
    assert_eq!(ok["advised_rows_per_second"], Value::Null);
    assert!(ok["ts"].as_f64().unwrap() >= hard["ts"].as_f64().unwrap());
    // 1 for the webhook itself.
    let metrics = daemon.get("/metrics").body;
    assert!(
        metrics.contains("\nmds_feedback_subscribers 1\n"),
        "{metrics}"
    );
    let outcome = daemon.terminate().code(143);
    let told = format!("; pressure is told to http://{}\n", hook.address);
    assert!(outcome.stderr.contains(&told), "{outcome:#?}");
    assert!(!outcome.stderr.contains("s3cret"), "{outcome:#?}");
}

#[test]
fn the_newest_state_arrives_once_the_webhook_is_well_again() {
    let place = Place::new();
    let lock = lock(&place);
    let hook = Hook::start();
    hook.is_well.store(false, Ordering::SeqCst);
    // It comes to `hard` and back while nothing is taken.
    let only_bars = [
        ("MDS_FB_HTTP_COORDINATOR", "bars"),
        ("MDS_FB_HTTP_MAX_RETRIES", "3"),
    ];
    let daemon = telling(&place, hook.address, &only_bars);
    for _ in 0..4 {
        assert_eq!(hook.next()["level"], "ok");
    }
    let wait_for = |line: &str| while !daemon.get("/metrics").body.contains(line) {};
    wait_for("mds_feedback_webhook_failing{coord_id=\"bars\"} 1\n");
    daemon.post("/v1/bars", bars(90));
    hook.wait_for("bars", "hard");
    // Four tries more, and it is given up too.
    wait_for("mds_feedback_webhook_posts_total{coord_id=\"bars\",result=\"status\"} 8\n");
    drop(lock);
    hook.wait_for("bars", "ok");
    hook.is_well.store(true, Ordering::SeqCst);
    wait_for("mds_feedback_webhook_failing{coord_id=\"bars\"} 0\n");
    assert!(hook.posts.try_iter().all(|post| post["level"] == "ok"));
    let metrics = daemon.get("/metrics").body;
    let posts = "mds_feedback_webhook_posts_total{coord_id=\"bars\",result=\"ok\"} 1\n";
    assert!(metrics.contains(posts), "{metrics}");
    let outcome = daemon.terminate().code(143);
    let said = format!(
        "the webhook does not take the pressure; it is tried again every 30 s coordinator=\"bars\" \
         endpoint=http://{} failure=it answered 503 Service Unavailable\n",
        hook.address
    );
    assert_eq!(outcome.stderr.matches(&said).count(), 1, "{outcome:#?}");
    assert!(!outcome.stderr.contains("s3cret"), "{outcome:#?}");
}

#[test]
fn a_webhook_that_hangs_changes_nothing_for_producers() {
    let place = Place::new();
    let lock = lock(&place);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let hook = listener.local_addr().unwrap();
    let (to_test, connected) = channel();
    std::thread::spawn(move || {
        // None of them is answered, none is closed.
        let mut open: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming() {
            open.push(stream.unwrap());
            if to_test.send(()).is_err() {
                return;
            }
        }
    });
    let hours = [("MDS_FB_HTTP_TIMEOUT", "3600")];
    let daemon = telling(&place, hook, &hours);
    for _ in 0..4 {
        connected.recv_timeout(GUARD).unwrap();
    }
    // Up to the high watermark and beyond, row by row, and down again.
    for row in 1..=100 {
        let reply = daemon.post("/v1/bars", bars(1));
        assert_eq!((reply.status, row), (202, row), "{reply:?}");
    }
    drop(lock);
    for row in 0..200 {
        let reply = daemon.post("/v1/bars", bars(1));
        assert_eq!((reply.status, row), (202, row), "{reply:?}");
    }
    assert!(connected.try_recv().is_err(), "one post of each at a time");
    let outcome = daemon.terminate().code(143);
    assert!(
        outcome.stderr.contains("bars: 300 accepted, "),
        "{outcome:#?}"
    );
}

#[test]
fn all_coordinators_can_be_told_as_one() {
    let place = Place::new();
    let lock = lock(&place);
    let hook = Hook::start();
    let daemon = telling(
        &place,
        hook.address,
        &[("MDS_FB_HTTP_COORDINATOR", "worst")],
    );
    let first = hook.next();
    assert_eq!(first["coordinator_id"], "worst");
    assert_eq!(
        (&first["capacity"], &first["level"]),
        (&json!(400), &json!("ok"))
    );
    daemon.post("/v1/bars", bars(90));
    let hard = hook.wait_for("worst", "hard");
    assert_eq!(hard["reason"], "hard: bars");
    drop(lock);
    hook.wait_for("worst", "ok");
    daemon.terminate().code(143);
}

/// A receiver behind TLS; what it got.
fn receive_by_tls(place: &Place, listener: &TcpListener) -> std::io::Result<Option<Value>> {
    let chain = CertificateDer::pem_file_iter(place.path("hook.crt")).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(place.path("hook.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    stream.flush()?;
    let body = read_body(&mut stream);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    stream.flush()?;
    Ok(body)
}

#[test]
fn by_tls_only_who_has_a_trusted_certificate_is_told() {
    let place = Place::new();
    let mut openssl = Command::new("openssl");
    openssl.current_dir(place.path("")).args(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout hook.key -out hook.crt \
         -days 2 -subj /CN=hook -addext subjectAltName=IP:127.0.0.1 -addext \
         basicConstraints=critical,CA:FALSE"
            .split_whitespace(),
    );
    match openssl.output() {
        Ok(made) => assert!(made.status.success(), "{made:?}"),
        Err(_) => return eprintln!("skipped: openssl is not on this machine"),
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let url = format!("https://{at}/hook/s3cret?x=1");
    let trusted = place.path("hook.crt").display().to_string();
    let env = [
        ("MDS_FB_ENABLE_HTTP_BROADCAST", "true"),
        ("MDS_FB_HTTP_ENDPOINT", &*url),
        ("MDS_FB_HTTP_COORDINATOR", "news"),
        ("MDS_FB_HTTP_MAX_RETRIES", "0"),
        ("SSL_CERT_FILE", &*trusted),
    ];
    let daemon = Daemon::start_with(&place, &[], &env);
    let told = receive_by_tls(&place, &listener).unwrap().unwrap();
    assert_eq!(
        (&told["coordinator_id"], &told["level"]),
        (&json!("news"), &json!("ok"))
    );
    daemon.terminate().code(143);

    // The same certificate, by a name that is not in it.
    let url = format!("https://localhost:{}/hook/s3cret?x=1", at.port());
    let env = env.map(|(name, value)| {
        (
            name,
            if value.starts_with("https") {
                &*url
            } else {
                value
            },
        )
    });
    let daemon = Daemon::start_with(&place, &[], &env);
    assert!(receive_by_tls(&place, &listener).is_err());
    let failing = "mds_feedback_webhook_failing{coord_id=\"news\"} 1\n";
    while !daemon.get("/metrics").body.contains(failing) {}
    let outcome = daemon.terminate().code(143);
    assert!(
        outcome.stderr.contains("failure=it cannot be reached: "),
        "{outcome:#?}"
    );
    assert!(outcome.stderr.contains("certificate"), "{outcome:#?}");
    assert!(!outcome.stderr.contains("s3cret"), "{outcome:#?}");
}

#[test]
fn a_webhook_that_can_never_be_told_ends_the_start() {
    let place = Place::new();
    let run = |env: &[(&str, &str)]| {
        let all = [&[("MDS_FB_ENABLE_HTTP_BROADCAST", "true")], env].concat();
        place.run_with_env(&["serve", "--listen", "127.0.0.1:0"], &all)
    };
    run(&[("MDS_FB_HTTP_ENDPOINT", "http://me:s3cret@h/a b")])
        .code(1)
        .says("the pressure cannot be told to a webhook")
        .says("fb_http_endpoint is no URL");
    // Whatever stands in the file, it is no certificate.
    place.write("none.crt", "");
    let nobody = place.path("none.crt").display().to_string();
    run(&[
        ("MDS_FB_HTTP_ENDPOINT", "https://h/s3cret"),
        ("SSL_CERT_FILE", &nobody),
    ])
    .code(1)
    .says("there are no trusted certificates on this machine");
}

#[test]
fn feedback_that_is_switched_off_sends_nothing_and_readings_stay() {
    let place = Place::new();
    let lock: Connection = lock(&place);
    let hook = Hook::start();
    let daemon = telling(&place, hook.address, &[("MDS_FB_ENABLE_FEEDBACK", "false")]);
    daemon.post("/v1/bars", bars(90));
    let told = daemon.get("/v1/backpressure?coordinator=bars").json();
    assert_eq!(told["level"], "hard");
    let metrics = daemon.get("/metrics").body;
    assert!(
        !metrics.contains("mds_feedback_webhook_posts_total{"),
        "{metrics}"
    );
    drop(lock);
    daemon.terminate().code(143);
    assert!(hook.posts.try_recv().is_err());
}
