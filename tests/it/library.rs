//! The library as another program uses it: configured in code, run on a thread, drained from another.

use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use phantom_frame::{
    BindError, CacheHandle, Cores, CreateProxyConfig, DriverChoice, Handle, HostHeader, ProxyError,
    UpgradeProtocols, create_proxy, create_proxy_with_handle,
};

use crate::support::control::{Metrics, get, post};
use crate::support::{Backend, BackendConn, Client, Driver, ws};

/// A proxy that runs on a thread of this process.
struct Running {
    addr: SocketAddr,
    handle: Handle,
    thread: JoinHandle<Result<(), ProxyError>>,
}

impl Running {
    fn start(config: CreateProxyConfig) -> Self {
        let (mut proxy, _cache) = create_proxy(config);
        let addr = proxy.bind().expect("a free port")[0];
        let handle = proxy.handle().expect("it is bound");
        Self { addr, handle, thread: std::thread::spawn(move || proxy.run()) }
    }

    fn drain(self) {
        self.handle.drain();
        self.thread.join().expect("no panic").expect("drained");
    }
}

fn config(driver: Driver, url: &str) -> CreateProxyConfig {
    let driver = match driver {
        Driver::IoUring => DriverChoice::IoUring,
        Driver::Epoll => DriverChoice::Epoll,
    };
    CreateProxyConfig::new(url.to_owned())
        .with_bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .with_cores(Cores::Count(1))
        .with_driver(driver)
}

/// Switches protocols and echoes until the other end closes.
fn echo(conn: &mut BackendConn, _: usize) {
    let Some(head) = conn.next_request() else { return };
    let key = head.field("Sec-WebSocket-Key").expect("a key").to_owned();
    conn.send(ws::switching_protocols(&key, &[]));
    while let some @ [_, ..] = &*conn.read_some() {
        conn.send(some);
    }
}

fn upgrade(addr: SocketAddr) -> (Client, u16) {
    let mut client = Client::connect(addr);
    client.send(ws::ws_request("/ws", &[]));
    let status = client.read_response().status;
    (client, status)
}

on_both_drivers! {
    fn a_proxy_runs_on_a_thread_until_another_drains_it(driver) {
        let backend = Backend::scripted(echo);
        let proxy = Running::start(config(driver, &backend.url()).with_websocket_enabled(true));
        let (mut tunnel, status) = upgrade(proxy.addr);
        assert_eq!(status, 101);
        tunnel.send("hello");
        tunnel.expect("hello");
        tunnel.shutdown_write();
        tunnel.expect_eof();
        let addr = proxy.addr;
        proxy.drain();
        assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    }

    fn a_disabled_upgrade_is_refused_and_the_backend_never_sees_it(driver) {
        let backend = Backend::recording();
        let proxy = Running::start(config(driver, &backend.url()).with_websocket_enabled(false));
        assert_eq!(upgrade(proxy.addr).1, 501);
        assert_eq!(Client::connect(proxy.addr).get("/plain").text(), "ok");
        let targets: Vec<_> = backend.requests().into_iter().map(|r| r.target).collect();
        assert_eq!(targets, ["/plain"]);
        proxy.drain();
    }

    fn only_the_protocols_that_are_allowed_are_switched_to(driver) {
        let backend = Backend::recording();
        let only = UpgradeProtocols::Only(vec!["h2c".to_owned()]);
        let proxy = Running::start(config(driver, &backend.url()).with_upgrade_protocols(only));
        assert_eq!(upgrade(proxy.addr).1, 501);
        proxy.drain();
    }

    fn only_get_is_forwarded_when_that_is_asked_for(driver) {
        let backend = Backend::recording();
        let proxy = Running::start(config(driver, &backend.url()).with_forward_get_only(true));
        let mut client = Client::connect(proxy.addr);
        client.send("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let refused = client.read_response();
        assert_eq!((refused.status, refused.field("allow")), (405, Some("GET")));
        assert_eq!(client.get("/").text(), "ok");
        drop(client);
        proxy.drain();
    }

    fn the_host_sent_on_is_the_one_that_was_chosen(driver) {
        let backend = Backend::recording();
        let url = backend.url();
        let own = backend.addr().to_string();
        for (choice, host) in [
            (HostHeader::Preserve, "localhost"),
            (HostHeader::Backend, &*own),
            (HostHeader::Literal("example.org".to_owned()), "example.org"),
        ] {
            let proxy = Running::start(config(driver, &url).with_host_header(choice));
            assert_eq!(Client::connect(proxy.addr).get("/").text(), "ok");
            let requests = backend.requests();
            assert_eq!(requests.last().and_then(|request| request.field("host")), Some(host));
            proxy.drain();
        }
    }

    fn two_proxies_in_one_process_end_one_by_one(driver) {
        let (first_backend, second_backend) = (Backend::recording(), Backend::recording());
        let first = Running::start(config(driver, &first_backend.url()));
        let second = Running::start(config(driver, &second_backend.url()));
        assert_eq!(Client::connect(first.addr).get("/first").text(), "ok");
        first.drain();
        assert_eq!(Client::connect(second.addr).get("/second").text(), "ok");
        second.drain();
        let targets = |backend: &Backend| backend.requests().remove(0).target;
        assert_eq!((targets(&first_backend), targets(&second_backend)), ("/first".into(), "/second".into()));
    }

    fn who_connects_before_it_runs_is_served_when_it_does(driver) {
        let backend = Backend::recording();
        let (mut proxy, _cache) = create_proxy(config(driver, &backend.url()));
        assert!(proxy.handle().is_none(), "there is nothing to drain yet");
        let addresses = proxy.bind().expect("a free port");
        assert_eq!(proxy.bind().expect("it is bound"), addresses);
        let mut early = Client::connect(addresses[0]);
        early.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let handle = proxy.handle().expect("it is bound");
        let thread = std::thread::spawn(move || proxy.run());
        assert_eq!(early.read_response().text(), "ok");
        drop(early);
        handle.drain();
        handle.drain();
        thread.join().expect("no panic").expect("drained");
    }

    fn who_has_connected_is_served_even_if_the_drain_is_asked_for_before_it_runs(driver) {
        let backend = Backend::recording();
        // Whether the worker hears of the drain before it looks at its listener is a matter of luck.
        for _ in 0..20 {
            let (mut proxy, _cache) = create_proxy(config(driver, &backend.url()));
            let addr = proxy.bind().expect("a free port")[0];
            let mut early = Client::connect(addr);
            early.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            proxy.handle().expect("it is bound").drain();
            let thread = std::thread::spawn(move || proxy.run());
            assert_eq!(early.read_response().text(), "ok");
            drop(early);
            thread.join().expect("no panic").expect("drained");
        }
    }

    fn a_tunnel_is_closed_when_the_drain_times_out(driver) {
        let backend = Backend::scripted(echo);
        let brief = config(driver, &backend.url()).with_drain_timeout(Duration::from_millis(200));
        let proxy = Running::start(brief);
        let (mut tunnel, status) = upgrade(proxy.addr);
        assert_eq!(status, 101);
        proxy.drain();
        tunnel.expect_closed();
    }

    fn a_handle_purges_every_proxy_that_was_made_with_it_and_runs(driver) {
        let backend = Backend::recording();
        let cache = CacheHandle::new();
        cache.invalidate_all();
        let control = SocketAddr::from(([127, 0, 0, 1], 0));
        let has_purged = |addr: SocketAddr, count: f64| {
            let metrics = Metrics::at(addr);
            assert!(metrics.are(&[("purges_total", count)]), "not {count}: {metrics:?}");
        };
        let start = || {
            let config = config(driver, &backend.url())
                .with_cores(Cores::Count(3))
                .with_control(control, None);
            let mut proxy = create_proxy_with_handle(config, cache.clone());
            let addr = proxy.bind().expect("a free port")[0];
            let control = proxy.control_address().expect("it was asked for");
            // It is bound and does not run: nothing to purge, nobody to wait for.
            cache.invalidate("GET:/*");
            let handle = proxy.handle().expect("it is bound");
            let running =
                Running { addr, handle, thread: std::thread::spawn(move || proxy.run()) };
            assert_eq!(Client::connect(addr).get("/").text(), "ok");
            (running, control)
        };
        let (first, first_control) = start();
        cache.invalidate_all();
        has_purged(first_control, 1.0);
        // Binding the second one purges the first.
        let (second, second_control) = start();
        for _ in 0..20 {
            cache.invalidate("GET:/a/*");
        }
        has_purged(first_control, 22.0);
        has_purged(second_control, 20.0);
        first.drain();
        cache.invalidate_all();
        has_purged(second_control, 21.0);
        second.drain();
        cache.invalidate_all();
    }

    fn a_proxy_that_never_runs_gives_its_port_back(driver) {
        let (mut proxy, _cache) = create_proxy(config(driver, "http://127.0.0.1:1"));
        let addr = proxy.bind().expect("a free port")[0];
        drop(proxy);
        let (mut again, _cache) = create_proxy(config(driver, "http://127.0.0.1:1").with_bind(addr));
        assert_eq!(again.bind().expect("the port is free again"), [addr]);
    }
}

#[test]
fn a_url_that_is_none_is_refused_when_the_proxy_binds() {
    for url in ["localhost:8080", "ftp://localhost", "http://", "https://localhost", ""] {
        let (mut proxy, _cache) = create_proxy(config(Driver::Epoll, url));
        let error = proxy.bind().expect_err("a fault");
        assert!(matches!(error, BindError::Config(_)), "{url:?}: {error:?}");
        assert!(!error.to_string().is_empty());
        let error = proxy.run().expect_err("the same fault");
        assert!(matches!(error, ProxyError::Bind(BindError::Config(_))), "{url:?}: {error:?}");
    }
}

#[test]
fn a_control_endpoint_is_opened_where_it_was_asked_for_and_behind_its_token() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let (mut proxy, _cache) = create_proxy(config(Driver::Epoll, "http://127.0.0.1:1"));
    proxy.bind().expect("a free port");
    assert_eq!(proxy.control_address(), None, "nobody asked for one");
    let token = Some("geheim".to_owned());
    let guarded = config(Driver::Epoll, "http://127.0.0.1:1").with_control(local, token);
    let (mut proxy, _cache) = create_proxy(guarded);
    proxy.bind().expect("a free port");
    let addr = proxy.control_address().expect("it was asked for");
    let handle = proxy.handle().expect("it is bound");
    let thread = std::thread::spawn(move || proxy.run());
    let mut client = Client::connect(addr);
    assert_eq!(get(&mut client, "/healthz").text(), "ok");
    assert_eq!(post(&mut client, "/invalidate_all").status, 401);
    handle.drain();
    thread.join().expect("no panic").expect("drained");
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let open = config(Driver::Epoll, "http://127.0.0.1:1").with_control(anywhere, None);
    let error = create_proxy(open).0.bind().expect_err("other hosts could reach it");
    assert!(matches!(error, BindError::Config(_)), "{error:?}");
    assert!(error.to_string().contains("token"), "{error}");
}

#[test]
fn an_address_in_use_is_refused_and_named() {
    let backend = Backend::recording();
    let taken = config(Driver::Epoll, &backend.url()).with_bind(backend.addr());
    let (mut proxy, _cache) = create_proxy(taken);
    let error = proxy.bind().expect_err("somebody listens there");
    assert!(matches!(error, BindError::Start(_)), "{error:?}");
    assert!(error.to_string().contains(&backend.addr().to_string()), "{error}");
}

#[test]
fn a_core_that_is_not_there_is_refused() {
    let far = config(Driver::Epoll, "http://127.0.0.1:1").with_cores(Cores::Ids(vec![999]));
    let error = create_proxy(far).0.bind().expect_err("no such core");
    assert!(error.to_string().contains("999"), "{error}");
}
