//! Binary upgrades: SIGUSR2 hands the listening sockets to a new process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::control::get;
use crate::support::tunnel::{ACCEPTED, echo, open, route_to};
use crate::support::{Backend, BackendConn, Client, Driver, Launch, Proxy, eventually, ws};

/// Upgrades in a row.
const UPGRADES: usize = 10;

/// Connections served from one upgrade to the next, at about a thousand a second.
const PER_UPGRADE: usize = 100;

/// A proxy's process and those that have replaced it, one after another. The latter are not children of the
/// test: ended when it ends.
pub(crate) struct Line(Vec<Pid>);

impl Line {
    /// A line with nobody in it but the first.
    pub(crate) fn of(proxy: &Proxy) -> Self {
        let pid = i32::try_from(proxy.pid()).expect("a number");
        Self(vec![Pid::from_raw(pid).expect("a process")])
    }

    /// Has the last process replaced by a new one, and waits until that one serves.
    pub(crate) fn upgrade(&mut self, proxy: &Proxy) {
        self.signal(Signal::USR2);
        let count = self.0.len();
        let started = proxy.wait_for_logs("Upgrading: the next process has been started", count);
        let pid = number_behind(started.last().expect("a line"), "pid=");
        let pid = Pid::from_raw(pid).expect("a process");
        self.0.push(pid);
        proxy.wait_for_logs("The next process serves", count);
    }

    /// Signals the one that serves.
    pub(crate) fn signal(&self, signal: Signal) {
        let last = self.0.last().expect("there is the first");
        kill_process(*last, signal).expect("it lives");
    }

    /// Waits until each of them has ended but the one that serves.
    pub(crate) fn wait_for_all_but_the_last(&self) {
        for pid in self.0.iter().rev().skip(1) {
            eventually("a process that was replaced has left", || has_ended(*pid));
        }
    }
}

/// Whether a process is gone, or waits for a parent that does not ask.
fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.ok()
        .is_none_or(|stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')))
}

impl Drop for Line {
    fn drop(&mut self) {
        for pid in self.0.iter().skip(1) {
            // Most have ended by then.
            kill_process(*pid, Signal::KILL).ok();
        }
    }
}

fn number_behind(line: &str, mark: &str) -> i32 {
    let rest = line.split(mark).nth(1).expect("the mark");
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

/// Clients that connect, ask and leave, until they are stopped.
struct Crowd {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Crowd {
    fn start(addr: SocketAddr) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let one = || {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || come_and_go(addr, &stop, &served))
        };
        let threads = (0..8).map(|_| one()).collect();
        Self { stop, served, threads }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Stops them. None may have failed.
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no client was refused or cut off");
        }
    }
}

fn come_and_go(addr: SocketAddr, stop: &AtomicBool, served: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::connect(addr);
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
        served.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(8));
    }
}

on_both_drivers! {
    fn ten_upgrades_refuse_nobody_and_keep_a_tunnel(driver) {
        let backend = Backend::scripted(either);
        let mut proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut tunnel = open(&proxy);
        let crowd = Crowd::start(proxy.addr());
        let mut line = Line::of(&proxy);
        for round in 1..=UPGRADES {
            line.upgrade(&proxy);
            eventually("the clients go on", || crowd.served() >= round * PER_UPGRADE);
        }
        crowd.stop();
        // The first process still carries its tunnel, and ends with it.
        tunnel.send("still there");
        assert_eq!(tunnel.read_exact(11), b"still there");
        assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
        line.signal(Signal::TERM);
        drop(tunnel);
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn a_websocket_that_must_go_after_an_upgrade_is_told_that_the_service_has_restarted(driver) {
        let backend = Backend::scripted(|conn, _| {
            let request = conn.read_request_head();
            let key = request.field("sec-websocket-key").expect("a key");
            conn.send(ws::switching_protocols(key, &[]));
            conn.read_until_closed();
        });
        let mut proxy = Proxy::start(driver, &format!("drain_timeout = 1\n{}", route_to(&backend.url())));
        let mut client = Client::connect(proxy.addr());
        client.send(ws::ws_request("/", &[]));
        assert_eq!(client.read_response_head().status, 101);
        // The new one has nothing to do here, and goes.
        Line::of(&proxy).upgrade(&proxy);
        proxy.wait_for_log("Draining");
        proxy.signal(Signal::TERM);
        assert_eq!(client.read_exact(4), [0x88, 2, 0x03, 0xf4]);
        client.expect_eof();
        drop(client);
        assert_eq!(proxy.wait_exit(), 0);
    }

    fn the_control_endpoint_moves_to_the_new_process(driver) {
        let backend = Backend::scripted(either);
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let control = proxy.control_addr();
        let mut line = Line::of(&proxy);
        // The old process drains for as long as this stays.
        let _tunnel = open(&proxy);
        line.upgrade(&proxy);
        proxy.wait_for_log("Draining: not accepting any more, closing what is left when it has ended");
        for _ in 0..20 {
            assert_eq!(get(&mut Client::connect(control), "/readyz").status, 200);
        }
    }
}

/// Echoes what comes through a tunnel, and answers everything else.
fn either(conn: &mut BackendConn, _: usize) {
    loop {
        let Some(head) = conn.next_head() else { return };
        if String::from_utf8_lossy(&head).contains("Upgrade: my-proto") {
            conn.send(ACCEPTED);
            return echo(conn);
        }
        conn.send("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nok");
    }
}

#[test]
fn a_new_process_that_does_not_start_changes_nothing() {
    let backend = Backend::scripted(either);
    let launch = Launch::new().config(Driver::Epoll, &route_to(&backend.url()));
    let config = launch.path("config.toml");
    let mut proxy = launch.start();
    std::fs::write(config, "nonsense").expect("writing the file");
    proxy.signal(Signal::USR2);
    let line = proxy.wait_for_log("The next process does not serve; this one goes on");
    assert!(line.contains("exit status: 1"), "{line}");
    assert_eq!(Client::connect(proxy.addr()).get("/").status, 200);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit(), 0);
}
