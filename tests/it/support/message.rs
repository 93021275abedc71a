//! Messages as a peer received them: the head as text, its fields, the body.
//!
//! Written without the proxy's parser, and forgiving: a test judges what it got, nothing is refused
//! here except what cannot be read at all.

use std::fmt;

/// A field line: name and value as they were received, without the space around the value.
pub type Field = (String, String);

/// A request that a backend received.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The request line without its line end.
    pub line: String,
    /// The method.
    pub method: String,
    /// The target as it was sent.
    pub target: String,
    /// The whole head with its empty line; each byte one character.
    pub head_text: String,
    /// The fields in the order received.
    pub fields: Vec<Field>,
    /// The body with its framing removed.
    pub body: Vec<u8>,
    /// The trailers after a chunked body.
    pub trailers: Vec<Field>,
    /// The bytes on the wire: head, framing and body.
    pub raw: Vec<u8>,
}

/// A response that a client received.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// `HTTP/1.1`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The whole head with its empty line; each byte one character.
    pub head_text: String,
    /// The fields in the order received.
    pub fields: Vec<Field>,
    /// The body with its framing removed.
    pub body: Vec<u8>,
    /// The trailers after a chunked body.
    pub trailers: Vec<Field>,
}

impl Request {
    /// Reads a head; the body is still empty.
    pub fn from_head(head: &[u8]) -> Self {
        let (line, head_text, fields) = split_head(head);
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (body, trailers, raw) = (Vec::new(), Vec::new(), Vec::new());
        Self { line, method, target, head_text, fields, body, trailers, raw }
    }

    /// Returns the first value of a field, whatever the case of its name.
    pub fn field(&self, name: &str) -> Option<&str> {
        values(&self.fields, name).next()
    }

    /// Returns every value of a field in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name).collect()
    }
}

impl Response {
    /// Reads a head; the body is still empty.
    pub fn from_head(head: &[u8]) -> Self {
        let (line, head_text, fields) = split_head(head);
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let version = words.next().unwrap_or_default();
        let status = words.next().unwrap_or_default();
        let status =
            status.parse().unwrap_or_else(|_| panic!("no status in the status line {line:?}"));
        let reason = words.next().unwrap_or_default();
        let (body, trailers) = (Vec::new(), Vec::new());
        Self { version, status, reason, head_text, fields, body, trailers }
    }

    /// Returns the first value of a field, whatever the case of its name.
    pub fn field(&self, name: &str) -> Option<&str> {
        values(&self.fields, name).next()
    }

    /// Returns every value of a field in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name).collect()
    }

    /// Returns the body as text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is UTF-8")
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// After this many bytes.
    Length(usize),
    /// After the last chunk and the trailers.
    Chunked,
    /// With the connection.
    Close,
}

impl BodyEnd {
    /// Returns how a request's body ends: without a framing there is none.
    pub fn of_request(request: &Request) -> Self {
        framing(&request.fields).unwrap_or(Self::Length(0))
    }

    /// Returns how the body of a response to `method` ends (RFC 9112 §6.3).
    pub fn of_response(response: &Response, method: &str) -> Self {
        let bodiless = matches!(response.status, 100..=199 | 204 | 304) || method == "HEAD";
        let tunnel = method == "CONNECT" && matches!(response.status, 200..=299);
        if bodiless || tunnel {
            return Self::Length(0);
        }
        framing(&response.fields).unwrap_or(Self::Close)
    }
}

/// Reads field lines up to the empty line or the end of `lines`.
pub fn fields_of(lines: &str) -> Vec<Field> {
    let lines = lines.lines().take_while(|line| !line.is_empty());
    lines.map(|line| split_field(line).expect("a field line has a colon")).collect()
}

/// Returns bytes as text, one character each, so that no byte is lost.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn split_head(head: &[u8]) -> (String, String, Vec<Field>) {
    let text = latin1(head);
    let (line, rest) = text.split_once("\r\n").expect("a head has a first line");
    (line.to_owned(), text.clone(), fields_of(rest))
}

fn split_field(line: &str) -> Option<Field> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn values<'f>(fields: &'f [Field], name: &str) -> impl Iterator<Item = &'f str> {
    fields.iter().filter(move |field| field.0.eq_ignore_ascii_case(name)).map(|field| &*field.1)
}

fn framing(fields: &[Field]) -> Option<BodyEnd> {
    let chunked = |value: &str| value.to_ascii_lowercase().ends_with("chunked");
    if values(fields, "transfer-encoding").any(chunked) {
        return Some(BodyEnd::Chunked);
    }
    let length = values(fields, "content-length").next()?;
    Some(BodyEnd::Length(length.parse().unwrap_or_else(|_| panic!("a bad length: {length:?}"))))
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{} bytes of body]", self.head_text, self.body.len())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.body.get(..self.body.len().min(400)).unwrap_or_default();
        write!(f, "{}{}", self.head_text, shown.escape_ascii())
    }
}
