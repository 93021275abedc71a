//! Configuration files as users bring them: both forms, the environment, and files that are wrong.
//!
//! A wrong file is refused with everything that is wrong with it, each with its line. Where the lines
//! matter a file is written as it is; where it is to run, the harness completes it.

use std::collections::BTreeSet;
use std::process::Output;

use crate::support::launch::{stderr, stdout};
use crate::support::{Backend, Client, Driver, Launch, Proxy, ws};

/// Checks a file as `-t` does.
fn check(toml: &str) -> Output {
    Launch::new().file("config.toml", toml).arguments(&["-t", "config.toml"]).output()
}

/// Asserts that `-t` refuses the file and that stderr has a line with each of these.
fn assert_refused(toml: &str, told: &[&str]) {
    let output = check(toml);
    let lines = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{toml}\n{lines}");
    for told in told {
        assert!(lines.contains(told), "{told:?} is not in\n{lines}");
    }
}

fn warnings(proxy: &Proxy) -> Vec<String> {
    proxy.logs().into_iter().filter(|line| line.contains(" WARN ")).collect()
}

#[test]
fn a_valid_file_passes_the_check_in_every_spelling() {
    let toml = "[server.app]\nproxy_url = \"http://localhost:8080\"\n";
    for arguments in [
        &["-t", "config.toml"][..],
        &["--check", "config.toml"],
        &["config.toml", "-t"],
        &["-t", "--config", "config.toml"],
        &["--config=config.toml", "--check"],
    ] {
        let output = Launch::new().file("config.toml", toml).arguments(arguments).output();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).contains("config.toml"), "{}", stdout(&output));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for arguments in [&["missing.toml"][..], &["-t", "missing.toml"], &["--config", "missing.toml"]]
    {
        let output = Proxy::command(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("missing.toml"), "{}", stderr(&output));
    }
}

#[test]
fn every_fault_is_told_at_once_with_its_key_and_its_line() {
    let toml = "http_port = \"eighty\"\n\
                drain_timeout = \"soon\"\n\
                bind = [\"127.0.0.1\", \"nowhere\"]\n\
                [runtime]\n\
                driver = \"uring\"\n\
                ring_entries = 1\n\
                [timeouts]\n\
                head = 0\n\
                [server.api]\n\
                proxy_url = \"ftp://localhost\"\n\
                enable_websocket = \"yes\"\n\
                bind_to = \"api\"\n";
    let faults = [
        "config.toml: line 1: http_port: ",
        "config.toml: line 2: drain_timeout: ",
        "config.toml: line 3: bind[1]: ",
        "config.toml: line 5: runtime.driver: ",
        "config.toml: line 6: runtime.ring_entries: ",
        "config.toml: line 8: timeouts.head: ",
        "config.toml: line 10: server.api.proxy_url: ",
        "config.toml: line 11: server.api.enable_websocket: ",
        "config.toml: line 12: server.api.bind_to: ",
    ];
    assert_refused(toml, &faults);
    let run = Launch::new().file("config.toml", toml).arguments(&["config.toml"]).output();
    assert_eq!((run.status.code(), stdout(&run)), (Some(1), String::new()));
    assert_eq!(stderr(&run).lines().count(), faults.len(), "{}", stderr(&run));
}

#[test]
fn a_fault_comes_with_what_to_do() {
    for (toml, told) in [
        (
            "[server.a]\nproxy_ulr = \"http://localhost\"",
            "line 2: server.a.proxy_ulr: unknown key; did you mean `proxy_url`?",
        ),
        ("http_prot = 80\n[server.a]", "line 1: http_prot: unknown key; did you mean `http_port`?"),
        ("head = 1\n[server.a]", "line 1: head: unknown key; it belongs to [timeouts]"),
        ("[runtime]\ndriver = \"uring\"\n[server.a]", "did you mean `\"io_uring\"`?"),
        ("[server.a]\nproxy_url = \"https://localhost\"", "line 2: server.a.proxy_url: "),
        ("http_port = 80\n", "missing field `server`"),
        ("[server]\n", "at least one `[server.NAME]` block is required"),
        ("[server]\nproxy_url = \"http://localhost\"\n[server.a]\n", "line 2: server.proxy_url: "),
        ("https_port = 443\n[server.a]", "`cert_path` is required when `https_port` is set"),
        ("https_port = 443\n[server.a]", "`key_path` is required when `https_port` is set"),
        ("a = 1\nb = = 2\n", "line 2: not valid TOML"),
        ("bind = \"localhost\"\n[server.a]", "line 1: bind: \"localhost\" is not an IP address"),
        ("dotenv = \"none.env\"\n[server.a]", "failed to load .env from `none.env`: "),
    ] {
        assert_refused(toml, &[told]);
    }
}

#[test]
fn two_routes_for_the_same_paths_are_refused_and_both_are_named() {
    let equal = "[server.a]\nbind_to = \"/api\"\n[server.b]\nbind_to = \"/api/\"\n";
    assert_refused(equal, &["line 4: server.b.bind_to: ", "server.a"]);
    for fallbacks in ["[server.a]\n[server.b]\n", "[server.a]\nbind_to = \"/\"\n[server.b]\n"] {
        assert_refused(fallbacks, &["server.b", "server.a"]);
    }
}

#[test]
fn an_unknown_key_is_a_warning_at_the_start_and_the_proxy_runs() {
    let backend = Backend::recording();
    let config = format!("[server.app]\nproxy_url = \"{}\"\nforward_only = true", backend.url());
    let proxy = Proxy::start(Driver::Epoll, &config);
    let warnings = warnings(&proxy);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    for part in ["config.toml: line ", "server.app.forward_only", "`forward_get_only`"] {
        assert!(warnings[0].contains(part), "{part}: {warnings:#?}");
    }
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
}

#[test]
fn a_key_that_is_not_active_yet_is_a_warning_at_the_start_and_the_proxy_runs() {
    let backend = Backend::recording();
    let config = format!(
        "https_port = 3443\ncert_path = \"cert.pem\"\nkey_path = \"key.pem\"\n\
         control_auth = \"geheim\"\n\
         [server.app]\nproxy_url = \"{}\"\nproxy_mode = \"pre_generate\"\n\
         pre_generate_paths = [\"/c\"]\nexecute = \"true\"\nexecute_dir = \".\"\n\
         [[server.app.webhooks]]\nurl = \"http://127.0.0.1:1/hook\"\ntype = \"blocking\"",
        backend.url()
    );
    let proxy = Proxy::start(Driver::Epoll, &config);
    let warnings = warnings(&proxy);
    for key in [
        "https_port",
        "cert_path",
        "key_path",
        "server.app.proxy_mode",
        "server.app.pre_generate_paths",
        "server.app.execute",
        "server.app.execute_dir",
        "server.app.webhooks",
    ] {
        let named = warnings.iter().any(|line| line.contains(&format!(": {key}: ")));
        assert!(named, "{key} is not in {warnings:#?}");
    }
    let guard = warnings.iter().find(|line| line.contains("webhooks")).expect("a warning");
    assert!(guard.contains("NOT guard"), "{guard}");
    assert!(!proxy.logs().iter().any(|line| line.contains("geheim")), "{:#?}", proxy.logs());
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
    // What the warning says about pre_generate without fallthrough.
    let mut client = Client::connect(proxy.addr());
    client.send(ws::ws_request("/ws", &[]));
    assert_eq!(client.read_response().status, 501);
}

on_both_drivers! {
    fn the_old_form_runs_as_it_did(driver) {
        let backend = Backend::recording();
        // The example that the original documents and its last version refused.
        let config = format!(
            "[server]\nproxy_port = 0\nproxy_url = \"{}\"\nenable_websocket = true\n\
             include_paths = []\nforward_get_only = true",
            backend.url()
        );
        let proxy = Proxy::start(driver, &config);
        assert!(proxy.wait_for_log("server 'default'").contains("bind_to='*'"));
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/any/path").text(), "ok");
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.read_response().status, 405);
        assert_eq!(warnings(&proxy), Vec::<String>::new());
    }

    fn the_longest_prefix_wins_and_is_stripped(driver) {
        let (api, inner) = (Backend::recording(), Backend::recording());
        let config = format!(
            "[server.api]\nbind_to = \"/api\"\nproxy_url = \"{}/base\"\n\
             [server.inner]\nbind_to = \"/api/inner\"\nproxy_url = \"{}\"",
            api.url(),
            inner.url()
        );
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        for path in ["/api", "/api?q=1", "/api/x", "/api/inner/y", "/api/innery", "/api/inner?z"] {
            assert_eq!(client.get(path).text(), "ok", "{path}");
        }
        assert_eq!(client.get("/apix").status, 404);
        let targets = |backend: &Backend| -> Vec<String> {
            backend.requests().into_iter().map(|request| request.target).collect()
        };
        assert_eq!(targets(&api), ["/base/", "/base/?q=1", "/base/x", "/base/innery"]);
        assert_eq!(targets(&inner), ["/y", "/?z"]);
    }
}

#[test]
fn what_the_environment_holds_takes_the_type_of_its_key() {
    let backend = Backend::recording();
    let toml = "bind = \"127.0.0.1\"\nhttp_port = \"$env:PF_PORT\"\n\
                drain_timeout = \"$env:PF_DRAIN:-7s\"\n\
                [server.app]\nproxy_url = \"$env:PF_BACKEND\"\n\
                enable_websocket = \"$env:PF_WEBSOCKET\"\n\
                [runtime]\ncores = \"$env:PF_CORES:-1\"\n";
    let launch = Launch::new()
        .file("config.toml", toml)
        .arguments(&["config.toml"])
        .variable("PF_PORT", "0")
        .variable("PF_BACKEND", &backend.url())
        .variable("PF_WEBSOCKET", "false");
    let proxy = launch.start();
    assert_eq!(proxy.logs().iter().filter(|line| line.contains(": Worker ")).count(), 1);
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
    let mut client = Client::connect(proxy.addr());
    client.send(ws::ws_request("/ws", &[]));
    assert_eq!(client.read_response().status, 501);
    proxy.signal(rustix::process::Signal::TERM);
    assert!(proxy.wait_for_log("Draining").contains("7s"));
}

#[test]
fn a_variable_that_is_not_set_is_refused_with_its_name_and_its_key() {
    let toml = "http_port = \"$env:PF_PORT\"\n[server.app]\nproxy_url = \"$env:PF_BACKEND\"\n";
    assert_refused(
        toml,
        &["line 1: http_port: ", "`PF_PORT`", "line 3: server.app.proxy_url: ", "`PF_BACKEND`"],
    );
}

#[test]
fn what_a_variable_holds_is_never_shown() {
    let toml = "http_port = \"$env:PF_SECRET\"\nbind = \"$env:PF_SECRET\"\n\
                log_format = \"$env:PF_SECRET\"\ndrain_timeout = \"$env:PF_SECRET\"\n\
                trusted_proxies = [\"$env:PF_SECRET\"]\n\
                [limits]\nhead_bytes = \"$env:PF_SECRET\"\n\
                [runtime]\ncores = \"$env:PF_SECRET\"\npin = \"$env:PF_SECRET\"\n\
                [server.a]\nproxy_url = \"$env:PF_SECRET\"\nbind_to = \"$env:PF_SECRET\"\n\
                upgrade_protocols = \"$env:PF_SECRET\"\nhost_header = \"$env:PF_SECRET\"\n";
    // No URL, number, address or path, and with a space no token and no host.
    let launch = Launch::new().file("config.toml", toml).variable("PF_SECRET", "geheim nis");
    let output = launch.arguments(&["-t", "config.toml"]).output();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 12, "{}", stderr(&output));
    assert!(!stderr(&output).contains("geheim"), "{}", stderr(&output));
}

#[test]
fn a_dotenv_file_fills_in_what_the_environment_lacks() {
    let backend = Backend::recording();
    let toml = "dotenv = true\nbind = \"127.0.0.1\"\nhttp_port = \"$env:PF_PORT\"\n\
                [server.app]\nproxy_url = \"$env:PF_BACKEND\"\n\
                [runtime]\ncores = 1\n";
    let dotenv =
        format!("# a comment\nexport PF_BACKEND=\"{}\"\nPF_PORT=not-a-port\n", backend.url());
    let launch = Launch::new().file("config.toml", toml).file(".env", &dotenv);
    let proxy = launch.variable("PF_PORT", "0").arguments(&["config.toml"]).start();
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");

    let named = toml.replace("dotenv = true", "dotenv = \"other.env\"");
    let launch = Launch::new().file("config.toml", &named).file("other.env", &dotenv);
    let output = launch.variable("PF_PORT", "0").arguments(&["-t", "config.toml"]).output();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let absent = "dotenv = true\n[server.app]\n";
    assert_eq!(check(absent).status.code(), Some(0));
}

// The reference.

const TABLES: [(&str, &str); 7] = [
    ("### Root keys", ""),
    ("### `[runtime]`", "[runtime]"),
    ("### `[timeouts]`", "[timeouts]"),
    ("### `[limits]`", "[limits]"),
    ("### `[cache]`", "[cache]"),
    ("### `[server.NAME]`", "[server.app]"),
    ("### `[[server.NAME.webhooks]]`", "[[server.app.webhooks]]"),
];

fn project_file(name: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the rows of a table of README's reference: the key, and the default as it stands there.
fn reference(heading: &str) -> Vec<(String, Option<String>)> {
    let readme = project_file("README.md");
    let (_, section) = readme.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.trim_end_matches('`').to_owned();
        let default = cells.nth(1)?.trim().strip_prefix('`');
        Some((key, default.map(|default| default.trim_end_matches('`').to_owned())))
    });
    rows.collect()
}

/// Returns the keys that the program itself names when it is asked for one that it does not know.
fn known_keys(table: &str) -> BTreeSet<String> {
    let required = if table.contains("webhooks") { "\nurl = \"http://h\"" } else { "" };
    let toml = format!("[server.app]\n{table}\nqqqqqqqqqqqq = 1{required}\n");
    let toml = match table {
        "" => "qqqqqqqqqqqq = 1\n[server.app]\n".to_owned(),
        "[server.app]" => "[server.app]\nqqqqqqqqqqqq = 1\n".to_owned(),
        _ => toml,
    };
    let told = stderr(&check(&toml));
    let (_, keys) = told.split_once(" are ").unwrap_or_else(|| panic!("no keys in {told:?}"));
    keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_program_stands_in_the_reference_and_no_other() {
    for (heading, table) in TABLES {
        let mut known = known_keys(table);
        if table.is_empty() {
            // These have tables of their own.
            known.retain(|key| {
                !["runtime", "timeouts", "limits", "cache", "server"].contains(&&**key)
            });
        }
        let told: BTreeSet<_> = reference(heading).into_iter().map(|(key, _)| key).collect();
        assert_eq!(told, known, "{heading}");
    }
}

#[test]
fn every_default_of_the_reference_is_accepted() {
    let mut toml = String::new();
    for (heading, table) in TABLES {
        toml.extend([table, "\n"]);
        for (key, default) in reference(heading) {
            match (key.as_str(), default) {
                (key, Some(default)) => toml.extend([key, " = ", &default, "\n"]),
                ("url", None) => toml.push_str("url = \"http://localhost:9000\"\n"),
                (_, None) => {}
            }
        }
    }
    let output = check(&toml);
    assert_eq!(output.status.code(), Some(0), "{toml}\n{}", stderr(&output));
    // Enough of them that an empty reference would be noticed.
    assert!(toml.matches(" = ").count() > 35, "{toml}");
}

#[test]
fn the_projects_own_file_is_valid_and_shows_every_key() {
    let toml = project_file("config.toml");
    let output = check(&toml);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "a warning about our own example");
    let shown: BTreeSet<_> = toml
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', '[']).split([' ', ']']).next())
        .map(|name| name.trim_start_matches("server.default.").to_owned())
        .collect();
    for (_, table) in TABLES {
        let missing: Vec<_> = known_keys(table)
            .into_iter()
            .filter(|key| key != "server" && !shown.contains(key))
            .collect();
        assert_eq!(missing, Vec::<String>::new(), "{table}");
    }
}
