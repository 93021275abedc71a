//! Bodies that move while they are made: events, long polls, uploads answered before their end.

use crate::support::setup::{front, ok};
use crate::support::{AxumBackend, Backend, Client, Closed, Gate};

const UPLOAD: &str = "POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n";

on_both_drivers! {
    fn events_arrive_one_by_one(driver) {
        let backend = AxumBackend::start();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET /sse HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = client.read_response_head();
        assert_eq!(head.field("content-type"), Some("text/event-stream"));
        assert_eq!(client.read_chunk().expect("an event"), b"data: ready\n\n");
        for event in ["one", "two", "three"] {
            backend.send_event(event);
            assert_eq!(client.read_chunk().expect("an event"), format!("data: {event}\n\n").as_bytes());
        }
    }

    fn a_part_of_a_response_does_not_wait_for_the_next(driver) {
        for (fields, parts, end) in [
            ("Content-Length: 9\r\n", ["one", "two", "six"], ""),
            ("", ["one", "two", "six"], ""),
            ("Transfer-Encoding: chunked\r\n", ["3\r\none\r\n", "3\r\ntwo\r\n", "3\r\nsix\r\n"], "0\r\n\r\n"),
        ] {
            let seen: [Gate; 4] = Default::default();
            let gates = seen.clone();
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                conn.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
                for (gate, part) in gates.iter().zip(parts) {
                    gate.pass("the client has the part before");
                    conn.send(part);
                }
                gates[3].pass("the client has the last part");
                conn.send(end);
            });
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            let is_chunked = client.read_response_head().field("transfer-encoding").is_some();
            assert_eq!(is_chunked, !fields.contains("Length"));
            for (gate, part) in seen.iter().zip(["one", "two", "six"]) {
                gate.open();
                let got = if is_chunked { client.read_chunk() } else { Some(client.read_exact(3)) };
                assert_eq!(got.as_deref(), Some(part.as_bytes()));
            }
            seen[3].open();
            if is_chunked {
                assert_eq!(client.read_chunk(), None);
                client.expect("\r\n");
            }
        }
    }

    fn a_long_poll_outlasts_every_timeout_but_its_own(driver) {
        // The second exchange ends when its body has stalled for long enough; the first, begun
        // before it, is still waiting then.
        let asked = Gate::default();
        let stalled = Gate::default();
        let (hears, passes) = (asked.clone(), stalled.clone());
        let backend = Backend::scripted(move |conn, _| {
            if conn.read_request_head().target == "/poll" {
                hears.open();
                passes.pass("the other exchange has timed out");
                conn.send(ok("news"));
            } else {
                conn.expect_closed();
            }
        });
        let tables = "[timeouts]\nbody_idle = \"300ms\"\nhead = \"300ms\"\nkeepalive = \"300ms\"\n\
            connect = \"300ms\"";
        let proxy = front(driver, &backend.url(), tables);
        let mut poll = Client::connect(proxy.addr());
        poll.send("GET /poll HTTP/1.1\r\nHost: h\r\n\r\n");
        asked.pass("the poll has arrived");
        let mut stall = Client::connect(proxy.addr());
        stall.send(UPLOAD);
        stall.send("half");
        assert_eq!(stall.read_response().status, 408);
        stalled.open();
        assert_eq!(poll.read_response().text(), "news");
    }

    fn a_part_of_an_upload_does_not_wait_for_the_next(driver) {
        let first = Gate::default();
        let seen = first.clone();
        let backend = Backend::scripted(move |conn, _| {
            assert_eq!(conn.read_request_head().field("content-length"), Some("10"));
            conn.expect("hello");
            seen.open();
            conn.expect("world");
            conn.send(ok("both"));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(UPLOAD);
        client.send("hello");
        first.pass("the backend has the first part");
        client.send("world");
        assert_eq!(client.read_response().text(), "both");
    }

    fn a_head_does_not_wait_for_its_body(driver) {
        let arrived = Gate::default();
        let seen = arrived.clone();
        let backend = Backend::scripted(move |conn, _| {
            assert_eq!(conn.read_request_head().field("transfer-encoding"), Some("chunked"));
            seen.open();
            assert_eq!(conn.read_chunk().as_deref(), Some(&b"late"[..]));
            assert_eq!(conn.read_chunk(), None);
            assert!(conn.read_trailers().is_empty());
            conn.send(ok("ok"));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        arrived.pass("the backend has the head");
        client.send("4\r\nlate\r\n0\r\n\r\n");
        assert_eq!(client.read_response().text(), "ok");
    }

    fn an_upload_and_its_answer_move_at_once(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while let Some(chunk) = conn.read_chunk() {
                conn.send(format!("{:x}\r\n", chunk.len()));
                conn.send([&chunk[..], b"\r\n"].concat());
            }
            conn.read_trailers();
            conn.send("0\r\n\r\n");
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(client.read_response_head().status, 200);
        for part in ["ping", "pong", "and so on"] {
            client.send(format!("{:x}\r\n{part}\r\n", part.len()));
            assert_eq!(client.read_chunk().as_deref(), Some(part.as_bytes()));
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.read_chunk(), None);
        client.expect("\r\n");
    }

    fn an_early_refusal_arrives_and_ends_the_connection(driver) {
        const TOO_LARGE: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch";
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.send(TOO_LARGE);
            conn.expect_closed();
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(UPLOAD);
        client.send("half");
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (413, "much"));
        assert_eq!(response.field("connection"), Some("close"));
        client.expect_eof();
        drop(client);
        let mut client = Client::connect(proxy.addr());
        client.send("POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 99000000\r\n\r\n");
        let mut writer = client.second_handle();
        let sending = std::thread::spawn(move || {
            let megabyte = vec![0; 1 << 20];
            (0..16).all(|_| writer.try_send(&megabyte).is_ok())
        });
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (413, "much"));
        client.expect_eof();
        drop(client);
        sending.join().expect("the writer stops when it must");
        backend.wait_for_scripts(2);
        assert_eq!(backend.accepted(), 2, "an unfinished upload leaves no usable connection");
    }

    fn an_upload_that_breaks_off_is_not_taken_for_complete(driver) {
        for (fields, body) in [("Content-Length: 10", "half"), ("Transfer-Encoding: chunked", "4\r\nhalf\r\n")] {
            let arrived = Gate::default();
            let seen = arrived.clone();
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request_head();
                conn.expect(body);
                seen.open();
                let (rest, _) = conn.read_until_closed();
                assert!(rest.is_empty(), "after an abort: {}", rest.escape_ascii());
            });
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}"));
            arrived.pass("the backend has the first part");
            drop(client);
            backend.wait_for_scripts(1);
        }
    }

    fn a_client_that_leaves_ends_the_backends_work(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\n\r\n");
            // An endless answer: only an error ends it.
            let part = vec![b'x'; 1 << 16];
            while conn.try_send(&part).is_ok() {}
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_exact(100_000);
        client.reset();
        backend.wait_for_scripts(1);
    }

    fn a_client_that_leaves_a_silent_backend_ends_its_work(driver) {
        let asked = Gate::default();
        let heard = asked.clone();
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request();
            heard.open();
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty());
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        asked.pass("the backend has the request");
        client.reset();
        backend.wait_for_scripts(1);
    }

    fn a_backend_that_breaks_off_is_seen_to_by_every_client(driver) {
        for (answer, request, closed) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "GET / HTTP/1.1", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "GET / HTTP/1.0", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "GET / HTTP/1.1", None),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                "GET / HTTP/1.0",
                Some(Closed::ByReset),
            ),
        ] {
            let received = Gate::default();
            let leaves = received.clone();
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                conn.send(answer);
                leaves.pass("the client has the first part");
            });
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            client.send(format!("{request}\r\nHost: h\r\n\r\n"));
            let head = client.read_response_head();
            let is_chunked = head.field("transfer-encoding").is_some();
            client.expect(if is_chunked { "4\r\nhalf\r\n" } else { "half" });
            received.open();
            let (rest, how) = client.read_until_closed();
            assert!(rest.is_empty(), "{request} {answer}: {}", rest.escape_ascii());
            assert!(closed.is_none_or(|closed| closed == how), "{request} {answer}: {how:?}");
        }
    }
}
