//! Request heads that are refused, with their status; nothing after them is parsed.
//!
//! A second request follows each in the same write. It must be neither answered nor forwarded.

use crate::support::setup::front;
use crate::support::{Backend, Client, Driver};

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// Sends each request to one proxy and expects exactly one answer, with this status, and the end.
fn assert_refused(driver: Driver, cases: &[(&str, u16)]) {
    let backend = Backend::recording();
    let proxy = front(driver, &backend.url(), "");
    for (request, status) in cases {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{request}{NEXT}"));
        let response = client.read_response();
        assert_eq!(response.status, *status, "{request:?}");
        assert_eq!(response.field("connection"), Some("close"), "{request:?}");
        let text = response.text();
        assert!(!text.is_empty() && text.len() < 100, "{request:?}: {text}");
        let (rest, _) = client.read_until_closed();
        assert!(rest.is_empty(), "{request:?}: {}", rest.escape_ascii());
    }
    assert_eq!(backend.accepted(), 0, "the backend saw something");
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok", "the proxy goes on");
}

/// As [`assert_refused`], for requests that differ in some field lines only.
fn assert_fields_refused(driver: Driver, cases: &[(&str, u16)]) {
    let requests = cases.iter().map(|(fields, status)| {
        (format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\nhello"), *status)
    });
    let requests: Vec<_> = requests.collect();
    let cases: Vec<_> = requests.iter().map(|(request, status)| (&**request, *status)).collect();
    assert_refused(driver, &cases);
}

on_both_drivers! {
    fn two_framings_are_refused_in_any_order(driver) {
        assert_fields_refused(driver, &[
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
            ("Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 0", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: identity", 400),
            ("Content-Length: 5\r\nTransfer-Encoding:", 400),
            ("Content-Length: 5\r\nTransfer_Encoding: chunked", 400),
        ]);
    }

    fn a_length_that_is_not_one_number_is_refused(driver) {
        assert_fields_refused(driver, &[
            ("Content-Length: 5\r\nContent-Length: 5", 400),
            ("Content-Length: 5\r\nContent-Length: 6", 400),
            ("Content-Length: 5\r\nX: y\r\ncontent-length: 0", 400),
            ("Content-Length: 5, 5", 400),
            ("Content-Length: 5,5", 400),
            ("Content-Length: 5,6", 400),
            ("Content-Length: +5", 400),
            ("Content-Length: -5", 400),
            ("Content-Length: 0x5", 400),
            ("Content-Length: 5 5", 400),
            ("Content-Length: 5.0", 400),
            ("Content-Length: five", 400),
            ("Content-Length: \"5\"", 400),
            ("Content-Length:", 400),
            ("Content-Length: 9223372036854775808", 400),
            ("Content-Length: 18446744073709551621", 400),
            ("Content-Length: 99999999999999999999999999999999999999", 400),
            ("Content-Length: \u{b2}", 400),
            ("Content_Length: 5", 400),
        ]);
    }

    fn a_coding_other_than_chunked_is_refused(driver) {
        assert_fields_refused(driver, &[
            ("Transfer-Encoding: gzip", 501),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Transfer-Encoding: identity", 501),
            ("Transfer-Encoding: xchunked", 501),
            ("Transfer-Encoding: chunkedx", 501),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
            ("Transfer-Encoding: chunked, gzip", 400),
            ("Transfer-Encoding: chunked, chunked", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", 400),
            ("Transfer-Encoding:", 400),
            ("Transfer-Encoding: ,chunked", 400),
            ("Transfer-Encoding: chunked,", 400),
            ("Transfer-Encoding: chunked;q=1", 400),
            ("Transfer-Encoding: \"chunked\"", 400),
            ("Transfer-Encoding: chun ked", 400),
            ("Transfer-Encoding: \x0bchunked", 400),
            ("Transfer-Encoding: chunked\x0b", 400),
            ("Transfer-Encoding: \x0cchunked", 400),
            ("Transfer-Encoding: chunked\0", 400),
            ("Transfer-Encoding : chunked", 400),
            ("Transfer-Encoding\t: chunked", 400),
            ("Transfer-Encoding: x\r\n chunked", 400),
        ]);
        assert_refused(driver, &[
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ]);
    }

    fn a_line_that_breaks_the_grammar_is_refused(driver) {
        assert_fields_refused(driver, &[
            ("X: a\nY: b", 400),
            ("X: a\rY: b", 400),
            ("X: a\r\rY: b", 400),
            ("X: a\0b", 400),
            ("X\0: a", 400),
            ("X: a\x7fb", 400),
            ("X: a\x1bb", 400),
            ("X : a", 400),
            ("X\t: a", 400),
            (" X: a", 400),
            ("X: a\r\n folded", 400),
            ("X: a\r\n\tfolded", 400),
            ("X: a\r\n ", 400),
            ("no colon", 400),
            (": no name", 400),
            ("X(y): a", 400),
            ("X y: a", 400),
            ("\u{e9}: a", 400),
        ]);
        assert_refused(driver, &[
            ("GET / HTTP/1.1\nHost: h\n\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
            ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
            ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ]);
    }

    fn a_request_needs_exactly_one_valid_host(driver) {
        assert_refused(driver, &[
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nX-Host: h\r\n\r\n", 400),
            ("GET http://a.example/ HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nhost: other\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\"\r\n\r\n", 400),
        ]);
    }

    fn a_start_line_that_is_not_ours_is_refused(driver) {
        assert_refused(driver, &[
            ("GET /\r\n\r\n", 400),
            ("GET\r\n\r\n", 400),
            (" / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
            ("GET / x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET / http/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.1x\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/+1.1\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505),
            ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            ("\x16\x03\x01\x02\0\x01\0\x01", 400),
            ("\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ]);
    }

    fn a_target_of_no_form_is_refused(driver) {
        assert_refused(driver, &[
            ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET ?q HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET ftp://a/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET http://u@a/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET /\tx HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 405),
            ("CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        ]);
    }

    fn whitespace_around_a_sound_value_is_not_held_against_it(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        for fields in [
            "Transfer-Encoding: Chunked ", "TRANSFER-encoding:\tCHUNKED\t \t", "transfer-encoding:chunked",
        ] {
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n1\r\na\r\n0\r\n\r\n"));
            assert_eq!(client.read_response().text(), "ok", "{fields:?}");
        }
        for fields in ["Content-Length: \t1 ", "content-LENGTH:1", "Content-Length: 001"] {
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\na"));
            assert_eq!(client.read_response().text(), "ok", "{fields:?}");
        }
        for (number, request) in backend.requests().iter().enumerate() {
            let framing = [request.all("transfer-encoding"), request.all("content-length")].concat();
            assert_eq!(framing, [if number < 3 { "chunked" } else { "1" }]);
            assert_eq!(request.body, b"a");
        }
    }

    fn what_came_before_a_bad_request_is_answered_and_nothing_after_it(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        let good = "GET /good HTTP/1.1\r\nHost: h\r\n\r\n";
        let bad = "POST /bad HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 37\r\n\r\n";
        client.send(format!("{good}{good}{bad}{NEXT}"));
        assert_eq!([(); 3].map(|()| client.read_response().status), [200, 200, 400]);
        client.expect_eof();
        let requests = backend.requests();
        assert!(requests.len() == 2 && requests.iter().all(|request| request.target == "/good"));
    }

    fn a_client_that_is_still_sending_can_read_the_answer(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        for request in [
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            let mut client = Client::connect(proxy.addr());
            client.send(request);
            // More than both sockets hold: it is being read, and thrown away.
            client.send(vec![b'x'; 16 << 20]);
            assert_eq!(client.read_response().status, 400, "{request:?}");
            client.expect_eof();
        }
        assert!(backend.requests().is_empty());
    }
}
