//! Heads: where one ends however it arrives, and that what was understood is what was sent.

use phantom_frame::http1::field::{Fields, is_token, trim};
use phantom_frame::http1::head::{HeadError, HeadScanner, RequestHead, ResponseHead, Version};
use phantom_frame::http1::target;
use phantom_frame::proxy::decide::ask;

use super::{forwards, owned, shown};

/// A limit that inputs reach.
const BYTES_MAX: usize = 2048;

/// As many as need the parser's large array.
const FIELDS_MAX: usize = 40;

/// A request head, as a client sends it, with anything behind it.
pub fn request_head(data: &[u8]) {
    let Some(len) = end_of(data) else { return };
    let bytes = &data[..len];
    let parsed = RequestHead::parse(data, len, Vec::new(), FIELDS_MAX);
    let alone = RequestHead::parse(bytes, len, Vec::new(), FIELDS_MAX);
    assert_eq!(parsed.as_ref().err(), alone.as_ref().err(), "what is behind a head decides");
    let Ok(head) = parsed else { return };
    check_fields(head.fields());
    assert!(is_token(head.method().as_bytes()));
    assert!(!head.target().is_empty());
    assert!(head.target().iter().all(|&byte| byte > b' ' && byte != 0x7f));

    let line = [head.method().as_bytes(), b" ", head.target(), b" ", version(head.version())];
    let again = written(&line.concat(), head.fields());
    let again = RequestHead::parse(&again[..], again.len(), Vec::new(), FIELDS_MAX)
        .expect("a head written anew is one");
    assert_eq!((again.method(), again.target()), (head.method(), head.target()));
    assert_eq!((again.version(), owned(again.fields())), (head.version(), owned(head.fields())));

    check_detached(&head);
    check_target(&head);
    if let Ok(asked) = ask(&head) {
        forwards::check_request(&head, &asked);
    }
}

/// A response head, as a backend sends it, with anything behind it.
pub fn response_head(data: &[u8]) {
    let Some(len) = end_of(data) else { return };
    let Ok(head) = ResponseHead::parse(data, len, Vec::new(), FIELDS_MAX) else { return };
    check_fields(head.fields());
    assert!((100..1000).contains(&head.status()));
    assert!(head.reason().iter().all(|&byte| is_text(byte)), "{}", shown(head.reason()));

    let status = head.status().to_string();
    let line = [version(head.version()), b" ", status.as_bytes(), b" ", head.reason()].concat();
    let again = written(&line, head.fields());
    let again = ResponseHead::parse(&again[..], again.len(), Vec::new(), FIELDS_MAX)
        .expect("a head written anew is one");
    assert_eq!((again.status(), again.reason()), (head.status(), head.reason()));
    assert_eq!((again.version(), owned(again.fields())), (head.version(), owned(head.fields())));
    forwards::check_response(&head);
}

/// Returns where the head ends, if there is a whole one; in any pieces it ends there.
fn end_of(data: &[u8]) -> Option<usize> {
    let whole = HeadScanner::new().scan(data, BYTES_MAX);
    for step in [1, 2, 7] {
        assert_eq!(scan_in_pieces(data, step), whole, "in pieces of {step}");
    }
    let len = whole.ok().flatten()?;
    assert!(len <= data.len().min(BYTES_MAX));
    assert!(data[..len].ends_with(b"\r\n\r\n"));
    assert_eq!(HeadScanner::new().scan(&data[..len], len), Ok(Some(len)), "its own limit");
    assert_eq!(HeadScanner::new().scan(data, len - 1), Err(HeadError::TooLong));
    assert_eq!(HeadScanner::new().scan(&data[..len - 1], BYTES_MAX), Ok(None), "one byte less");
    Some(len)
}

fn scan_in_pieces(data: &[u8], step: usize) -> Result<Option<usize>, HeadError> {
    let mut scanner = HeadScanner::new();
    let mut end = 0;
    loop {
        end = data.len().min(end + step);
        let found = scanner.scan(&data[..end], BYTES_MAX);
        if found != Ok(None) || end == data.len() {
            return found;
        }
    }
}

fn check_fields(fields: Fields<'_>) {
    assert!(fields.iter().count() <= FIELDS_MAX);
    for field in fields.iter() {
        assert!(is_token(field.name), "{}", shown(field.name));
        assert!(field.value.iter().all(|&byte| is_text(byte)), "{}", shown(field.value));
        assert_eq!(trim(field.value), field.value);
    }
}

fn check_detached(head: &RequestHead<&[u8]>) {
    let detached = head.detach();
    assert_eq!((detached.method(), detached.target()), (head.method(), head.target()));
    assert_eq!(owned(detached.fields()), owned(head.fields()));
}

fn check_target(head: &RequestHead<&[u8]>) {
    let Ok(target) = target::parse(head) else { return };
    assert_ne!(head.method(), "CONNECT");
    assert!(target.path.starts_with(b"/") || target.path == b"*" && head.method() == "OPTIONS");
    assert!(!target.path.contains(&b'?') && !head.target().contains(&b'#'));
    let hosts = head.fields().all("host").count();
    assert!(hosts == 1 || hosts == 0 && head.version() == Version::Http10);
    if target.authority.is_empty() {
        assert!(hosts == 0);
    } else {
        assert!(target::is_authority(target.authority));
        assert!(!target.authority.iter().any(|byte| b",@/?# \t".contains(byte)));
    }
}

const fn version(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

/// Writes a head in the plainest way.
fn written(line: &[u8], fields: Fields<'_>) -> Vec<u8> {
    let mut bytes = [line, b"\r\n"].concat();
    for field in fields.iter() {
        bytes.extend_from_slice(&[field.name, b":", field.value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Returns whether a byte may stand in a value or a reason: none that could end a line.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
