//! How a tunnel ends: each end and each abort is carried through to the other side, and the log says
//! whose doing it was and how many bytes went each way.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::tunnel::{Gate, REQUEST, accept, open, route_to};
use crate::support::{Backend, Client, Peer, Proxy, Random, ws};

/// Bytes that still come after one direction has ended.
const REST_BYTES: usize = 1 << 20;

/// Timeouts of a tunnel: far above what a loaded machine may stall.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Between two bytes that keep a tunnel alive.
const PACE: Duration = Duration::from_millis(50);

/// Waits for the line about the tunnel's end and asserts what it says.
fn assert_closed(proxy: &Proxy, reason: &str, up: usize, down: usize) {
    let line = proxy.wait_for_log(&format!(
        "Tunnel closed gracefully. Transferred {up} bytes client->backend, \
         {down} bytes backend->client"
    ));
    assert!(line.contains("INFO phantom_frame::proxy: Tunnel closed"), "{line}");
    assert!(line.contains(&format!("reason={reason} ")), "{line}");
}

/// Waits for the line about a tunnel that was aborted and asserts what it says.
fn assert_aborted(proxy: &Proxy, reason: &str, side: &str) {
    let line = proxy.wait_for_log("Tunnel error: ");
    assert!(line.contains("WARN phantom_frame::proxy: Tunnel error"), "{line}");
    assert!(line.contains(&format!("by the {side}")), "{line}");
    assert!(line.contains(&format!("reason={reason} ")), "{line}");
}

/// Sends a byte at a steady pace for longer than two timeouts; returns how many there were.
fn send_steadily(sender: &mut Peer) -> usize {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < PATIENCE * 2 + PACE {
        sender.send("x");
        count += 1;
        // The pace of the traffic; nothing is awaited.
        std::thread::park_timeout(PACE);
    }
    count
}

on_every_carrier! {
    fn the_backend_may_go_on_after_the_client_has_ended(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            assert_eq!(conn.read_to_eof(), b"bye");
            conn.send(Random::new(1).bytes(REST_BYTES));
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        client.send("bye");
        client.shutdown_write();
        assert!(client.read_to_eof() == Random::new(1).bytes(REST_BYTES));
        assert_closed(&proxy, "client_closed", 3, REST_BYTES);
    }

    fn the_client_may_go_on_after_the_backend_has_ended(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.send("bye");
            conn.shutdown_write();
            assert!(conn.read_to_eof() == Random::new(2).bytes(REST_BYTES));
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        assert_eq!(client.read_to_eof(), b"bye");
        client.send(Random::new(2).bytes(REST_BYTES));
        client.shutdown_write();
        backend.wait_for_scripts(1);
        assert_closed(&proxy, "backend_closed", REST_BYTES, 3);
    }

    fn an_end_is_carried_through_at_once_and_only_one_way(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect("a");
            conn.expect_eof();
            for round in 0..100_u32 {
                conn.send(round.to_be_bytes());
            }
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        client.send("a");
        client.shutdown_write();
        for round in 0..100_u32 {
            client.expect(round.to_be_bytes());
        }
        client.expect_eof();
        assert_closed(&proxy, "client_closed", 1, 400);
    }

    fn a_client_that_leaves_a_talking_backend_has_closed_and_not_failed(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect_eof();
            let block = vec![b'x'; 64 << 10];
            // Until it learns that nobody listens.
            while conn.try_send(&block).is_ok() {}
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        drop(open(&proxy));
        backend.wait_for_scripts(1);
        let line = proxy.wait_for_log("Tunnel closed gracefully. Transferred 0 bytes client->backend");
        assert!(line.contains("reason=client_closed "), "{line}");
    }

    fn a_tunnel_without_a_byte_ends_in_order_too(carrier) {
        let backend = Backend::scripted(|conn, number| {
            accept(conn);
            if number == 0 {
                conn.expect_eof();
            }
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        drop(open(&proxy));
        assert_closed(&proxy, "client_closed", 0, 0);
        backend.wait_for_scripts(1);
        open(&proxy).expect_eof();
        proxy.wait_for_log("reason=backend_closed ");
    }

    fn a_reset_by_the_client_is_a_reset_for_the_backend(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect("a");
            conn.send("b");
            conn.expect_reset();
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        client.send("a");
        client.expect("b");
        client.reset();
        backend.wait_for_scripts(1);
        assert_aborted(&proxy, "client_reset", "client");
    }

    fn a_reset_by_the_backend_is_a_reset_for_the_client(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect("a");
            conn.send("b");
            conn.expect("c");
            conn.reset();
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        client.send("a");
        client.expect("b");
        client.send("c");
        client.expect_reset();
        assert_aborted(&proxy, "backend_reset", "backend");
    }

    fn a_reset_while_bytes_are_under_way_is_still_a_reset(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            let block = vec![b'x'; 64 << 10];
            while conn.try_send(&block).is_ok() {}
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        client.read_exact(1 << 20);
        // Unread bytes and no linger: the kernel resets.
        client.reset();
        backend.wait_for_scripts(1);
        assert_aborted(&proxy, "client_reset", "client");
    }

    fn a_reset_behind_unread_bytes_reaches_a_reader_that_resumes(carrier) {
        let (full, gone) = (Gate::default(), Gate::default());
        let resumed = gone.clone();
        let backend = Backend::scripted(move |conn, _| {
            accept(conn);
            resumed.pass();
            conn.expect_reset();
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        let mut writer = client.second_handle();
        let blocked = full.clone();
        let sending = std::thread::spawn(move || {
            writer.set_guard(PATIENCE);
            let block = vec![b'x'; 1 << 20];
            // Ends when nobody has taken a byte for a while: every buffer on the way is full.
            while writer.try_send(&block).is_ok() {}
            blocked.open();
        });
        full.pass();
        sending.join().expect("the writer gives up");
        client.reset();
        gone.open();
        backend.wait_for_scripts(1);
        assert_aborted(&proxy, "client_reset", "client");
    }

    fn a_silent_tunnel_is_closed_on_both_sides(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.send("hello");
            conn.expect_eof();
        });
        let config = format!("{}[timeouts]\ntunnel_idle = \"300ms\"\n", route_to(&backend.url()));
        let proxy = Proxy::start(carrier, &config);
        let mut client = open(&proxy);
        client.expect("hello");
        client.expect_eof();
        backend.wait_for_scripts(1);
        assert_closed(&proxy, "idle_timeout", 0, 5);
    }

    fn a_tunnel_is_not_silent_while_bytes_flow_one_way(carrier) {
        let backend = Backend::scripted(|conn, number| {
            accept(conn);
            if number == 0 {
                // The client sends, and nothing ever goes back.
                let count = conn.read_to_eof().len();
                conn.send(count.to_string());
            } else {
                send_steadily(conn);
            }
        });
        let config = format!(
            "{}[timeouts]\ntunnel_idle = \"{}ms\"\n",
            route_to(&backend.url()),
            PATIENCE.as_millis()
        );
        let proxy = Proxy::start(carrier, &config);
        let (mut up, mut down) = (open(&proxy), open(&proxy));
        let count = send_steadily(&mut up);
        up.shutdown_write();
        assert_eq!(up.read_to_eof(), count.to_string().as_bytes());
        let got = down.read_to_eof();
        assert!(got.len() > 2 && got.iter().all(|byte| *byte == b'x'), "{}", got.len());
        backend.wait_for_scripts(2);
        drop(down);
        let closed = proxy.wait_for_logs("Tunnel closed gracefully", 2);
        assert!(!closed.iter().any(|line| line.contains("idle_timeout")), "{closed:#?}");
    }

    fn a_direction_that_stays_open_is_closed_after_its_timeout(carrier) {
        let gate = Gate::default();
        let closed = gate.clone();
        let backend = Backend::scripted(move |conn, _| {
            accept(conn);
            conn.expect("bye");
            conn.expect_eof();
            // It neither sends nor ends; only the client sees the proxy's patience end.
            closed.pass();
        });
        let config =
            format!("{}[timeouts]\ntunnel_half_close = \"300ms\"\n", route_to(&backend.url()));
        let proxy = Proxy::start(carrier, &config);
        let mut client = open(&proxy);
        client.send("bye");
        client.shutdown_write();
        client.expect_eof();
        gate.open();
        assert_closed(&proxy, "client_closed", 3, 0);
    }

    fn a_direction_that_flows_outlives_the_other_by_any_time(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect_eof();
            let count = send_steadily(conn);
            conn.send(format!(" {count}"));
        });
        let config = format!(
            "{}[timeouts]\ntunnel_half_close = \"{}ms\"\n",
            route_to(&backend.url()),
            PATIENCE.as_millis()
        );
        let proxy = Proxy::start(carrier, &config);
        let mut client = open(&proxy);
        client.shutdown_write();
        let got = client.read_to_eof();
        let text = String::from_utf8(got).expect("text");
        let (bytes, count) = text.split_once(' ').expect("the backend reached its end");
        assert_eq!(bytes.len().to_string(), count);
        backend.wait_for_scripts(1);
        proxy.wait_for_log("reason=client_closed ");
    }

    fn a_draining_proxy_keeps_its_tunnels_until_its_patience_ends(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect("a");
            conn.send("b");
            conn.expect_eof();
        });
        let config = format!("drain_timeout = \"1s\"\ndrain_spread = 0\n{}", route_to(&backend.url()));
        let proxy = Proxy::start(carrier, &config);
        let mut client = open(&proxy);
        proxy.signal(Signal::TERM);
        proxy.wait_for_log("Draining");
        client.send("a");
        client.expect("b");
        client.expect_eof();
        backend.wait_for_scripts(1);
        assert_closed(&proxy, "drain", 1, 1);
    }

    fn a_drained_proxy_leaves_with_its_last_tunnel(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            conn.expect_eof();
        });
        let config = format!("drain_timeout = \"1h\"\n{}", route_to(&backend.url()));
        let mut proxy = Proxy::start(carrier, &config);
        let client = open(&proxy);
        proxy.signal(Signal::TERM);
        proxy.wait_for_log("Draining");
        drop(client);
        assert_eq!(proxy.wait_exit(), 0);
        assert_closed(&proxy, "client_closed", 0, 0);
    }

    fn the_log_tells_a_tunnels_life_in_four_sentences(carrier) {
        let backend = Backend::scripted(|conn, _| {
            let request = conn.read_request_head();
            let key = request.field("sec-websocket-key").expect("a key");
            conn.send(ws::switching_protocols(key, &[]) + "0123456789");
            conn.expect("early");
            conn.expect_eof();
        });
        let config = format!("{}bind_to = \"/api\"\n", route_to(&backend.url()));
        let proxy = Proxy::start(carrier, &config);
        let mut client = Client::connect(proxy.addr());
        client.send(ws::ws_request("/api/ws?token=secret", &[("Cookie", "id=secret")]) + "early");
        assert_eq!(client.read_response_head().status, 101);
        client.expect("0123456789");
        drop(client);
        // Early bytes count like any others.
        assert_closed(&proxy, "client_closed", 5, 10);
        let sentences = [
            "Upgrade request detected for GET /api/ws, establishing direct proxy tunnel",
            "Backend upgrade successful",
            "Both upgrades successful, establishing bidirectional tunnel",
            "Tunnel closed gracefully. Transferred 5 bytes client->backend, 10 bytes \
             backend->client",
        ];
        let logs = proxy.logs();
        let lines = logs.iter().filter(|line| line.contains(" INFO phantom_frame::proxy: "));
        let told: Vec<_> = lines.map(|line| line.split("::proxy: ").nth(1).unwrap()).collect();
        assert_eq!(told.len(), sentences.len(), "{told:#?}");
        for (line, sentence) in told.iter().zip(sentences) {
            assert!(line.starts_with(sentence), "{line} instead of {sentence}");
        }
        assert!(!logs.iter().any(|line| line.contains("secret")), "{logs:#?}");
    }

    fn a_client_that_leaves_before_the_101_leaves_nothing_behind(carrier) {
        let (asked, left) = (Gate::default(), Gate::default());
        let (has_asked, has_left) = (asked.clone(), left.clone());
        let backend = Backend::scripted(move |conn, _| {
            conn.read_request_head();
            has_asked.open();
            has_left.pass();
            conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: my-proto\r\n\r\n");
            conn.expect_closed();
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(REQUEST);
        asked.pass();
        client.reset();
        left.open();
        backend.wait_for_scripts(1);
    }
}
