//! `phantom-frame demo` as a visitor sees it: the address printed, the page, and an echo through the
//! tunnel by a WebSocket client nobody here wrote.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use crate::support::{Client, GUARD, Proxy};

/// Starts the demo and returns it with the address that it prints for a person.
fn start() -> (Proxy, SocketAddr) {
    let demo = Proxy::start_with_arguments(&["demo", "--port", "0"]);
    let line = demo.wait_for_log("Open http://");
    let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
    let addr = url.and_then(|url| url.strip_suffix('/')?.parse().ok());
    let addr = addr.unwrap_or_else(|| panic!("no address in {line:?}"));
    (demo, addr)
}

/// A stream that goes on when a signal has interrupted it, which tungstenite takes for its end.
///
/// A proxy of another test that exits is enough, because the stream has a timeout.
struct Steady(TcpStream);

impl Read for Steady {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

impl Write for Steady {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn open_socket(addr: SocketAddr) -> WebSocket<Steady> {
    let stream = TcpStream::connect_timeout(&addr, GUARD).expect("connecting to the demo");
    stream.set_read_timeout(Some(GUARD)).expect("a read timeout");
    let mut request = format!("ws://{addr}/ws").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("demo"));
    let (socket, response) = tungstenite::client(request, Steady(stream)).expect("a handshake");
    // The backend's choice arrives: the 101 is relayed whole.
    let chosen = response.headers().get("sec-websocket-protocol");
    assert_eq!(chosen, Some(&HeaderValue::from_static("demo")));
    socket
}

#[test]
fn the_printed_address_serves_the_page() {
    let (demo, addr) = start();
    assert_eq!(addr, demo.addr());
    assert!(addr.ip().is_loopback(), "a demo is not for the network: {addr}");
    let page = Client::connect(addr).get("/");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<title>phantom-frame demo</title>"), "{page:?}");
    assert_eq!(Client::connect(addr).get("/nothing").status, 404);
}

#[test]
fn a_websocket_echoes_through_the_tunnel_and_is_counted_in_the_log() {
    let (demo, addr) = start();
    let mut socket = open_socket(addr);
    let large: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    for message in [Message::text("hello"), Message::text(""), Message::binary(large)] {
        socket.send(message.clone()).expect("sending a message");
        assert!(socket.read().expect("its echo") == message);
    }
    socket.close(None).expect("starting to close");
    while socket.read().is_ok() {}
    drop(socket);
    // Two messages of payload, with frames around them: the bytes went through the tunnel.
    let line = demo.wait_for_log("Tunnel closed gracefully. Transferred 10000");
    assert!(line.contains("bytes client->backend, 10000"), "{line}");
}

#[test]
fn control_c_ends_the_demo() {
    let (mut demo, addr) = start();
    assert_eq!(Client::connect(addr).get("/").status, 200);
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_exit(), 0, "{:#?}", demo.logs());
}
