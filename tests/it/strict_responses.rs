//! Answers of a backend that break the grammar: 502, and never another use of that connection.

use socket2::SockRef;

use crate::support::setup::front;
use crate::support::{Backend, Client, Closed, Driver};

/// Heads, each with a body that a lenient parser might believe in.
const BAD_HEADS: [&str; 42] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999999\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nContent-Length: 5, 5\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\0\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "garbage that is no head at all\r\n\r\n",
    "\0\0\0\0\0\0\0\0",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nframes",
];

/// Asserts that each answer is a 502, and that no connection is used after it.
fn assert_bad(driver: Driver, answers: Vec<String>, more: &str) {
    let count = answers.len();
    let backend = Backend::scripted(move |conn, number| {
        conn.read_request();
        // The proxy may have seen enough before it has all of it.
        drop(conn.try_send(answers[number].as_bytes()));
        let (rest, _) = conn.read_until_closed();
        assert!(rest.is_empty(), "{:?} was followed by {}", answers[number], rest.escape_ascii());
    });
    let proxy = front(driver, &backend.url(), more);
    let mut client = Client::connect(proxy.addr());
    for number in 0..count {
        let response = client.get(&format!("/{number}"));
        assert_eq!(response.status, 502, "answer {number}: {response:?}");
        assert!(response.text().len() < 100, "answer {number}: {response:?}");
        assert_eq!(response.field("connection"), None, "the client is not to blame");
    }
    assert_eq!(backend.accepted(), count);
    backend.wait_for_scripts(count);
}

/// Returns a response head of exactly this many bytes.
fn head_of(bytes: usize) -> String {
    let (start, end) = ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ", "\r\n\r\n");
    format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
}

on_both_drivers! {
    fn a_head_that_breaks_the_grammar_is_a_bad_gateway(driver) {
        assert_bad(driver, BAD_HEADS.map(str::to_owned).to_vec(), "");
    }

    fn a_head_beyond_its_limits_is_a_bad_gateway(driver) {
        let fields = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "X: y\r\n".repeat(100));
        assert_bad(driver, vec![head_of(32 * 1024 + 1), head_of(200_000), fields], "");
        assert_bad(driver, vec![head_of(1025)], "[limits]\nhead_bytes = 1024");
    }

    fn a_head_at_its_limits_passes(driver) {
        let fields = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "X: y\r\n".repeat(99));
        let backend = Backend::scripted(move |conn, _| {
            for answer in [&head_of(32 * 1024), &fields] {
                conn.read_request();
                conn.send(answer);
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!((client.get("/").status, client.get("/").status), (200, 200));
        assert_eq!(backend.accepted(), 1);
    }

    fn a_broken_chunk_breaks_the_transfer(driver) {
        const BROKEN: [&str; 9] = [
            "zz\r\nhalf\r\n0\r\n\r\n",
            "4\nhalf\r\n0\r\n\r\n",
            "4 \r\nhalf\r\n0\r\n\r\n",
            "0x4\r\nhalf\r\n0\r\n\r\n",
            "4\r\nhalf!!\r\n0\r\n\r\n",
            "4\r\nhalf\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nhalf",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: y\n\r\n",
        ];
        let backend = Backend::scripted(|conn, number| {
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            conn.send(BROKEN[number / 2]);
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
        });
        let proxy = front(driver, &backend.url(), "");
        for broken in BROKEN {
            let mut client = Client::connect(proxy.addr());
            client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let (received, _) = client.read_until_closed();
            let received = String::from_utf8_lossy(&received).into_owned();
            // A transfer that broke before its head was sent is a 502.
            let is_cut = received.starts_with("HTTP/1.1 200 ") && !received.contains("\r\n0\r\n");
            let told = is_cut || received.starts_with("HTTP/1.1 502 ");
            assert!(told, "{broken:?}: {received}");
            let mut client = Client::connect(proxy.addr());
            client.send("GET / HTTP/1.0\r\n\r\n");
            let (received, how) = client.read_until_closed();
            let received = String::from_utf8_lossy(&received).into_owned();
            // A transfer that broke before its head was sent may also be a 502.
            let told = how == Closed::ByReset || received.starts_with("HTTP/1.1 502 ");
            assert!(told, "{broken:?}: {received}");
        }
    }

    fn a_body_longer_than_its_length_is_cut_there(driver) {
        let backend = Backend::scripted(|conn, number| {
            let body = conn.read_request().target;
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}"));
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned");
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty(), "connection {number}: {}", rest.escape_ascii());
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        for target in ["/abc", "/def", "/ghi"] {
            assert_eq!(client.get(target).body, &target.as_bytes()[..2]);
        }
        assert_eq!(backend.accepted(), 3);
    }

    fn a_broken_first_chunk_is_a_bad_gateway(driver) {
        let answers = ["zz\r\n", "5\nhello\r\n0\r\n\r\n", "0\r\nX : y\r\n\r\n"];
        let answers = answers.map(|body| {
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
        });
        assert_bad(driver, answers.to_vec(), "");
    }

    fn an_answer_that_breaks_off_behind_its_head_is_not_met_with_silence(driver) {
        // To a client, a connection that closes without a word looks idle for too long, and it may
        // send its request again.
        for fields in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
            let backend = Backend::scripted(move |conn, _| {
                conn.read_request();
                // Corked, the head leaves in one segment with the end.
                SockRef::from(conn.stream()).set_tcp_cork(true).expect("TCP_CORK");
                conn.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
            });
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            let head = client.read_response_head();
            if head.status == 200 {
                client.expect_closed();
            } else {
                assert_eq!(head.status, 502, "{fields}");
            }
        }
    }

    fn a_body_where_none_belongs_is_dropped(driver) {
        let backend = Backend::scripted(|conn, number| {
            conn.read_request();
            let line = ["200 OK", "204 No Content", "304 Not Modified"][number];
            let body = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            conn.send(format!("HTTP/1.1 {line}\r\nContent-Length: 38\r\n\r\n{body}"));
            let (rest, _) = conn.read_until_closed();
            assert!(rest.is_empty(), "connection {number}: {}", rest.escape_ascii());
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
            client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
            let response = client.read_response_to(method);
            assert_eq!((response.status, client.early()), (status, &b""[..]));
        }
        backend.wait_for_scripts(3);
    }
}
