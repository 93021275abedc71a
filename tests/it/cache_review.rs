//! The cache under those who wish it ill: requests made to be stored for others, peers that stop or
//! break off, bodies that outgrow what is kept.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::setup::{front, ok};
use crate::support::{Backend, Client, GUARD, Gate, Peer, Proxy, Random};

/// A body and its framing as one chunk.
fn chunked(body: &str) -> String {
    match body.len() {
        0 => "0\r\n\r\n".to_owned(),
        length => format!("{length:x}\r\n{body}\r\n0\r\n\r\n"),
    }
}

/// A text of more than a megabyte, no two parts of which are the same.
fn numbers() -> String {
    (0..200_000_u32).flat_map(|number| [number.to_string(), " ".to_owned()]).collect()
}

/// Connects from this address of the loopback network.
fn connect_from(from: [u8; 4], to: SocketAddr) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of loopback");
    socket.connect_timeout(&to.into(), GUARD).expect("connecting");
    Peer::new(TcpStream::from(socket), "client")
}

/// Answers every request with these lines and, as its body, the head of the request.
fn echoing(lines: &'static str) -> Backend {
    Backend::scripted(move |conn, _| {
        while let Some(request) = conn.next_request() {
            let body = request.head_text;
            conn.send(format!(
                "HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

on_both_drivers! {
    fn a_body_that_outgrows_the_limit_reaches_its_client_whole(driver) {
        let body = numbers();
        let sent = body.clone();
        let backend = Backend::scripted(move |conn, _| {
            while conn.next_request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n");
                conn.send(chunked(&sent));
            }
        });
        let proxy = front(driver, &backend.url(), "[cache]\nmax_entry_bytes = \"64KiB\"");
        for _ in 0..5 {
            let answer = Client::connect(proxy.addr()).get("/large");
            assert_eq!(answer.body.len(), body.len());
            assert!(answer.text() == body, "the bytes are others");
        }
    }

    fn a_range_of_what_outgrows_the_limit_is_answered_with_the_whole(driver) {
        let body = numbers();
        let sent = body.clone();
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                if request.field("if-none-match").is_none() {
                    conn.send("HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nETag: \"1\"\r\nContent-Length: 3\r\n\r\nold");
                } else {
                    conn.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n");
                    conn.send(chunked(&sent));
                }
            }
        });
        let proxy = front(driver, &backend.url(), "[cache]\nmax_entry_bytes = \"64KiB\"");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "old");
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\n\r\n");
        let answer = client.read_response();
        assert_eq!((answer.status, answer.body.len()), (200, body.len()));
        assert!(answer.text() == body, "the bytes are others");
    }

    fn a_range_of_a_body_that_breaks_off_does_not_wait_for_ever(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                if request.field("if-none-match").is_none() {
                    conn.send("HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nETag: \"1\"\r\nContent-Length: 3\r\n\r\nold");
                } else {
                    conn.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhalf");
                    return;
                }
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "old");
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\n\r\n");
        assert_eq!(client.read_response().status, 502);
    }

    fn a_page_that_varies_by_where_clients_come_from_is_not_shared(driver) {
        for name in ["X-Forwarded-For", "Forwarded"] {
            let lines: &str = match name {
                "Forwarded" => "Cache-Control: max-age=60\r\nVary: Forwarded\r\n",
                _ => "Cache-Control: max-age=60\r\nVary: x-forwarded-for\r\n",
            };
            let backend = echoing(lines);
            let proxy = front(driver, &backend.url(), "");
            for from in [[127, 0, 0, 1], [127, 0, 0, 2]] {
                let mut client = connect_from(from, proxy.addr());
                client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let page = client.read_response();
                let [a, b, c, d] = from;
                assert!(page.text().contains(&format!("{a}.{b}.{c}.{d}")), "{name}: {page:?}");
            }
        }
    }

    fn what_a_trusted_proxy_says_of_the_client_is_part_of_the_key(driver) {
        let backend = echoing("Cache-Control: max-age=60\r\n");
        let toml = format!(
            "trusted_proxies = [\"127.0.0.1\"]\n[server.app]\nproxy_url = \"{}\"\n",
            backend.url()
        );
        let proxy = Proxy::start(driver, &toml);
        let mut client = Client::connect(proxy.addr());
        for line in [
            "X-Forwarded-Proto: http",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Port: 8443",
            "Forwarded: for=1.2.3.4;proto=https",
        ] {
            client.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n"));
            let page = client.read_response();
            assert!(page.text().contains(line), "{line}: {page:?}");
        }
        let page = client.get("/");
        assert!(!page.text().contains("evil"), "{page:?}");
        assert!(!page.text().contains("https"), "{page:?}");
    }

    fn a_field_that_connection_names_does_not_choose_what_is_stored(driver) {
        let backend = echoing("Cache-Control: max-age=60\r\nVary: Accept-Language\r\n");
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(
            "GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Language: de\r\n\
             Connection: Accept-Language\r\n\r\n",
        );
        assert!(!client.read_response().text().contains("Accept-Language: de"));
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Language: de\r\n\r\n");
        let page = client.read_response();
        assert!(page.text().contains("Accept-Language: de"), "{page:?}");
    }

    fn the_spelling_of_a_host_is_not_stored_for_others(driver) {
        for spelling in ["EXAMPLE.com", "example.com:80", "example.com:", "example.com."] {
            let backend = echoing("Cache-Control: max-age=60\r\n");
            let proxy = front(driver, &backend.url(), "");
            let mut client = Client::connect(proxy.addr());
            client.send(format!("GET / HTTP/1.1\r\nHost: {spelling}\r\n\r\n"));
            client.read_response();
            client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
            let page = client.read_response();
            assert!(!page.text().contains(&format!("Host: {spelling}\r\n")), "{page:?}");
        }
    }

    fn a_hit_may_take_longer_than_a_head(driver) {
        let body = "x".repeat(6 << 20);
        let sent = body.clone();
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                if request.target == "/large" {
                    conn.send(format!(
                        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n",
                        sent.len()
                    ));
                    conn.send(&sent);
                }
            }
        });
        let proxy = front(driver, &backend.url(), "[timeouts]\nhead = \"300ms\"");
        assert_eq!(Client::connect(proxy.addr()).get("/large").body.len(), body.len());
        let mut slow = Client::connect_with_receive_buffer(proxy.addr(), 8 * 1024);
        slow.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(slow.read_response_head().status, 200);
        // Two heads that never end take longer than one.
        for _ in 0..2 {
            let mut stalled = Client::connect(proxy.addr());
            stalled.send("GET / HT");
            assert_eq!(stalled.read_response().status, 408);
        }
        let got = slow.read_exact(body.len());
        assert_eq!(got.len(), body.len());
    }

    fn a_client_that_reads_nothing_of_a_hit_is_given_up(driver) {
        let body = "x".repeat(6 << 20);
        let asked = Arc::new(AtomicUsize::new(0));
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                if asked.fetch_add(1, Ordering::Relaxed) == 0 {
                    conn.send(ok("first"));
                    continue;
                }
                let age = if request.target == "/large" { "max-age=60" } else { "no-store" };
                conn.send(format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: {age}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            }
        });
        let tables = "[timeouts]\nhead = \"300ms\"\nbody_idle = \"300ms\"";
        let proxy = front(driver, &backend.url(), tables);
        let mut other = Client::connect(proxy.addr());
        other.get("/small");
        other.get("/large");
        let mut silent = Client::connect_with_receive_buffer(proxy.addr(), 8 * 1024);
        silent.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (got, _) = {
            // Nothing is read until the proxy has had time to give up: two heads in a row.
            for _ in 0..4 {
                let mut stalled = Client::connect(proxy.addr());
                stalled.send("GET / HT");
                assert_eq!(stalled.read_response().status, 408);
            }
            silent.read_until_closed()
        };
        assert!(got.len() < 6 << 20, "{}", got.len());
    }

    fn a_client_with_a_name_does_not_get_what_another_was_sent_for(driver) {
        let (asked, both) = (Gate::default(), Gate::default());
        let (tells, waits) = (asked.clone(), both.clone());
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                let who = request.field("authorization").unwrap_or("nobody").to_owned();
                if who == "nobody" && request.target == "/" {
                    tells.open();
                    waits.pass("the one with a name has asked too");
                }
                conn.send(format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n{who}",
                    who.len()
                ));
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut nobody = Client::connect(proxy.addr());
        nobody.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        asked.pass("the backend is asked");
        let mut alice = Client::connect(proxy.addr());
        alice.send("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: alice\r\n\r\n");
        // What comes behind it has been answered: it has been read.
        Client::connect(proxy.addr()).get("/other");
        both.open();
        assert_eq!(nobody.read_response().text(), "nobody");
        assert_eq!(alice.read_response().text(), "alice");
    }

    fn a_304_about_something_else_is_asked_again_without_conditions(driver) {
        let asked = AtomicUsize::new(0);
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                if request.field("if-none-match").is_some() {
                    conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"2\"\r\n\r\n");
                    continue;
                }
                let count = asked.fetch_add(1, Ordering::Relaxed);
                conn.send(format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nETag: \"{count}\"\r\n\
                     Content-Length: 1\r\n\r\n{count}"
                ));
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "0");
        assert_eq!(client.get("/").text(), "1");
    }

    fn nothing_older_than_a_change_is_served_after_its_answer(driver) {
        let version = Arc::new(AtomicUsize::new(0));
        let current = Arc::clone(&version);
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                let count = match request.method.as_str() {
                    "POST" => current.fetch_add(1, Ordering::SeqCst) + 1,
                    _ => current.load(Ordering::SeqCst),
                };
                let text = count.to_string();
                let body = if request.method == "HEAD" { "" } else { &text };
                conn.send(format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-Version: {count}\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    text.len()
                ));
            }
        });
        let toml = format!("[server.app]\nproxy_url = \"{}\"\n", backend.url());
        let proxy = Proxy::start(driver, &toml);
        let (addr, is_over) = (proxy.addr(), Arc::new(AtomicBool::new(false)));
        let readers: Vec<_> = (0..6)
            .map(|number| {
                let is_over = Arc::clone(&is_over);
                std::thread::spawn(move || {
                    let method = if number == 0 { "GET" } else { "HEAD" };
                    let mut client = Client::connect(addr);
                    while !is_over.load(Ordering::Relaxed) {
                        client.send(format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                        assert_eq!(client.read_response_to(method).status, 200);
                    }
                })
            })
            .collect();
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(addr)).collect();
        for round in 0..500 {
            clients[round % 8].get("/x");
            clients[0].send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            let changed: usize = clients[0].read_response().text().parse().expect("a number");
            for client in &mut clients {
                client.send("HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let head = client.read_response_to("HEAD");
                let got = head.field("x-version").and_then(|version| version.parse().ok());
                assert!(got >= Some(changed), "{head:?} after {changed}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("a reader");
        }
    }

    fn a_change_below_a_mount_point_is_found_by_either_name(driver) {
        for location in ["/app/y", "/y", "y", "http://localhost/app/y"] {
            let asked = AtomicUsize::new(0);
            let backend = Backend::scripted(move |conn, _| {
                while let Some(request) = conn.next_request() {
                    let count = asked.fetch_add(1, Ordering::Relaxed).to_string();
                    let line = if request.method == "POST" {
                        format!("Location: {location}\r\n")
                    } else {
                        "Cache-Control: max-age=60\r\n".to_owned()
                    };
                    conn.send(format!("HTTP/1.1 201 Created\r\n{line}Content-Length: 1\r\n\r\n{count}"));
                }
            });
            let proxy = front(driver, &backend.url(), "bind_to = \"/app\"");
            let mut client = Client::connect(proxy.addr());
            assert_eq!((client.get("/app/y").text(), client.get("/app/y").text()), ("0", "0"));
            client.send("POST /app/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.read_response().text(), "1");
            assert_eq!(client.get("/app/y").text(), "2", "{location}");
        }
    }

    fn every_answer_is_whole_and_a_drain_ends_whatever_the_peers_do(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                let body = if request.method == "HEAD" { String::new() } else { page(&request.target) };
                let length = page(&request.target).len();
                let (lines, is_last) = match request.target.as_bytes()[1] {
                    b'a' => (format!("Cache-Control: max-age=60\r\nContent-Length: {length}\r\n"), false),
                    b'b' => ("Cache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n".to_owned(), false),
                    b'c' => ("Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n".to_owned(), false),
                    b'd' => (format!("Cache-Control: no-cache\r\nETag: \"1\"\r\nContent-Length: {length}\r\n"), false),
                    b'e' => (format!("Set-Cookie: a=b\r\nContent-Length: {length}\r\n"), false),
                    _ => ("Cache-Control: max-age=60\r\n".to_owned(), true),
                };
                let is_same = request.field("if-none-match") == Some("\"1\"");
                let text = if is_same {
                    "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n".to_owned()
                } else if lines.contains("chunked") && request.method != "HEAD" {
                    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{}", chunked(&body))
                } else {
                    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}")
                };
                if conn.try_send(text.as_bytes()).is_err() || is_last {
                    return;
                }
            }
        });
        let toml = format!("[server.app]\nproxy_url = \"{}\"\n[cache]\nmax_entry_bytes = \"64KiB\"\nmax_bytes = \"1MiB\"\n", backend.url());
        let mut proxy = Proxy::start(driver, &toml);
        let addr = proxy.addr();
        let clients: Vec<_> = (0..10).map(|seed| std::thread::spawn(move || roam(addr, seed))).collect();
        for client in clients {
            client.join().expect("a client");
        }
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit(), 0);
    }
}

/// What the page of this name consists of: from nothing up to 300 KB.
fn page(target: &str) -> String {
    let size = target.get(2..).and_then(|size| size.parse().ok()).expect("a number");
    let mut text = String::new();
    while text.len() < size {
        text.push_str(target);
    }
    text.truncate(size);
    text
}

/// Asks for one page after the other, in every manner, and breaks off now and then.
fn roam(addr: SocketAddr, seed: u64) {
    let mut random = Random::new(seed);
    let mut client = Client::connect(addr);
    for _ in 0..150 {
        let kind = ["a", "b", "c", "d", "e", "f"][random.below(6)];
        let size = [0, 1, 5_000, 60_000, 70_000, 300_000][random.below(6)];
        let target = format!("/{kind}{size}");
        let method = if random.below(8) == 0 { "HEAD" } else { "GET" };
        let lines = match random.below(8) {
            0 => "Range: bytes=1-3\r\n",
            1 => "Cache-Control: no-cache\r\n",
            2 => "Authorization: me\r\n",
            _ => "",
        };
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
        if random.below(12) == 0 {
            client = Client::connect(addr);
            continue;
        }
        let answer = client.read_response_to(method);
        let whole = page(&target);
        match answer.status {
            200 if method == "HEAD" => {}
            200 => assert!(
                answer.text() == whole,
                "{target}: {} of {}",
                answer.body.len(),
                whole.len()
            ),
            206 => assert_eq!(Some(answer.text()), whole.get(1..4)),
            416 => assert!(whole.len() < 2),
            _ => panic!("{target}: {answer:?}"),
        }
        if answer.field("connection") == Some("close") {
            client = Client::connect(addr);
        }
    }
}
