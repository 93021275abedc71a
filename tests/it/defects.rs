//! What a defect of ours costs: one connection, or the process, and never a silent worker.
//!
//! The failure points exist in debug builds only, which is what the tests run.

use crate::support::setup::{front_with, ok};
use crate::support::tunnel::{accept, echo, open};
use crate::support::{Backend, Client, Driver};

on_both_drivers! {
    fn a_panic_in_a_connection_closes_that_one_alone(driver) {
        let backend = Backend::scripted(|conn, _| {
            while conn.next_request().is_some() {
                conn.send(ok("done"));
            }
        });
        let proxy = front_with(driver, &backend.url(), ("PHANTOM_FRAME_FAIL", "connection"));
        let mut other = Client::connect(proxy.addr());
        assert_eq!(other.get("/a").text(), "done");
        let mut client = Client::connect(proxy.addr());
        client.send("GET /a HTTP/1.1\r\nHost: h\r\nPhantom-Frame-Fail: 1\r\n\r\n");
        client.expect_closed();
        proxy.wait_for_log("A defect in the proxy has closed a connection");
        assert_eq!(other.get("/b").text(), "done");
        assert_eq!(Client::connect(proxy.addr()).get("/c").text(), "done");
    }

    fn a_panic_in_the_ring_ends_its_tunnels_and_the_worker_goes_on(driver) {
        if driver == Driver::Epoll {
            return;
        }
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            echo(conn);
        });
        let proxy = front_with(driver, &backend.url(), ("PHANTOM_FRAME_FAIL", "ring"));
        let mut client = open(&proxy);
        client.expect_closed();
        backend.wait_for_scripts(1);
        // From now on tunnels run without the ring.
        let mut client = open(&proxy);
        client.send("hello");
        client.expect("hello");
    }

    fn the_death_of_a_worker_ends_the_process_with_its_own_code(driver) {
        let backend = Backend::recording();
        let mut proxy = front_with(driver, &backend.url(), ("PHANTOM_FRAME_FAIL", "worker"));
        assert_eq!(proxy.wait_exit(), 70, "{:#?}", proxy.logs());
        assert!(proxy.logs().iter().any(|line| line.contains("a worker has died")));
    }
}
