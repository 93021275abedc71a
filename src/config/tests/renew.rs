//! What becomes of a running configuration when another one takes its place.

use super::*;
use crate::config::schema::{KEYS, Place};

fn config(text: &str) -> Config {
    accept(text).config
}

fn renewed(running: &str, wanted: &str) -> Renewal {
    config(running).renew(config(wanted)).unwrap()
}

#[test]
fn routes_keep_their_places_for_ever() {
    let first = renewed(
        "[server.a]\nbind_to = '/a'\n[server.b]\nbind_to = '/b'\n",
        "[server.new]\n[server.b]\nbind_to = '/bb'\n",
    );
    let places = |config: &Config| -> Vec<(String, String)> {
        let place = |route: &Route| (route.name.clone(), route.mount.to_string());
        config.routes.iter().map(place).collect()
    };
    let expect = |config: &Config, expected: &[(&str, &str)]| {
        let found = places(config);
        let found: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(found, expected);
    };
    expect(&first.config, &[("a", "(gone)"), ("b", "/bb"), ("new", "*")]);
    let changed = RouteChange::Changed { is_other: false };
    assert_eq!(first.routes, [(0, RouteChange::Removed), (1, changed), (2, RouteChange::Added)]);
    assert_eq!(route::select(&first.config.routes, b"/a"), Some((2, &b"/a"[..])));
    // What is gone stays gone without a word, and comes back to its place.
    let second = first.config.renew(config("[server.new]\n")).unwrap();
    assert_eq!(second.routes, [(1, RouteChange::Removed)]);
    let third = second.config.renew(config("[server.a]\n")).unwrap();
    expect(&third.config, &[("a", "*"), ("b", "(gone)"), ("new", "(gone)")]);
    assert_eq!(third.routes, [(0, RouteChange::Added), (2, RouteChange::Removed)]);
}

#[test]
fn what_is_stored_goes_when_it_came_from_elsewhere_or_by_other_rules() {
    for (key, is_other) in [
        ("proxy_url = 'http://other'", true),
        ("proxy_url = 'http://localhost:8080/base'", true),
        ("host_header = 'backend'", true),
        ("respect = 'always'", true),
        ("use_404_meta = true", true),
        ("include_paths = ['/x']", false),
        ("enable_websocket = false", false),
        ("bind_to = '/x'", false),
    ] {
        let renewal = renewed("[server.a]\n", &format!("[server.a]\n{key}\n"));
        assert_eq!(renewal.routes, [(0, RouteChange::Changed { is_other })], "{key}");
    }
    assert_eq!(renewed("[server.a]\n", "[server.a]\n").routes, []);
}

#[test]
fn the_keys_that_need_a_restart_are_those_of_the_key_table() {
    let running = "http_port = 1\n[server.a]\n[runtime]\ncores = 1\n";
    let everything = "http_port = 2\nbind = '::'\ncontrol_port = 1\ncontrol_bind = '127.0.0.2'\n\
        log_format = 'json'\nlog_level = 'warn'\ndrain_timeout = 1\ntrusted_proxies = ['10.0.0.1']\n\
        [server.a]\n[runtime]\ncores = 2\npin = false\ndriver = 'epoll'\naccept = 'kernel'\n\
        tunnel = 'pump'\ntunnel_buffers = 4\ntunnel_buffer_bytes = 1024\nring_entries = 64\n\
        [cache]\nmax_bytes = 100000\nmax_entry_bytes = 2000\nmax_file_bytes = 100000\n\
        [limits]\nhead_fields = 3\n[timeouts]\nhead = 1\n";
    let renewal = renewed(running, everything);
    let mut expected: Vec<String> = Vec::new();
    for key in KEYS.iter().filter(|key| key.needs_restart) {
        let table = key.place.header().trim_matches(['[', ']']);
        let is_root = key.place == Place::Root;
        expected.push(if is_root { key.name.to_owned() } else { format!("{table}.{}", key.name) });
    }
    let mut found: Vec<String> = renewal.needs_restart.iter().map(ToString::to_string).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    // They stay, and everything else is as wanted.
    let kept = config(running);
    let expected = Config {
        binds: kept.binds,
        http_port: kept.http_port,
        control_port: kept.control_port,
        control_binds: kept.control_binds,
        log_format: kept.log_format,
        runtime: kept.runtime,
        cache: Cache { file_bytes_max: kept.cache.file_bytes_max, ..config(everything).cache },
        ..config(everything)
    };
    assert_eq!(renewal.config, expected);
}

#[test]
fn an_endpoint_that_stays_where_others_reach_it_keeps_its_token() {
    let open = config("control_bind = '0.0.0.0'\ncontrol_auth = 'secret'\n[server.a]\n");
    let fault = open.renew(config("[server.a]\n")).unwrap_err().to_string();
    assert!(fault.starts_with("control_auth: other hosts could reach"), "{fault}");
}
