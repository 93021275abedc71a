//! Everything a file can get wrong, with its line, and what a user is warned about.

use super::*;

#[test]
fn a_value_of_another_type_is_refused() {
    for (text, expected) in [
        (
            "http_port = '3000'",
            "http_port: expected a number from 0 to 65535, found the string \"3000\"; \
                try `3000` without quotes",
        ),
        (
            "http_port = 'x'",
            "http_port: expected a number from 0 to 65535, found the \
            string \"x\"",
        ),
        ("http_port = 1.5", "http_port: expected a number from 0 to 65535, found the number 1.5"),
        ("http_port = true", "http_port: expected a number from 0 to 65535, found `true`"),
        ("http_port = []", "http_port: expected a number from 0 to 65535, found a list"),
        ("http_port = 2024-01-01", "http_port: expected a number from 0 to 65535, found a date"),
        ("http_port = {}", "http_port: expected a number from 0 to 65535, found a table"),
        (
            "drain_timeout = 1.5",
            "drain_timeout: expected a duration such as `\"10s\"` (0 = at once), found \
                the number 1.5",
        ),
        ("drain_timeout = '10 s'", "drain_timeout: \"10 s\" is not a duration; try"),
        ("control_auth = 1", "control_auth: expected a string, found the number 1"),
        ("control_auth = ''", "control_auth: expected a string, found an empty string; remove"),
        ("dotenv = 1", "dotenv: expected `true`, `false` or a path, found the number 1"),
        ("bind = 1", "bind: expected an IP address or a list of them, found the number 1"),
        ("bind = []", "bind: an empty list: there would be nothing to listen on; try"),
        ("bind = 'localhost'", "bind: \"localhost\" is not an IP address; try `\"127.0.0.1\"`"),
        ("bind = '0.0.0.0:80'", "bind: \"0.0.0.0:80\" is not an IP address; leave the port out"),
        ("bind = ['::1', '::1']", "bind: the address ::1 stands there twice"),
        ("bind = ['::1', '[::1]']", "bind: the address ::1 stands there twice"),
        ("bind = ['x']", "bind[0]: \"x\" is not an IP address"),
        ("bind = [1]", "bind[0]: expected a string, found the number 1"),
        (
            "trusted_proxies = '10.0.0.0/8'",
            "trusted_proxies: expected a list of IP addresses and networks",
        ),
        ("trusted_proxies = ['10.0.0.0/33']", "trusted_proxies[0]: \"10.0.0.0/33\" is neither"),
        (
            "log_format = 'jsn'",
            "log_format: expected one of `\"text\"`, `\"json\"`, found the string \
                \"jsn\"; did you mean `\"json\"`?",
        ),
        ("runtime = 1", "runtime: expected a table, found the number 1"),
        ("https_port = 443", "cert_path: `cert_path` is required when `https_port` is set"),
    ] {
        let found = refuse(&format!("{text}\n[server.a]"));
        assert!(found[0].starts_with(&format!("line 1: {expected}")), "{text}: {found:?}");
    }
    for (text, expected) in [
        (
            "[runtime]\npin = 'true'",
            "runtime.pin: expected `true` or `false`, found the string \"true\"; try \
                `true` without quotes",
        ),
        ("[runtime]\npin = 1", "runtime.pin: expected `true` or `false`, found the number 1"),
        ("[runtime]\ncores = 'some'", "runtime.cores: expected `\"all\"`, a number of cores"),
        ("[runtime]\ncores = []", "runtime.cores: an empty list"),
        ("[runtime]\ncores = [0, 0]", "runtime.cores: the CPU 0 stands there twice"),
        ("[runtime]\ncores = [-1]", "runtime.cores[0]: expected a CPU id"),
        (
            "[runtime]\ndriver = 'uring'",
            "runtime.driver: expected one of `\"auto\"`, `\"io_uring\"`, `\"epoll\"`, \
                found the string \"uring\"; did you mean `\"io_uring\"`?",
        ),
        ("[limits]\nhead_bytes = '32KB'", "limits.head_bytes: \"32KB\" is not a size in bytes"),
    ] {
        let found = refuse(&format!("{text}\n[server.a]"));
        assert!(found[0].starts_with(&format!("line 2: {expected}")), "{text}: {found:?}");
    }
}

#[test]
fn a_faulty_route_is_refused() {
    for (text, expected) in [
        (
            "proxy_url = 'https://h'",
            "proxy_url: TLS to backends is not available in \
            this version",
        ),
        ("proxy_url = 'localhost:80'", "proxy_url: not a URL: `http://` is missing; try"),
        ("proxy_url = 'http://u:p@h'", "proxy_url: a user name or password"),
        ("proxy_url = 'http://h?q'", "proxy_url: a backend URL has no query"),
        ("proxy_url = ''", "proxy_url: expected an `http://` URL, found an empty string"),
        ("bind_to = 'api'", "bind_to: a prefix begins with `/`; try"),
        ("bind_to = ''", "bind_to: an empty prefix"),
        ("bind_to = '/a//b'", "bind_to: a prefix has no empty segment"),
        ("enable_websocket = 'yes'", "enable_websocket: expected `true` or `false`"),
        (
            "upgrade_protocols = 'websocket'",
            "upgrade_protocols: expected `\"any\"` or a list of protocol names, found \
                the string \"websocket\"; try `\"any\"` or `[\"websocket\"]`",
        ),
        (
            "upgrade_protocols = []",
            "upgrade_protocols: an empty list: no request could upgrade; try \
                `enable_websocket = false`",
        ),
        ("upgrade_protocols = ['web socket']", "upgrade_protocols[0]: \"web socket\" is not"),
        ("upgrade_protocols = ['']", "upgrade_protocols[0]: expected a string, found an empty"),
        ("host_header = 'a b'", "host_header: the host is neither a name nor an address; try"),
        ("host_header = 'http://h'", "host_header: "),
        (
            "proxy_mode = 'static'",
            "proxy_mode: expected one of `\"dynamic\"`, \
            `\"pre_generate\"`",
        ),
        ("cache_strategy = 'html'", "cache_strategy: expected one of"),
        ("cache_404_capacity = -1", "cache_404_capacity: expected a number from 0"),
        ("include_paths = '/a'", "include_paths: expected a list of strings"),
        ("include_paths = [1]", "include_paths[0]: expected a string"),
        ("webhooks = 1", "webhooks: expected an array of tables, found the number 1"),
        ("webhooks = [1]", "webhooks: expected a table, found the number 1"),
        ("webhooks = [{ type = 'notify' }]", "webhooks[0].url: missing field `url`"),
        ("webhooks = [{ url = 'h' }]", "webhooks[0].url: not an `http://` or `https://` URL"),
        (
            "webhooks = [{ url = 'http://h', type = 'block' \
            }]",
            "webhooks[0].type: expected one of",
        ),
        ("webhooks = [{ url = 'http://h', timeout_ms = 0 }]", "webhooks[0].timeout_ms: expected"),
    ] {
        let expected = format!("line 2: server.a.{expected}");
        assert_faults(&format!("[server.a]\n{text}"), &[&expected]);
    }
}

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_file() {
    assert_faults(
        "http_port = 'x'\nbind = [\n  'a',\n  '::1',\n  'b',\n]\n[server.b]\nproxy_url = 'x'\n\
         bind_to = 'x'\n[timeouts]\nhead = 0\n[server.a]\nproxy_url = 'https://h'\n",
        &[
            "line 1: http_port: ",
            "line 3: bind[0]: ",
            "line 5: bind[2]: ",
            "line 8: server.b.proxy_url: ",
            "line 9: server.b.bind_to: ",
            "line 11: timeouts.head: ",
            "line 13: server.a.proxy_url: ",
        ],
    );
}

#[test]
fn a_breach_of_the_grammar_is_the_only_fault() {
    assert_faults("http_port = 'x'\n[server.a\n", &["line 2: not valid TOML: "]);
    assert_faults("[server.a]\n[server.a]\n", &["line 2: not valid TOML: duplicate key"]);
}

#[test]
fn two_routes_cannot_have_one_mount() {
    assert_faults(
        "[server.a]\nbind_to = '/x'\n[server.b]\nbind_to = '/x/'\n",
        &["line 4: server.b.bind_to: the prefix `/x` is that of `server.a.bind_to` \
            (line 2); give"],
    );
    assert_faults(
        "[server.a]\nbind_to = '/'\n[server.b]\nbind_to = '*'\n[server.c]\n",
        &[
            "line 4: server.b.bind_to: a second fallback: `server.a.bind_to` (line 2) takes",
            "line 5: server.c.bind_to: a second fallback: `server.a.bind_to` (line 2) takes",
        ],
    );
    // A mount that is wrong is not compared with the default that stands in for it.
    assert_faults("[server.a]\nbind_to = 'x'\n[server.b]\n", &["line 2: server.a.bind_to: "]);
}

#[test]
fn tls_needs_both_of_its_files() {
    assert_faults(
        "https_port = 443\n[server.a]",
        &[
            "line 1: cert_path: `cert_path` is required when `https_port` is set",
            "line 1: key_path: `key_path` is required when `https_port` is set",
        ],
    );
    assert_faults("https_port = 443\ncert_path = 'c'\n[server.a]", &["line 1: key_path: `key_"]);
    let both = "cert_path = 'c'\nkey_path = 'k'\n[server.a]";
    assert_eq!(accept(&format!("https_port = 443\n{both}")).config.https_port, Some(443));
    assert_faults(
        &format!("http_port = 443\nhttps_port = 443\n{both}"),
        &["line 2: https_port: the port of `http_port`; give it another"],
    );
}

#[test]
fn an_unknown_key_is_a_warning_and_a_fault_when_strict() {
    for (text, expected) in [
        (
            "http_prot = 1\n[server.a]",
            "line 1: http_prot: unknown key; did you mean \
            `http_port`?",
        ),
        (
            "[server.a]\nproxy_ulr = 1",
            "line 2: server.a.proxy_ulr: unknown key; did you mean `proxy_url`?",
        ),
        (
            "[server]\nproxy_prot = 1",
            "line 2: server.proxy_prot: unknown key; did you mean `proxy_port`?",
        ),
        (
            "[timeouts]\nheads = 1\n[server.a]",
            "line 2: timeouts.heads: unknown key; did you mean `head`?",
        ),
        (
            "[timeout]\nhead = 1\n[server.a]",
            "line 1: timeout: unknown key; did you mean `timeouts`?",
        ),
        (
            "[runtime]\nzzzzzz = 1\n[server.a]",
            "line 2: runtime.zzzzzz: unknown key; the keys of [runtime] are `cores`, \
                `pin`, `driver`, `accept`, `tunnel`, \
                `tunnel_buffers`, `tunnel_buffer_bytes`, `ring_entries`",
        ),
        (
            "[server.a]\nhttp_port = 1",
            "line 2: server.a.http_port: unknown key; it belongs to the root of the file",
        ),
        ("head_bytes = 1\n[server.a]", "line 1: head_bytes: unknown key; it belongs to [limits]"),
        (
            "proxy_url = 1\n[server.a]",
            "line 1: proxy_url: unknown key; it belongs to [server.NAME]",
        ),
        (
            "proxy_port = 1\n[server.a]",
            "line 1: proxy_port: unknown key; its name is `http_port`, at the root of the file",
        ),
        (
            "[server]\nbind_to = '/a'",
            "line 2: server.bind_to: unknown key; the old form does not have it",
        ),
        (
            "\"a b\" = '$env:NONE'\n[server.a]",
            "line 1: \"a b\": unknown key; the keys of the root of the file are",
        ),
        (
            "[[server.a.webhooks]]\nurl = 'http://h'\ntimeout = 1",
            "line 3: server.a.webhooks[0].timeout: unknown key; did you mean `timeout_ms`?",
        ),
    ] {
        let found = warnings(text);
        assert!(found.iter().any(|found| found.starts_with(expected)), "{text}: {found:?}");
        let Faults(faults) = parse(text, true, &|_| None).unwrap_err();
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].to_string().starts_with(expected), "{text}: {faults:?}");
    }
}

#[test]
fn a_key_without_effect_is_a_warning() {
    for (text, key) in [
        ("https_port = 1\ncert_path = 'c'\nkey_path = 'k'", "https_port"),
        ("cert_path = 'c'", "cert_path"),
    ] {
        let found = warnings(&format!("{text}\n[server.a]"));
        assert!(found[0].starts_with(&format!("line 1: {key}: has no effect: ")), "{found:?}");
    }
    for text in [
        "proxy_mode = 'pre_generate'",
        "pre_generate_paths = ['/a']",
        "execute = 'x'",
        "execute_dir = 'x'",
        "webhooks = [{ url = 'http://h', type = 'blocking' }]",
    ] {
        let found = warnings(&format!("[server.a]\n{text}"));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let key = text.split(' ').next().unwrap();
        let expected = format!("line 2: server.a.{key}: has no effect: ");
        assert!(found[0].starts_with(&expected), "{found:?}");
        // A file that is checked strictly may hold them: they are keys.
        assert!(parse(&format!("[server.a]\n{text}"), true, &|_| None).is_ok());
    }
}

#[test]
fn a_control_endpoint_that_other_hosts_reach_needs_a_token() {
    let fault = "line 1: control_bind: other hosts could reach the control endpoint; set \
                 `control_auth` to a token, or bind to \"127.0.0.1\"";
    for bind in ["'0.0.0.0'", "'::'", "'192.0.2.1'", "['::1', '10.0.0.1']", "'::ffff:10.0.0.1'"] {
        let text = format!("control_bind = {bind}\n[server.a]");
        assert_faults(&text, &[fault]);
        let config = accept(&format!("control_auth = 'x'\n{text}")).config;
        assert!(!config.exposes_control(), "{bind}");
    }
    for bind in
        ["'127.0.0.1'", "'127.9.9.9'", "'::1'", "['127.0.0.1', '::1']", "'::ffff:127.0.0.1'"]
    {
        accept(&format!("control_bind = {bind}\n[server.a]"));
    }
    let old = "control_bind = '0.0.0.0'\n[server]\ncontrol_auth = 'x'";
    assert!(!accept(old).config.exposes_control());
    // One fault, not two: the token is there, only wrong.
    let wrong = "control_bind = '0.0.0.0'\ncontrol_auth = 5\n[server.a]";
    assert_faults(wrong, &["line 2: control_auth: expected a string"]);
}

#[test]
fn a_route_without_a_name_is_refused() {
    assert_faults("[server.\"\"]", &["line 1: server.\"\": a route without a name; give it one"]);
}

#[test]
fn a_control_port_that_is_another_port_is_refused() {
    assert_faults(
        "control_port = 3000\n[server.a]",
        &["line 1: control_port: the port of `http_port`; give it another"],
    );
    let both = "control_port = 7\nhttps_port = 7\ncert_path = 'c'\nkey_path = 'k'\n[server.a]";
    assert_faults(both, &["line 1: control_port: the port of `https_port`; give it another"]);
    accept("control_port = 0\nhttp_port = 0\n[server.a]");
}

#[test]
fn a_webhook_that_guards_nothing_is_said_to_guard_nothing() {
    let found = warnings(
        "[server.a]\n[[server.a.webhooks]]\nurl = 'http://h'\ntype = \
        'blocking'",
    );
    assert!(found[0].contains("a blocking webhook does NOT guard the route"), "{found:?}");
}

#[test]
fn what_asks_for_nothing_needs_no_warning() {
    let text = "[server.a]\ncache_strategy = 'none'\ninclude_paths = []\nexclude_paths = []\n\
                compress_strategy = 'none'\ncache_404_capacity = 0\nuse_404_meta = false\n\
                proxy_mode = 'dynamic'\npre_generate_paths = []\nwebhooks = []\n\
                pre_generate_fallthrough = true\n";
    assert_eq!(warnings(text), [""; 0]);
}

#[test]
fn a_burst_without_a_rate_is_refused() {
    for (rate, burst) in [
        ("accept_rate_per_address", "accept_burst_per_address"),
        ("upgrade_rate_per_address", "upgrade_burst_per_address"),
    ] {
        let faults = refuse(&format!("[limits]\n{burst} = 5\n[server.a]"));
        assert_eq!(faults.len(), 1, "{faults:?}");
        let told = format!("line 2: limits.{burst}: without `{rate}` there is nothing to exceed");
        assert!(faults[0].starts_with(&told), "{faults:?}");
        // A rate that is wrong is one fault.
        let faults = refuse(&format!("[limits]\n{burst} = 5\n{rate} = 0\n[server.a]"));
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}
