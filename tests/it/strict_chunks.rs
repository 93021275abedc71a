//! Chunked request bodies that break the grammar: refused, and never complete for the backend.

use crate::support::setup::front;
use crate::support::{Backend, Client, Gate};

const HEAD: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// Chunk lines, chunk ends, extensions and trailers that no two parsers read alike.
const BROKEN: [&str; 38] = [
    "\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "5h\r\nhello\r\n0\r\n\r\n",
    "g\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\t\r\nhello\r\n0\r\n\r\n",
    "5_0\r\nhello\r\n0\r\n\r\n",
    "5,5\r\nhello\r\n0\r\n\r\n",
    "5\0\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello!!0\r\n\r\n",
    "5\r\nhello \r\n0\r\n\r\n",
    "10000000000000000\r\nhello\r\n0\r\n\r\n",
    "8000000000000000\r\nhello\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "5;a\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;a=\0\r\nhello\r\n0\r\n\r\n",
    "5;a=\"\r\nhello\r\n0\r\n\r\n",
    "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
    "5;a=b=c\r\nhello\r\n0\r\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX: y\r\n folded\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\nX: a\0b\r\n\r\n",
    "0\r\n\nX: y\r\n\r\n",
    "0\n\r\n\r\n",
];

/// Sends a body that breaks the grammar and asserts what both sides see of it.
fn assert_refused(driver: crate::support::Driver, bodies: &[&str]) {
    let backend = Backend::scripted(|conn, _| {
        let (received, _) = conn.read_until_closed();
        let received = String::from_utf8_lossy(&received).into_owned();
        assert!(!received.ends_with("0\r\n\r\n"), "complete: {received}");
        assert!(!received.contains("smuggled"), "{received}");
    });
    let proxy = front(driver, &backend.url(), "");
    for body in bodies {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{HEAD}{body}{NEXT}"));
        let response = client.read_response();
        assert_eq!(response.status, 400, "{body:?}");
        assert_eq!(response.field("connection"), Some("close"), "{body:?}");
        let (rest, _) = client.read_until_closed();
        assert!(rest.is_empty(), "{body:?}: {}", rest.escape_ascii());
    }
    backend.wait_for_scripts(backend.accepted());
}

on_both_drivers! {
    fn chunks_that_break_the_grammar_are_refused(driver) {
        assert_refused(driver, &BROKEN);
    }

    fn extensions_and_trailers_without_end_are_refused(driver) {
        let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
        let trailer = format!("0\r\nX: {}\r\n\r\n", "y".repeat(20_000));
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(101));
        assert_refused(driver, &[&extension, &trailer, &trailers]);
    }

    fn a_break_behind_a_sound_chunk_is_refused_too(driver) {
        let arrived = Gate::default();
        let seen = arrived.clone();
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request_head();
            assert_eq!(conn.read_chunk().as_deref(), Some(&b"hello"[..]));
            seen.open();
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{HEAD}5\r\nhello\r\n"));
        arrived.pass("the backend has the first chunk");
        client.send(format!("5\nworld\r\n0\r\n\r\n{NEXT}"));
        assert_eq!(client.read_response().status, 400);
        client.expect_eof();
        backend.wait_for_scripts(1);
    }

    fn a_break_after_the_answer_has_begun_cuts_the_answer(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(HEAD);
        assert_eq!(client.read_response_head().status, 200);
        client.expect("4\r\nhalf\r\n");
        client.send(format!("zz\r\n{NEXT}"));
        let (rest, _) = client.read_until_closed();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
        backend.wait_for_scripts(1);
    }
}
