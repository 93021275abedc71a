//! Tunnels as scripts open them, and the configurations they need.
//!
//! The protocol is one of our own: the proxy must not care, and a test reads its bytes as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::setup::runtime;
use super::{BackendConn, Carrier, Checksum, Client, GUARD, Peer, Proxy, Request, Watched};

/// An upgrade request for `/`, as short as one can be.
pub const REQUEST: &str =
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: my-proto\r\n\r\n";

/// The 101 that accepts [`REQUEST`].
pub const ACCEPTED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: my-proto\r\n\r\n";

/// Returns the configuration of one route, `app`, to this backend; keys of the route may follow.
pub fn route_to(url: &str) -> String {
    format!("[server.app]\nproxy_url = \"{url}\"\n")
}

/// Returns the table that runs the proxy with a single worker.
pub fn one_worker(carrier: impl Into<Carrier>) -> String {
    runtime(carrier, 1)
}

/// Opens a tunnel through the proxy.
pub fn open(proxy: &Proxy) -> Client {
    open_at(proxy.addr())
}

/// Opens a tunnel through the proxy that listens there.
pub fn open_at(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    client.send(REQUEST);
    assert_eq!(client.read_response_head().status, 101);
    client
}

/// Reads an upgrade request and accepts it.
pub fn accept(conn: &mut BackendConn) -> Request {
    let request = conn.read_request_head();
    conn.send(ACCEPTED);
    request
}

/// Sends back whatever comes, until the end.
pub fn echo(peer: &mut Peer) {
    while let some @ [_, ..] = &*peer.read_some() {
        peer.send(some);
    }
}

/// Reads to the end and returns the checksum of what came.
pub fn checksum_to_eof(peer: &mut Peer) -> (u32, u64) {
    let mut checksum = Checksum::default();
    while let some @ [_, ..] = &*peer.read_some() {
        checksum.update(some);
    }
    checksum.finish()
}

/// Something that happens once; any thread may wait for it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Watched<bool>>);

impl Gate {
    /// Lets everybody pass.
    pub fn open(&self) {
        self.0.with(|open| *open = true);
    }

    /// Waits until somebody opens it.
    pub fn pass(&self) {
        self.pass_within(GUARD);
    }

    /// Waits until somebody opens it, for a script that must hold still for longer.
    pub fn pass_within(&self, guard: Duration) {
        let passed = self.0.wait(guard, |open| open.then_some(()));
        assert!(passed.is_some(), "guard: waited {guard:?} for the other script");
    }
}
