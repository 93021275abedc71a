//! Upgrades that do not happen: refused by a rule of the route, or answered otherwise by the
//! backend. What a client sent behind such a request is never taken for another request.

use crate::support::tunnel::{Gate, REQUEST, accept, route_to};
use crate::support::{Backend, Client, Proxy};

/// A request that nobody may act on.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Returns an upgrade request for this protocol.
fn offering(protocol: &str) -> String {
    REQUEST.replace("my-proto", protocol)
}

on_both_drivers! {
    fn a_protocol_that_is_not_on_the_list_is_a_501_and_the_backend_hears_nothing(driver) {
        let backend = Backend::scripted(|conn, _| {
            let request = conn.read_request_head();
            let protocol = request.field("upgrade").expect("an offer").to_owned();
            conn.send(format!("HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"));
        });
        let config = format!("{}upgrade_protocols = [\"websocket\"]\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for protocol in ["my-proto", "h2c", "websocket, h2c", "websocket\r\nUpgrade: h2c", "web"] {
            client.send(offering(protocol));
            let response = client.read_response();
            assert_eq!(response.status, 501, "{protocol}");
            assert!(!response.body.is_empty(), "{protocol}");
        }
        assert_eq!(backend.accepted(), 0);
        client.send(offering("WebSocket"));
        assert_eq!(client.read_response_head().status, 101);
    }

    fn a_route_without_websockets_answers_501_and_serves_the_rest(driver) {
        let backend = Backend::recording();
        let config = format!("{}enable_websocket = false\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for protocol in ["websocket", "my-proto"] {
            client.send(offering(protocol));
            assert_eq!(client.read_response().status, 501, "{protocol}");
        }
        assert_eq!(backend.accepted(), 0);
        assert_eq!(client.get("/").text(), "ok");
    }

    fn pages_made_in_advance_upgrade_only_with_fallthrough(driver) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect_eof();
        });
        for (fallthrough, status) in [(false, 501), (true, 101)] {
            let config = format!(
                "{}proxy_mode = \"pre_generate\"\npre_generate_paths = []\n\
                 pre_generate_fallthrough = {fallthrough}\n",
                route_to(&backend.url())
            );
            let proxy = Proxy::start(driver, &config);
            let mut client = Client::connect(proxy.addr());
            client.send(REQUEST);
            assert_eq!(client.read_response_head().status, status, "{fallthrough}");
        }
        assert_eq!(backend.accepted(), 1);
    }

    fn the_gate_for_methods_stands_before_the_upgrade(driver) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect_eof();
        });
        let config = format!("{}forward_get_only = true\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        client.send(REQUEST.replace("GET", "POST"));
        let response = client.read_response();
        assert_eq!((response.status, response.field("allow")), (405, Some("GET")));
        assert_eq!(backend.accepted(), 0);
        client.send(REQUEST);
        assert_eq!(client.read_response_head().status, 101);
    }

    fn an_upgrade_that_no_route_serves_is_a_404(driver) {
        let backend = Backend::recording();
        let config = format!("{}bind_to = \"/api\"\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for path in ["/", "/apix", "/other/api"] {
            client.send(REQUEST.replacen('/', path, 1));
            assert_eq!(client.read_response().status, 404, "{path}");
        }
        assert_eq!(backend.accepted(), 0);
    }

    fn any_other_answer_is_an_ordinary_one_and_the_connection_goes_on(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                conn.send(match &*request.target {
                    "/200" => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
                    "/401" => {
                        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\
                         Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n3\r\nt y\r\n2\r\net\r\n0\r\n\r\n"
                    }
                    "/404" => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                    "/426" => {
                        "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nContent-Length: 3\r\n\r\nnew"
                    }
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain",
                });
            }
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        let answers = [(200, "body"), (401, "not yet"), (404, ""), (426, "new")];
        // Many times: a next request that comes at once must not be taken for the bytes of a
        // protocol that was declined.
        for (status, body) in answers.repeat(25) {
            client.send(REQUEST.replacen('/', &format!("/{status}"), 1));
            let response = client.read_response();
            assert_eq!((response.status, response.text()), (status, body));
            match status {
                401 => assert_eq!(response.all("www-authenticate"), ["Basic"]),
                426 => {
                    assert_eq!(response.all("upgrade"), ["websocket"]);
                    assert_eq!(response.all("sec-websocket-version"), ["13"]);
                }
                _ => assert_eq!(response.field("upgrade"), None),
            }
            assert_eq!(client.get("/next").text(), "plain", "after {status}");
        }
        proxy.wait_for_log("Backend did not accept upgrade request, status: 401");
    }

    fn bytes_glued_to_an_upgrade_that_the_backend_declines_are_never_a_request(driver) {
        let backend = Backend::recording();
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{REQUEST}{SMUGGLED}"));
        let response = client.read_response();
        assert_eq!(response.status, 200);
        client.expect_eof();
        let targets: Vec<_> = backend.requests().into_iter().map(|each| each.target).collect();
        assert_eq!(targets, ["/"]);
        assert_eq!(response.all("connection"), ["close"]);
    }

    fn bytes_sent_before_the_backend_declines_are_never_a_request(driver) {
        let (asked, sent) = (Gate::default(), Gate::default());
        let (has_asked, has_sent) = (asked.clone(), sent.clone());
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request();
            has_asked.open();
            has_sent.pass();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
            let next = conn.next_request();
            assert!(next.is_none(), "{next:?}");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(REQUEST);
        asked.pass();
        client.send(SMUGGLED);
        sent.open();
        let response = client.read_response();
        assert_eq!((response.status, response.all("connection")), (200, vec!["close"]));
        client.expect_eof();
        assert_eq!(backend.accepted(), 1);
    }

    fn bytes_glued_to_an_upgrade_that_we_refuse_are_never_a_request(driver) {
        let backend = Backend::recording();
        let config = format!("{}enable_websocket = false\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{REQUEST}{SMUGGLED}"));
        let response = client.read_response();
        assert_eq!((response.status, response.all("connection")), (501, vec!["close"]));
        client.expect_eof();
        assert!(backend.requests().is_empty());
    }

    fn the_body_of_a_declined_upgrade_is_not_taken_for_a_request(driver) {
        let backend = Backend::recording();
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        let length = format!("Content-Length: {}\r\n\r\n", SMUGGLED.len());
        let request = REQUEST.replace("GET", "POST").replace("\r\n\r\n", &format!("\r\n{length}"));
        client.send(format!("{request}{SMUGGLED}"));
        assert_eq!(client.read_response().status, 200);
        assert_eq!(client.get("/after").status, 200);
        let targets: Vec<_> = backend.requests().into_iter().map(|each| each.target).collect();
        assert_eq!(targets, ["/", "/after"]);
    }
}
