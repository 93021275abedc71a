//! What the backend answers to an upgrade: a 101 that is relayed whole, one that is not believed,
//! and interim answers before it; and the body of a request that asks for an upgrade.

use crate::support::tunnel::{ACCEPTED, Gate, REQUEST, accept, route_to};
use crate::support::{Backend, Client, Proxy, ws};

const BODY_REQUEST: &str = "POST /up HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
     Upgrade: my-proto\r\n";

on_both_drivers! {
    fn a_101_is_relayed_whole_and_in_order(driver) {
        let fields = [
            ("Server", "backend"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "graphql-transport-ws"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover"),
            ("Set-Cookie", "first=1; Path=/"),
            ("X-Unknown", "2"),
            ("Set-Cookie", "second=2"),
            ("x-unknown", "1"),
            ("X-Empty", ""),
        ];
        let lines = fields.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        let answer = format!("HTTP/1.1 101 Web Socket Protocol Handshake\r\n{lines}\r\n");
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request_head();
            conn.send(&answer);
            conn.expect_eof();
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(ws::ws_request("/", &[]));
        let response = client.read_response_head();
        assert_eq!((&*response.version, response.status), ("HTTP/1.1", 101));
        assert_eq!(response.reason, "Web Socket Protocol Handshake");
        let got: Vec<_> = response.fields.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(got, fields);
    }

    fn an_offer_of_compression_and_its_answer_pass_byte_for_byte(driver) {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate;client_max_window_bits ; \
             server_max_window_bits=\"10\",  x-webkit-deflate-frame\r\n";
        let answer = "Sec-WebSocket-Extensions:  permessage-deflate; \
             client_no_context_takeover ;server_max_window_bits=10\r\n";
        let backend = Backend::scripted(move |conn, _| {
            let request = conn.read_request_head();
            assert!(request.head_text.contains(offer), "{request:?}");
            let head = ws::switching_protocols(ws::KEY, &[]);
            conn.send(head.replace("\r\n\r\n", &format!("\r\n{answer}\r\n")));
            conn.expect_eof();
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        let request = ws::ws_request("/", &[]);
        client.send(request.replace("\r\n\r\n", &format!("\r\n{offer}\r\n")));
        let response = client.read_response_head();
        // The space around a value is not part of it; everything within is.
        let value = answer.trim_end().trim_start_matches("Sec-WebSocket-Extensions:").trim();
        assert_eq!(response.all("sec-websocket-extensions"), [value]);
    }

    fn a_101_for_another_protocol_or_for_none_is_a_502(driver) {
        let answers = [
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: my-proto\r\n\
             Upgrade: other\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ,\r\n\r\n",
        ];
        let backend = Backend::scripted(move |conn, number| {
            conn.read_request_head();
            conn.send(answers[number]);
            conn.expect_closed();
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        for answer in answers {
            let mut client = Client::connect(proxy.addr());
            client.send(REQUEST);
            let response = client.read_response();
            assert_eq!(response.status, 502, "{answer}");
            assert_eq!(response.field("upgrade"), None, "{answer}");
        }
        backend.wait_for_scripts(answers.len());
    }

    fn a_101_that_nobody_asked_for_is_a_502_and_its_connection_is_not_used_again(driver) {
        let backend = Backend::scripted(|conn, number| {
            conn.read_request();
            if number == 0 {
                conn.send(ACCEPTED);
                conn.expect_closed();
            } else {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        let response = client.get("/");
        assert_eq!((response.status, response.field("upgrade")), (502, None));
        backend.wait_for_scripts(1);
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.get("/").text(), "ok");
        assert_eq!(backend.accepted(), 2);
    }

    fn interim_answers_come_before_the_101(driver) {
        let gate = Gate::default();
        let shown = gate.clone();
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request_head();
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n");
            // Only after the client has seen both: they are not held back for the 101.
            shown.pass();
            conn.send(format!("{ACCEPTED}early"));
            conn.expect("late");
            conn.send("end");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(REQUEST);
        assert_eq!(client.read_response_head().status, 100);
        let hints = client.read_response_head();
        assert_eq!((hints.status, hints.all("link").len()), (103, 2));
        gate.open();
        assert_eq!(client.read_response_head().status, 101);
        client.expect("early");
        client.send("late");
        client.expect("end");
        client.expect_eof();
    }

    fn a_body_of_known_length_arrives_before_the_tunnels_first_byte(driver) {
        let backend = Backend::scripted(|conn, _| {
            let request = conn.read_request();
            assert_eq!(request.all("content-length"), ["5"]);
            assert_eq!((&*request.body, request.method.as_str()), (&b"hello"[..], "POST"));
            conn.send(ACCEPTED);
            conn.expect("tunnel");
            conn.send("done");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        for glued in [true, false] {
            let mut client = Client::connect(proxy.addr());
            client.send(format!("{BODY_REQUEST}Content-Length: 5\r\n\r\nhel"));
            client.send(if glued { "lotunnel" } else { "lo" });
            assert_eq!(client.read_response_head().status, 101);
            client.send(if glued { "" } else { "tunnel" });
            client.expect("done");
            client.expect_eof();
        }
        backend.wait_for_scripts(2);
    }

    fn a_chunked_body_stays_framed_and_the_tunnel_begins_behind_it(driver) {
        let backend = Backend::scripted(|conn, _| {
            let request = conn.read_request();
            assert_eq!(request.all("transfer-encoding"), ["chunked"]);
            assert_eq!(request.body, b"hello, world");
            conn.send(ACCEPTED);
            conn.expect("5\r\nno chunk any more");
            conn.send("done");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(format!(
            "{BODY_REQUEST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=y\r\n, world\r\n\
             0\r\n\r\n5\r\nno chunk any more"
        ));
        assert_eq!(client.read_response_head().status, 101);
        client.expect("done");
        client.expect_eof();
    }

    fn a_101_that_overtakes_the_body_waits_for_its_end(driver) {
        let gate = Gate::default();
        let answered = gate.clone();
        let backend = Backend::scripted(move |conn, _| {
            accept(conn);
            conn.send("early");
            answered.open();
            conn.expect("0123456789");
            conn.expect("tunnel");
            conn.send("done");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{BODY_REQUEST}Content-Length: 10\r\n\r\n01234"));
        gate.pass();
        client.send("56789tunnel");
        assert_eq!(client.read_response_head().status, 101);
        client.expect("early");
        client.expect("done");
        client.expect_eof();
    }

    fn a_101_in_any_two_pieces_is_the_same_101(driver) {
        let answer = format!("{ACCEPTED}early");
        let len = answer.len();
        let backend = Backend::scripted(move |conn, number| {
            conn.read_request_head();
            conn.send_in_pieces(&answer, &[number + 1]);
            conn.expect("late");
        });
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        for _ in 1..len {
            let mut client = Client::connect(proxy.addr());
            client.send(REQUEST);
            assert_eq!(client.read_response_head().head_text, ACCEPTED);
            client.expect("early");
            client.send("late");
            client.expect_eof();
        }
        assert_eq!(backend.accepted(), len - 1);
    }
}
