//! The keep-alive pool, as the backend sees it: which connections are used again, and retries.

use crate::support::setup::{front, ok, tell_all, telling};
use crate::support::{Backend, Client, Gate, eventually};

/// Starts a backend whose first connection answers once and then closes when it has read the next
/// request's head; the others answer everything.
fn closing_on_reuse(before_closing: &'static str) -> Backend {
    Backend::scripted(move |conn, number| {
        if number > 0 {
            return tell_all(conn);
        }
        conn.read_request();
        conn.send(ok("first"));
        conn.read_request_head();
        conn.send(before_closing);
    })
}

/// Whether both ends of every connection of `backend` know that it has ended or was reset: on a busy machine
/// even loopback takes its time.
fn end_has_arrived(backend: &Backend) -> bool {
    // proc_pid_net(5): after a number the local address, the remote one, and the state: 01 for ESTABLISHED, 04
    // for FIN_WAIT1.
    let port = format!(":{:04X}", backend.addr().port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("procfs is there");
    !table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_ours =
            fields.by_ref().take(2).filter(|address| address.ends_with(&port)).count() > 0;
        is_ours && matches!(fields.next(), Some("01" | "04"))
    })
}

/// Every request is one to the backend.
const UNCACHED: &str = "cache_strategy = \"none\"";

on_both_drivers! {
    fn one_connection_serves_all_requests_and_clients(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "");
        for client in 0..3 {
            let mut client_conn = Client::connect(proxy.addr());
            for request in 0..5 {
                let path = format!("/{client}/{request}");
                assert_eq!(client_conn.get(&path).text(), format!("GET {path} "));
            }
            client_conn.send("POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
            assert_eq!(client_conn.read_response().text(), "POST /p ");
        }
        assert_eq!(backend.accepted(), 1);
    }

    fn a_busy_connection_is_not_shared(driver) {
        let both = Gate::default();
        let arrived = both.clone();
        let backend = Backend::scripted(move |conn, number| {
            conn.read_request();
            if number == 1 {
                arrived.open();
            }
            arrived.pass("the other request has come, on its own connection");
            conn.send(ok("done"));
        });
        let proxy = front(driver, &backend.url(), UNCACHED);
        let mut clients = [(); 2].map(|()| Client::connect(proxy.addr()));
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.read_response().text(), "done");
        }
        assert_eq!(backend.accepted(), 2);
    }

    fn a_connection_closed_while_idle_is_not_used(driver) {
        let backend = Backend::scripted(|conn, number| {
            if number > 0 {
                return tell_all(conn);
            }
            conn.read_request();
            conn.send(ok("first"));
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "first");
        backend.wait_for_scripts(1);
        eventually("the end has reached the proxy", || end_has_arrived(&backend));
        // Not replayable: it must not have been sent to the closed connection at all.
        client.send("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.read_response().text(), "POST /p hi");
        assert_eq!(backend.accepted(), 2);
    }

    fn a_connection_reset_while_idle_is_not_used(driver) {
        let received = Gate::default();
        let resets = received.clone();
        let backend = Backend::scripted(move |conn, number| {
            if number > 0 {
                return tell_all(conn);
            }
            conn.read_request();
            conn.send(ok("first"));
            resets.pass("the client has the answer");
            conn.reset();
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "first");
        received.open();
        backend.wait_for_scripts(1);
        eventually("the reset has reached the proxy", || end_has_arrived(&backend));
        client.send("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.read_response().text(), "POST /p hi");
    }

    fn a_request_that_is_safe_to_repeat_is_sent_once_more(driver) {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            let backend = closing_on_reuse("");
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            assert_eq!(client.get("/").text(), "first");
            client.send(format!("{method} /again HTTP/1.1\r\nHost: h\r\n\r\n"));
            if method == "HEAD" {
                assert_eq!(client.read_response_to("HEAD").status, 200);
            } else {
                assert_eq!(client.read_response().text(), format!("{method} /again "));
            }
            assert_eq!(backend.accepted(), 2, "{method}");
        }
    }

    fn a_request_that_may_have_been_done_is_not_repeated(driver) {
        for request in [
            "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
            "PATCH /p HTTP/1.1\r\nHost: h\r\n\r\n",
            "PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
            "PUT /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ] {
            let backend = closing_on_reuse("");
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            assert_eq!(client.get("/").text(), "first");
            client.send(request);
            assert_eq!(client.read_response().status, 502, "{request:?}");
            assert_eq!(backend.accepted(), 1, "{request:?}");
        }
    }

    fn a_request_whose_answer_had_begun_is_not_repeated(driver) {
        for begun in ["H", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 100 Continue\r\n\r\n"] {
            let backend = closing_on_reuse(begun);
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            assert_eq!(client.get("/").text(), "first");
            client.send("GET /again HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut response = client.read_response();
            if response.status == 100 {
                response = client.read_response();
            }
            assert_eq!((response.status, backend.accepted()), (502, 1), "{begun:?}");
        }
    }

    fn a_request_is_repeated_only_once(driver) {
        let backend = Backend::scripted(|conn, number| {
            conn.read_request();
            if number == 0 {
                conn.send(ok("first"));
                conn.read_request();
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "first");
        assert_eq!((client.get("/again").status, backend.accepted()), (502, 2));
    }

    fn a_connection_that_answered_a_broken_request_is_not_kept(driver) {
        // The client leaves in the middle of the answer: what is left of it must not meet anybody.
        let part = Gate::default();
        let left = part.clone();
        let backend = Backend::scripted(move |conn, number| {
            if number > 0 {
                return tell_all(conn);
            }
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            left.pass("the client has left");
            drop(conn.try_send(b"half"));
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_response_head();
        client.expect("half");
        client.reset();
        part.open();
        assert_eq!(Client::connect(proxy.addr()).get("/other").text(), "GET /other ");
    }

    fn a_backend_that_says_close_is_believed(driver) {
        for (version, fields) in [
            ("HTTP/1.1", "Connection: close\r\n"),
            ("HTTP/1.1", "Connection: x, Close\r\n"),
            ("HTTP/1.0", ""),
            ("HTTP/1.0", "Connection: x\r\n"),
        ] {
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                conn.send(format!("{version} 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok"));
                let (rest, _) = conn.read_until_closed();
                assert!(rest.is_empty(), "{}", rest.escape_ascii());
            });
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            for _ in 0..2 {
                let response = client.get("/");
                assert_eq!((response.text(), response.field("connection")), ("ok", None));
            }
            assert_eq!(backend.accepted(), 2, "{version} {fields:?}");
        }
    }

    fn a_backend_of_http_1_0_may_keep_its_connection(driver) {
        let backend = Backend::scripted(|conn, _| {
            while conn.next_request().is_some() {
                conn.send("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!((client.get("/").text(), client.get("/").text()), ("ok", "ok"));
        assert_eq!(backend.accepted(), 1);
    }

    fn bytes_that_nobody_asked_for_end_a_connection(driver) {
        // The first connection sends them with the answer, the second while it is idle.
        let sent = Gate::default();
        let sends = sent.clone();
        let backend = Backend::scripted(move |conn, number| {
            conn.read_request();
            match number {
                0 => conn.send(ok("0") + &ok("poisoned")),
                1 => {
                    conn.send(ok("1"));
                    conn.send(ok("poisoned"));
                    sends.open();
                }
                _ => conn.send(ok("2")),
            }
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty(), "connection {number}: {}", rest.escape_ascii());
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "0");
        assert_eq!(client.get("/").text(), "1");
        sent.pass("the idle connection has said something");
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.read_response().text(), "2");
        assert_eq!(backend.accepted(), 3);
    }

    fn no_more_connections_are_kept_than_allowed(driver) {
        for (limit, kept) in [(0, 0), (1, 1)] {
            let both = Gate::default();
            let arrived = both.clone();
            let backend = Backend::scripted(move |conn, number| {
                if number > 1 {
                    return tell_all(conn);
                }
                conn.read_request();
                if number == 1 {
                    arrived.open();
                }
                arrived.pass("both requests have come");
                conn.send(ok("done"));
                tell_all(conn);
            });
            let proxy = front(driver, &backend.url(), &format!("{UNCACHED}\n[limits]\npool_idle = {limit}"));
            let mut clients = [(); 2].map(|()| Client::connect(proxy.addr()));
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            }
            for client in &mut clients {
                assert_eq!(client.read_response().text(), "done");
            }
            // Those that are not kept are closed, and their scripts end.
            backend.wait_for_scripts(2 - kept);
            assert_eq!(clients[0].get("/x").text(), "GET /x ");
            assert_eq!(backend.accepted(), 3 - kept, "pool_idle = {limit}");
        }
    }

    fn a_connection_is_closed_when_it_was_idle_for_too_long(driver) {
        let backend = telling();
        let proxy = front(driver, &backend.url(), "[limits]\npool_idle_age = \"300ms\"");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/1").text(), "GET /1 ");
        backend.wait_for_scripts(1);
        assert_eq!(client.get("/2").text(), "GET /2 ");
        assert_eq!(backend.accepted(), 2);
    }

    fn an_idle_connection_closed_by_the_backend_is_given_up(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request();
            conn.send(ok("once"));
            conn.shutdown_write();
            // The proxy closes its end although no request needs the connection.
            conn.expect_eof();
        });
        let proxy = front(driver, &backend.url(), "");
        assert_eq!(Client::connect(proxy.addr()).get("/").text(), "once");
        backend.wait_for_scripts(1);
    }
}
