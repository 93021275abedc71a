//! A client's connection as a whole: bytes in any pieces become the same requests, and what is made of
//! them for a backend is as many.

use phantom_frame::http1::chunked::{Decoder, LAST_CHUNK, chunk_head};
use phantom_frame::http1::framing::Framing;
use phantom_frame::http1::head::{HeadScanner, RequestHead};
use phantom_frame::http1::{forward, upgrade};
use phantom_frame::proxy::decide::ask;

use super::{FIELDS_MAX, forwards, shown};

/// Bytes of a head, the default limit.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Bytes of a trailer section.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// A request as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The method.
    pub method: String,
    /// The target as it was sent.
    pub target: Vec<u8>,
    /// Where the body ends.
    pub framing: Framing,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer lines.
    pub trailers: Vec<u8>,
    /// Offset of the first byte in the connection.
    pub start: usize,
    /// Offset of the first byte behind it.
    pub end: usize,
}

/// How a connection ends for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Between two requests; another may follow.
    Between,
    /// In the middle of a request, or of empty lines before one.
    Partway,
    /// What came next is no request, or one that nobody may guess the end of.
    Refused,
    /// After a request that asked for it to be the last.
    Last,
    /// After a request that offers to leave HTTP: what follows may be another protocol's.
    Upgrade,
}

/// What was read from a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The complete requests.
    pub requests: Vec<Message>,
    /// How it ended.
    pub end: End,
}

/// Reads a connection piece by piece, as the proxy does.
#[derive(Debug)]
pub struct Reader {
    /// Received and not yet used.
    pending: Vec<u8>,
    /// Bytes used so far.
    used: usize,
    state: State,
    requests: Vec<Message>,
    end: End,
}

#[derive(Debug)]
enum State {
    Head(HeadScanner),
    Body(Box<Upload>),
    Over,
}

/// A request whose head is read.
#[derive(Debug)]
struct Upload {
    message: Message,
    /// Of a body with a length.
    left: u64,
    decoder: Decoder,
    /// What the connection comes to if nothing follows.
    then: End,
}

impl Default for Reader {
    fn default() -> Self {
        let state = State::Head(HeadScanner::new());
        Self { pending: Vec::new(), used: 0, state, requests: Vec::new(), end: End::Between }
    }
}

impl Reader {
    /// Reads a connection that is there as a whole.
    pub fn read(data: &[u8]) -> Seen {
        let mut reader = Self::default();
        reader.feed(data);
        reader.finish()
    }

    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        loop {
            let before = (self.used, self.requests.len());
            self.state = match std::mem::replace(&mut self.state, State::Over) {
                State::Head(scanner) => self.take_head(scanner),
                State::Body(upload) => self.take_body(upload),
                State::Over => return,
            };
            if before == (self.used, self.requests.len()) {
                return;
            }
        }
    }

    /// Says what was read when nothing more comes.
    pub fn finish(self) -> Seen {
        let is_partway = match self.state {
            State::Head(_) => !self.pending.is_empty(),
            State::Body(_) => true,
            State::Over => false,
        };
        Seen { requests: self.requests, end: if is_partway { End::Partway } else { self.end } }
    }

    fn take_head(&mut self, mut scanner: HeadScanner) -> State {
        match scanner.scan(&self.pending, HEAD_BYTES_MAX) {
            Ok(None) => State::Head(scanner),
            Ok(Some(len)) => {
                assert!(len <= self.pending.len());
                match upload_of(&self.pending[..len], self.used) {
                    Some(upload) => {
                        self.consume(len);
                        State::Body(Box::new(upload))
                    }
                    None => self.over(End::Refused),
                }
            }
            Err(_) => self.over(End::Refused),
        }
    }

    fn take_body(&mut self, mut upload: Box<Upload>) -> State {
        let is_whole = if upload.message.framing == Framing::Chunked {
            let Ok(decoded) = upload.decoder.decode(&mut self.pending) else {
                return self.over(End::Refused);
            };
            upload.message.body.extend_from_slice(&self.pending[..decoded.payload]);
            self.consume(decoded.consumed);
            decoded.done
        } else {
            let here = usize::try_from(upload.left).unwrap_or(usize::MAX).min(self.pending.len());
            upload.message.body.extend_from_slice(&self.pending[..here]);
            upload.left -= here as u64;
            self.consume(here);
            upload.left == 0
        };
        if !is_whole {
            return State::Body(upload);
        }
        upload.message.trailers = upload.decoder.trailers().to_vec();
        upload.message.end = self.used;
        self.requests.push(upload.message);
        match upload.then {
            End::Between => State::Head(HeadScanner::new()),
            end @ (End::Partway | End::Refused | End::Last | End::Upgrade) => self.over(end),
        }
    }

    fn consume(&mut self, count: usize) {
        self.pending.drain(..count);
        self.used += count;
    }

    fn over(&mut self, end: End) -> State {
        self.end = end;
        State::Over
    }
}

/// Reads a head that begins at `start`; `None` if it is refused.
fn upload_of(head: &[u8], start: usize) -> Option<Upload> {
    let parsed = RequestHead::parse(head, head.len(), Vec::new(), FIELDS_MAX).ok()?;
    let asked = ask(&parsed).ok()?;
    let then = match (asked.persists, upgrade::offer(parsed.version(), parsed.fields())) {
        (_, Some(_)) => End::Upgrade,
        (false, None) => End::Last,
        (true, None) => End::Between,
    };
    let left = match asked.framing {
        Framing::Length(length) => length,
        Framing::Chunked => 0,
        Framing::UntilClose => panic!("a request ends before its connection"),
    };
    let message = Message {
        method: parsed.method().to_owned(),
        target: parsed.target().to_vec(),
        framing: asked.framing,
        body: Vec::new(),
        trailers: Vec::new(),
        start,
        end: start,
    };
    Some(Upload { message, left, decoder: Decoder::new(TRAILER_BYTES_MAX), then })
}

/// Everything a client sends on one connection.
pub fn connection(data: &[u8]) {
    let whole = Reader::read(data);
    for step in [1, 3, 64] {
        let mut reader = Reader::default();
        data.chunks(step).for_each(|piece| reader.feed(piece));
        assert_eq!(reader.finish(), whole, "in pieces of {step}");
    }
    let mut reader = Reader::default();
    let mut rest = data;
    // Cut wherever the input's own bytes say.
    for byte in data.iter().rev() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + usize::from(byte % 40)));
        reader.feed(piece);
        rest = behind;
    }
    reader.feed(rest);
    assert_eq!(reader.finish(), whole, "in pieces of any size");
    let mut at = 0;
    let mut forwarded = Vec::new();
    for request in &whole.requests {
        assert!(request.start == at && request.end > at && request.end <= data.len());
        at = request.end;
        let bytes = &data[request.start..request.end];
        let alone = Reader::read(bytes).requests;
        assert_eq!(alone.len(), 1, "{}", shown(bytes));
        assert_eq!((&alone[0].method, &alone[0].body), (&request.method, &request.body));
        forwarded.extend_from_slice(&onward(bytes, request));
    }
    let received = Reader::read(&forwarded);
    assert_eq!(received.end, End::Between, "{}", shown(&forwarded));
    assert_eq!(received.requests.len(), whole.requests.len(), "{}", shown(&forwarded));
    for (sent, received) in whole.requests.iter().zip(&received.requests) {
        assert_eq!((&received.method, received.framing), (&sent.method, sent.framing));
        assert_eq!(shown(&received.body), shown(&sent.body));
    }
}

/// Writes a request for the backend.
fn onward(bytes: &[u8], request: &Message) -> Vec<u8> {
    let len = HeadScanner::new().scan(bytes, HEAD_BYTES_MAX).ok().flatten().expect("a whole head");
    let head = RequestHead::parse(bytes, len, Vec::new(), FIELDS_MAX).expect("a sound head");
    let asked = ask(&head).expect("a request without doubts");
    let mut out = Vec::new();
    forward::request(&mut out, &head, &forwards::next_hop(&asked));
    if request.framing != Framing::Chunked {
        out.extend_from_slice(&request.body);
        return out;
    }
    let mut line = [0; 18];
    for piece in request.body.chunks(1000) {
        out.extend_from_slice(chunk_head(piece.len(), &mut line));
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(LAST_CHUNK);
    forward::trailers(&mut out, &request.trailers);
    out.extend_from_slice(b"\r\n");
    out
}
