//! A client that a test scripts in bytes.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};

use socket2::{Domain, Socket, Type};

use super::peer::Peer;
use super::{GUARD, Response};

/// A raw client connection; what it can do is on [`Peer`].
#[derive(Debug)]
pub struct Client(Peer);

impl Client {
    /// Connects.
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, GUARD);
        Self(Peer::new(stream.unwrap_or_else(|e| panic!("connecting to {addr}: {e}")), "client"))
    }

    /// Connects with a receive buffer of about this size, so that a slow reader is felt at once.
    pub fn connect_with_receive_buffer(addr: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        // Before connecting: the window is announced in the handshake.
        socket.set_recv_buffer_size(bytes).expect("SO_RCVBUF");
        let connected = socket.connect_timeout(&addr.into(), GUARD);
        connected.unwrap_or_else(|e| panic!("connecting to {addr}: {e}"));
        Self(Peer::new(socket.into(), "client"))
    }

    /// Speaks over a connection that a test has made itself.
    pub fn over(peer: Peer) -> Self {
        Self(peer)
    }

    /// Connects from this address of the host; on Linux all of 127.0.0.0/8 are.
    pub fn connect_from(source: &str, addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        let source: IpAddr = source.parse().expect("an address");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this host");
        let connected = socket.connect_timeout(&addr.into(), GUARD);
        connected.unwrap_or_else(|e| panic!("connecting from {source} to {addr}: {e}"));
        Self(Peer::new(socket.into(), "client"))
    }

    /// Sends `GET path` with `Host: localhost` and reads the response; the connection persists.
    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.read_response()
    }
}

impl Deref for Client {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.0
    }
}
