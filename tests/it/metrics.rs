//! The metrics add up after a known series of requests and tunnels.

use crate::support::control::Metrics;
use crate::support::tunnel::{self, open};
use crate::support::{Backend, Client, Driver, Proxy, Refusing, eventually, setup};

/// Waits until the proxy's samples are these; a request is counted after its answer was sent.
fn expect(proxy: &Proxy, expected: &[(&str, f64)]) -> Metrics {
    let mut metrics = Metrics::default();
    for one in expected {
        eventually(&format!("{one:?} is so"), || {
            metrics = Metrics::of(proxy);
            metrics.are(&[*one])
        });
    }
    assert!(metrics.are(expected), "{expected:?}: {metrics:?}");
    metrics
}

/// Accepts upgrades of `/`, and answers everything else.
fn either() -> Backend {
    Backend::scripted(|conn, _| {
        while let Some(request) = conn.next_request() {
            if request.field("upgrade").is_some() && request.target == "/" {
                conn.send(tunnel::ACCEPTED);
                return tunnel::echo(conn);
            }
            let answer = match &*request.target {
                "/missing" => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                _ if request.method == "HEAD" => {
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_owned()
                }
                "/odd" => "HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n".to_owned(),
                _ => setup::ok("ok"),
            };
            conn.send(answer);
        }
    })
}

fn ask(client: &mut Client, method: &str, path: &str) -> u16 {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.read_response_to(method).status
}

on_both_drivers! {
    fn requests_are_counted_by_route_method_and_status(driver) {
        let backend = either();
        let refusing = Refusing::start();
        let config = format!(
            "[server.app]\nbind_to = \"/app\"\nproxy_url = \"{}\"\n\
             cache_strategy = \"none\"\n[server.\"d\\\"own\"]\nbind_to = \"/down\"\nproxy_url = \"http://{}\"",
            backend.url(),
            refusing.addr()
        );
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for (method, path, status) in [
            ("GET", "/app/a", 200),
            ("GET", "/app/b", 200),
            ("HEAD", "/app/a", 200),
            ("DELETE", "/app/missing", 404),
            ("PROPFIND", "/app/odd", 299),
            ("GET", "/nowhere", 404),
            ("GET", "/down/a", 502),
        ] {
            assert_eq!(ask(&mut client, method, path), status, "{method} {path}");
        }
        client.send("nonsense\r\n\r\n");
        assert_eq!(client.read_response().status, 400);
        let metrics = expect(&proxy, &[
            ("requests_total{server=\"app\",method=\"GET\",code=\"200\"}", 2.0),
            ("requests_total{server=\"app\",method=\"HEAD\",code=\"200\"}", 1.0),
            ("requests_total{server=\"app\",method=\"DELETE\",code=\"404\"}", 1.0),
            ("requests_total{server=\"app\",method=\"other\",code=\"other\"}", 1.0),
            ("requests_total{server=\"\",method=\"GET\",code=\"404\"}", 1.0),
            ("requests_total{server=\"\",method=\"other\",code=\"400\"}", 1.0),
            ("requests_total{server=\"d\\\"own\",method=\"GET\",code=\"502\"}", 1.0),
            ("request_outcomes_total{outcome=\"passed\",side=\"client\"}", 5.0),
            ("request_outcomes_total{outcome=\"no_route\",side=\"client\"}", 1.0),
            ("request_outcomes_total{outcome=\"bad_head\",side=\"client\"}", 1.0),
            ("request_outcomes_total{outcome=\"backend_unreachable\",side=\"backend\"}", 1.0),
            ("backend_connect_errors_total{server=\"d\\\"own\",kind=\"refused\"}", 1.0),
            ("backend_connections_total{server=\"app\",kind=\"dialled\"}", 1.0),
            ("backend_connections_total{server=\"app\",kind=\"reused\"}", 4.0),
            ("panics_total", 0.0),
        ]);
        for sum in ["requests_total{", "request_outcomes_total{"] {
            assert!((metrics.sum(sum) - 8.0).abs() < 1e-9, "{sum}: {metrics:?}");
        }
        assert!((metrics.sum("connections_total{") - 1.0).abs() < 1e-9, "{metrics:?}");
        assert!((metrics.sum("pool_idle{server=\"app\"") - 1.0).abs() < 1e-9, "{metrics:?}");
        let driver = format!("io_driver{{driver=\"{}\"}}", driver.name());
        assert!(metrics.are(&[(&driver, 1.0)]), "{metrics:?}");
        assert!(metrics.value("open_fds") > 3.0, "{metrics:?}");
        assert!(metrics.value("max_fds") >= metrics.value("open_fds"), "{metrics:?}");
        let version = concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        assert!(metrics.are(&[(version, 1.0)]), "{metrics:?}");
    }

    fn tunnels_are_counted_while_they_live_and_when_they_end(driver) {
        let backend = Backend::scripted(|conn, number| {
            tunnel::accept(conn);
            if number == 0 { tunnel::echo(conn) } else { conn.expect_closed() }
        });
        let config = format!(
            "{}{}",
            tunnel::route_to(&backend.url()),
            tunnel::one_worker(driver)
        );
        let proxy = Proxy::start(driver, &config);
        let mut first = open(&proxy);
        let mut second = open(&proxy);
        expect(&proxy, &[
            ("tunnels_active{server=\"app\",worker=\"0\"}", 2.0),
            ("tunnels_total{server=\"app\"}", 2.0),
            ("connections_active{worker=\"0\"}", 2.0),
            ("requests_total{server=\"app\",method=\"GET\",code=\"101\"}", 2.0),
            ("request_outcomes_total{outcome=\"tunnelled\",side=\"client\"}", 2.0),
            ("upgrade_handshake_seconds_count", 2.0),
            ("upgrade_handshake_seconds_bucket{le=\"+Inf\"}", 2.0),
            ("tunnel_duration_seconds_count", 0.0),
        ]);
        first.send("hello");
        first.expect("hello");
        first.shutdown_write();
        first.expect_eof();
        second.reset();
        let metrics = expect(&proxy, &[
            ("tunnels_active{server=\"app\",worker=\"0\"}", 0.0),
            ("tunnels_total{server=\"app\"}", 2.0),
            ("tunnel_closed_total{reason=\"client_closed\"}", 1.0),
            ("tunnel_closed_total{reason=\"client_reset\"}", 1.0),
            ("tunnel_bytes_total{direction=\"client_to_backend\"}", 5.0),
            ("tunnel_bytes_total{direction=\"backend_to_client\"}", 5.0),
            ("tunnel_duration_seconds_count", 2.0),
            ("connections_active{worker=\"0\"}", 0.0),
        ]);
        assert!((metrics.sum("tunnel_closed_total{") - 2.0).abs() < 1e-9, "{metrics:?}");
    }

    fn upgrades_that_become_no_tunnel_are_counted_by_their_reason(driver) {
        let backend = either();
        let config = format!(
            "[server.app]\nproxy_url = \"{url}\"\n\
             [server.off]\nbind_to = \"/off\"\nenable_websocket = false\nproxy_url = \"{url}\"",
            url = backend.url()
        );
        let proxy = Proxy::start(driver, &config);
        for (path, status) in [("/else", 200), ("/missing", 404), ("/off", 501)] {
            let mut client = Client::connect(proxy.addr());
            client.send(tunnel::REQUEST.replace("GET / ", &format!("GET {path} ")));
            assert_eq!(client.read_response().status, status, "{path}");
        }
        let metrics = expect(&proxy, &[
            ("upgrade_rejected_total{reason=\"backend_status\"}", 2.0),
            ("upgrade_rejected_total{reason=\"upgrade_refused\"}", 1.0),
            ("upgrade_handshake_seconds_count", 0.0),
        ]);
        assert!((metrics.sum("upgrade_rejected_total{") - 3.0).abs() < 1e-9, "{metrics:?}");
    }

    fn workers_count_for_themselves_and_together(driver) {
        let backend = either();
        let config = format!(
            "[server.app]\nproxy_url = \"{}\"\n{}",
            backend.url(),
            setup::runtime(driver, 3)
        );
        let proxy = Proxy::start(driver, &config);
        let clients = 30;
        for _ in 0..clients {
            assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
        }
        let total = f64::from(clients);
        let requests = "requests_total{server=\"app\",method=\"GET\",code=\"200\"}";
        let metrics = expect(&proxy, &[(requests, total)]);
        assert!((metrics.sum("connections_total{worker=") - total).abs() < 1e-9, "{metrics:?}");
    }
}

#[test]
fn warm_connections_are_counted_when_they_are_made_and_when_they_are_taken() {
    let backend = either();
    let more = "warm_connections = 2";
    let proxy = setup::front(Driver::Epoll, &backend.url(), more);
    let dialled = "backend_connections_total{server=\"app\",kind=\"dialled\"}";
    expect(&proxy, &[(dialled, 2.0)]);
    let _tunnel = open(&proxy);
    let warm = "backend_connections_total{server=\"app\",kind=\"warm\"}";
    expect(&proxy, &[(dialled, 3.0), (warm, 1.0)]);
}
