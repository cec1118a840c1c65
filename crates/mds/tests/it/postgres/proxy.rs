//! A TCP proxy between a store and its server that breaks connections in every way that networks
//! know, and in one that they only do by chance: exactly around a COMMIT.
//!
//! It reads the protocol as far as it must (messages after the startup, without TLS) to know where
//! a write of rows commits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with connections and what they carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Hands everything on.
    Pass,
    /// Nobody listens.
    Refuse,
    /// Connections are accepted and cut.
    Cut,
    /// Connections are accepted, and nothing is handed on, either way.
    Stall,
    /// What the client says arrives; answers do not.
    StallAnswers,
    /// What the client says does not arrive.
    StallRequests,
    /// Bytes a second, either way.
    Slow(usize),
    /// The server's side is closed and the client hears nothing of it.
    HalfOpen,
    /// The client's side is cut and the server hears nothing of it.
    Orphan,
    /// Each connection is cut when it has carried so many bytes to the server.
    CutAfterSent(usize),
    /// Each connection is cut when it has carried so many bytes to the client.
    CutAfterReceived(usize),
    /// Each connection carries so many bytes to the client, and then no more.
    StallAfterReceived(usize),
}

/// What to do with a COMMIT of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtCommit {
    Pass,
    /// Cut before it is handed on: the server rolls back.
    CutBefore,
    /// Cut when the server has committed and before the client hears of it.
    CutAfter,
}

type Decide = Box<dyn FnMut() -> AtCommit + Send>;

/// A running proxy; ends when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Raised to cut what is open.
    epoch: watch::Sender<u64>,
    decide: Mutex<Option<Decide>>,
    accepted: AtomicUsize,
    /// Connections cut before a COMMIT of rows, and after one that the server answered with yes.
    cut_before: AtomicU64,
    cut_after: AtomicU64,
}

impl Shared {
    fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        if matches!(mode, Mode::Refuse | Mode::Cut | Mode::Orphan) {
            self.cut();
        }
    }

    fn cut(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.cut();
    }
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::new(Mode::Pass),
            epoch: watch::Sender::new(0),
            decide: Mutex::new(None),
            accepted: AtomicUsize::new(0),
            cut_before: AtomicU64::new(0),
            cut_after: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, address, Arc::clone(&shared)));
        Self {
            address,
            shared,
            task,
        }
    }

    /// What it does from now on, also with connections that are open.
    pub(crate) fn set(&self, mode: Mode) {
        self.shared.set(mode);
    }

    /// What it does from the commit of rows of this number on.
    pub(crate) fn set_at_commit(&self, number: u64, mode: Mode) {
        let shared = Arc::downgrade(&self.shared);
        let mut commits = 0;
        self.at_commit(move || {
            commits += 1;
            if let Some(shared) = shared.upgrade()
                && commits == number
            {
                shared.set(mode);
            }
            AtCommit::Pass
        });
    }

    /// Asks `decide` at each COMMIT of rows.
    pub(crate) fn at_commit(&self, decide: impl FnMut() -> AtCommit + Send + 'static) {
        *self.shared.decide.lock().unwrap() = Some(Box::new(decide));
    }

    /// Connections that were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections cut before a COMMIT of rows, and after one.
    pub(crate) fn cuts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (
            count(&self.shared.cut_before),
            count(&self.shared.cut_after),
        )
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let mut listener = Some(listener);
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = None;
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = listener.get_or_insert_with(|| listen(address));
        tokio::select! {
            accepted = open.accept() => {
                let Ok((client, _)) = accepted else { continue };
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                if *mode.borrow() != Mode::Cut {
                    drop(tokio::spawn(carry(client, Arc::clone(&shared))));
                }
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

/// Listens again where it listened before.
fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap()
}

/// Carries one connection until either side, or the proxy, ends it.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut epoch = shared.epoch.subscribe();
    epoch.mark_unchanged();
    let mut mode = shared.mode.subscribe();
    // A server that is not reached yet is not told from one that is.
    if mode.wait_for(|mode| *mode != Mode::Stall).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(shared.upstream).await else {
        return;
    };
    for socket in [&client, &server] {
        socket.set_nodelay(true).unwrap();
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let mut to_server = Some(to_server);
    // Answers are held back from the moment at which a COMMIT was let through that the client
    // shall not hear of.
    let held = watch::Sender::new(false);
    let requests = Requests {
        shared: &shared,
        held: &held,
        mode: shared.mode.subscribe(),
        is_writing: false,
    };
    let answers = Answers {
        shared: &shared,
        held: &held,
        mode: shared.mode.subscribe(),
    };
    tokio::select! {
        () = requests.carry(&mut from_client, &mut to_server) => {}
        () = answers.carry(&mut from_server, &mut to_client) => {}
        _ = epoch.changed() => {}
    }
    drop((from_client, to_client));
    drop(mode.wait_for(|mode| *mode != Mode::Orphan).await);
}

/// The direction from the client to the server.
struct Requests<'a> {
    shared: &'a Shared,
    held: &'a watch::Sender<bool>,
    mode: watch::Receiver<Mode>,
    /// The open transaction has said that it writes rows.
    is_writing: bool,
}

impl Requests<'_> {
    async fn carry(mut self, from: &mut OwnedReadHalf, to: &mut Option<OwnedWriteHalf>) {
        let (mut waiting, mut ready) = (BytesMut::new(), BytesMut::new());
        let mut is_startup = true;
        let mut carried = 0;
        loop {
            waiting.reserve(READ);
            match from.read_buf(&mut waiting).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let mut verdict = AtCommit::Pass;
            while verdict == AtCommit::Pass
                && let Some(message) = take_message(&mut waiting, is_startup)
            {
                is_startup = false;
                verdict = self.look_at(&message);
                if verdict != AtCommit::CutBefore {
                    ready.extend_from_slice(&message);
                }
            }
            if verdict == AtCommit::CutAfter {
                self.held.send_replace(true);
            }
            // Nobody listens, and nobody says so.
            if *self.mode.borrow() == Mode::HalfOpen {
                *to = None;
            }
            if let Some(open) = to {
                let stalls = |mode: &Mode| matches!(mode, Mode::Stall | Mode::StallRequests);
                let limit = match *self.mode.borrow() {
                    Mode::CutAfterSent(limit) => limit.saturating_sub(carried),
                    _ => usize::MAX,
                };
                let is_last = ready.len() >= limit;
                ready.truncate(limit);
                carried += ready.len();
                if !hand_on(&mut ready, open, &mut self.mode, stalls).await || is_last {
                    return;
                }
            } else {
                ready.clear();
            }
            if verdict == AtCommit::CutBefore {
                self.shared.cut_before.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }

    fn look_at(&mut self, message: &[u8]) -> AtCommit {
        let is_text = matches!(message.first(), Some(b'Q' | b'P'));
        let has = |text: &[u8]| is_text && message.windows(text.len()).any(|w| w == text);
        if has(b"BEGIN") {
            self.is_writing = false;
        }
        self.is_writing |= has(b"INSERT INTO bars") || has(b"UPDATE bars") || has(b"COPY bars");
        if !has(b"COMMIT") || !self.is_writing {
            return AtCommit::Pass;
        }
        self.is_writing = false;
        let mut decide = self.shared.decide.lock().unwrap();
        decide.as_mut().map_or(AtCommit::Pass, |decide| decide())
    }
}

/// Takes one whole message off the front.
fn take_message(bytes: &mut BytesMut, is_startup: bool) -> Option<BytesMut> {
    let tag = usize::from(!is_startup);
    let length = bytes.get(tag..tag + 4)?.try_into().ok()?;
    let length = tag + u32::from_be_bytes(length) as usize;
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

/// The direction from the server to the client.
struct Answers<'a> {
    shared: &'a Shared,
    held: &'a watch::Sender<bool>,
    mode: watch::Receiver<Mode>,
}

impl Answers<'_> {
    async fn carry(mut self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let mut bytes = BytesMut::new();
        let mut carried = 0;
        loop {
            bytes.reserve(READ);
            match from.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => {
                    if *self.mode.borrow() == Mode::HalfOpen {
                        // The client is to hear nothing of it, until the fault is over.
                        let over = self.mode.wait_for(|mode| *mode != Mode::HalfOpen);
                        drop(over.await);
                    }
                    return;
                }
                Ok(_) => {}
            }
            if *self.held.borrow() {
                let says = |tag: &[u8]| bytes.windows(tag.len()).any(|w| w == tag);
                if says(COMMITTED) {
                    self.shared.cut_after.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if !says(ROLLED_BACK) {
                    continue;
                }
                self.held.send_replace(false);
            }
            let stalls =
                |mode: &Mode| matches!(mode, Mode::Stall | Mode::StallAnswers | Mode::HalfOpen);
            let now = *self.mode.borrow();
            let limit = match now {
                Mode::CutAfterReceived(limit) | Mode::StallAfterReceived(limit) => {
                    limit.saturating_sub(carried)
                }
                _ => usize::MAX,
            };
            let is_last = bytes.len() >= limit;
            bytes.truncate(limit);
            carried += bytes.len();
            if !hand_on(&mut bytes, to, &mut self.mode, stalls).await {
                return;
            }
            if is_last {
                if matches!(now, Mode::StallAfterReceived(_)) {
                    drop(self.mode.wait_for(|mode| *mode != now).await);
                }
                return;
            }
        }
    }
}

/// Bytes that are read at once, at most.
const READ: usize = 1 << 16;
/// How a server says that it has committed.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
/// And how it answers a COMMIT of what had failed already.
const ROLLED_BACK: &[u8] = b"C\0\0\0\x0dROLLBACK\0";

/// Writes all bytes, as the mode allows; `false` when the other side is gone.
async fn hand_on(
    bytes: &mut BytesMut,
    to: &mut OwnedWriteHalf,
    mode: &mut watch::Receiver<Mode>,
    stalls: impl Fn(&Mode) -> bool,
) -> bool {
    while !bytes.is_empty() {
        let Ok(now) = mode.wait_for(|mode| !stalls(mode)).await.map(|mode| *mode) else {
            return false;
        };
        let part = match now {
            Mode::Slow(per_second) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                bytes.len().min(per_second / 50 + 1)
            }
            _ => bytes.len(),
        };
        match to.write(&bytes[..part]).await {
            Ok(0) | Err(_) => return false,
            Ok(written) => bytes.advance(written),
        }
    }
    true
}
