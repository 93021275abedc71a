//! The binary as a process: what it prints, what it holds, how it ends.

use crate::support::{Backend, Client, Proxy};
use rustix::process::Signal;

on_both_drivers! {
    fn a_request_goes_through_and_its_descriptors_are_given_back(driver) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request();
            conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        });
        let proxy = Proxy::start(driver, &format!("[server.app]\nproxy_url = \"{}\"", backend.url()));
        let idle = proxy.fd_count_at_rest();
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "ok");
        drop(client);
        proxy.wait_for_fd_count(idle);
    }

    fn a_termination_signal_ends_it_with_zero(driver) {
        let backend = Backend::recording();
        let config = format!("[server.app]\nproxy_url = \"{}\"", backend.url());
        let mut proxy = Proxy::start(driver, &config);
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit(), 0, "{:#?}", proxy.logs());
    }

    fn it_listens_on_every_address_it_was_given(driver) {
        let backend = Backend::recording();
        let config = format!(
            "bind = [\"127.0.0.1\", \"::1\"]\n[server.app]\nproxy_url = \"{}\"",
            backend.url()
        );
        let proxy = Proxy::start_with(driver, &config, &[("RUST_LOG", "debug")]);
        proxy.wait_for_logs("HTTP proxy listening on ", 2);
        for addr in proxy.addrs() {
            assert_eq!(Client::connect(addr).get("/").text(), "ok");
        }
        assert_eq!(backend.requests().len(), 2);
    }

    fn it_is_small_and_has_two_workers(driver) {
        let backend = Backend::recording();
        let config = format!("[server.app]\nproxy_url = \"{}\"", backend.url());
        let proxy = Proxy::start(driver, &config);
        assert!(proxy.threads().len() > 2, "{:?}", proxy.threads());
        assert!(proxy.rss_kib() < 128 * 1024, "{} KiB", proxy.rss_kib());
        assert!(proxy.pss_kib() < 128 * 1024, "process {}: {} KiB", proxy.pid(), proxy.pss_kib());
    }
}

#[test]
fn a_backend_on_the_command_line_needs_no_file() {
    let backend = Backend::recording();
    let proxy = Proxy::start_with_arguments(&["--backend", &backend.url(), "--port", "0"]);
    assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
}

#[test]
fn no_argument_prints_usage_and_names_the_demo() {
    let output = Proxy::command(&[]);
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    assert!(printed.contains("Usage") && printed.contains("demo"), "{printed}");
}
