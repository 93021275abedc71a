//! The strictest reading of HTTP/1.1 there is: what it takes, everybody reads alike.
//!
//! Shares no line with the proxy. What it refuses must never have left the proxy in either direction.

/// What stands at the front of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Front<T> {
    /// A whole message.
    Whole(T),
    /// Nothing yet, or a part of one.
    Part,
    /// Something that can be read in two ways, or in none.
    Broken(&'static str),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The parts of its start line: `GET`, `/`, `HTTP/1.1`, or `HTTP/1.1`, `200`, `OK`.
    pub line: [String; 3],
    /// Its fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body without framing.
    pub body: Vec<u8>,
    /// The bytes it takes.
    pub len: usize,
    /// It lasts until the connection closes, and so has what has come so far.
    pub until_close: bool,
}

impl Message {
    /// Returns the only value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let first = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "two {name}");
        first
    }

    /// Returns the status of a response.
    pub fn status(&self) -> u16 {
        self.line[1].parse().expect("a status is digits")
    }
}

/// Reads a request at the front of `bytes`.
pub fn request(bytes: &[u8]) -> Front<Message> {
    read(bytes, |head| {
        let [method, target, version] = &head.line;
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte > b' ');
        if !is_token(method) || !is_plain(target) || version != "HTTP/1.1" {
            return Err("a request line");
        }
        if head.fields.iter().filter(|(name, _)| name == "host").count() != 1 {
            return Err("hosts");
        }
        Ok(framing(&head.fields)?.unwrap_or(Framing::Length(0)))
    })
}

/// Reads the head of a request at the front of `bytes`; its body is not looked at.
pub fn request_head(bytes: &[u8]) -> Option<Message> {
    head(bytes).ok().flatten()
}

/// Reads a response to a request with this method at the front of `bytes`.
pub fn response(bytes: &[u8], method: &str) -> Front<Message> {
    read(bytes, |head| {
        let [version, status, _] = &head.line;
        let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        if version != "HTTP/1.1" || !is_status {
            return Err("a status line");
        }
        let declared = framing(&head.fields)?;
        if method == "HEAD" || status.starts_with('1') || ["204", "304"].contains(&&**status) {
            return Ok(Framing::Length(0));
        }
        Ok(declared.unwrap_or(Framing::Close))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

fn read(bytes: &[u8], judge: impl Fn(&Message) -> Result<Framing, &'static str>) -> Front<Message> {
    let mut message = match head(bytes) {
        Ok(Some(message)) => message,
        Ok(None) => return Front::Part,
        Err(why) => return Front::Broken(why),
    };
    let framing = match judge(&message) {
        Ok(framing) => framing,
        Err(why) => return Front::Broken(why),
    };
    let rest = &bytes[message.len..];
    match framing {
        Framing::Length(length) if rest.len() < length => return Front::Part,
        Framing::Length(length) => {
            message.body = rest[..length].to_vec();
            message.len += length;
        }
        Framing::Close => {
            message.body = rest.to_vec();
            message.len = bytes.len();
            message.until_close = true;
        }
        Framing::Chunked => match chunks(rest) {
            Ok(Some((body, len))) => {
                message.body = body;
                message.len += len;
            }
            Ok(None) => return Front::Part,
            Err(why) => return Front::Broken(why),
        },
    }
    Front::Whole(message)
}

/// Reads a head; `None` if it is not there as a whole.
fn head(bytes: &[u8]) -> Result<Option<Message>, &'static str> {
    let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text: String = bytes[..at].iter().copied().map(char::from).collect();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.splitn(3, ' ').map(str::to_owned);
    let line = [(); 3].map(|()| words.next().unwrap_or_default());
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a line without a colon")?;
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err("a field name");
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    // No CR or LF is left but those that end a line.
    if text.replace("\r\n", "").chars().any(|c| c.is_ascii_control() && c != '\t') {
        return Err("a control byte");
    }
    let (body, len, until_close) = (Vec::new(), at + 4, false);
    Ok(Some(Message { line, fields, body, len, until_close }))
}

/// Reads what the fields say of the body; whatever could be taken for another framing breaks it.
fn framing(fields: &[(String, String)]) -> Result<Option<Framing>, &'static str> {
    let named = |wanted: &'static str| {
        fields.iter().filter(move |(name, _)| name.replace('_', "-") == wanted)
    };
    let lengths: Vec<_> = named("content-length").collect();
    let codings: Vec<_> = named("transfer-encoding").collect();
    match (&*lengths, &*codings) {
        ([], []) => Ok(None),
        ([(name, value)], []) if name == "content-length" => {
            let length = value.parse().map_err(|_| "a length")?;
            // Written as we would: no sign, no zeros before it.
            if value.parse::<usize>().is_ok_and(|length| length.to_string() == *value) {
                Ok(Some(Framing::Length(length)))
            } else {
                Err("a length in an odd form")
            }
        }
        ([], [(name, value)]) if name == "transfer-encoding" && value == "chunked" => {
            Ok(Some(Framing::Chunked))
        }
        _ => Err("two framings"),
    }
}

/// Reads chunks without extensions, and trailers; `None` if they are not there as a whole.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line_at(bytes, at)? else { return Ok(None) };
        let is_hex = !line.is_empty() && line.len() < 9 && line.iter().all(u8::is_ascii_hexdigit);
        let size = str::from_utf8(line).ok().filter(|_| is_hex).ok_or("a chunk size")?;
        let size = usize::from_str_radix(size, 16).map_err(|_| "a chunk size")?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        let data = data.strip_suffix(b"\r\n").ok_or("the end of a chunk")?;
        body.extend_from_slice(data);
        at += size + 2;
    }
    loop {
        let Some(line) = line_at(bytes, at)? else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((body, at)));
        }
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if name.len() == line.len() || !name.iter().all(|&byte| is_token_byte(byte)) {
            return Err("a trailer");
        }
    }
}

fn line_at(bytes: &[u8], at: usize) -> Result<Option<&[u8]>, &'static str> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let line = rest[..end].strip_suffix(b"\r").ok_or("a bare line feed")?;
    if line.contains(&b'\r') { Err("a bare return") } else { Ok(Some(line)) }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[test]
fn what_can_be_read_in_two_ways_is_broken() {
    let broken = |bytes: &str| matches!(request(bytes.as_bytes()), Front::Broken(_));
    let start = "POST / HTTP/1.1\r\nHost: h\r\n";
    for end in [
        "Host: h\r\n\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Content-Length: 01\r\n\r\na",
        "Content-Length: +1\r\n\r\na",
        "Content_Length: 1\r\n\r\na",
        "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0;a\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        "X: a\nY: b\r\n\r\n",
        "X : a\r\n\r\n",
    ] {
        assert!(broken(&format!("{start}{end}")), "{end:?}");
    }
    assert!(broken("GET / HTTP/1.0\r\nHost: h\r\n\r\n") && broken("GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(request(format!("{start}X: y\r\n").as_bytes()), Front::Part);
    let whole =
        format!("{start}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: v\r\n\r\nnext");
    let Front::Whole(message) = request(whole.as_bytes()) else { panic!("{whole}") };
    assert_eq!((&*message.body, message.len), (&b"ab"[..], whole.len() - 4));
}
