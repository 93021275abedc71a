//! Large bodies go through in constant memory.

use crate::support::setup::{front, ok};
use crate::support::{Backend, Client, Proxy};

const MEBIBYTE: usize = 1 << 20;

/// What is moved, and what is moved before so that every pool has its size.
const BODY: usize = 300 * MEBIBYTE;
const WARM_UP: usize = 16 * MEBIBYTE;

const GROWTH_MAX_KIB: u64 = 4 * 1024;

fn upload(client: &mut Client, proxy: &Proxy, bytes: usize) -> u64 {
    let part = vec![b'u'; MEBIBYTE];
    let mut peak = 0;
    client.send(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n"));
    for number in 0..bytes / MEBIBYTE {
        client.send(&part);
        if number % 8 == 0 {
            peak = peak.max(proxy.rss_kib());
        }
    }
    assert_eq!(client.read_response().text(), "stored");
    peak
}

fn download(client: &mut Client, proxy: &Proxy, bytes: usize) -> u64 {
    let mut peak = 0;
    client.send(format!("GET /{bytes} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(client.read_response_head().field("transfer-encoding"), Some("chunked"));
    let (mut got, mut next) = (0, 0);
    while let Some(chunk) = client.read_chunk() {
        got += chunk.len();
        if got >= next {
            next += 8 * MEBIBYTE;
            peak = peak.max(proxy.rss_kib());
        }
    }
    client.expect("\r\n");
    assert_eq!(got, bytes);
    peak
}

fn assert_bounded(before: u64, peak: u64) {
    let growth = peak.saturating_sub(before);
    assert!(growth < GROWTH_MAX_KIB, "grew by {growth} KiB, from {before}");
}

on_both_drivers! {
    fn a_large_upload_takes_no_memory(driver) {
        let backend = Backend::scripted(|conn, _| {
            loop {
                let Some(head) = conn.next_head() else { return };
                let head = crate::support::Request::from_head(&head);
                let mut left: usize = head.field("content-length").expect("a length").parse().expect("digits");
                while left > 0 {
                    let some = conn.read_some();
                    assert!(!some.is_empty() && some.len() <= left, "{} for {left}", some.len());
                    left -= some.len();
                }
                conn.send(ok("stored"));
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        let before = upload(&mut client, &proxy, WARM_UP).max(proxy.rss_kib());
        assert_bounded(before, upload(&mut client, &proxy, BODY));
    }

    fn a_large_download_takes_no_memory(driver) {
        let backend = Backend::scripted(|conn, _| {
            let part = vec![b'd'; MEBIBYTE];
            while let Some(request) = conn.next_request() {
                let digits = request.target.trim_start_matches('/');
                let bytes: usize = digits.parse().expect("digits");
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for _ in 0..bytes / MEBIBYTE {
                    conn.send("100000\r\n");
                    conn.send(&part);
                    conn.send("\r\n");
                }
                conn.send("0\r\n\r\n");
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect(proxy.addr());
        let before = download(&mut client, &proxy, WARM_UP).max(proxy.rss_kib());
        assert_bounded(before, download(&mut client, &proxy, BODY));
    }

    fn a_slow_reader_stops_the_backend(driver) {
        let backend = Backend::scripted(|conn, _| {
            let part = vec![b'd'; MEBIBYTE];
            while conn.next_request().is_some() {
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 * MEBIBYTE));
                for _ in 0..64 {
                    conn.send(&part);
                }
            }
        });
        let proxy = front(driver, &backend.url(), "");
        let mut client = Client::connect_with_receive_buffer(proxy.addr(), 8192);
        let before = { Client::connect(proxy.addr()).get("/"); proxy.rss_kib() };
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.read_response_head();
        // A fast client gets all of its own answer meanwhile: the slow one has met its limit.
        let fast = Client::connect(proxy.addr()).get("/");
        assert_eq!(fast.body.len(), 64 * MEBIBYTE);
        assert_bounded(before, proxy.rss_kib());
        let mut left = 64 * MEBIBYTE;
        while left > 0 {
            left -= client.read_some().len();
        }
    }
}
