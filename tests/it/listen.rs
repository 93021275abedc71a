//! Where the proxy listens, and how many it lets in.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::{Backend, Client, Launch, Proxy, eventually};

on_both_drivers! {
    fn the_unspecified_ipv6_address_serves_ipv4_too(driver) {
        let backend = Backend::recording();
        let config = format!("bind = \"::\"\n[server.app]\nproxy_url = \"{}\"", backend.url());
        let proxy = Proxy::start(driver, &config);
        let port = proxy.addr().port();
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            assert_eq!(Client::connect(SocketAddr::new(ip, port)).get("/").text(), "ok", "{ip}");
        }
        // The address of the IPv4 client is told as such, not as ::ffff:127.0.0.1.
        let fields: Vec<_> = backend.requests().iter().map(|request| {
            request.field("x-forwarded-for").map(str::to_owned)
        }).collect();
        assert_eq!(fields, [Some("127.0.0.1".to_owned()), Some("::1".to_owned())]);
    }

    fn both_unspecified_addresses_may_stand_beside_each_other(driver) {
        let backend = Backend::recording();
        // One port for both, which is the point: the IPv6 socket must leave IPv4 alone.
        let mut port = 20_000 + u16::try_from(std::process::id() % 10_000).expect("small");
        if driver.name() == "epoll" {
            port += 1;
        }
        let config = format!(
            "bind = [\"0.0.0.0\", \"::\"]\nhttp_port = {port}\n[server.app]\nproxy_url = \"{}\"",
            backend.url()
        );
        let proxy = Proxy::start(driver, &config);
        proxy.wait_for_logs("HTTP proxy listening on ", 2);
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            assert_eq!(Client::connect(SocketAddr::new(ip, port)).get("/").text(), "ok", "{ip}");
        }
    }

    fn both_workers_take_connections(driver) {
        let backend = Backend::recording();
        let config = format!("[server.app]\nproxy_url = \"{}\"", backend.url());
        let proxy = Proxy::start(driver, &config);
        // Idle connections to the backend are kept by each worker for itself: with requests one
        // after another, a second connection was opened by the second worker.
        eventually("a second worker has served", || {
            assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
            backend.accepted() >= 2
        });
    }

    fn a_connection_over_the_limit_is_told_so_and_a_place_frees_up(driver) {
        let backend = Backend::recording();
        let config = format!(
            "[limits]\nconnections = 2\n[server.app]\nproxy_url = \"{}\"",
            backend.url()
        );
        let proxy = Proxy::start(driver, &config);
        assert!(proxy.wait_for_log("Open files limit: ").contains("connections limit: 2"));
        let mut first = Client::connect(proxy.addr());
        let mut second = Client::connect(proxy.addr());
        assert_eq!((first.get("/").text(), second.get("/").text()), ("ok", "ok"));
        let mut third = Client::connect(proxy.addr());
        let refused = third.read_response();
        assert_eq!((refused.status, refused.field("connection")), (503, Some("close")));
        assert!(refused.text().contains("connections"), "{refused:?}");
        third.expect_closed();
        // Who is in stays in.
        assert_eq!((first.get("/").text(), second.get("/").text()), ("ok", "ok"));
        drop(first);
        eventually("a place is free", || {
            let mut client = Client::connect(proxy.addr());
            // Turned away, it may be too late to ask.
            client.try_send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok()
                && client.next_head().is_some_and(|head| head.starts_with(b"HTTP/1.1 200 "))
        });
        assert_eq!(second.get("/").text(), "ok");
    }

    fn short_connections_leave_nothing_behind(driver) {
        let backend = Backend::recording();
        let config = format!(
            "[limits]\npool_idle = 4\n[server.app]\nproxy_url = \"{}\"",
            backend.url()
        );
        let proxy = Proxy::start(driver, &config);
        let idle = proxy.fd_count_at_rest();
        let run = |count: usize| {
            for _ in 0..count {
                assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
            }
        };
        // What is allocated once and kept is allocated by then.
        run(500);
        let resident = proxy.rss_kib();
        run(3000);
        let grown = proxy.rss_kib().saturating_sub(resident);
        assert!(grown < 512, "{grown} KiB more than the {resident} KiB before");
        // At rest each worker may keep its idle connections to the backend.
        proxy.wait_for_fd_count(idle + 2 * 4);
        assert!(backend.accepted() <= 8, "{} connections to the backend", backend.accepted());
    }
}

#[test]
fn the_limit_of_open_files_is_raised_and_told() {
    let backend = Backend::recording();
    let launch = Launch::new().soft_open_files(256);
    let proxy = launch.arguments(&["--backend", &backend.url(), "--port", "0"]).start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.pid())).expect("limits");
    let row = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut columns = row.expect("a row").split_whitespace();
    let (soft, hard) = (columns.next().expect("soft"), columns.next().expect("hard"));
    assert_ne!(soft, "256");
    assert_eq!(soft, hard);
    let told = proxy.wait_for_log("Open files limit: ");
    assert!(told.contains(&format!("Open files limit: {hard}, connections limit: ")), "{told}");
}
