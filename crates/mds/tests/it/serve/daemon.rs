//! A daemon in a folder of its own, and a client of a few lines.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::process::Running;
use crate::run::{Outcome, Place};

/// How long a daemon may take for anything before a test is taken to hang.
const HANG: Duration = Duration::from_secs(60);

/// A daemon that runs; it is killed when this is dropped.
pub(crate) struct Daemon {
    running: Running,
    pub(crate) address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The word for programs.
    pub(crate) fn code(&self) -> (u16, String) {
        let code = self.json()["code"].as_str().unwrap_or("?").to_owned();
        (self.status, code)
    }
}

impl Daemon {
    /// Starts one on a free port, and waits until it serves.
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        Self::start_with(place, args, &[])
    }

    pub(crate) fn start_with(place: &Place, args: &[&str], env: &[(&str, &str)]) -> Self {
        let all = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let mut running = Running::new(place.command(&all).envs(env.iter().copied()));
        let line = running.wait_for("serving http://");
        let served = line.split("serving http://").nth(1);
        let address = served.and_then(|rest| rest.split(';').next()?.parse().ok());
        Self {
            running,
            address: address.unwrap_or_else(|| panic!("{line}")),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(self) -> Outcome {
        self.running.signal("TERM");
        self.running.outcome()
    }

    pub(crate) fn kill(self) -> Outcome {
        self.running.signal("KILL");
        self.running.outcome()
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.ask("POST", path, &[], body.as_ref())
    }

    pub(crate) fn post_as(&self, path: &str, kind: &str, body: impl AsRef<[u8]>) -> Reply {
        self.ask("POST", path, &[("content-type", kind)], body.as_ref())
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let reply = ask(self.address, method, path, headers, body);
        reply.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }
}

/// Asks once; `None` where there is no whole answer.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{}content-length: {}\r\nconnection: \
         close\r\n\r\n",
        headers.collect::<String>(),
        body.len()
    );
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.write_all(head.as_bytes()).ok()?;
    // The answer may come before all of a body that is too long was sent.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    reply(&String::from_utf8(answer).ok()?)
}

fn reply(text: &str) -> Option<Reply> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    });
    let headers: BTreeMap<String, String> = headers.collect();
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse::<usize>().ok());
    let is_chunked = headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding == "chunked");
    let body = if is_chunked {
        whole(body)?
    } else {
        body.to_owned()
    };
    length
        .is_none_or(|length| length == body.len())
        .then_some(Reply {
            status,
            headers,
            body,
        })
}

/// A body of chunks as one text, if it has its end.
fn whole(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..length)?);
        chunks = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}
