//! The one table of keys: name, type, default and meaning.
//!
//! Reading, defaults, unknown keys, "did you mean", warnings about what is not active yet and the
//! reference all come from these rows; to make a feature active is to remove one `.inactive(...)`.

use std::fmt;

/// A table of the file in which keys stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Runtime,
    Timeouts,
    Limits,
    Cache,
    /// `[server.NAME]`.
    Route,
    /// `[[server.NAME.webhooks]]`.
    Webhook,
    /// `[server]` of the old form.
    OldServer,
}

impl Place {
    /// How the table is written in a file.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Root => "the root of the file",
            Self::Runtime => "[runtime]",
            Self::Timeouts => "[timeouts]",
            Self::Limits => "[limits]",
            Self::Cache => "[cache]",
            Self::Route => "[server.NAME]",
            Self::Webhook => "[[server.NAME.webhooks]]",
            Self::OldServer => "[server]",
        }
    }
}

/// What a value may be. Displayed after "expected".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Number {
        min: u64,
        max: u64,
    },
    Bytes {
        min: u64,
        max: u64,
    },
    /// `zero`: what 0 means, when it is allowed.
    Span {
        zero: Option<&'static str>,
    },
    Text,
    Choice(&'static [&'static str]),
    Texts,
    FlagOrText,
    Addresses,
    Networks,
    Cores,
    Backend,
    Mount,
    Protocols,
    Host,
    Url,
    /// A table with rows of its own.
    Table,
    /// An array of tables with rows of their own.
    Tables,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Number { min, max } if *max == u64::MAX => write!(f, "a number from {min}"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Bytes { min, max } => write!(f, "a size from {min} to {max} bytes"),
            Self::Span { zero: None } => f.write_str("a duration such as `\"10s\"`"),
            Self::Span { zero: Some(zero) } => {
                write!(f, "a duration such as `\"10s\"` (0 = {zero})")
            }
            Self::Text => f.write_str("a string"),
            Self::Choice(names) => write!(f, "one of {}", Choices(names)),
            Self::Texts => f.write_str("a list of strings"),
            Self::FlagOrText => f.write_str("`true`, `false` or a path"),
            Self::Addresses => f.write_str("an IP address or a list of them"),
            Self::Networks => f.write_str("a list of IP addresses and networks"),
            Self::Cores => f.write_str("`\"all\"`, a number of cores or a list of CPU ids"),
            Self::Backend => f.write_str("an `http://` URL"),
            Self::Mount => f.write_str("`\"*\"` or a path prefix"),
            Self::Protocols => f.write_str("`\"any\"` or a list of protocol names"),
            Self::Host => f.write_str("`\"preserve\"`, `\"backend\"` or a host"),
            Self::Url => f.write_str("an `http://` or `https://` URL"),
            Self::Table => f.write_str("a table"),
            Self::Tables => f.write_str("an array of tables"),
        }
    }
}

/// Names in a sentence.
pub(super) struct Choices<'a>(pub(super) &'a [&'a str]);

impl fmt::Display for Choices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}`\"{name}\"`")?;
        }
        Ok(())
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As it would stand in a file; empty when there is none.
    pub(super) default: &'static str,
    /// What it means, with its unit.
    pub(super) doc: &'static str,
    /// Whether `[server]` of the old form takes it as well.
    pub(super) in_old_form: bool,
    /// Set when the key changes nothing in this version.
    pub(super) inactive: Option<Inactive>,
    /// Whether a reload leaves it as it is.
    pub(super) needs_restart: bool,
}

/// What a user must be told about a key that changes nothing yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inactive {
    /// The value that asks for nothing and needs no warning; empty when every value does.
    pub(super) harmless: &'static str,
    /// What happens instead.
    pub(super) instead: &'static str,
}

impl Key {
    const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    const fn old(mut self) -> Self {
        self.in_old_form = true;
        self
    }

    const fn restart(mut self) -> Self {
        self.needs_restart = true;
        self
    }

    const fn inactive(mut self, harmless: &'static str, instead: &'static str) -> Self {
        self.inactive = Some(Inactive { harmless, instead });
        self
    }

    /// Writes the row of the reference.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quotes = if self.default.is_empty() { "" } else { "`" };
        let later = if self.inactive.is_some() { " Not active yet." } else { "" };
        let restart = if self.needs_restart { " Needs a restart." } else { "" };
        write!(f, "| `{}` | {} | ", self.name, self.kind)?;
        writeln!(f, "{quotes}{}{quotes} | {}{later}{restart} |", self.default, self.doc)
    }
}

const fn key(place: Place, name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        place,
        name,
        kind,
        default,
        doc: "",
        in_old_form: false,
        inactive: None,
        needs_restart: false,
    }
}

/// The rows that `[place]` takes.
pub(super) fn rows(place: Place) -> impl Iterator<Item = &'static Key> {
    let old = place == Place::OldServer;
    KEYS.iter().filter(move |key| key.place == place || (old && key.in_old_form))
}

const PORT: Kind = Kind::Number { min: 0, max: 65535 };
/// A number of connections or tunnels.
const COUNT: Kind = Kind::Number { min: 1, max: 10_000_000 };
const RATE: Kind = Kind::Number { min: 1, max: 1_000_000 };
const NEVER: Kind = Kind::Span { zero: Some("never") };
const NOT_ZERO: Kind = Kind::Span { zero: None };

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

const STRATEGIES: &[&str] =
    &["all", "none", "only_html", "no_images", "only_images", "only_assets"];

const NO_TLS: &str = "this version does not serve TLS";
const NO_EXECUTE: &str = "this version starts no commands; start the backend yourself";

/// Every key, in the order of the reference.
pub(super) static KEYS: &[Key] = {
    use Kind::{
        Addresses, Backend, Bytes, Choice, Cores, Flag, FlagOrText, Host, Mount, Networks, Number,
        Protocols, Span, Table, Tables, Text, Texts, Url,
    };
    use Place::{Cache, Limits, OldServer, Root, Route, Runtime, Timeouts, Webhook};
    &[
        key(Root, "http_port", PORT, "3000").doc("Port for HTTP; 0 = any free port.").restart(),
        key(Root, "bind", Addresses, "\"0.0.0.0\"").doc("Addresses to listen on, IPv4 and IPv6.").restart(),
        key(Root, "https_port", Number { min: 1, max: 65535 }, "")
            .doc("Port for HTTPS; needs `cert_path` and `key_path`.")
            .inactive("", NO_TLS),
        key(Root, "cert_path", Text, "")
            .doc("PEM file of the certificate chain.")
            .inactive("", NO_TLS),
        key(Root, "key_path", Text, "").doc("PEM file of the private key.").inactive("", NO_TLS),
        key(Root, "control_port", PORT, "17809")
            .doc("Port of the control endpoint; 0 = any free port.")
            .old()
            .restart(),
        key(Root, "control_bind", Addresses, "\"127.0.0.1\"").doc(
            "Addresses of the control endpoint. One that is not loopback needs `control_auth`.",
        ).restart(),
        key(Root, "control_auth", Text, "")
            .doc("Bearer token of the control endpoint; `/healthz` and `/readyz` never need it.")
            .old(),
        key(Root, "dotenv", FlagOrText, "false").doc(
            "Where `$env:` variables also come from: `true` = `.env` in the current \
             directory, if there is one; a path = that file. Variables of the process \
             win.",
        ),
        key(Root, "drain_timeout", Span { zero: Some("at once") }, "\"30s\"")
            .doc("How long tunnels and requests may go on after SIGTERM."),
        key(Root, "drain_spread", Span { zero: Some("all at once") }, "").doc(
            "The part at the end of `drain_timeout` over which tunnels that are left are closed, so that \
             their clients do not all come back in one second. Unset: a third of it.",
        ),
        key(Root, "log_format", Choice(&["text", "json"]), "\"text\"")
            .doc("Form of the log on stdout.").restart(),
        key(Root, "log_level", Choice(LEVELS), "\"info\"")
            .doc("The least that is logged. `RUST_LOG`, where it is set, says it instead."),
        key(Root, "trusted_proxies", Networks, "[]").doc(
            "Proxies whose `X-Forwarded-*` fields are believed: addresses and networks \
             such as `10.0.0.0/8`.",
        ),
        key(Root, "runtime", Table, "").doc("Threads and their drivers."),
        key(Root, "timeouts", Table, "").doc("How long things may take."),
        key(Root, "limits", Table, "").doc("How much there may be of things."),
        key(Root, "cache", Table, "").doc("The stored responses of all routes."),
        key(Root, "server", Table, "").doc("One block per route."),
        key(Runtime, "cores", Cores, "\"all\"").doc(
            "Which cores run a worker: `\"all\"` the process may use, a number of them, \
             or a list of CPU ids.",
        ).restart(),
        key(Runtime, "pin", Flag, "true").doc("Whether a worker stays on its core.").restart(),
        key(Runtime, "driver", Choice(&["auto", "io_uring", "epoll"]), "\"auto\"").doc(
            "`auto` takes io_uring where the system allows it, else epoll with a \
             warning; `io_uring` refuses to start instead.",
        ).restart(),
        key(Runtime, "accept", Choice(&["balanced", "kernel", "single"]), "\"balanced\"").doc(
            "Who serves a connection: `balanced` leaves it on the core the kernel chose unless \
             that core has clearly more than the mean, and then hands it to a less loaded one; \
             `kernel` always leaves it; `single` lets one core accept and spread.",
        ).restart(),
        key(Runtime, "tunnel", Choice(&["auto", "pump"]), "\"auto\"").doc(
            "What carries tunnels: `auto` takes a ring of their own on io_uring, which holds no task \
             and no buffer for an idle tunnel; `pump` runs a task for each, as on epoll.",
        ).restart(),
        key(Runtime, "tunnel_buffers", Number { min: 4, max: 32768 }, "256").doc(
            "Buffers a core's tunnels share, rounded up to a power of two: enough for a burst of \
             messages at once.",
        ).restart(),
        key(Runtime, "tunnel_buffer_bytes", Bytes { min: 1 << 10, max: 1 << 20 }, "16640").doc(
            "Bytes of such a buffer: a message and its frame header should fit. The default holds 16 KiB.",
        ).restart(),
        key(Runtime, "ring_entries", Number { min: 64, max: 32768 }, "4096")
            .doc("Submission entries of a worker's ring.").restart(),
        key(Timeouts, "head", NOT_ZERO, "\"10s\"")
            .doc("From the first to the last byte of a request head."),
        key(Timeouts, "keepalive", NOT_ZERO, "\"75s\"")
            .doc("From one request of a connection to the next."),
        key(Timeouts, "connect", NOT_ZERO, "\"5s\"")
            .doc("To connect to a backend, all of its addresses together."),
        key(Timeouts, "response_head", NEVER, "\"60s\"")
            .doc("From the end of the request to the backend's response head."),
        key(Timeouts, "body_idle", NEVER, "\"60s\"").doc("Without a byte of a body moving."),
        key(Timeouts, "tunnel_idle", NEVER, "\"1h\"")
            .doc("Without a byte in a tunnel, either way."),
        key(Timeouts, "tunnel_half_close", NEVER, "\"30s\"")
            .doc("From the close of one side of a tunnel to the close of the other."),
        key(Timeouts, "tcp_keepalive", NEVER, "\"60s\"").doc(
            "Silence on a connection, to a client or to a backend, after which the kernel asks whether \
             the peer is still there: three times, 10 s apart (a sixth of this if that is less). \
             Whole seconds.",
        ),
        key(Timeouts, "tcp_user_timeout", Span { zero: Some("the system's") }, "\"2m\"").doc(
            "How long what was sent to a client or backend may stay unacknowledged, or unsent because \
             the peer takes nothing: then it counts as gone. Also ends a silent connection whose probes \
             stay unanswered, so let it be `tcp_keepalive` and 30 s at least: less, and one lost probe \
             ends it.",
        ),
        key(Limits, "head_bytes", Bytes { min: 1 << 10, max: 1 << 20 }, "\"32KiB\"")
            .doc("Bytes of a head."),
        key(Limits, "head_fields", Number { min: 1, max: 512 }, "100").doc("Fields of a head."),
        key(Limits, "response_head_bytes", Bytes { min: 1 << 10, max: 1 << 20 }, "")
            .doc("Bytes of a backend's head; unset: as `head_bytes`. More are a 502."),
        key(Limits, "request_body_bytes", Bytes { min: 1, max: 1 << 44 }, "")
            .doc("Bytes of a request's body; unset: no limit. More are a 413."),
        key(Limits, "early_bytes", Bytes { min: 0, max: 1 << 24 }, "\"256KiB\"").doc(
            "Bytes that a client may send behind an upgrade request before the 101; more are a 413.",
        ),
        key(Limits, "requests_per_connection", Number { min: 1, max: 1_000_000_000 }, "")
            .doc("Requests after which a client's connection is closed; unset: no limit."),
        key(Limits, "pipelined_requests", Number { min: 1, max: 10_000 }, "").doc(
            "Requests that a client may send in one piece; one more is a 429 and the end of the \
             connection. Unset: as many as a buffer of 4 KiB holds.",
        ),
        key(Limits, "connections", COUNT, "")
            .doc("Client connections of the process; unset: as many as RLIMIT_NOFILE allows."),
        key(Limits, "tunnels", COUNT, "")
            .doc("Tunnels of the process; unset: no limit of their own."),
        key(Limits, "connections_per_address", COUNT, "").doc(
            "Client connections of one address (IPv6: of one /64), tunnels included; unset: no limit. \
             `trusted_proxies` are exempt.",
        ),
        key(Limits, "tunnels_per_address", COUNT, "").doc(
            "Tunnels of one address, behind `trusted_proxies` the one they name; unset: no limit.",
        ),
        key(Limits, "accept_rate_per_address", RATE, "")
            .doc("Connections a second of one address; unset: no limit."),
        key(Limits, "accept_burst_per_address", RATE, "")
            .doc("Connections of one address at once; unset: as many as its rate in a second."),
        key(Limits, "upgrade_rate_per_address", RATE, "")
            .doc("Upgrade requests a second of one address; unset: no limit."),
        key(Limits, "upgrade_burst_per_address", RATE, "")
            .doc("Upgrade requests of one address at once; unset: as many as its rate in a second."),
        key(Limits, "tracked_addresses", Number { min: 64, max: 10_000_000 }, "65536").doc(
            "Addresses that the four limits above tell apart at the same time; what comes from others \
             is let through and counted.",
        ),
        key(Limits, "pool_idle", Number { min: 0, max: 65536 }, "512")
            .doc("Idle connections kept per backend and core; 0 keeps none."),
        key(Limits, "pool_idle_age", NOT_ZERO, "\"60s\"")
            .doc("How long an idle connection to a backend is kept."),
        key(Cache, "max_bytes", Bytes { min: 1 << 16, max: 1 << 44 }, "\"256MiB\"").doc(
            "Memory for stored responses, of the process; divided over the cores.",
        ),
        key(Cache, "max_entry_bytes", Bytes { min: 1 << 10, max: 1 << 40 }, "\"8MiB\"")
            .doc("The largest body that is stored; larger ones are passed through."),
        key(Cache, "max_file_bytes", Bytes { min: 1 << 16, max: 1 << 44 }, "\"4GiB\"").doc(
            "Room for bodies of routes with `cache_storage_mode = \"filesystem\"`, of the process; \
             divided over the cores.",
        ).restart(),
        key(Cache, "default_ttl", Span { zero: Some("none") }, "0").doc(
            "How long a response is fresh that does not say it; without it a tenth of the time since \
             it was last modified, if it says that.",
        ),
        key(Cache, "cache_fill", Choice(&["core", "process"]), "\"process\"").doc(
            "How often the same response is fetched: once per `process`, by the core that owns its key \
             and lends it to the others, or once per `core`.",
        ),
        key(Route, "bind_to", Mount, "\"*\"").doc(
            "Prefix of the paths this route takes, stripped before they are forwarded; \
             `\"*\"` or `\"/\"` = what no other route takes.",
        ),
        key(Route, "proxy_url", Backend, "\"http://localhost:8080\"")
            .doc("The backend: `http://host[:port][/base]`.")
            .old(),
        key(Route, "enable_websocket", Flag, "true")
            .doc("Whether requests may upgrade; `false` answers 501.")
            .old(),
        key(Route, "upgrade_protocols", Protocols, "\"any\"")
            .doc(
                "To what requests may upgrade: `\"any\"`, or a list such as \
             `[\"websocket\"]`.",
            )
            .old(),
        key(Route, "warm_connections", Number { min: 0, max: 1024 }, "0")
            .doc("Connections kept ready for upgrades, per core: for backends that are slow to connect to.")
            .old(),
        key(Route, "source_addresses", Addresses, "")
            .doc(
                "Addresses of this host to connect to the backend from, in turn: each has its own 28,000 \
                 ports or so toward a backend. Unset: the system chooses one.",
            )
            .old(),
        key(Route, "host_header", Host, "\"preserve\"")
            .doc(
                "The `Host` the backend sees: the client's (`preserve`), the one of \
             `proxy_url` (`backend`), or a literal.",
            )
            .old(),
        key(Route, "forward_get_only", Flag, "false")
            .doc("Whether every method but GET is answered with 405.")
            .old(),
        key(Route, "proxy_mode", Choice(&["dynamic", "pre_generate"]), "\"dynamic\"")
            .doc("`pre_generate` fetches `pre_generate_paths` ahead of requests.")
            .inactive(
                "\"dynamic\"",
                "nothing is fetched ahead in this version: requests go to the backend, and \
             upgrades are refused unless `pre_generate_fallthrough` is true",
            ),
        key(Route, "pre_generate_paths", Texts, "[]")
            .doc("Paths to fetch ahead.")
            .inactive("[]", "nothing is fetched ahead in this version"),
        key(Route, "pre_generate_fallthrough", Flag, "false")
            .doc("With `pre_generate`: whether other paths, and upgrades, go to the backend."),
        key(Route, "cache_strategy", Choice(STRATEGIES), "\"all\"")
            .doc("Types of content to cache.")
            .old(),
        key(Route, "include_paths", Texts, "[]")
            .doc("Paths to cache, `[METHOD ]pattern`; empty = all.")
            .old(),
        key(Route, "exclude_paths", Texts, "[]")
            .doc("Paths not to cache; overrides `include_paths`.")
            .old(),
        key(
            Route,
            "compress_strategy",
            Choice(&["none", "brotli", "gzip", "deflate"]),
            "\"brotli\"",
        )
        .doc("How cached text is kept and sent to clients that take it, beside as it is.")
        .old(),
        key(Route, "respect", Choice(&["rfc", "always"]), "\"rfc\"")
            .doc(
                "Who decides what is stored: `rfc` the response, by RFC 9111; `always` stores every \
                 successful page that is not plainly somebody's own, whatever it says about caching, \
                 until it is purged or `default_ttl` has passed: for prerendered sites only.",
            )
            .old(),
        key(Route, "cache_404_capacity", Number { min: 0, max: 10_000_000 }, "100")
            .doc("404 answers to keep, of the process; the oldest leaves first; 0 keeps none.")
            .old(),
        key(Route, "use_404_meta", Flag, "false")
            .doc(
                "Whether a page with `<meta name=\"phantom-404\" content=\"true\">` counts as a 404 \
                 answer.",
            )
            .old(),
        key(Route, "cache_storage_mode", Choice(&["memory", "filesystem"]), "\"memory\"")
            .doc("Where the bodies of stored responses are kept.")
            .old(),
        key(Route, "cache_directory", Text, "")
            .doc(
                "Private directory of `cache_storage_mode = \"filesystem\"`; unset: one below the \
                 temporary directory.",
            )
            .old(),
        key(Route, "execute", Text, "")
            .doc("Command to start before listening.")
            .inactive("", NO_EXECUTE),
        key(Route, "execute_dir", Text, "")
            .doc("Directory in which `execute` runs.")
            .inactive("", NO_EXECUTE),
        key(Route, "webhooks", Tables, "").doc("Whom to ask or tell about requests.").inactive(
            "[]",
            "webhooks are not called in this version: a blocking webhook does NOT guard \
             the route",
        ),
        key(Webhook, "url", Url, "").doc("Where to send the request's head."),
        key(Webhook, "type", Choice(&["blocking", "notify", "cache_key"]), "\"notify\"")
            .doc("What the answer means."),
        key(Webhook, "timeout_ms", Number { min: 1, max: 3_600_000 }, "5000")
            .doc("How long the answer may take, in milliseconds."),
        key(OldServer, "proxy_port", PORT, "").doc("Old name of the root key `http_port`."),
    ]
};

/// The reference of every key as Markdown: one table per section of the file.
///
/// The README can hold this text, and a test can hold the README to it.
pub fn reference() -> String {
    Reference.to_string()
}

struct Reference;

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, title) in [
            (Place::Root, "Root keys"),
            (Place::Runtime, "`[runtime]`"),
            (Place::Timeouts, "`[timeouts]`"),
            (Place::Limits, "`[limits]`"),
            (Place::Cache, "`[cache]`"),
            (Place::Route, "`[server.NAME]`"),
            (Place::Webhook, "`[[server.NAME.webhooks]]`"),
        ] {
            let gap = if place == Place::Root { "" } else { "\n" };
            writeln!(f, "{gap}### {title}\n")?;
            writeln!(f, "| key | value | default | meaning |\n|---|---|---|---|")?;
            for key in rows(place).filter(|key| key.kind != Kind::Table) {
                key.describe(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{raw, value};

    #[test]
    fn no_key_stands_twice_in_a_place() {
        for key in KEYS {
            let same = rows(key.place).filter(|other| other.name == key.name).count();
            assert_eq!(same, 1, "{}", key.name);
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        for key in KEYS {
            let harmless = key.inactive.map_or("", |inactive| inactive.harmless);
            for text in [key.default, harmless].into_iter().filter(|text| !text.is_empty()) {
                let node = raw::parse_value(text).expect(key.name);
                value::read(key.kind, &node).expect(key.name);
            }
        }
    }

    #[test]
    fn the_reference_names_every_key_and_its_default() {
        let reference = reference();
        for key in KEYS.iter().filter(|k| k.kind != Kind::Table && k.place != Place::OldServer) {
            assert!(reference.contains(&format!("| `{}` |", key.name)), "{}", key.name);
            assert!(reference.contains(key.default), "{}", key.name);
        }
        assert!(reference.lines().all(|line| !line.starts_with('|') || line.ends_with('|')));
    }
}
