//! How the process leaves: what a signal ends at once, what may still finish, and the exit code.
//!
//! Where a test must not depend on time the drain timeout is an hour; where the timeout itself is the
//! subject it is short, and the test waits for what it causes.

use std::net::TcpStream;
use std::sync::Arc;

use rustix::process::Signal;

use crate::support::{Backend, BackendConn, Client, Driver, Proxy, Watched, eventually, ws};

/// Switches protocols and echoes until the other end closes.
fn echo(conn: &mut BackendConn, _: usize) {
    let head = conn.read_request_head();
    let key = head.field("Sec-WebSocket-Key").expect("a key").to_owned();
    conn.send(ws::switching_protocols(&key, &[]));
    while let some @ [_, ..] = &*conn.read_some() {
        conn.send(some);
    }
}

fn start(driver: Driver, backend: &Backend, drain_timeout: &str) -> Proxy {
    let config = format!(
        "drain_timeout = \"{drain_timeout}\"\n[server.app]\nproxy_url = \"{}\"",
        backend.url()
    );
    Proxy::start(driver, &config)
}

fn open_tunnel(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.addr());
    client.send(ws::ws_request("/ws", &[]));
    assert_eq!(client.read_response().status, 101);
    client.send("before");
    client.expect("before");
    client
}

fn wait_until_refused(proxy: &Proxy) {
    let addr = proxy.addr();
    eventually("connections are refused", || TcpStream::connect(addr).is_err());
}

/// Counts the connections to a port of 127.0.0.1 that are established on the side of that port,
/// accepted or not.
fn established(port: u16) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the sockets of this system");
    let local = format!("0100007F:{port:04X}");
    let is_one = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        (columns.next(), columns.nth(1)) == (Some(&*local), Some("01"))
    };
    sockets.lines().filter(is_one).count()
}

/// Drains while more connections wait than are accepted before the drain begins.
fn serve_queued(driver: Driver, workers: usize) {
    let backend = Backend::recording();
    let config = format!(
        "drain_timeout = \"1h\"\n[timeouts]\nconnect = \"1m\"\n\
         [server.app]\nproxy_url = \"{}\"\n[runtime]\ncores = {workers}\npin = false\ndriver = \"{}\"",
        backend.url(),
        driver.name()
    );
    let mut proxy = Proxy::start(driver, &config);
    proxy.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..300).map(|_| Client::connect(proxy.addr())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    // A connect returns when the client's half is done; the proxy's comes a little later.
    let port = proxy.addr().port();
    eventually("the kernel has queued them all", || established(port) == clients.len());
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "ok");
        client.expect_eof();
    }
    // A closing connection waits for its client to have read everything.
    drop(clients);
    assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
}

on_both_drivers! {
    fn a_tunnel_lives_on_while_nobody_new_is_accepted_and_its_end_is_the_end(driver) {
        let backend = Backend::scripted(echo);
        let mut proxy = start(driver, &backend, "1h");
        let mut tunnel = open_tunnel(&proxy);
        proxy.signal(Signal::TERM);
        wait_until_refused(&proxy);
        tunnel.send("after");
        tunnel.expect("after");
        tunnel.shutdown_write();
        tunnel.expect_eof();
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
        let closed = proxy.wait_for_log("Tunnel closed gracefully.");
        assert!(closed.contains("reason=client_closed"), "{closed}");
    }

    fn a_tunnel_is_closed_when_the_drain_times_out(driver) {
        let backend = Backend::scripted(echo);
        let mut proxy = start(driver, &backend, "300ms");
        let mut tunnel = open_tunnel(&proxy);
        proxy.signal(Signal::TERM);
        tunnel.expect_closed();
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
        let closed = proxy.wait_for_log("Tunnel closed gracefully.");
        assert!(closed.contains("reason=drain"), "{closed}");
        assert!(closed.contains(" 6 bytes client->backend, 6 bytes backend->client"), "{closed}");
        backend.wait_for_scripts(1);
    }

    fn connections_that_the_kernel_has_queued_are_served(driver) {
        serve_queued(driver, 1);
        serve_queued(driver, 2);
    }

    fn a_running_request_finishes_and_says_that_it_was_the_last(driver) {
        let gate = Arc::new(Watched::<(bool, bool)>::default());
        let inside = Arc::clone(&gate);
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request();
            inside.with(|(asked, _)| *asked = true);
            inside.wait(crate::support::GUARD, |(_, open)| open.then_some(())).expect("opened");
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
            conn.expect_closed();
        });
        let mut proxy = start(driver, &backend, "1h");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        gate.wait(crate::support::GUARD, |(asked, _)| asked.then_some(())).expect("asked");
        proxy.signal(Signal::TERM);
        wait_until_refused(&proxy);
        gate.with(|(_, open)| *open = true);
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "late"));
        assert_eq!(response.field("connection"), Some("close"), "{response:?}");
        client.expect_eof();
        drop(client);
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn a_head_that_has_begun_may_end_and_is_answered(driver) {
        let backend = Backend::recording();
        let mut proxy = start(driver, &backend, "1h");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/first").text(), "ok");
        client.send("GET /second HTTP/1.1\r\nHo");
        // The other worker, or the same one: whoever it is has read what was sent before this.
        assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
        proxy.signal(Signal::TERM);
        wait_until_refused(&proxy);
        client.send("st: localhost\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        client.expect_eof();
        drop(client);
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn a_request_that_outlives_the_drain_is_ended(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request();
            conn.expect_closed();
        });
        let mut proxy = start(driver, &backend, "300ms");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        backend.wait_for_accepted(1);
        proxy.signal(Signal::TERM);
        if let Some(head) = client.next_head() {
            assert!(head.starts_with(b"HTTP/1.1 503 "), "{}", head.escape_ascii());
        }
        client.expect_closed();
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
        backend.wait_for_scripts(1);
    }

    fn idle_connections_close_at_once(driver) {
        let backend = Backend::recording();
        let mut proxy = start(driver, &backend, "1h");
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(proxy.addr())).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").text(), "ok");
        }
        proxy.signal(Signal::TERM);
        for client in &mut clients {
            client.expect_eof();
        }
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn a_client_that_says_nothing_does_not_hold_the_process(driver) {
        let backend = Backend::recording();
        let config = format!(
            "drain_timeout = \"1h\"\n[timeouts]\nhead = \"1h\"\n[server.app]\nproxy_url = \"{}\"",
            backend.url()
        );
        let mut proxy = Proxy::start(driver, &config);
        let mut silent = Client::connect(proxy.addr());
        proxy.signal(Signal::TERM);
        silent.expect_closed();
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn a_second_signal_ends_it_at_once(driver) {
        let backend = Backend::scripted(echo);
        for (second, code) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
            let mut proxy = start(driver, &backend, "1h");
            let mut tunnel = open_tunnel(&proxy);
            proxy.signal(Signal::TERM);
            wait_until_refused(&proxy);
            proxy.signal(second);
            assert_eq!(proxy.wait_exit(), code, "{:#?}", proxy.logs());
            tunnel.expect_closed();
        }
    }

    fn an_interrupt_drains_too_and_the_log_says_what_was_done(driver) {
        let backend = Backend::scripted(echo);
        let mut proxy = start(driver, &backend, "1h");
        let mut tunnel = open_tunnel(&proxy);
        proxy.signal(Signal::INT);
        let draining = proxy.wait_for_log("Draining");
        assert!(draining.contains("connections=1 tunnels=1"), "{draining}");
        tunnel.shutdown_write();
        tunnel.expect_eof();
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
        let drained = proxy.wait_for_log("Drained");
        for part in ["requests=1", "tunnels=1", "bytes_client_to_backend=6", "panics=0"] {
            assert!(drained.contains(part), "{part}: {drained}");
        }
    }
}
