//! What makes a request an upgrade, and what the backend then receives.
//!
//! The dangerous mistakes are opposite: a tunnel nobody asked for, and an offer that survives in a
//! request which we take for an ordinary one.

use crate::support::tunnel::{ACCEPTED, route_to};
use crate::support::{Backend, Client, Proxy, Request, Watched};
use std::sync::Arc;

/// A backend that accepts whatever is offered, keeps the request, and echoes one word.
fn switching() -> (Backend, Arc<Watched<Vec<Request>>>) {
    let requests = Arc::new(Watched::<Vec<Request>>::default());
    let recorded = Arc::clone(&requests);
    let backend = Backend::scripted(move |conn, _| {
        let request = conn.read_request_head();
        let protocol = request.field("upgrade").unwrap_or("none").to_owned();
        recorded.with(|requests| requests.push(request));
        conn.send(ACCEPTED.replace("my-proto", &protocol));
        conn.expect("word");
        conn.send("answer");
        conn.expect_closed();
    });
    (backend, requests)
}

/// Sends a request with these fields, expects a tunnel, and returns what the backend received.
fn upgraded(proxy: &Proxy, requests: &Watched<Vec<Request>>, request: &str) -> Request {
    let mut client = Client::connect(proxy.addr());
    client.send(request);
    let response = client.read_response_head();
    assert_eq!(response.status, 101, "{request}");
    client.send("word");
    client.expect("answer");
    requests.with(Vec::pop).expect("the backend has answered a request")
}

fn with_fields(fields: &str) -> String {
    format!("GET /chat HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

fn tokens(request: &Request, name: &str) -> Vec<String> {
    let lists = request.all(name).join(",").to_ascii_lowercase();
    lists.split(',').map(|token| token.trim().to_owned()).collect()
}

on_both_drivers! {
    fn the_upgrade_token_counts_in_any_connection_line_and_in_any_case(driver) {
        let (backend, requests) = switching();
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        for connection in [
            "Connection: Upgrade\r\n",
            "connection: upgrade\r\n",
            "CONNECTION:UPGRADE\r\n",
            "Connection: keep-alive, Upgrade\r\n",
            "Connection: keep-alive\r\nX-Between: 1\r\nConnection: Upgrade\r\n",
            "Connection: x-one ,\tuPgRaDe\t, x-two\r\n",
        ] {
            let text = with_fields(&format!("{connection}Upgrade: my-proto\r\n"));
            let request = upgraded(&proxy, &requests, &text);
            assert_eq!(tokens(&request, "connection"), ["upgrade"], "{connection}");
            assert_eq!(request.all("upgrade"), ["my-proto"], "{connection}");
        }
    }

    fn a_request_without_the_whole_offer_is_an_ordinary_one_and_loses_its_half(driver) {
        let backend = Backend::recording();
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        for fields in [
            "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\n",
            "Connection: keep-alive\r\nUpgrade: websocket\r\n",
            "Connection: notupgrade\r\nUpgrade: websocket\r\n",
            "Connection: upgrade-insecure\r\nUpgrade: websocket\r\n",
            "Connection: \"upgrade\"\r\nUpgrade: websocket\r\n",
            "Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        ] {
            client.send(with_fields(fields));
            let response = client.read_response();
            assert_eq!((response.status, response.text()), (200, "ok"), "{fields}");
            let request = backend.requests().pop().expect("the backend has answered a request");
            for name in ["upgrade", "connection", "http2-settings"] {
                assert_eq!(request.field(name), None, "{name} after {fields}");
            }
        }
        let detected = proxy.logs().iter().any(|line| line.contains("Upgrade request detected"));
        assert!(!detected, "{:#?}", proxy.logs());
    }

    fn http_1_0_never_upgrades(driver) {
        let backend = Backend::recording();
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        let fields = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        client.send(format!("GET / HTTP/1.0\r\n{fields}\r\n"));
        assert_eq!(client.read_response().status, 200);
        let requests = backend.requests();
        let request = requests.first().expect("a request");
        assert_eq!((request.field("upgrade"), request.field("connection")), (None, None));
    }

    fn h2c_keeps_its_settings_and_its_preface(driver) {
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let backend = Backend::scripted(move |conn, _| {
            let request = conn.read_request_head();
            let mut connection = tokens(&request, "connection");
            connection.sort_unstable();
            assert_eq!(connection, ["http2-settings", "upgrade"]);
            assert_eq!(request.all("http2-settings"), ["AAMAAABkAAQAAP__"]);
            assert_eq!(request.all("upgrade"), ["h2c"]);
            conn.send(ACCEPTED.replace("my-proto", "h2c") + "\0\0\0\x04\0\0\0\0\0");
            conn.expect(preface);
            conn.send("done");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(with_fields(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        ));
        assert_eq!(client.read_response_head().all("upgrade"), ["h2c"]);
        client.expect("\0\0\0\x04\0\0\0\0\0");
        client.send(preface);
        client.expect("done");
        backend.wait_for_scripts(1);
    }

    fn the_backend_gets_its_own_path_and_every_end_to_end_field_in_order(driver) {
        let (backend, requests) = switching();
        let config = format!("{}bind_to = \"/api\"\n", route_to(&format!("{}/base", backend.url())));
        let proxy = Proxy::start(driver, &config);
        let text = "GET /api/ws/room?x=1&y=%20 HTTP/1.1\r\nHost: example.com:8080\r\n\
             Connection: keep-alive, Upgrade, X-Secret\r\nKeep-Alive: timeout=5\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Protocol: graphql-ws, a\r\n\
             sec-websocket-protocol: b\r\nX-Secret: 1\r\nProxy-Authorization: Basic eDp5\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
             TE: gzip\r\nCookie: a=1; b=2\r\nX-Dup: 2\r\nx-dup: 1\r\nOrigin: http://o\r\n\
             X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: gopher\r\n\r\n";
        let request = upgraded(&proxy, &requests, text);
        assert_eq!(request.line, "GET /base/ws/room?x=1&y=%20 HTTP/1.1");
        let ours = ["host", "connection", "upgrade", "x-forwarded-for", "x-forwarded-host",
            "x-forwarded-proto"];
        let passed = request.fields.iter().filter(|field| {
            !ours.contains(&&*field.0.to_ascii_lowercase())
        });
        let passed: Vec<_> = passed.map(|field| (&*field.0, &*field.1)).collect();
        assert_eq!(passed, [
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", "graphql-ws, a"),
            ("sec-websocket-protocol", "b"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ("Cookie", "a=1; b=2"),
            ("X-Dup", "2"),
            ("x-dup", "1"),
            ("Origin", "http://o"),
        ]);
        for (name, value) in [
            ("host", "example.com:8080"),
            ("upgrade", "websocket"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "example.com:8080"),
            ("x-forwarded-proto", "http"),
        ] {
            assert_eq!(request.all(name), [value], "{name}");
        }
        assert_eq!(tokens(&request, "connection"), ["upgrade"]);
    }

    fn the_host_is_kept_or_replaced_as_the_route_says(driver) {
        let (backend, requests) = switching();
        let authority = backend.addr().to_string();
        for (rule, expected) in [
            ("preserve", "example.com"),
            ("backend", &*authority),
            ("internal.example", "internal.example"),
        ] {
            let config = format!("{}host_header = \"{rule}\"\n", route_to(&backend.url()));
            let proxy = Proxy::start(driver, &config);
            let text = with_fields("Connection: Upgrade\r\nUpgrade: my-proto\r\n")
                .replace("localhost", "example.com");
            let request = upgraded(&proxy, &requests, &text);
            assert_eq!(request.all("host"), [expected], "{rule}");
            assert_eq!(request.all("x-forwarded-host"), ["example.com"], "{rule}");
        }
    }

    fn a_pipelined_request_before_the_upgrade_is_answered_first(driver) {
        let backend = Backend::scripted(|conn, _| {
            let Some(request) = conn.next_request() else { return };
            if request.field("upgrade").is_none() {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
                // The upgrade must not come here: this connection has carried a request.
                assert!(conn.next_request().is_none(), "a connection was used again");
                return;
            }
            conn.send(ACCEPTED);
            conn.expect("word");
            conn.send("answer");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        let upgrade = with_fields("Connection: Upgrade\r\nUpgrade: my-proto\r\n");
        client.send(format!("GET /first HTTP/1.1\r\nHost: h\r\n\r\n{upgrade}word"));
        assert_eq!(client.read_response().text(), "first");
        assert_eq!(client.read_response_head().status, 101);
        client.expect("answer");
        client.expect_eof();
        assert_eq!(backend.accepted(), 2);
    }
}
