//! Peers that stop: within a head, between requests, within a body.
//!
//! A timeout under test is configured short and the test waits for what it does; nothing is timed.

use crate::support::setup::{front, telling};
use crate::support::{Backend, Client, Closed, Gate};

on_both_drivers! {
    fn a_head_that_does_not_end_is_answered_and_closed(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[timeouts]\nhead = \"300ms\"");
        for part in ["G", "GET / HTTP/1.1\r\nHost: h\r\n"] {
            let mut client = Client::connect(proxy.addr());
            client.send(part);
            let response = client.read_response();
            assert_eq!((response.status, response.field("connection")), (408, Some("close")), "{part}");
            client.expect_eof();
        }
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").status, 200);
        client.send("GET /second HTTP/1.1\r\n");
        assert_eq!(client.read_response().status, 408);
        client.expect_eof();
        assert_eq!(backend.requests().len(), 1);
    }

    fn a_head_in_drops_does_not_put_the_deadline_off(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[timeouts]\nhead = \"300ms\"");
        let mut client = Client::connect(proxy.addr());
        let mut writer = client.second_handle();
        let answered = Gate::default();
        let enough = answered.clone();
        let drops = std::thread::spawn(move || {
            writer.send("GET / HTTP/1.1\r\nX: ");
            // Slow enough to stay below the limit of bytes until the guard.
            while !enough.is_open() && writer.try_send(b"x").is_ok() {
                std::thread::park_timeout(std::time::Duration::from_millis(10));
            }
        });
        assert_eq!(client.read_response().status, 408);
        client.expect_eof();
        answered.open();
        drops.join().expect("the writer ends");
    }

    fn a_client_that_says_nothing_is_closed_without_a_word(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[timeouts]\nhead = \"300ms\"");
        Client::connect(proxy.addr()).expect_eof();
        assert_eq!(backend.accepted(), 0);
    }

    fn an_idle_client_is_closed_without_a_word(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "[timeouts]\nkeepalive = \"300ms\"");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "GET / ");
        client.expect_eof();
    }

    fn an_upload_that_stops_is_answered_and_closed(driver) {
        let backend = Backend::scripted(|conn, _| {
            let (received, _) = conn.read_until_closed();
            let received = String::from_utf8_lossy(&received).into_owned();
            assert!(received.ends_with("half") || received.ends_with("4\r\nhalf\r\n"), "{received}");
        });
        let proxy = front(driver, &backend.url(), "[timeouts]\nbody_idle = \"300ms\"");
        for (fields, body) in [("Content-Length: 9", "half"), ("Transfer-Encoding: chunked", "4\r\nhalf\r\n")] {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}"));
            let response = client.read_response();
            assert_eq!((response.status, response.field("connection")), (408, Some("close")));
            client.expect_eof();
        }
        backend.wait_for_scripts(2);
    }

    fn a_response_that_stops_is_seen_to_be_cut(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            conn.expect_closed();
        });
        let proxy = front(driver, &backend.url(), "[timeouts]\nbody_idle = \"300ms\"");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_response_head();
        client.expect("4\r\nhalf\r\n");
        let (rest, _) = client.read_until_closed();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.0\r\n\r\n");
        client.read_response_head();
        client.expect("half");
        let (rest, how) = client.read_until_closed();
        assert_eq!((rest, how), (Vec::new(), Closed::ByReset));
    }

    fn a_client_that_stops_reading_is_given_up(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\n\r\n");
            let part = vec![b'x'; 1 << 16];
            while conn.try_send(&part).is_ok() {}
        });
        let proxy = front(driver, &backend.url(), "[timeouts]\nbody_idle = \"300ms\"");
        let mut client = Client::connect_with_receive_buffer(proxy.addr(), 8192);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_response_head();
        backend.wait_for_scripts(1);
    }

    fn a_slow_but_steady_body_is_not_cut(driver) {
        // The steady answer goes on until an upload, begun after it, has stalled for too long.
        let stalled = Gate::default();
        let until = stalled.clone();
        let backend = Backend::scripted(move |conn, number| {
            conn.read_request_head();
            if number > 0 {
                return conn.expect_closed();
            }
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while !until.is_open() {
                conn.send("1\r\nx\r\n");
                std::thread::park_timeout(std::time::Duration::from_millis(5));
            }
            conn.send("3\r\nend\r\n0\r\n\r\n");
        });
        let proxy = front(driver, &backend.url(), "[timeouts]\nbody_idle = \"500ms\"");
        let mut steady = Client::connect(proxy.addr());
        steady.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(steady.read_response_head().status, 200);
        let mut stall = Client::connect(proxy.addr());
        stall.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
        assert_eq!(stall.read_response().status, 408);
        stalled.open();
        let mut last = Vec::new();
        while let Some(chunk) = steady.read_chunk() {
            last = chunk;
        }
        assert!(last.ends_with(b"end"), "{}", last.escape_ascii());
    }
}
