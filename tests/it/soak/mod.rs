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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use clients::Stage;
use ledger::Ledger;

use crate::successor::Line;
use crate::support::control::{Metrics, post_json};
use crate::support::setup::runtime;
use crate::support::tunnel::REQUEST;
use crate::support::{Client, Driver, Proxy, Random, eventually};

/// Resident memory above that of the first seconds: what the allocator keeps of the largest burst. The
/// cache is bounded by 4 MiB, and buffers shrink.
const SLACK_KIB: u64 = 64 * 1024;

type Act = fn(&Stage, &mut Random);

/// Who takes part.
const CAST: [Act; 12] = [
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
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A configuration; reloads go from one variant to the next.
fn config(url: &str, driver: Driver, engine: &str, variant: u64) -> String {
    format!(
        "drain_timeout = 2\n[server.app]\nproxy_url = \"{url}\"\ncache_404_capacity = {}\n\
         [timeouts]\nhead = \"{}s\"\nresponse_head = \"1s\"\n\
         [limits]\npool_idle_age = \"1s\"\nhead_fields = {}\n[cache]\nmax_bytes = \"4MiB\"\n{}{engine}",
        10 + variant % 3,
        1 + variant % 2,
        90 + variant % 5,
        runtime(driver, 2),
    )
}

fn soak(driver: Driver, engine: &str) {
    let (seed, seconds) =
        (number("PHANTOM_FRAME_SOAK_SEED", 1), number("PHANTOM_FRAME_SOAK_SECONDS", 10));
    println!("soak: seed {seed}, {seconds} s, {driver:?}, {engine:?}");
    let ledger = Arc::<Ledger>::default();
    let backend = backend::start(&ledger);
    let url = backend.url();
    let failing = [("PHANTOM_FRAME_FAIL", "connection")];
    let mut proxy = Proxy::start_with(driver, &config(&url, driver, engine, 0), &failing);
    let base_fds = proxy.fd_count_at_rest();
    let stage = Stage::new(&proxy, &ledger, false);
    let mut idle = Client::connect(stage.addr);
    let echo = "GET /t/client_closed/7/5/5/0/0/0 HTTP/1.1";
    idle.send(REQUEST.replace("GET / HTTP/1.1", echo));
    assert_eq!(idle.read_response_head().status, 101);
    ledger.count("tunnels");

    let warm_kib = perform(&stage, seed, |stop| {
        operate(&proxy, driver, (&url, engine), &stage, (stop, seconds))
    });
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
fn perform<R>(stage: &Stage, seed: u64, meanwhile: impl FnOnce(&AtomicBool) -> R) -> R {
    let stop = AtomicBool::new(false);
    // Even a failure stops the others.
    let act = |act: Act, number: usize| {
        let _stop = StopOnDrop(&stop);
        let number = u64::try_from(number).expect("small");
        let mut random = Random::new(seed.wrapping_mul(1000).wrapping_add(number + 1));
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
        meanwhile(&stop)
    })
}

/// Upgrades the program again and again; nobody may be refused, and nothing cut off.
fn soak_through_upgrades(driver: Driver) {
    let (seed, seconds) =
        (number("PHANTOM_FRAME_SOAK_SEED", 1), number("PHANTOM_FRAME_SOAK_SECONDS", 10));
    println!("soak: seed {seed}, {seconds} s, {driver:?}, upgrades");
    let ledger = Arc::<Ledger>::default();
    let backend = backend::start(&ledger);
    // Every tunnel ends by itself long before.
    let config =
        config(&backend.url(), driver, "", 0).replace("drain_timeout = 2", "drain_timeout = 60");
    let mut proxy = Proxy::start(driver, &config);
    let stage = Stage::new(&proxy, &ledger, true);
    let mut line = Line::default();
    let first = Pid::from_raw(i32::try_from(proxy.pid()).expect("a number")).expect("a process");
    let upgrades = perform(&stage, seed, |stop| {
        #[expect(clippy::disallowed_methods, reason = "how long to go on")]
        let began = Instant::now();
        let (mut pid, mut upgrades) = (first, 0);
        while began.elapsed() < Duration::from_secs(seconds) && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(500));
            pid = line.upgrade(&proxy, pid);
            upgrades += 1;
        }
        upgrades
    });
    eventually("nothing is open", || {
        let metrics = Metrics::of(&proxy);
        metrics.sum("connections_active").abs() < 0.1 && metrics.sum("tunnels_active").abs() < 0.1
    });
    line.wait_for_all_but_the_last();
    line.end();
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

/// Reloads, purges, and defects on demand, until time is up; returns the memory after the first of it.
fn operate(
    proxy: &Proxy,
    driver: Driver,
    (url, engine): (&str, &str),
    stage: &Stage,
    (stop, seconds): (&AtomicBool, u64),
) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how long to go on")]
    let began = Instant::now();
    let (mut round, mut warm_kib) = (0, 0);
    while began.elapsed() < Duration::from_secs(seconds) && !stop.load(Ordering::Relaxed) {
        round += 1;
        thread::sleep(Duration::from_millis(150));
        match round % 4 {
            0 => proxy.reload(driver, &config(url, driver, engine, round / 4)),
            1 => proxy.reload(driver, "[server.app]\nproxy_url = \"nonsense\"\n"),
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
        if began.elapsed() < Duration::from_secs(1 + seconds / 3) {
            warm_kib = proxy.rss_kib().max(warm_kib);
        }
    }
    warm_kib
}

/// Holds what the ends have seen against what the proxy has counted, and what it holds against nothing.
fn reconcile(proxy: &mut Proxy, ledger: &Ledger, (base_fds, warm_kib): (usize, u64)) {
    let exact = |name: &str| ledger.value(name).to_string().parse::<f64>().expect("a number");
    eventually("nothing is open", || {
        let metrics = Metrics::of(proxy);
        metrics.sum("connections_active").abs() < 0.1 && metrics.sum("tunnels_active").abs() < 0.1
    });
    let metrics = Metrics::of(proxy);
    let closed =
        |reason: &str| metrics.value(&format!("tunnel_closed_total{{reason=\"{reason}\"}}"));
    assert!(
        metrics.are(&[
            ("tunnels_total{server=\"app\"}", exact("tunnels")),
            ("tunnel_closed_total{reason=\"client_closed\"}", exact("client_closed")),
            ("tunnel_closed_total{reason=\"backend_closed\"}", exact("backend_closed")),
            ("panics_total", exact("panics")),
        ]),
        "{:?}\n{metrics:?}",
        ledger.all()
    );
    let resets = closed("client_reset") + closed("backend_reset");
    assert!((resets - exact("reset")).abs() < 0.1, "{:?}\n{metrics:?}", ledger.all());
    assert!((metrics.sum("tunnel_closed_total") - exact("tunnels")).abs() < 0.1, "{metrics:?}");
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
    soak(Driver::IoUring, "");
}

#[test]
fn on_io_uring_with_a_ring_of_four_buffers() {
    soak(Driver::IoUring, "tunnel_buffers = 4\n");
}

#[test]
fn on_io_uring_with_the_pump() {
    soak(Driver::IoUring, "tunnel = \"pump\"\n");
}

#[test]
fn on_epoll() {
    soak(Driver::Epoll, "");
}

on_both_drivers! {
    fn through_upgrades(driver) {
        soak_through_upgrades(driver);
    }
}
