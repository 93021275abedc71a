//! Limits of a head: at the limit it passes, beyond it is refused.

use crate::support::setup::front;
use crate::support::{Backend, Client, Driver};

/// Returns a request head of exactly this many bytes.
fn head_of(bytes: usize) -> String {
    let (start, end) = ("GET / HTTP/1.1\r\nHost: h\r\nX: ", "\r\n\r\n");
    format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
}

/// Returns a request head with this many field lines.
fn head_with(fields: usize) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(fields - 1))
}

fn status_of(driver: Driver, limits: &str, heads: &[(String, u16)]) {
    let backend = Backend::recording();
    let proxy = front(driver, &backend.url(), limits);
    for (head, status) in heads {
        let mut client = Client::connect(proxy.addr());
        client.send(head);
        let response = client.read_response();
        assert_eq!(response.status, *status, "{} bytes", head.len());
        let closes = *status != 200;
        assert_eq!(response.field("connection").is_some(), closes, "{} bytes", head.len());
        if closes {
            client.expect_eof();
        }
    }
    let passed = heads.iter().filter(|(_, status)| *status == 200).count();
    assert_eq!(backend.requests().len(), passed);
}

on_both_drivers! {
    fn a_head_may_have_its_limit_of_bytes(driver) {
        status_of(driver, "[limits]\nhead_bytes = 1024", &[
            (head_of(1023), 200),
            (head_of(1024), 200),
            (head_of(1025), 431),
            (head_of(100_000), 431),
        ]);
    }

    fn a_head_may_have_32_kib_by_default(driver) {
        let kib = 1024;
        status_of(driver, "", &[
            (head_of(32 * kib - 1), 200),
            (head_of(32 * kib), 200),
            (head_of(32 * kib + 1), 431),
        ]);
    }

    fn a_head_may_be_larger_than_any_buffer_if_the_limit_is(driver) {
        status_of(driver, "[limits]\nhead_bytes = 300000", &[
            (head_of(300_000), 200),
            (head_of(300_001), 431),
        ]);
    }

    fn a_head_may_have_its_limit_of_fields(driver) {
        status_of(driver, "", &[(head_with(99), 200), (head_with(100), 200), (head_with(101), 431)]);
        status_of(driver, "[limits]\nhead_fields = 3", &[
            (head_with(2), 200),
            (head_with(3), 200),
            (head_with(4), 431),
        ]);
    }

    fn a_head_that_never_ends_is_refused_while_it_comes(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[limits]\nhead_bytes = 1024");
        for part in ["GET /".to_owned() + &"x".repeat(2000), "GET / HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(400)] {
            let mut client = Client::connect(proxy.addr());
            client.send(part);
            assert_eq!(client.read_response().status, 431);
            client.expect_eof();
        }
        assert_eq!(backend.accepted(), 0);
    }

    fn the_second_head_of_a_connection_has_the_same_limit(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[limits]\nhead_bytes = 1024");
        let mut client = Client::connect(proxy.addr());
        client.send(head_of(1024) + &head_of(1024) + &head_of(1025));
        assert_eq!([(); 3].map(|()| client.read_response().status), [200, 200, 431]);
        client.expect_eof();
    }

    fn a_connection_beyond_the_limit_is_turned_away(driver) {
        let backend = Backend::recording();
        let proxy = front(driver, &backend.url(), "[limits]\nconnections = 2");
        let mut kept = [(); 2].map(|()| Client::connect(proxy.addr()));
        for client in &mut kept {
            assert_eq!(client.get("/").status, 200);
        }
        let mut third = Client::connect(proxy.addr());
        assert_eq!(third.read_response().status, 503);
        third.expect_closed();
        assert!(kept.iter_mut().all(|client| client.get("/").status == 200));
    }
}
