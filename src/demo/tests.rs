//! The demo's backend, spoken to directly: by tungstenite's client and by bytes.
#![expect(clippy::disallowed_types, reason = "clients of a blocking server")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error, Message, WebSocket};

use super::start_backend;

/// Connects, offering `subprotocols` if there are any.
fn connect(
    backend: SocketAddr,
    subprotocols: &str,
) -> (WebSocket<MaybeTlsStream<TcpStream>>, Response) {
    let mut request = format!("ws://{backend}/ws").into_client_request().unwrap();
    if !subprotocols.is_empty() {
        let value = HeaderValue::from_str(subprotocols).unwrap();
        request.headers_mut().insert("sec-websocket-protocol", value);
    }
    tungstenite::connect(request).unwrap()
}

/// Sends `bytes` and returns all that comes back.
fn exchange(backend: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(backend).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_page_is_served_whole() {
    let backend = start_backend().unwrap();
    let answer = exchange(backend, b"GET /?from=mail HTTP/1.1\r\nHost: demo\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    for id in ["state", "sent", "received", "bytes-out", "bytes-in"] {
        assert!(body.contains(&format!("id=\"{id}\"")), "{id}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = include_str!("page.html");
    for reference in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn the_head_of_the_page_comes_without_its_content() {
    let backend = start_backend().unwrap();
    let answer = exchange(backend, b"HEAD / HTTP/1.1\r\nHost: demo\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn what_is_not_there_is_not_found() {
    let backend = start_backend().unwrap();
    for request in [
        &b"GET /favicon.ico HTTP/1.1\r\nHost: demo\r\n\r\n"[..],
        b"GET /ws HTTP/1.1\r\nHost: demo\r\n\r\n",
        b"GET /wss HTTP/1.1\r\nHost: demo\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: demo\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let answer = exchange(backend, request);
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    }
}

#[test]
fn bad_requests_are_told_so() {
    let backend = start_backend().unwrap();
    let fields = "x: y\r\n".repeat(100);
    let many = format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let large = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(16 * 1024));
    let no_key = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for (request, status) in [
        ("\0\0\0\0", "400 Bad Request"),
        (no_key, "400 Bad Request"),
        (&many, "431 Request Header Fields Too Large"),
        (&large, "431 Request Header Fields Too Large"),
    ] {
        let answer = exchange(backend, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
    }
}

#[test]
fn text_and_binary_messages_come_back_as_they_were() {
    let backend = start_backend().unwrap();
    let (mut socket, _) = connect(backend, "");
    let large: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::text("grüße \u{1f47b}"),
        Message::binary(vec![0, 255, 1, 254]),
        Message::binary(large),
    ] {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
}

#[test]
fn a_ping_is_answered_with_its_own_content() {
    let backend = start_backend().unwrap();
    let (mut socket, _) = connect(backend, "");
    socket.send(Message::Ping(b"are you there"[..].into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(b"are you there"[..].into()));
}

#[test]
fn a_close_is_answered_with_its_own_code() {
    let backend = start_backend().unwrap();
    let (mut socket, _) = connect(backend, "");
    let frame = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    socket.close(Some(frame.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(Some(frame)));
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn the_subprotocol_is_accepted_only_where_it_is_offered() {
    let backend = start_backend().unwrap();
    let chosen = |offered| {
        let (_socket, response) = connect(backend, offered);
        response.headers().get("sec-websocket-protocol").cloned()
    };
    assert_eq!(chosen("demo"), Some(HeaderValue::from_static("demo")));
    assert_eq!(chosen("chat, demo"), Some(HeaderValue::from_static("demo")));
    assert_eq!(chosen(""), None);
}

#[test]
fn a_message_that_is_too_large_closes_with_its_code() {
    let backend = start_backend().unwrap();
    let (mut socket, _) = connect(backend, "");
    // The header of a frame of 5 MiB, masked with zeros: its content need not follow.
    let header = [&[0x82, 0xff][..], &(5_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    let MaybeTlsStream::Plain(stream) = socket.get_mut() else { panic!("no TLS here") };
    stream.write_all(&header).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("not a close") };
    assert_eq!(frame.code, CloseCode::Size);
}

#[test]
fn a_frame_glued_to_the_handshake_is_echoed() {
    let backend = start_backend().unwrap();
    let mut stream = TcpStream::connect(backend).unwrap();
    let mut request = b"GET /ws HTTP/1.1\r\nHost: demo\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    // RFC 6455 §5.7: a masked "Hello".
    request.extend(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    stream.write_all(&request).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n\x81\x05Hello") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}
