//! Soak: everything at once for a while, by a seed, with every byte and every count held against the
//! proxy's own.
//!
//! `PHANTOM_FRAME_SOAK_SECONDS` is the time of each of the six configurations (10), and
//! `PHANTOM_FRAME_SOAK_SEED` what is done in it (1). `PHANTOM_FRAME_BINARY` is the program to run, for instance a
//! release build; in one, planned panics do not happen.

mod backend;
mod clients;
mod ledger;
mod plan;
mod stream;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use clients::Stage;
use ledger::Ledger;
use trouble::Far;

use crate::successor::Line;
use crate::support::control::{Metrics, post_json};
use crate::support::netns::Network;
use crate::support::setup::runtime;
use crate::support::tunnel::REQUEST;
use crate::support::{Backend, Carrier, Client, Driver, Proxy, Random, eventually};

/// Resident memory above that of the first seconds: the cache's 4 MiB, which may not be full by then, and what
/// the allocator keeps of the largest burst.
const SLACK_KIB: u64 = 16 * 1024;

type Act = fn(&Stage, &mut Random);

/// Who takes part.
const CAST: [Act; 13] = [
    clients::tunnel,
    clients::tunnel,
    clients::tunnel,
    clients::tunnel,
    clients::refused,
    clients::exchanges,
    clients::exchanges,
    clients::exchanges,
    clients::pages,
    clients::pages,
    clients::broken,
    clients::hostile,
    trouble::cable,
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    number("PHANTOM_FRAME_SOAK_SEED", 1)
}

fn seconds() -> u64 {
    number("PHANTOM_FRAME_SOAK_SECONDS", 10)
}

/// What the proxy runs on.
struct Setting<'a> {
    carrier: Carrier,
    /// More keys of `[runtime]`.
    keys: &'a str,
    backend: &'a Backend,
    /// Another route.
    far: String,
}

impl Setting<'_> {
    /// A configuration; reloads go from one variant to the next.
    fn config(&self, variant: u64) -> String {
        // Every tunnel ends by itself long before the end of patience.
        format!(
            "drain_timeout = 60\n{}{}[server.app]\nproxy_url = \"{}\"\ncache_404_capacity = {}\n\
             [timeouts]\nhead = \"{}s\"\nresponse_head = \"3s\"\n\
             tcp_keepalive = \"1s\"\ntcp_user_timeout = \"3s\"\n\
             [limits]\npool_idle_age = \"1s\"\nhead_fields = {}\n\
             connections_per_address = {}\ntunnels_per_address = {}\n\
             [cache]\nmax_bytes = \"4MiB\"\n{}{}",
            if self.far.is_empty() { "" } else { "bind = \"0.0.0.0\"\n" },
            self.far,
            self.backend.url(),
            10 + variant % 3,
            1 + variant % 2,
            90 + variant % 5,
            trouble::CONNECTIONS,
            trouble::TUNNELS,
            runtime(self.carrier, 2),
            self.keys,
        )
    }
}

/// How long to go on, unless somebody has failed.
struct Until<'a> {
    began: Instant,
    stop: &'a AtomicBool,
}

impl Until<'_> {
    fn goes_on(&self) -> bool {
        self.began.elapsed() < Duration::from_secs(seconds()) && !self.stop.load(Ordering::Relaxed)
    }

    /// Whether what grows at first has grown.
    fn is_warm(&self) -> bool {
        self.began.elapsed() >= Duration::from_secs(1 + seconds() / 3)
    }
}

/// In a network of its own, where that is allowed: its ports can be taken away, and its cable cut.
fn soak(carrier: Carrier, keys: &str) {
    match Network::new() {
        Some(network) => network.run(|| soak_here(carrier, keys, Far::new())),
        None => soak_here(carrier, keys, None),
    }
}

fn soak_here(carrier: Carrier, keys: &str, far: Option<Far>) {
    println!("soak: seed {}, {} s, {carrier:?}, {keys:?}", seed(), seconds());
    let ledger = Arc::<Ledger>::default();
    let backend = backend::start(&ledger);
    let route = far.as_ref().map_or_else(String::new, Far::route);
    let setting = Setting { carrier, keys, backend: &backend, far: route };
    let failing = [("PHANTOM_FRAME_FAIL", "connection")];
    let mut proxy = Proxy::start_with(carrier, &setting.config(0), &failing);
    let base_fds = proxy.fd_count_at_rest();
    let mut stage = Stage::new(&proxy, &ledger, false);
    stage.far = far;
    let mut idle = Client::connect(stage.addr);
    let echo = "GET /t/client_closed/7/5/5/0/0/0 HTTP/1.1";
    idle.send(REQUEST.replace("GET / HTTP/1.1", echo));
    assert_eq!(idle.read_response_head().status, 101);
    ledger.count("tunnels");

    let warm_kib = perform(&stage, |until| operate(&proxy, &setting, &stage, until));
    idle.send(plan::content(7, 0, 5));
    plan::verify(8, 0, &idle.read_exact(5));
    idle.shutdown_write();
    idle.expect_eof();
    ledger.count("client_closed");
    ledger.add("up", 5);
    ledger.add("down", 5);
    reconcile(&mut proxy, &ledger, (base_fds, warm_kib));
}

/// Has everybody act for as long as `meanwhile` takes.
fn perform<R>(stage: &Stage, meanwhile: impl FnOnce(&Until<'_>) -> R) -> R {
    let stop = AtomicBool::new(false);
    // Even a failure stops the others.
    let act = |act: Act, number: usize| {
        let _stop = StopOnDrop(&stop);
        let number = u64::try_from(number).expect("small");
        let mut random = Random::new(seed().wrapping_mul(1000).wrapping_add(number + 1));
        while !stop.load(Ordering::Relaxed) {
            act(stage, &mut random);
        }
    };
    thread::scope(|scope| {
        for (number, part) in CAST.into_iter().enumerate() {
            let act = &act;
            scope.spawn(move || act(part, number));
        }
        let _stop = StopOnDrop(&stop);
        #[expect(clippy::disallowed_methods, reason = "how long to go on")]
        let began = Instant::now();
        meanwhile(&Until { began, stop: &stop })
    })
}

/// Upgrades the program again and again; nobody may be refused, and nothing cut off.
fn soak_through_upgrades(driver: Driver) {
    println!("soak: seed {}, {} s, {driver:?}, upgrades", seed(), seconds());
    let ledger = Arc::<Ledger>::default();
    let backend = backend::start(&ledger);
    let setting =
        Setting { carrier: driver.into(), keys: "", backend: &backend, far: String::new() };
    let mut proxy = Proxy::start(driver, &setting.config(0));
    let stage = Stage::new(&proxy, &ledger, true);
    let mut line = Line::of(&proxy);
    let upgrades = perform(&stage, |until| {
        let mut upgrades = 0;
        while until.goes_on() {
            thread::sleep(Duration::from_millis(500));
            line.upgrade(&proxy);
            upgrades += 1;
        }
        upgrades
    });
    wait_until_nothing_is_open(&proxy);
    line.wait_for_all_but_the_last();
    line.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit(), 0, "the first one had left with its last connection");
    let orderly = ledger.value("client_closed") + ledger.value("backend_closed");
    assert_eq!(orderly + ledger.value("reset"), ledger.value("tunnels"), "{:?}", ledger.all());
    println!("soak: {:?}, {upgrades} upgrades", ledger.all());
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reloads, purges, and makes trouble, until time is up; returns the memory after the first of it.
fn operate(proxy: &Proxy, setting: &Setting<'_>, stage: &Stage, until: &Until<'_>) -> u64 {
    let (mut round, mut warm_kib) = (0, 0);
    let mut random = Random::new(seed().wrapping_mul(1000));
    while until.goes_on() {
        round += 1;
        thread::sleep(Duration::from_millis(150));
        match round % 30 {
            5 | 15 | 25 => trouble::crowd(stage, &mut random),
            10 => trouble::no_descriptors(proxy, stage, &mut random),
            20 if stage.far.is_some() => trouble::no_ports(stage, &mut random),
            _ => {}
        }
        match round % 4 {
            0 => proxy.reload(setting.carrier, &setting.config(round / 4)),
            1 => proxy.reload(setting.carrier, "[server.app]\nproxy_url = \"nonsense\"\n"),
            2 => {
                let mut control = Client::connect(proxy.control_addr());
                let purge = post_json(&mut control, "/invalidate", "{\"pattern\":\"GET:/c/1*\"}");
                assert_eq!(purge.status, 200);
            }
            _ if std::env::var_os("PHANTOM_FRAME_BINARY").is_none() => {
                let mut client = Client::connect(stage.addr);
                client.send("GET /evil HTTP/1.1\r\nHost: h\r\nPhantom-Frame-Fail: 1\r\n\r\n");
                client.expect_closed();
                stage.ledger.count("panics");
            }
            _ => {}
        }
        if !until.is_warm() {
            warm_kib = proxy.rss_kib().max(warm_kib);
        }
    }
    warm_kib
}

fn wait_until_nothing_is_open(proxy: &Proxy) {
    eventually("nothing is open", || {
        let metrics = Metrics::of(proxy);
        metrics.sum("connections_active").abs() < 0.1 && metrics.sum("tunnels_active").abs() < 0.1
    });
}

/// Holds what the ends have seen against what the proxy has counted, and what it holds against nothing.
fn reconcile(proxy: &mut Proxy, ledger: &Ledger, (base_fds, warm_kib): (usize, u64)) {
    let exact = |name: &str| ledger.value(name).to_string().parse::<f64>().expect("a number");
    wait_until_nothing_is_open(proxy);
    let metrics = Metrics::of(proxy);
    let failed =
        |kind: &str| format!("backend_connect_errors_total{{server=\"app\",kind=\"{kind}\"}}");
    let closed =
        |reason: &str| metrics.value(&format!("tunnel_closed_total{{reason=\"{reason}\"}}"));
    assert!(
        metrics.are(&[
            ("tunnel_closed_total{reason=\"client_closed\"}", exact("client_closed")),
            ("tunnel_closed_total{reason=\"backend_closed\"}", exact("backend_closed")),
            ("tunnel_closed_total{reason=\"client_lost\"}", exact("client_lost")),
            ("tunnel_closed_total{reason=\"backend_lost\"}", exact("backend_lost")),
            ("limited_total{limit=\"connections_per_address\"}", exact("connections too many")),
            ("limited_total{limit=\"tunnels_per_address\"}", exact("tunnels too many")),
            (&failed("no_port"), exact("no port")),
            ("panics_total", exact("panics")),
        ]),
        "{:?}\n{metrics:?}",
        ledger.all()
    );
    let resets = closed("client_reset") + closed("backend_reset");
    assert!((resets - exact("reset")).abs() < 0.1, "{:?}\n{metrics:?}", ledger.all());
    for total in ["tunnels_total", "tunnel_closed_total"] {
        assert!((metrics.sum(total) - exact("tunnels")).abs() < 0.1, "{metrics:?}");
    }
    let short = metrics.value("connections_shed_total") + metrics.value(&failed("exhausted"));
    assert!((short - exact("no descriptor")).abs() < 0.1, "{:?}\n{metrics:?}", ledger.all());
    for (direction, name) in [("client_to_backend", "up"), ("backend_to_client", "down")] {
        let carried = metrics.value(&format!("tunnel_bytes_total{{direction=\"{direction}\"}}"));
        let (least, more) = (exact(name), exact(&format!("{name} at most")));
        assert!(
            (least..=least + more).contains(&carried),
            "{direction}: {carried} of {least}+{more}"
        );
    }
    // The pool's connections and the pipes are given back by then.
    proxy.wait_for_fd_count(base_fds);
    let rss_kib = proxy.rss_kib();
    assert!(rss_kib < warm_kib + SLACK_KIB, "{rss_kib} KiB, {warm_kib} at first");
    let ticks = crate::exhaustion::ticks(proxy);
    thread::sleep(Duration::from_secs(1));
    let used = crate::exhaustion::ticks(proxy) - ticks;
    assert!(used < 25, "{used} ticks of 100 with nothing to do");
    let logs = proxy.logs();
    let reloads = logs.iter().filter(|line| line.contains("Configuration reloaded")).count();
    println!(
        "soak: {:?}, {reloads} reloads, {} log lines, {base_fds} descriptors before and after, RSS {warm_kib} KiB at \
         first and {rss_kib} at the end",
        ledger.all(),
        logs.len(),
    );
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit(), 0);
}

#[test]
fn on_io_uring_with_the_ring() {
    soak(Carrier::Ring, "");
}

#[test]
fn on_io_uring_with_a_ring_of_four_buffers() {
    soak(Carrier::Ring, "tunnel_buffers = 4\n");
}

#[test]
fn on_io_uring_with_the_pump() {
    soak(Carrier::Pump, "");
}

#[test]
fn on_epoll() {
    soak(Carrier::Epoll, "");
}

on_both_drivers! {
    fn through_upgrades(driver) {
        soak_through_upgrades(driver);
    }
}
