//! From the tree of a file to a [`Config`]: the two forms, and what keys say about each other.

use std::path::PathBuf;
use std::time::Duration;

use super::check::{Checker, FromValue, Section};
use super::fault::{Complaint, Faults};
use super::raw::{Raw, Table, join};
use super::route::{
    CacheRules, CacheStorageMode, CacheStrategy, CompressStrategy, Mount, ProxyMode, Respect,
    Route, Webhook, WebhookType,
};
use super::schema::{Place, rows};
use super::value::nearest;
use super::{
    Accept, Cache, CacheFill, Config, DriverChoice, Limits, Loaded, LogFormat, LogLevel, Runtime,
    Secret, Timeouts, TunnelEngine,
};

use crate::metrics::{AddressLimits, Rate};

/// The name of the only route of the old form.
pub(super) const DEFAULT_ROUTE: &str = "default";

/// What is wrong with a control endpoint that asks for no token.
pub(super) const EXPOSED: &str = "other hosts could reach the control endpoint";

/// What to write when no route is there.
const ONE_ROUTE: &str = "try `[server.default]` with `proxy_url = \"http://localhost:8080\"`";

/// The routes of a file, each with the section it was read from.
#[derive(Debug, Default)]
struct Server {
    routes: Vec<(Route, Section)>,
    /// Whether `[server]` itself is the only route.
    is_old_form: bool,
}

impl Server {
    /// The section of the old form, which may hold what are root keys otherwise.
    fn old_section(&self) -> Option<&Section> {
        self.routes.first().filter(|_| self.is_old_form).map(|(_, section)| section)
    }
}

/// Checks a whole file.
pub(super) fn check(root: &Table, strict: bool) -> Result<Loaded, Faults> {
    let mut checker = Checker::new(strict);
    let keys = checker.section(Place::Root, "", None, root);
    let server = read_server(&mut checker, root);
    check_mounts(&mut checker, &server.routes);
    check_tls(&mut checker, &keys);
    let old = server.old_section();
    let http_port = either(&mut checker, (&keys, "http_port"), old, "proxy_port");
    let control_port = either(&mut checker, (&keys, "control_port"), old, "control_port");
    let control_auth: Option<String> =
        either(&mut checker, (&keys, "control_auth"), old, "control_auth");
    // Told already, and not the fault of the address.
    let auth_is_faulty = keys.is_faulty("control_auth")
        || old.is_some_and(|section| section.is_faulty("control_auth"));
    let config = Config {
        binds: keys.required("bind"),
        // Both have a default, so one of the two places always has a value.
        http_port: http_port.unwrap_or_else(|| keys.required("http_port")),
        https_port: keys.optional("https_port"),
        cert_path: path(&keys, "cert_path"),
        key_path: path(&keys, "key_path"),
        control_binds: keys.required("control_bind"),
        control_port: control_port.unwrap_or_else(|| keys.required("control_port")),
        control_auth: control_auth.map(Secret),
        runtime: read_runtime(&mut checker, root),
        timeouts: read_timeouts(&mut checker, root),
        limits: read_limits(&mut checker, root),
        cache: read_cache_limits(&mut checker, root),
        drain_timeout: keys.required("drain_timeout"),
        drain_spread: keys.optional("drain_spread"),
        log_format: match keys.required("log_format") {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        },
        log_level: match keys.required("log_level") {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        trusted_proxies: keys.required("trusted_proxies"),
        routes: server.routes.into_iter().map(|(route, _)| route).collect(),
    };
    check_ports(&mut checker, &keys, &config);
    check_control(&mut checker, (&keys, auth_is_faulty), &config);
    let warnings = checker.finish()?;
    Ok(Loaded { config, warnings })
}

fn path(section: &Section, name: &str) -> Option<PathBuf> {
    section.optional::<String>(name).map(PathBuf::from)
}

/// Reads `[server]` in whichever form it has.
fn read_server(checker: &mut Checker, root: &Table) -> Server {
    let Some(node) = root.find("server") else {
        checker.refuse(missing_server(root).at("server", None));
        return Server::default();
    };
    // Of another type: already told by the row of `server`.
    let Some(table) = node.as_table() else { return Server::default() };
    if table.entries.is_empty() {
        let complaint = Complaint::new("at least one `[server.NAME]` block is required");
        checker.refuse(complaint.with_remedy(ONE_ROUTE).at("server", node.line));
        return Server::default();
    }
    if let Some(named) = table.entries.iter().find(|entry| entry.node.as_table().is_some()) {
        refuse_plain_keys(checker, table, &named.key);
        return Server { routes: read_routes(checker, table), is_old_form: false };
    }
    refuse_lists_of_tables(checker, table);
    let section = checker.section(Place::OldServer, "server", node.line, table);
    let route = read_route(DEFAULT_ROUTE, &section);
    Server { routes: vec![(route, section)], is_old_form: true }
}

fn missing_server(root: &Table) -> Complaint {
    let unknown = |name: &&str| rows(Place::Root).all(|key| key.name != *name);
    let meant = root
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .filter(unknown)
        .find(|name| nearest(name, ["server"].into_iter()).is_some());
    let remedy = match meant {
        Some(name) => format!("did you mean `server` where you wrote `{}`?", join("", name)),
        None => ONE_ROUTE.to_owned(),
    };
    Complaint::new("missing field `server`").with_remedy(remedy)
}

/// A `[server]` is either a route (the old form) or holds routes, never both.
fn refuse_plain_keys(checker: &mut Checker, server: &Table, named: &str) {
    let block = join("server", named);
    for entry in server.entries.iter().filter(|entry| entry.node.as_table().is_none()) {
        let complaint = Complaint::new(format!("a plain key beside the block `[{block}]`"));
        let complaint = complaint.with_remedy("move it into the block of the route it is for");
        checker.refuse(complaint.at(join("server", &entry.key), entry.node.line));
    }
}

/// `[[server.api]]` would otherwise be an unknown key, and all requests would go to the default
/// backend.
fn refuse_lists_of_tables(checker: &mut Checker, server: &Table) {
    for entry in &server.entries {
        let Raw::List(nodes) = &entry.node.raw else { continue };
        if nodes.iter().any(|node| node.as_table().is_some()) {
            let path = join("server", &entry.key);
            let complaint = if entry.key == "webhooks" {
                Complaint::new("the old form has no webhooks")
                    .with_remedy("turn `[server]` into `[server.default]`")
            } else {
                Complaint::new("a list of tables is not a route")
                    .with_remedy(format!("write `[{path}]`, with single brackets"))
            };
            checker.refuse(complaint.at(path, entry.node.line));
        }
    }
}

fn read_routes(checker: &mut Checker, server: &Table) -> Vec<(Route, Section)> {
    let mut routes = Vec::new();
    for entry in &server.entries {
        let Some(table) = entry.node.as_table() else { continue };
        let path = join("server", &entry.key);
        if entry.key.chars().any(char::is_control) {
            let complaint = Complaint::new("a name with a control character")
                .with_remedy("name the route with visible characters: the log shows the name");
            checker.refuse(complaint.at(path.escape_debug().to_string(), entry.node.line));
        }
        if entry.key.is_empty() {
            // In the metrics the empty name stands for requests that no route took.
            let complaint = Complaint::new("a route without a name").with_remedy("give it one");
            checker.refuse(complaint.at(path.clone(), entry.node.line));
        }
        let section = checker.section(Place::Route, &path, entry.node.line, table);
        let mut route = read_route(&entry.key, &section);
        route.webhooks = read_webhooks(checker, &path, table);
        routes.push((route, section));
    }
    routes
}

fn read_route(name: &str, keys: &Section) -> Route {
    Route {
        name: name.to_owned(),
        mount: keys.required("bind_to"),
        backend: keys.required("proxy_url"),
        enable_websocket: keys.required("enable_websocket"),
        upgrade_protocols: keys.required("upgrade_protocols"),
        source_addresses: keys.optional("source_addresses").unwrap_or_default(),
        warm_connections: keys.required("warm_connections"),
        host_header: keys.required("host_header"),
        forward_get_only: keys.required("forward_get_only"),
        proxy_mode: match keys.required("proxy_mode") {
            "pre_generate" => ProxyMode::PreGenerate {
                paths: keys.required("pre_generate_paths"),
                fallthrough: keys.required("pre_generate_fallthrough"),
            },
            _ => ProxyMode::Dynamic,
        },
        cache: read_cache(keys),
        webhooks: Vec::new(),
        execute: keys.optional("execute"),
        execute_dir: path(keys, "execute_dir"),
    }
}

fn read_cache(keys: &Section) -> CacheRules {
    CacheRules {
        include_paths: keys.required("include_paths"),
        exclude_paths: keys.required("exclude_paths"),
        strategy: match keys.required("cache_strategy") {
            "none" => CacheStrategy::None,
            "only_html" => CacheStrategy::OnlyHtml,
            "no_images" => CacheStrategy::NoImages,
            "only_images" => CacheStrategy::OnlyImages,
            "only_assets" => CacheStrategy::OnlyAssets,
            _ => CacheStrategy::All,
        },
        compress: match keys.required("compress_strategy") {
            "none" => CompressStrategy::None,
            "gzip" => CompressStrategy::Gzip,
            "deflate" => CompressStrategy::Deflate,
            _ => CompressStrategy::Brotli,
        },
        storage_mode: match keys.required("cache_storage_mode") {
            "filesystem" => CacheStorageMode::Filesystem,
            _ => CacheStorageMode::Memory,
        },
        directory: path(keys, "cache_directory"),
        cache_404_capacity: keys.required("cache_404_capacity"),
        use_404_meta: keys.required("use_404_meta"),
        respect: match keys.required("respect") {
            "always" => Respect::Always,
            _ => Respect::Rfc,
        },
    }
}

fn read_webhooks(checker: &mut Checker, route: &str, table: &Table) -> Vec<Webhook> {
    let mut webhooks = Vec::new();
    let Some(Raw::List(nodes)) = table.find("webhooks").map(|node| &node.raw) else {
        return webhooks;
    };
    for (index, node) in nodes.iter().enumerate() {
        let Some(table) = node.as_table() else { continue };
        let path = format!("{route}.webhooks[{index}]");
        let keys = checker.section(Place::Webhook, &path, node.line, table);
        let Some(url) = keys.optional("url") else {
            if !keys.is_faulty("url") {
                let complaint = Complaint::new("missing field `url`");
                let complaint = complaint.with_remedy("say where to send the request's head");
                checker.refuse(keys.fault("url", complaint));
            }
            continue;
        };
        let webhook_type = match keys.required("type") {
            "blocking" => WebhookType::Blocking,
            "cache_key" => WebhookType::CacheKey,
            _ => WebhookType::Notify,
        };
        webhooks.push(Webhook { url, webhook_type, timeout_ms: keys.required("timeout_ms") });
    }
    webhooks
}

/// Two routes with one mount: which of them answers would be luck.
fn check_mounts(checker: &mut Checker, routes: &[(Route, Section)]) {
    let sound = || routes.iter().filter(|(_, keys)| !keys.is_faulty("bind_to"));
    for (at, (route, keys)) in sound().enumerate() {
        let Some((_, first)) = sound().take(at).find(|(other, _)| other.mount == route.mount)
        else {
            continue;
        };
        let first_key = first.path_of("bind_to");
        let place = match first.line_of("bind_to") {
            Some(line) => format!("`{first_key}` (line {line})"),
            None => format!("`{first_key}`"),
        };
        let complaint = if route.mount == Mount::Fallback {
            Complaint::new(format!("a second fallback: {place} takes every other path as well"))
                .with_remedy("give one of them a prefix: `bind_to = \"/api\"`")
        } else {
            Complaint::new(format!("the prefix `{}` is that of {place}", route.mount))
                .with_remedy("give each route a prefix of its own")
        };
        checker.refuse(keys.fault("bind_to", complaint));
    }
}

fn check_tls(checker: &mut Checker, keys: &Section) {
    if !keys.is_set("https_port") {
        return;
    }
    for name in ["cert_path", "key_path"] {
        if !keys.is_set(name) && !keys.is_faulty(name) {
            let message = format!("`{name}` is required when `https_port` is set");
            checker.refuse(Complaint::new(message).at(name, keys.line_of("https_port")));
        }
    }
}

/// Two listeners on one port; 0 asks for a free one and never collides.
fn check_ports(checker: &mut Checker, keys: &Section, config: &Config) {
    if config.http_port != 0 && config.https_port == Some(config.http_port) {
        let complaint = Complaint::new("the port of `http_port`").with_remedy("give it another");
        checker.refuse(keys.fault("https_port", complaint));
    }
    let taken = [(Some(config.http_port), "http_port"), (config.https_port, "https_port")];
    for (_, name) in taken.into_iter().filter(|(port, _)| *port == Some(config.control_port)) {
        if config.control_port != 0 {
            let complaint = Complaint::new(format!("the port of `{name}`"));
            checker.refuse(keys.fault("control_port", complaint.with_remedy("give it another")));
        }
    }
}

/// Whoever reaches the control endpoint can empty the cache.
fn check_control(checker: &mut Checker, (keys, auth_is_faulty): (&Section, bool), config: &Config) {
    if config.exposes_control() && !auth_is_faulty {
        let complaint = Complaint::new(EXPOSED)
            .with_remedy("set `control_auth` to a token, or bind to \"127.0.0.1\"");
        checker.refuse(keys.fault("control_bind", complaint));
    }
}

/// A value that may stand at the root or, in the old form, under `[server]`.
fn either<T: FromValue + PartialEq>(
    checker: &mut Checker,
    (keys, name): (&Section, &str),
    old: Option<&Section>,
    old_name: &str,
) -> Option<T> {
    let at_root = keys.optional(name);
    let Some(old) = old.filter(|old| old.is_set(old_name)) else { return at_root };
    let under_server = old.optional(old_name);
    if keys.is_set(name) && at_root != under_server {
        let complaint = Complaint::new(format!("differs from the root key `{name}`"));
        checker.refuse(old.fault(old_name, complaint.with_remedy("remove one of the two")));
    }
    under_server
}

/// Reads a table of the root; one that is absent, or not a table, has only defaults.
fn read_table(checker: &mut Checker, root: &Table, place: Place, name: &str) -> Section {
    let node = root.find(name);
    let empty = Table::default();
    let table = node.and_then(|node| node.as_table()).unwrap_or(&empty);
    checker.section(place, name, node.and_then(|node| node.line), table)
}

fn read_runtime(checker: &mut Checker, root: &Table) -> Runtime {
    let keys = read_table(checker, root, Place::Runtime, "runtime");
    Runtime {
        cores: keys.required("cores"),
        pin: keys.required("pin"),
        driver: match keys.required("driver") {
            "io_uring" => DriverChoice::IoUring,
            "epoll" => DriverChoice::Epoll,
            _ => DriverChoice::Auto,
        },
        accept: match keys.required("accept") {
            "kernel" => Accept::Kernel,
            "single" => Accept::Single,
            _ => Accept::Balanced,
        },
        tunnel: match keys.required("tunnel") {
            "pump" => TunnelEngine::Pump,
            _ => TunnelEngine::Auto,
        },
        tunnel_buffers: keys.required::<u16>("tunnel_buffers").next_power_of_two(),
        tunnel_buffer_bytes: keys.required("tunnel_buffer_bytes"),
        ring_entries: keys.required("ring_entries"),
    }
}

fn read_timeouts(checker: &mut Checker, root: &Table) -> Timeouts {
    let keys = read_table(checker, root, Place::Timeouts, "timeouts");
    let or_never = |name: &str| Some(keys.required(name)).filter(|span| *span != Duration::ZERO);
    Timeouts {
        head: keys.required("head"),
        keepalive: keys.required("keepalive"),
        connect: keys.required("connect"),
        response_head: or_never("response_head"),
        body_idle: or_never("body_idle"),
        tunnel_idle: or_never("tunnel_idle"),
        tunnel_half_close: or_never("tunnel_half_close"),
        tcp_keepalive: or_never("tcp_keepalive"),
        tcp_user_timeout: or_never("tcp_user_timeout"),
    }
}

fn read_limits(checker: &mut Checker, root: &Table) -> Limits {
    let keys = read_table(checker, root, Place::Limits, "limits");
    let per_address = AddressLimits {
        connections_max: keys.optional("connections_per_address"),
        tunnels_max: keys.optional("tunnels_per_address"),
        accepts: read_rate(checker, &keys, "accept_rate_per_address", "accept_burst_per_address"),
        upgrades: read_rate(
            checker,
            &keys,
            "upgrade_rate_per_address",
            "upgrade_burst_per_address",
        ),
        tracked_max: keys.required("tracked_addresses"),
    };
    let head_bytes_max = keys.required("head_bytes");
    Limits {
        head_bytes_max,
        head_fields_max: keys.required("head_fields"),
        response_head_bytes_max: keys.optional("response_head_bytes").unwrap_or(head_bytes_max),
        request_body_bytes_max: keys.optional("request_body_bytes"),
        early_bytes_max: keys.required("early_bytes"),
        requests_per_connection_max: keys.optional("requests_per_connection"),
        pipelined_requests_max: keys.optional("pipelined_requests"),
        connections_max: keys.optional("connections"),
        tunnels_max: keys.optional("tunnels"),
        per_address,
        pool_idle_max: keys.required("pool_idle"),
        pool_idle_age: keys.required("pool_idle_age"),
    }
}

/// A rate with its burst, which means nothing alone.
fn read_rate(checker: &mut Checker, keys: &Section, rate: &str, burst: &str) -> Option<Rate> {
    if keys.is_set(burst) && !keys.is_set(rate) && !keys.is_faulty(rate) {
        let complaint = Complaint::new(format!("without `{rate}` there is nothing to exceed"));
        checker.refuse(keys.fault(burst, complaint.with_remedy(format!("set `{rate}` as well"))));
    }
    let per_second = keys.optional(rate)?;
    Some(Rate { per_second, burst: keys.optional(burst).unwrap_or(per_second) })
}

fn read_cache_limits(checker: &mut Checker, root: &Table) -> Cache {
    let keys = read_table(checker, root, Place::Cache, "cache");
    Cache {
        bytes_max: keys.required("max_bytes"),
        entry_bytes_max: keys.required("max_entry_bytes"),
        file_bytes_max: keys.required("max_file_bytes"),
        default_ttl: Some(keys.required("default_ttl")).filter(|span| *span != Duration::ZERO),
        fill: match keys.required("cache_fill") {
            "core" => CacheFill::Core,
            _ => CacheFill::Process,
        },
    }
}

/// The defaults of `[cache]`.
pub(super) fn default_cache() -> Cache {
    read_cache_limits(&mut Checker::new(false), &Table::default())
}

/// The defaults of a route's keys about caching.
pub(super) fn default_cache_rules() -> CacheRules {
    let mut checker = Checker::new(false);
    read_cache(&checker.section(Place::Route, "", None, &Table::default()))
}
