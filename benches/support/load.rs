//! Clients and backend in one: sends through the proxy, answers, and compares every byte.
//!
//! A round writes to every client, then echoes on every backend, then reads on every client. So the
//! proxy has as many messages at once as there are connections, and the load never asks the kernel
//! which socket is ready.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::heads;
use super::rig::Rig;

/// How long anything here waits before it gives up: far longer than a busy machine takes.
const GUARD: Duration = Duration::from_secs(20);

/// What is sent: bytes that differ from message to message in a number they carry.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Message {
    /// A masked binary WebSocket frame of `payload` bytes, at least 8 and less than 64 KiB, as a
    /// client sends it (RFC 6455 5.2). The header is what makes a 16 KiB message longer than a
    /// 16 KiB buffer.
    pub fn frame(payload: usize) -> Self {
        const BINARY: u8 = 0x82;
        const MASKED: u8 = 0x80;
        const LENGTH_FOLLOWS: u8 = 0x7E;
        let mut bytes = vec![BINARY];
        if let Ok(short @ ..LENGTH_FOLLOWS) = u8::try_from(payload) {
            bytes.push(MASKED | short);
        } else {
            let length = u16::try_from(payload).expect("less than 64 KiB");
            bytes.push(MASKED | LENGTH_FOLLOWS);
            bytes.extend(length.to_be_bytes());
        }
        // A mask of zeros leaves the payload as it is.
        bytes.extend([0; 4]);
        let number_at = bytes.len();
        bytes.extend(noise(payload));
        Self { bytes, number_at }
    }

    /// `len` bytes, at least 8, of a stream.
    pub fn block(len: usize) -> Self {
        Self { bytes: noise(len).collect(), number_at: 0 }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The message with this number.
    fn numbered(&mut self, number: u64) -> &[u8] {
        let room = self.bytes.get_mut(self.number_at..self.number_at + 8);
        room.expect("at least 8 bytes").copy_from_slice(&number.to_le_bytes());
        &self.bytes
    }
}

/// Bytes without a pattern that shifted bytes could repeat (xorshift64).
fn noise(len: usize) -> impl Iterator<Item = u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..len).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
}

/// Both ends of one tunnel.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    backend: TcpStream,
}

/// Tunnels that are open, and what goes through them.
#[derive(Debug)]
pub struct Load {
    pairs: Vec<Pair>,
    message: Message,
    /// The number of the next message.
    next: u64,
    received: Vec<u8>,
}

impl Load {
    /// Opens `tunnels` tunnels through the proxy.
    pub fn open(rig: &Rig, tunnels: usize, message: Message) -> Self {
        let pairs = (0..tunnels).map(|_| {
            let client = ask(rig.proxy);
            let backend = answer(&rig.backend);
            expect_switching(&client);
            Pair { client, backend }
        });
        let received = vec![0; message.len()];
        Self { pairs: pairs.collect(), message, next: 0, received }
    }

    /// Tunnels that are open.
    pub fn len(&self) -> u64 {
        u64::try_from(self.pairs.len()).expect("a count of sockets")
    }

    /// Sends a message through every tunnel and back, `rounds` times.
    ///
    /// # Panics
    ///
    /// A byte was lost or changed, or nothing moved for a long time.
    pub fn round_trips(&mut self, rounds: u64) {
        for _ in 0..rounds {
            self.round_trip();
        }
    }

    fn round_trip(&mut self) {
        let Self { pairs, message, next, received } = self;
        for (Pair { client, .. }, number) in pairs.iter_mut().zip(*next..) {
            client.write_all(message.numbered(number)).expect("a client sends");
        }
        for Pair { backend, .. } in pairs.iter_mut() {
            backend.read_exact(received).expect("the backend receives");
            backend.write_all(received).expect("the backend answers");
        }
        for (Pair { client, .. }, number) in pairs.iter_mut().zip(*next..) {
            client.read_exact(received).expect("a client receives");
            assert!(received == message.numbered(number), "message {number} came back changed");
        }
        self.next += self.len();
    }

    /// Sends a message from every client to the backend, `rounds` times, without waiting between
    /// them. A second thread reads.
    ///
    /// # Panics
    ///
    /// As [`Load::round_trips`].
    pub fn stream(&mut self, rounds: u64) {
        let Self { pairs, message, next, received } = self;
        let (pairs, expected, first) = (&*pairs, message.clone(), *next);
        thread::scope(|scope| {
            scope.spawn(move || take_stream(pairs, expected, received, first, rounds));
            let clients = || pairs.iter().map(|pair| &pair.client);
            for (mut client, number) in (0..rounds).flat_map(|_| clients()).zip(first..) {
                client.write_all(message.numbered(number)).expect("a client sends");
            }
        });
        self.next += rounds * self.len();
    }
}

/// Reads one block after the other from every backend, `rounds` times, and compares them.
fn take_stream(
    pairs: &[Pair],
    mut expected: Message,
    received: &mut [u8],
    first: u64,
    rounds: u64,
) {
    let backends = || pairs.iter().map(|pair| &pair.backend);
    for (mut backend, number) in (0..rounds).flat_map(|_| backends()).zip(first..) {
        backend.read_exact(received).expect("the backend receives");
        assert!(received == expected.numbered(number), "block {number} arrived changed");
    }
}

/// Opens `tunnels` tunnels, sends one message through each and back, and closes them.
///
/// # Panics
///
/// A byte was lost or changed, or nothing moved for a long time.
pub fn churn(rig: &Rig, tunnels: usize, message: &mut Message) {
    let clients: Vec<_> = (0..tunnels).map(|_| ask(rig.proxy)).collect();
    let backends: Vec<_> = (0..tunnels).map(|_| answer(&rig.backend)).collect();
    for (mut client, number) in clients.iter().zip(0..) {
        expect_switching(client);
        client.write_all(message.numbered(number)).expect("a client sends");
    }
    let mut received = vec![0; message.len()];
    for mut backend in &backends {
        backend.read_exact(&mut received).expect("the backend receives");
        backend.write_all(&received).expect("the backend answers");
    }
    for (mut client, number) in clients.into_iter().zip(0..) {
        client.read_exact(&mut received).expect("a client receives");
        assert!(received == message.numbered(number), "message {number} came back changed");
    }
    for mut backend in backends {
        // The proxy has carried the end of the client on.
        assert_eq!(backend.read(&mut received).expect("the backend reads"), 0);
    }
}

/// A listener on a free port of loopback, whose `accept` gives up after a while.
pub fn listen() -> TcpListener {
    let listener = bind();
    SockRef::from(&listener).set_read_timeout(Some(GUARD)).expect("an option of sockets");
    listener
}

/// A listener on a free port of loopback.
pub fn bind() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port of loopback")
}

/// Connects a client and asks for a tunnel.
fn ask(proxy: SocketAddr) -> TcpStream {
    let mut client = with_options(TcpStream::connect(proxy).expect("the proxy listens"));
    client.write_all(heads::HANDSHAKE).expect("a client sends");
    client
}

/// Accepts a connection of the proxy and agrees to the tunnel.
fn answer(listener: &TcpListener) -> TcpStream {
    let (backend, _) = listener.accept().expect("the proxy connects");
    let mut backend = with_options(backend);
    let head = read_head(&backend);
    assert!(head.starts_with(b"GET /chat/room/7 HTTP/1.1\r\n"), "not what the client asked for");
    backend.write_all(heads::SWITCHING).expect("the backend answers");
    backend
}

fn expect_switching(client: &TcpStream) {
    let head = read_head(client);
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
}

/// Reads a head; nothing follows one here before it has been answered.
fn read_head(mut from: &TcpStream) -> Vec<u8> {
    let mut head = Vec::with_capacity(4096);
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let count = from.read(&mut piece).expect("a head arrives");
        assert_ne!(count, 0, "closed within a head");
        head.extend_from_slice(piece.get(..count).expect("no more than there is room for"));
    }
    head
}

fn with_options(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("an option of sockets");
    stream.set_read_timeout(Some(GUARD)).expect("an option of sockets");
    stream.set_write_timeout(Some(GUARD)).expect("an option of sockets");
    stream
}
