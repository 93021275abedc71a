//! Limits of requests and answers: at the limit they pass, beyond it they are refused, counted under
//! the limit's key, and nothing after them is parsed where their end is unknown.

use crate::support::control::Metrics;
use crate::support::setup::{self, front};
use crate::support::tunnel::{ACCEPTED, REQUEST, accept, echo};
use crate::support::{Backend, Client, Driver, Gate, Proxy, eventually};

/// Waits until a limit was met this often, and no other.
fn assert_met(proxy: &Proxy, limit: &str, times: f64) {
    let one = format!("limited_total{{limit=\"{limit}\"}}");
    let mut metrics = Metrics::default();
    eventually(&format!("{limit} was met {times} times"), || {
        metrics = Metrics::of(proxy);
        metrics.are(&[(&one, times)])
    });
    assert!((metrics.sum("limited_total") - times).abs() < 1e-9, "{metrics:?}");
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}")
}

/// A request whose body comes in chunks of these sizes.
fn chunked(sizes: &[usize]) -> String {
    let chunk = |size: &usize| format!("{size:x}\r\n{}\r\n", "x".repeat(*size));
    let body: String = sizes.iter().map(chunk).collect::<Vec<_>>().concat();
    post("Transfer-Encoding: chunked", &(body + "0\r\n\r\n"))
}

/// Requests in one piece.
fn piece(count: usize) -> String {
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(count)
}

/// Answers with a head of exactly so many bytes as the request's path says.
fn answering_with_heads() -> Backend {
    Backend::scripted(|conn, _| {
        while let Some(request) = conn.next_request() {
            let bytes: usize = request.target.trim_start_matches('/').parse().expect("a number");
            let (start, end) = ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ", "\r\n\r\n");
            let filling = "x".repeat(bytes - start.len() - end.len());
            // The proxy closes on a head that is too long.
            if conn.try_send(format!("{start}{filling}{end}ok").as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn early_bytes_are_judged(driver: Driver, limit: &str, cases: &[(usize, u16)]) {
    let backend = Backend::scripted(|conn, _| {
        accept(conn);
        echo(conn);
    });
    let proxy = front(driver, &backend.url(), &format!("[limits]\nearly_bytes = {limit}"));
    for (count, status) in cases {
        let mut client = Client::connect(proxy.addr());
        let early = "e".repeat(*count);
        client.send(format!("{REQUEST}{early}"));
        if *status == 101 {
            assert_eq!(client.read_response_head().status, 101, "{count}");
            client.expect(early);
        } else {
            let response = client.read_response();
            assert_eq!(response.status, *status, "{count}");
            assert_eq!(response.field("connection"), Some("close"));
            client.expect_closed();
        }
    }
    let refused = cases.iter().filter(|(_, status)| *status != 101).count();
    assert_eq!(backend.accepted(), cases.len() - refused, "what is refused asks no backend");
    assert_met(&proxy, "early_bytes", f64::from(u32::try_from(refused).expect("few")));
}

on_both_drivers! {
    fn a_body_of_a_known_length_may_have_its_limit_of_bytes(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[limits]\nrequest_body_bytes = 1000");
        for (length, status) in [(0, 200), (999, 200), (1000, 200), (1001, 413), (1 << 40, 413)] {
            let mut client = Client::connect(proxy.addr());
            let body = if status == 200 { "x".repeat(length) } else { "and some".to_owned() };
            client.send(post(&format!("Content-Length: {length}"), &body));
            let response = client.read_response();
            assert_eq!(response.status, status, "{length}");
            assert_eq!(response.field("connection").is_some(), status == 413, "{length}");
            if status == 413 {
                client.expect_eof();
            }
        }
        assert_eq!(backend.requests().len(), 3);
        assert_met(&proxy, "request_body_bytes", 2.0);
    }

    fn who_asks_before_sending_a_body_is_refused_at_once(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[limits]\nrequest_body_bytes = 10");
        let mut client = Client::connect(proxy.addr());
        client.send(post("Content-Length: 11\r\nExpect: 100-continue", ""));
        assert_eq!(client.read_response().status, 413);
        client.expect_eof();
        assert_eq!(backend.accepted(), 0);
    }

    fn a_chunked_body_may_have_its_limit_of_bytes(driver) {
        // Of a body that is cut off it may get the beginning, never the end.
        let backend = Backend::scripted(|conn, _| {
            while conn.next_head().is_some() {
                let mut got = Vec::new();
                while !got.ends_with(b"0\r\n\r\n") {
                    match conn.read_some() {
                        some if some.is_empty() => return,
                        some => got.extend(some),
                    }
                }
                let count = got.split(|byte| *byte == b'x').count() - 1;
                conn.send(setup::ok(&count.to_string()));
            }
        });
        let proxy = front(driver, &backend.url(), "[limits]\nrequest_body_bytes = 1000");
        let cases: [(&[usize], u16); 7] = [
            (&[], 200),
            (&[999], 200),
            (&[1000], 200),
            (&[1, 998, 1], 200),
            (&[1001], 413),
            (&[1000, 1], 413),
            (&[1; 1001], 413),
        ];
        for (sizes, status) in cases {
            let mut client = Client::connect(proxy.addr());
            client.send(chunked(sizes));
            let response = client.read_response();
            assert_eq!(response.status, status, "{} chunks", sizes.len());
            if status == 413 {
                client.expect_closed();
            } else {
                assert_eq!(response.text(), sizes.iter().sum::<usize>().to_string());
            }
        }
        assert_met(&proxy, "request_body_bytes", 3.0);
    }

    fn a_chunked_body_that_grows_too_long_under_way_never_looks_complete(driver) {
        let gate = Gate::default();
        let begun = gate.clone();
        let backend = Backend::scripted(move |conn, _| {
            let head = conn.read_request_head();
            assert_eq!(head.field("transfer-encoding"), Some("chunked"));
            assert_eq!(conn.read_chunk().expect("a chunk").len(), 600);
            begun.open();
            let (rest, _) = conn.read_until_closed();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
        });
        let proxy = front(driver, &backend.url(), "[limits]\nrequest_body_bytes = 1000");
        let mut client = Client::connect(proxy.addr());
        client.send(post("Transfer-Encoding: chunked", &format!("258\r\n{}\r\n", "x".repeat(600))));
        gate.pass("the backend has the first chunk");
        client.send(format!("191\r\n{}\r\n0\r\n\r\n", "x".repeat(401)));
        assert_eq!(client.read_response().status, 413);
        client.expect_closed();
        backend.wait_for_scripts(1);
    }

    fn an_answer_that_has_begun_breaks_off_when_the_body_grows_too_long(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n");
            conn.expect_closed();
        });
        let proxy = front(driver, &backend.url(), "[limits]\nrequest_body_bytes = 10");
        let mut client = Client::connect(proxy.addr());
        client.send(post("Transfer-Encoding: chunked", "1\r\nx\r\n"));
        assert_eq!(client.read_response_head().status, 200);
        assert_eq!(client.read_chunk().as_deref(), Some(&b"foo"[..]));
        client.send("b\r\nxxxxxxxxxxx\r\n0\r\n\r\n");
        let (rest, _) = client.read_until_closed();
        assert_eq!(rest, b"", "no last chunk");
        assert_met(&proxy, "request_body_bytes", 1.0);
    }

    fn a_connection_may_have_its_limit_of_requests(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[limits]\nrequests_per_connection = 3");
        let mut client = Client::connect(proxy.addr());
        for number in 1..=3 {
            let response = client.get("/");
            assert_eq!(response.text(), "ok");
            assert_eq!(response.field("connection").is_some(), number == 3, "{number}");
        }
        client.expect_eof();
        // In one piece: what is behind the last one has not happened.
        let mut client = Client::connect(proxy.addr());
        client.send(piece(5));
        let closes = [(); 3].map(|()| client.read_response().field("connection").is_some());
        assert_eq!(closes, [false, false, true]);
        client.expect_eof();
        assert_eq!(backend.requests().len(), 6);
        assert_met(&proxy, "requests_per_connection", 2.0);
    }

    fn answers_out_of_the_cache_and_of_our_own_count_as_requests_too(driver) {
        let backend = Backend::scripted(|conn, _| {
            while conn.next_request().is_some() {
                let fields = "Cache-Control: max-age=60\r\nContent-Length: 2";
                conn.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok"));
            }
        });
        let more = "forward_get_only = true\n[limits]\nrequests_per_connection = 3";
        let proxy = front(driver, &backend.url(), more);
        assert_eq!(Client::connect(proxy.addr()).get("/").status, 200);
        let mut client = Client::connect(proxy.addr());
        client.send("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().status, 405);
        let [second, third] = ["/"; 2].map(|path| client.get(path));
        assert!(second.field("cache-status").is_some_and(|status| status.contains("hit")));
        assert_eq!((second.field("connection"), third.field("connection")), (None, Some("close")));
        client.expect_eof();
        assert_eq!(backend.accepted(), 1);
    }

    fn the_last_request_of_a_connection_may_become_a_tunnel(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                if request.field("upgrade").is_some() {
                    conn.send(ACCEPTED);
                    return echo(conn);
                }
                conn.send(setup::ok("ok"));
            }
        });
        let proxy = front(driver, &backend.url(), "[limits]\nrequests_per_connection = 2");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "ok");
        client.send(REQUEST);
        assert_eq!(client.read_response_head().status, 101);
        client.send("hello");
        client.expect("hello");
        assert_met(&proxy, "requests_per_connection", 0.0);
    }

    fn a_piece_may_have_its_limit_of_requests(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[limits]\npipelined_requests = 3");
        let mut client = Client::connect(proxy.addr());
        // Each piece is answered before the next one comes.
        for count in [2, 3, 1, 3] {
            client.send(piece(count));
            for _ in 0..count {
                assert_eq!(client.read_response().text(), "ok");
            }
        }
        client.send(piece(5));
        let responses = [(); 4].map(|()| client.read_response());
        assert_eq!(responses.each_ref().map(|response| response.status), [200, 200, 200, 429]);
        assert_eq!(responses[3].field("connection"), Some("close"));
        assert!(responses[3].field("retry-after").is_some());
        client.expect_eof();
        assert_eq!(backend.requests().len(), 9 + 3);
        assert_met(&proxy, "pipelined_requests", 1.0);
    }

    fn an_upgrade_may_have_its_limit_of_early_bytes(driver) {
        early_bytes_are_judged(driver, "1000", &[(0, 101), (999, 101), (1000, 101), (1001, 413)]);
        // More than one read of the proxy: the rest is counted where it waits.
        early_bytes_are_judged(driver, "10000", &[(9999, 101), (10_000, 101), (10_001, 413)]);
        early_bytes_are_judged(driver, "0", &[(0, 101), (1, 413)]);
    }

    fn early_bytes_that_come_while_the_backend_thinks_count_too(driver) {
        let [asked, sent] = [(); 2].map(|()| Gate::default());
        let (asks, may_answer) = (asked.clone(), sent.clone());
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request_head();
            asks.open();
            may_answer.pass("the client has sent more");
            conn.send(ACCEPTED);
            conn.expect_closed();
        });
        let proxy = front(driver, &backend.url(), "[limits]\nearly_bytes = 10");
        let mut client = Client::connect(proxy.addr());
        client.send(REQUEST);
        asked.pass("the backend is asked");
        client.send("12345678901");
        sent.open();
        assert_eq!(client.read_response().status, 413);
        client.expect_closed();
        backend.wait_for_scripts(1);
        assert_met(&proxy, "early_bytes", 1.0);
    }

    fn a_backends_head_has_a_limit_of_its_own(driver) {
        let backend = answering_with_heads();
        let proxy = front(driver, &backend.url(), "[limits]\nresponse_head_bytes = 2048\nhead_bytes = 1024");
        for (bytes, status) in [(2047, 200), (2048, 200), (2049, 502), (50_000, 502)] {
            assert_eq!(Client::connect(proxy.addr()).get(&format!("/{bytes}")).status, status, "{bytes}");
        }
        assert_met(&proxy, "response_head_bytes", 2.0);
    }

    fn a_backends_head_has_the_limit_of_a_clients_by_default(driver) {
        let backend = answering_with_heads();
        let proxy = front(driver, &backend.url(), "[limits]\nhead_bytes = 1024");
        for (bytes, status) in [(1023, 200), (1024, 200), (1025, 502)] {
            assert_eq!(Client::connect(proxy.addr()).get(&format!("/{bytes}")).status, status, "{bytes}");
        }
    }

    fn limits_of_a_head_are_counted_by_their_keys(driver) {
        let backend = Backend::recording();
        for (limit, head) in [
            ("head_bytes", format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(1024))),
            ("head_fields", format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(4))),
        ] {
            let proxy = front(driver, &backend.url(), "[limits]\nhead_bytes = 1024\nhead_fields = 4");
            let mut client = Client::connect(proxy.addr());
            client.send(head);
            assert_eq!(client.read_response().status, 431);
            assert_met(&proxy, limit, 1.0);
            let line = proxy.wait_for_log("A client has met a limit");
            assert!(line.contains(limit), "{line}");
        }
    }

    fn limits_of_the_process_are_counted_and_say_when_to_come_back(driver) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            echo(conn);
        });
        let proxy = front(driver, &backend.url(), "[limits]\nconnections = 2\ntunnels = 1");
        let mut clients = [(); 2].map(|()| Client::connect(proxy.addr()));
        clients[0].send(REQUEST);
        assert_eq!(clients[0].read_response_head().status, 101);
        clients[1].send(REQUEST);
        let response = clients[1].read_response();
        assert_eq!((response.status, response.field("retry-after")), (503, Some("5")));
        assert_met(&proxy, "tunnels", 1.0);
        let response = Client::connect(proxy.addr()).read_response();
        assert_eq!((response.status, response.field("retry-after")), (503, Some("5")));
        let counted = "limited_total{limit=\"connections\"}";
        eventually("it is counted", || Metrics::of(&proxy).are(&[(counted, 1.0)]));
        proxy.wait_for_log("too_many_tunnels");
        proxy.wait_for_log("limits.connections");
    }
}
