//! What carries tunnels is a choice: the pump on any driver, a ring with hardly any buffers.

use std::thread;

use crate::support::tunnel::{accept, echo, open};
use crate::support::{Backend, Client, Driver, Proxy, Random};

fn config(driver: Driver, backend: &Backend, keys: &str) -> String {
    format!(
        "[server.default]\nproxy_url = \"{}\"\n\
         [runtime]\ncores = 1\npin = false\ndriver = \"{}\"\n{keys}",
        backend.url(),
        driver.name()
    )
}

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
fn exchange(driver: Driver, keys: &str) {
    let backend = Backend::scripted(|conn, _| {
        accept(conn);
        echo(conn);
    });
    let proxy = Proxy::start(driver, &config(driver, &backend, keys));
    thread::scope(|scope| {
        for seed in 1..=8 {
            let mut client = open(&proxy);
            scope.spawn(move || converse(&mut client, seed));
        }
    });
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
