//! Which backend gets a request, and under which path.

use crate::support::setup::{runtime, telling};
use crate::support::{Backend, BackendConn, Client, Driver, Proxy};

/// Starts a backend that answers each request with its own name and the target it got.
fn named(name: &'static str) -> Backend {
    Backend::scripted(move |conn: &mut BackendConn, _| {
        while let Some(request) = conn.next_request() {
            let body = format!("{name} {}", request.target);
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

/// Starts a proxy with these routes: mount, backend, and the base path behind its address.
fn routed(driver: Driver, routes: &[(&str, &Backend, &str)]) -> Proxy {
    let tables = routes.iter().enumerate().map(|(number, (mount, backend, base))| {
        let url = backend.url();
        format!("[server.r{number}]\nbind_to = \"{mount}\"\nproxy_url = \"{url}{base}\"\n")
    });
    Proxy::start(driver, &(tables.collect::<String>() + &runtime(driver, 1)))
}

fn assert_answers(proxy: &Proxy, expected: &[(&str, &str)]) {
    let mut client = Client::connect(proxy.addr());
    for (target, answer) in expected {
        let got = client.get(target);
        assert_eq!((got.status, got.text()), (200, *answer), "{target}");
    }
}

on_both_drivers! {
    fn the_longest_prefix_wins_and_is_stripped(driver) {
        let (all, api, v2) = (named("all"), named("api"), named("v2"));
        let proxy = routed(driver, &[("*", &all, ""), ("/api", &api, ""), ("/api/v2", &v2, "")]);
        assert_answers(&proxy, &[
            ("/", "all /"),
            ("/api", "api /"),
            ("/api/", "api /"),
            ("/api/x/y?q=/api", "api /x/y?q=/api"),
            ("/api?x=1", "api /?x=1"),
            ("/api?", "api /?"),
            ("/api/v2", "v2 /"),
            ("/api/v2/z", "v2 /z"),
            ("/api/v", "api /v"),
            ("/api/v22", "api /v22"),
            ("/apix", "all /apix"),
            ("/ap", "all /ap"),
            ("/API", "all /API"),
            ("/x/api", "all /x/api"),
        ]);
    }

    fn the_order_in_the_file_does_not_matter(driver) {
        let (all, api, v2) = (named("all"), named("api"), named("v2"));
        let proxy = routed(driver, &[("/api/v2", &v2, ""), ("/", &all, ""), ("/api", &api, "")]);
        assert_answers(&proxy, &[
            ("/api/v2/z", "v2 /z"),
            ("/api/z", "api /z"),
            ("/z", "all /z"),
            ("/?q", "all /?q"),
        ]);
    }

    fn a_base_path_goes_before_the_rest(driver) {
        let (all, api) = (named("all"), named("api"));
        let proxy = routed(driver, &[("*", &all, "/whole/"), ("/api", &api, "/base/v1")]);
        assert_answers(&proxy, &[
            ("/api", "api /base/v1/"),
            ("/api/x?q=1", "api /base/v1/x?q=1"),
            ("/", "all /whole/"),
            ("/x//y/", "all /whole/x//y/"),
        ]);
    }

    fn a_path_without_a_route_is_not_found_and_the_client_stays(driver) {
        let api = named("api");
        let proxy = routed(driver, &[("/api", &api, "")]);
        let mut client = Client::connect(proxy.addr());
        for target in ["/", "/apix", "/ap?/api"] {
            let response = client.get(target);
            assert_eq!((response.status, response.field("connection")), (404, None), "{target}");
            assert!(response.text().len() < 100, "{response:?}");
        }
        assert_eq!(client.get("/api/x").text(), "api /x");
        assert_eq!(api.accepted(), 1);
    }

    fn an_asterisk_goes_to_the_fallback_as_it_is(driver) {
        let (all, api) = (named("all"), named("api"));
        let proxy = routed(driver, &[("/api", &api, ""), ("*", &all, "/base")]);
        let mut client = Client::connect(proxy.addr());
        client.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().text(), "all *");
        let proxy = routed(driver, &[("/api", &api, "")]);
        let mut client = Client::connect(proxy.addr());
        client.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().status, 404);
    }

    fn the_old_form_of_the_file_has_one_route_for_everything(driver) {
        let backend = telling();
        let config = format!(
            "[server]\nproxy_port = 0\nproxy_url = \"{}\"\n{}",
            backend.url(),
            runtime(driver, 1)
        );
        let proxy = Proxy::start(driver, &config);
        assert_answers(&proxy, &[("/", "GET / "), ("/api/x?y", "GET /api/x?y ")]);
    }

    fn a_route_may_forward_get_only(driver) {
        let backend = Backend::recording();
        let url = backend.url();
        let config = format!(
            "[server.a]\nbind_to = \"/ro\"\nproxy_url = \"{url}\"\nforward_get_only = true\n\
             [server.b]\nproxy_url = \"{url}\"\n{}", runtime(driver, 1)
        );
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for method in ["DELETE", "HEAD", "OPTIONS", "get"] {
            client.send(format!("{method} /ro HTTP/1.1\r\nHost: h\r\n\r\n"));
            let response = client.read_response_to(method);
            assert_eq!((response.status, response.field("allow")), (405, Some("GET")), "{method}");
        }
        assert_eq!((client.get("/ro/x").status, backend.requests().len()), (200, 1));
        client.send("DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
        // The body is not read, so its end is where nothing more may be parsed.
        client.send("POST /ro HTTP/1.1\r\nHost: h\r\nContent-Length: 42\r\n\r\n");
        client.send("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (405, Some("close")));
        client.expect_eof();
        let targets: Vec<_> = backend.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, ["/x", "/x"]);
    }
}
