//! Upgrades whose backend fails before it answers, and the limit on tunnels: which status the
//! client gets, what the log says, and that nothing stays open behind it.

use crate::support::tunnel::{Gate, REQUEST, accept, one_worker, open, route_to};
use crate::support::{
    AxumBackend, Backend, Client, Driver, Proxy, Refusing, Response, Unaccepting, eventually,
};

/// Asks for an upgrade on a connection of its own.
fn ask(proxy: &Proxy) -> Response {
    let mut client = Client::connect(proxy.addr());
    client.send(REQUEST);
    client.read_response()
}

/// Starts a proxy of one worker in front of this backend.
///
/// Returns it with a client that it has answered without the backend, and the number of its
/// descriptors at that moment: the worker is complete by then.
fn ready(driver: Driver, url: &str, timeouts: &str) -> (Proxy, Client, usize) {
    let rule = "forward_get_only = true\n";
    let config = [&*route_to(url), rule, timeouts, &*one_worker(driver)].concat();
    let proxy = Proxy::start(driver, &config);
    let mut client = Client::connect(proxy.addr());
    client.send("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.read_response().status, 405);
    let idle = proxy.fd_count();
    (proxy, client, idle)
}

/// Asserts that an answer tells a user what happened and nobody anything about the inside.
fn assert_is_a_short_text(response: &Response) {
    let text = response.text();
    assert!((1..200).contains(&text.len()), "{response:?}");
    assert!(!text.contains("127.0.0.1") && !text.contains("os error"), "{text}");
}

on_both_drivers! {
    fn a_backend_that_refuses_is_a_502_and_an_error_line_with_its_address(driver) {
        let backend = Refusing::start();
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let response = ask(&proxy);
        assert_eq!(response.status, 502);
        assert_is_a_short_text(&response);
        let line = proxy.wait_for_log(&format!("Failed to connect to backend {}: ", backend.addr()));
        assert!(line.contains("ERROR") && line.contains("refused"), "{line}");
    }

    fn a_backend_that_does_not_accept_is_a_504(driver) {
        let backend = Unaccepting::start();
        let timeouts = "[timeouts]\nconnect = \"300ms\"\n";
        let (proxy, _present, idle) = ready(driver, &backend.url(), timeouts);
        let response = ask(&proxy);
        assert_eq!(response.status, 504);
        assert_is_a_short_text(&response);
        proxy.wait_for_log(&format!("Failed to connect to backend {}: ", backend.addr()));
        proxy.wait_for_fd_count(idle);
    }

    fn a_backend_that_closes_instead_of_an_answer_is_a_502(driver) {
        let backend = Backend::scripted(|conn, number| {
            conn.read_request_head();
            match number {
                0 => {}
                1 => conn.reset(),
                _ => conn.send("HTTP/1.1 101 Switching Proto"),
            }
        });
        let (proxy, _present, idle) = ready(driver, &backend.url(), "");
        for case in ["closed", "reset", "closed within the head"] {
            let response = ask(&proxy);
            assert_eq!(response.status, 502, "{case}");
            assert_is_a_short_text(&response);
        }
        // An upgrade is not idempotent in its effect: it is asked for once.
        assert_eq!(backend.accepted(), 3);
        proxy.wait_for_fd_count(idle);
    }

    fn an_answer_that_is_not_http_is_a_502(driver) {
        let answers = [
            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade : my-proto\r\nConnection: Upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: my-proto\nConnection: Upgrade\r\n\r\n",
            "HTTP/2.0 101 Switching Protocols\r\nUpgrade: my-proto\r\n\r\n",
            "HTTP/1.1 1o1 Switching Protocols\r\nUpgrade: my-proto\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        ];
        let backend = Backend::scripted(move |conn, number| {
            conn.read_request_head();
            conn.send(answers[number]);
            conn.expect_closed();
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        for answer in answers {
            assert_eq!(ask(&proxy).status, 502, "{answer}");
        }
        backend.wait_for_scripts(answers.len());
    }

    fn a_backend_that_stays_silent_is_a_504_and_is_let_go(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.expect_closed();
        });
        let config = format!("{}[timeouts]\nresponse_head = \"300ms\"\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        let response = ask(&proxy);
        assert_eq!(response.status, 504);
        assert_is_a_short_text(&response);
        backend.wait_for_scripts(1);
    }

    fn a_backend_that_stops_within_its_101_is_a_504(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: my-");
            conn.expect_closed();
        });
        let config = format!("{}[timeouts]\nresponse_head = \"300ms\"\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        assert_eq!(ask(&proxy).status, 504);
        backend.wait_for_scripts(1);
    }

    fn the_timeout_for_the_answer_does_not_reach_into_the_tunnel(driver) {
        let gate = Gate::default();
        let over = gate.clone();
        let backend = Backend::scripted(move |conn, number| {
            if number == 0 {
                accept(conn);
                over.pass();
                conn.send("still here");
                conn.expect_eof();
            } else {
                conn.read_request_head();
                conn.expect_closed();
            }
        });
        let config = format!(
            "{}[timeouts]\nresponse_head = \"200ms\"\nhead = \"200ms\"\nbody_idle = \"200ms\"\n",
            route_to(&backend.url())
        );
        let proxy = Proxy::start(driver, &config);
        let mut client = open(&proxy);
        // A later request runs into each of those timeouts; the tunnel has seen them pass.
        for _ in 0..3 {
            assert_eq!(ask(&proxy).status, 504);
        }
        gate.open();
        client.expect("still here");
        client.send("");
        client.shutdown_write();
        client.expect_eof();
    }

    fn the_third_of_two_tunnels_is_a_503_until_one_has_closed(driver) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect_eof();
        });
        let config = format!("{}[limits]\ntunnels = 2\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        let (first, second) = (open(&proxy), open(&proxy));
        for _ in 0..3 {
            let response = ask(&proxy);
            assert_eq!(response.status, 503);
            assert_is_a_short_text(&response);
        }
        drop(first);
        proxy.wait_for_log("Tunnel closed gracefully");
        let third = open(&proxy);
        assert_eq!(ask(&proxy).status, 503);
        drop((second, third));
        proxy.wait_for_logs("Tunnel closed gracefully", 3);
        assert_eq!(backend.accepted(), 3);
    }

    fn a_declined_upgrade_gives_its_slot_back(driver) {
        let backend = AxumBackend::start();
        let config = format!("{}[limits]\ntunnels = 1\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        for _ in 0..3 {
            // axum's router knows no route "/" and declines. The slot is free a moment after that.
            eventually("the slot is free again", || ask(&proxy).status == 404);
        }
    }
}
