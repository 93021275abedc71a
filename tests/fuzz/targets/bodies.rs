//! Where bodies end: chunks in any pieces, and the fields that frame a message.

use phantom_frame::http1::chunked::{ChunkError, Decoded, Decoder, LAST_CHUNK, chunk_head};
use phantom_frame::http1::field::{Fields, is};
use phantom_frame::http1::forward;
use phantom_frame::http1::framing::{Framing, request_framing, response_framing};
use phantom_frame::http1::head::Version;

use super::{owned, request_with, response_with, shown};

/// A limit on trailers that inputs reach.
const TRAILER_BYTES_MAX: usize = 256;

/// What a body is decoded to.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<u8>,
    consumed: usize,
    done: bool,
}

/// A chunked body, with anything behind it.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, data.len().max(1));
    for step in [1, 2, 3, 11] {
        assert_eq!(decode(data, step), whole, "in pieces of {step}");
    }
    let by_the_book = reference(data);
    let Ok(body) = whole else { return };
    assert!(body.consumed <= data.len());
    if !body.done {
        assert_eq!(body.consumed, data.len(), "a body that goes on takes everything");
        return;
    }
    let (data_end, read) = by_the_book.expect("a body that is whole is one by the book");
    assert_eq!((shown(&body.data), body.consumed), (shown(&read), data_end));
    check_again(&body);
    check_trailers(&body.trailers);
}

fn decode(data: &[u8], step: usize) -> Result<Body, ChunkError> {
    let mut decoder = Decoder::new(TRAILER_BYTES_MAX);
    let mut body = Body { data: Vec::new(), trailers: Vec::new(), consumed: 0, done: false };
    for piece in data.chunks(step) {
        let mut bytes = piece.to_vec();
        let decoded = decoder.decode(&mut bytes)?;
        check_piece(decoded, piece, &bytes);
        body.data.extend_from_slice(&bytes[..decoded.payload]);
        body.consumed += decoded.consumed;
        if decoded.done {
            body.done = true;
            break;
        }
    }
    body.trailers = decoder.trailers().to_vec();
    Ok(body)
}

/// Checks what one call of the decoder made of `piece`.
fn check_piece(decoded: Decoded, piece: &[u8], bytes: &[u8]) {
    assert!(decoded.payload <= decoded.consumed && decoded.consumed <= bytes.len());
    assert!(decoded.done || decoded.consumed == bytes.len());
    assert_eq!(bytes[decoded.consumed..], piece[decoded.consumed..], "touched what is behind");
}

/// Reads a whole chunked body in the plainest way; `None` if it is not one (RFC 9112 §7.1).
fn reference(data: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut at = 0;
    let mut read = Vec::new();
    let line = |at: usize| {
        let rest = data.get(at..)?;
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        Some((&rest[..end], at + end + 2))
    };
    loop {
        let (text, data_start) = line(at)?;
        let size = text.split(|&byte| byte == b';').next()?;
        let is_size = (1..=16).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let size = usize::from_str_radix(str::from_utf8(size).ok()?, 16).ok();
        let size = size.filter(|_| is_size && !text.contains(&b'\n'))?;
        if size == 0 {
            at = data_start;
            break;
        }
        let end = data_start.checked_add(size)?;
        read.extend_from_slice(data.get(data_start..end)?);
        at = end + 2;
        if data.get(end..at)? != b"\r\n" {
            return None;
        }
    }
    loop {
        let (text, next) = line(at)?;
        at = next;
        if text.is_empty() {
            return Some((at, read));
        }
    }
}

/// Checks that a body written anew is the same body.
fn check_again(body: &Body) {
    let mut line = [0; 18];
    let mut bytes = Vec::new();
    for piece in body.data.chunks(7) {
        bytes.extend_from_slice(chunk_head(piece.len(), &mut line));
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(&[LAST_CHUNK, &body.trailers, b"\r\n"].concat());
    let again = decode(&bytes, bytes.len()).expect("a body written anew is one");
    assert!(again.done && again.consumed == bytes.len());
    assert_eq!((&again.data, &again.trailers), (&body.data, &body.trailers));
}

/// Checks that what goes on of trailers are whole lines of it, and none that a backend would act on.
fn check_trailers(trailers: &[u8]) {
    assert!(trailers.len() <= TRAILER_BYTES_MAX);
    let mut passed = Vec::new();
    forward::trailers(&mut passed, trailers);
    let section = request_with(&passed).expect("trailers that go on are field lines");
    let all = request_with(trailers).expect("trailers are field lines");
    let (section, all) = (owned(section.fields()), owned(all.fields()));
    let mut rest = all.iter();
    assert!(section.iter().all(|line| rest.any(|other| other == line)), "in order, none new");
    for (name, _) in &section {
        let folded = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
        let acted_on =
            ["content-length", "transfer-encoding", "host", "authorization", "connection"];
        assert!(!acted_on.contains(&folded.as_str()), "{folded}");
    }
}

/// The fields of a message, one a line.
pub fn framing(data: &[u8]) {
    let (Some(request), Some(response)) = (request_with(data), response_with(data)) else { return };
    for version in [Version::Http10, Version::Http11] {
        let fields = request.fields();
        let found = request_framing(version, fields);
        if let Ok(framing) = found {
            check_framing(framing, version, fields);
        }
        let lines = owned(fields);
        let reversed = rewritten(lines.iter().rev().map(|(name, value)| (name.clone(), value)));
        let louder =
            rewritten(lines.iter().map(|(name, value)| (name.to_ascii_uppercase(), value)));
        for other in [&reversed, &louder] {
            let other = request_with(other).expect("the same lines");
            let other = request_framing(version, other.fields());
            assert_eq!(other.ok(), found.ok(), "order and case do not matter");
        }
        check_response(version, response.fields(), found.ok());
    }
}

fn rewritten<'a>(lines: impl Iterator<Item = (Vec<u8>, &'a Vec<u8>)>) -> Vec<u8> {
    lines.flat_map(|(name, value)| [&name, &b":"[..], value, b"\n"].concat()).collect()
}

/// Checks that exactly the lines which would make another message of it are absent.
fn check_framing(framing: Framing, version: Version, fields: Fields<'_>) {
    let named = |wanted: &str| -> Vec<_> {
        let fold =
            |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
        fields.iter().filter(|field| fold(field.name) == wanted).collect()
    };
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    match framing {
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() <= 1);
            let value = lengths.first().map_or(&b"0"[..], |field| field.value);
            assert!(value.iter().all(u8::is_ascii_digit));
            assert_eq!(str::from_utf8(value).ok().and_then(|v| v.parse().ok()), Some(length));
            assert!(i64::try_from(length).is_ok());
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1 && version == Version::Http11);
            assert!(is(codings[0].value, "chunked") && is(codings[0].name, "transfer-encoding"));
        }
        Framing::UntilClose => panic!("a request ends before its connection"),
    }
}

/// Checks a response with the fields of a request: only where they say nothing may the two differ.
fn check_response(version: Version, fields: Fields<'_>, request: Option<Framing>) {
    let declares = fields.has("content-length") || fields.has("transfer-encoding");
    for status in [101, 199, 200, 204, 206, 304, 404, 999] {
        for answers_head in [false, true] {
            let found = response_framing(answers_head, status, version, fields).ok();
            let is_bodiless = answers_head || matches!(status, 100..=199 | 204 | 304);
            let expected = match request {
                Some(_) if is_bodiless => Some(Framing::Length(0)),
                Some(_) if !declares => Some(Framing::UntilClose),
                other => other,
            };
            assert_eq!(found, expected, "{status}");
        }
    }
}
