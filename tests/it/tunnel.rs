//! What a tunnel carries: the bytes that were glued to the heads first, then everything in order,
//! both ways at once, and without one tunnel keeping the others from running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};

use crate::support::tunnel::{
    ACCEPTED, Gate, REQUEST, accept, checksum_to_eof, echo, one_worker, open, route_to,
};
use crate::support::{Backend, Client, GUARD, Peer, Proxy, Random, Watched, checksum, ws};

/// A byte, what fits beside a head, and more than one read of the proxy.
const EARLY: [usize; 3] = [1, 10 << 10, 100 << 10];

/// Bytes of each direction when both are busy.
const BOTH_WAYS_BYTES: usize = 16 << 20;

/// Bytes that have gone through a busy tunnel before the quiet one is tried.
const BLAST_BYTES: u64 = 16 << 20;

/// Sends random bytes in pieces of random sizes, then the end.
fn send_random(peer: &mut Peer, seed: u64, count: usize) {
    let mut random = Random::new(seed);
    let bytes = random.bytes(count);
    let mut rest = &*bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(300_000)));
        peer.send(piece);
        rest = after;
    }
    peer.shutdown_write();
}

on_every_carrier! {
    fn bytes_glued_to_the_request_arrive_first_and_unchanged(carrier) {
        let backend = Backend::scripted(|conn, number| {
            let early = Random::new(1).bytes(EARLY[number]);
            accept(conn);
            conn.expect(early);
            conn.expect("then");
            conn.send("done");
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        for count in EARLY {
            let early = Random::new(1).bytes(count);
            let mut client = Client::connect(proxy.addr());
            client.send([REQUEST.as_bytes(), &early].concat());
            assert_eq!(client.read_response_head().status, 101);
            client.send("then");
            client.expect("done");
            client.expect_eof();
        }
        backend.wait_for_scripts(EARLY.len());
    }

    fn bytes_glued_to_the_101_arrive_first_and_unchanged(carrier) {
        let backend = Backend::scripted(|conn, number| {
            let early = Random::new(2).bytes(EARLY[number]);
            conn.read_request_head();
            conn.send([ACCEPTED.as_bytes(), &early, b"then"].concat());
            conn.expect("done");
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        for count in EARLY {
            let mut client = open(&proxy);
            client.expect(Random::new(2).bytes(count));
            client.expect("then");
            client.send("done");
            client.expect_eof();
        }
        backend.wait_for_scripts(EARLY.len());
    }

    fn a_client_that_ends_behind_its_early_bytes_still_gets_its_tunnel(carrier) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            conn.send(format!("{ACCEPTED}hello"));
            assert_eq!(conn.read_to_eof(), b"early");
            conn.send(", good bye");
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{REQUEST}early"));
        client.shutdown_write();
        assert_eq!(client.read_response_head().status, 101);
        assert_eq!(client.read_to_eof(), b"hello, good bye");
        proxy.wait_for_log("Transferred 5 bytes client->backend, 15 bytes backend->client");
    }

    fn a_handshake_in_any_two_pieces_is_the_same_handshake(carrier) {
        let request = format!("{}early", ws::ws_request("/cut", &[("Origin", "http://o")]));
        let len = request.len();
        let backend = Backend::scripted(|conn, _| {
            let request = conn.read_request_head();
            assert_eq!((&*request.line, request.fields.len()), ("GET /cut HTTP/1.1", 9));
            conn.send(ws::switching_protocols(ws::KEY, &[]) + "first");
            conn.expect("early");
            conn.send("last");
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        for cut in 1..len {
            let mut client = Client::connect(proxy.addr());
            client.send_in_pieces(&request, &[cut]);
            let response = client.read_response_head();
            assert_eq!((response.status, cut), (101, cut));
            client.expect("firstlast");
        }
        backend.wait_for_scripts(len - 1);
    }

    fn a_handshake_and_its_tunnel_byte_by_byte_are_the_same(carrier) {
        let backend = Backend::scripted(|conn, _| {
            conn.read_request_head();
            let answer = format!("{ACCEPTED}early");
            conn.send_in_pieces(&answer, &(1..answer.len()).collect::<Vec<_>>());
            conn.expect("early and late");
            conn.send_in_pieces("late", &[1, 2, 3]);
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = Client::connect(proxy.addr());
        let request = format!("{REQUEST}early and late");
        client.send_in_pieces(&request, &(1..request.len()).collect::<Vec<_>>());
        assert_eq!(client.read_response_head().head_text, ACCEPTED);
        client.expect("earlylate");
    }

    fn both_directions_move_at_once(carrier) {
        let backend = Backend::scripted(|conn, _| {
            accept(conn);
            let mut writer = conn.second_handle();
            let sending =
                std::thread::spawn(move || send_random(&mut writer, 11, BOTH_WAYS_BYTES));
            let expected = checksum(&sent_with(12));
            assert_eq!(checksum_to_eof(conn), expected);
            sending.join().expect("the client takes everything");
        });
        let proxy = Proxy::start(carrier, &route_to(&backend.url()));
        let mut client = open(&proxy);
        let mut writer = client.second_handle();
        let sending = std::thread::spawn(move || send_random(&mut writer, 12, BOTH_WAYS_BYTES));
        assert_eq!(checksum_to_eof(&mut client), checksum(&sent_with(11)));
        sending.join().expect("the backend takes everything");
        backend.wait_for_scripts(1);
        proxy.wait_for_log(&format!(
            "Transferred {BOTH_WAYS_BYTES} bytes client->backend, \
             {BOTH_WAYS_BYTES} bytes backend->client"
        ));
    }

    fn a_busy_tunnel_does_not_keep_another_of_its_worker_from_running(carrier) {
        let stop = Arc::new(AtomicBool::new(false));
        let moved = Arc::new(Watched::<u64>::default());
        let backend = blasting(&stop, &moved);
        let config = route_to(&backend.url()) + &one_worker(carrier);
        let proxy = Proxy::start(carrier, &config);
        for path in ["/up", "/down"] {
            stop.store(false, Ordering::Relaxed);
            moved.with(|moved| *moved = 0);
            let mut busy = Client::connect(proxy.addr());
            busy.send(REQUEST.replacen('/', path, 1));
            assert_eq!(busy.read_response_head().status, 101);
            let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&moved));
            let blasting = std::thread::spawn(move || match path {
                "/up" => blast(&mut busy, &stopped),
                _ => swallow(&mut busy, &counted),
            });
            let mut quiet = open(&proxy);
            wait_for_bytes(&moved, BLAST_BYTES);
            let before = moved.with(|moved| *moved);
            for round in 0..200_u32 {
                let message = round.to_be_bytes();
                quiet.send(message);
                quiet.expect(message);
            }
            // It ran all the while, and still does.
            wait_for_bytes(&moved, before + BLAST_BYTES);
            stop.store(true, Ordering::Relaxed);
            blasting.join().expect("the busy tunnel ends in order");
        }
    }

    fn many_tunnels_of_one_worker_are_opened_beside_a_busy_one(carrier) {
        let stop = Arc::new(AtomicBool::new(false));
        let moved = Arc::new(Watched::<u64>::default());
        let backend = blasting(&stop, &moved);
        let config = route_to(&backend.url()) + &one_worker(carrier);
        let proxy = Proxy::start(carrier, &config);
        let mut busy = Client::connect(proxy.addr());
        busy.send(REQUEST.replacen('/', "/up", 1));
        assert_eq!(busy.read_response_head().status, 101);
        let stopped = Arc::clone(&stop);
        let blasting = std::thread::spawn(move || blast(&mut busy, &stopped));
        wait_for_bytes(&moved, BLAST_BYTES);
        for _ in 0..50 {
            let mut tunnel = open(&proxy);
            tunnel.send("word");
            tunnel.expect("word");
        }
        stop.store(true, Ordering::Relaxed);
        blasting.join().expect("the busy tunnel ends in order");
    }

    fn a_reader_that_stops_stops_its_writer_and_nobody_else(carrier) {
        let gate = Gate::default();
        let resumed = gate.clone();
        let expected = checksum(&sent_with(13));
        let backend = Backend::scripted(move |conn, number| {
            accept(conn);
            if number > 0 {
                return echo(conn);
            }
            resumed.pass();
            assert_eq!(checksum_to_eof(conn), expected);
        });
        let config = route_to(&backend.url()) + &one_worker(carrier);
        let proxy = Proxy::start(carrier, &config);
        let mut client = open(&proxy);
        let sending = std::thread::spawn(move || {
            send_random(&mut client, 13, BOTH_WAYS_BYTES);
            client.expect_eof();
        });
        let mut other = open(&proxy);
        for round in 0..50_u32 {
            other.send(round.to_be_bytes());
            other.expect(round.to_be_bytes());
        }
        gate.open();
        sending.join().expect("the backend takes everything");
        backend.wait_for_scripts(1);
    }
}

fn sent_with(seed: u64) -> Vec<u8> {
    Random::new(seed).bytes(BOTH_WAYS_BYTES)
}

/// A backend that swallows under `/up`, blasts under `/down` until `stop`, and echoes elsewhere.
fn blasting(stop: &Arc<AtomicBool>, moved: &Arc<Watched<u64>>) -> Backend {
    let (stop, moved) = (Arc::clone(stop), Arc::clone(moved));
    Backend::scripted(move |conn, _| match &*accept(conn).target {
        "/up" => swallow(conn, &moved),
        "/down" => blast(conn, &stop),
        _ => echo(conn),
    })
}

fn blast(peer: &mut Peer, stop: &AtomicBool) {
    let bytes = vec![b'x'; 256 << 10];
    while !stop.load(Ordering::Relaxed) {
        peer.send(&bytes);
    }
    peer.shutdown_write();
    peer.expect_eof();
}

/// Takes bytes without copying them, so that the proxy is the slowest of the three.
fn swallow(peer: &mut Peer, moved: &Watched<u64>) {
    let mut count = peer.early().len();
    let mut bytes = vec![0; 1 << 20];
    loop {
        moved.with(|moved| *moved += u64::try_from(count).expect("a length fits 64 bits"));
        let received =
            retry_on_intr(|| recv(peer.stream(), &mut *bytes, RecvFlags::TRUNC).map(|got| got.1));
        count = received.expect("the busy tunnel ends in order");
        if count == 0 {
            return;
        }
    }
}

fn wait_for_bytes(moved: &Watched<u64>, count: u64) {
    let reached = moved.wait(GUARD, |moved| (*moved >= count).then_some(()));
    assert!(reached.is_some(), "guard: waited {GUARD:?} for {count} bytes of the busy tunnel");
}
