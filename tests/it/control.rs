//! The control endpoint: every route and its answers, the token, health, and what purges promise.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::control::{JSON, get, post, post_json};
use crate::support::launch::stderr;
use crate::support::tunnel::{self, open};
use crate::support::{Backend, Client, Driver, Launch, Proxy, Response, eventually};

const BULK_SNAPSHOTS: [&str; 3] =
    ["/bulk_add_snapshot", "/bulk_refresh_snapshot", "/bulk_remove_snapshot"];

const SNAPSHOTS: [&str; 3] = ["/add_snapshot", "/refresh_snapshot", "/remove_snapshot"];

const NO_SNAPSHOTS: &str =
    "No servers running in PreGenerate mode — snapshot operations are not available";

const NOT_PRE_GENERATE: &str = "Snapshot operations are only available in PreGenerate proxy mode";

/// Two routes, `app` and `rest`, to a backend that nobody asks anything.
fn start(driver: Driver, more: &str) -> Proxy {
    let config = format!(
        "{more}\n[server.app]\nbind_to = \"/app\"\nproxy_url = \"http://127.0.0.1:1\"\n\
         [server.rest]\nproxy_url = \"http://127.0.0.1:1\""
    );
    Proxy::start(driver, &config)
}

fn told(response: &Response) -> (u16, &str) {
    (response.status, response.text())
}

on_both_drivers! {
    fn a_purge_is_answered_in_the_originals_words(driver) {
        let proxy = start(driver, "");
        let mut client = Client::connect(proxy.control_addr());
        assert_eq!(told(&post(&mut client, "/invalidate_all")), (200, "Cache invalidated"));
        assert_eq!(told(&post(&mut client, "/refresh-cache")), (200, "Cache refresh triggered"));
        for body in ["{\"pattern\":\"GET:/a*\"}", "{\"pattern\":\"*\",\"server\":\"app\"}"] {
            let answer = post_json(&mut client, "/invalidate", body);
            assert_eq!(told(&answer), (200, "Pattern invalidation triggered"));
            assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
        }
        let body = "{\"patterns\":[\"GET:/q/*\",\"*\"],\"server\":\"rest\"}";
        let answer = post_json(&mut client, "/bulk_invalidate", body);
        assert_eq!(answer.field("content-type"), Some("application/json"));
        let summary = r#"{"operation":"bulk_invalidate","server":"rest","requested":2,"succeeded":2,"failed":0,"results":[{"item":"GET:/q/*","success":true,"error":null},{"item":"*","success":true,"error":null}]}"#;
        assert_eq!(told(&answer), (200, summary));
        let answer = post_json(&mut client, "/bulk_invalidate", "{\"patterns\":[\"a\"]}");
        let summary: Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!((&summary["server"], &summary["succeeded"]), (&Value::Null, &1.into()));
        for line in [
            "INFO phantom_frame::control: invalidate_all triggered via control endpoint (2 server(s))",
            "invalidate('GET:/a*') triggered via control endpoint (server=None)",
            "invalidate('*') triggered via control endpoint (server=Some(\"app\"))",
            "bulk_invalidate(count=2) triggered via control endpoint (server=Some(\"rest\"))",
        ] {
            proxy.wait_for_log(line);
        }
    }

    fn hundreds_of_purges_at_once_all_reach_every_worker(driver) {
        let proxy = start(driver, "");
        let addr = proxy.control_addr();
        // More connections than are served at a time, several purges on each without waiting.
        let senders: Vec<_> = (0..80).map(|sender| std::thread::spawn(move || {
            let mut client = Client::connect(addr);
            let body = format!("{{\"pattern\":\"GET:/{sender}/*\"}}");
            let request = format!(
                "POST /invalidate HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON}\r\n\
                 Content-Length: {}\r\n\r\n{body}", body.len());
            for _ in 0..5 {
                client.send(&request);
            }
            (0..5).filter(|_| client.read_response().status == 200).count()
        })).collect();
        let answered: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(answered, 400);
        let mut client = Client::connect(addr);
        let metrics = get(&mut client, "/metrics");
        assert!(metrics.text().contains("\nphantom_frame_purges_total 400\n"), "{}", metrics.text());
    }

    fn readiness_ends_with_the_drain_and_the_endpoint_with_the_process(driver) {
        let backend = Backend::scripted(|conn, _| {
            tunnel::accept(conn);
            tunnel::echo(conn);
        });
        let config = format!(
            "drain_timeout = \"1h\"\n{}{}",
            tunnel::route_to(&backend.url()),
            tunnel::one_worker(driver)
        );
        let mut proxy = Proxy::start(driver, &config);
        let mut control = Client::connect(proxy.control_addr());
        eventually("it is ready", || told(&get(&mut control, "/readyz")) == (200, "ready"));
        let mut tunnel = open(&proxy);
        proxy.signal(Signal::TERM);
        proxy.wait_for_log("Draining");
        assert_eq!(told(&get(&mut control, "/readyz")), (503, "draining"));
        assert_eq!(told(&get(&mut control, "/healthz")), (200, "ok"));
        assert_eq!(told(&post(&mut control, "/invalidate_all")), (200, "Cache invalidated"));
        // New connections too.
        let mut late = Client::connect(proxy.control_addr());
        assert_eq!(told(&get(&mut late, "/readyz")), (503, "draining"));
        tunnel.send("x");
        tunnel.expect("x");
        tunnel.shutdown_write();
        tunnel.expect_eof();
        control.expect_closed();
        late.expect_closed();
        assert_eq!(proxy.wait_exit(), 0);
    }
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let proxy = start(Driver::Epoll, "control_auth = \"geheim\"");
    let mut client = Client::connect(proxy.control_addr());
    for path in ["/", "/invalidate_all/", "/Metrics", "/favicon.ico"] {
        assert_eq!(told(&get(&mut client, path)), (404, ""), "{path}");
        assert_eq!(told(&post(&mut client, path)), (404, ""), "{path}");
    }
    let others = ["/invalidate_all", "/invalidate", "/bulk_invalidate", "/refresh-cache"];
    let paths = others.iter().chain(&SNAPSHOTS).chain(&BULK_SNAPSHOTS);
    for path in paths.chain(&["/refresh_all_snapshots"]) {
        let answer = get(&mut client, path);
        assert_eq!(told(&answer), (405, ""), "{path}");
        assert_eq!(answer.field("allow"), Some("POST"), "{path}");
        assert_eq!(answer.field("content-type"), None);
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = post(&mut client, path);
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{path}");
    }
}

#[test]
fn a_body_that_cannot_be_used_is_refused_as_it_always_was() {
    let proxy = start(Driver::Epoll, "");
    let mut client = Client::connect(proxy.control_addr());
    let mut paths = vec!["/invalidate", "/bulk_invalidate"];
    paths.extend(SNAPSHOTS.iter().chain(&BULK_SNAPSHOTS));
    for path in paths {
        let unsupported = (415, "Expected request with `Content-Type: application/json`");
        assert_eq!(told(&post(&mut client, path)), unsupported, "{path}");
        for (body, status, start) in [
            ("{", 400, "Failed to parse the request body as JSON: "),
            ("", 400, "Failed to parse the request body as JSON: "),
            ("{}", 422, "Failed to deserialize the JSON body into the target type: missing field"),
            ("7", 422, "Failed to deserialize the JSON body into the target type: "),
        ] {
            let answer = post_json(&mut client, path, body);
            assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
            assert!(answer.text().starts_with(start), "{path} {body}: {}", answer.text());
        }
    }
    let answer = post_json(&mut client, "/bulk_invalidate", "{\"patterns\":[]}");
    assert_eq!(told(&answer), (400, "'patterns' must contain at least one item"));
    for path in BULK_SNAPSHOTS {
        let answer = post_json(&mut client, path, "{\"paths\":[]}");
        assert_eq!(told(&answer), (400, "'paths' must contain at least one item"), "{path}");
    }
}

#[test]
fn an_unknown_server_is_named() {
    let proxy = start(Driver::Epoll, "");
    let mut client = Client::connect(proxy.control_addr());
    for (path, wish) in [
        ("/invalidate", "\"pattern\":\"*\""),
        ("/bulk_invalidate", "\"patterns\":[\"*\"]"),
        ("/add_snapshot", "\"path\":\"/\""),
        ("/bulk_remove_snapshot", "\"paths\":[\"/\"]"),
        ("/refresh_all_snapshots", "\"a\":1"),
    ] {
        let answer = post_json(&mut client, path, &format!("{{{wish},\"server\":\"nope\"}}"));
        assert_eq!(told(&answer), (404, "No server named 'nope' found"), "{path}");
    }
}

#[test]
fn snapshots_are_not_available() {
    let proxy = start(Driver::Epoll, "");
    let mut client = Client::connect(proxy.control_addr());
    for path in SNAPSHOTS {
        let answer = post_json(&mut client, path, "{\"path\":\"/\"}");
        assert_eq!(told(&answer), (400, NO_SNAPSHOTS), "{path}");
        let answer = post_json(&mut client, path, "{\"path\":\"/\",\"server\":\"app\"}");
        assert_eq!(told(&answer), (400, NOT_PRE_GENERATE), "{path}");
    }
    assert_eq!(told(&post(&mut client, "/refresh_all_snapshots")), (400, NO_SNAPSHOTS));
    let answer = post_json(&mut client, "/refresh_all_snapshots", "{}");
    assert_eq!(told(&answer), (400, NO_SNAPSHOTS));
    let answer = post_json(&mut client, "/refresh_all_snapshots", "{\"server\":\"app\"}");
    assert_eq!(told(&answer), (400, NOT_PRE_GENERATE));
    for path in BULK_SNAPSHOTS {
        let answer = post_json(&mut client, path, "{\"paths\":[\"/\"]}");
        assert_eq!(told(&answer), (400, NO_SNAPSHOTS), "{path}");
        let answer = post_json(&mut client, path, "{\"paths\":[\"/a\",\"/b\"],\"server\":\"app\"}");
        let operation = path.trim_start_matches('/');
        let summary = format!(
            "{{\"operation\":\"{operation}\",\"server\":\"app\",\"requested\":2,\"succeeded\":0,\
             \"failed\":2,\"results\":[\
             {{\"item\":\"/a\",\"success\":false,\"error\":\"{NOT_PRE_GENERATE}\"}},\
             {{\"item\":\"/b\",\"success\":false,\"error\":\"{NOT_PRE_GENERATE}\"}}]}}"
        );
        assert_eq!(told(&answer), (200, &*summary), "{path}");
    }
}

#[test]
fn a_token_is_asked_for_before_anything_else_of_the_request() {
    let proxy = start(Driver::Epoll, "control_auth = \"geheim\"");
    let addr = proxy.control_addr();
    let ask = |request: &str| {
        let mut client = Client::connect(addr);
        client.send(request);
        client.read_response()
    };
    for (line, status) in [
        ("", 401),
        ("Authorization: geheim\r\n", 401),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Bearer geheim!\r\n", 401),
        ("Authorization: Bearer geheim\r\nAuthorization: Bearer geheim\r\n", 401),
        ("Authorization: Bearer geheim\r\n", 200),
    ] {
        for request in ["POST /invalidate_all", "POST /refresh-cache", "GET /metrics"] {
            let answer = ask(&format!("{request} HTTP/1.1\r\nHost: a\r\n{line}\r\n"));
            assert_eq!(answer.status, status, "{request} with {line:?}");
            assert!(status == 200 || answer.body.is_empty(), "{answer:?}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).status, 200, "{path}");
    }
    // Neither its media type nor its length matters, nor does anybody wait for it.
    let answer = ask("POST /invalidate HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n");
    assert_eq!(told(&answer), (401, ""));
    assert_eq!(answer.field("connection"), Some("close"), "its body was not read");
    proxy.wait_for_log("WARN phantom_frame::control: Unauthorized control endpoint attempt");
    let lines = proxy.logs().into_iter().filter(|line| line.contains("Unauthorized")).count();
    assert!(lines < 8, "{lines} lines about 16 attempts");
    assert!(!proxy.logs().iter().any(|line| line.contains("geheim")), "{:#?}", proxy.logs());
}

#[test]
fn the_old_form_has_a_control_endpoint_too() {
    let config = "[server]\nproxy_port = 0\ncontrol_port = 0\ncontrol_auth = \"t\"\n\
                  proxy_url = \"http://127.0.0.1:1\"";
    let proxy = Proxy::start(Driver::Epoll, config);
    let mut client = Client::connect(proxy.control_addr());
    client.send("POST /refresh-cache HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n");
    assert_eq!(told(&client.read_response()), (200, "Cache refresh triggered"));
    assert_eq!(told(&post(&mut client, "/refresh-cache")), (401, ""));
}

#[test]
fn other_hosts_get_in_with_a_token_only() {
    let route = "\n[server.a]\nproxy_url = \"http://127.0.0.1:1\"";
    for bind in ["\"0.0.0.0\"", "\"::\"", "[\"127.0.0.1\", \"192.0.2.1\"]"] {
        let config = format!("control_bind = {bind}{route}");
        let output = Launch::new().file("a.toml", &config).arguments(&["-t", "a.toml"]).output();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{bind}: {said}");
        for part in ["line 1: control_bind: ", "other hosts", "`control_auth`", "127.0.0.1"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let config = format!("control_auth = \"t\"\n{config}");
        let output = Launch::new().file("a.toml", &config).arguments(&["-t", "a.toml"]).output();
        assert_eq!(output.status.code(), Some(0), "{bind}: {}", stderr(&output));
    }
    let config = format!("control_bind = [\"127.0.0.2\", \"::1\"]{route}");
    let output = Launch::new().file("a.toml", &config).arguments(&["-t", "a.toml"]).output();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn it_listens_on_each_of_its_addresses() {
    let proxy = start(Driver::Epoll, "control_bind = [\"127.0.0.1\", \"127.0.0.2\"]");
    let lines = proxy.wait_for_logs("Control server listening on ", 2);
    assert!(lines[0].contains(" 127.0.0.1:") && lines[1].contains(" 127.0.0.2:"), "{lines:?}");
}

#[test]
fn a_port_that_is_taken_is_named_at_the_start() {
    let backend = Backend::recording();
    let taken = backend.addr().port();
    let config = format!("control_port = {taken}\n[server.a]\nproxy_url = \"http://127.0.0.1:1\"");
    let output = Launch::new().config(Driver::Epoll, &config).output();
    assert_eq!(output.status.code(), Some(71));
    let said = stderr(&output);
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{taken}")), "{said}");
}

#[test]
fn without_a_file_there_is_no_control_endpoint() {
    let backend = Backend::recording();
    let proxy = Proxy::start_with_arguments(&["--backend", &backend.url(), "--port", "0"]);
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
    assert!(!proxy.logs().iter().any(|line| line.contains("ontrol")), "{:#?}", proxy.logs());
    assert!(!proxy.threads().contains(&"control".to_owned()), "{:?}", proxy.threads());
}
