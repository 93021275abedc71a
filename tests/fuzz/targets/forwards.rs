//! Heads for the next hop: whoever reads them by the book reads the message that we read.

use std::net::{IpAddr, Ipv4Addr};

use phantom_frame::cache::{is_taken_from_304, survives_304};
use phantom_frame::http1::field::{Fields, is, is_hop_by_hop};
use phantom_frame::http1::forward::{self, Connection, NextHop, ReplyFraming, ResponseForward};
use phantom_frame::http1::framing::{Framing, request_framing, response_framing};
use phantom_frame::http1::head::{HeadScanner, RequestHead, ResponseHead, Version};
use phantom_frame::http1::{target, upgrade};
use phantom_frame::proxy::decide::Asked;

use super::{Line, owned, shown};

/// Room for the fields of an input and for ours.
const FIELDS_MAX: usize = 512;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// Fields of a forwarded request that are ours to write.
const OURS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
];

/// Fields that would narrow down an answer for the cache.
const NARROWING: [&str; 6] =
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// Says what the request goes on as, to a backend without a prefix.
pub(super) fn next_hop<'a>(asked: &Asked<'a>) -> NextHop<'a> {
    let authority = asked.target.authority;
    NextHop {
        base_path: b"",
        path: asked.target.path,
        query: asked.target.query,
        host: if authority.is_empty() { b"backend" } else { authority },
        client: CLIENT,
        client_is_trusted: false,
        proto: "http",
        authority,
        framing: asked.framing,
    }
}

/// Checks what a request becomes for a backend, for the cache's own fetch and for a tunnel.
pub(super) fn check_request<B: AsRef<[u8]>>(head: &RequestHead<B>, asked: &Asked<'_>) {
    let next = next_hop(asked);
    let mut out = Vec::new();
    forward::request(&mut out, head, &next);
    let again = reread(&out);
    check_same(head, asked, &again, &next);
    assert_eq!(passed(again.fields()), expected(head, false), "{}", shown(&out));
    check_settled(&out, asked);
    check_trusted(head, &next);
    check_fill(head, asked, &next);
    check_upgrade(head, asked, &next);
}

fn check_same<B: AsRef<[u8]>>(
    head: &RequestHead<B>,
    asked: &Asked<'_>,
    again: &RequestHead<&[u8]>,
    next: &NextHop<'_>,
) {
    assert_eq!((again.method(), again.version()), (head.method(), Version::Http11));
    assert_eq!(request_framing(again.version(), again.fields()), Ok(asked.framing));
    let target = target::parse(again).expect("a target that was understood goes on as one");
    assert_eq!((target.path, target.query), (asked.target.path, asked.target.query));
    assert_eq!(again.fields().all("host").collect::<Vec<_>>(), [next.host]);
    let fields = again.fields();
    assert_eq!(fields.all("x-forwarded-for").collect::<Vec<_>>(), [b"192.0.2.7"]);
    assert!(fields.list("connection").all(|name| is(name, "te")));
}

/// Checks that what we forward goes on unchanged from a second proxy of our kind.
fn check_settled(out: &[u8], asked: &Asked<'_>) {
    if asked.target.authority.is_empty() {
        return;
    }
    let again = reread(out);
    let next = NextHop { host: asked.target.authority, ..next_hop(asked) };
    let mut twice = Vec::new();
    forward::request(&mut twice, &again, &next);
    assert_eq!(shown(&twice), shown(out));
}

fn check_trusted<B: AsRef<[u8]>>(head: &RequestHead<B>, next: &NextHop<'_>) {
    let mut out = Vec::new();
    forward::request(&mut out, head, &NextHop { client_is_trusted: true, ..*next });
    let again = reread(&out);
    let mut lists = again.fields().all("x-forwarded-for");
    let last = lists.next().and_then(|list| list.rsplit(|&byte| byte == b',').next());
    assert_eq!((last.map(<[u8]>::trim_ascii), lists.next()), (Some(&b"192.0.2.7"[..]), None));
    assert_eq!(request_framing(Version::Http11, again.fields()), Ok(next.framing));
}

fn check_fill<B: AsRef<[u8]>>(head: &RequestHead<B>, asked: &Asked<'_>, next: &NextHop<'_>) {
    // What is stored is the answer to a GET, and never that to another method or to a body.
    if head.method() != "GET" {
        return;
    }
    let mut out = Vec::new();
    forward::fill_request(&mut out, head, next);
    out.extend_from_slice(b"\r\n");
    let again = reread(&out);
    check_same(head, asked, &again, next);
    assert_eq!(passed(again.fields()), expected(head, true));
}

fn check_upgrade<B: AsRef<[u8]>>(head: &RequestHead<B>, asked: &Asked<'_>, next: &NextHop<'_>) {
    let Some(offer) = upgrade::offer(head.version(), head.fields()) else { return };
    let mut out = Vec::new();
    forward::upgrade_request(&mut out, head, next);
    let again = reread(&out);
    assert_eq!(request_framing(again.version(), again.fields()), Ok(asked.framing));
    let kept = upgrade::offer(again.version(), again.fields()).expect("the offer goes on");
    assert!(kept.protocols().eq(offer.protocols()));
    assert!(offer.accepted_by(again.fields()), "who echoes an offer accepts it");
}

/// Returns the lines that are not ours.
fn passed(fields: Fields<'_>) -> Vec<Line> {
    let mut lines = owned(fields);
    lines.retain(|(name, _)| !OURS.iter().any(|ours| is(name, ours)));
    lines
}

/// Returns the lines of a client that go on, by rules of its own.
fn expected<B: AsRef<[u8]>>(head: &RequestHead<B>, is_fill: bool) -> Vec<Line> {
    let fields = head.fields();
    let named: Vec<_> = fields.list("connection").take(64).collect();
    let mut lines = owned(fields);
    lines.retain(|(name, _)| {
        let folded = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
        let is_ours = OURS.iter().any(|ours| is(name, ours));
        let is_origin = is(name, "forwarded") || folded.starts_with("x-forwarded-");
        let is_hop = is_hop_by_hop(name) || is(name, "proxy") || folded.starts_with("proxy-");
        let is_named = named.iter().any(|named| named.eq_ignore_ascii_case(name));
        let is_void = (is_fill || head.version() == Version::Http10) && is(name, "expect");
        let narrows = is_fill && NARROWING.iter().any(|known| is(name, known));
        !(is_ours || is_origin || is_hop || is_named || is_void || narrows)
    });
    lines
}

fn reread(bytes: &[u8]) -> RequestHead<&[u8]> {
    let end = HeadScanner::new().scan(bytes, usize::MAX);
    assert_eq!(end, Ok(Some(bytes.len())), "{}", shown(bytes));
    let parsed = RequestHead::parse(bytes, bytes.len(), Vec::new(), FIELDS_MAX);
    parsed.unwrap_or_else(|error| panic!("{error:?}: {}", shown(bytes)))
}

/// Checks what a response becomes for every kind of client, and for the cache.
pub(super) fn check_response(head: &ResponseHead<&[u8]>) {
    match head.status() {
        101 => check_interim(head, forward::switching),
        100..=199 => check_interim(head, forward::informational),
        _ => {
            check_delivered(head, false);
            check_delivered(head, true);
            check_kept(head);
        }
    }
}

/// Checks that nothing of an interim response could be taken for a body.
fn check_interim<'a>(
    head: &ResponseHead<&'a [u8]>,
    write: fn(&mut Vec<u8>, &ResponseHead<&'a [u8]>),
) {
    let mut out = Vec::new();
    write(&mut out, head);
    let again = reread_response(&out);
    assert_eq!((again.status(), again.reason()), (head.status(), head.reason()));
    let fields = again.fields();
    assert!(!fields.has("content-length") && !fields.has("transfer-encoding"));
    assert!(head.status() != 101 || fields.has_token("connection", "upgrade"));
}

fn check_delivered(head: &ResponseHead<&[u8]>, answers_head: bool) {
    let (status, fields) = (head.status(), head.fields());
    let Ok(framing) = response_framing(answers_head, status, head.version(), fields) else {
        return;
    };
    let ways: &[ReplyFraming] = match framing {
        Framing::Length(_) => &[ReplyFraming::AsReceived],
        Framing::Chunked | Framing::UntilClose => {
            &[ReplyFraming::Chunked, ReplyFraming::UntilClose]
        }
    };
    for &way in ways {
        for connection in [Connection::Implied, Connection::Close, Connection::KeepAlive] {
            let how =
                ResponseForward { framing: way, connection, date: DATE, lines: b"Ours: 1\r\n" };
            let mut out = Vec::new();
            forward::response(&mut out, head, &how);
            let again = reread_response(&out);
            assert_eq!((again.status(), again.reason()), (status, head.reason()));
            let expected = match way {
                ReplyFraming::AsReceived => framing,
                ReplyFraming::Chunked => Framing::Chunked,
                ReplyFraming::UntilClose => Framing::UntilClose,
            };
            let fields = again.fields();
            let found = response_framing(answers_head, status, Version::Http11, fields);
            assert_eq!(found, Ok(expected), "{}", shown(&out));
            let closes = fields.has_token("connection", "close");
            assert_eq!(closes, connection == Connection::Close, "{}", shown(&out));
            assert!(fields.has("date") && fields.has("ours"));
            assert!(!fields.has("keep-alive") && !fields.has("te"));
        }
    }
}

/// Checks that a stored head has nothing about connections, and stays as it is.
fn check_kept(head: &ResponseHead<&[u8]>) {
    let (mut once, mut twice, mut updated) = (Vec::new(), Vec::new(), Vec::new());
    forward::stored(&mut once, head, DATE);
    let kept = reread_response(&once);
    forward::stored(&mut twice, &kept, DATE);
    assert_eq!(shown(&twice), shown(&once));
    let fields = kept.fields();
    let is_foreign = |name: &[u8]| is_hop_by_hop(name) || is(name, "age");
    assert!(!fields.iter().any(|field| is_foreign(field.name)), "{}", shown(&once));
    assert!(fields.has("date"));

    forward::updated(&mut updated, &kept, head, (is_taken_from_304, survives_304), DATE);
    let fields = reread_response(&updated);
    assert!(!fields.fields().iter().any(|field| is_foreign(field.name)), "{}", shown(&updated));

    let (mut not_modified, mut partial, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    forward::not_modified(&mut not_modified, kept.fields());
    forward::partial(&mut partial, b"HTTP/1.1 206 Partial Content\r\n", kept.fields());
    forward::packed(&mut packed, &kept, b"gzip");
    for mut out in [not_modified, partial, packed] {
        out.extend_from_slice(b"\r\n");
        reread_response(&out);
    }
}

fn reread_response(bytes: &[u8]) -> ResponseHead<&[u8]> {
    let end = HeadScanner::new().scan(bytes, usize::MAX);
    assert_eq!(end, Ok(Some(bytes.len())), "{}", shown(bytes));
    let parsed = ResponseHead::parse(bytes, bytes.len(), Vec::new(), FIELDS_MAX);
    parsed.unwrap_or_else(|error| panic!("{error:?}: {}", shown(bytes)))
}
