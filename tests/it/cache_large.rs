//! Bodies that are larger than what is stored, and one that is just not: 100 MiB through the cache.

use crate::heavy::{HEAVY_GUARD, alone, scaled};
use crate::support::cached::{Caching, Count, FILLS, answer, clients, is_hit, request};
use crate::support::{Backend, Checksum, Client, Driver, Gate, Peer, Proxy, Random, checksum};

const MEBIBYTE: usize = 1 << 20;

/// Mebibytes of the body that several read at once: as usual, and on request.
const STREAMED: (usize, usize) = (24, 256);

/// The most that is stored of it.
const STORED: &str = "max_entry_bytes = \"1MiB\"";

/// What the proxy may grow by meanwhile: on each worker what is stored at most, the window in front of
/// the slowest reader, pieces between the workers, and what the allocator keeps of them.
const GROWTH_MAX_KIB: u64 = 12 * 1024;

/// What goes through the cache whole.
const WHOLE: usize = 100 * MEBIBYTE;

/// What the client beside the one that wants a part has read before the body is too large.
const BEGUN: usize = 50_000;

/// Sends so many bytes of a body in chunks: the same mebibyte again and again. Who wanted it may have
/// left.
fn send_chunks(conn: &mut Peer, part: &[u8], count: usize) {
    let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    for _ in 0..count {
        drop(conn.try_send(&chunk));
    }
}

/// Answers with chunks of unknown number: one first, and the others when `all` opens.
fn streaming(mebibytes: usize, requests: Count, all: Gate) -> Backend {
    Backend::scripted(move |conn, _| {
        conn.set_guard(HEAVY_GUARD);
        let part = Random::new(1).bytes(MEBIBYTE);
        while conn.next_request().is_some() {
            requests.add();
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            drop(conn.try_send(head.as_bytes()));
            send_chunks(conn, &part[..1000], 1);
            all.pass("everybody has its beginning");
            send_chunks(conn, &part, mebibytes);
            drop(conn.try_send(b"0\r\n\r\n"));
        }
    })
}

/// The checksum of that body.
fn checksum_of(mebibytes: usize) -> (u32, u64) {
    let part = Random::new(1).bytes(MEBIBYTE);
    let mut sum = Checksum::default();
    sum.update(&part[..1000]);
    for _ in 0..mebibytes {
        sum.update(&part);
    }
    sum.finish()
}

/// Reads the rest of a chunked body, calling `look` after every mebibyte or so.
fn read_chunks(client: &mut Client, sum: &mut Checksum, mut look: impl FnMut()) {
    let (mut got, mut next) = (0, MEBIBYTE);
    while let Some(chunk) = client.read_chunk() {
        sum.update(&chunk);
        got += chunk.len();
        if got >= next {
            next += MEBIBYTE;
            look();
        }
    }
    client.expect("\r\n");
}

fn start(driver: Driver, fill: &str, rules: &str, url: &str) -> Proxy {
    Caching { fill, rules, ..Caching::default() }.start(driver, url)
}

/// One of several who read the same body at once; the slow one reads with a small buffer, and looks
/// at the proxy's memory meanwhile.
fn read_along(mut client: Client, proxy: &Proxy, is_slow: bool) -> ((u32, u64), u64) {
    client.set_guard(HEAVY_GUARD);
    let (mut sum, mut peak) = (Checksum::default(), 0);
    // The beginning, which everybody has had.
    sum.update(&Random::new(1).bytes(MEBIBYTE)[..1000]);
    read_chunks(&mut client, &mut sum, || {
        if is_slow {
            peak = peak.max(proxy.rss_kib());
        }
    });
    (sum.finish(), peak)
}

/// A stored page is stale, and the new one is too large to be stored: a client that wants a part of it
/// gets that, or the whole, alone or beside one who reads the whole.
fn ask_for_a_part(driver: Driver, beside_another: bool) {
    let (asked, begun) = (Gate::default(), Gate::default());
    let (is_asked, has_begun) = (asked.clone(), begun.clone());
    let body = Random::new(23).bytes(3 * MEBIBYTE);
    let theirs = body.clone();
    let backend = Backend::scripted(move |conn, _| {
        conn.read_request();
        // Stale from the beginning, so that the next request asks whether it still holds.
        let stale = "Cache-Control: max-age=1\r\nAge: 5\r\nETag: \"1\"\r\n";
        conn.send(answer(stale, &"old ".repeat(1_000)));
        assert_eq!(conn.read_request().field("if-none-match"), Some("\"1\""));
        conn.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        is_asked.pass("everybody waits");
        conn.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"2\"\r\n");
        conn.send("Transfer-Encoding: chunked\r\n\r\n");
        // Some pieces of it, and not yet too much.
        send_chunks(conn, &theirs[..BEGUN], 1);
        has_begun.pass("who reads the whole has begun");
        for part in theirs[BEGUN..].chunks(100_000) {
            send_chunks(conn, part, 1);
        }
        drop(conn.try_send(b"0\r\n\r\n"));
    });
    let rules = "max_entry_bytes = 65536";
    let proxy = Caching { workers: 1, rules, ..Caching::default() }.start(driver, &backend.url());
    assert_eq!(Client::connect(proxy.addr()).get("/").body.len(), 4_000);
    let mut another = beside_another.then(|| Client::connect(proxy.addr()));
    if let Some(another) = &mut another {
        another.send(request("/", ""));
        assert_eq!(another.read_response().status, 103);
    }
    let mut partial = Client::connect(proxy.addr());
    partial.send(request("/", "Range: bytes=10-19\r\n"));
    assert_eq!(partial.read_response().status, 103);
    asked.open();
    if let Some(another) = &mut another {
        another.read_response_head();
        let mut left = BEGUN;
        while left > 0 {
            left -= another.read_chunk().expect("the body goes on").len();
        }
    }
    begun.open();
    let partial = std::thread::spawn(move || partial.read_response());
    if let Some(another) = &mut another {
        let mut sum = Checksum::default();
        read_chunks(another, &mut sum, || {});
        assert_eq!(sum.finish(), checksum(&body[BEGUN..]));
    }
    let got = partial.join().expect("a whole response");
    match got.status {
        206 => assert!(got.body == body[10..20], "{got:?}"),
        200 => assert!(got.body == body, "{} bytes: {got:?}", got.body.len()),
        _ => panic!("{got:?}"),
    }
}

on_both_drivers! {
    fn several_read_what_is_too_large_to_be_stored_in_constant_memory(driver) {
        let _alone = alone();
        for fill in FILLS {
            let (requests, all) = (Count::default(), Gate::default());
            let mebibytes = scaled(STREAMED.0, STREAMED.1);
            let backend = streaming(mebibytes, requests.clone(), all.clone());
            let proxy = start(driver, fill, STORED, &backend.url());
            let mut some = clients(&proxy, 4, 2);
            some.push(Client::connect_with_receive_buffer(proxy.addr(), 8192));
            for client in &mut some {
                client.send(request("/", ""));
                client.read_response_head();
                assert_eq!(client.read_chunk().map(|chunk| chunk.len()), Some(1000));
            }
            let most = if fill == "process" { 1 } else { 2 };
            assert!(requests.value() <= most, "{fill}: {requests:?}");
            let (before, count) = (proxy.rss_kib(), some.len());
            all.open();
            let proxy = &proxy;
            let seen: Vec<_> = std::thread::scope(|scope| {
                let readers: Vec<_> = some.into_iter().enumerate().map(|(number, client)| {
                    scope.spawn(move || read_along(client, proxy, number + 1 == count))
                }).collect();
                readers.into_iter().map(|reader| reader.join().expect("it gets all")).collect()
            });
            let whole = checksum_of(mebibytes);
            for (sum, peak) in seen {
                assert_eq!(sum, whole, "{fill}");
                let growth = peak.saturating_sub(before);
                assert!(growth < GROWTH_MAX_KIB, "{fill}: grew by {growth} KiB from {before}");
            }
            assert!(requests.value() <= most, "{fill}: {requests:?}");
            // It is not stored: whoever asks now begins anew.
            let known = requests.value();
            let mut late = Client::connect(proxy.addr());
            late.send(request("/", ""));
            requests.wait_for(known + 1, "requests");
            late.reset();
        }
    }

    fn a_reader_that_stops_does_not_stop_the_others_for_ever(driver) {
        let _alone = alone();
        for fill in FILLS {
            let (requests, all) = (Count::default(), Gate::default());
            let backend = streaming(16, requests.clone(), all.clone());
            let route = "[timeouts]\nbody_idle = \"2s\"";
            let proxy = Caching { fill, route, rules: STORED, ..Caching::default() }
                .start(driver, &backend.url());
            let mut some = clients(&proxy, 4, 2);
            let mut stopped = Client::connect_with_receive_buffer(proxy.addr(), 4096);
            for client in some.iter_mut().chain([&mut stopped]) {
                client.send(request("/", ""));
                client.read_response_head();
                assert_eq!(client.read_chunk().map(|chunk| chunk.len()), Some(1000));
            }
            all.open();
            let proxy = &proxy;
            let whole = checksum_of(16);
            std::thread::scope(|scope| {
                for client in some {
                    scope.spawn(move || assert_eq!(read_along(client, proxy, false).0, whole));
                }
            });
            drop(stopped);
        }
    }

    fn what_is_said_to_be_too_large_is_for_each_alone(driver) {
        for fill in FILLS {
            let requests = Count::default();
            let counted = requests.clone();
            let body = Random::new(9).bytes(2 * MEBIBYTE);
            let theirs = body.clone();
            let backend = Backend::scripted(move |conn, _| {
                while conn.next_request().is_some() {
                    counted.add();
                    conn.send(format!(
                        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n",
                        theirs.len()
                    ));
                    // A client may have left.
                    drop(conn.try_send(&theirs));
                }
            });
            let proxy = start(driver, fill, STORED, &backend.url());
            let mut some = clients(&proxy, 6, 2);
            for client in &mut some { client.send(request("/", "")); }
            for client in &mut some {
                let whole = client.read_response();
                assert!(whole.body == body && !is_hit(&whole), "{fill}: {whole:?}");
            }
            assert_eq!(requests.value(), some.len(), "{fill}");
        }
    }

    fn what_is_just_small_enough_is_stored_and_one_byte_more_is_not(driver) {
        let backend = Backend::scripted(|conn, _| {
            while let Some(request) = conn.next_request() {
                let mut words = request.target.trim_start_matches('/').split('/');
                let is_known = words.next() == Some("known");
                let count: usize = words.next().expect("a size").parse().expect("digits");
                let (fields, body) = ("Cache-Control: max-age=60\r\n", "b".repeat(count));
                // In one piece, so that all of it may be there before anybody looks.
                conn.send(if is_known {
                    answer(fields, &body)
                } else {
                    format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n\
                             {count:x}\r\n{body}\r\n0\r\n\r\n")
                });
            }
        });
        let rules = "max_entry_bytes = 4096";
        let proxy = Caching { workers: 1, rules, ..Caching::default() }.start(driver, &backend.url());
        let mut client = Client::connect(proxy.addr());
        for round in 0..5 {
            for how in ["known", "unknown"] {
                for (count, is_stored) in [(4095, true), (4096, true), (4097, false)] {
                    let path = format!("/{how}/{count}/{round}");
                    assert_eq!(client.get(&path).body.len(), count);
                    let again = client.get(&path);
                    assert_eq!((again.body.len(), is_hit(&again)), (count, is_stored), "{path}");
                }
            }
        }
    }

    fn a_hundred_mebibytes_are_stored_and_found(driver) {
        let _alone = alone();
        for fill in scaled(&FILLS[1..], &FILLS) {
            let backend = Backend::scripted(|conn, _| {
                conn.set_guard(HEAVY_GUARD);
                let part = Random::new(1).bytes(MEBIBYTE);
                while conn.next_request().is_some() {
                    conn.send(format!(
                        "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {WHOLE}\r\n\r\n"
                    ));
                    for _ in 0..WHOLE / MEBIBYTE { conn.send(&part); }
                }
            });
            let rules = "max_bytes = \"512MiB\"\nmax_entry_bytes = \"128MiB\"";
            let proxy = start(driver, fill, rules, &backend.url());
            let part = Random::new(1).bytes(MEBIBYTE);
            let mut sum = Checksum::default();
            for _ in 0..WHOLE / MEBIBYTE { sum.update(&part); }
            let whole = sum.finish();
            let mut client = Client::connect(proxy.addr());
            client.set_guard(HEAVY_GUARD);
            for round in 0..2 {
                client.send(request("/", ""));
                let head = client.read_response_head();
                assert_eq!(is_hit(&head), round == 1, "{fill}: {head:?}");
                let (mut sum, mut left) = (Checksum::default(), WHOLE);
                while left > 0 {
                    let some = client.read_some();
                    assert!(!some.is_empty() && some.len() <= left);
                    left -= some.len();
                    sum.update(&some);
                }
                assert_eq!(sum.finish(), whole, "{fill}, round {round}");
            }
            // A part of it, from over the ends of its pieces.
            client.send(request("/", "Range: bytes=1000000-52000000\r\n"));
            let part_of = client.read_response();
            assert_eq!((part_of.status, part_of.body.len()), (206, 51_000_001));
            let expected: Vec<_> =
                part.iter().cycle().skip(1_000_000).take(51_000_001).copied().collect();
            assert_eq!(checksum(&part_of.body), checksum(&expected));
        }
    }

    fn a_part_of_what_turns_out_too_large_is_answered(driver) {
        ask_for_a_part(driver, false);
    }

    fn a_part_of_what_turns_out_too_large_is_answered_beside_another_client(driver) {
        ask_for_a_part(driver, true);
    }
}
