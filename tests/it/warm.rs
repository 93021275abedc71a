//! Connections made ahead of time: there before a client is, never used before, replaced when taken.

use crate::support::{Backend, BackendConn, Client, Driver, Proxy, ws};

fn config(driver: Driver, backend: &Backend, warm: usize) -> String {
    format!(
        "[server.default]\nproxy_url = \"{}\"\nwarm_connections = {warm}\n[runtime]\ncores = 1\npin = false\ndriver = \"{}\"\n",
        backend.url(),
        driver.name()
    )
}

fn echo_after_upgrade(conn: &mut BackendConn) {
    if conn.next_request().is_none() {
        return;
    }
    conn.send(ws::switching_protocols(ws::KEY, &[]));
    let word = conn.read_exact(4);
    conn.send(word);
    conn.expect_closed();
}

fn upgrade(proxy: &Proxy) {
    let mut client = Client::connect(proxy.addr());
    client.send(ws::ws_request("/", &[]));
    assert_eq!(client.read_response_head().status, 101);
    client.send("ping");
    client.expect("ping");
}

on_both_drivers! {
    fn they_are_open_before_any_client_is_and_one_taken_is_replaced(driver) {
        let backend = Backend::scripted(|conn, _| echo_after_upgrade(conn));
        let proxy = Proxy::start(driver, &config(driver, &backend, 3));
        backend.wait_for_accepted(3);
        upgrade(&proxy);
        backend.wait_for_accepted(4);
    }

    fn one_that_the_backend_closes_on_arrival_of_the_request_costs_nobody_anything(driver) {
        // The first takes the request and closes, as a server does whose patience has just ended.
        let backend = Backend::scripted(|conn, n| match n {
            0 => drop(conn.next_request()),
            _ => echo_after_upgrade(conn),
        });
        let proxy = Proxy::start(driver, &config(driver, &backend, 1));
        backend.wait_for_accepted(1);
        upgrade(&proxy);
    }

    fn none_is_open_unless_asked_for(driver) {
        let backend = Backend::scripted(|conn, _| echo_after_upgrade(conn));
        let proxy = Proxy::start(driver, &config(driver, &backend, 0));
        upgrade(&proxy);
        assert_eq!(backend.accepted(), 1);
    }
}
