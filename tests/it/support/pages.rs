//! A backend whose pages a test writes as functions of the request, and what a client says to a
//! cache and reads from it.
//!
//! How often the backend was asked is the proof: a body alone cannot tell a hit from a repetition.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Socket, Type};

use super::control::Metrics;
use super::{Backend, BackendConn, Client, Driver, GUARD, Peer, Proxy, Request, Response, Watched};

/// How many connections are made until both of two workers have one: far more than it takes where
/// one worker spreads them, as connections that have just ended may still count.
const CONNECTIONS_MAX: usize = 50;

/// Begins targets that no page is asked for: they tell only that a worker serves.
const ASIDE: &str = "/-/";

/// A scripted backend that remembers what it was asked.
#[derive(Debug)]
pub struct Pages {
    backend: Backend,
    seen: Seen,
}

type Seen = Arc<Watched<Vec<Request>>>;

impl Pages {
    /// Answers each request with the bytes that `script` returns; it also gets how many requests for
    /// this target there were before. A page that says `Connection: close` is the last of its
    /// connection; an empty one closes without an answer.
    pub fn of(script: impl Fn(&Request, usize) -> String + Send + Sync + 'static) -> Self {
        let seen = Seen::default();
        let theirs = Arc::clone(&seen);
        let answer = move |request: &Request| {
            if request.target.starts_with(ASIDE) {
                return page("Cache-Control: no-store\r\n", "");
            }
            script(request, record(&theirs, request))
        };
        let backend = Backend::scripted(move |conn, _| answer_all(conn, &answer));
        Self { backend, seen }
    }

    /// Answers every request with this head's fields and a body that tells how many requests for
    /// this target there were: `0`, `1`...
    pub fn numbered(fields: &'static str) -> Self {
        Self::of(move |_, number| page(fields, &number.to_string()))
    }

    /// Returns the value for `proxy_url`.
    pub fn url(&self) -> String {
        self.backend.url()
    }

    /// Returns how often this target was asked for.
    pub fn count(&self, target: &str) -> usize {
        self.seen.with(|seen| count(seen, target))
    }

    /// Returns every request for this target.
    pub fn requests(&self, target: &str) -> Vec<Request> {
        let of_target = |seen: &mut Vec<Request>| {
            seen.iter().filter(|request| request.target == target).cloned().collect()
        };
        self.seen.with(of_target)
    }

    /// Returns the last request for this target.
    pub fn last(&self, target: &str) -> Request {
        self.requests(target).pop().unwrap_or_else(|| panic!("nobody asked for {target}"))
    }

    /// Waits until this target was asked for so often.
    pub fn wait_for(&self, target: &str, times: usize) {
        let come = self.seen.wait(GUARD, |seen| (count(seen, target) >= times).then_some(()));
        assert!(come.is_some(), "guard: waited {GUARD:?} for {times} requests for {target}");
    }
}

fn answer_all(conn: &mut BackendConn, answer: impl Fn(&Request) -> String) {
    while let Some(request) = conn.next_request() {
        let page = answer(&request);
        // Who asked may have left.
        let is_sent = conn.try_send(page.as_bytes()).is_ok();
        if !is_sent || page.is_empty() || page.contains("Connection: close\r\n") {
            return;
        }
    }
}

/// Remembers a request; returns how many there were for its target before.
fn record(seen: &Seen, request: &Request) -> usize {
    seen.with(|seen| {
        seen.push(request.clone());
        count(seen, &request.target) - 1
    })
}

fn count(seen: &[Request], target: &str) -> usize {
    seen.iter().filter(|request| request.target == target).count()
}

/// Returns a 200 with these field lines, each with its line end, and this body.
pub fn page(fields: &str, body: &str) -> String {
    answer("200 OK", fields, body)
}

/// Returns an answer with this status, these field lines, each with its line end, and this body.
pub fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    let mut text = format!("HTTP/1.1 {status}\r\n{fields}");
    // These never have one.
    if !status.starts_with("304") && !status.starts_with("204") {
        write!(text, "Content-Length: {length}\r\n").expect("a string takes everything");
    }
    text + "\r\n" + body
}

/// Returns the time so many seconds from now as an HTTP date.
pub fn date(seconds_from_now: i64) -> String {
    let now = SystemTime::now();
    let distance = Duration::from_secs(seconds_from_now.unsigned_abs());
    httpdate::fmt_http_date(if seconds_from_now < 0 { now - distance } else { now + distance })
}

/// Sends a request without a body, with these field lines, each with its line end.
pub fn send(client: &mut Client, line: &str, fields: &str) {
    let has_host = fields.starts_with("Host:") || fields.contains("\nHost:");
    let host = if has_host { "" } else { "Host: localhost\r\n" };
    client.send(format!("{line} HTTP/1.1\r\n{host}{fields}\r\n"));
}

/// Sends `METHOD target` with these field lines, and reads the answer.
pub fn ask(client: &mut Client, line: &str, fields: &str) -> Response {
    send(client, line, fields);
    client.read_response_to(line.split(' ').next().unwrap_or_default())
}

/// Sends a GET with these field lines, and reads the answer.
pub fn get(client: &mut Client, target: &str, fields: &str) -> Response {
    ask(client, &format!("GET {target}"), fields)
}

/// Connects from this address of the loopback network.
pub fn connect_from(from: &str, to: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from: SocketAddr = format!("{from}:0").parse().expect("an address");
    socket.bind(&from.into()).expect("an address of the loopback network");
    socket.connect_timeout(&to.into(), GUARD).expect("the proxy accepts");
    Client::over(Peer::new(TcpStream::from(socket), "client"))
}

/// Starts a proxy with two workers and the route `app` to these pages; `more` follows its keys.
pub fn two_workers(driver: Driver, pages: &Pages, more: &str) -> Proxy {
    let (url, driver_name) = (pages.url(), driver.name());
    let config = format!(
        "[server.app]\nproxy_url = \"{url}\"\n{more}\n[runtime]\ncores = 2\npin = false\n\
         driver = \"{driver_name}\"\naccept = \"single\"\n"
    );
    Proxy::start(driver, &config)
}

/// Connects a client to each of the two workers; nobody else may connect meanwhile.
pub fn one_each(proxy: &Proxy) -> [Client; 2] {
    let active = || {
        let metrics = Metrics::of(proxy);
        ["0", "1"]
            .map(|worker| metrics.value(&format!("connections_active{{worker=\"{worker}\"}}")))
    };
    let mut found = [None, None];
    let mut others = Vec::new();
    let mut before = active();
    for _ in 0..CONNECTIONS_MAX {
        let mut client = Client::connect(proxy.addr());
        // Served, hence counted.
        assert_eq!(ask(&mut client, "GET /-/served", "").status, 200);
        let after = active();
        let grown = [0, 1].map(|worker| after[worker] > before[worker]);
        let settled = [0, 1].map(|worker| after[worker] >= before[worker]);
        before = after;
        match grown {
            [is_first, is_second] if is_first != is_second && settled == [true; 2] => {
                others.extend(found[usize::from(is_second)].replace(client));
            }
            // A connection that had ended was taken off the count meanwhile.
            _ => others.push(client),
        }
        if found.iter().all(Option::is_some) {
            return found.map(|client| client.expect("looked for"));
        }
    }
    panic!("{CONNECTIONS_MAX} connections all went to one worker");
}

/// Waits until both workers have read what their other clients had sent before.
pub fn pass_both(proxy: &Proxy) {
    for client in &mut one_each(proxy) {
        assert_eq!(ask(client, "GET /-/passed", "").status, 200);
    }
}

/// What our member of `Cache-Status` says (RFC 9211).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// The cache answered.
    pub hit: bool,
    /// Why the request went on, or empty.
    pub fwd: String,
    /// What the backend answered.
    pub fwd_status: Option<u16>,
    /// Seconds until the answer is stale.
    pub ttl: Option<i64>,
    /// The answer was stored.
    pub stored: bool,
    /// The request waited for another one's answer.
    pub collapsed: bool,
    /// More about it, or empty.
    pub detail: String,
}

impl CacheStatus {
    /// Reads the member of the cache next to the client: the last.
    pub fn of(response: &Response) -> Self {
        let value = response.all("cache-status").join(", ");
        let ours = value.rsplit(',').next().unwrap_or_default();
        let mut words = ours.split(';').map(str::trim);
        assert_eq!(words.next(), Some("phantom-frame"), "Cache-Status: {value}: {response:?}");
        let mut status = Self::default();
        let mut seen = Vec::new();
        for word in words {
            let (key, argument) = word.split_once('=').unwrap_or((word, ""));
            assert!(!seen.contains(&key), "{key} twice in {value}");
            seen.push(key);
            match key {
                "hit" => status.hit = true,
                "stored" => status.stored = true,
                "collapsed" => status.collapsed = true,
                "fwd" => argument.clone_into(&mut status.fwd),
                "detail" => argument.clone_into(&mut status.detail),
                "fwd-status" => status.fwd_status = Some(argument.parse().expect("a status")),
                "ttl" => status.ttl = Some(argument.parse().expect("seconds")),
                _ => panic!("{key} is unknown to RFC 9211: {value}"),
            }
        }
        assert!(!status.hit || status.fwd.is_empty(), "both hit and fwd: {value}");
        status
    }
}

/// Whether the cache answered out of itself.
pub fn is_hit(response: &Response) -> bool {
    CacheStatus::of(response).hit
}

/// The Age field, which must be there once.
pub fn age(response: &Response) -> u64 {
    let ages = response.all("age");
    assert_eq!(ages.len(), 1, "{response:?}");
    ages[0].parse().expect("seconds")
}
