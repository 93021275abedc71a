//! A termination signal while requests run: they finish, everything else closes.

use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::setup::{front, ok};
use crate::support::{Backend, Client, GUARD, Gate, Proxy, eventually};

/// Signals, and waits until the drain is felt: an idle client is closed and nobody is accepted.
fn drain(proxy: &Proxy, idle: &mut Client) {
    proxy.signal(Signal::TERM);
    idle.expect_eof();
    let addr = proxy.addr();
    eventually("connections are refused", || TcpStream::connect_timeout(&addr, GUARD).is_err());
}

fn idle_client(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.addr());
    assert_eq!(client.get("/idle").text(), "idle");
    client
}

on_both_drivers! {
    fn a_response_that_streams_arrives_whole(driver) {
        let (asked, draining) = (Gate::default(), Gate::default());
        let (hears, goes_on) = (asked.clone(), draining.clone());
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                if request.target == "/idle" {
                    conn.send(ok("idle"));
                    continue;
                }
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
                hears.open();
                goes_on.pass("the proxy drains");
                conn.send("4\r\nlast\r\n0\r\nT: v\r\n\r\n");
            }
        });
        let mut proxy = front(driver, &backend.url(), "");
        let mut idle = idle_client(&proxy);
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_response_head();
        client.expect("5\r\nfirst\r\n");
        asked.pass("the backend answers");
        drain(&proxy, &mut idle);
        draining.open();
        client.expect("4\r\nlast\r\n0\r\nT: v\r\n\r\n");
        client.expect_eof();
        drop(client);
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn a_response_that_begins_late_says_close(driver) {
        let (asked, draining) = (Gate::default(), Gate::default());
        let (hears, goes_on) = (asked.clone(), draining.clone());
        let backend = Backend::scripted(move |conn, _| {
            while let Some(request) = conn.next_request() {
                if request.target == "/idle" {
                    conn.send(ok("idle"));
                    continue;
                }
                hears.open();
                goes_on.pass("the proxy drains");
                conn.send(ok("late"));
            }
        });
        let mut proxy = front(driver, &backend.url(), "");
        let mut idle = idle_client(&proxy);
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        asked.pass("the backend has the request");
        drain(&proxy, &mut idle);
        draining.open();
        let response = client.read_response();
        assert_eq!((response.text(), response.field("connection")), ("late", Some("close")));
        client.expect_eof();
        drop(client);
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn an_upload_goes_on_to_its_end(driver) {
        let half = Gate::default();
        let seen = half.clone();
        let backend = Backend::scripted(move |conn, _| {
            while let Some(head) = conn.next_head() {
                if head.starts_with(b"GET") {
                    conn.send(ok("idle"));
                    continue;
                }
                conn.expect("hello");
                seen.open();
                conn.expect("world");
                conn.send(ok("stored"));
            }
        });
        let mut proxy = front(driver, &backend.url(), "");
        let mut idle = idle_client(&proxy);
        let mut client = Client::connect(proxy.addr());
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
        half.pass("the backend has the first half");
        drain(&proxy, &mut idle);
        client.send("world");
        let response = client.read_response();
        assert_eq!((response.text(), response.field("connection")), ("stored", Some("close")));
        client.expect_eof();
        drop(client);
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn a_response_without_end_is_cut_at_the_drains_deadline(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            conn.expect_closed();
        });
        let config = format!(
            "drain_timeout = \"300ms\"\n[server.app]\nproxy_url = \"{}\"\n",
            backend.url()
        );
        let mut proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_response_head();
        client.expect("half");
        proxy.signal(Signal::TERM);
        let (rest, _) = client.read_until_closed();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
        proxy.wait_exit();
        backend.wait_for_scripts(1);
    }
}
