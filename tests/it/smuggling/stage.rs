//! The two ends of the proxy: a backend that records every byte by the strictest reading, and a client
//! that believes nothing it did not ask for.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use crate::smuggling::strict::{self, Front, Message};
use crate::support::{Backend, BackendConn, GUARD, Watched};

/// The field by which a client knows an answer of the backend.
pub const MARK: &str = "x-backend";

/// What a backend does for a target.
pub type Act = dyn Fn(&Message) -> Option<Deed> + Send + Sync;

/// Something other than the plain answer.
#[derive(Clone, Debug)]
pub struct Deed {
    /// The answer's bytes.
    pub bytes: Vec<u8>,
    /// Whether it is given as soon as the head is there.
    pub early: bool,
    /// What the connection is afterwards.
    pub then: Then,
}

/// What a backend's connection is after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Ready for another request.
    Open,
    /// Closed in the direction to the proxy.
    Shut,
    /// Another protocol's.
    Tunnel,
}

/// What a backend received.
#[derive(Debug, Default)]
pub struct Record {
    /// Every complete request, in the order of arrival.
    pub requests: Vec<Message>,
    /// What came through tunnels.
    pub tunnelled: Vec<u8>,
    /// What nobody may send, with the bytes in question.
    pub broken: Vec<String>,
}

/// A backend and what it received.
#[derive(Debug)]
pub struct Stage {
    /// The backend.
    pub backend: Backend,
    record: Arc<Watched<Record>>,
}

impl Stage {
    /// Starts a backend that answers plainly, unless `act` knows better.
    pub fn new(act: impl Fn(&Message) -> Option<Deed> + Send + Sync + 'static) -> Self {
        let record = Arc::new(Watched::default());
        let theirs = Arc::clone(&record);
        let backend = Backend::scripted(move |conn, _| serve(conn, &theirs, &act));
        Self { backend, record }
    }

    /// Looks at what was received so far.
    pub fn record<R>(&self, look: impl FnOnce(&mut Record) -> R) -> R {
        self.record.with(look)
    }
}

/// Returns the plain answer to a request: what was understood of it.
pub fn told(request: &Message) -> String {
    let [method, target, _] = &request.line;
    format!("{method} {target} {}", request.body.len())
}

fn plain(request: &Message) -> Deed {
    let text = told(request);
    let body = if request.line[0] == "HEAD" { "" } else { &*text };
    let head = format!("HTTP/1.1 200 OK\r\n{MARK}: 1\r\nContent-Length: {}\r\n\r\n", text.len());
    Deed { bytes: (head + body).into_bytes(), early: false, then: Then::Open }
}

fn serve(conn: &BackendConn, record: &Watched<Record>, act: &Act) {
    let mut stream = conn.stream();
    let mut pending = Vec::new();
    let mut is_answered = false;
    loop {
        let early = strict::request_head(&pending).filter(|_| !is_answered);
        let early = early.and_then(|head| act(&head)).filter(|deed| deed.early);
        if let Some(deed) = early {
            is_answered = true;
            if !answer(stream, &deed) {
                return;
            }
        }
        match strict::request(&pending) {
            Front::Whole(request) => {
                pending.drain(..request.len);
                let deed = act(&request).unwrap_or_else(|| plain(&request));
                record.with(|record| record.requests.push(request));
                if !is_answered && !answer(stream, &deed) {
                    return;
                }
                is_answered = false;
                if deed.then == Then::Tunnel {
                    let bytes = [std::mem::take(&mut pending), received(stream)].concat();
                    return record.with(|record| record.tunnelled.extend(bytes));
                }
            }
            Front::Part => {
                if receive(&mut stream, &mut pending) == 0 {
                    return;
                }
            }
            Front::Broken(why) => {
                let shown = format!("{why}: {}", pending.escape_ascii());
                return record.with(|record| record.broken.push(shown));
            }
        }
    }
}

/// Gives an answer; whoever does not take it is gone.
fn answer(mut stream: &TcpStream, deed: &Deed) -> bool {
    let is_sent = stream.write_all(&deed.bytes).is_ok();
    is_sent && (deed.then != Then::Shut || stream.shutdown(Shutdown::Write).is_ok())
}

/// Appends what comes; 0 is the end, in whatever way.
pub fn receive(stream: &mut impl Read, bytes: &mut Vec<u8>) -> usize {
    let mut room = [0; 16 * 1024];
    loop {
        match stream.read(&mut room) {
            Ok(count) => {
                bytes.extend_from_slice(&room[..count]);
                return count;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("guard: waited {GUARD:?} behind {}", bytes.escape_ascii());
            }
            Err(_) => return 0,
        }
    }
}

/// Reads until the other side has closed.
pub fn received(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    while receive(&mut stream, &mut bytes) > 0 {}
    bytes
}

/// Connects.
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, GUARD);
    let stream = stream.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(GUARD)).expect("a read timeout");
    stream.set_write_timeout(Some(GUARD)).expect("a write timeout");
    stream
}

/// Takes what a client received apart: every response, and what followed a 101.
///
/// `methods` are those of the requests that are answered, in order.
pub fn responses<'m>(
    mut bytes: &[u8],
    mut methods: impl Iterator<Item = &'m str>,
) -> Result<(Vec<Message>, Vec<u8>), String> {
    let mut found = Vec::new();
    let mut method = methods.next().unwrap_or("GET");
    while !bytes.is_empty() {
        match strict::response(bytes, method) {
            Front::Whole(response) => {
                bytes = &bytes[response.len..];
                let status = response.status();
                found.push(response);
                if status == 101 {
                    return Ok((found, bytes.to_vec()));
                }
                if status >= 200 {
                    method = methods.next().unwrap_or("GET");
                }
            }
            Front::Part => return Err(format!("cut off: {}", bytes.escape_ascii())),
            Front::Broken(why) => return Err(format!("{why}: {}", bytes.escape_ascii())),
        }
    }
    Ok((found, Vec::new()))
}
