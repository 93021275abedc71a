//! A drain's end: tunnels close one by one, and WebSocket peers are told so where that is possible.

use std::net::TcpStream;
use std::thread;

use rustix::process::Signal;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

use crate::support::setup::runtime;
use crate::support::tunnel::{self, accept, echo};
use crate::support::{Backend, BackendConn, Client, Driver, Proxy, ws};

const ENGINES: [&str; 2] = ["auto", "pump"];

fn front(driver: Driver, url: &str, engine: &str, (timeout, spread): (&str, &str)) -> Proxy {
    let drain = format!("drain_timeout = \"{timeout}\"\ndrain_spread = \"{spread}\"\n");
    let route = format!("[server.app]\nproxy_url = \"{url}\"\n");
    let engine = format!("tunnel = \"{engine}\"\n");
    Proxy::start(driver, &(drain + &route + &runtime(driver, 1) + &engine))
}

/// The seconds of the day in a line of the log.
fn second(line: &str) -> f64 {
    let time = line.split_once('T').expect("a time").1;
    let part =
        |from, to| time.get(from..to).and_then(|part| part.parse::<f64>().ok()).expect("one");
    part(0, 2).mul_add(3600.0, part(3, 5).mul_add(60.0, part(6, 15)))
}

/// Opens a WebSocket whose backend does this once it has accepted.
fn open_websocket(
    driver: Driver,
    engine: &str,
    script: fn(&mut BackendConn),
) -> (Backend, Proxy, Client) {
    let backend = Backend::scripted(move |conn, _| {
        let request = conn.read_request_head();
        let key = request.field("sec-websocket-key").expect("a key");
        conn.send(ws::switching_protocols(key, &[]));
        script(conn);
    });
    let proxy = front(driver, &backend.url(), engine, ("300ms", "200ms"));
    let mut client = Client::connect(proxy.addr());
    client.send(ws::ws_request("/", &[]));
    assert_eq!(client.read_response_head().status, 101);
    (backend, proxy, client)
}

on_both_drivers! {
    fn tunnels_that_are_left_close_one_by_one(driver) {
        const COUNT: usize = 80;
        for engine in ENGINES {
            let backend = Backend::scripted(|conn, _| {
                accept(conn);
                echo(conn);
            });
            let mut proxy = front(driver, &backend.url(), engine, ("4s", "3s"));
            let mut clients: Vec<_> = (0..COUNT).map(|_| tunnel::open(&proxy)).collect();
            proxy.signal(Signal::TERM);
            assert_eq!(proxy.wait_exit(), 0);
            let logs = proxy.logs();
            let of = |words: &str| -> Vec<f64> {
                logs.iter().filter(|line| line.contains(words)).map(|line| second(line)).collect()
            };
            let (began, ends) = (of("Draining: not accepting")[0], of("reason=drain"));
            assert_eq!(ends.len(), COUNT);
            assert!(ends[0] - began >= 0.99, "none goes before its time");
            let within = |from: f64, to: f64| {
                ends.iter().filter(|end| (from..to).contains(&(*end - began))).count()
            };
            // A second each; even a slow machine does not put them all into one.
            let seconds = [within(0.9, 2.0), within(2.0, 3.0), within(3.0, 9.0)];
            assert!(seconds.iter().all(|count| *count <= COUNT * 2 / 3), "{engine}: {seconds:?}");
            // In no order of age: the first half does not go before the second.
            for client in &mut clients {
                client.expect_eof();
            }
        }
    }

    fn a_library_of_websockets_hears_a_close_on_both_sides(driver) {
        for engine in ENGINES {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let url = format!("http://{}", listener.local_addr().expect("an address"));
            let backend = thread::spawn(move || {
                let (stream, _) = listener.accept().expect("the proxy connects");
                let mut socket = tungstenite::accept(stream).expect("a handshake");
                loop {
                    match socket.read() {
                        Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
                        Ok(message) => socket.send(message).expect("an echo"),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            let mut proxy = front(driver, &url, engine, ("300ms", "200ms"));
            let stream = TcpStream::connect(proxy.addr()).expect("the proxy listens");
            let address = format!("ws://{}/", proxy.addr());
            let (mut socket, _) = tungstenite::client(address, stream).expect("a handshake");
            for size in [0, 5, 125, 126, 65_535, 65_536, 300_000] {
                let message = Message::binary(vec![7; size]);
                socket.send(message.clone()).expect("sending");
                assert_eq!(socket.read().expect("an echo"), message);
            }
            proxy.signal(Signal::TERM);
            match socket.read() {
                Ok(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Away),
                other => panic!("{engine}: {other:?}"),
            }
            // The answer goes out, and then the end comes in order.
            assert!(matches!(socket.read(), Err(Error::ConnectionClosed)), "{engine}");
            assert_eq!(backend.join().expect("no panic"), Some(CloseCode::Away), "{engine}");
            assert_eq!(proxy.wait_exit(), 0);
            assert!(proxy.logs().iter().any(|line| line.contains("reason=drain")));
        }
    }

    fn between_the_fragments_of_a_message_there_is_room_for_a_close(driver) {
        for engine in ENGINES {
            let (_backend, proxy, mut client) = open_websocket(driver, engine, |conn| {
                // Two of three, and a ping between them.
                conn.send(b"\x01\x02he\x89\x00\x00\x01l");
                conn.read_some();
            });
            assert_eq!(client.read_exact(9), b"\x01\x02he\x89\x00\x00\x01l");
            proxy.signal(Signal::TERM);
            assert_eq!(client.read_exact(4), [0x88, 2, 0x03, 0xe9]);
            client.expect_eof();
        }
    }

    fn inside_of_a_frame_there_is_none(driver) {
        for engine in ENGINES {
            let (_backend, proxy, mut client) = open_websocket(driver, engine, |conn| {
                conn.send(b"\x82\x7e\x01\x00 256 bytes, of which");
                conn.read_some();
            });
            client.read_exact(24);
            proxy.signal(Signal::TERM);
            assert_eq!(client.read_to_eof(), b"");
        }
    }

    fn other_protocols_are_not_spoken_to(driver) {
        for engine in ENGINES {
            let backend = Backend::scripted(|conn, _| {
                accept(conn);
                conn.send(b"\x82\x00");
                assert_eq!(conn.read_to_eof(), b"");
            });
            let proxy = front(driver, &backend.url(), engine, ("300ms", "200ms"));
            let mut client = tunnel::open(&proxy);
            assert_eq!(client.read_exact(2), b"\x82\x00");
            proxy.signal(Signal::TERM);
            assert_eq!(client.read_to_eof(), b"");
        }
    }

    fn a_client_that_talks_on_still_hears_the_close(driver) {
        for engine in ENGINES {
            let (_backend, proxy, mut client) = open_websocket(driver, engine, |conn| {
                while !conn.read_some().is_empty() {}
            });
            let mut talker = client.second_handle();
            let talking = thread::spawn(move || {
                // Masked frames of 4 bytes, until nobody listens.
                while talker.try_send(b"\x82\x84\x00\x00\x00\x00abcd").is_ok() {
                    thread::yield_now();
                }
            });
            proxy.signal(Signal::TERM);
            assert_eq!(client.read_exact(4), [0x88, 2, 0x03, 0xe9]);
            client.expect_eof();
            drop(client);
            talking.join().expect("no panic");
        }
    }
}
