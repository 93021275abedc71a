//! Bodies that are sent on while they arrive, to everybody who waits and whoever of them leaves.
//!
//! The backend holds the second half of a body back until every client has the first.

use crate::support::cached::{Caching, Count, FILLS, answer, clients, is_hit, request};
use crate::support::control::Metrics;
use crate::support::{Backend, Client, Driver, Gate, Peer, Proxy, Random, eventually};

/// More than the sockets between a proxy and a client that does not read will hold.
const LARGE: usize = 24 << 20;

/// Room for [`LARGE`].
const ROOM: &str = "max_bytes = \"256MiB\"\nmax_entry_bytes = \"32MiB\"";

/// How a backend delimits a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    Close,
}

/// Sends a head, and the first half of the body.
fn begin(conn: &mut Peer, framing: Framing, body: &[u8]) {
    let line = match framing {
        Framing::Length => format!("Content-Length: {}\r\n", body.len()),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framing::Close => "Connection: close\r\n".to_owned(),
    };
    conn.send(format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{line}\r\n"));
    send_part(conn, framing, &body[..body.len() / 2]);
}

fn send_part(conn: &mut Peer, framing: Framing, part: &[u8]) {
    if framing == Framing::Chunked {
        conn.send(format!("{:x}\r\n", part.len()));
    }
    conn.send(part);
    if framing == Framing::Chunked {
        conn.send("\r\n");
    }
}

/// A backend whose answers stop in the middle until `rest` opens.
fn halting(framing: Framing, body: Vec<u8>, requests: Count, rest: Gate) -> Backend {
    Backend::scripted(move |conn, _| {
        while conn.next_request().is_some() {
            requests.add();
            begin(conn, framing, &body);
            rest.pass("everybody has the first half");
            send_part(conn, framing, &body[body.len() / 2..]);
            match framing {
                Framing::Length => {}
                Framing::Chunked => conn.send("0\r\n\r\n"),
                Framing::Close => return,
            }
        }
    })
}

/// A client in the middle of a response.
struct Reading {
    client: Client,
    is_chunked: bool,
    got: Vec<u8>,
}

impl Reading {
    /// Reads the head of a 200.
    fn begin(mut client: Client) -> Self {
        let head = client.read_response_head();
        assert_eq!(head.status, 200, "{head:?}");
        let is_chunked = head.field("transfer-encoding") == Some("chunked");
        assert!(is_chunked || head.field("content-length").is_some(), "{head:?}");
        Self { client, is_chunked, got: Vec::new() }
    }

    /// Reads until `count` bytes of the body have come.
    fn read_to(&mut self, count: usize) {
        while self.got.len() < count {
            let some = if self.is_chunked {
                self.client.read_chunk().expect("the body goes on")
            } else {
                let left = count - self.got.len();
                self.client.read_exact(left.min(64 << 10))
            };
            self.got.extend(some);
        }
    }

    /// Reads to the end, and asserts that the connection then goes on.
    fn finish(mut self, body: &[u8], path: &str) {
        self.read_to(body.len());
        if self.is_chunked {
            assert_eq!(self.client.read_chunk(), None);
            assert!(self.client.read_trailers().is_empty());
        }
        assert!(self.got == body, "another body of {} bytes", self.got.len());
        let stored = self.client.get(path);
        assert!(is_hit(&stored) && stored.body == body, "{stored:?}");
    }
}

/// What the first client does when it has got the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Reads,
    Stops,
    Leaves,
}

fn start(driver: Driver, fill: &str, url: &str) -> Proxy {
    Caching { fill, rules: ROOM, ..Caching::default() }.start(driver, url)
}

/// Others follow a fill that one client has begun.
fn follow(driver: Driver, fill: &str, framing: Framing, first: First) {
    let large = if first == First::Stops { LARGE } else { 40_000 };
    let body = Random::new(11).bytes(large);
    let (requests, rest) = (Count::default(), Gate::default());
    let backend = halting(framing, body.clone(), requests.clone(), rest.clone());
    let proxy = start(driver, fill, &backend.url());
    let mut others = clients(&proxy, 5, 2);
    let mut leader = Client::connect_with_receive_buffer(proxy.addr(), 4096);
    leader.send(request("/", ""));
    requests.wait_for(1, "requests");
    for client in &mut others {
        client.send(request("/", ""));
    }
    let leader = match first {
        First::Reads => Some(Reading::begin(leader)),
        First::Stops => {
            leader.read_response_head();
            others.push(Client::connect(proxy.addr()));
            others.last_mut().expect("it was pushed").send(request("/", ""));
            drop_later(leader, &rest)
        }
        First::Leaves => {
            leader.read_response_head();
            leader.reset();
            eventually("the proxy knows that it has left", || {
                Metrics::of(&proxy).sum("request_outcomes_total{outcome=\"client_gone\"") >= 1.0
            });
            None
        }
    };
    let mut all: Vec<_> = others.into_iter().map(Reading::begin).chain(leader).collect();
    for reading in &mut all {
        reading.read_to(body.len() / 2);
    }
    let most = if fill == "process" { 1 } else { 2 };
    assert!(requests.value() <= most, "{fill} {framing:?} {first:?}: {requests:?}");
    rest.open();
    for reading in all {
        reading.finish(&body, "/");
    }
    assert!(requests.value() <= most, "{fill} {framing:?} {first:?}: {requests:?}");
}

/// Keeps a client that does not read until the others have everything.
fn drop_later(client: Client, rest: &Gate) -> Option<Reading> {
    let rest = rest.clone();
    std::thread::spawn(move || {
        rest.pass("the others have the first half");
        drop(client);
    });
    None
}

on_both_drivers! {
    fn everybody_gets_the_first_half_before_the_second_is_made(driver) {
        for fill in FILLS {
            for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
                follow(driver, fill, framing, First::Reads);
            }
        }
    }

    fn the_others_go_on_when_the_first_client_leaves(driver) {
        for fill in FILLS {
            for framing in [Framing::Length, Framing::Chunked] {
                follow(driver, fill, framing, First::Leaves);
            }
        }
    }

    fn the_others_go_on_while_the_first_client_does_not_read(driver) {
        for (fill, framing) in FILLS.into_iter().zip([Framing::Chunked, Framing::Length]) {
            follow(driver, fill, framing, First::Stops);
        }
    }

    fn what_everybody_left_is_stored_all_the_same(driver) {
        for fill in FILLS {
            let (requests, rest) = (Count::default(), Gate::default());
            let body = Random::new(5).bytes(40_000);
            let backend = halting(Framing::Length, body.clone(), requests.clone(), rest.clone());
            let proxy = start(driver, fill, &backend.url());
            let mut leavers = clients(&proxy, 4, 2);
            let count = leavers.len();
            for client in &mut leavers {
                client.send(request("/", ""));
                client.read_response_head();
                client.read_exact(body.len() / 2);
            }
            for client in &mut leavers { client.reset(); }
            eventually("the proxy knows that they have left", || {
                let left = Metrics::of(&proxy).sum("request_outcomes_total{outcome=\"client_gone\"");
                left >= f64::from(u32::try_from(count).unwrap())
            });
            rest.open();
            let before = requests.value();
            for mut client in clients(&proxy, 4, 2) {
                let whole = client.get("/");
                assert!(whole.body == body, "{fill}: {whole:?}");
            }
            assert_eq!(requests.value(), before, "{fill}");
        }
    }

    fn an_answer_for_one_alone_crosses_workers_whole(driver) {
        let large = Random::new(17).bytes(3 << 20);
        let bodies = [large.clone(), Vec::new(), b"x".to_vec()];
        let theirs = bodies.clone();
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                let mut words = request.target.trim_start_matches('/').split('/');
                let framing = words.next().expect("a framing");
                let body = &theirs[words.next().and_then(|at| at.parse::<usize>().ok()).unwrap()];
                conn.send("HTTP/1.1 200 OK\r\nCache-Control: private\r\n");
                match framing {
                    "length" => conn.send(format!("Content-Length: {}\r\n\r\n", body.len())),
                    "chunked" => conn.send("Transfer-Encoding: chunked\r\n\r\n"),
                    _ => conn.send("Connection: close\r\n\r\n"),
                }
                if framing == "chunked" {
                    body.chunks(70_000).for_each(|part| send_part(conn, Framing::Chunked, part));
                    conn.send("0\r\n\r\n");
                } else {
                    conn.send(body);
                }
                if framing == "close" {
                    return;
                }
            }
        });
        let proxy = Caching::default().start(driver, &backend.url());
        for (at, body) in bodies.iter().enumerate() {
            for (number, mut client) in clients(&proxy, 6, 2).into_iter().enumerate() {
                for framing in ["length", "chunked", "close"] {
                    let answer = client.get(&format!("/{framing}/{at}/{number}"));
                    assert_eq!(answer.status, 200);
                    assert!(answer.body == *body, "{framing}: {answer:?}");
                    if framing == "close" {
                        client = Client::connect(proxy.addr());
                    }
                }
            }
        }
    }

    fn a_connection_that_crossed_workers_is_used_again(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                conn.send(answer("Cache-Control: private\r\n", &request.target));
            }
        });
        let proxy = Caching::default().start(driver, &backend.url());
        let mut some = clients(&proxy, 8, 2);
        let mut round = || {
            for client in &mut some {
                // Of both owners, whichever worker the client is on.
                for path in ["/a", "/b", "/c", "/d", "/e", "/f"] {
                    assert_eq!(client.get(path).text(), path);
                }
            }
        };
        round();
        round();
        let before = backend.accepted();
        round();
        assert_eq!(backend.accepted(), before);
        assert!(before <= 8, "{before} connections for one request at a time");
    }

    fn an_answer_that_crossed_workers_leaves_nothing_behind_for_the_next(driver) {
        // The head and all of the body in one segment, and the next answer over the same connection.
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                let body = request.target.repeat(1 + request.target.len() * 13 % 400);
                conn.send(answer("Cache-Control: no-store\r\n", &body));
            }
        });
        let proxy = Caching::default().start(driver, &backend.url());
        let mut some = clients(&proxy, 6, 2);
        for number in 0..40 {
            for client in &mut some {
                let path = format!("/{}", "p".repeat(1 + number * 5));
                let expected = path.repeat(1 + path.len() * 13 % 400);
                assert_eq!(client.get(&path).text(), expected);
            }
        }
    }
}
