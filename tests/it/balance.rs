//! Tunnels spread evenly over the workers, also after half of them have left and others have come.

use crate::support::{Backend, BackendConn, Client, Driver, Proxy, ws};
use rustix::process::Signal;

const WORKERS: usize = 2;
const TUNNELS: usize = 50 * WORKERS;

fn accept_upgrade(conn: &mut BackendConn, _: usize) {
    if conn.next_request().is_some() {
        conn.send(ws::switching_protocols(ws::KEY, &[]));
        conn.expect_closed();
    }
}

fn open_tunnels(proxy: &Proxy, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = Client::connect(proxy.addr());
            client.send(ws::ws_request("/", &[]));
            assert_eq!(client.read_response_head().status, 101);
            client
        })
        .collect()
}

/// Connections by worker, as the proxy says when it begins to drain.
fn by_worker(proxy: &Proxy) -> Vec<usize> {
    proxy.signal(Signal::TERM);
    let line = proxy.wait_for_log("by_worker=[");
    let (_, list) = line.split_once("by_worker=[").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split(", ").map(|count| count.parse().unwrap()).collect()
}

fn start(driver: Driver, backend: &Backend, accept: &str) -> Proxy {
    let name = driver.name();
    Proxy::start(
        driver,
        &format!(
            "[server.default]\nproxy_url = \"{}\"\n\
             [runtime]\ndriver = \"{name}\"\ncores = {WORKERS}\npin = false\naccept = \"{accept}\"\n",
            backend.url()
        ),
    )
}

on_both_drivers! {
    fn fifty_tunnels_a_worker_are_even(driver) {
        let backend = Backend::scripted(accept_upgrade);
        let proxy = start(driver, &backend, "balanced");
        let tunnels = open_tunnels(&proxy, TUNNELS);
        let loads = by_worker(&proxy);
        assert_eq!(loads.iter().sum::<usize>(), TUNNELS);
        // max/mean <= 1.05
        assert!(*loads.iter().max().unwrap() <= TUNNELS / WORKERS * 105 / 100, "{loads:?}");
        drop(tunnels);
    }

    fn they_are_even_again_after_half_of_them_left_and_others_came(driver) {
        let backend = Backend::scripted(accept_upgrade);
        let proxy = start(driver, &backend, "balanced");
        let mut tunnels = open_tunnels(&proxy, TUNNELS);
        tunnels.truncate(TUNNELS / 2);
        // Said after the tunnel's place was given back.
        proxy.wait_for_logs("Tunnel closed gracefully", TUNNELS / 2);
        tunnels.extend(open_tunnels(&proxy, TUNNELS / 2));
        let loads = by_worker(&proxy);
        assert_eq!(loads.iter().sum::<usize>(), TUNNELS);
        assert!(*loads.iter().max().unwrap() <= TUNNELS / WORKERS * 105 / 100, "{loads:?}");
    }

    fn one_listener_spreads_over_all_workers(driver) {
        let backend = Backend::scripted(accept_upgrade);
        let proxy = start(driver, &backend, "single");
        let _tunnels = open_tunnels(&proxy, TUNNELS);
        assert_eq!(by_worker(&proxy), [TUNNELS / WORKERS; WORKERS]);
    }
}
