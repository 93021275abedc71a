//! Which fields go on, which stay, and what the proxy adds: as both peers see it.

use crate::support::setup::{front, runtime};
use crate::support::{Backend, Client, Driver, Proxy, Request, Response};

/// Sends one request with these field lines and returns what the backend got.
fn forwarded(driver: Driver, route_keys: &str, head: &str) -> (Request, Backend) {
    let backend = Backend::recording();
    let proxy = front(driver, &backend.url(), route_keys);
    let mut client = Client::connect(proxy.addr());
    client.send(head);
    assert_eq!(client.read_response().text(), "ok", "{head}");
    let request = backend.requests().remove(0);
    (request, backend)
}

/// Has a backend answer with these field lines and returns what the client got.
fn returned(driver: Driver, fields: &str) -> Response {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok");
    let backend = Backend::scripted(move |conn, _| {
        conn.read_request();
        conn.send(&answer);
    });
    // The cache says what it did, in fields of its own.
    let proxy = front(driver, &backend.url(), "cache_strategy = \"none\"");
    Client::connect(proxy.addr()).get("/")
}

fn trusting(driver: Driver, backend: &Backend, trusted: &str) -> Proxy {
    let config = format!(
        "trusted_proxies = [\"{trusted}\"]\n[server.app]\nproxy_url = \"{}\"\n{}",
        backend.url(),
        runtime(driver, 1)
    );
    Proxy::start(driver, &config)
}

const SPOOFED: &str = "GET / HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-For: 1.2.3.4\r\n\
    x-forwarded-for: 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
    X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Port: 443\r\nForwarded: for=9.9.9.9\r\n\r\n";

on_both_drivers! {
    fn fields_about_the_clients_connection_stay_behind(driver) {
        let (request, _backend) = forwarded(driver, "", "GET / HTTP/1.1\r\nHost: h\r\n\
            Connection: keep-alive, X-Secret\r\nKeep-Alive: timeout=5\r\nX-Secret: 1\r\n\
            Connection: x-other\r\nX-Other: 2\r\nTE: gzip\r\nProxy-Authorization: Basic x\r\n\
            Proxy-Connection: keep-alive\r\nUpgrade: websocket\r\nX-Kept: 3\r\n\r\n");
        for name in [
            "connection", "keep-alive", "x-secret", "x-other", "te", "proxy-authorization",
            "proxy-connection", "upgrade", "transfer-encoding",
        ] {
            assert_eq!(request.field(name), None, "{request:?}");
        }
        assert_eq!(request.field("x-kept"), Some("3"));
    }

    fn naming_the_own_fields_in_connection_does_not_drop_them(driver) {
        let (request, _backend) = forwarded(driver, "", "POST / HTTP/1.1\r\nHost: h\r\n\
            Connection: host, content-length, x-forwarded-for, x-forwarded-proto\r\n\
            Content-Length: 2\r\n\r\nhi");
        assert_eq!((request.field("host"), &*request.body), (Some("h"), &b"hi"[..]));
        assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.field("x-forwarded-proto"), Some("http"));
    }

    fn fields_keep_their_order_number_and_spelling(driver) {
        let (request, _backend) = forwarded(driver, "", "GET /a%2Fb//c?x=1&&y=%zz HTTP/1.1\r\nX-B: 1\r\n\
            Host: h\r\nx-a: 2\r\nX-B: 3\r\nCookie: a=1\r\nCookie: b=2\r\nX-b:\r\n\
            Accept: */*,\ttext/html;q=0.5  \r\nVia: 1.0 other\r\n\r\n"
);
        assert_eq!(request.line, "GET /a%2Fb//c?x=1&&y=%zz HTTP/1.1");
        let ours = ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
        let is_ours = |name: &String| ours.contains(&&*name.to_ascii_lowercase());
        let lines = request.fields.iter().filter(|(name, _)| !is_ours(name));
        let lines: Vec<_> = lines.map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(lines, [
            "X-B: 1", "x-a: 2", "X-B: 3", "Cookie: a=1", "Cookie: b=2", "X-b: ",
            "Accept: */*,\ttext/html;q=0.5", "Via: 1.0 other",
        ]);
        for name in ours {
            assert_eq!(request.all(name).len(), 1, "{request:?}");
        }
    }

    fn bytes_beyond_ascii_pass_unchanged(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        client.send(b"GET /\xff?\x80 HTTP/1.1\r\nHost: h\r\nX-Name: caf\xe9 \xc3\xa9\r\n\r\n");
        client.read_response();
        let request = backend.requests().remove(0);
        assert_eq!(request.line, "GET /\u{ff}?\u{80} HTTP/1.1");
        assert_eq!(request.field("x-name"), Some("caf\u{e9} \u{c3}\u{a9}"));
    }

    fn a_backend_learns_who_asked_and_not_what_the_client_claims(driver) {
        let (request, _backend) = forwarded(driver, "", SPOOFED);
        assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(request.all("x-forwarded-proto"), ["http"]);
        assert_eq!(request.all("x-forwarded-host"), ["app.example"]);
        for name in ["x_forwarded_for", "x-forwarded-port", "forwarded", "via"] {
            assert_eq!(request.field(name), None, "{request:?}");
        }
    }

    fn a_trusted_proxy_is_believed_and_its_list_continued(driver) {
        let backend = Backend::recording();
        let proxy = trusting(driver, &backend, "127.0.0.1/32");
        let mut client = Client::connect(proxy.addr());
        client.send(SPOOFED);
        client.read_response();
        client.get("/");
        let requests = backend.requests();
        assert_eq!(requests[0].all("x-forwarded-for"), ["1.2.3.4, 5.6.7.8, 127.0.0.1"]);
        assert_eq!(requests[0].all("x-forwarded-proto"), ["https"]);
        assert_eq!(requests[0].all("x-forwarded-host"), ["evil.example"]);
        assert_eq!(requests[0].field("x_forwarded_for"), None);
        assert_eq!(requests[1].all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(requests[1].all("x-forwarded-host"), ["localhost"]);
    }

    fn a_proxy_of_another_network_is_not_believed(driver) {
        let backend = Backend::recording();
        let proxy = trusting(driver, &backend, "127.0.0.2/31");
        let mut client = Client::connect(proxy.addr());
        client.send(SPOOFED);
        client.read_response();
        assert_eq!(backend.requests()[0].all("x-forwarded-for"), ["127.0.0.1"]);
    }

    fn the_host_is_the_clients_the_backends_or_a_literal(driver) {
        let head = "GET / HTTP/1.1\r\nHost: app.example:8080\r\n\r\n";
        let (request, _backend) = forwarded(driver, "", head);
        assert_eq!(request.all("host"), ["app.example:8080"]);
        let (request, _backend) = forwarded(driver, "host_header = \"preserve\"", head);
        assert_eq!(request.all("host"), ["app.example:8080"]);
        let (request, backend) = forwarded(driver, "host_header = \"backend\"", head);
        assert_eq!(request.all("host"), [&*backend.addr().to_string()]);
        let (request, _backend) = forwarded(driver, "host_header = \"inner.example\"", head);
        assert_eq!(request.all("host"), ["inner.example"]);
        assert_eq!(request.all("x-forwarded-host"), ["app.example:8080"]);
    }

    fn a_request_of_http_1_0_without_host_gets_the_backends(driver) {
        let (request, backend) = forwarded(driver, "", "GET / HTTP/1.0\r\n\r\n");
        assert_eq!(request.line, "GET / HTTP/1.1");
        assert_eq!(request.all("host"), [&*backend.addr().to_string()]);
        assert_eq!(request.field("x-forwarded-host"), None);
    }

    fn an_absolute_target_replaces_the_host(driver) {
        let (request, _backend) = forwarded(driver, "",
            "GET http://other.example:81/x?y HTTP/1.1\r\nHost: app.example\r\n\r\n");
        assert_eq!((&*request.line, request.all("host")), ("GET /x?y HTTP/1.1", vec!["other.example:81"]));
        assert_eq!(request.all("x-forwarded-host"), ["other.example:81"]);
        let (request, _backend) = forwarded(driver, "",
            "GET HTTP://other.example?q HTTP/1.1\r\nHost: app.example\r\n\r\n");
        assert_eq!((&*request.line, request.field("host")), ("GET /?q HTTP/1.1", Some("other.example")));
    }

    fn any_method_passes_in_its_spelling(driver) {
        for method in ["PATCH", "OPTIONS", "PROPFIND", "get", "X-Y!"] {
            let head = format!("{method} /m HTTP/1.1\r\nHost: h\r\n\r\n");
            let (request, _backend) = forwarded(driver, "", &head);
            assert_eq!(request.line, format!("{method} /m HTTP/1.1"));
        }
    }

    fn fields_about_the_backends_connection_stay_behind(driver) {
        let response = returned(driver, "Connection: keep-alive, X-Secret\r\nKeep-Alive: timeout=5\r\n\
            X-Secret: 1\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\n\
            X-Kept: 2\r\n");
        for name in [
            "connection", "keep-alive", "x-secret", "upgrade", "proxy-authenticate", "proxy-connection",
        ] {
            assert_eq!(response.field(name), None, "{response:?}");
        }
        assert_eq!(response.field("x-kept"), Some("2"));
    }

    fn a_response_keeps_the_order_number_and_spelling_of_its_fields(driver) {
        let response = returned(driver, "Set-Cookie: a=1\r\nx-a: 1\r\nSet-Cookie: b=2\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nSERVER: it\r\nset-cookie: c=3\r\n");
        let lines = response.fields.iter().map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(lines.collect::<Vec<_>>(), [
            "Content-Length: 2", "Set-Cookie: a=1", "x-a: 1", "Set-Cookie: b=2",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT", "SERVER: it", "set-cookie: c=3",
        ]);
    }

    fn a_response_without_a_date_gets_one_and_nothing_else(driver) {
        let response = returned(driver, "");
        let date = response.field("date").expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        assert_eq!(response.fields.len(), 2, "{response:?}");
    }

    fn a_reason_and_an_unusual_status_pass(driver) {
        let backend = Backend::scripted(|conn, _| {
            for line in ["299 Rather fine", "599 ", "404 N\u{f6}"] {
                conn.read_request();
                conn.send(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"));
            }
            conn.read_request();
            conn.send("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n");
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        let mut next = || { let got = client.get("/"); (got.status, got.reason) };
        assert_eq!(next(), (299, "Rather fine".to_owned()));
        assert_eq!(next(), (599, String::new()));
        assert_eq!(next(), (404, "N\u{c3}\u{b6}".to_owned()));
        assert_eq!(next(), (200, String::new()));
    }
}
