//! Heads: what is accepted, what is refused, and that cuts change nothing.

use crate::http1::head::{FIELDS_MAX, HeadError, HeadScanner, RequestHead, ResponseHead, Version};

/// Requests of which each is one head, sound or not, and nothing behind it.
const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nPOST /x?y HTTP/1.0\r\nA:\r\nB: \t c d\t \r\n\r\n",
    "M!#$%&'*+-.^_`|~9 * HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "GET /\rx HTTP/1.1\r\nA: b\rc\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "\n\nGET / HTTP/1.1\r\n\r\n",
    "\r\rGET / HTTP/1.1\r\n\r\n",
    "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "\u{16}\u{3}\u{1}\r\n\r\n",
    " GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nA: \u{e9}\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nA: b\r\nA: c\r\n\r\n",
    "HTTP/1.0 999\r\n\r\n",
    "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
    "\r\nHTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
    "HTTP/3.0 200 OK\r\n\r\n",
];

fn scan(pieces: &[&[u8]], bytes_max: usize) -> Result<Option<usize>, HeadError> {
    let mut scanner = HeadScanner::new();
    let mut received = Vec::new();
    for piece in pieces {
        received.extend_from_slice(piece);
        if let Some(len) = scanner.scan(&received, bytes_max)? {
            return Ok(Some(len));
        }
    }
    Ok(None)
}

fn request(text: &[u8]) -> Result<RequestHead<Vec<u8>>, HeadError> {
    let len = scan(&[text], 4096)?.expect("a whole head");
    RequestHead::parse(text.to_vec(), len, Vec::new(), 100)
}

fn response(text: &[u8]) -> Result<ResponseHead<Vec<u8>>, HeadError> {
    let len = scan(&[text], 4096)?.expect("a whole head");
    ResponseHead::parse(text.to_vec(), len, Vec::new(), 100)
}

fn refused(text: &[u8]) -> HeadError {
    match request(text) {
        Ok(_) => panic!("accepted: {:?}", String::from_utf8_lossy(text)),
        Err(error) => error,
    }
}

fn refused_response(text: &[u8]) -> HeadError {
    match response(text) {
        Ok(_) => panic!("accepted: {:?}", String::from_utf8_lossy(text)),
        Err(error) => error,
    }
}

#[test]
fn a_request_is_taken_apart_and_its_bytes_come_back() {
    let text = b"\r\nPOST /a?b HTTP/1.0\r\nHost:a\r\nX-Y:  b c\t\r\nEmpty:\r\nE2: \t \r\n\r\nbody";
    let head = request(text).unwrap();
    assert_eq!((head.method(), head.target()), ("POST", &b"/a?b"[..]));
    assert_eq!(head.version(), Version::Http10);
    let fields: Vec<_> = head.fields().iter().map(|field| (field.name, field.value)).collect();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"Host", b"a"), (b"X-Y", b"b c"), (b"Empty", b""), (b"E2", b"")];
    assert_eq!(fields, expected);
    let (bytes, slots) = head.into_parts();
    assert_eq!((bytes, slots.len()), (text.to_vec(), 4));
}

#[test]
fn recycled_slots_hold_only_the_new_head() {
    let (_, slots) = request(b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\n\r\n").unwrap().into_parts();
    let text = b"GET / HTTP/1.1\r\nC: 3\r\n\r\n";
    let head = RequestHead::parse(&text[..], text.len(), slots, 100).unwrap();
    assert_eq!(head.fields().iter().count(), 1);
    assert_eq!(head.fields().first("c"), Some(&b"3"[..]));
}

#[test]
fn values_keep_their_opaque_bytes() {
    let head = request(b"GET /\xff HTTP/1.1\r\nA: \xe9\x80 \xff\r\n\r\n").unwrap();
    assert_eq!(head.target(), b"/\xff");
    assert_eq!(head.fields().first("a"), Some(&b"\xe9\x80 \xff"[..]));
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET /",
        "GET",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /\x0bHTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/.1",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/2",
        "GET / HTTP /1.1",
        "GET / HTTP/1,1",
        "GET / HTTP/+1.1",
        "GET / XTTP/1.1",
        "GET / HTTP/1.1\0",
        "GE(T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\x1b HTTP/1.1",
        "GET / HTTP/1.1\rX: y",
        "GET /\r HTTP/1.1",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "/ HTTP/1.1",
        "Host: a",
    ] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(text.as_bytes()), HeadError::Syntax, "{line:?}");
    }
}

#[test]
fn other_versions_are_told_from_malformed_ones() {
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.1", "HTTP/9.9", "HTTP/0.0"] {
        let text = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(text.as_bytes()), HeadError::Version, "{version}");
        let text = format!("{version} 200 OK\r\n\r\n");
        assert_eq!(refused_response(text.as_bytes()), HeadError::Version, "{version}");
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(scan(&[preface], 4096), Ok(Some(18)));
    assert_eq!(refused(preface), HeadError::Version);
}

#[test]
fn malformed_field_lines_are_refused() {
    for line in [
        &b" A: b"[..],
        b"\tA: b",
        b"A : b",
        b"A\t: b",
        b"A",
        b":",
        b": b",
        b"A b: c",
        b"A(: b",
        b"\"A\": b",
        b"A\0: b",
        b"A: \0",
        b"A: b\x01c",
        b"A: b\x0b",
        b"A: \x0cb",
        b"A: b\x7f",
        b"A: b\rc",
        b"A: b\r\r",
        b"A:\rb",
        b"A\r: b",
        b"\r",
        b"A: b\r\n c",
        b"A: b\r\n\tc",
        b"A:\r\n b",
        b"\xe9: b",
        b"A\xe9: b",
        b"A: b\x1b[0m",
        b"A/B: c",
        b"A@: b",
        b"[A]: b",
        b"A\x0b: b",
        b"{A: b",
        b"A;B: c",
        b"A=B: c",
        b"A,: b",
    ] {
        for place in [&b""[..], b"Host: a\r\n"] {
            let text = [b"GET / HTTP/1.1\r\n", place, line, b"\r\nZ: z\r\n\r\n"].concat();
            assert_eq!(refused(&text), HeadError::Syntax, "{:?}", String::from_utf8_lossy(&text));
            let text = [b"HTTP/1.1 200 OK\r\n", place, line, b"\r\nZ: z\r\n\r\n"].concat();
            assert_eq!(refused_response(&text), HeadError::Syntax);
        }
    }
}

#[test]
fn every_control_byte_is_refused_wherever_it_stands() {
    let parts = ["G", "ET /p", "ath HT", "TP/1.1\r\nNa", "me: val", "ue\r\nHost: a\r\n\r\n"];
    for byte in (0..=0x1f).chain([0x7f]).filter(|byte| *byte != b'\n') {
        for at in 1..parts.len() {
            let (before, behind) = (parts[..at].concat(), parts[at..].concat());
            let text = [before.as_bytes(), &[byte], behind.as_bytes()].concat();
            // A tab may stand in a value, and in none of the other places.
            let is_fine = byte == b'\t' && before.ends_with("val");
            let parsed = request(&text).map(drop);
            let expected = if is_fine { Ok(()) } else { Err(HeadError::Syntax) };
            assert_eq!(parsed, expected, "{byte:#x} in {text:?}");
        }
    }
}

#[test]
fn a_line_feed_needs_its_carriage_return() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        "\nGET / HTTP/1.1",
        "\r\n\nGET / HTTP/1.1",
        "\n",
    ] {
        assert_eq!(scan(&[text.as_bytes()], 4096), Err(HeadError::BareLineFeed), "{text:?}");
    }
    // Parsing alone is no more lenient than scanning.
    let text = b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n";
    let parsed = RequestHead::parse(&text[..], text.len(), Vec::new(), 100);
    assert_eq!(parsed.err(), Some(HeadError::BareLineFeed));
}

#[test]
fn four_empty_lines_may_precede_a_request_and_none_a_response() {
    for count in 0..=4 {
        let text = format!("{}GET / HTTP/1.1\r\n\r\n", "\r\n".repeat(count));
        assert_eq!(scan(&[text.as_bytes()], 4096), Ok(Some(text.len())));
        assert_eq!(request(text.as_bytes()).unwrap().method(), "GET");
    }
    let text = format!("{}GET / HTTP/1.1\r\n\r\n", "\r\n".repeat(5));
    assert_eq!(scan(&[text.as_bytes()], 4096), Err(HeadError::Syntax));
    assert_eq!(refused_response(b"\r\nHTTP/1.1 200 OK\r\n\r\n"), HeadError::Syntax);
}

#[test]
fn bytes_that_cannot_begin_a_head_are_refused_at_once() {
    for text in [&b"\x16\x03\x01\x02"[..], b" ", b"\0", b"\xff", b"{", b"\r\n ", b"\t", b":"] {
        assert_eq!(scan(&[text], 4096), Err(HeadError::Syntax));
    }
    assert_eq!(scan(&[b"\rGET / HTTP/1.1\r\n"], 4096), Err(HeadError::Syntax));
    assert_eq!(scan(&[b"\r"], 4096), Ok(None));
    assert_eq!(scan(&[b""], 4096), Ok(None));
}

#[test]
fn a_head_of_the_limit_fits_and_one_byte_more_does_not() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let len = text.len();
    assert_eq!(scan(&[text], len + 1), Ok(Some(len)));
    assert_eq!(scan(&[text], len), Ok(Some(len)));
    assert_eq!(scan(&[text], len - 1), Err(HeadError::TooLong));
    // As soon as it is certain: the buffer is full and the head is not complete.
    assert_eq!(scan(&[&text[..len - 2]], len - 1), Ok(None));
    assert_eq!(scan(&[&text[..len - 1]], len - 1), Err(HeadError::TooLong));
    // What follows a complete head does not count.
    assert_eq!(scan(&[&[&text[..], &[b'x'; 100]].concat()], len), Ok(Some(len)));
}

#[test]
fn fields_are_counted_to_the_limit() {
    for fields_max in [0, 1, 31, 32, 33, 100, FIELDS_MAX] {
        for count in fields_max.saturating_sub(1)..=fields_max + 1 {
            let text = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
            let parsed = RequestHead::parse(text.as_bytes(), text.len(), Vec::new(), fields_max);
            if count > fields_max {
                assert_eq!(parsed.err(), Some(HeadError::TooManyFields), "{count}");
            } else {
                assert_eq!(parsed.unwrap().fields().iter().count(), count);
            }
        }
    }
    let text = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
    let parsed = RequestHead::parse(text.as_bytes(), text.len(), Vec::new(), usize::MAX);
    assert_eq!(parsed.err(), Some(HeadError::TooManyFields));
}

#[test]
fn a_length_that_is_not_the_scanners_is_refused() {
    let text = b"GET / HTTP/1.1\r\nA: b\r\n\r\nmore";
    for len in (0..text.len() + 2).filter(|len| *len != text.len() - 4) {
        assert!(RequestHead::parse(&text[..], len, Vec::new(), 100).is_err(), "{len}");
    }
}

#[test]
fn a_response_is_taken_apart() {
    for (line, version, status, reason) in [
        ("HTTP/1.1 200 OK", Version::Http11, 200, "OK"),
        ("HTTP/1.0 404 Not  Found ", Version::Http10, 404, "Not  Found "),
        ("HTTP/1.1 100 ", Version::Http11, 100, ""),
        ("HTTP/1.1 204", Version::Http11, 204, ""),
        ("HTTP/1.1 999 \u{e9}\t", Version::Http11, 999, "\u{e9}\t"),
    ] {
        let head = response(format!("{line}\r\nA: b\r\n\r\n").as_bytes()).unwrap();
        assert_eq!((head.version(), head.status()), (version, status), "{line}");
        assert_eq!(head.reason(), reason.as_bytes());
        assert_eq!(head.fields().first("a"), Some(&b"b"[..]));
    }
}

#[test]
fn malformed_status_lines_are_refused() {
    for line in [
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 20x OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 000",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 O\x7fK",
        "ICY 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1x200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1 200 OK",
        "200 OK",
        "HTTP/1.1 2\u{b2}0 OK",
        "HTTP/1.1 -200 OK",
        "HTTP/1.10 200 OK",
    ] {
        let text = format!("{line}\r\n\r\n");
        assert_eq!(refused_response(text.as_bytes()), HeadError::Syntax, "{line:?}");
    }
}

#[test]
fn a_head_cut_anywhere_is_the_same_head() {
    for text in REQUESTS.iter().chain(RESPONSES) {
        let bytes = text.as_bytes();
        for bytes_max in [10, bytes.len() - 1, bytes.len(), 4096] {
            let whole = scan(&[bytes], bytes_max);
            for cut in 0..=bytes.len() {
                let pieces = scan(&[&bytes[..cut], &bytes[cut..]], bytes_max);
                assert_eq!(pieces, whole, "{text:?} cut at {cut}");
            }
            let single: Vec<_> = bytes.chunks(1).collect();
            assert_eq!(scan(&single, bytes_max), whole, "{text:?} byte by byte");
        }
    }
}
