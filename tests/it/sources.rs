//! The addresses from which the backend is connected to, and what happens without a free port.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::support::setup::{front, ok};
use crate::support::tunnel::{accept, echo, open};
use crate::support::{Backend, Client};

on_both_drivers! {
    fn connections_come_from_each_address_in_turn(driver) {
        let seen = Arc::<Mutex<BTreeSet<IpAddr>>>::default();
        let told = Arc::clone(&seen);
        let backend = Backend::scripted(move |conn, _| {
            told.lock().expect("no panic").insert(conn.peer_addr().ip());
            accept(conn);
            echo(conn);
        });
        let keys = "source_addresses = [\"127.0.0.2\", \"127.0.0.3\", \"::1\"]";
        let proxy = front(driver, &backend.url(), keys);
        let tunnels: Vec<_> = (0..4).map(|_| open(&proxy)).collect();
        drop(tunnels);
        let expected: [IpAddr; 2] = ["127.0.0.2", "127.0.0.3"].map(|text| text.parse().expect("one"));
        assert_eq!(*seen.lock().expect("no panic"), BTreeSet::from(expected));
    }

    fn without_a_port_the_answer_is_a_503_at_once_and_the_next_address_is_tried(driver) {
        let backend = Backend::scripted(|conn, _| {
            while conn.next_request().is_some() {
                conn.send(ok("done"));
            }
        });
        // To an address of another host no socket can be bound: the same error as without a port.
        let proxy = front(driver, &backend.url(), "source_addresses = \"192.0.2.7\"");
        let mut client = Client::connect(proxy.addr());
        let refused = client.get("/a");
        assert_eq!(refused.status, 503);
        let line = proxy.wait_for_log("no port is free");
        assert!(line.contains("no_port"), "{line}");
        assert_eq!(backend.accepted(), 0);

        let keys = "source_addresses = [\"192.0.2.7\", \"127.0.0.4\"]";
        let proxy = front(driver, &backend.url(), keys);
        for path in ["/a", "/b", "/c"] {
            assert_eq!(Client::connect(proxy.addr()).get(path).status, 200, "{path}");
        }
    }
}
