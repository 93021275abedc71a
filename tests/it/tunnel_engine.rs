//! What carries tunnels is a choice: the pump on any driver, a ring with hardly any buffers.

use std::fs;
use std::path::PathBuf;
use std::thread;

use crate::support::tunnel::{accept, echo, one_worker, open, route_to};
use crate::support::{Backend, Carrier, Client, Proxy, Random};

/// Sends messages of random sizes and compares what comes back.
fn converse(client: &mut Client, seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..50 {
        let count = 1 + random.below(100_000);
        let message = random.bytes(count);
        let mut writer = client.second_handle();
        let sent = message.clone();
        let sending = thread::spawn(move || writer.send(sent));
        client.expect(message);
        sending.join().expect("everything is taken");
    }
}

/// Eight tunnels at once.
fn exchange(carrier: impl Into<Carrier>, keys: &str) {
    let carrier = carrier.into();
    let backend = Backend::scripted(|conn, _| {
        accept(conn);
        echo(conn);
    });
    let proxy = Proxy::start(carrier, &(route_to(&backend.url()) + &one_worker(carrier) + keys));
    thread::scope(|scope| {
        for seed in 1..=8 {
            let mut client = open(&proxy);
            scope.spawn(move || converse(&mut client, seed));
        }
    });
}

/// Pipes that the proxy has besides its output: two descriptors each.
fn pipes(proxy: &Proxy) -> usize {
    let links = fs::read_dir(format!("/proc/{}/fd", proxy.pid())).expect("it runs");
    let is_pipe = |link: &PathBuf| link.to_string_lossy().starts_with("pipe:");
    let ends = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok()).filter(is_pipe);
    ends.count().saturating_sub(2) / 2
}

#[test]
fn each_carrier_is_what_it_is_called() {
    for carrier in [Carrier::Ring, Carrier::Splice, Carrier::Pump, Carrier::Epoll] {
        carrier.run(|carrier| {
            let backend = Backend::scripted(|conn, _| {
                accept(conn);
                echo(conn);
            });
            let config = route_to(&backend.url()) + &one_worker(carrier);
            let proxy = Proxy::start(carrier, &config);
            let before = pipes(&proxy);
            let mut client = open(&proxy);
            for message in ["one", "two", "three"] {
                client.send(message);
                client.expect(message);
            }
            let more = pipes(&proxy) - before;
            let expected = if carrier == Carrier::Splice { 2 } else { 0 };
            assert_eq!(more, expected, "{carrier:?}");
        });
    }
}

on_both_drivers! {
    fn the_pump_carries_tunnels_where_it_is_asked_for(driver) {
        exchange(driver, "tunnel = \"pump\"\n");
    }

    fn four_small_buffers_are_enough_for_eight_busy_tunnels(driver) {
        exchange(driver, "tunnel_buffers = 4\ntunnel_buffer_bytes = 1024\n");
    }

    fn few_large_buffers_serve_as_well(driver) {
        exchange(driver, "tunnel_buffers = 8\ntunnel_buffer_bytes = \"256KiB\"\n");
    }
}
