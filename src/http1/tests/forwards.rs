//! Forwarded heads, byte by byte.

use std::net::IpAddr;

use crate::http1::{
    forward::{
        self, Connection, NextHop, ReplyFraming, ResponseForward, informational, response,
        switching,
    },
    framing::Framing,
    head::{RequestHead, ResponseHead},
};

const NEXT: NextHop<'_> = NextHop {
    base_path: b"",
    path: b"/p",
    query: None,
    host: b"h",
    client: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    client_is_trusted: false,
    proto: "http",
    authority: b"a.example",
    framing: Framing::Length(0),
};

const HOW: ResponseForward<'_> = ResponseForward {
    framing: ReplyFraming::AsReceived,
    connection: Connection::Implied,
    date: b"D",
    lines: b"",
};

/// What every forwarded request ends in, from an untrusted client of `NEXT`.
const FORWARDED: &str =
    "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\n\r\n";

fn request_head(text: &str) -> RequestHead<Vec<u8>> {
    let bytes = format!("{text}\r\n").into_bytes();
    let len = bytes.len();
    RequestHead::parse(bytes, len, Vec::new(), 100).unwrap()
}

fn response_head(text: &str) -> ResponseHead<Vec<u8>> {
    let bytes = format!("{text}\r\n").into_bytes();
    let len = bytes.len();
    ResponseHead::parse(bytes, len, Vec::new(), 100).unwrap()
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

/// Forwards `GET / HTTP/1.1` with these fields.
fn request(fields: &str, next: &NextHop<'_>) -> String {
    let head = request_head(&format!("GET / HTTP/1.1\r\n{fields}"));
    text(|out| forward::request(out, &head, next))
}

fn upgrade(fields: &str) -> String {
    let head = request_head(&format!("GET / HTTP/1.1\r\n{fields}"));
    text(|out| forward::upgrade_request(out, &head, &NEXT))
}

/// Forwards a response with this status and these fields.
fn answer(line: &str, fields: &str, how: &ResponseForward<'_>) -> String {
    let head = response_head(&format!("HTTP/1.1 {line}\r\n{fields}"));
    text(|out| response(out, &head, how))
}

#[test]
fn the_request_line_is_made_of_prefix_path_and_query() {
    for (base_path, path, query, expected) in [
        ("", "/", None, "M / HTTP/1.1\r\n"),
        ("/base", "/a", Some("q=1?"), "M /base/a?q=1? HTTP/1.1\r\n"),
        ("/base", "/", Some(""), "M /base/? HTTP/1.1\r\n"),
        ("/base", "*", None, "M * HTTP/1.1\r\n"),
    ] {
        let (base_path, path) = (base_path.as_bytes(), path.as_bytes());
        let next = NextHop { base_path, path, query: query.map(str::as_bytes), ..NEXT };
        let head = request_head("M /other HTTP/1.0\r\n");
        let forwarded = text(|out| forward::request(out, &head, &next));
        assert_eq!(forwarded, format!("{expected}Host: h\r\n{FORWARDED}"));
    }
}

#[test]
fn fields_keep_order_number_and_spelling() {
    let fields = "b: 1\r\nHost: x\r\nA:2\r\nCookie: c=d\r\nB: 3\r\ncookie: e=f\r\nEmpty:\r\n";
    let expected = "b: 1\r\nA: 2\r\nCookie: c=d\r\nB: 3\r\ncookie: e=f\r\nEmpty: \r\n";
    assert_eq!(
        request(fields, &NEXT),
        format!("GET /p HTTP/1.1\r\nHost: h\r\n{expected}{FORWARDED}")
    );
}

#[test]
fn fields_about_the_connection_stay_behind() {
    let fields = "Connection: close, X-Own\r\nX-Own: 1\r\nconnection: keep-alive,,Y-Own\r\n\
        KEEP-ALIVE: 1\r\nY-own: 2\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: websocket\r\n\
        Proxy-Authorization: x\r\nProxy-Foo: x\r\nProxy: x\r\nHTTP2-Settings: x\r\nTrailer: t\r\n\
        Proxy_Authorization: x\r\n";
    let expected = format!("GET /p HTTP/1.1\r\nHost: h\r\nTrailer: t\r\n{FORWARDED}");
    assert_eq!(request(fields, &NEXT), expected);
}

#[test]
fn a_client_cannot_name_away_what_we_write() {
    let fields = "Connection: Host, Content-Length, X-Forwarded-For, X-Forwarded-Host, \
        X-Forwarded-Proto, Transfer-Encoding, Cookie\r\nCookie: c\r\nContent-Length: 5\r\n";
    let next = NextHop { framing: Framing::Length(5), ..NEXT };
    let expected = format!("GET /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n{FORWARDED}");
    assert_eq!(request(fields, &next), expected);
}

#[test]
fn only_so_many_named_fields_are_looked_at() {
    for (before, is_named) in [(63, true), (64, false)] {
        let fields = format!("Connection: {}N\r\nN: 1\r\n", "x,".repeat(before));
        assert_eq!(!request(&fields, &NEXT).contains("N: 1"), is_named, "{before}");
    }
}

#[test]
fn the_framing_is_written_anew() {
    for (framing, fields, expected) in [
        (Framing::Length(0), "", ""),
        (Framing::Length(0), "Content-Length: 000\r\n", "Content-Length: 0\r\n"),
        (Framing::Length(7), "content-length: 007\r\n", "Content-Length: 7\r\n"),
        (Framing::Chunked, "transfer-encoding: CHUNKED\r\n", "Transfer-Encoding: chunked\r\n"),
    ] {
        let next = NextHop { framing, ..NEXT };
        let expected = format!("GET /p HTTP/1.1\r\nHost: h\r\n{expected}{FORWARDED}");
        assert_eq!(request(fields, &next), expected);
    }
}

#[test]
fn expect_goes_on_only_for_those_who_know_it() {
    for (version, goes_on) in [("1.1", true), ("1.0", false)] {
        let head = request_head(&format!("PUT / HTTP/{version}\r\nExpect: 100-continue\r\n"));
        let forwarded = text(|out| forward::request(out, &head, &NEXT));
        assert_eq!(forwarded.contains("Expect: 100-continue\r\n"), goes_on, "{version}");
    }
}

#[test]
fn trailers_are_announced_when_the_client_takes_them() {
    let both = "Connection: TE\r\nTE: trailers\r\n";
    for (fields, announced) in [
        ("TE: gzip;q=0.5, Trailers\r\nConnection: close, te\r\n", true),
        ("TE: trailers\r\n", false),
        ("Connection: TE\r\nTE: gzip\r\n", false),
        ("Connection: TE\r\n", false),
    ] {
        let expected = if announced { both } else { "" };
        let expected = format!("GET /p HTTP/1.1\r\nHost: h\r\n{expected}{FORWARDED}");
        assert_eq!(request(fields, &NEXT), expected, "{fields}");
    }
}

#[test]
fn an_untrusted_client_tells_nothing_about_itself() {
    let fields = "Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Host: evil\r\n\
        x-forwarded-proto: https\r\nX_Forwarded_For: 1.1.1.1\r\nX-Forwarded_Port: 1\r\n\
        X-Forwarded-Anything: x\r\n";
    assert_eq!(request(fields, &NEXT), format!("GET /p HTTP/1.1\r\nHost: h\r\n{FORWARDED}"));
}

#[test]
fn a_trusted_client_is_believed_and_continued() {
    let next = NextHop { client_is_trusted: true, ..NEXT };
    let fields = "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nForwarded: for=1.1.1.1\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-For: 3.3.3.3\r\nX-Forwarded-Port: 1\r\n\
        X_Forwarded_For: 9.9.9.9\r\nX-Forwarded-For:\r\n";
    let expected = "GET /p HTTP/1.1\r\nHost: h\r\nForwarded: for=1.1.1.1\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n\
        X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1\r\n\
        X-Forwarded-Host: a.example\r\n\r\n";
    assert_eq!(request(fields, &next), expected);
    assert_eq!(request("", &next), format!("GET /p HTTP/1.1\r\nHost: h\r\n{FORWARDED}"));
}

#[test]
fn client_addresses_are_bare_and_canonical() {
    for (client, expected) in [
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
    ] {
        let next = NextHop { client: client.parse().unwrap(), authority: b"", ..NEXT };
        let expected = format!(
            "GET /p HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {expected}\r\n\
             X-Forwarded-Proto: http\r\n\r\n"
        );
        assert_eq!(request("", &next), expected);
    }
}

#[test]
fn an_upgrade_request_keeps_its_offer() {
    let fields = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\
        Upgrade: x/2\r\nHTTP2-Settings: s\r\nKeep-Alive: 5\r\n";
    let expected = format!(
        "GET /p HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\
         Upgrade: x/2\r\nConnection: Upgrade\r\n{FORWARDED}"
    );
    assert_eq!(upgrade(fields), expected);
}

#[test]
fn the_settings_of_h2c_go_along_when_they_are_named() {
    let fields = "Connection: Upgrade, HTTP2-Settings, TE\r\nUpgrade: h2c\r\nHTTP2-Settings: s\r\nTE: trailers\r\n";
    let expected = format!(
        "GET /p HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nHTTP2-Settings: s\r\n\
         Connection: Upgrade, HTTP2-Settings, TE\r\nTE: trailers\r\n{FORWARDED}"
    );
    assert_eq!(upgrade(fields), expected);
}

#[test]
fn a_response_keeps_its_fields_and_loses_its_connection() {
    let fields = "Server: s\r\nSet-Cookie: a=1\r\nConnection: X-Own, close\r\nKeep-Alive: 5\r\n\
        set-cookie: b=2\r\nX-Own: 1\r\nContent-Length: 3\r\nUpgrade: h2c\r\nProxy-Status: p\r\n\
        Proxy-Authenticate: x\r\n";
    let expected = "HTTP/1.1 200 Fine \r\nServer: s\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\
        Content-Length: 3\r\nProxy-Status: p\r\nDate: D\r\n\r\n";
    assert_eq!(answer("200 Fine ", fields, &HOW), expected);
}

#[test]
fn a_response_is_framed_as_asked() {
    let length = "Content-Length: 007\r\n";
    let coding = "Transfer-Encoding: chunked\r\n";
    let how = |framing| ResponseForward { framing, date: b"", ..HOW };
    for (line, framing, fields, expected) in [
        ("200 OK", ReplyFraming::AsReceived, length, "Content-Length: 7\r\n"),
        ("304 Not Modified", ReplyFraming::AsReceived, length, "Content-Length: 7\r\n"),
        ("200 OK", ReplyFraming::AsReceived, "Content-Length: 00\r\n", "Content-Length: 0\r\n"),
        ("204 No Content", ReplyFraming::AsReceived, length, ""),
        ("200 OK", ReplyFraming::AsReceived, coding, ""),
        ("200 OK", ReplyFraming::Chunked, length, coding),
        ("200 OK", ReplyFraming::Chunked, coding, coding),
        ("200 OK", ReplyFraming::UntilClose, length, ""),
        ("200 OK", ReplyFraming::UntilClose, coding, ""),
    ] {
        let expected = format!("HTTP/1.1 {line}\r\n{expected}\r\n");
        assert_eq!(answer(line, fields, &how(framing)), expected);
    }
}

#[test]
fn a_response_says_what_becomes_of_the_connection() {
    for (connection, expected) in [
        (Connection::Implied, ""),
        (Connection::Close, "Connection: close\r\n"),
        (Connection::KeepAlive, "Connection: keep-alive\r\n"),
    ] {
        let how = ResponseForward { connection, date: b"", ..HOW };
        let forwarded = answer("200 ", "Connection: keep-alive, close\r\n", &how);
        assert_eq!(forwarded, format!("HTTP/1.1 200 \r\n{expected}\r\n"));
    }
}

#[test]
fn only_a_426_keeps_the_protocols_it_names() {
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\nDate: B\r\n";
    assert_eq!(
        answer("426 Upgrade Required", fields, &HOW),
        "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nDate: B\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
    let closing = ResponseForward { connection: Connection::Close, ..HOW };
    assert!(
        answer("426 Upgrade Required", fields, &closing)
            .ends_with("Connection: Upgrade, close\r\n\r\n")
    );
    assert_eq!(
        answer("200 OK", fields, &HOW),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: B\r\n\r\n"
    );
}

#[test]
fn the_backends_date_wins() {
    let fields = "Connection: Date\r\ndate: B\r\n";
    assert_eq!(answer("200 OK", fields, &HOW), "HTTP/1.1 200 OK\r\ndate: B\r\n\r\n");
    assert_eq!(answer("200 OK", "", &HOW), "HTTP/1.1 200 OK\r\nDate: D\r\n\r\n");
}

#[test]
fn an_http_1_0_answer_becomes_ours() {
    let head = response_head("HTTP/1.0 404\r\nA: b\r\n");
    assert_eq!(text(|out| response(out, &head, &HOW)), "HTTP/1.1 404 \r\nA: b\r\nDate: D\r\n\r\n");
}

#[test]
fn informational_responses_carry_no_framing() {
    let head = response_head(
        "HTTP/1.1 103 Early Hints\r\nLink: l\r\nConnection: X\r\nX: y\r\nContent-Length: 0\r\nLink: m\r\n",
    );
    let expected = "HTTP/1.1 103 Early Hints\r\nLink: l\r\nLink: m\r\n\r\n";
    assert_eq!(text(|out| informational(out, &head)), expected);
}

#[test]
fn a_switch_is_forwarded_whole() {
    let fields = "Upgrade: websocket\r\nConnection: Upgrade, X-Own\r\nSec-WebSocket-Accept: a\r\n\
        Sec-WebSocket-Protocol: p\r\nX-Own: 1\r\nSet-Cookie: c\r\nSet-Cookie: d\r\n\
        Sec-WebSocket-Extensions: e\r\n";
    let dropped = "Keep-Alive: 5\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\
        Proxy-Connection: x\r\n";
    let line = "HTTP/1.1 101 Switching Protocols\r\n";
    let head = response_head(&format!("{line}{dropped}{fields}"));
    assert_eq!(text(|out| switching(out, &head)), format!("{line}{fields}\r\n"));
}

#[test]
fn a_switch_without_connection_gets_one() {
    let head = response_head("HTTP/1.1 101 \r\nUpgrade: x\r\nConnection: keep-alive\r\n");
    let expected =
        "HTTP/1.1 101 \r\nUpgrade: x\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(text(|out| switching(out, &head)), expected);
}

#[test]
fn trailers_that_would_change_the_message_stay_behind() {
    let section = "Grpc-Status: 0\r\nHost: x\r\ncontent-length: 5\r\nTRANSFER-ENCODING: chunked\r\n\
        Transfer_Encoding: chunked\r\nTrailer: x\r\nTE: x\r\nConnection: x\r\nAuthorization: x\r\n\
        Cookie: x\r\nSet-Cookie: x\r\nContent-Encoding: x\r\nContent-Type: x\r\nContent-Range: x\r\n\
        Cache-Control: x\r\nX-Forwarded-For: x\r\nX_Forwarded_Host: x\r\nForwarded: x\r\n\
        If-Match: x\r\nProxy-Authorization: x\r\nUpgrade: x\r\nServer-Timing: a\r\nETag: b\r\n\
        Digest:c\r\nDigest: d\r\n";
    let expected = "Grpc-Status: 0\r\nServer-Timing: a\r\nETag: b\r\nDigest:c\r\nDigest: d\r\n";
    assert_eq!(text(|out| forward::trailers(out, section.as_bytes())), expected);
    assert_eq!(text(|out| forward::trailers(out, b"")), "");
}
