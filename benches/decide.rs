//! What is done with a head once it is read: framing, decision, and the head for the backend.
//!
//! All of it is pure, so the figures are small; what they show is what a route more costs.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BenchmarkId, Criterion, Throughput};
use phantom_frame::config::{self, Route};
use phantom_frame::http1::forward::{self, NextHop};
use phantom_frame::http1::framing::{Framing, request_framing};
use phantom_frame::http1::head::RequestHead;
use phantom_frame::proxy::decide::{Action, Gates, ask, decide};

use super::support::heads;

/// Routes of a configuration.
const ROUTES: [usize; 3] = [1, 10, 50];

/// Runs the benches of this file.
pub fn bench(criterion: &mut Criterion) {
    decisions(criterion);
    framings(criterion);
    forwards(criterion);
}

fn decisions(criterion: &mut Criterion) {
    let shapes = [
        ("browser", parsed(heads::BROWSER), Action::Pass),
        ("handshake", parsed(heads::HANDSHAKE), Action::Tunnel),
    ];
    for (name, head, action) in shapes {
        let mut group = criterion.benchmark_group(format!("decide/{name}"));
        group.throughput(Throughput::Elements(1));
        for count in ROUTES {
            let routes = routes(count);
            group.bench_function(BenchmarkId::new("routes", count), |bencher| {
                let expected = (action, count - 1);
                let rules: Vec<_> = routes.iter().map(|_| None).collect();
                let gates = Gates { routes: &routes, rules: &rules, body_bytes_max: None };
                let asked = || outcome(black_box(&head), black_box(gates));
                bencher.iter(|| assert_eq!(asked(), expected));
            });
        }
        group.finish();
    }
}

/// What is done with a head, and on which route.
fn outcome(head: &RequestHead<&[u8]>, gates: Gates<'_>) -> (Action, usize) {
    let asked = ask(head).expect("an unambiguous head");
    assert!(asked.persists);
    let decision = decide(head, &asked, gates).expect("a route");
    (decision.action, decision.route)
}

/// A configuration's routes, of which only the last takes the heads: it is the fallback.
fn routes(count: usize) -> Vec<Route> {
    let mut text = String::new();
    for index in 1..count {
        writeln!(text, "[server.r{index}]\nbind_to = '/service/number/{index}'")
            .expect("a string takes every character");
    }
    text.push_str("[server.rest]\n");
    config::parse(&text, true, &|_| None).expect("a valid configuration").config.routes
}

fn framings(criterion: &mut Criterion) {
    let shapes = [
        ("no body", parsed(heads::BROWSER), Framing::Length(0)),
        ("length", parsed(heads::WITH_LENGTH), Framing::Length(27)),
        ("chunked", parsed(heads::CHUNKED), Framing::Chunked),
    ];
    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Elements(1));
    for (name, head, framing) in shapes {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let head = black_box(&head);
                assert_eq!(request_framing(head.version(), head.fields()), Ok(framing));
            });
        });
    }
    group.finish();
}

fn forwards(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    let next = NextHop {
        base_path: b"",
        path: b"/chat/room/7",
        query: None,
        host: b"www.shop.example",
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        client_is_trusted: false,
        proto: "http",
        authority: b"www.shop.example",
        framing: Framing::Length(0),
    };
    let mut out = Vec::with_capacity(4096);
    let head = parsed(heads::BROWSER);
    group.throughput(Throughput::Bytes(heads::BROWSER.len() as u64));
    group.bench_function("request", |bencher| {
        bencher.iter(|| {
            out.clear();
            forward::request(&mut out, black_box(&head), &next);
            assert!(out.starts_with(b"GET /chat/room/7 HTTP/1.1\r\nHost: "));
            assert!(out.ends_with(b"X-Forwarded-Host: www.shop.example\r\n\r\n"));
        });
    });
    let head = parsed(heads::HANDSHAKE);
    group.throughput(Throughput::Bytes(heads::HANDSHAKE.len() as u64));
    group.bench_function("upgrade_request", |bencher| {
        bencher.iter(|| {
            out.clear();
            forward::upgrade_request(&mut out, black_box(&head), &next);
            assert!(out.starts_with(b"GET /chat/room/7 HTTP/1.1\r\nHost: "));
            assert!(out.ends_with(b"X-Forwarded-Host: www.shop.example\r\n\r\n"));
        });
    });
    group.finish();
}

fn parsed(bytes: &'static [u8]) -> RequestHead<&'static [u8]> {
    RequestHead::parse(bytes, bytes.len(), Vec::new(), 100).expect("a valid head")
}
