//! Limits by client address: at the limit a client is let in, beyond it is told 429, and another
//! address never notices.

use std::time::Instant;

use crate::support::control::Metrics;
use crate::support::tunnel::{ACCEPTED, REQUEST, echo};
use crate::support::{Backend, Client, Driver, Proxy, Response, eventually, setup};

/// Two addresses of this host.
const ONE: &str = "127.0.0.2";
const OTHER: &str = "127.0.0.3";

/// Accepts every upgrade, and answers everything else with `ok`.
fn either() -> Backend {
    Backend::scripted(|conn, _| {
        while let Some(request) = conn.next_request() {
            if request.field("upgrade").is_some() {
                conn.send(ACCEPTED);
                return echo(conn);
            }
            conn.send(setup::ok("ok"));
        }
    })
}

/// Starts a proxy with these keys before the first table and in `[limits]`.
fn start(driver: Driver, backend: &Backend, root: &str, limits: &str) -> Proxy {
    let route = format!("[server.app]\nproxy_url = \"{}\"\n", backend.url());
    Proxy::start(driver, &format!("{root}\n{route}[limits]\n{limits}\n"))
}

fn from(source: &str, proxy: &Proxy) -> Client {
    Client::connect_from(source, proxy.addr())
}

/// Asserts that a client was refused for a while, without a word about the inside.
fn assert_is_refused(response: &Response) {
    assert_eq!(response.status, 429, "{response:?}");
    let seconds: u32 = response.field("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{response:?}");
    assert!(response.text().contains("our address"), "{response:?}");
}

/// Asserts that a connection is turned away.
fn assert_is_turned_away(mut client: Client) {
    let response = client.read_response();
    assert_is_refused(&response);
    assert_eq!(response.field("connection"), Some("close"));
    client.expect_closed();
}

/// Asks for an upgrade on this connection, on behalf of others if `forwarded` says so.
fn upgrade(client: &mut Client, forwarded: &str) -> Response {
    let field = format!("Host: localhost\r\nX-Forwarded-For: {forwarded}\r\n");
    client.send(REQUEST.replace("Host: localhost\r\n", &field));
    let response = client.read_response_head();
    if response.status != 101 {
        let length = response.field("content-length").expect("a length").parse().expect("a number");
        let body = client.read_exact(length);
        return Response { body, ..response };
    }
    response
}

/// Opens a tunnel for an address.
fn tunnel(source: &str, proxy: &Proxy) -> Client {
    let mut client = from(source, proxy);
    assert_eq!(upgrade(&mut client, "192.0.2.1").status, 101);
    client
}

fn met(proxy: &Proxy, limit: &str) -> f64 {
    Metrics::of(proxy).value(&format!("limited_total{{limit=\"{limit}\"}}"))
}

fn assert_met(proxy: &Proxy, limit: &str, times: f64) {
    eventually("it is counted", || (met(proxy, limit) - times).abs() < 1e-9);
}

/// Waits until an address may connect again.
fn wait_for_a_place(source: &str, proxy: &Proxy) -> Client {
    let mut found = None;
    eventually("a place is free", || {
        let mut client = from(source, proxy);
        // Turned away, it may be too late to ask.
        let is_served = client.try_send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_ok()
            && client.next_head().is_some_and(|head| head.starts_with(b"HTTP/1.1 200 "));
        found = is_served.then_some(client);
        is_served
    });
    let mut client = found.expect("the last one was served");
    client.expect("ok");
    client
}

on_both_drivers! {
    fn an_address_may_have_its_limit_of_connections(driver) {
        let backend = either();
        let proxy = start(driver, &backend, "", "connections_per_address = 3");
        let mut kept = [(); 3].map(|()| from(ONE, &proxy));
        assert!(kept.iter_mut().all(|client| client.get("/").text() == "ok"));
        for _ in 0..2 {
            assert_is_turned_away(from(ONE, &proxy));
        }
        // Neither those who are in nor others notice.
        assert!(kept.iter_mut().all(|client| client.get("/").text() == "ok"));
        assert_eq!(from(OTHER, &proxy).get("/").text(), "ok");
        assert_met(&proxy, "connections_per_address", 2.0);
        let line = proxy.wait_for_log("Connection turned away");
        assert!(line.contains("WARN") && line.contains(ONE), "{line}");
        assert!(line.contains("connections_per_address"), "{line}");
        let [first, ..] = kept;
        drop(first);
        let _fourth = wait_for_a_place(ONE, &proxy);
        assert_is_turned_away(from(ONE, &proxy));
    }

    fn a_tunnel_keeps_the_place_of_its_connection(driver) {
        let backend = either();
        let proxy = start(driver, &backend, "", "connections_per_address = 1");
        let mut open = tunnel(ONE, &proxy);
        open.send("here");
        open.expect("here");
        assert_is_turned_away(from(ONE, &proxy));
        drop(open);
        wait_for_a_place(ONE, &proxy);
    }

    fn a_trusted_proxy_may_have_any_number_of_connections(driver) {
        let backend = either();
        let root = format!("trusted_proxies = [\"{ONE}\"]");
        let limits = "connections_per_address = 1\naccept_rate_per_address = 1";
        let proxy = start(driver, &backend, &root, limits);
        let mut many = [(); 8].map(|()| from(ONE, &proxy));
        assert!(many.iter_mut().all(|client| client.get("/").text() == "ok"));
        assert!(Metrics::of(&proxy).sum("limited_total") < 1.0);
    }

    fn an_address_may_have_its_limit_of_tunnels(driver) {
        let backend = either();
        let proxy = start(driver, &backend, "", "tunnels_per_address = 2");
        let (first, mut second) = (tunnel(ONE, &proxy), tunnel(ONE, &proxy));
        let mut third = from(ONE, &proxy);
        for _ in 0..2 {
            // A word of its own makes no difference: nobody trusts this client.
            assert_is_refused(&upgrade(&mut third, "198.51.100.9"));
        }
        // The connection goes on, and so do the tunnels and the others.
        assert_eq!(third.get("/").text(), "ok");
        second.send("here");
        second.expect("here");
        let _other = tunnel(OTHER, &proxy);
        assert_met(&proxy, "tunnels_per_address", 2.0);
        let metrics = Metrics::of(&proxy);
        let reason = "upgrade_rejected_total{reason=\"too_many_tunnels_of_address\"}";
        assert!(metrics.are(&[(reason, 2.0)]), "{metrics:?}");
        let line = proxy.wait_for_log("A client has met a limit");
        assert!(line.contains("tunnels_per_address") && line.contains(ONE), "{line}");
        drop(first);
        eventually("the slot is free", || upgrade(&mut third, "").status == 101);
        assert_is_refused(&upgrade(&mut from(ONE, &proxy), ""));
    }

    fn behind_a_trusted_proxy_the_forwarded_address_has_the_tunnels(driver) {
        let backend = either();
        let root = "trusted_proxies = [\"127.0.0.2\", \"10.0.0.0/8\"]";
        let proxy = start(driver, &backend, root, "tunnels_per_address = 1");
        let ask = |forwarded| {
            let mut client = from(ONE, &proxy);
            let status = upgrade(&mut client, forwarded).status;
            (client, status)
        };
        let mut open = Vec::new();
        for (forwarded, status) in [
            ("192.0.2.1", 101),
            ("192.0.2.1", 429),
            // The last one that is not trusted counts, whatever it says about others.
            ("203.0.113.5, 192.0.2.1, 10.1.2.3", 429),
            ("192.0.2.1, 192.0.2.2", 101),
            ("192.0.2.2:4711", 429),
            // A site of IPv6 is one address.
            ("2001:db8:0:1::1", 101),
            ("2001:db8:0:1:ffff::2", 429),
            ("2001:db8:0:2::1", 101),
            // Only trusted addresses: nobody to hold to a limit.
            ("10.9.9.9", 101),
            ("10.9.9.9", 101),
            ("", 101),
            ("", 101),
        ] {
            let (client, found) = ask(forwarded);
            assert_eq!(found, status, "{forwarded}");
            open.push(client);
        }
    }

    fn connections_come_in_a_burst_and_then_at_their_rate(driver) {
        let backend = either();
        let limits = "accept_rate_per_address = 1\naccept_burst_per_address = 5";
        let proxy = start(driver, &backend, "", limits);
        let began = Instant::now();
        let mut served = 0;
        // Each closes before the next one comes: only the rate is left to refuse.
        loop {
            let mut client = from(ONE, &proxy);
            let is_sent = client.try_send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_ok();
            let Some(head) = client.next_head().filter(|_| is_sent) else { break };
            if !head.starts_with(b"HTTP/1.1 200 ") {
                assert_is_refused(&Response { body: client.read_to_eof(), ..Response::from_head(&head) });
                break;
            }
            served += 1;
            let allowed = 5 + 1 + began.elapsed().as_secs();
            assert!(served <= allowed, "{served} in {:?}", began.elapsed());
        }
        assert!(served >= 5, "{served}");
        assert_eq!(from(OTHER, &proxy).get("/").text(), "ok");
        assert_met(&proxy, "accept_rate_per_address", 1.0);
    }

    fn upgrades_come_in_a_burst_and_then_at_their_rate(driver) {
        let backend = either();
        let limits = "upgrade_rate_per_address = 1\nupgrade_burst_per_address = 3";
        let proxy = start(driver, &backend, "", limits);
        let began = Instant::now();
        let mut tunnels = 0;
        let mut refused = loop {
            let mut client = from(ONE, &proxy);
            let response = upgrade(&mut client, "");
            if response.status != 101 {
                assert_is_refused(&response);
                assert_eq!(response.field("retry-after"), Some("1"));
                break client;
            }
            tunnels += 1;
            let allowed = 3 + 1 + began.elapsed().as_secs();
            assert!(tunnels <= allowed, "{tunnels} in {:?}", began.elapsed());
        };
        assert!(tunnels >= 3, "{tunnels}");
        // Other requests have no rate, another address has its own, and after a second there is one more.
        assert_eq!(refused.get("/").text(), "ok");
        let _other = tunnel(OTHER, &proxy);
        eventually("an upgrade is allowed again", || upgrade(&mut refused, "").status == 101);
        let tunnels = usize::try_from(tunnels).expect("few") + 2;
        proxy.wait_for_logs("Both upgrades successful", tunnels);
        // What is refused costs no line of its own.
        assert_eq!(proxy.wait_for_logs("Upgrade request detected", tunnels).len(), tunnels);
    }

    fn an_address_is_forgotten_when_it_has_nothing_open(driver) {
        let backend = either();
        let limits = "connections_per_address = 9\ntunnels_per_address = 9\naccept_rate_per_address = 9";
        let proxy = start(driver, &backend, "", limits);
        let tracked = || Metrics::of(&proxy).value("addresses_tracked");
        let open = tunnel(ONE, &proxy);
        let kept = from(OTHER, &proxy);
        eventually("both are known", || (tracked() - 2.0).abs() < 1e-9);
        drop(kept);
        eventually("one is left", || (tracked() - 1.0).abs() < 1e-9);
        drop(open);
        eventually("none is left", || tracked().abs() < 1e-9);
    }

    fn without_limits_by_address_no_address_is_known(driver) {
        let backend = either();
        let proxy = start(driver, &backend, "", "connections = 100");
        let _open = tunnel(ONE, &proxy);
        assert_eq!(from(OTHER, &proxy).get("/").text(), "ok");
        assert!(Metrics::of(&proxy).are(&[("addresses_tracked", 0.0)]));
    }

    fn more_addresses_than_can_be_told_apart_are_let_through_and_counted(driver) {
        let backend = either();
        let limits = "connections_per_address = 1\ntracked_addresses = 64";
        let proxy = start(driver, &backend, "", limits);
        let sources = (1..=200).map(|number| format!("127.0.1.{number}"));
        let mut clients: Vec<_> = sources.map(|source| from(&source, &proxy)).collect();
        assert!(clients.iter_mut().all(|client| client.get("/").text() == "ok"));
        let metrics = Metrics::of(&proxy);
        let [tracked, untracked] =
            ["addresses_tracked", "addresses_untracked_total"].map(|name| metrics.value(name));
        assert!((1.0..=64.0).contains(&tracked), "{tracked}");
        assert!((tracked + untracked - 200.0).abs() < 1e-9, "{tracked} and {untracked}");
        proxy.wait_for_log("tracked_addresses");
    }
}
