//! One thread per connection: read a head, then serve the page or echo messages.
//!
//! A connection serves one request and is closed. An idle pooled connection would otherwise hold one
//! of the few threads that there are.
#![expect(clippy::disallowed_types, reason = "threads of its own, where blocking is the point")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

/// Connections, and so threads, at the same time; arbitrary, and more than one visitor needs.
const CONNECTIONS_MAX: usize = 128;

/// Bytes of a request head; more is refused with 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields of a request head.
const HEAD_FIELDS_MAX: usize = 64;

/// Bytes of one message; a larger one closes its connection with code 1009.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a request body read and thrown away, so that the answer is not lost to a reset.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// How long a head may pause, and how long an answer may wait for its reader.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the listener rests after a refused accept, which is mostly a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The subprotocol that the page offers (RFC 6455 §1.9).
const SUBPROTOCOL: &str = "demo";

const PAGE: &str = include_str!("page.html");

/// Accepts connections until the end of the process.
pub(super) fn accept_loop(listener: &TcpListener) {
    let taken = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            thread::park_timeout(ACCEPT_PAUSE);
            continue;
        };
        let Some(place) = Place::take(&taken) else {
            // Closed without an answer: the client of a full demo sees the proxy's 502.
            continue;
        };
        let spawned = thread::Builder::new().name("demo-conn".to_owned()).spawn(move || {
            let ended = serve(stream);
            drop(place);
            ended
        });
        // A refused thread has dropped its connection: the same as a full house.
        drop(spawned);
    }
}

/// One of the [`CONNECTIONS_MAX`] places; dropping it frees the place.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        // Only the accepting thread adds, so looking first cannot overshoot.
        if taken.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            return None;
        }
        taken.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request head asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// `GET /`, or `HEAD /` without its content.
    Page { content: bool },
    /// `/ws` with an `Upgrade` field; whether it is a good handshake is tungstenite's to say.
    Socket,
    /// Something that is not there.
    Unknown,
    /// Bytes that are no request head.
    Malformed,
    /// A head of more than [`HEAD_BYTES_MAX`] bytes or [`HEAD_FIELDS_MAX`] fields.
    TooLarge,
}

/// Serves the one request of a connection.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let Some((asked, bytes, head_bytes)) = read_head(&mut stream)? else { return Ok(()) };
    match asked {
        Asked::Page { content } => {
            let body = if content { PAGE } else { "" };
            answer(&mut stream, "200 OK", "text/html; charset=utf-8", (PAGE.len(), body))?;
        }
        Asked::Socket => {
            stream.set_read_timeout(None)?;
            if echo(Replayed { bytes, split: head_bytes, taken: 0, stream: &mut stream }) {
                return Ok(());
            }
            refuse(&mut stream, "400 Bad Request", "This is not a WebSocket handshake.\n")?;
        }
        Asked::Unknown => {
            refuse(
                &mut stream,
                "404 Not Found",
                "The demo has a page at / and a WebSocket at /ws.\n",
            )?;
        }
        Asked::Malformed => refuse(&mut stream, "400 Bad Request", "Malformed request.\n")?,
        Asked::TooLarge => {
            refuse(&mut stream, "431 Request Header Fields Too Large", "The head is too large.\n")?;
        }
    }
    linger(stream)
}

/// Reads up to the end of a request head.
///
/// Returns what it asks for, the bytes read and how many of them are the head; `None` when the peer
/// closes first.
fn read_head(stream: &mut impl Read) -> io::Result<Option<(Asked, Vec<u8>, usize)>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let count = stream.read(&mut chunk)?;
        let Some(fresh) = chunk.get(..count).filter(|fresh| !fresh.is_empty()) else {
            return Ok(None);
        };
        bytes.extend_from_slice(fresh);
        if let Some((asked, head_bytes)) = asked(&bytes) {
            return Ok(Some((asked, bytes, head_bytes)));
        }
    }
}

/// Returns what the head at the front of `bytes` asks for, and its length; `None` while it is
/// incomplete.
fn asked(bytes: &[u8]) -> Option<(Asked, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some((Asked::TooLarge, bytes.len()));
        }
        Err(_) => return Some((Asked::Malformed, bytes.len())),
    };
    let upgrades = request.headers.iter().any(|field| field.name.eq_ignore_ascii_case("upgrade"));
    let path = request.path.and_then(|target| target.split('?').next());
    let asked = match (request.method, path) {
        (Some("GET"), Some("/")) => Asked::Page { content: true },
        (Some("HEAD"), Some("/")) => Asked::Page { content: false },
        (_, Some("/ws")) if upgrades => Asked::Socket,
        _ => Asked::Unknown,
    };
    Some((asked, head_bytes))
}

/// A stream whose first bytes were read already: they are read again, then the rest.
///
/// The head is given out by itself, because tungstenite refuses a handshake that has frames right
/// behind it in the same read, which a client may well send.
struct Replayed<'a> {
    bytes: Vec<u8>,
    /// Where the head ends. `split <= bytes.len()`.
    split: usize,
    /// Bytes given out. `taken <= bytes.len()`.
    taken: usize,
    stream: &'a mut TcpStream,
}

impl Read for Replayed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = if self.taken < self.split { self.split } else { self.bytes.len() };
        match self.bytes.get(self.taken..end) {
            Some(mut early) if !early.is_empty() => {
                let count = early.read(buffer)?;
                self.taken += count;
                Ok(count)
            }
            _ => self.stream.read(buffer),
        }
    }
}

impl Write for Replayed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Answers the handshake and sends every message back until one side closes.
///
/// Returns false, with nothing written, when the request is not a handshake.
fn echo(stream: Replayed<'_>) -> bool {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match tungstenite::accept_hdr_with_config(stream, choose_subprotocol, Some(config)) {
        Ok(mut socket) => {
            // A peer that is gone ends its connection; there is nobody to tell.
            if let Err(Error::Capacity(_)) = echo_messages(&mut socket) {
                refuse_message(&mut socket);
            }
            true
        }
        Err(_) => false,
    }
}

fn echo_messages(socket: &mut WebSocket<Replayed<'_>>) -> Result<(), Error> {
    loop {
        match socket.read()? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message)?,
            // The answers to ping and close are queued by tungstenite and go out with the next read,
            // which ends the loop after a close.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
}

/// Says why a message that is too large ends the connection (RFC 6455 §7.4.1).
fn refuse_message(socket: &mut WebSocket<Replayed<'_>>) {
    use tungstenite::protocol::CloseFrame;
    use tungstenite::protocol::frame::coding::CloseCode;

    let frame = CloseFrame { code: CloseCode::Size, reason: "message too large".into() };
    let sent = socket.close(Some(frame)).and_then(|()| socket.flush());
    // Whether the peer still hears it makes no difference: the connection ends here.
    drop(sent);
}

/// Accepts the subprotocol of the page where it is offered.
#[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the callback's signature")]
fn choose_subprotocol(
    request: &Request,
    mut response: Response,
) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut offered = offered.iter().filter_map(|line| line.to_str().ok());
    if offered.any(|line| line.split(',').any(|name| name.trim() == SUBPROTOCOL)) {
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    Ok(response)
}

/// Writes an answer of plain text.
fn refuse(stream: &mut TcpStream, status: &str, text: &str) -> io::Result<()> {
    answer(stream, status, "text/plain; charset=utf-8", (text.len(), text))
}

/// Writes an answer; `content` is its length and what of it is sent, which for HEAD is nothing.
fn answer(
    stream: &mut TcpStream,
    status: &str,
    content_type: &str,
    content: (usize, &str),
) -> io::Result<()> {
    let (length, body) = content;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes())
}

/// Ends the answer and waits for the peer to have read it: closing a socket with unread bytes resets
/// the connection and takes the answer with it (RFC 9112 §9.6).
fn linger(stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream.take(BODY_BYTES_MAX), &mut io::sink()).map(|_| ())
}
