//! Stored bodies in content codings: who gets them, what they are, and what is never coded.
//!
//! The compressor takes its time, and one body after the other. A client that asks until it gets a
//! coded body knows that everything stored before has had its turn.

use std::io::Read;

use crate::support::cached::{Caching, Count, FILLS, answer, clients, is_hit, request};
use crate::support::{Backend, Client, Driver, Gate, Proxy, Response, eventually};

/// The values of `compress_strategy`, and what they are called in a response.
const CODINGS: [(&str, &str); 3] = [("brotli", "br"), ("gzip", "gzip"), ("deflate", "deflate")];

const FIELDS: &str =
    "Cache-Control: max-age=3600\r\nContent-Type: text/html\r\nETag: \"v1\"\r\nX-Other: kept\r\n";

/// A page that shrinks.
fn text() -> String {
    let lines = (0..2_000).map(|line| format!("line {line} of a page that shrinks"));
    lines.collect::<Vec<_>>().join("</p>\n<p>")
}

/// Answers every path with the page, under the fields that the path names.
fn serving() -> Backend {
    Backend::scripted(|conn, _| {
        while let Some(request) = conn.next_request() {
            let own = match &*request.target {
                "/no-transform" => "Cache-Control: no-transform\r\n",
                "/encoded" => "Content-Encoding: x-own\r\n",
                "/language" => "Vary: Accept-Language\r\n",
                _ => "",
            };
            let fields = match &*request.target {
                "/image" => FIELDS.replace("text/html", "image/png"),
                "/bytes" => FIELDS.replace("text/html", "application/octet-stream"),
                "/untyped" => FIELDS.replace("Content-Type: text/html\r\n", ""),
                "/weak" => FIELDS.replace("\"v1\"", "W/\"v1\""),
                _ => FIELDS.to_owned(),
            };
            let body = if request.target == "/short" { "short".to_owned() } else { text() };
            conn.send(answer(&(fields + own), &body));
        }
    })
}

fn start(driver: Driver, strategy: &str, url: &str) -> Proxy {
    let route = format!("compress_strategy = \"{strategy}\"");
    Caching { workers: 1, route: &route, ..Caching::default() }.start(driver, url)
}

fn ask(client: &mut Client, path: &str, fields: &str) -> Response {
    client.send(request(path, fields));
    client.read_response()
}

/// Asks for a page until it is coded.
fn coded(client: &mut Client, path: &str, coding: &str) -> Response {
    let mut last = None;
    eventually("the page is coded", || {
        let answer = ask(client, path, &format!("Accept-Encoding: {coding}\r\n"));
        let is_coded = answer.field("content-encoding") == Some(coding);
        last = Some(answer);
        is_coded
    });
    last.expect("it was asked for")
}

/// Decodes by the crates that the proxy encodes with, from their other side.
fn decode(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    let read = match coding {
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        _ => flate2::read::ZlibDecoder::new(body).read_to_string(&mut text),
    };
    read.unwrap_or_else(|error| panic!("{coding}: {error}"));
    text
}

/// Asserts that a response is the page as it came.
fn expect_plain(response: &Response) {
    assert_eq!((response.status, response.field("content-encoding")), (200, None), "{response:?}");
    assert!(response.body == text().as_bytes(), "{response:?}");
    assert_eq!(response.field("etag"), Some("\"v1\""));
    expect_vary(response);
}

/// Asserts that a response says that others may get another form.
fn expect_vary(response: &Response) {
    let names = response.all("vary").join(", ").to_ascii_lowercase();
    assert!(names.contains("accept-encoding"), "{response:?}");
}

/// Sends the first part of the page, and the rest when `rest` opens.
fn halting(has_length: bool, requests: Count, rest: Gate) -> Backend {
    Backend::scripted(move |conn, _| {
        while conn.next_request().is_some() {
            requests.add();
            let (head, body) = (format!("HTTP/1.1 200 OK\r\n{FIELDS}"), text());
            let (first, second) = body.split_at(0x3e8);
            let (first, second) = if has_length {
                (format!("Content-Length: {}\r\n\r\n{first}", body.len()), second.to_owned())
            } else {
                let first = format!("Transfer-Encoding: chunked\r\n\r\n3e8\r\n{first}\r\n");
                (first, format!("{:x}\r\n{second}\r\n0\r\n\r\n", second.len()))
            };
            conn.send(head + &first);
            rest.pass("all have the beginning");
            conn.send(second);
        }
    })
}

/// Several clients get a page before all of it is there; one of them has it already.
fn while_it_arrives(driver: Driver, has_length: bool) {
    let (requests, rest) = (Count::default(), Gate::default());
    let backend = halting(has_length, requests.clone(), rest.clone());
    let proxy = start(driver, "brotli", &backend.url());
    let mut some = clients(&proxy, 3, 1);
    let (plain, new) = ("", "If-None-Match: \"v1\"\r\n");
    for (client, condition) in some.iter_mut().zip([plain, plain, new]) {
        client.send(request("/", &format!("Accept-Encoding: br\r\n{condition}")));
        requests.wait_for(1, "requests");
    }
    let heads: Vec<_> = some.iter_mut().map(|client| client.read_response_head()).collect();
    rest.open();
    assert_eq!(heads.iter().map(|head| head.status).collect::<Vec<_>>(), [200, 200, 304]);
    for head in &heads {
        assert_eq!(head.field("content-encoding"), None, "{head:?}");
        expect_vary(head);
    }
    coded(&mut some[2], "/", "br");
    assert_eq!(requests.value(), 1);
}

on_both_drivers! {
    fn a_client_that_takes_it_gets_the_coded_form_after_a_while(driver) {
        for (strategy, coding) in CODINGS {
            let backend = serving();
            let proxy = start(driver, strategy, &backend.url());
            let mut client = Client::connect(proxy.addr());
            let accept = format!("Accept-Encoding: zstd, {coding}\r\n");
            let first = ask(&mut client, "/", &accept);
            assert!(!is_hit(&first), "{first:?}");
            expect_plain(&first);
            let packed = coded(&mut client, "/", coding);
            assert!(is_hit(&packed), "{packed:?}");
            assert_eq!(decode(coding, &packed.body), text());
            assert!(packed.body.len() < text().len() / 4, "{strategy}: {}", packed.body.len());
            assert_eq!(packed.all("content-encoding"), [coding]);
            assert_eq!(packed.all("content-length"), [packed.body.len().to_string()]);
            assert_eq!(packed.all("etag"), ["W/\"v1\""]);
            assert_eq!((packed.field("x-other"), packed.field("content-type")),
                (Some("kept"), Some("text/html")));
            expect_vary(&packed);
            // The same in every form of the request.
            client.send(format!("HEAD / HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n"));
            let head = client.read_response_to("HEAD");
            for name in ["content-encoding", "content-length", "etag", "vary"] {
                assert_eq!(head.all(name), packed.all(name), "{head:?}");
            }
            client.send(format!("GET / HTTP/1.0\r\nHost: localhost\r\n{accept}\r\n"));
            assert_eq!(decode(coding, &client.read_response().body), text());
        }
    }

    fn a_client_that_does_not_take_it_gets_the_page_as_it_is(driver) {
        for (strategy, coding) in CODINGS {
            let backend = serving();
            let proxy = start(driver, strategy, &backend.url());
            let mut client = Client::connect(proxy.addr());
            client.get("/");
            coded(&mut client, "/", coding);
            for accept in [
                "",
                "zstd, x-other",
                "identity",
                &format!("{coding};q=0"),
                &format!("{coding};q=0, *;q=0"),
                &format!("{coding};q=0.5, identity;q=0.6"),
                &format!("{coding};q=0.5, identity"),
                "*;q=0",
                &format!("{coding}-like"),
                &format!("{coding};q=2"),
            ] {
                let fields = format!("Accept-Encoding: {accept}\r\n");
                let plain = ask(&mut client, "/", &fields);
                assert!(is_hit(&plain), "{accept}: {plain:?}");
                expect_plain(&plain);
            }
            let plain = client.get("/");
            assert!(is_hit(&plain), "without the field: {plain:?}");
            expect_plain(&plain);
            for accept in [
                "*",
                &format!("{}, zstd", coding.to_ascii_uppercase()),
                &format!("identity;q=0.5, {coding};q=0.6"),
                &format!("identity;q=0, {coding};q=0.1"),
                &format!("identity;q=0.5, {coding};q=0.5"),
                &format!("{coding};q=0.001"),
            ] {
                let packed = ask(&mut client, "/", &format!("Accept-Encoding: {accept}\r\n"));
                assert_eq!(packed.field("content-encoding"), Some(coding), "{accept}");
                assert_eq!(decode(coding, &packed.body), text());
            }
        }
    }

    fn what_must_not_or_need_not_be_coded_stays_as_it_is(driver) {
        for (strategy, coding) in CODINGS {
            let backend = serving();
            let proxy = start(driver, strategy, &backend.url());
            let mut client = Client::connect(proxy.addr());
            let paths = ["/no-transform", "/encoded", "/image", "/bytes", "/untyped", "/short"];
            let accept = format!("Accept-Encoding: {coding}\r\n");
            let first = paths.map(|path| ask(&mut client, path, &accept));
            // Stored behind them, so they have had their turn when it is done.
            client.get("/last");
            coded(&mut client, "/last", coding);
            for (path, first) in paths.into_iter().zip(first) {
                let again = ask(&mut client, path, &accept);
                assert!(is_hit(&again), "{path}: {again:?}");
                let own = (path == "/encoded").then_some("x-own");
                assert_eq!(again.field("content-encoding"), own, "{path}");
                assert_eq!((&again.body, again.field("etag")), (&first.body, Some("\"v1\"")));
                assert_eq!(again.field("vary"), None, "{path}: nobody gets anything else");
            }
        }
    }

    fn a_range_is_one_of_the_page_as_it_is(driver) {
        for (strategy, coding) in CODINGS {
            let backend = serving();
            let proxy = start(driver, strategy, &backend.url());
            let mut client = Client::connect(proxy.addr());
            client.get("/");
            coded(&mut client, "/", coding);
            let text = text();
            for condition in ["", "If-Range: \"v1\"\r\n"] {
                let fields =
                    format!("Accept-Encoding: {coding}\r\nRange: bytes=100-199\r\n{condition}");
                let part = ask(&mut client, "/", &fields);
                assert_eq!((part.status, part.field("content-encoding")), (206, None), "{part:?}");
                assert_eq!(part.body, text.as_bytes()[100..200]);
                let range = format!("bytes 100-199/{}", text.len());
                assert_eq!(part.field("content-range"), Some(&*range));
                assert_eq!(part.field("etag"), Some("\"v1\""));
                expect_vary(&part);
            }
            // The tag of the coded form is weak, and no part fits to it.
            let fields = "Range: bytes=100-199\r\nIf-Range: W/\"v1\"\r\n";
            expect_plain(&ask(&mut client, "/", fields));
        }
    }

    fn a_client_that_has_either_form_is_told_that_it_still_holds(driver) {
        for (strategy, coding) in CODINGS {
            let backend = serving();
            let proxy = start(driver, strategy, &backend.url());
            let mut client = Client::connect(proxy.addr());
            client.get("/");
            let packed = coded(&mut client, "/", coding);
            let weak = packed.field("etag").expect("a tag").to_owned();
            for tag in [&*weak, "\"v1\"", "\"v0\", W/\"v1\"", "*"] {
                let fields = format!("Accept-Encoding: {coding}\r\nIf-None-Match: {tag}\r\n");
                let same = ask(&mut client, "/", &fields);
                assert!(same.status == 304 && is_hit(&same), "{tag}: {same:?}");
                assert_eq!(same.field("content-encoding"), None, "{same:?}");
                expect_vary(&same);
                // As a 200 would have said it to this client (RFC 9110 15.4.5).
                assert_eq!(same.field("etag"), Some(&*weak), "{tag}: {same:?}");
            }
            let other = ask(&mut client, "/", "If-None-Match: W/\"v0\"\r\n");
            expect_plain(&other);
        }
    }

    fn both_forms_keep_the_vary_and_the_weak_tag_of_the_page(driver) {
        for (strategy, coding) in CODINGS {
            let backend = serving();
            let proxy = start(driver, strategy, &backend.url());
            let mut client = Client::connect(proxy.addr());
            client.get("/language");
            client.get("/weak");
            let packed = coded(&mut client, "/language", coding);
            for response in [&packed, &client.get("/language")] {
                expect_vary(response);
                let names = response.all("vary").join(", ").to_ascii_lowercase();
                assert!(names.contains("accept-language"), "{response:?}");
            }
            assert_eq!(coded(&mut client, "/weak", coding).all("etag"), ["W/\"v1\""]);
            assert_eq!(client.get("/weak").all("etag"), ["W/\"v1\""]);
        }
    }

    fn every_worker_codes_what_it_has_stored(driver) {
        for fill in FILLS {
            let backend = serving();
            let route = "compress_strategy = \"gzip\"";
            let proxy =
                Caching { fill, route, ..Caching::default() }.start(driver, &backend.url());
            let mut some = clients(&proxy, 6, 2);
            for client in &mut some { expect_plain(&client.get("/")); }
            for client in &mut some {
                assert_eq!(decode("gzip", &coded(client, "/", "gzip").body), text());
                expect_plain(&client.get("/"));
            }
        }
    }

    fn those_who_get_the_page_while_it_arrives_are_told_that_it_varies(driver) {
        while_it_arrives(driver, true);
    }

    fn those_who_get_a_page_of_unknown_length_are_told_that_it_varies(driver) {
        while_it_arrives(driver, false);
    }
}
