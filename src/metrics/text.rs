//! The numbers of all workers as Prometheus text, version 0.0.4.
//!
//! Pure: whoever asks brings the counters, what the process is, and the words for what is counted by
//! index. Numbers are read one by one while workers go on, so two of them may be an instant apart.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::counters::{METHODS, code_label};
use super::histogram::Totals;
use super::{Addresses, ConnectFailure, Counters, Histogram, Limit, Loads, RouteCounters};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label of requests that no route took, and of nothing else: a route's name is never empty.
const NO_SERVER: &str = "";

/// The words for what is counted by index.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The names of the routes, in their order.
    pub servers: Vec<String>,
    /// Label and side of each outcome, in their order.
    pub outcomes: Vec<(&'static str, &'static str)>,
    /// Why upgrades did not become tunnels, by outcome; empty where that cannot be.
    pub rejections: Vec<&'static str>,
    /// Why tunnels closed, in their order.
    pub reasons: Vec<&'static str>,
}

/// What is known of the process as a whole.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The version of the program.
    pub version: &'static str,
    /// The driver of the workers; `None` before they have one.
    pub driver: Option<&'static str>,
    /// Whole seconds since the start.
    pub uptime_seconds: u64,
    /// Descriptors open, if the system says.
    pub open_fds: Option<u64>,
    /// Descriptors that may be open, if there is a limit.
    pub max_fds: Option<u64>,
}

/// Everything the text is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// By worker.
    pub workers: &'a [Arc<Counters>],
    /// Connections by worker.
    pub loads: &'a Loads,
    /// Connections and tunnels by client address, where those are limited.
    pub addresses: Option<&'a Addresses>,
    /// The words.
    pub words: &'a Words,
    /// The process.
    pub process: &'a Process,
}

/// One number of several.
type Of<T> = fn(&T) -> u64;

/// Writes the text.
pub fn write(sources: &Sources<'_>) -> String {
    let mut page = Page { text: String::with_capacity(16 * 1024), name: "" };
    requests(&mut page, sources);
    connections(&mut page, sources);
    tunnels(&mut page, sources);
    upgrades(&mut page, sources);
    limits(&mut page, sources);
    backends(&mut page, sources);
    cache(&mut page, sources);
    process(&mut page, sources);
    page.text
}

impl<'a> Sources<'a> {
    fn sum(&self, one: impl Fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|worker| one(worker)).sum()
    }

    /// The routes by name.
    fn servers(&self) -> impl Iterator<Item = (Option<usize>, &'a str)> {
        self.words.servers.iter().enumerate().map(|(index, name)| (Some(index), name.as_str()))
    }

    /// The sum of one number of a route over all workers.
    fn route_sum(&self, route: Option<usize>, one: impl Fn(&RouteCounters) -> u64) -> u64 {
        self.sum(|worker| one(worker.route(route)))
    }
}

fn requests(page: &mut Page, sources: &Sources<'_>) {
    let help = "Requests that ended, by the status sent (none: no answer could be sent).";
    page.family("requests_total", Kind::Counter, help);
    for (route, server) in sources.servers().chain([(None, NO_SERVER)]) {
        let mut sums = BTreeMap::new();
        for worker in sources.workers {
            for (place, count) in worker.route(route).requests() {
                *sums.entry(place).or_insert(0) += count;
            }
        }
        for ((method, slot), count) in sums {
            let method = METHODS.get(method).copied().unwrap_or_default();
            let code = code_label(slot);
            page.sample(&[("server", server), ("method", method), ("code", &code)], count);
        }
    }
    page.family("request_outcomes_total", Kind::Counter, "How requests ended, and by whose doing.");
    for (index, (outcome, side)) in sources.words.outcomes.iter().enumerate() {
        let count = sources.sum(|worker| worker.requests_with(index));
        page.sample(&[("outcome", outcome), ("side", side)], count);
    }
}

fn connections(page: &mut Page, sources: &Sources<'_>) {
    page.family("connections_active", Kind::Gauge, "Client connections open, tunnels included.");
    for (worker, count) in sources.loads.all().into_iter().enumerate() {
        page.sample(&[("worker", &worker.to_string())], count as u64);
    }
    let help = "Client connections accepted, by the worker that accepted.";
    page.family("connections_total", Kind::Counter, help);
    for (worker, counters) in sources.workers.iter().enumerate() {
        page.sample(&[("worker", &worker.to_string())], counters.connections.value());
    }
    let help = "Attempts to accept a connection that the system refused.";
    page.family("accept_errors_total", Kind::Counter, help);
    let kinds: [(&str, Of<Counters>); 2] = [
        ("no_descriptor", |worker| worker.accepts_without_descriptor.value()),
        ("other", |worker| worker.accepts_failed.value()),
    ];
    for (kind, one) in kinds {
        page.sample(&[("kind", kind)], sources.sum(one));
    }
    let shed = sources.sum(|worker| worker.connections_shed.value());
    let help = "Client connections answered 503 because no descriptor was left.";
    page.single("connections_shed_total", Kind::Counter, help, shed);
    let help = "Client connections that another worker serves than the one that accepted.";
    let handoffs = sources.sum(|worker| worker.handoffs.value());
    page.single("accept_handoff_total", Kind::Counter, help, handoffs);
}

fn tunnels(page: &mut Page, sources: &Sources<'_>) {
    page.family("tunnels_active", Kind::Gauge, "Tunnels open.");
    for (route, server) in sources.servers() {
        for (worker, counters) in sources.workers.iter().enumerate() {
            let labels = [("server", server), ("worker", &*worker.to_string())];
            page.sample(&labels, counters.route(route).tunnels.value());
        }
    }
    page.family("tunnels_total", Kind::Counter, "Tunnels begun.");
    for (route, server) in sources.servers() {
        let count = sources.route_sum(route, |route| route.tunnels_begun.value());
        page.sample(&[("server", server)], count);
    }
    page.family("tunnel_closed_total", Kind::Counter, "Tunnels that ended, by the first cause.");
    for (index, reason) in sources.words.reasons.iter().enumerate() {
        let count = sources.sum(|worker| worker.tunnels_closed_for(index));
        page.sample(&[("reason", reason)], count);
    }
    let help = "Bytes carried by tunnels that have ended.";
    page.family("tunnel_bytes_total", Kind::Counter, help);
    let up = sources.sum(|worker| worker.tunnel_bytes_up.value());
    page.sample(&[("direction", "client_to_backend")], up);
    let down = sources.sum(|worker| worker.tunnel_bytes_down.value());
    page.sample(&[("direction", "backend_to_client")], down);
    let durations = sources.workers.iter().map(|worker| &worker.tunnel_duration);
    page.histogram("tunnel_duration_seconds", "How long ended tunnels had lived.", durations);
}

fn upgrades(page: &mut Page, sources: &Sources<'_>) {
    let help = "From the head of an upgrade request to the 101.";
    let handshakes = sources.workers.iter().map(|worker| &worker.upgrade_handshake);
    page.histogram("upgrade_handshake_seconds", help, handshakes);
    let help = "Upgrade requests that did not become tunnels.";
    page.family("upgrade_rejected_total", Kind::Counter, help);
    for (index, reason) in sources.words.rejections.iter().enumerate() {
        if !reason.is_empty() {
            let count = sources.sum(|worker| worker.upgrades_rejected_with(index));
            page.sample(&[("reason", reason)], count);
        }
    }
}

fn limits(page: &mut Page, sources: &Sources<'_>) {
    let help = "Connections and requests that met a limit, by its key.";
    page.family("limited_total", Kind::Counter, help);
    for limit in Limit::ALL {
        page.sample(&[("limit", limit.key())], sources.sum(|worker| worker.limited_by(limit)));
    }
    let help = "Client addresses that limits by address know now.";
    let tracked = sources.addresses.map_or(0, Addresses::tracked);
    page.single("addresses_tracked", Kind::Gauge, help, tracked);
    let help =
        "Connections and upgrades let through uncounted: more addresses than tracked_addresses.";
    let untracked = sources.addresses.map_or(0, Addresses::untracked);
    page.single("addresses_untracked_total", Kind::Counter, help, untracked);
}

fn backends(page: &mut Page, sources: &Sources<'_>) {
    let help = "Addresses of backends that could not be connected to.";
    page.family("backend_connect_errors_total", Kind::Counter, help);
    for (route, server) in sources.servers() {
        for failure in ConnectFailure::ALL {
            let count = sources.route_sum(route, |route| route.connects_failed(failure));
            page.sample(&[("server", server), ("kind", failure.label())], count);
        }
    }
    let help = "Connections to backends: made (dialled), taken from the pool (reused), or taken from \
                those made ahead (warm, counted as dialled too).";
    page.family("backend_connections_total", Kind::Counter, help);
    for (route, server) in sources.servers() {
        let kinds: [(&str, Of<RouteCounters>); 3] = [
            ("reused", |route| route.reused.value()),
            ("dialled", |route| route.dialled.value()),
            ("warm", |route| route.warm.value()),
        ];
        for (kind, one) in kinds {
            let count = sources.route_sum(route, one);
            page.sample(&[("server", server), ("kind", kind)], count);
        }
    }
    page.family("pool_idle", Kind::Gauge, "Idle connections to backends kept for reuse.");
    for (route, server) in sources.servers() {
        for (worker, counters) in sources.workers.iter().enumerate() {
            let labels = [("server", server), ("worker", &*worker.to_string())];
            page.sample(&labels, counters.route(route).pool_idle.value());
        }
    }
}

fn cache(page: &mut Page, sources: &Sources<'_>) {
    let statuses: [(&str, Of<Counters>); 6] = [
        ("hit", |worker| worker.cache.hit.value()),
        ("stale", |worker| worker.cache.stale.value()),
        ("revalidated", |worker| worker.cache.revalidated.value()),
        ("miss", |worker| worker.cache.miss.value()),
        ("collapsed", |worker| worker.cache.collapsed.value()),
        ("pass", |worker| worker.cache.pass.value()),
    ];
    page.family("cache_requests_total", Kind::Counter, "Requests, by what the cache did for them.");
    for (status, one) in statuses {
        page.sample(&[("status", status)], sources.sum(one));
    }
    let hit_bytes = sources.sum(|worker| worker.cache.hit_bytes.value());
    let help = "Bytes of bodies answered from the cache.";
    page.single("cache_hit_bytes_total", Kind::Counter, help, hit_bytes);
    let bytes = sources.sum(|worker| worker.cache.bytes.value());
    page.single("cache_bytes", Kind::Gauge, "Bytes that cached answers occupy.", bytes);
    let entries = sources.sum(|worker| worker.cache.entries.value());
    page.single("cache_entries", Kind::Gauge, "Cached answers.", entries);
    let evictions = sources.sum(|worker| worker.cache.evictions.value());
    let help = "Cached answers removed to make room.";
    page.single("cache_evictions_total", Kind::Counter, help, evictions);
    // Every worker carries out every purge; the slowest says how many have reached them all.
    let purges = sources.workers.iter().map(|worker| worker.purges.value()).min();
    let help = "Purges that every worker has carried out.";
    page.single("purges_total", Kind::Counter, help, purges.unwrap_or_default());
}

fn process(page: &mut Page, sources: &Sources<'_>) {
    let process = sources.process;
    if let Some(open) = process.open_fds {
        page.single("open_fds", Kind::Gauge, "Descriptors that are open.", open);
    }
    if let Some(max) = process.max_fds {
        page.single("max_fds", Kind::Gauge, "Descriptors that may be open.", max);
    }
    let panics = sources.sum(|worker| worker.panics.value());
    let help = "Connections closed by a defect of the proxy.";
    page.single("panics_total", Kind::Counter, help, panics);
    page.family("build_info", Kind::Gauge, "The version, as a label.");
    page.sample(&[("version", process.version)], 1);
    page.family("io_driver", Kind::Gauge, "How the workers wait for the kernel, as a label.");
    if let Some(driver) = process.driver {
        page.sample(&[("driver", driver)], 1);
    }
    let help = "Seconds since the start.";
    page.single("uptime_seconds", Kind::Gauge, help, process.uptime_seconds);
}

/// What a family measures.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text as it is written.
struct Page {
    text: String,
    /// The family that is written, without the prefix.
    name: &'static str,
}

/// Before every name.
const PREFIX: &str = "phantom_frame_";

impl Page {
    /// Begins a family; its samples follow.
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // A string takes all text.
        writeln!(self.text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}").ok();
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.suffixed("", labels, value);
    }

    /// A family of one sample without labels.
    fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    fn histogram<'h>(
        &mut self,
        name: &'static str,
        help: &str,
        histograms: impl Iterator<Item = &'h Histogram>,
    ) {
        let totals = Totals::of(histograms);
        self.family(name, Kind::Histogram, help);
        for (bound, count) in totals.cumulative() {
            self.suffixed("_bucket", &[("le", bound)], count);
        }
        self.suffixed("_sum", &[], totals.sum_seconds());
        self.suffixed("_count", &[], totals.count());
    }

    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.extend([PREFIX, self.name, suffix]);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { "{" } else { "," };
            self.text.extend([before, label, "=\""]);
            self.escaped(text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").ok();
    }

    /// A label's value: backslash, quote and line feed are escaped, everything else stands for itself.
    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                _ => self.text.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn page(workers: &[Arc<Counters>], servers: &[&str]) -> String {
        let words = Words {
            servers: servers.iter().map(ToString::to_string).collect(),
            outcomes: vec![("passed", "client"), ("backend_closed", "backend")],
            rejections: vec!["backend_status", ""],
            reasons: vec!["client_closed", "drain"],
        };
        let process = Process {
            version: "1.2.3",
            driver: Some("epoll"),
            uptime_seconds: 5,
            open_fds: Some(7),
            max_fds: Some(1024),
        };
        let loads = Loads::new(workers.len());
        let (words, process, addresses) = (&words, &process, None);
        write(&Sources { workers, loads: &loads, addresses, words, process })
    }

    fn workers(count: usize, routes: usize) -> Vec<Arc<Counters>> {
        (0..count).map(|_| Arc::new(Counters::new(routes))).collect()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }

    #[test]
    fn workers_add_up() {
        let workers = workers(2, 2);
        for worker in &workers {
            worker.request(Some(0), "GET", 200, 0);
            worker.request(Some(1), "BREW", 418, 1);
            worker.request(None, "GET", 404, 1);
            worker.purges.add(3);
            worker.tunnel_closed(1);
            worker.limited(Limit::EarlyBytes);
            worker.tunnel_bytes_up.add(10);
            worker.tunnel_duration.observe(Duration::from_millis(1500));
        }
        workers[0].connections.add(4);
        workers[1].route(Some(1)).tunnels.rise();
        workers[1].purges.add(1);
        let text = page(&workers, &["a", "b"]);
        for line in [
            "phantom_frame_requests_total{server=\"a\",method=\"GET\",code=\"200\"} 2",
            "phantom_frame_requests_total{server=\"b\",method=\"other\",code=\"418\"} 2",
            "phantom_frame_requests_total{server=\"\",method=\"GET\",code=\"404\"} 2",
            "phantom_frame_request_outcomes_total{outcome=\"backend_closed\",side=\"backend\"} 4",
            "phantom_frame_connections_total{worker=\"0\"} 4",
            "phantom_frame_connections_total{worker=\"1\"} 0",
            "phantom_frame_tunnels_active{server=\"b\",worker=\"1\"} 1",
            "phantom_frame_tunnel_closed_total{reason=\"drain\"} 2",
            "phantom_frame_tunnel_bytes_total{direction=\"client_to_backend\"} 20",
            "phantom_frame_tunnel_duration_seconds_bucket{le=\"1\"} 0",
            "phantom_frame_tunnel_duration_seconds_bucket{le=\"+Inf\"} 2",
            "phantom_frame_tunnel_duration_seconds_sum 3.000000",
            "phantom_frame_tunnel_duration_seconds_count 2",
            "phantom_frame_limited_total{limit=\"early_bytes\"} 2",
            "phantom_frame_limited_total{limit=\"tunnels\"} 0",
            "phantom_frame_addresses_tracked 0",
            "phantom_frame_purges_total 3",
            "phantom_frame_build_info{version=\"1.2.3\"} 1",
            "phantom_frame_io_driver{driver=\"epoll\"} 1",
            "phantom_frame_open_fds 7",
        ] {
            has(&text, line);
        }
        let impossible = "phantom_frame_upgrade_rejected_total{reason=\"\"}";
        assert!(!text.contains(impossible), "{text}");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        let workers = workers(1, 1);
        workers[0].request(Some(0), "GET", 200, 0);
        let text = page(&workers, &["a\"b\\c\nd{}ü"]);
        has(
            &text,
            "phantom_frame_requests_total{server=\"a\\\"b\\\\c\\nd{}ü\",method=\"GET\",code=\"200\"} 1",
        );
    }

    #[test]
    fn every_family_is_described_once_and_before_its_samples() {
        let text = page(&workers(2, 1), &["a"]);
        let (mut described, mut family) = (BTreeSet::new(), "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(described.insert(name), "{name} twice");
                assert!(help.ends_with('.'), "{line}");
                family = name;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert_eq!(rest.split_once(' ').unwrap().0, family);
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
                assert!(name == family || base == Some(family), "{line} under {family}");
            }
        }
        assert!(text.ends_with('\n'));
    }
}
