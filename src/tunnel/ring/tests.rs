//! The ring over loopback: peers are blocking sockets on threads of their own.
//!
//! The small ring of these tests has four buffers and sockets with the smallest kernel buffers, so
//! that starving, short sends and stopped receives happen all the time.
#![expect(clippy::disallowed_types, reason = "peers block; they share no code with the ring")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;

use super::buffers::Buffers;
use super::engine::{Engine, Start};
use super::pair::{Limits, Millis};
use super::port::{Key, Port};
use super::{Ring, RingOptions};
use crate::net::{Pool, Stream, clock};
use crate::tunnel::frames::Frames;
use crate::tunnel::{CloseReason, Ends, Patience, Side, Summary};

const FOR_EVER: Patience = Patience { idle: None, half_close: None };
const SMALL: RingOptions = RingOptions { buffers: 4, buffer_bytes: 700, entries: 8 };
/// What the kernel buffers where a test is not about small buffers.
const LARGE: usize = 32 * 1024;
/// A peer that waits longer than this has waited in vain.
const GUARD: Duration = Duration::from_secs(30);

/// A ring that runs, and what has ended on it.
struct Bench {
    ring: Rc<Ring<u64>>,
    ended: flume::Receiver<(u64, Summary)>,
    pool: Rc<Pool>,
}

impl Bench {
    /// `None` where the kernel refuses such rings.
    fn new(options: RingOptions) -> Option<Self> {
        let ring = match Ring::new(options) {
            Ok(ring) => Rc::new(ring),
            Err(error) => {
                println!("skipped: no ring: {error}");
                return None;
            }
        };
        let (tell, ended) = flume::unbounded();
        let running = Rc::clone(&ring);
        monoio::spawn(async move {
            running.run(move |token, summary| tell.send((token, summary)).unwrap()).await.unwrap();
        });
        Some(Self { ring, ended, pool: Rc::default() })
    }

    /// A tunnel between two new peers.
    fn tunnel(&self, token: u64, patience: Patience) -> (Peer, Peer) {
        self.join(token, patience, (b"", b""), (connection(1), connection(1)))
    }

    fn join(
        &self,
        token: u64,
        patience: Patience,
        early: (&[u8], &[u8]),
        connections: ((Peer, Stream), (Peer, Stream)),
    ) -> (Peer, Peer) {
        let ((client, client_end), (backend, backend_end)) = connections;
        let ends = Ends {
            client: client_end,
            backend: backend_end,
            client_early: self.early(early.0),
            backend_early: self.early(early.1),
            is_websocket: false,
        };
        assert!(self.ring.adopt(ends, patience, token).is_ok(), "the ring runs");
        (client, backend)
    }

    fn early(&self, bytes: &[u8]) -> Option<crate::net::Buffer> {
        let mut buffer = self.pool.take(bytes.len());
        buffer.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        buffer.advance(bytes.len());
        (!bytes.is_empty()).then_some(buffer)
    }

    async fn next_end(&self) -> (u64, Summary) {
        self.ended.recv_async().await.expect("the ring runs")
    }

    /// Nothing is left behind.
    fn assert_clean(&self) {
        assert_eq!(self.ring.len(), 0, "tunnels");
        assert_eq!(self.ring.engine.borrow().held_buffers(), 0, "buffers");
        assert_eq!(self.ring.engine.borrow().pipes.out(), 0, "pipes");
    }
}

/// One peer of the proxy.
struct Peer(TcpStream);

/// A connection: the peer's end and the proxy's. The kernel buffers `buffer_bytes` at each end, or
/// the least it can: then a receiver that has stopped is asked for room only now and then.
fn connection(buffer_bytes: usize) -> (Peer, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).set_recv_buffer_size(buffer_bytes).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (own, _) = listener.accept().unwrap();
    for socket in [&peer, &own] {
        SockRef::from(socket).set_send_buffer_size(buffer_bytes).unwrap();
        SockRef::from(socket).set_recv_buffer_size(buffer_bytes).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    peer.set_read_timeout(Some(GUARD)).unwrap();
    peer.set_write_timeout(Some(GUARD)).unwrap();
    own.set_nonblocking(true).unwrap();
    (Peer(peer), Stream::new(own.into()).unwrap())
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.0.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    fn end(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0);
    }

    fn expect_reset(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

/// Runs what blocks on a thread, while the ring goes on.
async fn meanwhile<R: Send + 'static>(blocks: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = flume::bounded(1);
    let thread = thread::spawn(move || tell.send(blocks()).unwrap());
    let result = told.recv_async().await.expect("the peers are content");
    thread.join().unwrap();
    result
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        value as usize % limit
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

#[monoio::test(enable_timer = true)]
async fn bytes_pass_both_ways_behind_early_ones_until_both_have_ended() {
    let Some(bench) = Bench::new(SMALL) else { return };
    let (mut client, mut backend) =
        bench.join(7, FOR_EVER, (b"ab", b"xyz"), (connection(1), connection(1)));
    meanwhile(move || {
        client.send(b"cd");
        backend.expect(b"abcd");
        client.expect(b"xyz");
        client.end();
        backend.expect_end();
        backend.send(&[9; 5000]);
        client.expect(&[9; 5000]);
        drop(backend);
        client.expect_end();
    })
    .await;
    let (token, summary) = bench.next_end().await;
    assert_eq!((token, summary.reason), (7, CloseReason::ClientClosed));
    assert_eq!((summary.client_to_backend_bytes, summary.backend_to_client_bytes), (4, 5003));
    assert!(summary.failure.is_none());
    bench.assert_clean();
}

#[monoio::test(enable_timer = true)]
async fn early_bytes_that_do_not_fit_come_first_all_the_same() {
    let Some(bench) = Bench::new(SMALL) else { return };
    let bytes = Random(3).bytes(1_000_000);
    let (mut client, mut backend) =
        bench.join(1, FOR_EVER, (&bytes, b""), (connection(LARGE), connection(LARGE)));
    meanwhile(move || {
        client.send(b"end");
        client.end();
        backend.expect(&bytes);
        backend.expect(b"end");
        backend.expect_end();
        drop(backend);
        client.expect_end();
    })
    .await;
    let (_, summary) = bench.next_end().await;
    assert_eq!(summary.client_to_backend_bytes, 1_000_003);
    bench.assert_clean();
}

#[monoio::test(enable_timer = true)]
async fn a_reset_is_carried_on_as_one() {
    let Some(bench) = Bench::new(SMALL) else { return };
    let (mut client, mut backend) = bench.tunnel(1, FOR_EVER);
    meanwhile(move || {
        client.send(b"a");
        backend.expect(b"a");
        client.reset();
        backend.expect_reset();
    })
    .await;
    assert_eq!(bench.next_end().await.1.reason, CloseReason::ClientReset);
    let (mut client, mut backend) = bench.tunnel(2, FOR_EVER);
    meanwhile(move || {
        backend.send(b"a");
        client.expect(b"a");
        backend.reset();
        client.expect_reset();
    })
    .await;
    assert_eq!(bench.next_end().await.1.reason, CloseReason::BackendReset);
    bench.assert_clean();
}

#[monoio::test(enable_timer = true)]
async fn a_reset_after_an_end_is_named_after_the_end() {
    let Some(bench) = Bench::new(SMALL) else { return };
    let (client, mut backend) = bench.tunnel(1, FOR_EVER);
    meanwhile(move || {
        client.end();
        backend.expect_end();
        client.reset();
        // Nothing tells the ring that the client is gone before it sends there. What the backend
        // reads has ended already, so it learns of the reset by sending.
        while backend.0.write_all(b"a").is_ok() {}
    })
    .await;
    let summary = bench.next_end().await.1;
    assert_eq!(summary.reason, CloseReason::ClientClosed);
    assert!(summary.failure.is_none());
    bench.assert_clean();
}

#[monoio::test(enable_timer = true)]
async fn silence_ends_a_tunnel_and_a_byte_puts_it_off() {
    let Some(bench) = Bench::new(SMALL) else { return };
    let hour = Duration::from_hours(1);
    let patience = Patience { idle: Some(hour), half_close: Some(hour / 60) };
    let (mut client, mut backend) = bench.tunnel(1, patience);
    bench.ring.sweep(clock::now() + hour / 2);
    let (mut client, mut backend) = meanwhile(move || {
        client.send(b"a");
        backend.expect(b"a");
        (client, backend)
    })
    .await;
    bench.ring.sweep(clock::now() + hour);
    meanwhile(move || {
        client.expect_end();
        backend.expect_end();
    })
    .await;
    assert_eq!(bench.next_end().await.1.reason, CloseReason::IdleTimeout);

    let (mut client, backend) = bench.tunnel(2, patience);
    let (mut client, mut backend) = meanwhile(move || {
        backend.end();
        client.expect_end();
        (client, backend)
    })
    .await;
    bench.ring.sweep(clock::now() + hour / 60);
    meanwhile(move || {
        backend.expect_end();
        // Its end was passed on before.
        client.0.write_all(b"a").ok();
    })
    .await;
    assert_eq!(bench.next_end().await.1.reason, CloseReason::BackendClosed);
    bench.assert_clean();
}

#[monoio::test(enable_timer = true)]
async fn a_drain_closes_every_tunnel() {
    let Some(bench) = Bench::new(SMALL) else { return };
    let mut peers = Vec::new();
    for token in 0..20 {
        peers.push(bench.tunnel(token, FOR_EVER));
    }
    bench.ring.drain(1001);
    meanwhile(move || {
        for (client, backend) in &mut peers {
            client.expect_end();
            backend.expect_end();
        }
    })
    .await;
    let mut tokens = Vec::new();
    for _ in 0..20 {
        let (token, summary) = bench.next_end().await;
        assert_eq!(summary.reason, CloseReason::Drain);
        tokens.push(token);
    }
    tokens.sort_unstable();
    assert_eq!(tokens, (0..20).collect::<Vec<_>>());
    bench.assert_clean();
}

#[monoio::test(enable_timer = true)]
async fn readers_that_stop_leave_the_others_their_buffers() {
    let Some(bench) = Bench::new(SMALL) else { return };
    let mut stopped = Vec::new();
    for token in 0..10 {
        let ends = (connection(LARGE), connection(LARGE));
        let (mut client, backend) = bench.join(token, FOR_EVER, (b"", b""), ends);
        let bytes = Random(token + 1).bytes(400_000);
        let copy = bytes.clone();
        let sender = thread::spawn(move || {
            client.send(&copy);
            client.end();
            client.expect_end();
        });
        stopped.push((backend, bytes, sender));
    }
    let ends = (connection(LARGE), connection(LARGE));
    let (mut client, mut backend) = bench.join(99, FOR_EVER, (b"", b""), ends);
    meanwhile(move || {
        for number in 0..2000_u32 {
            client.send(&number.to_be_bytes());
            backend.expect(&number.to_be_bytes());
            backend.send(&[1; 9000]);
            client.expect(&[1; 9000]);
        }
    })
    .await;
    assert_eq!(bench.next_end().await.0, 99);
    meanwhile(move || {
        for (mut backend, bytes, sender) in stopped {
            backend.expect(&bytes);
            backend.expect_end();
            drop(backend);
            sender.join().unwrap();
        }
    })
    .await;
    for _ in 0..10 {
        let (_, summary) = bench.next_end().await;
        assert_eq!(
            (summary.reason, summary.client_to_backend_bytes),
            (CloseReason::ClientClosed, 400_000)
        );
    }
    bench.assert_clean();
}

/// How a peer of the stress test leaves.
#[derive(Clone, Copy, PartialEq)]
enum Leaves {
    /// Sends everything, ends, and reads to the end.
    AtTheEnd,
    /// Aborts after so many bytes.
    Resets(usize),
}

/// What a peer of the stress test does.
struct Part {
    sends: Vec<u8>,
    expects: Vec<u8>,
    leaves: Leaves,
    seed: u64,
}

/// Sends in random pieces, and checks that what comes is the front of what is expected. Returns
/// whether all was sent and heard.
fn exchange(peer: Peer, part: Part) -> bool {
    let Part { sends: bytes, expects: expected, leaves, seed } = part;
    let mut writer = peer.0.try_clone().unwrap();
    let resets = writer.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let mut random = Random(seed);
        let mut sent = 0;
        while sent < bytes.len() {
            let piece = (1 + random.below(9000)).min(bytes.len() - sent);
            if writer.write_all(&bytes[sent..sent + piece]).is_err() {
                return false;
            }
            sent += piece;
            if let Leaves::Resets(after) = leaves
                && sent >= after
            {
                SockRef::from(&writer).set_linger(Some(Duration::ZERO)).unwrap();
                // Wakes the reader without a word on the wire: the close that follows is the RST.
                writer.shutdown(Shutdown::Read).ok();
                return false;
            }
        }
        writer.shutdown(Shutdown::Write).is_ok()
    });
    let mut reader = peer.0;
    let mut random = Random(seed ^ 0xffff);
    let mut got = Vec::new();
    let mut whole = false;
    loop {
        let mut buffer = vec![0; 1 + random.below(5000)];
        match reader.read(&mut buffer) {
            Ok(0) => {
                whole = true;
                break;
            }
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(_) => break,
        }
        if let Leaves::Resets(after) = leaves
            && got.len() >= after
        {
            break;
        }
    }
    if leaves != Leaves::AtTheEnd {
        SockRef::from(&reader).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(reader);
    drop(resets);
    let sent_all = writing.join().unwrap();
    assert!(expected.starts_with(&got), "bytes were lost, doubled or reordered");
    // A reset is told once: where the writer has heard of it, the reader sees an end.
    let heard_all = whole && sent_all;
    if heard_all && leaves == Leaves::AtTheEnd {
        assert_eq!(got.len(), expected.len(), "an end in the middle");
    }
    heard_all
}

fn stress(seed: u64, token: u64, peers: (Peer, Peer)) -> [JoinHandle<bool>; 2] {
    let mut random = Random(seed * 1000 + token + 1);
    let (up_count, down_count) = (random.below(30_000), random.below(30_000));
    let (up, down) = (random.bytes(up_count), random.bytes(down_count));
    let mut leaves = |count: usize| match random.below(4) {
        0 => Leaves::Resets(random.below(count + 1)),
        _ => Leaves::AtTheEnd,
    };
    let (client_leaves, backend_leaves) = (leaves(up_count), leaves(down_count));
    let (up_copy, down_copy) = (up.clone(), down.clone());
    let (client, backend) = peers;
    let asks = Part { sends: up, expects: down, leaves: client_leaves, seed: token + 1 };
    let answers =
        Part { sends: down_copy, expects: up_copy, leaves: backend_leaves, seed: token + 7 };
    [
        thread::spawn(move || exchange(client, asks)),
        thread::spawn(move || exchange(backend, answers)),
    ]
}

#[monoio::test(enable_timer = true)]
async fn nothing_is_lost_or_left_behind_whatever_the_peers_do() {
    let Some(bench) = Bench::new(SMALL) else { return };
    for seed in 1..=4 {
        const TUNNELS: u64 = 24;
        let mut threads = Vec::new();
        for token in 0..TUNNELS {
            let peers = bench.tunnel(token, FOR_EVER);
            threads.extend(stress(seed, token, peers));
        }
        let whole = meanwhile(move || {
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|whole| *whole).count()
        })
        .await;
        assert!(whole > 0, "seed {seed}: nobody came to the end");
        for _ in 0..TUNNELS {
            bench.next_end().await;
        }
        bench.assert_clean();
    }
}

#[monoio::test(enable_timer = true)]
async fn more_completions_than_there_is_room_for_are_all_seen() {
    const TUNNELS: u8 = 60;
    // Room for eight completions, and a receive of each tunnel that completes several times.
    let options = RingOptions { buffers: 256, buffer_bytes: 100, entries: 1 };
    let Some(bench) = Bench::new(options) else { return };
    let mut peers: Vec<_> = (0..TUNNELS)
        .map(|token| {
            bench.join(token.into(), FOR_EVER, (b"", b""), (connection(LARGE), connection(LARGE)))
        })
        .collect();
    // Every receive is out.
    monoio::time::sleep(Duration::from_millis(50)).await;
    for (number, (client, _)) in (0..TUNNELS).zip(&mut peers) {
        client.send(&[number; 250]);
        client.end();
    }
    assert!(bench.ring.engine.borrow_mut().port.overflows(), "they fit");
    for (number, (mut client, mut backend)) in (0..TUNNELS).zip(peers) {
        meanwhile(move || {
            backend.expect(&[number; 250]);
            backend.expect_end();
            drop(backend);
            client.expect_end();
        })
        .await;
    }
    for _ in 0..TUNNELS {
        let (_, summary) = bench.next_end().await;
        assert_eq!(summary.reason, CloseReason::ClientClosed);
        assert_eq!(summary.client_to_backend_bytes, 250);
    }
    bench.assert_clean();
}

#[monoio::test(enable_timer = true)]
async fn a_receive_without_memory_is_tried_again_at_the_next_sweep() {
    let Ok(buffers) = Buffers::new(4, 700) else { return };
    let Ok(port) = Port::new(8, buffers) else { return };
    let mut engine = Engine::new(port);
    let ((_client, client), (_backend, backend)) = (connection(1), connection(1));
    engine.adopt(
        Start {
            client: client.duplicate().unwrap(),
            backend: backend.duplicate().unwrap(),
            limits: Limits { idle: Millis::MAX, half_close: Millis::MAX },
            token: 0_u64,
            early: [(Side::Client, 0, Vec::new()), (Side::Backend, 0, Vec::new())],
            frames: [Frames::new(false), Frames::new(false)],
        },
        0,
    );
    // Nothing was submitted: this is what the kernel might have answered.
    let key = Key { index: 0, generation: 1, sender: Side::Client };
    engine.receive_failed(key, Errno::NOMEM);
    assert!(engine.tunnels[0].pair.up.is_quiet(), "no receive is out");
    engine.advance(0);
    assert!(engine.tunnels[0].pair.up.is_quiet(), "it does not spin");
    engine.sweep(1);
    assert!(!engine.tunnels[0].pair.up.is_quiet(), "and comes back");
    assert_eq!((engine.len(), engine.refused.len()), (1, 0));
}
