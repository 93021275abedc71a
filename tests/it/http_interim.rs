//! Interim responses: 100 before the body, hints, and who does not get them (RFC 9110 section 15.2).

use crate::support::setup::{front, ok};
use crate::support::{Backend, Client, Gate};

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

/// Starts a backend that answers each request with `count` interim responses and a 200.
fn hinting(interim: &'static str, count: usize) -> Backend {
    Backend::scripted(move |conn, _| {
        while conn.next_request().is_some() {
            let answer = interim.repeat(count) + &ok("done");
            // The proxy may have had enough of them.
            drop(conn.try_send(answer.as_bytes()));
        }
    })
}

on_both_drivers! {
    fn a_client_that_waits_for_100_gets_it_before_its_body(driver) {
        let backend = Backend::scripted(|conn, _| {
            assert_eq!(conn.read_request_head().all("expect"), ["100-continue"]);
            assert_eq!(conn.early(), b"");
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            conn.expect("body");
            conn.send(ok("stored"));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(EXPECTING);
        let interim = client.read_response();
        assert_eq!((interim.status, interim.fields.len()), (100, 0));
        client.send("body");
        assert_eq!(client.read_response().text(), "stored");
    }

    fn a_refusal_instead_of_100_ends_the_connection(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
            conn.expect_closed();
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(EXPECTING);
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (417, "no"));
        // Nobody can tell whether what comes now is the body or a request.
        assert_eq!(response.field("connection"), Some("close"));
        client.expect_eof();
        backend.wait_for_scripts(1);
    }

    fn a_client_that_does_not_wait_for_100_is_served_too(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.expect("body");
            conn.send(ok("stored"));
            assert_eq!(conn.read_request().target, "/next");
            conn.send(ok("next"));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(EXPECTING);
        client.send("body");
        assert_eq!(client.read_response().text(), "stored");
        assert_eq!(client.get("/next").text(), "next");
    }

    fn hints_arrive_before_the_answer_exists(driver) {
        let hinted = Gate::default();
        let seen = hinted.clone();
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request();
            conn.send("HTTP/1.1 102 Processing\r\nConnection: x-gone\r\nX-Gone: 1\r\n\r\n");
            conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n");
            seen.pass("the client has the hints");
            conn.send(ok("page"));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        let first = client.get("/");
        assert_eq!((first.status, &*first.reason, first.fields.len()), (102, "Processing", 0));
        let hints = client.read_response();
        assert_eq!((hints.status, hints.all("link")), (103, vec!["</a>", "</b>"]));
        hinted.open();
        assert_eq!(client.read_response().text(), "page");
    }

    fn a_client_of_http_1_0_gets_no_interim_response(driver) {
        let backend = hinting("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 3);
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "done"));
    }

    fn an_expectation_of_http_1_0_is_not_passed_on(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("POST / HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
        assert_eq!(client.read_response().text(), "ok");
        let request = backend.requests().remove(0);
        assert_eq!((request.field("expect"), &*request.body), (None, &b"body"[..]));
    }

    fn twenty_interim_responses_are_relayed(driver) {
        let backend = hinting("HTTP/1.1 102 Processing\r\n\r\n", 20);
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        for _ in 0..20 {
            assert_eq!(client.read_response().status, 102);
        }
        assert_eq!(client.read_response().text(), "done");
    }

    fn forty_interim_responses_are_a_bad_answer(driver) {
        let backend = hinting("HTTP/1.1 102 Processing\r\n\r\n", 40);
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut statuses = (0..=40).map(|_| client.read_response().status);
        assert_eq!(statuses.find(|status| *status != 102), Some(502));
    }
}
