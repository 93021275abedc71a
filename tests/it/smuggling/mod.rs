//! Request smuggling and its mirror image over real sockets: thousands of shapes that two servers could
//! read differently go through the proxy, between ends that count by the strictest reading.
//!
//! Three counts must agree: what our own reader finds in the bytes of a client, what the backend
//! received, and what the client was answered for. What stands where no request can be never is one.

mod answers;
mod shapes;
mod stage;
mod strict;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use answers::{Answer, POISON};
use shapes::{SMUGGLED, Shape};
use stage::{Deed, MARK, Stage, Then, connect, receive, received, responses, told};
use strict::{Front, Message};

use crate::support::control::Metrics;
use crate::support::{Driver, Proxy, eventually};
use crate::targets::{End, Reader, Seen};

/// Stands behind every shape, so that whatever is read to its end shows that it was.
const LAST: &str = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// Mutations of the shapes of clients.
const MUTATIONS: usize = 4_000;

/// Mutations of the answers of backends.
const ANSWER_MUTATIONS: usize = 1_000;

/// Starts a proxy whose routes go to one backend; `/plain` does not upgrade.
fn front(driver: Driver, stage: &Stage) -> Proxy {
    let url = stage.backend.url();
    let config = format!(
        "[server.app]\nproxy_url = \"{url}\"\n\
         [server.plain]\nbind_to = \"/plain\"\nproxy_url = \"{url}\"\nenable_websocket = false\n\
         [runtime]\ncores = 1\npin = false\ndriver = \"{}\"\n",
        driver.name()
    );
    Proxy::start(driver, &config)
}

/// Accepts the upgrades of `/switch`.
fn switching(request: &Message) -> Option<Deed> {
    let is_offer = request.line[1].starts_with("/switch/");
    let offered = request.fields.iter().find(|(name, _)| name == "upgrade").filter(|_| is_offer)?;
    let protocol = offered.1.split(',').next().unwrap_or_default();
    let bytes = format!(
        "HTTP/1.1 101 Switching Protocols\r\n{MARK}: 1\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    );
    Some(Deed { bytes: bytes.into_bytes(), early: false, then: Then::Tunnel })
}

/// What a backend must have received, as it tells it, and whether each switches protocols.
fn expected(seen: &Seen) -> Vec<String> {
    let mut told = Vec::new();
    for (number, request) in seen.requests.iter().enumerate() {
        let target: String = request.target.iter().copied().map(char::from).collect();
        let target = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => {
                let rest = rest.find(['/', '?']).map_or("", |at| rest.split_at(at).1);
                if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
            }
            _ => target,
        };
        let path = target.split('?').next().unwrap_or_default();
        let is_plain = path == "/plain" || path.starts_with("/plain/");
        let is_last = number + 1 == seen.requests.len();
        if is_plain && is_last && seen.end == End::Upgrade {
            continue;
        }
        let target = if is_plain { target.replacen("/plain", "", 1) } else { target };
        let target = if target.starts_with(['/', '*']) { target } else { format!("/{target}") };
        told.push(format!("{} {target} {}", request.method, request.body.len()));
    }
    told
}

/// Sends a shape and compares the three counts.
fn try_out(stage: &Stage, addr: SocketAddr, number: usize, shape: &Shape) {
    let bytes = [&shape.bytes[..], LAST.as_bytes()].concat();
    let shown = bytes.escape_ascii().to_string();
    let seen = Reader::read(&bytes);
    let wanted = expected(&seen);
    let before = stage.record(|record| record.requests.len());

    let mut client = connect(addr);
    // Some in two pieces; but what follows a declined upgrade late enough is a request.
    let is_cut = number % 4 == 1 && seen.end != End::Upgrade;
    let cut = if is_cut { number.wrapping_mul(7919) % bytes.len() } else { bytes.len() };
    for piece in [&bytes[..cut], &bytes[cut..]] {
        // A proxy that has seen enough may have closed.
        client.write_all(piece).ok();
    }
    let waits_for_us = matches!(seen.end, End::Partway | End::Between | End::Upgrade);
    if waits_for_us || number.is_multiple_of(2) {
        client.shutdown(Shutdown::Write).ok();
    }
    let got = received(&client);

    let (count, came) = stage.record(|record| {
        assert!(record.broken.is_empty(), "{:#?}\n{shown}", record.broken);
        let came = record.requests[before..].iter();
        let smuggled = came.clone().filter(|request| request.line[1].starts_with("/smuggled"));
        (smuggled.count(), came.map(told).collect::<Vec<_>>())
    });
    assert!(count == 0 || shape.is_mutated, "smuggled: {came:#?}\n{shown}");
    assert_eq!(came, wanted, "the backend received\n{shown}");

    let methods = seen.requests.iter().map(|request| &*request.method);
    // A body that breaks off is answered by us, with a body of its own unless it was a HEAD.
    let answers = responses(&got, methods.clone());
    let answers = answers.or_else(|_| responses(&got, methods.chain(["HEAD"])));
    let (answers, _) = answers.unwrap_or_else(|why| panic!("{why}\n{shown}"));
    let (theirs, ours): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.field(MARK).is_some());
    assert_eq!(theirs.len(), wanted.len(), "answers {answers:#?}\n{shown}");
    for (answer, wanted) in theirs.iter().zip(&wanted) {
        let is_told = answer.body == wanted.as_bytes() || wanted.starts_with("HEAD ");
        assert!(is_told || answer.status() == 101, "{answer:?} for {wanted}\n{shown}");
    }
    let is_refused = seen.end == End::Refused;
    assert!(ours.len() <= 1 && (!is_refused || ours.len() == 1), "{ours:#?}\n{shown}");
    for answer in ours {
        assert!(answer.status() >= 400, "{answer:?}\n{shown}");
        assert!(answers.last() == Some(answer), "an answer behind ours\n{shown}");
        assert_eq!(answer.field("connection"), Some("close"), "{shown}");
    }
}

/// Returns how many requests the proxy says that it has passed on.
fn counted(proxy: &Proxy) -> usize {
    let metrics = Metrics::of(proxy);
    let of = |outcome| {
        metrics.value(&format!("request_outcomes_total{{outcome=\"{outcome}\",side=\"client\"}}"))
    };
    assert!(of("hit").abs() < 0.5, "nothing here may be stored");
    let sum: f64 = ["passed", "filled", "tunnelled"].map(of).iter().sum();
    format!("{sum}").parse().expect("a count")
}

/// A client whose connection persists; what it gets must be what it asked for.
struct Innocent {
    addr: SocketAddr,
    stream: TcpStream,
}

impl Innocent {
    fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: connect(addr) }
    }

    fn ask(&mut self, target: &str, shown: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        self.stream.write_all(request.as_bytes()).expect("the proxy keeps the connection");
        let mut bytes = Vec::new();
        let answer = first_final(&mut self.stream, &mut bytes, "GET")
            .unwrap_or_else(|| panic!("{}: no answer to {target} behind\n{shown}", self.addr));
        assert_eq!(answer.body, format!("GET {target} 0").as_bytes(), "{answer:?} behind\n{shown}");
        assert!(bytes.is_empty(), "{} behind\n{shown}", bytes.escape_ascii());
    }
}

/// Reads up to the first final answer, as far as it is whole; what follows it stays in `bytes`.
fn first_final(stream: &mut TcpStream, bytes: &mut Vec<u8>, method: &str) -> Option<Message> {
    let mut is_open = true;
    loop {
        match strict::response(bytes, method) {
            Front::Whole(message) if message.until_close && is_open => {}
            Front::Whole(message) => {
                bytes.drain(..message.len);
                if message.status() >= 200 || message.status() == 101 {
                    return Some(message);
                }
                continue;
            }
            Front::Broken(why) => panic!("{why}: {}", bytes.escape_ascii()),
            Front::Part if !is_open => return None,
            Front::Part => {}
        }
        is_open = receive(stream, bytes) > 0;
    }
}

/// Lets the backend give an answer, and asks for others' on the connections that it may have poisoned.
fn try_answer(addr: SocketAddr, innocent: &mut Innocent, number: usize, answer: &Answer) {
    let shown = answer.deed.bytes.escape_ascii().to_string();
    let offer = if answer.offers { "Connection: Upgrade\r\nUpgrade: my-proto\r\n" } else { "" };
    let mut client = connect(addr);
    let request = format!("{} /r{number} HTTP/1.1\r\nHost: h\r\n{offer}\r\n", answer.method);
    client.write_all(request.as_bytes()).expect("a fresh connection");
    let mut bytes = Vec::new();
    let first = first_final(&mut client, &mut bytes, answer.method);
    let goes_on = first.as_ref().is_some_and(|first| {
        assert_ne!(first.status(), 101, "a switch that nobody asked for\n{shown}");
        !first.until_close && first.field("connection") != Some("close")
    });
    assert!(goes_on || first.is_none() || bytes.is_empty(), "{}\n{shown}", bytes.escape_ascii());
    if goes_on {
        let own = format!("GET /own{number} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        client.write_all(own.as_bytes()).expect("the proxy keeps the connection");
        let answer = first_final(&mut client, &mut bytes, "GET");
        let answer = answer.unwrap_or_else(|| panic!("no answer of its own behind\n{shown}"));
        let wanted = format!("GET /own{number} 0");
        assert_eq!(answer.body, wanted.as_bytes(), "{answer:?} behind\n{shown}");
    }
    innocent.ask(&format!("/innocent{number}"), &shown);
    bytes.extend(received(&client));
    assert!(!goes_on || bytes.is_empty(), "{} behind\n{shown}", bytes.escape_ascii());
}

/// A request whose body the backend does not wait for, cut in two at `at`.
fn try_early(stage: &Stage, addr: SocketAddr, number: usize, (request, at): (&[u8], usize)) {
    let shown = request.escape_ascii().to_string();
    let mut client = connect(addr);
    client.write_all(&request[..at]).expect("a fresh connection");
    let mut bytes = Vec::new();
    let first = first_final(&mut client, &mut bytes, "POST").expect("an early answer");
    assert_eq!((first.status(), first.field(MARK)), (413, Some("1")), "{first:?}\n{shown}");
    // The rest of the body, with the other request in it and behind it.
    client.write_all(&request[at..]).ok();
    client.write_all(SMUGGLED.as_bytes()).ok();
    client.shutdown(Shutdown::Write).ok();
    bytes.extend(received(&client));
    assert!(bytes.is_empty(), "{number}: {}\n{shown}", bytes.escape_ascii());
    stage.record(|record| {
        assert!(record.broken.is_empty(), "{:#?}\n{shown}", record.broken);
        let mut requests = record.requests.iter();
        assert!(!requests.any(|request| request.line[1].starts_with("/smuggled")), "{shown}");
    });
}

on_both_drivers! {
    fn a_backend_receives_the_requests_that_were_counted_and_no_other(driver) {
        let stage = Stage::new(switching);
        let proxy = front(driver, &stage);
        for (number, shape) in shapes::all(MUTATIONS).iter().enumerate() {
            try_out(&stage, proxy.addr(), number, shape);
        }
        let received = stage.record(|record| record.requests.len());
        // A request is counted after its answer was sent.
        eventually("the proxy has counted as many", || counted(&proxy) == received);
        drop(proxy);
        // What came through tunnels was no request, and nothing arrived late.
        stage.backend.wait_for_scripts(stage.backend.accepted());
        stage.record(|record| {
            assert!(record.broken.is_empty(), "{:#?}", record.broken);
            let tunnelled = String::from_utf8_lossy(&record.tunnelled);
            assert!(tunnelled.contains(SMUGGLED), "no tunnel carried anything");
        });
    }

    fn a_client_sees_its_own_answers_and_no_other(driver) {
        let answers = answers::all(ANSWER_MUTATIONS);
        let deeds: Vec<_> = answers.iter().map(|answer| answer.deed.clone()).collect();
        let stage = Stage::new(move |request| {
            let number = request.line[1].strip_prefix("/r")?.parse::<usize>().ok()?;
            deeds.get(number).cloned()
        });
        let proxy = front(driver, &stage);
        let mut innocent = Innocent::new(proxy.addr());
        for (number, answer) in answers.iter().enumerate() {
            try_answer(proxy.addr(), &mut innocent, number, answer);
        }
        stage.record(|record| assert!(record.broken.is_empty(), "{:#?}", record.broken));
    }

    fn an_early_answer_does_not_make_requests_of_the_rest_of_a_body(driver) {
        let stage = Stage::new(|_| {
            let bytes = format!("HTTP/1.1 413 Too Large\r\n{MARK}: 1\r\nContent-Length: 2\r\n\r\nno");
            Some(Deed { bytes: bytes.into_bytes(), early: true, then: Then::Open })
        });
        let proxy = front(driver, &stage);
        let mut number = 0;
        for repeats in [1, 50] {
            let body = SMUGGLED.repeat(repeats);
            let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
            let chunk = format!("{:x}\r\n{body}\r\n", body.len());
            let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
            for framed in [length, chunked] {
                for expect in ["", "Expect: 100-continue\r\n"] {
                    let request = format!("POST /e HTTP/1.1\r\nHost: h\r\n{expect}{framed}");
                    let head = request.find("\r\n\r\n").expect("a head") + 4;
                    for at in (head..request.len()).step_by(request.len() / 25) {
                        number += 1;
                        try_early(&stage, proxy.addr(), number, (request.as_bytes(), at));
                    }
                }
            }
        }
        assert!(number > 100, "{number}");
    }
}

#[test]
fn there_are_thousands_of_shapes() {
    let shapes = shapes::all(0);
    let distinct: std::collections::HashSet<_> = shapes.iter().map(|shape| &shape.bytes).collect();
    let answers = answers::all(0);
    assert!(
        distinct.len() > 5_000 && answers.len() > 2_500,
        "{} {}",
        distinct.len(),
        answers.len()
    );
    let refused = shapes.iter().filter(|shape| Reader::read(&shape.bytes).end == End::Refused);
    let refused = refused.count();
    assert!(refused > 3_000 && refused < shapes.len() - 500, "{refused} of {}", shapes.len());
    assert!(answers.iter().filter(|answer| contains(&answer.deed.bytes, POISON)).count() > 2_000);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
