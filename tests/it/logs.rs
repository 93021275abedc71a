//! The log as an operator reads it, and as their scripts do: order, sentences, levels, JSON.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::launch::stdout;
use crate::support::{Backend, BackendConn, Client, Launch, Proxy, Refusing, ws};

const TARGET: &str = "phantom_frame::proxy";

/// Switches protocols, takes 1024 bytes, sends 2048, and waits for the end.
fn exchange(conn: &mut BackendConn, _: usize) {
    let head = conn.read_request_head();
    let key = head.field("Sec-WebSocket-Key").expect("a key").to_owned();
    conn.send(ws::switching_protocols(&key, &[]));
    conn.read_exact(1024);
    conn.send([b'b'; 2048]);
    conn.expect_eof();
}

fn run_tunnel(proxy: &Proxy, path: &str) {
    let mut client = Client::connect(proxy.addr());
    client.send(ws::ws_request(path, &[("Cookie", "session=geheim")]));
    assert_eq!(client.read_response().status, 101);
    client.send([b'c'; 1024]);
    client.read_exact(2048);
    client.shutdown_write();
    client.expect_eof();
}

/// Parses every line; a line that is no JSON object fails the test.
fn parsed(lines: &[String]) -> Vec<Value> {
    let parse = |line: &String| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(value[key].is_string(), "{key}: {line}");
        }
        value
    };
    lines.iter().map(parse).collect()
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["message"].as_str()).collect()
}

on_both_drivers! {
    fn the_start_is_told_in_the_originals_order(driver) {
        let backend = Backend::recording();
        let config = format!(
            "[server.api]\nbind_to = \"/api\"\nproxy_url = \"{url}/base\"\n\
             [server.rest]\nproxy_url = \"{url}\"",
            url = backend.url()
        );
        let proxy = Launch::new().config(driver, &config).start();
        proxy.control_addr();
        let lines = proxy.logs();
        let mut rest = lines.iter();
        for expected in [
            "Loaded configuration from: config.toml",
            "HTTP port: 0",
            "Control port: 0",
            "Server entries: 2",
            &format!("  server 'api': bind_to='/api', proxy_url='{}/base', mode=Dynamic", backend.url()),
            &format!("  server 'rest': bind_to='*', proxy_url='{}', mode=Dynamic", backend.url()),
            "Open files limit: ",
            &format!("Worker 0, not pinned, driver {}", driver.name()),
            &format!("Worker 1, not pinned, driver {}", driver.name()),
            &format!("HTTP proxy listening on {}", proxy.addr()),
            &format!("Control server listening on {}", proxy.control_addr()),
        ] {
            let found = rest.find(|line| line.contains(&format!(": {expected}")));
            let found = found.unwrap_or_else(|| panic!("no {expected:?} in its place: {lines:#?}"));
            assert!(found.contains(" INFO phantom_frame"), "{found}");
        }
    }

    fn a_tunnels_life_is_told_in_the_documented_sentences(driver) {
        let backend = Backend::scripted(exchange);
        let config =
            format!("log_format = \"json\"\n[server.app]\nproxy_url = \"{}\"", backend.url());
        let mut proxy = Proxy::start(driver, &config);
        run_tunnel(&proxy, "/api/ws?token=geheim");
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit(), 0);
        let lines = parsed(&proxy.logs());
        let about: Vec<_> = lines.into_iter().filter(|line| line["target"] == TARGET).collect();
        assert_eq!(
            messages(&about),
            [
                "Upgrade request detected for GET /api/ws, establishing direct proxy tunnel",
                "Backend upgrade successful",
                "Both upgrades successful, establishing bidirectional tunnel",
                "Tunnel closed gracefully. Transferred 1024 bytes client->backend, \
                 2048 bytes backend->client",
            ]
        );
        for line in &about {
            assert_eq!(line["level"], "INFO", "{line}");
        }
        assert_eq!((&about[0]["route"], &about[3]["route"]), (&"app".into(), &"app".into()));
        assert_eq!(about[3]["reason"], "client_closed");
        assert_eq!(about[3]["client"], "127.0.0.1");
    }

    fn what_only_the_peers_may_know_is_not_in_the_log(driver) {
        let backend = Backend::scripted(exchange);
        let config = format!("[server.app]\nproxy_url = \"{}\"", backend.url());
        let mut proxy = Proxy::start_with(driver, &config, &[("RUST_LOG", "trace")]);
        run_tunnel(&proxy, "/ws?token=geheim");
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit(), 0);
        let told = proxy.logs().into_iter().filter(|line| line.contains("geheim"));
        assert_eq!(told.collect::<Vec<_>>(), Vec::<String>::new());
    }

    fn a_backend_that_refuses_is_told_with_side_and_cause(driver) {
        let refusing = Refusing::start();
        let config =
            format!("log_format = \"json\"\n[server.app]\nproxy_url = \"{}\"", refusing.url());
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        client.send(ws::ws_request("/ws", &[]));
        assert_eq!(client.read_response().status, 502);
        let sentence = format!("Failed to connect to backend {}: ", refusing.addr());
        let line = &parsed(&[proxy.wait_for_log(&sentence)])[0];
        assert_eq!((&line["level"], &line["side"]), (&"ERROR".into(), &"backend".into()), "{line}");
        assert!(line["message"].as_str().is_some_and(|m| m.contains("refused")), "{line}");
        assert_eq!(line["target"], TARGET);
    }

    fn a_reset_tunnel_is_told_with_its_side(driver) {
        let backend = Backend::scripted(|conn, _| {
            let head = conn.read_request_head();
            let key = head.field("Sec-WebSocket-Key").expect("a key").to_owned();
            conn.send(ws::switching_protocols(&key, &[]));
            conn.expect("now");
            conn.reset();
        });
        let config =
            format!("log_format = \"json\"\n[server.app]\nproxy_url = \"{}\"", backend.url());
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        client.send(ws::ws_request("/ws", &[]));
        assert_eq!(client.read_response().status, 101);
        client.send("now");
        client.expect_reset();
        let line = &parsed(&[proxy.wait_for_log("Tunnel error")])[0];
        assert_eq!((&line["level"], &line["side"]), (&"WARN".into(), &"backend".into()), "{line}");
        assert_eq!((&line["reason"], &line["target"]), (&"backend_reset".into(), &TARGET.into()));
    }

    fn every_line_is_json_when_that_is_the_format(driver) {
        let backend = Backend::recording();
        let config = format!(
            "log_format = \"json\"\nsurprise = 1\n[server.\"a\\\"b\"]\nproxy_url = \"{}\"",
            backend.url()
        );
        let mut proxy = Proxy::start_with(driver, &config, &[("RUST_LOG", "trace")]);
        assert_eq!(Client::connect(proxy.addr()).get("/\"q\"\\?a").text(), "ok");
        let mut bad = Client::connect(proxy.addr());
        bad.send("GET /\x01\" HTTP/1.1\r\n\r\n");
        assert_eq!(bad.read_response().status, 400);
        drop(bad);
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit(), 0);
        let lines = parsed(&proxy.logs());
        let levels: Vec<_> = lines.iter().filter_map(|line| line["level"].as_str()).collect();
        assert!(levels.contains(&"WARN") && levels.contains(&"INFO"), "{levels:?}");
        assert!(messages(&lines).iter().any(|message| message.starts_with("Loaded configuration")));
    }
}

#[test]
fn rust_log_silences_what_is_below_it() {
    let refusing = Refusing::start();
    let filter = "warn,phantom_frame::server=info";
    let launch = Launch::new().variable("RUST_LOG", filter);
    let mut proxy = launch.arguments(&["--backend", &refusing.url(), "--port", "0"]).start();
    let mut client = Client::connect(proxy.addr());
    client.send(ws::ws_request("/ws", &[]));
    assert_eq!(client.read_response().status, 502);
    drop(client);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit(), 0);
    let lines = proxy.logs();
    let about: Vec<_> = lines.iter().filter(|line| line.contains(TARGET)).collect();
    assert!(about.iter().any(|line| line.contains(" ERROR ")), "{lines:#?}");
    assert!(!about.iter().any(|line| line.contains(" INFO ")), "{about:#?}");
}

#[test]
fn a_malformed_rust_log_is_told_on_stderr_and_ignored() {
    let backend = Backend::recording();
    let launch = Launch::new().variable("RUST_LOG", "phantom_frame=loud");
    let proxy = launch.arguments(&["--backend", &backend.url(), "--port", "0"]).start();
    let told = proxy.wait_for_log("stderr: ");
    assert!(told.contains("RUST_LOG") && told.contains("ignored"), "{told}");
}

#[test]
fn at_warn_a_start_that_fails_says_only_why() {
    let backend = Backend::recording();
    let port = backend.addr().port().to_string();
    let launch = Launch::new()
        .variable("RUST_LOG", "warn")
        .file("config.toml", &format!("bind = \"127.0.0.1\"\nhttp_port = {port}\n[server.app]"));
    let output = launch.arguments(&["config.toml"]).output();
    assert_eq!(output.status.code(), Some(71));
    let lines = stdout(&output);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains(" ERROR ") && lines.contains(&format!("127.0.0.1:{port}")), "{lines}");
}

#[test]
fn without_a_terminal_there_are_no_colours() {
    let backend = Backend::recording();
    // Empty counts as not set, so this leaves the choice to the program.
    let launch = Launch::new().variable("NO_COLOR", "");
    let proxy = launch.arguments(&["--backend", &backend.url(), "--port", "0"]).start();
    assert!(!proxy.logs().iter().any(|line| line.contains('\x1b')), "{:#?}", proxy.logs());
}
