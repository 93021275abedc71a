//! Backends by name, and IPv6 on both sides.

use crate::support::setup::{front, ok, runtime};
use crate::support::{Backend, Client, Proxy};

on_both_drivers! {
    fn a_backend_may_have_a_name(driver) {
        let backend = Backend::recording();
        let url = format!("http://localhost:{}", backend.addr().port());
        let proxy = front(driver, &url, "host_header = \"backend\"");
        assert_eq!(Client::connect(proxy.addr()).get("/").text(), "ok");
        let host = format!("localhost:{}", backend.addr().port());
        assert_eq!(backend.requests()[0].all("host"), [&*host]);
    }

    fn a_name_without_an_address_is_a_bad_gateway(driver) {
        let proxy = front(driver, "http://no-such-host.invalid:80", "");
        let response = Client::connect(proxy.addr()).get("/");
        assert_eq!(response.status, 502);
        assert!(!response.text().contains("invalid"), "{response:?}");
    }

    fn a_backend_may_have_an_ipv6_address(driver) {
        let backend = Backend::scripted_on_ipv6(|conn, _| {
            let host = conn.read_request().field("host").expect("a host").to_owned();
            conn.send(ok(&host));
        });
        let proxy = front(driver, &backend.url(), "host_header = \"backend\"");
        let text = format!("[::1]:{}", backend.addr().port());
        assert_eq!(Client::connect(proxy.addr()).get("/").text(), text);
    }

    fn an_ipv6_client_is_named_by_its_address(driver) {
        let backend = Backend::recording();
        let config = format!(
            "bind = \"::1\"\ntrusted_proxies = [\"::1/128\"]\n[server.app]\nproxy_url = \"{}\"\n{}",
            backend.url(),
            runtime(driver, 1)
        );
        let proxy = Proxy::start(driver, &config);
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: [::1]:80\r\nX-Forwarded-For: 2001:db8::1\r\n\r\n");
        assert_eq!(client.read_response().text(), "ok");
        let request = backend.requests().remove(0);
        assert_eq!(request.all("x-forwarded-for"), ["2001:db8::1, ::1"]);
        assert_eq!(request.all("host"), ["[::1]:80"]);
    }
}
