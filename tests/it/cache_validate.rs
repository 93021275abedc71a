//! Stale responses: asked about, brought up to date, replaced.

use crate::support::pages::{
    CacheStatus, Pages, age, answer, date, get, is_hit, one_each, page, pass_both, send,
    two_workers,
};
use crate::support::setup::front;
use crate::support::{Client, Gate};

/// Stale as soon as it is stored.
const STALE: &str = "Cache-Control: max-age=60\r\nAge: 70\r\n";
const TAG: &str = "ETag: \"a\"\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n";

on_both_drivers! {
    fn a_stale_page_is_asked_about_and_brought_up_to_date(driver) {
        let pages = Pages::of(|request, number| {
            if number == 0 {
                return page(&format!("{STALE}{TAG}X-Old: 1\r\nX-New: 1\r\nContent-Type: text/plain\r\n"), "the page");
            }
            assert_eq!(request.all("if-none-match"), ["\"a\""]);
            assert_eq!(request.all("if-modified-since"), ["Sat, 01 Jan 2000 00:00:00 GMT"]);
            let fields = format!(
                "Cache-Control: max-age=600\r\nExpires: {}\r\nETag: \"a\"\r\nX-New: 2\r\nX-New: 3\r\nX-Hop: 1\r\n\
                 Connection: X-Hop\r\nContent-Length: 99\r\nContent-Encoding: br\r\nContent-Range: bytes 0-1/2\r\n\
                 Set-Cookie: id=1\r\nAge: 5\r\n", date(600));
            answer("304 Not Modified", &fields, "")
        });
        let proxy = two_workers(driver, &pages, "");
        let [mut one, mut other] = one_each(&proxy);
        get(&mut one, "/", "");
        for (round, client) in [&mut one, &mut other].into_iter().enumerate() {
            for again in 0..2 {
                let answer = get(client, "/", "");
                assert_eq!((answer.status, answer.text()), (200, "the page"));
                if round == 0 && again == 0 {
                    let status = CacheStatus::of(&answer);
                    assert_eq!((&*status.fwd, status.fwd_status), ("stale", Some(304)), "{answer:?}");
                } else {
                    assert!(round == 1 || is_hit(&answer), "{answer:?}");
                }
                assert_eq!(answer.all("cache-control"), ["max-age=600"]);
                assert_eq!(answer.all("x-new"), ["2", "3"]);
                assert_eq!((answer.field("x-old"), answer.field("content-type")), (Some("1"), Some("text/plain")));
                assert_eq!(answer.all("content-length"), ["8"]);
                assert!(answer.field("expires").is_some());
                for name in ["x-hop", "content-encoding", "content-range"] {
                    assert_eq!(answer.field(name), None, "{answer:?}");
                }
                assert!((again == 0 && round == 0) || answer.field("set-cookie").is_none(), "{answer:?}");
                assert!((5..30).contains(&age(&answer)), "{answer:?}");
            }
        }
        assert_eq!(pages.count("/"), 2);
    }

    fn the_clients_own_condition_is_answered_by_us(driver) {
        let pages = Pages::of(|request, number| {
            if number == 0 {
                return page(&format!("{STALE}{TAG}"), "the page");
            }
            assert_eq!(request.all("if-none-match"), ["\"a\""]);
            answer("304 Not Modified", &format!("{STALE}{TAG}"), "")
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        get(&mut client, "/", "");
        for (fields, status, body) in [
            ("If-None-Match: \"client\"\r\n", 200, "the page"), ("If-None-Match: \"a\"\r\n", 304, ""),
            ("If-Modified-Since: Fri, 31 Dec 1999 23:59:59 GMT\r\n", 200, "the page"),
            ("Range: bytes=4-7\r\n", 206, "page"), ("Range: bytes=4-7\r\nIf-Range: \"b\"\r\n", 200, "the page"),
        ] {
            let answer = get(&mut client, "/", fields);
            assert_eq!((answer.status, answer.text()), (status, body), "{fields:?}: {answer:?}");
        }
        assert_eq!(pages.count("/"), 6);
    }

    fn a_new_page_takes_the_place_of_the_stale_one(driver) {
        let pages = Pages::of(|request, number| match (number, &*request.target) {
            (0, _) => page(&format!("{STALE}{TAG}"), "old"),
            (1, "/gone") => answer("410 Gone", "Cache-Control: max-age=60\r\n", "gone"),
            (1, "/private") => page("Cache-Control: private\r\n", "private"),
            (1, "/failed") => answer("500 Failed", "", "failed"),
            (1, _) => page("Cache-Control: max-age=60\r\nETag: \"b\"\r\n", "new"),
            (_, "/failed") => {
                // What was stored is still there to be asked about.
                assert_eq!(request.field("if-none-match"), Some("\"a\""));
                answer("304 Not Modified", "Cache-Control: max-age=60\r\n", "")
            }
            _ => page("", "third"),
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        for (target, second, third) in [
            ("/", "new", "new"), ("/gone", "gone", "gone"), ("/private", "private", "third"), ("/failed", "failed", "old"),
        ] {
            for expected in ["old", second, third] {
                assert_eq!(get(&mut client, target, "").text(), expected, "{target}");
            }
        }
    }

    fn a_304_about_another_version_is_not_believed(driver) {
        let pages = Pages::of(|request, number| match (number, request.field("if-none-match")) {
            (0, _) => page(&format!("{STALE}ETag: \"a\"\r\n"), "old"),
            (_, Some(_)) => answer("304 Not Modified", "Cache-Control: max-age=60\r\nETag: \"b\"\r\n", ""),
            (_, None) => page("Cache-Control: max-age=60\r\nETag: \"b\"\r\n", "new"),
        });
        let proxy = front(driver, &pages.url(), "");
        let mut client = Client::connect(proxy.addr());
        get(&mut client, "/", "");
        for _ in 0..2 {
            let answer = get(&mut client, "/", "");
            assert_eq!((answer.status, answer.text()), (200, "new"), "{answer:?}");
        }
    }

    fn a_304_can_end_the_storing(driver) {
        let pages = Pages::of(|request, number| match (number, request.field("if-none-match")) {
            (1, _) => {
                let control = request.target.trim_start_matches('/');
                answer("304 Not Modified", &format!("Cache-Control: {control}\r\nETag: \"a\"\r\n"), "")
            }
            (0, _) => page(&format!("{STALE}{TAG}"), "old"),
            (_, Some(_)) => page("", "asked about"),
            (_, None) => page("", "new"),
        });
        let proxy = two_workers(driver, &pages, "");
        for target in ["/private", "/no-store"] {
            let [mut one, mut other] = one_each(&proxy);
            assert_eq!(get(&mut one, target, "").text(), "old");
            assert_eq!(get(&mut one, target, "").text(), "old");
            assert_eq!(get(&mut one, target, "").text(), "new");
            assert_eq!(get(&mut other, target, "").text(), "new");
        }
    }

    fn what_must_be_asked_about_is_asked_about_every_time(driver) {
        let pages = Pages::of(|request, number| {
            if number == 0 {
                return page(&format!("Cache-Control: no-cache, max-age=60\r\n{TAG}"), "the page");
            }
            assert_eq!(request.field("if-none-match"), Some("\"a\""));
            answer("304 Not Modified", "", "")
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients = one_each(&proxy);
        for round in 0..2 {
            for (at, client) in clients.iter_mut().enumerate() {
                assert_eq!(get(client, "/", "").text(), "the page");
                assert_eq!(pages.count("/"), round * 2 + at + 1);
            }
        }
    }

    fn those_who_come_meanwhile_wait_for_one_question(driver) {
        let gate = Gate::default();
        let theirs = gate.clone();
        let pages = Pages::of(move |request, number| match (number, &*request.target) {
            (0, _) => page(&format!("{STALE}{TAG}"), "the page"),
            (_, "/") => {
                theirs.pass("the others wait");
                answer("304 Not Modified", "Cache-Control: max-age=60\r\n", "")
            }
            _ => page("", ""),
        });
        let proxy = two_workers(driver, &pages, "");
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(proxy.addr())).collect();
        get(&mut clients[0], "/", "");
        for client in &mut clients {
            send(client, "GET /", "");
        }
        pass_both(&proxy);
        gate.open();
        for client in &mut clients {
            let answer = client.read_response();
            assert_eq!((answer.status, answer.text()), (200, "the page"), "{answer:?}");
        }
        assert_eq!(pages.count("/"), 2);
    }
}
