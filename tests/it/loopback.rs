//! Sockets whose other end is this host send unpaced, where the system's congestion control paces; others do
//! as the system says.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::successor::Line;
use crate::support::netns::Network;
use crate::support::tunnel::{accept, echo, one_worker, open, open_at, route_to};
use crate::support::{Backend, Driver, Proxy};

const CONTROLS: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

/// Has sockets of this thread's network paced; `false` where the kernel cannot.
fn pace() -> bool {
    let has_bbr =
        fs::read_to_string(AVAILABLE).expect("a list").split_whitespace().any(|name| name == "bbr");
    if has_bbr {
        fs::write(CONTROLS, "bbr").expect("in a network of our own");
    } else {
        println!("skipped: the kernel has no bbr");
    }
    has_bbr
}

/// The congestion control of the socket between these, by its own end first.
fn control(own: SocketAddr, other: SocketAddr) -> String {
    let output = Command::new("ss").args(["-tinHO"]).output().expect("iproute2").stdout;
    let output = String::from_utf8(output).expect("text");
    let ends = [own.to_string(), other.to_string()];
    let line = output.lines().find(|line| line.split_whitespace().skip(3).take(2).eq(&ends));
    let line = line.unwrap_or_else(|| panic!("no {ends:?} in {output}"));
    line.split_whitespace().nth(5).expect("its name").to_owned()
}

/// The congestion control of the proxy's only connection to a backend.
fn toward(backend: &Backend) -> String {
    let output = Command::new("ss").args(["-tnH"]).output().expect("iproute2").stdout;
    let output = String::from_utf8(output).expect("text");
    let mut rows = output.lines().map(|line| line.split_whitespace().skip(3).collect::<Vec<_>>());
    let to = backend.addr().to_string();
    let row = rows.find(|row| row[1] == to).unwrap_or_else(|| panic!("nobody in {output}"));
    control(row[0].parse().expect("an address"), backend.addr())
}

fn echoing() -> Backend {
    Backend::scripted(|conn, _| {
        accept(conn);
        echo(conn);
    })
}

fn start(driver: Driver, bind: &str, url: &str) -> Proxy {
    Proxy::start(driver, &format!("bind = \"{bind}\"\n{}{}", route_to(url), one_worker(driver)))
}

on_both_drivers! {
    fn both_ends_on_this_host_send_unpaced(driver) {
        let Some(network) = Network::new() else { return };
        network.run(|| {
            if !pace() {
                return;
            }
            for bind in ["127.0.0.1", "0.0.0.0"] {
                let backend = echoing();
                let proxy = start(driver, bind, &backend.url());
                let client = open(&proxy);
                let client = client.stream().local_addr().expect("it has one");
                let front = SocketAddr::from(([127, 0, 0, 1], proxy.addr().port()));
                assert_eq!(control(front, client), "reno", "{bind}");
                assert_eq!(control(client, front), "bbr", "not ours to decide");
                assert_eq!(toward(&backend), "reno");
            }
        });
    }

    fn the_next_process_knows_as_well(driver) {
        let Some(network) = Network::new() else { return };
        network.run(|| {
            if !pace() {
                return;
            }
            let backend = echoing();
            let proxy = start(driver, "127.0.0.1", &backend.url());
            // It has a listener from the first one, which is unpaced already.
            let mut line = Line::of(&proxy);
            line.upgrade(&proxy);
            let _client = open(&proxy);
            assert_eq!(toward(&backend), "reno");
        });
    }

    fn a_client_on_another_host_is_left_to_the_system(driver) {
        let (Some(here), Some(there)) = (Network::new(), Network::new()) else { return };
        here.run(|| {
            if !pace() {
                return;
            }
            let [near, _] = there.wire();
            let backend = echoing();
            let proxy = start(driver, "0.0.0.0", &backend.url());
            let front = SocketAddr::new(near.parse().expect("an address"), proxy.addr().port());
            let client = there.run(|| open_at(front));
            assert_eq!(control(front, client.stream().local_addr().expect("it has one")), "bbr");
        });
    }
}
