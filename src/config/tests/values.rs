//! Values of every type, literal and from the environment.

use super::*;

/// Parses with an environment of one variable, `X`.
fn with_variable(text: &str, value: &str) -> Result<Config, Vec<String>> {
    let env = |name: &str| (name == "X").then(|| value.to_owned());
    match parse(text, true, &env) {
        Ok(loaded) => Ok(loaded.config),
        Err(Faults(faults)) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}

fn root(line: &str) -> Config {
    accept(&format!("{line}\n[server.a]")).config
}

fn route(line: &str) -> Route {
    accept(&format!("[server.a]\n{line}")).config.routes.remove(0)
}

#[test]
fn addresses_are_one_or_a_list() {
    for (text, expected) in [
        ("'127.0.0.1'", &["127.0.0.1"][..]),
        ("'::'", &["::"]),
        ("'[::1]'", &["::1"]),
        ("['0.0.0.0', '[::]']", &["0.0.0.0", "::"]),
    ] {
        let expected: Vec<IpAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(root(&format!("bind = {text}")).binds, expected, "{text}");
    }
}

#[test]
fn networks_are_addresses_or_prefixes() {
    let config = root("trusted_proxies = ['10.1.2.3/8', '::1', '192.0.2.1']");
    let shown: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]);
}

#[test]
fn cores_are_all_a_number_or_ids() {
    for (text, cores) in [
        ("'all'", Cores::All),
        ("1", Cores::Count(1)),
        ("1024", Cores::Count(1024)),
        ("[0, 1023]", Cores::Ids(vec![0, 1023])),
    ] {
        assert_eq!(root(&format!("[runtime]\ncores = {text}")).runtime.cores, cores, "{text}");
    }
}

#[test]
fn ranges_hold_their_ends() {
    for (text, lowest, highest) in [
        ("http_port = ", "0", "65535"),
        ("[runtime]\nring_entries = ", "64", "32768"),
        ("[limits]\nhead_bytes = ", "1024", "1048576"),
        ("[limits]\nhead_bytes = ", "'1KiB'", "'1MiB'"),
        ("[limits]\nhead_fields = ", "1", "512"),
        ("[limits]\nconnections = ", "1", "10000000"),
        ("[limits]\ntunnels = ", "1", "10000000"),
        ("[limits]\nresponse_head_bytes = ", "'1KiB'", "'1MiB'"),
        ("[limits]\nrequest_body_bytes = ", "1", "17592186044416"),
        ("[limits]\nearly_bytes = ", "0", "'16MiB'"),
        ("[limits]\nrequests_per_connection = ", "1", "1000000000"),
        ("[limits]\npipelined_requests = ", "1", "10000"),
        ("[limits]\nconnections_per_address = ", "1", "10000000"),
        ("[limits]\ntunnels_per_address = ", "1", "10000000"),
        ("[limits]\naccept_rate_per_address = ", "1", "1000000"),
        ("[limits]\nupgrade_rate_per_address = ", "1", "1000000"),
        ("[limits]\ntracked_addresses = ", "64", "10000000"),
        ("[limits]\npool_idle = ", "0", "65536"),
        ("[timeouts]\nhead = ", "'1ms'", "'365d'"),
        ("[timeouts]\ntunnel_idle = ", "0", "31536000"),
    ] {
        root(&format!("{text}{lowest}"));
        root(&format!("{text}{highest}"));
    }
    for text in [
        "http_port = 65536",
        "http_port = -1",
        "https_port = 0",
        "[runtime]\nring_entries = 63",
        "[runtime]\nring_entries = 32769",
        "[runtime]\ncores = 0",
        "[runtime]\ncores = 1025",
        "[runtime]\ncores = [1024]",
        "[limits]\nhead_bytes = 1023",
        "[limits]\nhead_bytes = 1048577",
        "[limits]\nhead_bytes = '1025k'",
        "[limits]\nhead_fields = 0",
        "[limits]\nhead_fields = 513",
        "[limits]\nconnections = 0",
        "[limits]\ntunnels = 0",
        "[limits]\nresponse_head_bytes = 1023",
        "[limits]\nrequest_body_bytes = 0",
        "[limits]\nearly_bytes = 16777217",
        "[limits]\nrequests_per_connection = 0",
        "[limits]\npipelined_requests = 0",
        "[limits]\nconnections_per_address = 0",
        "[limits]\ntunnels_per_address = 0",
        "[limits]\naccept_rate_per_address = 0",
        "[limits]\nupgrade_rate_per_address = 1000001",
        "[limits]\naccept_rate_per_address = 1\naccept_burst_per_address = 0",
        "[limits]\ntracked_addresses = 63",
        "[limits]\npool_idle = 65537",
        "[limits]\npool_idle_age = 0",
        "[timeouts]\nhead = 31536001",
        "[timeouts]\nhead = 99999999999999999999999999999999999999999999",
        "[timeouts]\nhead = -1",
    ] {
        let lines = text.lines().count();
        let found = refuse(&format!("{text}\n[server.a]"));
        let here = found.iter().all(|fault| fault.starts_with(&format!("line {lines}: ")));
        assert!(here && !found.is_empty(), "{text}: {found:?}");
    }
}

#[test]
fn zero_is_never_where_that_makes_sense() {
    let text = "[timeouts]\nresponse_head = 0\nbody_idle = '0s'\ntunnel_idle = 0\n\
                tunnel_half_close = 0\ntcp_keepalive = 0\n\
                tcp_user_timeout = 0\n[server.a]\n";
    let timeouts = accept(text).config.timeouts;
    let never = [
        timeouts.response_head,
        timeouts.body_idle,
        timeouts.tunnel_idle,
        timeouts.tunnel_half_close,
        timeouts.tcp_keepalive,
        timeouts.tcp_user_timeout,
    ];
    assert_eq!(never, [None; 6]);
    assert_eq!(root("drain_timeout = 0").drain_timeout, Duration::ZERO);
    assert_faults(
        "[timeouts]\nhead = 0\nkeepalive = '0s'\nconnect = '0ms'\n[server.a]",
        &[
            "line 2: timeouts.head: 0 would let nothing through",
            "line 3: timeouts.keepalive: 0 would",
            "line 4: timeouts.connect: 0 would",
        ],
    );
}

#[test]
fn upgrade_protocols_are_any_or_a_list() {
    let only = |names: &[&str]| {
        UpgradeProtocols::Only(names.iter().map(|name| (*name).to_owned()).collect())
    };
    for (text, expected) in [
        ("'any'", UpgradeProtocols::Any),
        ("['websocket']", only(&["websocket"])),
        ("['WebSocket', 'websocket', 'HTTP/2.0']", only(&["http/2.0", "websocket"])),
    ] {
        assert_eq!(route(&format!("upgrade_protocols = {text}")).upgrade_protocols, expected);
    }
}

#[test]
fn a_host_header_is_a_word_or_a_host() {
    for (text, expected) in [
        ("preserve", HostHeader::Preserve),
        ("backend", HostHeader::Backend),
        ("example.com:81", HostHeader::Literal("example.com:81".to_owned())),
    ] {
        assert_eq!(route(&format!("host_header = '{text}'")).host_header, expected);
    }
}

#[test]
fn every_choice_is_understood() {
    let text = |key: &str, value: &str| format!("{key} = '{value}'");
    for (value, strategy) in [
        ("all", CacheStrategy::All),
        ("none", CacheStrategy::None),
        ("only_html", CacheStrategy::OnlyHtml),
        ("no_images", CacheStrategy::NoImages),
        ("only_images", CacheStrategy::OnlyImages),
        ("only_assets", CacheStrategy::OnlyAssets),
    ] {
        assert_eq!(route(&text("cache_strategy", value)).cache.strategy, strategy);
    }
    for (value, compress) in [
        ("none", CompressStrategy::None),
        ("brotli", CompressStrategy::Brotli),
        ("gzip", CompressStrategy::Gzip),
        ("deflate", CompressStrategy::Deflate),
    ] {
        assert_eq!(route(&text("compress_strategy", value)).cache.compress, compress);
    }
    for (value, storage) in
        [("memory", CacheStorageMode::Memory), ("filesystem", CacheStorageMode::Filesystem)]
    {
        assert_eq!(route(&text("cache_storage_mode", value)).cache.storage_mode, storage);
    }
    for (value, driver) in [
        ("auto", DriverChoice::Auto),
        ("io_uring", DriverChoice::IoUring),
        ("epoll", DriverChoice::Epoll),
    ] {
        assert_eq!(root(&format!("[runtime]\n{}", text("driver", value))).runtime.driver, driver);
    }
    for (value, format) in [("text", LogFormat::Text), ("json", LogFormat::Json)] {
        assert_eq!(root(&text("log_format", value)).log_format, format);
    }
}

#[test]
fn the_keys_of_later_work_are_kept() {
    let text = "proxy_mode = 'pre_generate'\npre_generate_paths = ['/a']\n\
                pre_generate_fallthrough = true\nexecute = 'run'\nexecute_dir = '/srv'\n\
                include_paths = ['GET /x']\ncache_404_capacity = 7\ncache_directory = '/d'\n\
                [[server.a.webhooks]]\nurl = 'https://h/x?y'\ntype = 'blocking'\n\
                [[server.a.webhooks]]\nurl = 'http://h'\ntimeout_ms = 1\n";
    let route = route(text);
    let mode = ProxyMode::PreGenerate { paths: vec!["/a".to_owned()], fallthrough: true };
    assert_eq!(route.proxy_mode, mode);
    assert_eq!(route.execute.as_deref(), Some("run"));
    assert_eq!(route.execute_dir, Some(PathBuf::from("/srv")));
    assert_eq!(route.cache.include_paths, ["GET /x"]);
    assert_eq!(route.cache.cache_404_capacity, 7);
    assert_eq!(route.cache.directory, Some(PathBuf::from("/d")));
    let webhook = |url: &str, webhook_type, timeout_ms| Webhook {
        url: url.to_owned(),
        webhook_type,
        timeout_ms,
    };
    let expected = [
        webhook("https://h/x?y", WebhookType::Blocking, 5000),
        webhook("http://h", WebhookType::Notify, 1),
    ];
    assert_eq!(route.webhooks, expected);
}

#[test]
fn a_variable_takes_the_type_of_its_key() {
    let root = |key: &str, value: &str| {
        with_variable(&format!("{key} = '$env:X'\n[server.a]"), value)
            .unwrap_or_else(|faults| panic!("{key} {value}: {faults:?}"))
    };
    assert_eq!(root("http_port", "38300").http_port, 38300);
    assert_eq!(root("http_port", " 81\n").http_port, 81);
    assert_eq!(root("bind", "::1, 127.0.0.1").binds.len(), 2);
    assert_eq!(root("trusted_proxies", "").trusted_proxies, []);
    assert_eq!(root("trusted_proxies", "10.0.0.0/8,::1").trusted_proxies.len(), 2);
    assert_eq!(root("drain_timeout", "5").drain_timeout, Duration::from_secs(5));
    assert_eq!(root("drain_timeout", "1h30m").drain_timeout, Duration::from_mins(90));
    assert_eq!(root("log_format", "json").log_format, LogFormat::Json);
    let cores = |value| root("[runtime]\ncores", value).runtime.cores;
    assert_eq!(cores("all"), Cores::All);
    assert_eq!(cores("2"), Cores::Count(2));
    assert_eq!(cores("0,2"), Cores::Ids(vec![0, 2]));
    for (value, pin) in [("true", true), ("1", true), ("false", false), ("0", false)] {
        assert_eq!(root("[runtime]\npin", value).runtime.pin, pin);
    }
    assert_eq!(root("[limits]\nhead_bytes", "64KiB").limits.head_bytes_max, 65536);
    assert_eq!(root("[limits]\nhead_bytes", "2048").limits.head_bytes_max, 2048);

    let route = |key: &str, value: &str| {
        with_variable(&format!("[server.a]\n{key} = '$env:X'"), value).unwrap().routes.remove(0)
    };
    assert_eq!(route("proxy_url", "http://h").backend.host, "h");
    assert_eq!(route("bind_to", "/x").mount, Mount::Prefix("/x".to_owned()));
    assert_eq!(route("host_header", "backend").host_header, HostHeader::Backend);
    assert_eq!(route("upgrade_protocols", "any").upgrade_protocols, UpgradeProtocols::Any);
    let protocols = UpgradeProtocols::Only(vec!["websocket".to_owned()]);
    assert_eq!(route("upgrade_protocols", "websocket").upgrade_protocols, protocols);
    assert_eq!(route("include_paths", "/a, /b").cache.include_paths, ["/a", "/b"]);
    let element = with_variable("[server.a]\ninclude_paths = ['$env:X', '/b']", "/a,x").unwrap();
    assert_eq!(element.routes[0].cache.include_paths, ["/a,x", "/b"]);
}

#[test]
fn a_variable_may_have_a_default() {
    let text = "http_port = '$env:NONE:-81'\n[server.a]\nproxy_url = '$env:NONE:-http://h:82'\n";
    let config = with_variable(text, "").unwrap();
    assert_eq!(config.http_port, 81);
    assert_eq!(config.routes[0].backend.authority, "h:82");
    let empty = with_variable("http_port = '$env:X:-81'\n[server.a]", "").unwrap();
    assert_eq!(empty.http_port, 81);
}

#[test]
fn an_unset_variable_is_a_fault_naming_key_and_variable() {
    let unset = |key: &str| format!("{key}: the environment variable `NONE` is not set; set it");
    assert_faults(
        "http_port = '$env:NONE'\nbind = ['::1', '$env:NONE']\n[server.a]\n\
         proxy_url = '$env:NONE'\ninclude_paths = [\n  '$env:NONE',\n]\nhost_header = '$env:'\n\
         [[server.a.webhooks]]\nurl = '$env:NONE'\n",
        &[
            &format!("line 1: {}", unset("http_port")),
            &format!("line 2: {}", unset("bind[1]")),
            &format!("line 4: {}", unset("server.a.proxy_url")),
            &format!("line 6: {}", unset("server.a.include_paths[0]")),
            "line 8: server.a.host_header: `$env:` names no variable; try",
            &format!("line 10: {}", unset("server.a.webhooks[0].url")),
        ],
    );
}

#[test]
fn the_text_of_a_variable_is_never_repeated() {
    const SECRET: &str = "hunter2 é";
    for key in schema::KEYS {
        let line = format!("{} = '$env:X'", key.name);
        let text = match key.place {
            schema::Place::Root => format!("{line}\n[server.a]"),
            schema::Place::Runtime => format!("[runtime]\n{line}\n[server.a]"),
            schema::Place::Timeouts => format!("[timeouts]\n{line}\n[server.a]"),
            schema::Place::Limits => format!("[limits]\n{line}\n[server.a]"),
            schema::Place::Cache => format!("[cache]\n{line}\n[server.a]"),
            schema::Place::Route => format!("[server.a]\n{line}"),
            schema::Place::Webhook => format!("[[server.a.webhooks]]\n{line}"),
            schema::Place::OldServer => format!("[server]\n{line}"),
        };
        if let Err(faults) = with_variable(&text, SECRET) {
            assert!(!format!("{faults:?}").contains("hunter2"), "{text}\n{faults:?}");
        }
    }
}

#[test]
fn dotenv_must_be_literal() {
    assert_faults(
        "dotenv = '$env:FILE'\n[server.a]",
        &["line 1: dotenv: this key is read before variables are replaced"],
    );
}

#[test]
fn a_rate_has_a_burst_of_a_second_unless_it_says_otherwise() {
    let limits = accept("[limits]\naccept_rate_per_address = 20\n[server.a]").config.limits;
    assert_eq!(limits.per_address.accepts, Some(Rate { per_second: 20, burst: 20 }));
    assert_eq!(limits.per_address.upgrades, None);
    let text = "[limits]\nupgrade_rate_per_address = 2\nupgrade_burst_per_address = 50\n[server.a]";
    let limits = accept(text).config.limits;
    assert_eq!(limits.per_address.upgrades, Some(Rate { per_second: 2, burst: 50 }));
}

#[test]
fn a_backends_head_may_be_as_long_as_a_clients_unless_it_says_otherwise() {
    let bytes = |text: &str| {
        let limits = accept(&format!("[limits]\n{text}\n[server.a]")).config.limits;
        (limits.head_bytes_max, limits.response_head_bytes_max)
    };
    assert_eq!(bytes("head_bytes = 2048"), (2048, 2048));
    assert_eq!(bytes("response_head_bytes = 4096"), (32 * 1024, 4096));
}
