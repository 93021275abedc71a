//! Backends that a test scripts in bytes.
//!
//! A script runs in a thread for each accepted connection. Declare the backend before the proxy: it
//! is then dropped after it, waits for its scripts, and fails the test with what they found. A
//! script that outlives the test's last step sees the proxy leave, so a loop over requests ends
//! with [`Peer::next_request`] and not with a panic.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use socket2::{Domain, Socket, Type};

use super::peer::Peer;
use super::{GUARD, Request, Watched};

/// A scripted backend.
#[derive(Debug)]
pub struct Backend {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// One accepted connection; what it can do is on [`Peer`].
#[derive(Debug)]
pub struct BackendConn(Peer);

#[derive(Debug, Default)]
struct Shared {
    /// Where the connection comes from that ends the acceptor. What was queued before it still
    /// gets its script.
    closer: Watched<Option<SocketAddr>>,
    progress: Watched<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    accepted: usize,
    ended: usize,
    /// What scripts panicked with.
    failures: Vec<String>,
    requests: Vec<Request>,
}

impl Backend {
    /// Listens on 127.0.0.1; `script` gets each connection and its number, counted from 0.
    pub fn scripted(script: impl Fn(&mut BackendConn, usize) + Send + Sync + 'static) -> Self {
        Self::scripted_on("127.0.0.1:0", script)
    }

    /// Listens on `::1`.
    pub fn scripted_on_ipv6(
        script: impl Fn(&mut BackendConn, usize) + Send + Sync + 'static,
    ) -> Self {
        Self::scripted_on("[::1]:0", script)
    }

    /// Listens on an address of the test's choice, such as one where a backend was before.
    pub fn scripted_on(
        addr: &str,
        script: impl Fn(&mut BackendConn, usize) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        Self::start(addr, shared, Arc::new(script))
    }

    /// Records every request and answers each with `200` and the body `ok`; connections persist.
    pub fn recording() -> Self {
        let shared = Arc::new(Shared::default());
        let recorder = Arc::clone(&shared);
        let script = move |conn: &mut BackendConn, _| answer_all(conn, &recorder);
        Self::start("127.0.0.1:0", shared, Arc::new(script))
    }

    /// Returns the address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the value for `proxy_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns how many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.shared.progress.with(|progress| progress.accepted)
    }

    /// Waits until this many connections were accepted.
    pub fn wait_for_accepted(&self, count: usize) {
        self.wait(&format!("{count} connections"), |progress| progress.accepted >= count);
    }

    /// Waits until this many scripts have ended; fails with what they failed with.
    ///
    /// A test whose script has assertions after the client's last step calls it before the proxy is
    /// dropped.
    pub fn wait_for_scripts(&self, count: usize) {
        self.wait(&format!("{count} scripts to end"), |progress| progress.ended >= count);
    }

    /// Returns what [`Backend::recording`] has received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.progress.with(|progress| progress.requests.clone())
    }

    fn wait(&self, what: &str, mut reached: impl FnMut(&Progress) -> bool) {
        let found = self.shared.progress.wait(GUARD, |progress| {
            let over = reached(progress) || !progress.failures.is_empty();
            over.then(|| std::mem::take(&mut progress.failures))
        });
        let failures = found.unwrap_or_else(|| panic!("guard: waited {GUARD:?} for {what}"));
        assert!(failures.is_empty(), "the backend's script failed: {failures:#?}");
    }

    fn start(addr: &str, shared: Arc<Shared>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind(addr).unwrap_or_else(|e| panic!("binding {addr}: {e}"));
        let addr = listener.local_addr().expect("a bound socket has an address");
        let theirs = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &theirs, &script));
        Self { addr, shared, acceptor: Some(acceptor) }
    }
}

impl Backend {
    /// Ends the acceptor; `false` if it has panicked. One in a network of its own is out of reach and
    /// stays until the test process ends.
    fn close(&mut self) -> bool {
        let socket = Socket::new(Domain::for_address(self.addr), Type::STREAM, None);
        let closer = socket.expect("a socket");
        if closer.bind(&SocketAddr::new(self.addr.ip(), 0).into()).is_err() {
            return true;
        }
        self.shared.closer.with(|addr| *addr = Some(addr_of(&closer)));
        drop(closer.connect_timeout(&self.addr.into(), GUARD));
        self.acceptor.take().is_none_or(|acceptor| acceptor.join().is_ok())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let ended = self.close();
        let failures = self.shared.progress.with(|progress| std::mem::take(&mut progress.failures));
        if std::thread::panicking() {
            // A second panic would abort the run.
            for failure in failures {
                println!("the backend's script failed too: {failure}");
            }
        } else {
            assert!(failures.is_empty(), "the backend's script failed: {failures:#?}");
            assert!(ended, "the backend's acceptor panicked");
        }
    }
}

type Script = dyn Fn(&mut BackendConn, usize) + Send + Sync;

fn accept(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<Script>) {
    let mut scripts = Vec::new();
    for number in 0.. {
        let (stream, from) = listener.accept().expect("accepting on loopback");
        if shared.closer.with(|addr| *addr == Some(from)) {
            break;
        }
        shared.progress.with(|progress| progress.accepted += 1);
        let (shared, script) = (Arc::clone(shared), Arc::clone(script));
        scripts.push(std::thread::spawn(move || run(stream, number, &shared, &*script)));
        scripts.retain(|script| !script.is_finished());
    }
    for script in scripts {
        script.join().expect("a script's panic is caught in its thread");
    }
}

fn answer_all(conn: &mut BackendConn, recorder: &Shared) {
    while let Some(request) = conn.next_request() {
        let body = if request.method == "HEAD" { "" } else { "ok" };
        recorder.progress.with(|progress| progress.requests.push(request));
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}"));
    }
}

fn run(stream: TcpStream, number: usize, shared: &Shared, script: &Script) {
    let mut conn = BackendConn(Peer::new(stream, "backend"));
    let outcome = catch_unwind(AssertUnwindSafe(|| script(&mut conn, number)));
    // Closed before the end is announced, so that whoever waited for it sees a closed connection.
    drop(conn);
    shared.progress.with(|progress| {
        progress.ended += 1;
        if let Err(panic) = outcome {
            progress.failures.push(format!("connection {number}: {}", message(&*panic)));
        }
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

impl Deref for BackendConn {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl DerefMut for BackendConn {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.0
    }
}

/// An address that refuses connections for as long as this lives: bound, not listening.
#[derive(Debug)]
pub struct Refusing(Socket);

impl Refusing {
    /// Reserves a port on 127.0.0.1.
    pub fn start() -> Self {
        Self(bound_socket(LOOPBACK))
    }

    /// Returns the address.
    pub fn addr(&self) -> SocketAddr {
        addr_of(&self.0)
    }

    /// Returns the value for `proxy_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }
}

/// An address where connecting neither succeeds nor fails: its accept queue is full, and Linux
/// drops what does not fit.
#[derive(Debug)]
pub struct Unaccepting {
    listener: Socket,
    _queued: Vec<Socket>,
}

impl Unaccepting {
    /// Listens on 127.0.0.1 and fills the queue.
    pub fn start() -> Self {
        let listener = bound_socket(LOOPBACK);
        listener.listen(0).expect("listening on loopback");
        let addr = addr_of(&listener).into();
        let queued = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket that does not block");
            // The queue holds one; the others stay in progress, which std reports as an error.
            drop(socket.connect(&addr));
            socket
        });
        Self { _queued: queued.collect(), listener }
    }

    /// Returns the address.
    pub fn addr(&self) -> SocketAddr {
        addr_of(&self.listener)
    }

    /// Returns the value for `proxy_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }
}

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Returns a socket with a free port of its own on this address.
fn bound_socket(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(addr.ip(), 0).into()).expect("a free port on loopback");
    socket
}

fn addr_of(socket: &Socket) -> SocketAddr {
    let addr = socket.local_addr().expect("a bound socket has an address");
    addr.as_socket().expect("an IP address")
}
