//! Peers that are gone without a word: the cable was pulled, the host has lost its power.

use crate::support::netns::Network;
use crate::support::setup::runtime;
use crate::support::tunnel::{Gate, accept, echo, open};
use crate::support::{Backend, Client, Driver, Proxy};

/// A second of silence, then a probe a second, and three seconds of patience.
const SHORT: &str = "[timeouts]\ntcp_keepalive = \"1s\"\ntcp_user_timeout = \"3s\"\n";

fn front(driver: Driver, bind: &str, url: &str, engine: &str) -> Proxy {
    let (route, runtime) = (format!("[server.app]\nproxy_url = \"{url}\"\n"), runtime(driver, 1));
    Proxy::start(
        driver,
        &format!("bind = \"{bind}\"\n{route}{SHORT}{runtime}tunnel = \"{engine}\"\n"),
    )
}

/// A client on the far end of the wire, in a tunnel.
fn open_from_afar(network: &Network, proxy: &Proxy) -> Client {
    network.run(|| open(proxy))
}

on_both_drivers! {
    fn a_client_that_is_cut_off_loses_its_idle_tunnel(driver) {
        for engine in ["auto", "pump"] {
            let Some(network) = Network::new() else { return };
            let [near, _] = network.wire();
            let gone = Gate::default();
            let told = gone.clone();
            let backend = Backend::scripted(move |conn, _| {
                accept(conn);
                conn.expect_closed();
                told.open();
            });
            let proxy = front(driver, &near, &backend.url(), engine);
            let _client = open_from_afar(&network, &proxy);
            network.cut();
            let line = proxy.wait_for_log("reason=client_lost");
            assert!(line.contains("does not answer any more") && line.contains("WARN"), "{line}");
            gone.pass();
        }
    }

    fn a_client_that_is_cut_off_in_the_middle_of_a_stream_loses_its_tunnel(driver) {
        for engine in ["auto", "pump"] {
            let Some(network) = Network::new() else { return };
            let [near, _] = network.wire();
            let cut = Gate::default();
            let now = cut.clone();
            let backend = Backend::scripted(move |conn, _| {
                accept(conn);
                now.pass();
                // What is in flight, and more than any socket takes: until the proxy closes.
                while conn.try_send(&vec![0; 64 * 1024]).is_ok() {}
            });
            let proxy = front(driver, &near, &backend.url(), engine);
            let _client = open_from_afar(&network, &proxy);
            network.cut();
            cut.open();
            proxy.wait_for_log("reason=client_lost");
            backend.wait_for_scripts(1);
        }
    }

    fn a_backend_that_is_cut_off_ends_the_tunnel_of_its_client(driver) {
        for engine in ["auto", "pump"] {
            let Some(network) = Network::new() else { return };
            let [_, far] = network.wire();
            let backend = network.run(|| {
                Backend::scripted_on(&format!("{far}:0"), |conn, _| {
                    accept(conn);
                    echo(conn);
                })
            });
            let proxy = front(driver, "127.0.0.1", &backend.url(), engine);
            let mut client = open(&proxy);
            client.send("hello");
            client.expect("hello");
            network.cut();
            proxy.wait_for_log("reason=backend_lost");
            client.expect_closed();
        }
    }

    fn a_request_whose_backend_is_cut_off_is_answered_in_time(driver) {
        let Some(network) = Network::new() else { return };
        let [_, far] = network.wire();
        let cut = Gate::default();
        let now = cut.clone();
        let backend = network.run(|| {
            Backend::scripted_on(&format!("{far}:0"), move |conn, _| {
                conn.read_request_head();
                now.open();
                conn.expect_closed();
            })
        });
        let proxy = front(driver, "127.0.0.1", &backend.url(), "auto");
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        cut.pass();
        network.cut();
        // Long before the 60 s of response_head.
        assert_eq!(client.read_response().status, 502);
    }
}
