//! Fills that fail: nobody takes a part of a body for the whole, and nothing of it is stored.

use crate::support::cached::{Caching, Count, FILLS, clients, is_hit, page, request};
use crate::support::{Backend, Client, Closed, Gate, Refusing};

/// The half that arrives.
const HALF: &str = "the first half, ";

/// What a backend sends before it breaks off, and how it does.
#[derive(Clone, Copy, Debug)]
struct Break {
    start: &'static str,
    resets: bool,
}

const BREAKS: [Break; 4] = [
    Break { start: "Content-Length: 32\r\n\r\n", resets: false },
    Break { start: "Content-Length: 32\r\n\r\n", resets: true },
    Break { start: "Transfer-Encoding: chunked\r\n\r\n10\r\n", resets: false },
    Break { start: "Transfer-Encoding: chunked\r\n\r\n20\r\n", resets: true },
];

/// Breaks off its first `broken` answers when `now` opens, and gives whole ones then.
fn breaking(how: Break, broken: usize, requests: Count, now: Gate) -> Backend {
    Backend::scripted(move |conn, _| {
        while conn.next_request().is_some() {
            if requests.add() > broken {
                conn.send(page("the whole"));
                continue;
            }
            conn.send(format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{}", how.start));
            conn.send(HALF);
            now.pass("everybody has the first half");
            if how.resets {
                conn.reset();
            }
            return;
        }
    })
}

/// Reads a body up to the part that arrives; returns what has come with it.
fn read_half(client: &mut Client) -> Vec<u8> {
    let mut got = Vec::new();
    while !got.windows(HALF.len()).any(|part| part == HALF.as_bytes()) {
        let some = client.read_some();
        assert!(!some.is_empty(), "closed before the half: {}", got.escape_ascii());
        got.extend(some);
    }
    got
}

on_both_drivers! {
    fn a_body_that_breaks_off_is_broken_for_everybody(driver) {
        for fill in FILLS {
            for how in BREAKS {
                let (requests, now) = (Count::default(), Gate::default());
                let workers = if fill == "process" { 1 } else { 2 };
                let backend = breaking(how, workers, requests.clone(), now.clone());
                let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
                let mut crowd = clients(&proxy, 6, 2);
                let mut old = Client::connect(proxy.addr());
                for client in &mut crowd { client.send(request("/", "")); }
                old.send("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
                let heads: Vec<_> =
                    crowd.iter_mut().map(|client| client.read_response_head()).collect();
                let mut got: Vec<_> = crowd.iter_mut().map(read_half).collect();
                let old_head = old.read_response_head();
                read_half(&mut old);
                now.open();
                for ((client, head), got) in crowd.iter_mut().zip(&heads).zip(&mut got) {
                    let (rest, _) = client.read_until_closed();
                    got.extend(rest);
                    let shown = got.escape_ascii();
                    match head.field("content-length") {
                        Some(length) => {
                            let is_short = got.len() < length.parse().expect("digits");
                            assert!(is_short, "{fill} {how:?}: {shown}");
                        }
                        None => assert!(!got.ends_with(b"0\r\n\r\n"), "{fill} {how:?}: {shown}"),
                    }
                }
                let (_, closed) = old.read_until_closed();
                let is_told = old_head.field("content-length").is_some();
                assert!(is_told || closed == Closed::ByReset, "{fill} {how:?}: {old_head:?}");
                // Nothing was stored, on no worker.
                for (number, mut client) in clients(&proxy, 6, 2).into_iter().enumerate() {
                    let answer = client.get("/");
                    assert_eq!(answer.text(), "the whole", "{fill} {how:?}");
                    assert!(number > 0 || !is_hit(&answer), "{fill} {how:?}: {answer:?}");
                }
            }
        }
    }

    fn a_backend_that_refuses_is_502_for_everybody_once(driver) {
        for fill in FILLS {
            let backend = Refusing::start();
            let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
            let mut crowd = clients(&proxy, 12, 2);
            for client in &mut crowd {
                client.send(request("/", ""));
                client.shutdown_write();
            }
            for client in &mut crowd {
                assert_eq!(client.read_response().status, 502, "{fill}");
                client.expect_eof();
            }
        }
    }

    fn a_backend_that_says_nothing_is_504_for_everybody_once(driver) {
        for fill in FILLS {
            let (requests, over) = (Count::default(), Gate::default());
            let (counted, is_over) = (requests.clone(), over.clone());
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                counted.add();
                // Proof for the test that everybody waits; it does not count as an answer.
                conn.send("HTTP/1.1 103 Early Hints\r\n\r\n");
                is_over.pass("everybody has been told");
            });
            let route = "[timeouts]\nresponse_head = \"700ms\"";
            let proxy =
                Caching { fill, route, ..Caching::default() }.start(driver, &backend.url());
            let mut crowd = clients(&proxy, 12, 2);
            for client in &mut crowd {
                client.send(request("/", ""));
                client.shutdown_write();
            }
            for client in &mut crowd {
                assert_eq!(client.read_response().status, 103);
                assert_eq!(client.read_response().status, 504, "{fill}");
                client.expect_eof();
            }
            over.open();
            assert!(requests.value() >= 1);
        }
    }

    fn a_backend_that_closes_without_an_answer_is_502_for_everybody(driver) {
        for fill in FILLS {
            let now = Gate::default();
            let is_now = now.clone();
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                conn.send("HTTP/1.1 103 Early Hints\r\n\r\n");
                is_now.pass("everybody waits");
            });
            let proxy = Caching { fill, ..Caching::default() }.start(driver, &backend.url());
            let mut crowd = clients(&proxy, 8, 2);
            for client in &mut crowd { client.send(request("/", "")); }
            for client in &mut crowd {
                assert_eq!(client.read_response().status, 103);
            }
            now.open();
            for client in &mut crowd {
                assert_eq!(client.read_response().status, 502, "{fill}");
            }
        }
    }
}
