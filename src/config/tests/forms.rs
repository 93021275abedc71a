//! The two forms of a file, defaults, and how a file is read.

use super::*;

#[expect(clippy::disallowed_methods, reason = "a test prepares its files")]
fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
    std::fs::write(path, bytes)
}

const OLD: &str = r#"
[server]
proxy_port = 4000
control_port = 5000
control_auth = "token"
proxy_url = "http://localhost:9000"
enable_websocket = false
forward_get_only = true
cache_strategy = "none"
host_header = "backend"
upgrade_protocols = ["WebSocket", "h2c"]
"#;

#[test]
fn the_shortest_file_has_every_default() {
    let Loaded { config, warnings } = accept("[server.a]");
    assert_eq!(warnings, []);
    assert_eq!(config.binds, ["0.0.0.0".parse::<IpAddr>().unwrap()]);
    assert_eq!((config.http_port, config.control_port), (3000, 17809));
    assert_eq!(config.control_binds, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!((config.https_port, &config.control_auth), (None, &None));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.trusted_proxies, []);
    let runtime = Runtime {
        cores: Cores::All,
        pin: true,
        driver: DriverChoice::Auto,
        accept: Accept::Balanced,
        tunnel: TunnelEngine::Auto,
        tunnel_buffers: 256,
        tunnel_buffer_bytes: 16640,
        ring_entries: 4096,
    };
    assert_eq!(config.runtime, runtime);
    let secs = Duration::from_secs;
    let timeouts = Timeouts {
        head: secs(10),
        keepalive: secs(75),
        connect: secs(5),
        response_head: Some(secs(60)),
        body_idle: Some(secs(60)),
        tunnel_idle: Some(secs(3600)),
        tunnel_half_close: Some(secs(30)),
        tcp_keepalive: Some(secs(60)),
        tcp_user_timeout: Some(secs(120)),
    };
    assert_eq!(config.timeouts, timeouts);
    let limits = Limits {
        head_bytes_max: 32 * 1024,
        head_fields_max: 100,
        response_head_bytes_max: 32 * 1024,
        request_body_bytes_max: None,
        early_bytes_max: 256 * 1024,
        requests_per_connection_max: None,
        pipelined_requests_max: None,
        connections_max: None,
        tunnels_max: None,
        per_address: AddressLimits {
            connections_max: None,
            tunnels_max: None,
            accepts: None,
            upgrades: None,
            tracked_max: 65536,
        },
        pool_idle_max: 512,
        pool_idle_age: secs(60),
    };
    assert_eq!(config.limits, limits);
}

#[test]
fn a_route_has_the_defaults_of_the_original() {
    let route = accept("[server.a]").config.routes.remove(0);
    let expected = Route {
        name: "a".to_owned(),
        mount: Mount::Fallback,
        backend: BackendUrl::parse("http://localhost:8080").unwrap(),
        enable_websocket: true,
        upgrade_protocols: UpgradeProtocols::Any,
        source_addresses: Vec::new(),
        warm_connections: 0,
        host_header: HostHeader::Preserve,
        forward_get_only: false,
        proxy_mode: ProxyMode::Dynamic,
        cache: CacheRules {
            include_paths: Vec::new(),
            exclude_paths: Vec::new(),
            strategy: CacheStrategy::All,
            compress: CompressStrategy::Brotli,
            storage_mode: CacheStorageMode::Memory,
            directory: None,
            cache_404_capacity: 100,
            use_404_meta: false,
            respect: Respect::Rfc,
        },
        webhooks: Vec::new(),
        execute: None,
        execute_dir: None,
    };
    assert_eq!(route, expected);
}

#[test]
fn routes_keep_the_order_of_the_file() {
    let text = "[server.z]\nbind_to = '/z'\n[server.a]\n[server.m]\nbind_to = '/m'\n";
    let routes = accept(text).config.routes;
    let names: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn the_old_form_becomes_one_route() {
    let config = accept(OLD).config;
    assert_eq!((config.http_port, config.control_port), (4000, 5000));
    assert_eq!(config.control_auth.as_ref().map(Secret::expose), Some("token"));
    let [route] = &config.routes[..] else { panic!("one route") };
    assert_eq!((route.name.as_str(), &route.mount), ("default", &Mount::Fallback));
    assert_eq!(route.backend.authority, "localhost:9000");
    assert!(!route.enable_websocket && route.forward_get_only);
    assert_eq!(route.host_header, HostHeader::Backend);
    let protocols = vec!["h2c".to_owned(), "websocket".to_owned()];
    assert_eq!(route.upgrade_protocols, UpgradeProtocols::Only(protocols));
}

#[test]
fn the_old_form_takes_the_new_root_keys_and_tables() {
    let text = "http_port = 81\nlog_format = 'json'\n[runtime]\npin = false\n[server]\n\
                proxy_url = 'http://h'\n";
    let config = accept(text).config;
    assert_eq!((config.http_port, config.log_format), (81, LogFormat::Json));
    assert!(!config.runtime.pin);
    assert_eq!(accept("http_port = 81\n[server]\nproxy_port = 81").config.http_port, 81);
    assert_eq!(accept("[server]\nproxy_port = 0").config.http_port, 0);
    let ports = accept("control_port = 7\n[server]\nproxy_port = 0").config;
    assert_eq!(ports.control_port, 7);
}

#[test]
fn a_value_said_twice_must_be_the_same() {
    assert_faults(
        "http_port = 80\ncontrol_port = 1\ncontrol_auth = 'a'\n[server]\nproxy_port = 81\n\
         control_port = 2\ncontrol_auth = 'b'\n",
        &[
            "line 5: server.proxy_port: differs from the root key `http_port`; remove one",
            "line 6: server.control_port: differs from the root key `control_port`",
            "line 7: server.control_auth: differs from the root key `control_auth`",
        ],
    );
}

#[test]
fn plain_keys_beside_named_blocks_are_faults() {
    assert_faults(
        "[server]\nproxy_url = 'http://h'\nenable_websocket = \
            true\n[server.api]\nbind_to = 'x'\n",
        &[
            "line 2: server.proxy_url: a plain key beside the block `[server.api]`; move",
            "line 3: server.enable_websocket: a plain key beside the block `[server.api]`",
            "line 5: server.api.bind_to: a prefix begins with `/`",
        ],
    );
}

#[test]
fn a_file_needs_a_route() {
    assert_faults("", &["server: missing field `server`; try `[server.default]`"]);
    assert_faults("[sever.a]", &["server: missing field `server`; did you mean"]);
    assert_faults(
        "\n[server]",
        &["line 2: server: at least one `[server.NAME]` block is required"],
    );
    assert_faults("server = {}", &["line 1: server: at least one `[server.NAME]` block"]);
    assert_faults("server = 1", &["line 1: server: expected a table, found the number 1"]);
    assert_faults("[[server]]", &["line 1: server: expected a table, found a list"]);
}

#[test]
fn a_list_of_tables_is_not_a_route() {
    assert_faults(
        "[[server.api]]\nproxy_url = 'http://h'\n",
        &["line 1: server.api: a list of tables is not a route; write `[server.api]`"],
    );
    assert_faults(
        "[server]\nproxy_port = 1\n[[server.webhooks]]\nurl = 'http://h'\n",
        &["line 3: server.webhooks: the old form has no webhooks; turn `[server]` into"],
    );
}

#[test]
fn a_backend_alone_makes_a_configuration() {
    let config = Config::for_backend("http://h:81/base").unwrap();
    assert_eq!(config.routes[0].name, "default");
    assert_eq!(config.routes[0].backend.to_string(), "http://h:81/base");
    let mut same = accept("[server.default]\nproxy_url = 'http://h:81/base'\n").config;
    // Nobody has named a port for a control endpoint.
    same.control_binds.clear();
    assert_eq!(config, same);
    same.http_port = 1;
    assert_ne!(config, same);
    for url in ["", "h:81", "https://h", "$env:URL"] {
        let Faults(faults) = Config::for_backend(url).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!((faults[0].key.as_str(), faults[0].line), ("proxy_url", None));
    }
}

#[test]
fn a_secret_is_not_shown() {
    let config = accept("control_auth = 'hunter2'\n[server.a]").config;
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_file_is_loaded_with_its_dotenv() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let env = at("my.env");
    write(&env, "BACKEND_OF_A_TEST=http://h:81\nPATH=never\n").unwrap();
    let text = format!(
        "dotenv = '{}'\n[server.a]\nproxy_url = '$env:BACKEND_OF_A_TEST'\n\
         [server.b]\nbind_to = '/b'\nexecute = '$env:PATH'\n",
        env.display()
    );
    write(at("config.toml"), text).unwrap();
    let routes = load(&at("config.toml"), true).unwrap().config.routes;
    assert_eq!(routes[0].backend.authority, "h:81");
    let path = routes[1].execute.as_deref();
    assert!(path.is_some() && path != Some("never"), "the process wins: {path:?}");
}

#[test]
fn the_dotenv_of_the_current_directory_may_be_absent() {
    assert!(!Path::new(".env").exists(), "tests run where there is none");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    write(&file, "dotenv = true\n[server.a]\n").unwrap();
    assert_eq!(load(&file, true).unwrap().warnings, []);
}

#[test]
fn what_cannot_be_read_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let Faults(faults) = load(&at("absent.toml"), false).unwrap_err();
    assert!(faults[0].to_string().starts_with("cannot be read: "), "{faults:?}");
    let Faults(faults) = load(Path::new("/dev/zero"), false).unwrap_err();
    assert!(faults[0].message.contains("larger than 4 MiB"), "{faults:?}");
    write(at("latin1.toml"), b"# \xe9\n").unwrap();
    assert!(load(&at("latin1.toml"), false).is_err());

    for (env, expected) in [
        (None, "line 1: dotenv: failed to load .env from `"),
        (Some("A=1\nnonsense\n"), "line 1: dotenv: failed to load .env from `"),
    ] {
        if let Some(env) = env {
            write(at("my.env"), env).unwrap();
        }
        let text = format!("dotenv = '{}'\n[server.a]\n", at("my.env").display());
        write(at("config.toml"), text).unwrap();
        let Faults(faults) = load(&at("config.toml"), false).unwrap_err();
        assert!(faults[0].to_string().starts_with(expected), "{faults:?}");
        assert_eq!(faults.len(), 1);
    }
}
