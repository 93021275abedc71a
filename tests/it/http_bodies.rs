//! Bodies in every framing, both ways, byte by byte; HTTP/1.0 clients.

use crate::support::setup::{front, ok};
use crate::support::{Backend, BackendConn, Client};

/// Starts a backend that answers every request with these bytes and then closes or goes on.
fn answering(answer: &'static str, then_close: bool) -> Backend {
    Backend::scripted(move |conn: &mut BackendConn, _| {
        while conn.next_request().is_some() {
            conn.send(answer);
            if then_close {
                return;
            }
        }
    })
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
    3;x=y\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\nX-More: 1\r\n\r\n";

on_both_drivers! {
    fn a_request_body_of_known_length_arrives_with_that_length(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("POST /up HTTP/1.1\r\nHost: h\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(client.read_response().text(), "ok");
        client.send("POST /none HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.read_response().text(), "ok");
        client.get("/get");
        let requests = backend.requests();
        assert_eq!((requests[0].all("content-length"), &*requests[0].body), (vec!["5"], &b"hello"[..]));
        assert_eq!((requests[1].all("content-length"), &*requests[1].body), (vec!["0"], &b""[..]));
        assert_eq!((requests[2].field("content-length"), &*requests[2].body), (None, &b""[..]));
        assert!(requests.iter().all(|request| request.field("transfer-encoding").is_none()));
    }

    fn a_chunked_request_body_is_framed_anew(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send("4;name=value\r\nwiki\r\n05;q = \"a\\\"b;\"\r\npedia\r\n");
        client.send("00;last\r\nX-Sum: 9\r\nx-sum: 10\r\n\r\n");
        assert_eq!(client.read_response().text(), "ok");
        let request = backend.requests().remove(0);
        assert_eq!(request.body, b"wikipedia");
        assert_eq!(request.all("transfer-encoding"), ["chunked"]);
        assert_eq!(request.field("content-length"), None);
        let trailers = [("X-Sum".to_owned(), "9".to_owned()), ("x-sum".to_owned(), "10".to_owned())];
        assert_eq!(request.trailers, trailers);
        let framed = &request.raw[request.head_text.len()..];
        assert!(!framed.contains(&b';'), "{}", framed.escape_ascii());
    }

    fn trailers_that_would_change_the_request_are_dropped(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n");
        client.send("Content-Length: 9\r\nHost: evil\r\nAuthorization: x\r\nX-Forwarded-For: 1.2.3.4\r\n");
        client.send("X-Good: 1\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_response().text(), "ok");
        let trailers = backend.requests().remove(0).trailers;
        assert_eq!(trailers, [("X-Good".to_owned(), "1".to_owned())]);
    }

    fn a_chunked_response_keeps_its_trailers(driver) {
        let backend = answering(CHUNKED, false);
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!((response.text(), response.field("trailer")), ("abcdefg", Some("X-Sum")));
            let trailers = response.trailers.iter().map(|(name, value)| format!("{name}={value}"));
            assert_eq!(trailers.collect::<Vec<_>>(), ["X-Sum=7", "X-More=1"]);
        }
        assert_eq!(backend.accepted(), 1, "both connections persist");
    }

    fn a_response_until_close_is_chunked_and_the_client_stays(driver) {
        let backend = answering("HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nuntil the end", true);
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!(response.all("transfer-encoding"), ["chunked"]);
            assert_eq!((response.text(), response.field("connection")), ("until the end", None));
        }
        assert_eq!(backend.accepted(), 2);
    }

    fn a_client_of_http_1_0_gets_no_chunks(driver) {
        for (answer, then_close) in [("HTTP/1.1 200 OK\r\n\r\nabcdefg", true), (CHUNKED, false)] {
            let backend = answering(answer, then_close);
            let proxy = front(driver, &backend.url(), "");
            for fields in ["", "Connection: keep-alive\r\n"] {
                let mut client = Client::connect(proxy.addr());
                client.send(format!("GET / HTTP/1.0\r\n{fields}\r\n"));
                let response = client.read_response();
                assert_eq!((response.field("transfer-encoding"), response.text()), (None, "abcdefg"));
                assert_eq!(response.field("content-length"), None);
                assert_eq!(response.field("connection"), Some("close"));
                client.expect_eof();
            }
        }
    }

    fn a_client_of_http_1_0_stays_if_it_asks_to(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..2 {
            client.send("GET /a HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n");
            let response = client.read_response();
            assert_eq!((response.text(), response.field("connection")), ("ok", Some("keep-alive")));
        }
        client.send("GET /b HTTP/1.0\r\n\r\n");
        assert_eq!(client.read_response().field("connection"), Some("close"));
        client.expect_eof();
        let lines: Vec<_> = backend.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, ["GET /a HTTP/1.1", "GET /a HTTP/1.1", "GET /b HTTP/1.1"]);
    }

    fn a_client_that_says_close_is_closed(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: x,\tClose\r\n\r\n");
        client.send("GET /never HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.text(), response.field("connection")), ("ok", Some("close")));
        client.expect_eof();
        assert_eq!(backend.requests().len(), 1);
    }

    fn a_response_without_content_ends_with_its_head(driver) {
        for (method, answer, length) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", Some("900")),
            ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
            ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\nETag: \"a\"\r\n\r\n", Some("900")),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ] {
            let backend = answering(answer, false);
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            for _ in 0..3 {
                client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
                let response = client.read_response_to(method);
                assert_eq!(response.field("content-length"), length, "{method} {answer}");
                assert_eq!(response.field("connection"), None, "{method} {answer}");
            }
            assert_eq!((client.early(), backend.accepted()), (&b""[..], 1), "{method} {answer}");
        }
    }

    fn a_client_that_has_finished_sending_still_gets_its_answer(driver) {
        let backend = Backend::scripted(|conn, _| {
            let body = conn.read_request().body;
            conn.send(ok(&String::from_utf8_lossy(&body)));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        client.shutdown_write();
        assert_eq!(client.read_response().text(), "abc");
        client.expect_eof();
    }
}
