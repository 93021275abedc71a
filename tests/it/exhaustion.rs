//! When something runs out: descriptors, ports, room in the kernel's queue. Clients get an answer, nothing
//! spins, what runs goes on, and all is well again once there is more.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::support::control::{Metrics, get};
use crate::support::netns::Network;
use crate::support::setup::{front, ok};
use crate::support::tunnel::{ACCEPTED, REQUEST, open};
use crate::support::{Backend, BackendConn, Client, Proxy, Response, eventually};

/// Echoes what comes through a tunnel, and answers everything else.
fn either(conn: &mut BackendConn, _: usize) {
    while let Some(head) = conn.next_head() {
        if String::from_utf8_lossy(&head).contains("Upgrade: my-proto") {
            conn.send(ACCEPTED);
            return echo_until_told(conn);
        }
        conn.send(ok("here"));
    }
}

fn echo_until_told(conn: &mut BackendConn) {
    while let some @ [_, ..] = &*conn.read_some() {
        if some == b"leave" {
            return;
        }
        conn.send(some);
    }
}

/// Lets the proxy have so many descriptors; returns how many it could have.
pub(crate) fn limit_descriptors(proxy: &Proxy, count: u64) -> u64 {
    let pid = Pid::from_raw(i32::try_from(proxy.pid()).expect("a number")).expect("a process");
    // The child has ours.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(count), maximum });
    before.expect("the limit of our own child").current.expect("a number")
}

/// Lets the proxy have no descriptor above those that are open, so that those in reserve are of use; returns how
/// many it could have.
pub(crate) fn freeze_descriptors(proxy: &Proxy) -> u64 {
    limit_descriptors(proxy, proxy.descriptors().into_iter().max().expect("it has some") + 1)
}

/// Clock ticks of CPU time that the proxy has used.
pub(crate) fn ticks(proxy: &Proxy) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).expect("it lives");
    let fields: Vec<_> = stat.rsplit(')').next().expect("its name").split_whitespace().collect();
    // utime and stime are the 14th and 15th of proc_pid_stat(5), the state behind the name is the 3rd.
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// Panics if the proxy does not rest: half of a core over a second is far from both.
fn assert_at_rest(proxy: &Proxy) {
    let before = ticks(proxy);
    thread::sleep(Duration::from_secs(1));
    let used = ticks(proxy) - before;
    assert!(used < 50, "{used} ticks of 100");
}

fn ask(proxy: &Proxy) -> (Client, u16, bool) {
    let mut client = Client::connect(proxy.addr());
    client.try_send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").ok();
    let response = client.read_response();
    let status = response.status;
    (client, status, response.field("retry-after").is_some())
}

on_both_drivers! {
    fn without_a_descriptor_clients_are_told_and_tunnels_go_on(driver) {
        let backend = Backend::scripted(either);
        let proxy = front(driver, &backend.url(), "[limits]\npool_idle = 0\n");
        let mut tunnel = open(&proxy);
        tunnel.send("before");
        tunnel.expect("before");
        limit_descriptors(&proxy, proxy.fd_count() as u64 + 3);
        let mut held = Vec::new();
        let told = "No descriptor is left for connections";
        while !proxy.logs().iter().any(|line| line.contains(told)) {
            let (client, status, may_retry) = ask(&proxy);
            assert!(status == 200 || (status == 503 && may_retry), "{status} {may_retry}");
            held.push(client);
            assert!(held.len() < 100, "more connections than descriptors");
        }
        let (_, status, may_retry) = ask(&proxy);
        assert_eq!((status, may_retry), (503, true));
        assert_at_rest(&proxy);
        tunnel.send("meanwhile");
        tunnel.expect("meanwhile");

        // Room is made by those who leave.
        held.clear();
        eventually("a client is served again", || ask(&proxy).1 == 200);
        limit_descriptors(&proxy, 1000);
        let metrics = Metrics::of(&proxy);
        assert!(metrics.value("connections_shed_total") >= 1.0, "{metrics:?}");
        let refused = metrics.value("accept_errors_total{kind=\"no_descriptor\"}");
        assert!(refused >= 1.0, "{metrics:?}");
        tunnel.send("after");
        tunnel.expect("after");
    }

    fn all_who_wait_without_a_descriptor_are_told(driver) {
        let backend = Backend::scripted(either);
        let proxy = front(driver, &backend.url(), "");
        proxy.signal(Signal::STOP);
        let mut clients: Vec<_> = (0..300).map(|_| Client::connect(proxy.addr())).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        let before = freeze_descriptors(&proxy);
        proxy.signal(Signal::CONT);
        for client in &mut clients {
            // Some have their turn when others have left.
            let status = client.read_response().status;
            assert!([200, 503].contains(&status), "{status}");
        }
        limit_descriptors(&proxy, before);
        assert!(Metrics::of(&proxy).value("connections_shed_total") >= 1.0);
    }

    fn without_a_port_upgrades_are_refused_at_once_until_one_is_free(driver) {
        let Some(network) = Network::new() else { return };
        network.run(|| {
            let backend = Backend::scripted(either);
            let proxy = front(driver, &backend.url(), "");
            let control = proxy.control_addr();
            let mut clients = connected(&proxy, PORTS + 4);
            let mut metrics = Client::connect(control);
            few_ports();
            let mut tunnels = Vec::new();
            let refused = loop {
                match upgrade(clients.pop().expect("more of them than ports")) {
                    Ok(tunnel) => tunnels.push(tunnel),
                    Err(refused) => break refused,
                }
            };
            // Sockets of our own may have one of them.
            assert!((PORTS / 2..=PORTS).contains(&tunnels.len()), "{}", tunnels.len());
            assert_eq!((refused.status, refused.field("retry-after")), (503, Some("5")));
            proxy.wait_for_log("no port is free");
            assert!(upgrade(clients.pop().expect("another")).is_err());
            assert_at_rest(&proxy);
            // The side that closes first has the port for another minute: not the proxy, then.
            for mut tunnel in tunnels {
                tunnel.send("leave");
                tunnel.expect_eof();
            }
            let mut last = clients.pop().expect("another");
            let text = get(&mut metrics, "/metrics").text().to_owned();
            let failed = "backend_connect_errors_total{server=\"app\",kind=\"no_port\"} ";
            let count = text.split(failed).nth(1).and_then(|rest| rest.lines().next());
            assert!(count.is_some_and(|count| count != "0"), "{text}");
            eventually("a port is free again", || last.get("/").status == 200);
        });
    }

    fn with_more_addresses_there_are_more_tunnels_than_ports(driver) {
        let Some(network) = Network::new() else { return };
        network.run(|| {
            let backend = Backend::scripted(either);
            let sources: Vec<_> = (2..10).map(|last| format!("\"127.0.1.{last}\"")).collect();
            let keys = format!("source_addresses = [{}]", sources.join(", "));
            let proxy = front(driver, &backend.url(), &keys);
            let clients = connected(&proxy, 6 * PORTS);
            few_ports();
            let mut tunnels: Vec<_> = clients
                .into_iter()
                .map(|client| upgrade(client).expect("another address has a port"))
                .collect();
            for tunnel in &mut tunnels {
                tunnel.send("all of them");
                tunnel.expect("all of them");
            }
        });
    }

    fn those_who_wait_in_the_queue_are_served(driver) {
        let backend = Backend::scripted(either);
        let proxy = front(driver, &backend.url(), "");
        proxy.signal(Signal::STOP);
        // More than one turn accepts, fewer than the kernel queues.
        let mut clients: Vec<_> = (0..400).map(|_| Client::connect(proxy.addr())).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        proxy.signal(Signal::CONT);
        for client in &mut clients {
            assert_eq!(client.read_response().status, 200);
        }
    }

    fn a_crowd_of_drips_does_not_keep_others_waiting(driver) {
        let backend = Backend::scripted(either);
        let proxy = front(driver, &backend.url(), "[timeouts]\nhead = \"2s\"\n");
        let mut drips: Vec<_> = (0..500).map(|_| Client::connect(proxy.addr())).collect();
        for byte in b"GET / HT" {
            for drip in &mut drips {
                drip.try_send(&[*byte]).ok();
            }
            assert_eq!(ask(&proxy).1, 200);
        }
        for drip in &mut drips {
            assert_eq!(drip.read_response().status, 408);
        }
        assert_eq!(ask(&proxy).1, 200);
    }
}

/// How many ports toward one address there are in the network of the tests about ports.
pub(crate) const PORTS: usize = 16;

/// Leaves the network of this thread with few ports; returns the range that it had.
pub(crate) fn few_ports() -> String {
    let before = fs::read_to_string(PORT_RANGE).expect("a range");
    set_ports(&format!("41000 {}", 41000 + PORTS - 1));
    before
}

/// Lets the network of this thread have these ports.
pub(crate) fn set_ports(range: &str) {
    fs::write(PORT_RANGE, range).expect("in a network of our own");
}

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Clients that have their ports already.
fn connected(proxy: &Proxy, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(proxy.addr())).collect()
}

/// Makes a tunnel of a connection, or returns the answer that refuses it.
fn upgrade(mut client: Client) -> Result<Client, Box<Response>> {
    client.send(REQUEST);
    let response = client.read_response_head();
    if response.status == 101 { Ok(client) } else { Err(Box::new(response)) }
}
