//! The control endpoint as an HTTP server: strict, bounded, and patient with nobody for long.

use crate::support::control::{JSON, get, post, post_json};
use crate::support::{Client, Driver, Proxy, eventually};

/// Bytes of a body that are accepted.
const BODY_MAX: usize = 1 << 20;

fn start() -> Proxy {
    Proxy::start(Driver::Epoll, "[server.app]\nproxy_url = \"http://127.0.0.1:1\"")
}

/// The status of the answer to these bytes, after which the connection has to end.
fn refused(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> u16 {
    let mut client = Client::connect(proxy.control_addr());
    client.send(bytes);
    let answer = client.read_response();
    assert_eq!(answer.field("connection"), Some("close"), "{answer:?}");
    client.shutdown_write();
    client.expect_eof();
    answer.status
}

#[test]
fn a_connection_carries_many_requests_until_its_client_closes_it() {
    let proxy = start();
    let mut client = Client::connect(proxy.control_addr());
    for _ in 0..50 {
        assert_eq!(get(&mut client, "/healthz").text(), "ok");
        assert_eq!(post(&mut client, "/invalidate_all").status, 200);
        assert_eq!(get(&mut client, "/nothing").status, 404);
        assert_eq!(post_json(&mut client, "/invalidate", "{\"pattern\":\"a\"}").status, 200);
    }
    client.send("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_response().field("connection"), Some("close"));
    client.shutdown_write();
    client.expect_eof();
}

#[test]
fn head_is_answered_with_the_head_alone() {
    let proxy = start();
    let mut client = Client::connect(proxy.control_addr());
    client.send("HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.read_response_to("HEAD");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("5")));
    assert_eq!(get(&mut client, "/healthz").text(), "ok");
}

#[test]
fn requests_may_arrive_together_or_byte_by_byte() {
    let proxy = start();
    let mut client = Client::connect(proxy.control_addr());
    let request = format!(
        "POST /invalidate HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON}\r\n\
         Transfer-Encoding: chunked\r\n\r\n7\r\n{{\"patte\r\n8;x=y\r\nrn\":\"a\"}}\r\n0\r\nA: b\r\n\r\n"
    );
    let health = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(format!("{request}{health}{request}"));
    let statuses: Vec<_> = (0..3).map(|_| client.read_response().status).collect();
    assert_eq!(statuses, [200, 200, 200]);
    let cuts: Vec<_> = (1..request.len()).collect();
    client.send_in_pieces(&request, &cuts);
    assert_eq!(client.read_response().text(), "Pattern invalidation triggered");
}

#[test]
fn a_client_that_waits_for_it_is_told_to_go_on() {
    let proxy = start();
    let mut client = Client::connect(proxy.control_addr());
    client.send(format!(
        "POST /invalidate HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON}\r\n\
         Content-Length: 15\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.read_response().status, 100);
    client.send("{\"pattern\":\"a\"}");
    assert_eq!(client.read_response().status, 200);
}

#[test]
fn what_is_no_sound_request_ends_the_connection() {
    let proxy = start();
    for (bytes, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\nHost: a\n\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (
            "POST /invalidate_all HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            400,
        ),
        (
            "POST /invalidate_all HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST /invalidate_all HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (
            "POST /invalidate_all HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            400,
        ),
        ("\x16\x03\x01\x02\x00\x01", 400),
    ] {
        assert_eq!(refused(&proxy, bytes), status, "{bytes:?}");
    }
    let mut client = Client::connect(proxy.control_addr());
    assert_eq!(get(&mut client, "/healthz").text(), "ok");
}

#[test]
fn heads_and_bodies_are_bounded() {
    let proxy = start();
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(16 * 1024));
    assert_eq!(refused(&proxy, long), 431);
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101));
    assert_eq!(refused(&proxy, many), 431);
    let head =
        |framing: &str| format!("POST /invalidate_all HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    // Refused by what it says.
    assert_eq!(refused(&proxy, head(&format!("Content-Length: {}", BODY_MAX + 1))), 413);
    // Refused by what comes.
    let mut chunked = head("Transfer-Encoding: chunked").into_bytes();
    for _ in 0..=BODY_MAX / 0x8000 {
        chunked.extend(b"8000\r\n");
        chunked.extend(vec![b'x'; 0x8000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(refused(&proxy, chunked), 413);
    let mut client = Client::connect(proxy.control_addr());
    let mut most = head(&format!("Content-Length: {BODY_MAX}")).into_bytes();
    most.extend(vec![b'x'; BODY_MAX]);
    client.send(most);
    assert_eq!(client.read_response().text(), "Cache invalidated");
}

#[test]
fn a_slow_client_holds_nobody_up() {
    let proxy = start();
    let addr = proxy.control_addr();
    let mut slow: Vec<_> = (0..20).map(|_| Client::connect(addr)).collect();
    for client in &mut slow {
        client.send("POST /invalidate HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{");
    }
    let mut client = Client::connect(addr);
    assert_eq!(get(&mut client, "/healthz").text(), "ok");
    assert_eq!(post(&mut client, "/invalidate_all").status, 200);
    for client in &mut slow {
        client.send("    ");
        assert_eq!(client.read_response().status, 415);
    }
}

#[test]
fn idle_connections_make_room_for_who_has_something_to_ask() {
    let proxy = start();
    let addr = proxy.control_addr();
    let mut idle: Vec<_> = (0..64).map(|_| Client::connect(addr)).collect();
    for client in &mut idle {
        assert_eq!(get(client, "/healthz").text(), "ok");
    }
    for _ in 0..3 {
        assert_eq!(get(&mut Client::connect(addr), "/healthz").text(), "ok");
    }
    for client in &mut idle {
        client.expect_closed();
    }
}

#[test]
fn connections_leave_nothing_behind() {
    let proxy = start();
    let addr = proxy.control_addr();
    assert_eq!(get(&mut Client::connect(addr), "/metrics").status, 200);
    let before = proxy.fd_count_at_rest();
    for round in 0..100 {
        let mut client = Client::connect(addr);
        match round % 4 {
            0 => client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n"),
            1 => client.send("POST /invalidate HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"),
            2 => client.reset(),
            _ => assert_eq!(get(&mut client, "/metrics").status, 200),
        }
    }
    eventually("its descriptors are closed", || proxy.fd_count() <= before);
}
