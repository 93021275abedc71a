//! The harness judged by itself: its peers speak to each other without a proxy between them.
//!
//! A test that fails elsewhere while these pass speaks about the proxy.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::support::axum::big_bytes;
use crate::support::{
    AxumBackend, Backend, BackendConn, Checksum, Client, Peer, Random, Refusing, Unaccepting,
    checksum, ws,
};

#[test]
fn a_request_in_pieces_is_read_with_its_body_and_its_bytes() {
    let request = b"POST /a HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one: 2\r\n\
                    Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n";
    let backend = Backend::scripted(|conn, number| {
        let got = conn.read_request();
        assert_eq!((&*got.line, number), ("POST /a HTTP/1.1", 0));
        assert_eq!((&*got.method, &*got.target), ("POST", "/a"));
        assert_eq!((got.field("HOST"), got.all("x-one")), (Some("h"), vec!["1", "2"]));
        assert_eq!((&*got.body, &*got.raw), (&b"abc"[..], &request[..]));
        assert_eq!(got.trailers, [("T".to_owned(), "v".to_owned())]);
        conn.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
        conn.expect_eof();
    });
    let mut client = Client::connect(backend.addr());
    client.send_in_pieces(request, &[1, 17, 80, request.len() - 2]);
    assert_eq!(client.read_response_to("POST").status, 204);
    client.shutdown_write();
    backend.wait_for_scripts(1);
}

#[test]
fn a_response_ends_by_length_by_chunks_or_with_the_connection() {
    let backend = Backend::scripted_on_ipv6(|conn, _| {
        conn.read_request();
        conn.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        conn.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\nT: v\r\n\r\n",
        );
        conn.send("HTTP/1.1 404 Not Found here\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nrest");
    });
    assert!(backend.url().starts_with("http://[::1]:"));
    let mut client = Client::connect(backend.addr());
    assert_eq!(client.get("/").status, 103);
    assert_eq!(client.read_response().text(), "ab");
    assert_eq!(client.read_response_to("HEAD").body, b"");
    let chunked = client.read_response();
    assert_eq!((&*chunked.body, chunked.trailers.len()), (&b"c"[..], 1));
    let last = client.read_response();
    assert_eq!((&*last.version, last.status, &*last.reason), ("HTTP/1.1", 404, "Not Found here"));
    assert_eq!((last.field("set-cookie"), last.all("set-cookie").len()), (Some("a"), 2));
    assert_eq!((last.text(), last.head_text.ends_with("\r\n\r\n")), ("rest", true));
}

#[test]
fn bytes_past_a_head_are_kept_for_the_next_read() {
    let backend = Backend::scripted(|conn, _| {
        let head = conn.read_request_head();
        assert!(head.head_text.ends_with("\r\n\r\n"));
        conn.expect("glued");
        let key = head.field("Sec-WebSocket-Key").expect("a key").to_owned();
        conn.send(ws::switching_protocols(&key, &[("X-More", "1")]) + "also");
        conn.expect_closed();
    });
    let mut client = Client::connect(backend.addr());
    client.send(ws::ws_request("/ws", &[("Origin", "http://h")]) + "glued");
    let response = client.read_response();
    assert_eq!((response.status, response.field("x-more")), (101, Some("1")));
    assert_eq!(response.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.read_some(), b"also");
    assert_eq!(client.early(), b"");
}

#[test]
fn a_reset_is_told_from_an_orderly_end() {
    let backend = Backend::scripted(|conn, number| {
        conn.expect("x");
        match number {
            0 => conn.reset(),
            1 => conn.shutdown_write(),
            _ => {
                conn.send("y");
                conn.expect_reset();
            }
        }
    });
    let mut client = Client::connect(backend.addr());
    client.send("x");
    client.expect_reset();
    let mut client = Client::connect(backend.addr());
    client.send("x");
    client.expect_eof();
    let mut client = Client::connect(backend.addr());
    client.send("x");
    client.expect("y");
    client.reset();
    backend.wait_for_scripts(3);
    assert_eq!(backend.accepted(), 3);
}

#[test]
fn a_panic_in_a_script_fails_the_test_with_its_words() {
    let backend = Backend::scripted(|conn, _| {
        conn.expect("right");
    });
    Client::connect(backend.addr()).send("wrong");
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(backend)));
    let panic = outcome.expect_err("the script's panic is passed on");
    let words = panic.downcast_ref::<String>().expect("a message");
    assert!(words.contains("wrong") && words.contains("right"), "{words}");
}

#[test]
fn an_expired_guard_says_what_was_waited_for() {
    let backend = Backend::scripted(|conn, _| conn.expect_eof());
    let mut client = Client::connect(backend.addr());
    client.set_guard(Duration::from_millis(20));
    let outcome = catch_unwind(AssertUnwindSafe(|| client.read_exact(7)));
    let panic = outcome.expect_err("nothing arrives");
    let words = panic.downcast_ref::<String>().expect("a message");
    assert!(words.contains("guard") && words.contains("7 bytes"), "{words}");
}

#[test]
fn both_directions_of_a_connection_move_at_once() {
    let bytes = Random::new(7).bytes(4 << 20);
    let backend = Backend::scripted(echo);
    let mut client = Client::connect_with_receive_buffer(backend.addr(), 4096);
    let mut writer = client.second_handle();
    assert_eq!(client.local_addr(), writer.local_addr());
    assert_eq!(client.peer_addr(), backend.addr());
    let expected = checksum(&bytes);
    let sending = std::thread::spawn(move || {
        let mut random = Random::new(8);
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + random.below(100_000)));
            writer.try_send(piece).expect("the backend reads");
            rest = after;
        }
        writer.shutdown_write();
    });
    assert_eq!(checksum_to_eof(&mut client), expected);
    sending.join().expect("the writer sends everything");
}

fn echo(conn: &mut BackendConn, _: usize) {
    while let some @ [_, ..] = &*conn.read_some() {
        conn.send(some);
    }
}

fn checksum_to_eof(peer: &mut Peer) -> (u32, u64) {
    let mut checksum = Checksum::default();
    while let some @ [_, ..] = &*peer.read_some() {
        checksum.update(some);
    }
    checksum.finish()
}

#[test]
fn a_recording_backend_answers_and_keeps_what_it_got() {
    let backend = Backend::recording();
    let mut client = Client::connect(backend.addr());
    assert_eq!(client.get("/1").text(), "ok");
    client.send("HEAD /2 HTTP/1.1\r\n\r\n");
    assert_eq!(client.read_response_to("HEAD").body, b"");
    backend.wait_for_accepted(1);
    let requests = backend.requests();
    let targets: Vec<_> = requests.iter().map(|request| &*request.target).collect();
    assert_eq!(targets, ["/1", "/2"]);
    assert_eq!(requests[1].raw, b"HEAD /2 HTTP/1.1\r\n\r\n");
}

#[test]
fn a_refusing_and_an_unaccepting_address_fail_in_their_ways() {
    let refusing = Refusing::start();
    assert!(refusing.url().starts_with("http://127.0.0.1:"));
    let refused = TcpStream::connect(refusing.addr()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let unaccepting = Unaccepting::start();
    assert!(unaccepting.url().starts_with("http://127.0.0.1:"));
    let slow = TcpStream::connect_timeout(&unaccepting.addr(), Duration::from_millis(50));
    assert_eq!(slow.expect_err("the queue is full").kind(), ErrorKind::TimedOut);
}

#[test]
fn axum_answers_as_its_table_says() {
    let backend = AxumBackend::start();
    assert_eq!(backend.url(), format!("http://{}", backend.addr()));
    let mut client = Client::connect(backend.addr());
    assert_eq!(client.get("/hello").text(), "hello");
    assert!(client.get("/headers").text().contains("host: localhost\n"));
    assert_eq!(client.get("/cookies").all("set-cookie").len(), 2);
    let redirect = client.get("/redirect");
    assert_eq!((redirect.status, redirect.field("location")), (302, Some("/hello")));
    assert_eq!(client.get("/status/503").status, 503);
    assert_eq!(client.get("/slow/1").text(), "slow");
    assert_eq!(client.get("/none?q").text(), "GET /none?q");
    assert!(client.get("/big/200000").body == big_bytes(200_000));
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.read_response().text(), "body");
}

#[test]
fn axum_sends_an_event_when_it_is_asked() {
    let backend = AxumBackend::start();
    let mut client = Client::connect(backend.addr());
    client.send("GET /sse HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.read_response_head().status, 200);
    assert_eq!(client.read_chunk().expect("an event"), b"data: ready\n\n");
    backend.send_event("one");
    assert_eq!(client.read_chunk().expect("an event"), b"data: one\n\n");
}

#[test]
fn axum_echoes_a_frame_and_agrees_on_the_subprotocol() {
    let backend = AxumBackend::start();
    let mut client = Client::connect(backend.addr());
    client.send(ws::ws_request("/ws", &[("Sec-WebSocket-Protocol", "other, chat")]));
    let response = client.read_response();
    assert_eq!((response.status, response.field("sec-websocket-protocol")), (101, Some("chat")));
    assert_eq!(response.field("sec-websocket-accept"), Some(&*ws::accept_key(ws::KEY)));
    // A masked text frame "hi" with the mask 0, and its unmasked echo (RFC 6455 §5.2).
    client.send(b"\x81\x82\0\0\0\0hi");
    client.expect(b"\x81\x02hi");
}
