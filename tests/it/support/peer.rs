//! One end of a TCP connection that a test scripts in bytes; [`Client`] and [`BackendConn`] are one.
//!
//! What was read past a message stays here as early bytes, and every read looks there first.
//!
//! [`Client`]: super::Client
//! [`BackendConn`]: super::BackendConn

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::GUARD;
use super::message::{BodyEnd, Field, Request, Response, fields_of, latin1};

/// Most bytes taken from the socket by one read.
const READ_BYTES: usize = 64 * 1024;

/// How the other end closed its sending direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// In order: a body that lasts until the close is complete.
    InOrder,
    /// By a reset.
    ByReset,
}

/// A connection with a guard on every operation.
#[derive(Debug)]
pub struct Peer {
    /// `None` once it was reset.
    stream: Option<TcpStream>,
    /// Who speaks in a failure's message.
    role: &'static str,
    /// Bytes received and not yet consumed.
    early: Vec<u8>,
    /// Bytes consumed since a tape was put in.
    tape: Option<Vec<u8>>,
}

impl Peer {
    /// Takes over a connected stream: no delay, and the guard on reads and writes.
    pub fn new(stream: TcpStream, role: &'static str) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY on a fresh socket");
        let peer = Self { stream: Some(stream), role, early: Vec::new(), tape: None };
        peer.set_guard(GUARD);
        peer
    }

    /// Replaces the guard, for a script whose peer is meant to be silent for longer.
    pub fn set_guard(&self, guard: Duration) {
        self.stream().set_read_timeout(Some(guard)).expect("a read timeout");
        self.stream().set_write_timeout(Some(guard)).expect("a write timeout");
    }

    /// Returns the socket itself, for options that a script wants to set.
    pub fn stream(&self) -> &TcpStream {
        self.stream.as_ref().expect("the connection was not reset by this script")
    }

    /// Returns a second handle of the same socket, for a thread that moves the other direction.
    ///
    /// It starts without early bytes. [`Peer::reset`] and closing take effect with the last handle.
    pub fn second_handle(&self) -> Self {
        let stream = self.stream().try_clone().expect("a second descriptor");
        Self { stream: Some(stream), role: self.role, early: Vec::new(), tape: None }
    }

    /// Returns this end's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream().local_addr().expect("a connected socket has an address")
    }

    /// Returns the other end's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.stream().peer_addr().expect("a connected socket has a peer")
    }

    // Sending.

    /// Sends all the bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("{}: sending {}: {error}", self.role, shown(bytes)));
    }

    /// Sends all the bytes, for a script in which the other end may already have left.
    ///
    /// # Errors
    ///
    /// The caller decides whether the other end was allowed to close.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream();
        stream.write_all(bytes).map_err(|error| guarded(error, "the other end took no bytes"))
    }

    /// Sends the bytes cut at the given positions, one write for each piece.
    ///
    /// Without delay each piece usually is a segment; the receiver may still see some together.
    pub fn send_in_pieces(&mut self, bytes: impl AsRef<[u8]>, cuts: &[usize]) {
        let bytes = bytes.as_ref();
        let mut start = 0;
        for end in cuts.iter().copied().chain([bytes.len()]) {
            self.send(&bytes[start..end]);
            start = end;
        }
    }

    /// Closes the sending direction.
    pub fn shutdown_write(&mut self) {
        self.stream().shutdown(Shutdown::Write).expect("shutting down the sending direction");
    }

    /// Closes with a reset: the other end gets `ECONNRESET`.
    pub fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        }
    }

    // Receiving bytes.

    /// Returns what was received and not yet consumed.
    pub fn early(&self) -> &[u8] {
        &self.early
    }

    /// Reads one head with its empty line.
    pub fn read_head(&mut self) -> Vec<u8> {
        self.next_head().unwrap_or_else(|| panic!("{}: closed where a head was due", self.role))
    }

    /// Reads one head; `None` when the other end closed or reset before its first byte.
    pub fn next_head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.early.windows(4).position(|four| four == b"\r\n\r\n") {
                return Some(self.consume(at + 4));
            }
            match self.receive("a head") {
                Ok(0) if self.early.is_empty() => return None,
                Ok(0) => panic!("{}: closed within a head: {}", self.role, shown(&self.early)),
                Ok(_) => {}
                Err(error) if reset(&error) && self.early.is_empty() => return None,
                Err(error) => panic!("{}: reading a head: {error}", self.role),
            }
        }
    }

    /// Reads exactly this many bytes.
    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.early.len() < count {
            self.receive_or_fail(&format!("{count} bytes"));
        }
        self.consume(count)
    }

    /// Reads as many bytes as `expected` has and compares them.
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let got = self.read_exact(expected.len());
        assert!(got == expected, "{}: {} instead of {}", self.role, shown(&got), shown(expected));
    }

    /// Reads one line and returns it without its CRLF.
    pub fn read_line(&mut self) -> String {
        loop {
            if let Some(at) = self.early.windows(2).position(|two| two == b"\r\n") {
                let line = latin1(&self.consume(at));
                self.consume(2);
                return line;
            }
            self.receive_or_fail("a line");
        }
    }

    /// Reads what is there, waiting for the first byte; empty when the other end closed.
    pub fn read_some(&mut self) -> Vec<u8> {
        self.try_read_some().unwrap_or_else(|error| panic!("{}: reading: {error}", self.role))
    }

    /// As [`Peer::read_some`], where the other end may have reset the connection.
    pub fn try_read_some(&mut self) -> io::Result<Vec<u8>> {
        if self.early.is_empty() {
            self.receive("bytes")?;
        }
        Ok(self.consume(self.early.len()))
    }

    /// Reads until the other end closes its sending direction.
    pub fn read_to_eof(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let some = self.read_some();
            if some.is_empty() {
                return bytes;
            }
            bytes.extend(some);
        }
    }

    /// Reads until the other end closes in whatever way, and says in which.
    pub fn read_until_closed(&mut self) -> (Vec<u8>, Closed) {
        loop {
            match self.receive("the end") {
                Ok(0) => return (self.consume(self.early.len()), Closed::InOrder),
                Ok(_) => {}
                Err(error) if reset(&error) => {
                    return (self.consume(self.early.len()), Closed::ByReset);
                }
                Err(error) => panic!("{}: instead of the end: {error}", self.role),
            }
        }
    }

    /// Asserts that the other end closed its sending direction and sent nothing before.
    pub fn expect_eof(&mut self) {
        let got = self.read_some();
        assert!(got.is_empty(), "{}: {} instead of the end", self.role, shown(&got));
    }

    /// Asserts that the other end reset the connection; bytes before are skipped.
    pub fn expect_reset(&mut self) {
        loop {
            self.early.clear();
            match self.receive("a reset") {
                Ok(0) => panic!("{}: closed in order instead of reset", self.role),
                Ok(_) => {}
                Err(error) if reset(&error) => return,
                Err(error) => panic!("{}: instead of a reset: {error}", self.role),
            }
        }
    }

    /// Asserts that the other end closed, in order or by a reset; bytes before are skipped.
    pub fn expect_closed(&mut self) {
        loop {
            self.early.clear();
            match self.receive("the end") {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if reset(&error) => return,
                Err(error) => panic!("{}: instead of the end: {error}", self.role),
            }
        }
    }

    // Receiving messages.

    /// Reads a request with its body.
    pub fn read_request(&mut self) -> Request {
        self.next_request().unwrap_or_else(|| panic!("{}: closed, no request", self.role))
    }

    /// Reads a request with its body; `None` when the other end closed or reset instead.
    pub fn next_request(&mut self) -> Option<Request> {
        self.tape = Some(Vec::new());
        let mut request = self.next_head().map(|head| Request::from_head(&head))?;
        (request.body, request.trailers) = self.read_body(BodyEnd::of_request(&request));
        request.raw = self.tape.take().unwrap_or_default();
        Some(request)
    }

    /// Reads only a request's head, for a script that reads the body itself.
    pub fn read_request_head(&mut self) -> Request {
        Request::from_head(&self.read_head())
    }

    /// Reads the response to a request whose response may have a body.
    pub fn read_response(&mut self) -> Response {
        self.read_response_to("GET")
    }

    /// Reads the response to a request with this method. A 1xx is a response of its own.
    pub fn read_response_to(&mut self, method: &str) -> Response {
        let mut response = self.read_response_head();
        let end = BodyEnd::of_response(&response, method);
        (response.body, response.trailers) = self.read_body(end);
        response
    }

    /// Reads only a response's head, for a script that reads the body itself.
    pub fn read_response_head(&mut self) -> Response {
        Response::from_head(&self.read_head())
    }

    /// Reads one chunk (RFC 9112 §7.1); `None` for the last one, then the trailers are next.
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.read_line();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .unwrap_or_else(|_| panic!("{}: a bad chunk size: {line:?}", self.role));
        if size == 0 {
            return None;
        }
        let chunk = self.read_exact(size);
        self.expect("\r\n");
        Some(chunk)
    }

    /// Reads the trailers and the empty line that ends a chunked body.
    pub fn read_trailers(&mut self) -> Vec<Field> {
        let mut lines = String::new();
        loop {
            let line = self.read_line();
            if line.is_empty() {
                return fields_of(&lines);
            }
            lines.push_str(&line);
            lines.push('\n');
        }
    }

    fn read_body(&mut self, end: BodyEnd) -> (Vec<u8>, Vec<Field>) {
        match end {
            BodyEnd::Length(length) => (self.read_exact(length), Vec::new()),
            BodyEnd::Close => (self.read_to_eof(), Vec::new()),
            BodyEnd::Chunked => {
                let mut body = Vec::new();
                while let Some(chunk) = self.read_chunk() {
                    body.extend(chunk);
                }
                (body, self.read_trailers())
            }
        }
    }

    /// Takes bytes from the front; the only place where early bytes leave for a script.
    fn consume(&mut self, count: usize) -> Vec<u8> {
        let rest = self.early.split_off(count);
        let taken = std::mem::replace(&mut self.early, rest);
        if let Some(tape) = &mut self.tape {
            tape.extend_from_slice(&taken);
        }
        taken
    }

    fn receive_or_fail(&mut self, what: &str) {
        match self.receive(what) {
            Ok(0) => panic!("{}: closed before {what}: {}", self.role, shown(&self.early)),
            Ok(_) => {}
            Err(error) => panic!("{}: reading {what}: {error}", self.role),
        }
    }

    fn receive(&mut self, what: &str) -> io::Result<usize> {
        let filled = self.early.len();
        self.early.resize(filled + READ_BYTES, 0);
        let mut stream = self.stream.as_ref().expect("the connection was not reset by this script");
        let outcome = loop {
            match stream.read(&mut self.early[filled..]) {
                // A read with a timeout is not restarted after a signal, and a proxy of another test
                // that exits may send one to any thread (SIGCHLD).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.early.truncate(filled + *outcome.as_ref().unwrap_or(&0));
        outcome.map_err(|error| {
            guarded(error, &format!("waited for {what}, got {}", shown(&self.early)))
        })
    }
}

/// Whether an operation failed because the other end has reset the connection.
pub fn reset(error: &io::Error) -> bool {
    // A peer that wrote after the reset was received sees a broken pipe.
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn guarded(error: io::Error, what: &str) -> io::Error {
    let expired = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    if expired {
        return io::Error::new(io::ErrorKind::TimedOut, format!("the guard expired: {what}"));
    }
    error
}

/// Returns bytes as they are shown in a failure: escaped, the first few hundred.
fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(300)];
    format!("{} bytes \"{}\"", bytes.len(), start.escape_ascii())
}
