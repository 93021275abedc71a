//! Answers of the proxy's own: their status, their few words, and what becomes of the connection.

use crate::support::setup::{front, tell_all};
use crate::support::{Backend, Client, Refusing, Response, Unaccepting};

/// Asserts that an answer is short and plain and names nothing that is behind the proxy.
fn assert_plain(response: &Response, secret: &str) {
    let text = response.text();
    assert!(!text.is_empty() && text.len() < 100 && text.ends_with('\n'), "{response:?}");
    assert!(text.starts_with(char::is_uppercase), "a sentence: {text}");
    assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
    assert!(response.field("date").is_some(), "{response:?}");
    for detail in [secret, "127.0.0.1", "os error", "refused", "Error", "src/", "errno"] {
        assert!(!response.head_text.contains(detail) && !text.contains(detail), "{response:?}");
    }
}

on_both_drivers! {
    fn a_backend_that_refuses_is_a_bad_gateway(driver) {
        let refusing = Refusing::start();
        let proxy = front(driver, &refusing.url(), "");
        let mut client = Client::connect(proxy.addr());
        for _ in 0..3 {
            let response = client.get("/secret-path?token=secret");
            assert_eq!((response.status, &*response.reason), (502, "Bad Gateway"));
            assert_eq!(response.field("connection"), None, "the client may stay");
            assert_plain(&response, "secret");
        }
        client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = client.read_response_to("HEAD");
        assert_eq!(head.status, 502);
        assert_ne!(head.field("content-length"), Some("0"));
        assert_eq!(client.get("/").status, 502, "no body came after the head");
    }

    fn a_backend_that_does_not_accept_is_a_timeout(driver) {
        let unaccepting = Unaccepting::start();
        let proxy = front(driver, &unaccepting.url(), "[timeouts]\nconnect = \"300ms\"");
        let response = Client::connect(proxy.addr()).get("/");
        assert_eq!((response.status, &*response.reason), (504, "Gateway Timeout"));
        assert_plain(&response, &unaccepting.addr().port().to_string());
    }

    fn a_backend_that_does_not_answer_is_a_timeout(driver) {
        let backend = Backend::scripted(|conn, number| {
            if number == 0 {
                conn.read_request();
                // Part of a head is no answer.
                conn.send("HTTP/1.1 200 OK\r\nX-Internal: db1\r\n");
                conn.expect_closed();
            } else {
                tell_all(conn);
            }
        });
        let proxy = front(driver, &backend.url(), "[timeouts]\nresponse_head = \"300ms\"");
        let mut client = Client::connect(proxy.addr());
        let response = client.get("/");
        assert_eq!(response.status, 504);
        assert_plain(&response, "db1");
        backend.wait_for_scripts(1);
        assert_eq!(client.get("/again").text(), "GET /again ");
    }

    fn a_backend_that_closes_unasked_is_a_bad_gateway(driver) {
        for answer in ["", "HTTP/1.1 200 OK\r\nX-Internal: db1\r\n"] {
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                conn.send(answer);
            });
            let proxy = front(driver, &backend.url(), "");
            let response = Client::connect(proxy.addr()).get("/");
            assert_eq!(response.status, 502, "{answer:?}");
            assert_plain(&response, "db1");
            assert_eq!(backend.accepted(), 1, "a fresh connection is not tried again");
        }
    }

    fn an_unread_body_ends_the_connection(driver) {
        let refusing = Refusing::start();
        let proxy = front(driver, &refusing.url(), "");
        for fields in ["Content-Length: 40", "Transfer-Encoding: chunked"] {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"));
            client.send("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
            let response = client.read_response();
            assert_eq!((response.status, response.field("connection")), (502, Some("close")));
            client.expect_eof();
        }
    }

    fn connect_is_not_a_method_here(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n\r\n");
        client.send("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (405, Some("close")));
        assert!(response.field("allow").is_some_and(|allow| allow.contains("GET")), "{response:?}");
        assert_plain(&response, "app.example");
        client.expect_eof();
        assert_eq!(backend.accepted(), 0);
    }

    fn an_answer_of_the_proxys_own_to_http_1_0_ends_the_connection(driver) {
        let refusing = Refusing::start();
        let proxy = front(driver, &refusing.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.read_response().status, 502);
        client.expect_eof();
    }
}
