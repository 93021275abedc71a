//! Tunnels under load: much data, a reader that stops, many at once, many one after another.
//!
//! The sizes suit a debug build on a small machine; with `PHANTOM_FRAME_HEAVY=1` they are those that
//! the product promises. One test of this file runs at a time: they measure the proxy's memory and
//! descriptors, and use many of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::tunnel::{Gate, accept, checksum_to_eof, echo, one_worker, open, route_to};
use crate::support::{Backend, BackendConn, Checksum, Peer, Proxy, Random, eventually};

/// Bytes that wait for a reader who has stopped.
const PENDING_BYTES: u64 = 100 << 20;

/// What the proxy's memory may grow by meanwhile.
const GROWTH_KIB_MAX: u64 = 2 * 1024;

/// After so many looks without another byte accepted, the writer is blocked for good.
const LOOKS_UNCHANGED: u32 = 50;

/// Between two looks at the proxy's memory.
const LOOK: Duration = Duration::from_millis(10);

/// How long a peer may be without progress while the whole machine is busy.
pub(super) const HEAVY_GUARD: Duration = Duration::from_mins(2);

/// Tunnels opened at a time by the test of short ones.
const OPENERS: usize = 8;

/// Descriptors that may be open beyond those before: connections that are about to close.
const MARGIN_DESCRIPTORS: usize = 4;

/// Memory that may be in use beyond that before: what the allocator keeps.
const MARGIN_KIB: u64 = 1024;

/// Returns `promised` on request, otherwise `small`.
pub(super) fn scaled<T>(small: T, promised: T) -> T {
    if std::env::var("PHANTOM_FRAME_HEAVY").is_ok_and(|value| value == "1") {
        promised
    } else {
        small
    }
}

/// Waits until no other heavy test runs, and keeps them from it while the guard lives.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed has left nothing behind that the next could trip over.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises the limit of this process; the proxy inherits it.
pub(super) fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the hard limit");
}

/// Sends random bytes in pieces of random sizes, then the end; returns their checksum.
fn send_random(peer: &mut Peer, seed: u64, mut left: u64, accepted: &AtomicU64) -> (u32, u64) {
    let mut random = Random::new(seed);
    let mut piece = vec![0; 256 << 10];
    let mut checksum = Checksum::default();
    while left > 0 {
        let wanted = 1 + random.below(piece.len());
        let count = usize::try_from(left).map_or(wanted, |left| left.min(wanted));
        let piece = &mut piece[..count];
        random.fill(piece);
        checksum.update(piece);
        peer.send(&*piece);
        left -= piece.len() as u64;
        accepted.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    peer.shutdown_write();
    checksum.finish()
}

/// Sends and receives at once; returns the checksums of what was sent and what was received.
fn both_ways(peer: &mut Peer, seed: u64, bytes: u64) -> [(u32, u64); 2] {
    peer.set_guard(HEAVY_GUARD);
    let mut writer = peer.second_handle();
    let sending =
        std::thread::spawn(move || send_random(&mut writer, seed, bytes, &AtomicU64::new(0)));
    let received = checksum_to_eof(peer);
    [sending.join().expect("the other side takes everything"), received]
}

/// Sends [`PENDING_BYTES`] into a tunnel whose reader has stopped, watches the proxy's memory until
/// the sender has been blocked for a while, lets the reader go on, and returns the checksum.
fn send_to_stopped_reader(
    proxy: &Proxy,
    mut sender: Peer,
    resume: &Gate,
) -> std::thread::JoinHandle<(u32, u64)> {
    let accepted = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&accepted);
    let before = proxy.rss_kib();
    let sending = std::thread::spawn(move || {
        sender.set_guard(HEAVY_GUARD);
        send_random(&mut sender, 31, PENDING_BYTES, &counted)
    });
    let (start, stopped) = (Instant::now(), scaled(Duration::ZERO, Duration::from_secs(30)));
    let (mut last, mut unchanged) = (0, 0);
    while unchanged < LOOKS_UNCHANGED || start.elapsed() < stopped {
        let growth = proxy.rss_kib().saturating_sub(before);
        assert!(growth < GROWTH_KIB_MAX, "the proxy has grown by {growth} KiB");
        let now = accepted.load(Ordering::Relaxed);
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        std::thread::park_timeout(LOOK);
    }
    assert!((1..PENDING_BYTES / 2).contains(&last), "{last} bytes were accepted");
    resume.open();
    sending
}

/// Moves some bytes both ways, so that the proxy's code and first buffers are resident.
fn warm_up(proxy: &Proxy) {
    let mut client = open(proxy);
    let [sent, received] = both_ways(&mut client, 5, 8 << 20);
    assert_eq!(sent, received);
    proxy.wait_for_log("Tunnel closed gracefully");
}

/// One short tunnel that ends in one of four ways.
fn short_tunnel(proxy: &Proxy, number: usize) {
    let mut client = open(proxy);
    client.send([u8::try_from(number % 4).expect("below 4")]);
    client.expect("hello");
    match number % 4 {
        0 => client.expect_eof(),
        1 => client.expect_reset(),
        2 => client.reset(),
        _ => {}
    }
}

/// Opens so many of them, [`OPENERS`] at a time.
fn short_tunnels(proxy: &Proxy, count: usize) {
    let open_some = |opener: usize| {
        for number in (opener..count).step_by(OPENERS) {
            // Divided, so that each opener sees each way to end.
            short_tunnel(proxy, number / OPENERS);
        }
    };
    std::thread::scope(|scope| {
        for opener in 0..OPENERS {
            scope.spawn(move || open_some(opener));
        }
    });
}

/// The other end of [`short_tunnel`].
fn end_as_told(conn: &mut BackendConn, _: usize) {
    accept(conn);
    let way = conn.read_exact(1);
    conn.send("hello");
    match way[0] {
        0 => {}
        1 => conn.reset(),
        _ => conn.expect_closed(),
    }
}

/// Waits until every tunnel so far has ended, and returns descriptors and memory in KiB.
fn settled(proxy: &Proxy, tunnels: usize) -> (usize, u64) {
    proxy.wait_for_logs(" seconds=", tunnels);
    (proxy.fd_count(), proxy.rss_kib())
}

on_both_drivers! {
    fn random_bytes_arrive_intact_both_ways_at_once(driver) {
        let _alone = alone();
        let bytes = scaled(256 << 20, 1 << 30);
        let from_backend = Arc::new(Mutex::new([(0, 0); 2]));
        let seen = Arc::clone(&from_backend);
        let backend = Backend::scripted(move |conn, _| {
            accept(conn);
            *seen.lock().expect("nobody panicked") = both_ways(conn, 1, bytes);
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = open(&proxy);
        let [up_sent, down_received] = both_ways(&mut client, 2, bytes);
        proxy.wait_for_log(&format!(
            "Transferred {bytes} bytes client->backend, {bytes} bytes backend->client"
        ));
        drop(client);
        backend.wait_for_scripts(1);
        let [down_sent, up_received] = *from_backend.lock().expect("nobody panicked");
        assert_eq!((up_received, down_received), (up_sent, down_sent));
        assert_eq!(up_received.1, bytes);
    }

    fn a_backend_that_stops_reading_costs_the_proxy_no_memory(driver) {
        let _alone = alone();
        let resume = Gate::default();
        let resumed = resume.clone();
        let got = Arc::new(Mutex::new((0, 0)));
        let seen = Arc::clone(&got);
        let backend = Backend::scripted(move |conn, number| {
            accept(conn);
            if number == 0 {
                return echo(conn);
            }
            resumed.pass_within(HEAVY_GUARD);
            *seen.lock().expect("nobody panicked") = checksum_to_eof(conn);
        });
        let proxy = Proxy::start(driver, &(route_to(&backend.url()) + &one_worker(driver)));
        warm_up(&proxy);
        let client = open(&proxy);
        let sending = send_to_stopped_reader(&proxy, client.second_handle(), &resume);
        let sent = sending.join().expect("the backend reads again");
        backend.wait_for_scripts(2);
        assert_eq!(*got.lock().expect("nobody panicked"), sent);
    }

    fn a_client_that_stops_reading_costs_the_proxy_no_memory(driver) {
        let _alone = alone();
        let (opened, sender) = (Gate::default(), Arc::new(Mutex::new(None)));
        let (is_open, handle) = (opened.clone(), Arc::clone(&sender));
        let done = Gate::default();
        let is_done = done.clone();
        let backend = Backend::scripted(move |conn, number| {
            accept(conn);
            if number == 0 {
                return echo(conn);
            }
            *handle.lock().expect("nobody panicked") = Some(conn.second_handle());
            is_open.open();
            is_done.pass_within(HEAVY_GUARD);
        });
        let proxy = Proxy::start(driver, &(route_to(&backend.url()) + &one_worker(driver)));
        warm_up(&proxy);
        let mut client = open(&proxy);
        opened.pass();
        let sender = sender.lock().expect("nobody panicked").take().expect("the backend's end");
        let resume = Gate::default();
        let sending = send_to_stopped_reader(&proxy, sender, &resume);
        resume.pass();
        let received = checksum_to_eof(&mut client);
        assert_eq!(received, sending.join().expect("the client reads again"));
        done.open();
    }

    fn nothing_is_left_of_many_short_tunnels(driver) {
        let _alone = alone();
        raise_open_files();
        let count = scaled(2_000, 20_000);
        let first = count / 4;
        let backend = Backend::scripted(end_as_told);
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        short_tunnels(&proxy, first);
        let (descriptors, memory) = settled(&proxy, first);
        short_tunnels(&proxy, count);
        settled(&proxy, first + count);
        proxy.wait_for_fd_count(descriptors + MARGIN_DESCRIPTORS);
        eventually("the proxy is as small as it was", || proxy.rss_kib() < memory + MARGIN_KIB);
    }
}
