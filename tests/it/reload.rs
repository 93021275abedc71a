//! Reloads: SIGHUP reads the configuration again, and nothing that runs notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::cached::{Caching, is_hit, page};
use crate::support::control::Metrics;
use crate::support::setup::{Gate, ok, runtime, telling};
use crate::support::tunnel::{ACCEPTED, echo, open};
use crate::support::{Backend, BackendConn, Client, Driver, Launch, Proxy, eventually};

/// Starts a backend that echoes in tunnels and else answers with its name.
fn named(name: &'static str) -> Backend {
    Backend::scripted(move |conn: &mut BackendConn, _| {
        while let Some(head) = conn.next_head() {
            if String::from_utf8_lossy(&head).contains("Upgrade: my-proto") {
                conn.send(ACCEPTED);
                return echo(conn);
            }
            conn.send(ok(name));
        }
    })
}

fn route(name: &str, mount: &str, backend: &Backend) -> String {
    format!("[server.{name}]\nbind_to = \"{mount}\"\nproxy_url = \"{}\"\n", backend.url())
}

/// Has the proxy read this configuration, and waits until it is in effect everywhere.
fn reload(proxy: &Proxy, driver: Driver, toml: &str) {
    let done = "Configuration reloaded";
    let before = proxy.logs().iter().filter(|line| line.contains(done)).count();
    proxy.reload(driver, toml);
    proxy.wait_for_logs(done, before + 1);
}

/// Has the proxy read this configuration, and waits until it has refused it; returns why.
fn refuse(proxy: &Proxy, driver: Driver, toml: &str) -> String {
    proxy.reload(driver, toml);
    proxy.wait_for_log("nothing has changed");
    proxy.logs().join("\n")
}

fn answer(client: &mut Client, path: &str) -> String {
    let response = client.get(path);
    format!("{} {}", response.status, response.text())
}

on_both_drivers! {
    fn routes_come_change_and_go_and_tunnels_stay(driver) {
        let (old, new, api) = (named("old"), named("new"), named("api"));
        let proxy = Proxy::start(driver, &route("app", "*", &old));
        let mut kept = Client::connect(proxy.addr());
        assert_eq!(answer(&mut kept, "/api/x"), "200 old");
        let mut tunnels: Vec<_> = (0..8).map(|_| open(&proxy)).collect();

        // The order in the file is another one, too.
        let both = route("api", "/api", &api) + &route("app", "*", &new);
        reload(&proxy, driver, &both);
        assert_eq!(answer(&mut kept, "/x"), "200 new", "a connection that was open already");
        assert_eq!(answer(&mut kept, "/api/x"), "200 api");
        for tunnel in &mut tunnels {
            tunnel.send("still there");
            assert_eq!(tunnel.read_exact(11), b"still there");
        }

        reload(&proxy, driver, &route("api", "/api", &api));
        assert_eq!(kept.get("/x").status, 404);
        assert_eq!(answer(&mut kept, "/api/x"), "200 api");
        for tunnel in &mut tunnels {
            tunnel.send("even now");
            assert_eq!(tunnel.read_exact(8), b"even now");
        }
        drop(tunnels);
        proxy.wait_for_logs("Tunnel closed gracefully", 8);
        let metrics = Metrics::of(&proxy);
        assert!((metrics.value("tunnels_total{server=\"app\"}") - 8.0).abs() < 0.1, "{metrics:?}");
        assert!(metrics.sum("tunnels_active").abs() < 0.1, "{metrics:?}");

        // It comes back to its place, and is counted where it was.
        reload(&proxy, driver, &both);
        assert_eq!(answer(&mut Client::connect(proxy.addr()), "/x"), "200 new");
        drop(open(&proxy));
        proxy.wait_for_logs("Tunnel closed gracefully", 9);
        let metrics = Metrics::of(&proxy);
        assert!((metrics.value("tunnels_total{server=\"app\"}") - 9.0).abs() < 0.1, "{metrics:?}");
    }

    fn a_request_that_runs_keeps_what_it_began_with(driver) {
        let gate = Gate::default();
        let slow = {
            let gate = gate.clone();
            Backend::scripted(move |conn: &mut BackendConn, _| {
                conn.read_request();
                gate.pass("the reload is over");
                conn.send(ok("slow"));
            })
        };
        let new = named("new");
        let proxy = Proxy::start(driver, &route("app", "*", &slow));
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        slow.wait_for_accepted(1);
        // Its route is another one by now, and its time would be over.
        let short = "[timeouts]\nresponse_head = \"50ms\"\n";
        reload(&proxy, driver, &(route("other", "*", &new) + short));
        assert_eq!(answer(&mut Client::connect(proxy.addr()), "/"), "200 new");
        thread::sleep(Duration::from_millis(300));
        gate.open();
        assert_eq!(client.read_response().text(), "slow");
        assert_eq!(answer(&mut client, "/"), "200 new", "the next request of the connection");
    }

    fn limits_and_timeouts_change_in_place(driver) {
        let backend = telling();
        let app = route("app", "*", &backend);
        let proxy = Proxy::start(driver, &app);
        let mut client = Client::connect(proxy.addr());
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(4000));
        client.send(&long);
        assert_eq!(client.read_response().status, 200);

        let tight = "[limits]\nhead_bytes = 2048\nconnections = 2\nconnections_per_address = 2\n\
                     [timeouts]\nhead = \"100ms\"\n";
        reload(&proxy, driver, &(app.clone() + tight));
        client.send(&long);
        assert_eq!(client.read_response().status, 431);
        drop(client);
        let mut silent = Client::connect(proxy.addr());
        silent.send("GET / HT");
        assert_eq!(silent.read_response().status, 408);
        drop(silent);
        eventually("both have left", || Metrics::of(&proxy).sum("connections_active").abs() < 0.1);
        let mut held: Vec<_> = (0..2).map(|_| Client::connect(proxy.addr())).collect();
        for client in &mut held {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!(Client::connect(proxy.addr()).read_response().status, 429);

        let loose = "[limits]\nconnections = 3\n";
        reload(&proxy, driver, &(app.clone() + loose));
        let mut third = Client::connect(proxy.addr());
        assert_eq!(third.get("/").status, 200);
        assert_eq!(Client::connect(proxy.addr()).read_response().status, 503);
        reload(&proxy, driver, &app);
        assert_eq!(Client::connect(proxy.addr()).get("/").status, 200);
    }

    fn tunnels_keep_their_patience(driver) {
        let backend = named("app");
        let app = route("app", "*", &backend);
        let proxy = Proxy::start(driver, &app);
        let mut patient = open(&proxy);
        reload(&proxy, driver, &(app + "[timeouts]\ntunnel_idle = \"200ms\"\n"));
        let mut short = open(&proxy);
        short.expect_eof();
        proxy.wait_for_log("reason=idle_timeout");
        patient.send("here");
        assert_eq!(patient.read_exact(4), b"here");
    }

    fn a_file_with_a_fault_changes_nothing_and_says_why(driver) {
        let backend = named("old");
        let proxy = Proxy::start(driver, &route("app", "*", &backend));
        let mut tunnel = open(&proxy);
        let wrong = "[server.app]\nproxy_url = \"ftp://x\"\n[limits]\nhead_bytes = 1\n";
        let told = refuse(&proxy, driver, wrong);
        assert!(told.contains("server.app.proxy_url: "), "{told}");
        assert!(told.contains("limits.head_bytes: "), "{told}");
        assert_eq!(answer(&mut Client::connect(proxy.addr()), "/"), "200 old");
        tunnel.send("here");
        assert_eq!(tunnel.read_exact(4), b"here");
    }

    fn what_needs_a_restart_is_named_and_the_rest_is_done(driver) {
        let (old, new) = (named("old"), named("new"));
        let proxy = Proxy::start(driver, &route("app", "*", &old));
        let address = proxy.addr();
        let other = format!(
            "bind = \"127.0.0.9\"\nlog_format = \"json\"\n{}[runtime]\ncores = 1\npin = true\n\
             driver = \"{}\"\ntunnel_buffers = 64\n",
            route("app", "*", &new),
            driver.name(),
        );
        reload(&proxy, driver, &other);
        let told = proxy.logs().join("\n");
        for key in ["bind", "log_format", "runtime.cores", "runtime.pin", "runtime.tunnel_buffers"] {
            let line = format!("{key} was changed, which needs a restart: it stays as it was");
            assert!(told.contains(&line), "{key}: {told}");
        }
        assert!(!told.contains("runtime.driver was changed"), "{told}");
        assert_eq!(answer(&mut Client::connect(address), "/"), "200 new");
    }

    fn the_token_changes_and_the_endpoint_is_not_laid_open(driver) {
        let backend = named("app");
        let app = route("app", "*", &backend);
        let with = |token: &str| format!("control_bind = \"0.0.0.0\"\ncontrol_auth = \"{token}\"\n{app}");
        let proxy = Proxy::start(driver, &with("first"));
        let control = std::net::SocketAddr::from(([127, 0, 0, 1], proxy.control_addr().port()));
        let ask = |token: &str| {
            let mut client = Client::connect(control);
            client.send(format!(
                "GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n"
            ));
            client.read_response().status
        };
        assert_eq!((ask("first"), ask("second")), (200, 401));
        reload(&proxy, driver, &with("second"));
        assert_eq!((ask("first"), ask("second")), (401, 200));
        // A file that is sound by itself, but for an endpoint that would stay where it is.
        let told = refuse(&proxy, driver, &app);
        assert!(told.contains("control_auth: other hosts could reach"), "{told}");
        assert_eq!((ask(""), ask("second")), (401, 200));
    }

    fn another_backend_does_not_answer_from_the_old_ones_cache(driver) {
        let (old, new) = (telling_pages("old"), telling_pages("new"));
        let proxy = Caching::default().start(driver, &old.url());
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(proxy.addr())).collect();
        for client in &mut clients {
            assert_eq!(client.get("/page").text(), "old");
        }
        let config = |url: &str, more: &str| {
            format!("[server.app]\nproxy_url = \"{url}\"\n{more}{}", runtime(driver, 2))
        };
        // What concerns neither the backend nor what is stored leaves it.
        reload(&proxy, driver, &config(&old.url(), "exclude_paths = [\"/private/*\"]\n"));
        for client in &mut clients {
            assert!(is_hit(&client.get("/page")));
        }
        reload(&proxy, driver, &config(&new.url(), ""));
        for client in &mut clients {
            assert_eq!(client.get("/page").text(), "new");
        }
        reload(&proxy, driver, &config(&new.url(), "cache_strategy = \"none\"\n"));
        assert!(clients[0].get("/page").all("cache-status").is_empty());
        reload(&proxy, driver, &(config(&new.url(), "") + "[cache]\nmax_bytes = \"64KiB\"\n"));
        assert_eq!(clients[0].get("/page").text(), "new");
    }

    fn many_reloads_under_load_lose_nothing_and_leave_nothing_behind(driver) {
        let (one, two) = (named("one"), named("two"));
        let configs = [route("app", "*", &one), route("app", "*", &two) + &route("b", "/b", &one)];
        let proxy = Proxy::start(driver, &configs[0]);
        let mut tunnel = open(&proxy);
        let (addr, stop) = (proxy.addr(), AtomicBool::new(false));
        thread::scope(|scope| {
            let client = || {
                let mut client = Client::connect(addr);
                let mut served = 0;
                while !stop.load(Ordering::Relaxed) {
                    let text = answer(&mut client, "/x");
                    assert!(text == "200 one" || text == "200 two", "{text}");
                    served += 1;
                }
                served
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            for round in 1..=30 {
                reload(&proxy, driver, &configs[round % 2]);
                tunnel.send("here");
                assert_eq!(tunnel.read_exact(4), b"here");
            }
            stop.store(true, Ordering::Relaxed);
            for client in clients {
                assert!(client.join().expect("every answer was right") > 0);
            }
        });
        assert!(Metrics::of(&proxy).are(&[("panics_total", 0.0)]));
    }
}

/// Starts a backend whose pages are fresh for an hour.
fn telling_pages(body: &'static str) -> Backend {
    Backend::scripted(move |conn: &mut BackendConn, _| {
        while conn.next_request().is_some() {
            conn.send(page(body));
        }
    })
}

#[test]
fn the_log_level_changes_unless_the_environment_says_it() {
    let backend = named("app");
    let app = route("app", "*", &backend);
    for (rust_log, follows) in [("", true), ("info", false)] {
        let launch = Launch::new().variable("RUST_LOG", rust_log);
        let proxy = launch.config(Driver::Epoll, &app).start();
        let level = |level: &str| format!("log_level = \"{level}\"\n{app}");
        proxy.reload(Driver::Epoll, &level("trace"));
        proxy.wait_for_logs("Configuration reloaded", 1);
        assert_eq!(Client::connect(proxy.addr()).get("/").status, 200);
        if follows {
            proxy.wait_for_log("TRACE");
        }
        proxy.reload(Driver::Epoll, &level("info"));
        proxy.wait_for_logs("Configuration reloaded", 2);
        let told = proxy.logs().iter().any(|line| line.contains("TRACE"));
        assert_eq!(told, follows, "RUST_LOG={rust_log:?}");
    }
}

#[test]
fn a_name_that_is_new_is_resolved_before_it_is_used() {
    let backend = named("app");
    let proxy = Proxy::start(Driver::Epoll, &route("app", "*", &backend));
    let port = backend.addr().port();
    let named = format!("[server.app]\nproxy_url = \"http://localhost:{port}\"\n");
    reload(&proxy, Driver::Epoll, &named);
    assert_eq!(answer(&mut Client::connect(proxy.addr()), "/"), "200 app");
    // One that nobody knows is no reason to stay with the old file.
    reload(&proxy, Driver::Epoll, "[server.app]\nproxy_url = \"http://nowhere.invalid\"\n");
    assert!(Client::connect(proxy.addr()).get("/").status >= 502);
}

#[test]
fn without_a_file_a_hangup_ends_the_process() {
    let backend = named("app");
    let arguments = ["--backend", &backend.url(), "--port", "0"];
    let mut proxy = Proxy::start_with_arguments(&arguments);
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_exit(), 128 + 1);
}

#[test]
fn a_process_that_leaves_does_not_reload() {
    let backend = named("app");
    let app = route("app", "*", &backend);
    let proxy = Proxy::start(Driver::Epoll, &app);
    let mut tunnel = open(&proxy);
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("Draining");
    proxy.reload(Driver::Epoll, &app);
    proxy.wait_for_log("Not reloading: the process is leaving");
    tunnel.send("here");
    assert_eq!(tunnel.read_exact(4), b"here");
}
